//! Which web pages may talk to the hub. A browser lets any page open a WebSocket to any address, also to one on this
//! machine, and names the page's origin (RFC 6454): a page that is not the hub's own has to be on the list. A page whose own
//! name was made to point to this machine (DNS rebinding) names itself as the host: so hosts are checked too.

use super::{App, HttpConfig, problem::Problem};
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{net::IpAddr, sync::Arc};

pub(super) async fn check(
    State(app): State<Arc<App>>,
    request: Request<Body>,
    next: Next,
) -> Result<Response, Problem> {
    let host = request.headers().get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    if let Some(host) = host.filter(|host| !is_allowed_host(host, &app.http)) {
        let detail =
            format!("the hub is not addressed as {host:?}; http.allowed_hosts lists the names that it goes by");
        return Err(Problem::new(421, "host.denied", detail));
    }
    let Some(origin) = foreign(request.headers()) else { return Ok(next.run(request).await) };
    let value = HeaderValue::from_str(&origin).ok();
    let Some(value) = value.filter(|_| app.http.allowed_origins.iter().any(|glob| glob.matches(&origin))) else {
        let detail = format!("pages of {origin:?} may not talk to this hub; http.allowed_origins lists those that may");
        return Err(Problem::new(403, "origin.denied", detail));
    };
    // What a browser asks before it lets a page of another origin send JSON (Fetch standard, CORS-preflight).
    let mut response = if request.method() == Method::OPTIONS {
        let methods = (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST");
        let headers = (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type, last-event-id");
        (StatusCode::NO_CONTENT, [methods, headers]).into_response()
    } else {
        next.run(request).await
    };
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
    response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
    Ok(response)
}

/// An address is what it is; a name could be anybody's.
fn is_allowed_host(host: &str, config: &HttpConfig) -> bool {
    let port = |text: &str| text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    if let Some((address, rest)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.parse::<IpAddr>().is_ok() && port(rest);
    }
    let (name, rest) = host.split_at(host.find(':').unwrap_or(host.len()));
    let known = name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok()
        || config.allowed_hosts.iter().any(|glob| glob.matches(name));
    known && port(rest)
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
        headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:8787"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
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

    #[test]
    fn a_name_has_to_be_known_and_an_address_does_not() {
        let config = HttpConfig { allowed_hosts: vec!["hub.*".parse().unwrap()], ..HttpConfig::default() };
        for host in ["127.0.0.1", "127.0.0.1:8787", "[::1]:8787", "[::1]", "localhost:1", "LOCALHOST", "hub.example:80"]
        {
            assert!(is_allowed_host(host, &config), "{host}");
        }
        for host in
            ["evil.example", "evil.example:8787", "127.0.0.1.evil.example", "[evil]:1", "localhost:x", "", "hubx"]
        {
            assert!(!is_allowed_host(host, &config), "{host}");
        }
    }
}
