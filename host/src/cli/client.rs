//! The HTTP client that the commands share: builds addresses, sends, and turns every failure into a [`ClientError`]
//! that says what to do.
//!
//! It repeats nothing by itself: whether a request may be sent again is for `sender` and `tail` to decide.

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// How long an ordinary answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// Shorter than servers and proxies keep idle connections: a slow pipe must not publish into one that is being closed.
const IDLE: Duration = Duration::from_secs(4);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// Nothing was sent.
    #[error(
        "no hub answers at {url} ({cause}): start one with `busway serve`, or name another with --url or BUSWAY_URL"
    )]
    Unreachable { url: Url, cause: String },
    /// Nothing was sent: the proxy that the environment names could not be reached.
    #[error("{url} was not reached through the proxy {} ({cause}): {PROXY_HELP}", .proxy.0)]
    ProxyUnreachable { url: Url, proxy: Proxy, cause: String },
    /// Something may have been sent.
    #[error("the connection to {url}{} broke: {cause}", through(.proxy))]
    Broken { url: Url, proxy: Option<Proxy>, cause: String },
    /// The hub said no.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// Somebody else answered.
    #[error("{url}{} answered {status}, not as a Busway hub does: {}", through(.proxy), help(.proxy))]
    NotAHub { url: Url, proxy: Option<Proxy>, status: StatusCode },
}

const PROXY_HELP: &str = "is --url right? NO_PROXY lists the hosts that are reached without the proxy";

/// A proxy's address, without the user name and password that may be part of it in the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proxy(String);

impl Proxy {
    /// The proxy for `url` that the environment names (`http_proxy`, `ALL_PROXY`, `NO_PROXY` …).
    /// There is none for a loopback address: a proxy would connect to its own machine, not to this
    /// one.
    fn from_env(url: &Url) -> Option<Self> {
        if is_loopback(url) {
            return None;
        }
        // The matcher that reqwest itself asks.
        let proxy = Matcher::from_env().intercept(&url.as_str().parse().ok()?)?;
        Some(Self(proxy.uri().to_string()))
    }
}

fn through(proxy: &Option<Proxy>) -> String {
    proxy.as_ref().map(|Proxy(address)| format!(" through the proxy {address}")).unwrap_or_default()
}

fn help(proxy: &Option<Proxy>) -> &'static str {
    if proxy.is_some() { PROXY_HELP } else { "is --url right?" }
}

/// `localhost` and the names below it (RFC 6761, section 6.3), 127.0.0.0/8 (RFC 1122, section
/// 3.2.1.3) and `::1` (RFC 4291, section 2.5.3), also as an IPv4-mapped address.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let name = host.trim_end_matches('.');
    if name == "localhost" || name.ends_with(".localhost") {
        return true;
    }
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

impl ClientError {
    /// The hub's stable code, if it was the hub that said no.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Problem(problem) => Some(&problem.code),
            _ => None,
        }
    }
}

/// The hub's refusal: RFC 9457 problem details with the hub's own members.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Problem {
    pub(super) code: String,
    #[serde(default)]
    pub(super) status: u16,
    #[serde(default)]
    pub(super) detail: String,
    pub(super) field: Option<String>,
    pub(super) expected: Option<String>,
    pub(super) found: Option<String>,
    /// Of the event in the array that was published.
    pub(super) index: Option<usize>,
    /// From the header `Retry-After`.
    #[serde(skip)]
    pub(super) retry_after: Option<Duration>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)?;
        // The detail often is these three in a sentence.
        let fresh = |part: &Option<String>| part.clone().filter(|part| !self.detail.contains(part.as_str()));
        let parts = [("field", &self.field), ("expected", &self.expected), ("found", &self.found)];
        let parts: Vec<_> =
            parts.into_iter().filter_map(|(name, part)| Some(format!("{name} {}", fresh(part)?))).collect();
        if !parts.is_empty() {
            write!(f, " ({})", parts.join(", "))?;
        }
        match (self.status, self.retry_after) {
            (503, Some(wait)) => write!(f, "; try again in {} s", wait.as_secs()),
            (503, None) => write!(f, "; try again when the hub is ready"),
            _ => Ok(()),
        }
    }
}

/// A hub, by its address.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    /// The proxy between this client and the hub.
    proxy: Option<Proxy>,
}

impl Client {
    /// A client of the hub at `url`; connects when it is used.
    ///
    /// # Errors
    /// `url` is not an `http://` address.
    pub(super) fn new(url: &str) -> anyhow::Result<Self> {
        use anyhow::Context;
        let with_scheme = if url.contains("://") { url.to_string() } else { format!("http://{url}") };
        let base: Url = with_scheme.parse().with_context(|| format!("--url {url:?} is not an address"))?;
        anyhow::ensure!(base.scheme() == "http", "--url {url:?}: expected an http:// address, found {}", base.scheme());
        let proxy = Proxy::from_env(&base);
        let builder = reqwest::Client::builder();
        let builder = if proxy.is_none() { builder.no_proxy() } else { builder };
        let http = builder
            .connect_timeout(Duration::from_secs(5))
            .pool_idle_timeout(IDLE)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("busway/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, base, proxy })
    }

    /// Reads a resource.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, ClientError> {
        let url = self.address(path, query);
        self.read(self.http.get(url.clone()).timeout(ANSWER), url).await
    }

    /// Deletes what a resource stands for.
    pub(super) async fn delete<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, ClientError> {
        let url = self.address(path, query);
        self.read(self.http.delete(url.clone()).timeout(ANSWER), url).await
    }

    /// Posts JSON text, or nothing.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &[&str], body: String) -> Result<T, ClientError> {
        self.post_patiently(path, body, Duration::ZERO).await
    }

    /// As [`Client::post`], where the hub itself may take `patience` longer.
    pub(super) async fn post_patiently<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: String,
        patience: Duration,
    ) -> Result<T, ClientError> {
        let url = self.address(path, &[]);
        let mut request = self.http.post(url.clone()).timeout(ANSWER.saturating_add(patience));
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        self.read(request, url).await
    }

    /// Puts JSON text in the place of what a resource holds.
    pub(super) async fn put<T: DeserializeOwned>(&self, path: &[&str], body: String) -> Result<T, ClientError> {
        let url = self.address(path, &[]);
        let request = self.http.put(url.clone()).timeout(ANSWER).header(CONTENT_TYPE, "application/json").body(body);
        self.read(request, url).await
    }

    /// Opens a stream of server-sent events, after the event named by `last_event_id` if there is one.
    pub(super) async fn stream(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        last_event_id: Option<&str>,
    ) -> Result<Response, ClientError> {
        let url = self.address(path, query);
        let mut request = self.http.get(url.clone()).header(ACCEPT, "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        // A limit for the head of the answer only: the body has no end.
        let answer = match tokio::time::timeout(ANSWER, request.send()).await {
            Ok(answer) => answer.map_err(|error| self.failure(error, &url))?,
            Err(_) => return Err(ClientError::Broken { url, proxy: self.proxy.clone(), cause: "no answer".into() }),
        };
        let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        match answer.status() {
            StatusCode::OK if kind.starts_with("text/event-stream") => Ok(answer),
            StatusCode::OK => Err(self.not_a_hub(url, StatusCode::OK)),
            _ => Err(self.problem(answer, url).await),
        }
    }

    async fn read<T: DeserializeOwned>(&self, request: RequestBuilder, url: Url) -> Result<T, ClientError> {
        let answer = request.send().await.map_err(|error| self.failure(error, &url))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(self.problem(answer, url).await);
        }
        let body = answer.bytes().await.map_err(|error| self.failure(error, &url))?;
        serde_json::from_slice(&body).map_err(|_| self.not_a_hub(url, status))
    }

    /// The base's own path stays in front, for hubs behind a proxy.
    fn address(&self, path: &[&str], query: &[(&str, String)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    fn failure(&self, error: reqwest::Error, url: &Url) -> ClientError {
        let (url, proxy, cause) = (url.clone(), self.proxy.clone(), innermost(&error));
        match proxy {
            Some(proxy) if error.is_connect() => ClientError::ProxyUnreachable { url, proxy, cause },
            None if error.is_connect() => ClientError::Unreachable { url, cause },
            proxy => ClientError::Broken { url, proxy, cause },
        }
    }

    fn not_a_hub(&self, url: Url, status: StatusCode) -> ClientError {
        ClientError::NotAHub { url, proxy: self.proxy.clone(), status }
    }

    async fn problem(&self, answer: Response, url: Url) -> ClientError {
        let status = answer.status();
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = answer.bytes().await.unwrap_or_default();
        match serde_json::from_slice::<Problem>(&body) {
            Ok(mut problem) => {
                problem.status = status.as_u16();
                problem.retry_after = retry_after.map(Duration::from_secs);
                ClientError::Problem(Box::new(problem))
            }
            Err(_) => self.not_a_hub(url, status),
        }
    }
}

/// The last of the causes: "Connection refused", not "error sending request".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn shows(json: &str, expected: &str) {
        assert_eq!(serde_json::from_str::<Problem>(json).unwrap().to_string(), expected);
    }

    #[test]
    fn a_problem_is_one_readable_line_that_says_nothing_twice() {
        shows(r#"{"code":"route.unknown","detail":"no route /x"}"#, "route.unknown: no route /x");
        shows(
            r#"{"code":"event.type","detail":"type: expected 1 to 255 bytes, found 0 bytes","field":"type","expected":"1 to 255 bytes","found":"0 bytes"}"#,
            "event.type: type: expected 1 to 255 bytes, found 0 bytes",
        );
        shows(
            r#"{"code":"query.limit","detail":"bad query","field":"limit","expected":"1 to 1000","found":"0"}"#,
            "query.limit: bad query (field limit, expected 1 to 1000, found 0)",
        );
        shows(
            r#"{"code":"publish.stopped","status":503,"detail":"the hub is stopping"}"#,
            "publish.stopped: the hub is stopping; try again when the hub is ready",
        );
    }

    #[test]
    fn addresses_are_built_from_segments_and_pairs() {
        let address = |base: &str, path: &[&str], query: &[(&str, String)]| {
            Client::new(base).unwrap().address(path, query).to_string()
        };
        assert_eq!(address("http://h:1", &["v1", "stats"], &[]), "http://h:1/v1/stats");
        assert_eq!(address("h:1", &["v1", "plugins", "a/b"], &[]), "http://h:1/v1/plugins/a%2Fb");
        let query = [("types", "a.*,b".to_string())];
        assert_eq!(address("http://h/hub/", &["v1", "events"], &query), "http://h/hub/v1/events?types=a.*%2Cb");
    }

    #[test]
    fn loopback_is_a_name_or_an_address_of_this_machine() {
        let is = |url: &str| is_loopback(&url.parse().unwrap());
        for url in
            ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.8.7", "127.1", "[::1]", "[::ffff:127.0.0.1]"]
        {
            assert!(is(&format!("http://{url}:8787/")), "{url}");
        }
        for url in
            ["h", "localhost.example.org", "notlocalhost", "128.0.0.1", "127.0.0.1.example.org", "[::2]", "0.0.0.0"]
        {
            assert!(!is(&format!("http://{url}:8787/")), "{url}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_used_is_refused_at_once() {
        for url in ["https://h", "ftp://h", "http://", ""] {
            assert!(Client::new(url).is_err(), "{url}");
        }
    }
}
