//! Takes connections. A loop of our own on hyper, because `axum::serve` sets no timer: a client that sends its head one
//! byte an hour would keep its connection for ever.

use super::{HttpConfig, patience::Patient};
use crate::metrics::Metrics;
use axum::{Router, body::Body};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_service::Service;

/// Largest request head, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// How long to wait after the system refused a connection (out of file descriptors), before trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a connection above the limit gets.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 5\r\nconnection: close\r\n\
    content-length: 147\r\n\r\n{\"type\":\"urn:busway:problem:connections.full\",\"title\":\"Service Unavailable\",\"status\":503,\"code\":\"connections.full\",\
\"detail\":\"too many connections\"}";

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
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(config.header_timeout_s.duration()).max_buf_size(MAX_HEAD_BYTES);
    while let Some(accepted) = closing.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = places.clone().try_acquire_owned() else {
            metrics.http_refused.inc();
            refuse(&stream);
            continue;
        };
        metrics.http_connections.add(1);
        let place = Place { _permit: Arc::new(permit), _open: Arc::new(Open(metrics.clone())) };
        // An event goes out when it is there, not when a segment is full.
        let _ = stream.set_nodelay(true);
        let stream = Patient::new(stream, config.write_timeout_s.duration());
        tasks.spawn(connection(stream, http.clone(), router.clone(), place, closing.clone()));
    }
}

async fn connection(stream: Patient, http: http1::Builder, router: Router, place: Place, closing: CancellationToken) {
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(place.clone());
        let mut router = router.clone();
        async move { Service::call(&mut router, request.map(Body::new)).await as Result<_, Infallible> }
    });
    let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = closing.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Says so if it can be said at once, and hangs up: a refused client gets no memory and no time.
fn refuse(stream: &TcpStream) {
    let _ = stream.try_write(FULL);
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_answer_to_too_many_is_as_long_as_it_says() {
        let text = std::str::from_utf8(super::FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}\r\n", body.len()))
                || head.ends_with(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }
}
