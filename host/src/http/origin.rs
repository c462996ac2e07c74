//! Which web pages may talk to the hub. A browser lets any page open a WebSocket to any address, also to one on this
//! machine, and names the page's origin (RFC 6454): a page that is not the hub's own has to be on the list. A page whose own
//! name was made to point to this machine (DNS rebinding) names itself as the host: so hosts are checked too.

use super::{HttpConfig, message::Host, problem::Problem};
use axum::{
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use std::net::IpAddr;

/// How long a browser may remember what a route allows: Chromium takes up to two hours, Firefox a
/// day. After a change of `allowed_origins` nobody wants to wait that long.
const PREFLIGHT_MAX_AGE_S: &str = "600";
/// Longest name of a host in bytes (RFC 1035, section 2.3.4). A longer one is nobody's.
const MAX_HOST_BYTES: usize = 255;
/// Longest origin that is compared with `allowed_origins`: a scheme of 32 bytes, a host and a port.
const MAX_ORIGIN_BYTES: usize = 300;

/// An address is what it is; a name could be anybody's.
///
/// # Errors
/// `host.denied`.
pub(super) fn check_host(host: &Host, config: &HttpConfig) -> Result<(), Problem> {
    let name = &host.name;
    let is_known = name.starts_with('[')
        || name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok()
        || name.len() <= MAX_HOST_BYTES && config.allowed_hosts.iter().any(|glob| glob.matches(name));
    if is_known {
        return Ok(());
    }
    let detail =
        format!("the hub is not addressed as {:?}; http.allowed_hosts lists the names that it goes by", host.authority);
    Err(Problem::new(421, "host.denied", detail))
}

/// The origin of the page that asks, if it is not the hub's own.
///
/// # Errors
/// `origin.denied`.
pub(super) fn check(
    headers: &HeaderMap,
    host: Option<&Host>,
    config: &HttpConfig,
) -> Result<Option<HeaderValue>, Problem> {
    let Some(value) = headers.get(header::ORIGIN) else { return Ok(None) };
    let origin = String::from_utf8_lossy(value.as_bytes());
    if host.is_some_and(|host| is_own(&origin, host)) {
        return Ok(None);
    }
    if origin.len() <= MAX_ORIGIN_BYTES && config.allowed_origins.iter().any(|glob| glob.matches(&origin)) {
        return Ok(Some(value.clone()));
    }
    let detail = format!("pages of {origin:?} may not talk to this hub; http.allowed_origins lists those that may");
    Err(Problem::new(403, "origin.denied", detail))
}

/// The hub itself serves http. A page of https at the same host is another origin (RFC 6454,
/// section 5), and whether a proxy before the hub serves it is not for the client to say.
fn is_own(origin: &str, host: &Host) -> bool {
    origin.strip_prefix("http://").is_some_and(|authority| authority.eq_ignore_ascii_case(&host.authority))
}

/// Lets the page of origin `foreign` read the answer (Fetch standard, section 3.3).
pub(super) fn allow(mut response: Response, foreign: Option<HeaderValue>, config: &HttpConfig) -> Response {
    let headers = response.headers_mut();
    if !config.allowed_origins.is_empty() {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    if let Some(origin) = foreign {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    }
    response
}

/// What a browser asks before it lets a page of another origin send JSON, or use other methods than
/// GET and POST: the methods that the route has, and the fields that it reads.
pub(super) fn allow_preflight(headers: &mut HeaderMap, path: &str) {
    let Some(methods) = headers.get(header::ALLOW).cloned() else { return };
    let has_body = methods.to_str().is_ok_and(|methods| methods.contains("POST") || methods.contains("PUT"));
    if path == "/v1/events/stream" {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("last-event-id"));
    } else if has_body {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type"));
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_MAX_AGE_S));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(authority: &str) -> Host {
        let name = if authority.starts_with('[') { authority } else { authority.split(':').next().unwrap() };
        Host { authority: authority.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn only_pages_of_the_hub_itself_are_its_own_and_their_scheme_is_http() {
        let own = |origin: &str, authority: &str| is_own(origin, &host(authority));
        assert!(own("http://127.0.0.1:8787", "127.0.0.1:8787"));
        assert!(own("http://hub.example", "HUB.example"));
        for origin in ["https://127.0.0.1:8787", "http://127.0.0.1:3000", "http://127.0.0.1", "null", "127.0.0.1:8787"]
        {
            assert!(!own(origin, "127.0.0.1:8787"), "{origin}");
        }
    }

    #[test]
    fn a_name_has_to_be_known_and_an_address_does_not() {
        let config = HttpConfig { allowed_hosts: vec!["hub.*".parse().unwrap()], ..HttpConfig::default() };
        for known in ["127.0.0.1", "127.0.0.1:8787", "[::1]", "localhost:1", "LOCALHOST", "hub.example:80"] {
            assert!(check_host(&host(known), &config).is_ok(), "{known}");
        }
        let long = format!("hub.{}", "a".repeat(MAX_HOST_BYTES));
        for unknown in [&*long, "evil.example", "evil.example:8787", "127.0.0.1.evil.example", "hubx"] {
            assert!(check_host(&host(unknown), &config).is_err(), "{unknown}");
        }
    }
}
