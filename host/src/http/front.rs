//! What every request passes before it gets to a route: the rules of HTTP ([`message`]), whom the
//! hub talks to ([`origin`]), and `OPTIONS`, which any route answers with its methods.

use super::{
    HttpConfig, message, origin,
    problem::{self, Problem},
};
use crate::metrics::Metrics;
use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use std::sync::Arc;
use tower_service::Service;

/// See the module's head.
pub(super) struct Front {
    router: Router,
    config: HttpConfig,
    metrics: Arc<Metrics>,
}

impl Front {
    pub(super) fn new(router: Router, config: HttpConfig, metrics: Arc<Metrics>) -> Self {
        Self { router, config, metrics }
    }

    pub(super) fn max_connections(&self) -> usize {
        self.config.max_connections
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Answers a request, and counts the answer if it is a problem.
    pub(super) async fn answer(&self, request: Request<Body>) -> Response {
        let response = self.respond(request).await;
        problem::count(&self.metrics, &response);
        response
    }

    async fn respond(&self, request: Request<Body>) -> Response {
        let foreign = match self.check(&request) {
            Ok(foreign) => foreign,
            Err(problem) => return problem.into_response(),
        };
        if *request.method() != Method::OPTIONS {
            return origin::allow(self.route(request).await, foreign, &self.config);
        }
        let preflight = foreign.is_some() && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let path = request.uri().path().to_owned();
        let mut response = self.options(request, &path).await;
        if preflight && response.status() == StatusCode::NO_CONTENT {
            origin::allow_preflight(response.headers_mut(), &path);
        }
        origin::allow(response, foreign, &self.config)
    }

    /// The origin of the page that asks, if that is not the hub's own.
    fn check(&self, request: &Request<Body>) -> Result<Option<HeaderValue>, Problem> {
        let host = message::check(request)?;
        if let Some(host) = &host {
            origin::check_host(host, &self.config)?;
        }
        origin::check(request.headers(), host.as_ref(), &self.config)
    }

    async fn route(&self, request: Request<Body>) -> Response {
        let Ok(mut response) = Service::call(&mut self.router.clone(), request).await;
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            add_options(response.headers_mut());
        }
        response
    }

    /// The methods of a route (RFC 9110, section 9.3.7), or of the hub.
    async fn options(&self, request: Request<Body>, path: &str) -> Response {
        if path == "*" {
            let methods = message::METHODS.join(", ");
            return (StatusCode::NO_CONTENT, [(header::ALLOW, methods)]).into_response();
        }
        let response = self.route(request).await;
        if response.status() != StatusCode::METHOD_NOT_ALLOWED {
            return response;
        }
        let allow = response.headers().get(header::ALLOW).cloned();
        let mut answer = StatusCode::NO_CONTENT.into_response();
        if let Some(allow) = allow {
            answer.headers_mut().insert(header::ALLOW, allow);
        }
        answer
    }
}

/// The router does not know that every route has it.
fn add_options(headers: &mut HeaderMap) {
    let methods = headers.get(header::ALLOW).and_then(|allow| allow.to_str().ok()).unwrap_or_default();
    let methods: Vec<&str> =
        methods.split(',').map(str::trim).filter(|name| !name.is_empty()).chain(["OPTIONS"]).collect();
    if let Ok(allow) = HeaderValue::try_from(methods.join(", ")) {
        headers.insert(header::ALLOW, allow);
    }
}
