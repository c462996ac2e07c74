//! Takes connections. A loop of our own on hyper, because `axum::serve` has no time limits and no
//! limit of connections.

use super::{
    HttpConfig, connection,
    front::Front,
    linger,
    patience::{MAX_REQUEST_LINE_BYTES, TimeLimits},
    problem::Problem,
};
use crate::metrics::Metrics;
use axum::Router;
use hyper::server::conn::http1;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Largest request head, in bytes. More than the longest request line, so that this is refused for
/// what it is.
const MAX_HEAD_BYTES: usize = MAX_REQUEST_LINE_BYTES + (16 << 10);
/// Connections that the kernel keeps until they are accepted. With the usual 128, a burst of
/// thousands waits for repeated SYNs, a second or more each. The kernel takes less where
/// `net.core.somaxconn` says so.
const BACKLOG: u32 = 4096;
/// How long to wait after the system refused a connection (out of file descriptors), before trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Most refused connections that are kept until their clients have read why. Those beyond are
/// closed at once.
const MAX_REFUSED_OPEN: usize = 256;

/// A connection's place among [`HttpConfig::max_connections`]; a request extension, so that an upgraded connection keeps it.
#[derive(Clone)]
pub struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
    _open: Arc<Open>,
}

struct Open(Arc<Metrics>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.http_connections.add(-1);
    }
}

/// Listens on `address`.
///
/// # Errors
/// Those of the system: the address is taken, is not this machine's, or may not be used.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // So that a hub that was ended can be started again while its old connections time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `closing` is cancelled, then lets the requests that are under way finish.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    config: HttpConfig,
    metrics: Arc<Metrics>,
    closing: CancellationToken,
    tasks: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(config.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
    let refused_open = Arc::new(Semaphore::new(MAX_REFUSED_OPEN));
    let limits = TimeLimits {
        head: config.header_timeout_s.duration(),
        idle: config.keep_alive_timeout_s.duration(),
        write: config.write_timeout_s.duration(),
    };
    let mut http = http1::Builder::new();
    // The time limits of reading, and whether a client has gone, are the socket's business: see
    // `patience`.
    http.header_read_timeout(None::<Duration>).half_close(true).max_buf_size(MAX_HEAD_BYTES);
    let front = Arc::new(Front::new(router, config, metrics.clone()));
    while let Some(accepted) = closing.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                metrics.http_accept_errors.inc();
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = places.clone().try_acquire_owned() else {
            metrics.http_refused.inc();
            refuse(stream, &front, &refused_open, &tasks);
            continue;
        };
        metrics.http_connections.add(1);
        let place = Place { _permit: Arc::new(permit), _open: Arc::new(Open(metrics.clone())) };
        // An event goes out when it is there, not when a segment is full.
        let _ = stream.set_nodelay(true);
        tasks.spawn(connection::serve(stream, http.clone(), limits, front.clone(), place, closing.clone()));
    }
}

/// Tells the client that there are too many, and hangs up.
fn refuse(stream: TcpStream, front: &Front, open: &Arc<Semaphore>, tasks: &TaskTracker) {
    let detail = format!("the hub has its {} connections", front.max_connections());
    let problem = Problem::new(503, "connections.full", detail).retry_after("5");
    let answer = connection::raw(front.metrics(), &problem);
    match open.clone().try_acquire_owned() {
        Ok(permit) => {
            tasks.spawn(async move {
                linger::close(stream, &answer).await;
                drop(permit);
            });
        }
        Err(_) => {
            let _ = stream.try_write(&answer);
        }
    }
}
