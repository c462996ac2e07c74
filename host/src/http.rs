//! The HTTP face: every route in [`router`], one file a resource, one file ([`problem`]) that turns errors into answers,
//! one ([`server`]) that takes connections. Knows how to ask the bus, the views and the plugins; decides nothing itself.

mod body;
mod calls;
mod connection;
mod dead_letters;
mod events;
mod extract;
mod front;
mod journal;
mod linger;
mod message;
mod origin;
mod patience;
mod plugins;
pub mod problem;
pub mod query;
mod request;
pub mod server;
mod status;
mod stream;
mod websocket;

use crate::{
    bus::Bus, incoming::Budget, log::view::Views, plugin::registry::Registry, question::Questions, seconds::Seconds, ws,
};
use axum::{
    Router,
    routing::{get, post, put},
};
use problem::Problem;
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, sync::Arc};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Where the hub listens and what it bears.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Address and port, or `localhost` and port; port 0 lets the system choose.
    #[serde(deserialize_with = "crate::listen::deserialize")]
    pub listen: SocketAddr,
    /// Most connections at once, WebSocket ones included; more are answered with 503.
    pub max_connections: usize,
    /// A request head that is not whole this long after its first byte is answered with 408, and a
    /// connection on which none has begun this long after it was opened is closed; in seconds.
    pub header_timeout_s: Seconds,
    /// A connection on which no request has begun this long after the last answer is closed; in
    /// seconds.
    pub keep_alive_timeout_s: Seconds,
    /// A request whose body is not there after this is answered with 408; in seconds.
    pub body_timeout_s: Seconds,
    /// Most bytes that the bodies of all requests under way, and WebSocket
    /// messages that are not whole, use; a body beyond it is answered with
    /// 503. At least 2 MiB. A quarter of it is for bodies of at most 64 KiB.
    pub max_total_body_bytes: usize,
    /// A connection to which nothing could be written for this long is cut; in seconds.
    pub write_timeout_s: Seconds,
    /// Names (globs such as `hub.example.org`) under which clients may address the hub, besides IP addresses and
    /// `localhost`: a page whose own name was made to point here must not pass for one of the hub's.
    #[serde(deserialize_with = "crate::event::filter::read_globs")]
    pub allowed_hosts: Vec<crate::event::Glob>,
    /// Origins (globs such as `https://*.example.org`) whose pages may talk to the hub, besides pages of the hub's own
    /// address. A browser sends the header `Origin`; other clients do not and are not asked.
    #[serde(deserialize_with = "crate::event::filter::read_globs")]
    pub allowed_origins: Vec<crate::event::Glob>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8787)),
            max_connections: 16_384,
            header_timeout_s: Seconds::new(10),
            // More than the 60 s of common load balancers, so that they close a connection that is
            // not used, and never send a request on one that the hub is closing.
            keep_alive_timeout_s: Seconds::new(75),
            body_timeout_s: Seconds::new(30),
            max_total_body_bytes: 64 << 20,
            write_timeout_s: Seconds::new(30),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
        }
    }
}

/// Whether the hub is ready, or why not.
pub type Readiness = watch::Receiver<Result<(), NotReady>>;

/// Why a hub that runs wants no new work yet, or any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// It has just started.
    #[error("the plugins are being loaded")]
    Loading,
    /// It is about to end.
    #[error("the hub is stopping")]
    Stopping,
}

impl NotReady {
    /// Stable, for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Loading => "hub.loading",
            Self::Stopping => "hub.stopping",
        }
    }
}

/// What the routes work on.
pub struct App {
    /// The bus.
    pub bus: Bus,
    /// Its views.
    pub views: Views,
    /// The plugins.
    pub plugins: Registry,
    /// Turns filter parameters into questions.
    pub questions: Questions,
    /// See [`Readiness`].
    pub ready: Readiness,
    /// The memory of what clients are sending.
    pub incoming: Arc<Budget>,
    /// Bounds of HTTP.
    pub http: HttpConfig,
    /// What WebSocket connections work on.
    pub websocket: Arc<ws::Context>,
    /// Cancelled once the handlers have ended: there are no more calls to tell of.
    pub drained: CancellationToken,
    /// Cancelled when connections that have not ended by themselves are to.
    pub closing: CancellationToken,
    /// Long-lived connections.
    pub tasks: TaskTracker,
}

/// Every route.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/events", post(events::publish).get(events::read))
        .route("/v1/events/stream", get(stream::follow))
        .route("/v1/request", post(request::request))
        .route("/v1/stats", get(status::stats))
        .route("/v1/plugins", get(plugins::list))
        .route("/v1/plugins/{name}", get(plugins::show))
        .route("/v1/plugins/{name}/reload", post(plugins::reload))
        .route("/v1/plugins/{name}/enable", post(plugins::enable))
        .route("/v1/plugins/{name}/disable", post(plugins::disable))
        .route("/v1/plugins/{name}/rollback", post(plugins::rollback))
        .route("/v1/plugins/{name}/promote", post(plugins::promote))
        .route("/v1/plugins/{name}/shadow", get(plugins::shadow))
        .route("/v1/plugins/{name}/calls", get(calls::follow))
        .route("/v1/plugins/{name}/limits", put(plugins::limit).delete(plugins::unlimit))
        .route("/v1/dead-letters", get(dead_letters::list).delete(dead_letters::purge))
        .route("/v1/dead-letters/replay", post(dead_letters::replay))
        .route("/v1/dead-letters/{id}", get(dead_letters::show).delete(dead_letters::purge_one))
        .route("/v1/journal", get(journal::show))
        .route("/ws/events", get(websocket::upgrade))
        .route("/metrics", get(status::metrics))
        .route("/healthz", get(status::health))
        .route("/readyz", get(status::ready))
        .fallback(|| async { Problem::new(404, "route.unknown", "no such route; docs/api.md lists them") })
        .method_not_allowed_fallback(|| async { Problem::new(405, "route.method", "this route has no such method") })
        .with_state(app)
}
