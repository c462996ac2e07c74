//! Which web pages may talk to the hub. A browser lets any page open a WebSocket to any address, also to one on this
//! machine, and names the page's origin (RFC 6454); so a page that is not the hub's own has to be on the list.

use super::{App, problem::Problem};
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::Response,
};
use std::sync::Arc;

pub(super) async fn check(
    State(app): State<Arc<App>>,
    request: Request<Body>,
    next: Next,
) -> Result<Response, Problem> {
    if let Some(origin) = foreign(request.headers()) {
        let allowed = app.http.allowed_origins.iter().any(|glob| glob.matches(&origin));
        if !allowed {
            let detail =
                format!("pages of {origin} may not talk to this hub; http.allowed_origins lists those that may");
            return Err(Problem::new(403, "origin.denied", detail));
        }
    }
    Ok(next.run(request).await)
}

/// The origin of a page that is not from the address that it talks to.
fn foreign(headers: &HeaderMap) -> Option<String> {
    let origin = String::from_utf8_lossy(headers.get(header::ORIGIN)?.as_bytes()).into_owned();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let same = host.is_some_and(|host| origin.split_once("://").is_some_and(|(_, authority)| authority == host));
    (!same).then_some(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(origin: Option<&'static str>, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, header::HeaderValue::from_static("127.0.0.1:8787"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, header::HeaderValue::from_static(origin));
        }
        assert_eq!(foreign(&headers).as_deref(), expected);
    }

    #[test]
    fn only_pages_of_the_hub_itself_are_not_foreign() {
        check(None, None);
        check(Some("http://127.0.0.1:8787"), None);
        check(Some("http://127.0.0.1:3000"), Some("http://127.0.0.1:3000"));
        check(Some("https://evil.example"), Some("https://evil.example"));
        check(Some("null"), Some("null"));
    }
}
