//! The address that the hub listens on, as people write it: `127.0.0.1:8787`, `[::1]:8787`, or
//! `localhost:8787`.
//!
//! No other name is resolved: what a resolver answers may change, and may be more than one address.

use serde::{Deserialize, Deserializer, de::Error};
use std::net::{Ipv4Addr, SocketAddr};

/// A text that is no address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an IP address and a port such as 127.0.0.1:8787 or [::1]:8787, or localhost:8787, found {0:?}")]
pub struct ListenError(String);

/// Reads an address and a port. `localhost` is 127.0.0.1; port 0 lets the system choose.
///
/// # Errors
/// What was expected and found.
pub fn parse(text: &str) -> Result<SocketAddr, ListenError> {
    let error = || ListenError(text.to_owned());
    match text.rsplit_once(':') {
        Some((name, port)) if name.eq_ignore_ascii_case("localhost") && port.bytes().all(|c| c.is_ascii_digit()) => {
            let port = port.parse().map_err(|_| error())?;
            Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))
        }
        _ => text.parse().map_err(|_| error()),
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_a_port_or_localhost_and_a_port() {
        for (text, address) in [
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("0.0.0.0:8787", "0.0.0.0:8787"),
            ("[::1]:65535", "[::1]:65535"),
            ("localhost:8787", "127.0.0.1:8787"),
            ("LOCALHOST:0", "127.0.0.1:0"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), address);
        }
    }

    #[test]
    fn everything_else_is_refused_with_what_was_expected() {
        for text in [
            "",
            "localhost",
            "localhost:",
            "localhost:65536",
            "localhost:+1",
            "localhost:http",
            "127.0.0.1",
            "8787",
            ":8787",
            "*:8787",
            "::1:8787",
            "[::1]",
            "hub.example:8787",
            "http://127.0.0.1:8787",
            "127.0.0.1:8787/",
            " 127.0.0.1:1",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("such as 127.0.0.1:8787") && error.ends_with(&format!("found {text:?}")), "{error}");
        }
    }
}
