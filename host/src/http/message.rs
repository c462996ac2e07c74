//! What HTTP demands of a request before its meaning is looked at, as far as hyper leaves it to the
//! server: method, target, `Host`, fields that may be there once, transfer codings and expectations
//! (RFC 9110 and RFC 9112).

use super::problem::Problem;
use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, Method, StatusCode, Uri, Version, header},
};
use std::net::Ipv6Addr;

/// The methods that some route has.
pub(super) const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"];
/// Fields with one value, which the hub acts on (RFC 9110, section 5.3). Which of two would be
/// meant is a guess. `Host` has a rule of its own.
const SINGLE: [HeaderName; 4] = [
    header::CONTENT_TYPE,
    header::ORIGIN,
    header::ACCESS_CONTROL_REQUEST_METHOD,
    HeaderName::from_static("last-event-id"),
];

/// Whom a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    /// With its port, if it has one.
    pub(super) authority: String,
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub(super) name: String,
}

/// Checks all of it, and says whom the request is for. None: a request of HTTP/1.0 need not say it.
///
/// # Errors
/// `method.unknown`, `target.form`, `host.missing`, `host.repeated`, `host.invalid`,
/// `header.repeated`, `transfer-coding.*`, `expect.unknown`.
pub(super) fn check<B>(request: &Request<B>) -> Result<Option<Host>, Problem> {
    let headers = request.headers();
    check_method(request.method())?;
    check_target(request.method(), request.uri())?;
    let host = host(request.version(), request.uri(), headers)?;
    for name in &SINGLE {
        if headers.get_all(name).iter().nth(1).is_some() {
            return Err(Problem::field("header.repeated", name.as_str(), "it once", "it several times"));
        }
    }
    check_transfer_coding(headers)?;
    check_expectations(headers)?;
    Ok(host)
}

/// RFC 9110, section 9.1: 501 for a method that no resource has, 405 for one that this resource
/// does not have.
fn check_method(method: &Method) -> Result<(), Problem> {
    if METHODS.contains(&method.as_str()) || *method == Method::PATCH {
        return Ok(());
    }
    let found: String = method.as_str().chars().take(40).collect();
    let problem = Problem::field("method.unknown", "method", format!("one of {}", METHODS.join(", ")), found);
    Err(problem.with_status(StatusCode::NOT_IMPLEMENTED))
}

/// RFC 9112, section 3.2: a path, an absolute URI of HTTP, or `*` for `OPTIONS`.
fn check_target(method: &Method, uri: &Uri) -> Result<(), Problem> {
    let expected = "a path, or an http or https URI without user information";
    let found = || uri.to_string().chars().take(200).collect::<String>();
    let is_right = match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) => !authority.as_str().contains('@'),
        (None, None) => uri.path().starts_with('/') || (uri.path() == "*" && *method == Method::OPTIONS),
        _ => false,
    };
    if is_right { Ok(()) } else { Err(Problem::field("target.form", "request target", expected, found())) }
}

/// RFC 9112, sections 3.2.2 and 3.3: `Host` is there once and right, also beside an absolute
/// target, which goes before it.
fn host(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<Option<Host>, Problem> {
    let mut values = headers.get_all(header::HOST).iter();
    let host = match (values.next(), values.next()) {
        (Some(_), Some(_)) => return Err(Problem::field("host.repeated", "host", "it once", "it several times")),
        (Some(value), None) => Some(parse_host(&String::from_utf8_lossy(value.as_bytes()))?),
        (None, _) if version == Version::HTTP_10 => None,
        (None, _) => return Err(Problem::field("host.missing", "host", "the host that is asked", "none")),
    };
    uri.authority().map_or(Ok(host), |authority| parse_host(authority.as_str()).map(Some))
}

/// `uri-host [ ":" port ]` of RFC 3986, section 3.2, but for a host of future kinds (`[v1.…]`) and
/// an empty one.
fn parse_host(text: &str) -> Result<Host, Problem> {
    let end = if text.starts_with('[') { text.find(']').map(|at| at + 1) } else { text.find(':') };
    let (name, port) = text.split_at(end.unwrap_or(text.len()));
    let is_name = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&b)),
    };
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|digits| {
            digits.is_empty() || (digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok())
        });
    if is_name && is_port {
        return Ok(Host { authority: text.to_owned(), name: name.to_owned() });
    }
    let found = format!("{:?}", text.chars().take(100).collect::<String>());
    Err(Problem::field("host.invalid", "host", "a name or an address, and a port if it likes", found))
}

/// The members of a field that is a list, in all its lines (RFC 9110, section 5.6.1); none if a
/// value is not ASCII.
pub(super) fn list(headers: &HeaderMap, name: HeaderName) -> Option<Vec<&str>> {
    let lines: Vec<&str> = headers.get_all(name).iter().map(|value| value.to_str().ok()).collect::<Option<_>>()?;
    Some(lines.iter().flat_map(|line| line.split(',')).map(str::trim).filter(|member| !member.is_empty()).collect())
}

/// RFC 9112, sections 6.1 and 7: hyper reads `gzip, chunked` as if it were `chunked`.
fn check_transfer_coding(headers: &HeaderMap) -> Result<(), Problem> {
    let codings = list(headers, header::TRANSFER_ENCODING).unwrap_or_else(|| vec!["bytes that are not ASCII"]);
    let unknown = codings.iter().find(|coding| !coding.eq_ignore_ascii_case("chunked"));
    match (unknown, codings.len()) {
        (Some(unknown), _) => {
            let problem = Problem::field("transfer-coding.unknown", "transfer-encoding", "chunked", *unknown);
            Err(problem.with_status(StatusCode::NOT_IMPLEMENTED))
        }
        (None, 0 | 1) => Ok(()),
        (None, _) => {
            Err(Problem::field("transfer-coding.repeated", "transfer-encoding", "chunked once", "it several times"))
        }
    }
}

/// RFC 9110, section 10.1.1.
fn check_expectations(headers: &HeaderMap) -> Result<(), Problem> {
    let expectations = list(headers, header::EXPECT).unwrap_or_else(|| vec!["bytes that are not ASCII"]);
    match expectations.iter().find(|expectation| !expectation.eq_ignore_ascii_case("100-continue")) {
        None => Ok(()),
        Some(unknown) => {
            let problem = Problem::field("expect.unknown", "expect", "100-continue", *unknown);
            Err(problem.with_status(StatusCode::EXPECTATION_FAILED))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_host(text: &str, name: Option<&str>) {
        assert_eq!(parse_host(text).ok().map(|host| host.name).as_deref(), name, "{text}");
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        check_host("hub.example", Some("hub.example"));
        check_host("hub.example:8787", Some("hub.example"));
        check_host("hub.example:", Some("hub.example"));
        check_host("127.0.0.1:80", Some("127.0.0.1"));
        check_host("[::1]", Some("[::1]"));
        check_host("[::1]:8787", Some("[::1]"));
        for text in [
            "",
            ":80",
            "hub:x",
            "hub:+80",
            "hub:65536",
            "[evil]:1",
            "[::1",
            "[::1]x",
            "a b",
            "a@b",
            "a/b",
            "a:1:2",
            "é",
        ] {
            check_host(text, None);
        }
    }
}
