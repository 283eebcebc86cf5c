//! How a recovered machine is asked whether it serves: a TCP connect, or an HTTP request that is answered with 2xx.
//!
//! Invariant: a check that parsed has a host and a port; its string form is its JSON form.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A question that a serving machine answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Check {
    /// Something accepts connections there.
    Tcp {
        /// Name or address.
        host: String,
        /// TCP port, not 0.
        port: u16,
    },
    /// A `GET` is answered with a 2xx status.
    Http {
        /// Name or address.
        host: String,
        /// TCP port, not 0.
        port: u16,
        /// Begins with `/`.
        path: String,
    },
}

/// A text that is no check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a check of the form tcp:HOST:PORT or http://HOST:PORT/path")]
pub struct InvalidCheck {
    /// What was given.
    pub text: String,
}

impl FromStr for Check {
    type Err = InvalidCheck;
    fn from_str(text: &str) -> Result<Self, InvalidCheck> {
        parse(text).ok_or_else(|| InvalidCheck { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<Check> {
    if let Some(rest) = text.strip_prefix("tcp:") {
        let (host, port) = address(rest)?;
        return Some(Check::Tcp { host, port });
    }
    let rest = text.strip_prefix("http://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = address(authority)?;
    let path = if path.is_empty() { "/" } else { path };
    let printable = path.bytes().all(|byte| byte.is_ascii_graphic());
    printable.then(|| Check::Http { host, port, path: path.to_owned() })
}

/// `HOST:PORT` with a host of letters, digits, dots and dashes, or an IPv6 address in brackets.
fn address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let v6 = |host: &str| {
        let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        inner.is_some_and(|h| h.parse::<std::net::Ipv6Addr>().is_ok())
    };
    let fits = !host.is_empty() && host.len() <= 253 && (host.chars().all(plain) || v6(host));
    fits.then(|| (host.to_owned(), port))
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Check::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
            Check::Http { host, port, path } => write!(f, "http://{host}:{port}{path}"),
        }
    }
}

impl TryFrom<String> for Check {
    type Error = InvalidCheck;
    fn try_from(text: String) -> Result<Self, InvalidCheck> {
        text.parse()
    }
}

impl From<Check> for String {
    fn from(check: Check) -> String {
        check.to_string()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn a_check_reads_back_from_its_string_form() {
        for text in ["tcp:10.0.0.7:5432", "http://app.example:8080/health?x=1", "http://[::1]:80/"] {
            assert_eq!(text.parse::<Check>().unwrap().to_string(), text);
        }
        assert_eq!("http://a:80".parse::<Check>().unwrap().to_string(), "http://a:80/");
    }

    #[test]
    fn a_check_without_host_or_port_is_refused() {
        for text in ["", "tcp:", "tcp:host", "tcp::80", "tcp:h:0", "tcp:h:70000", "https://h:1/", "http://h:1/ x", "udp:h:1"] {
            assert!(text.parse::<Check>().is_err(), "{text}");
        }
    }
}
