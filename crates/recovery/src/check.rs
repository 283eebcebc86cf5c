//! How a recovered machine is asked whether it serves: a TCP connect, an HTTP request that is answered with 2xx, the greeting of an
//! SSH or RDP server, or a program that its guest's agent runs.
//!
//! Invariant: a check that parsed has a host and a port, or a program; its string form is its JSON form.

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
    /// An SSH server greets with protocol 2.0.
    Ssh {
        /// Name or address.
        host: String,
        /// TCP port, not 0.
        port: u16,
    },
    /// A remote desktop server confirms a connection request (X.224).
    Rdp {
        /// Name or address.
        host: String,
        /// TCP port, not 0.
        port: u16,
    },
    /// A program in the guest, run by its agent, exits with 0.
    Guest {
        /// Path, or a name that the guest finds.
        program: String,
        /// Each without blanks.
        arguments: Vec<String>,
    },
}

/// Longest program with its arguments: it is one message to the guest's agent.
const MOST_GUEST: usize = 1_000;

/// A text that is no check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a check of the form tcp:HOST:PORT, http://HOST:PORT/path, ssh:HOST:PORT, rdp:HOST:PORT or guest:PROGRAM ARGUMENT …")]
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
    if let Some(rest) = text.strip_prefix("ssh:") {
        let (host, port) = address(rest)?;
        return Some(Check::Ssh { host, port });
    }
    if let Some(rest) = text.strip_prefix("rdp:") {
        let (host, port) = address(rest)?;
        return Some(Check::Rdp { host, port });
    }
    if let Some(rest) = text.strip_prefix("guest:") {
        return in_guest(rest);
    }
    let rest = text.strip_prefix("http://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = address(authority)?;
    let path = if path.is_empty() { "/" } else { path };
    let printable = path.bytes().all(|byte| byte.is_ascii_graphic());
    printable.then(|| Check::Http { host, port, path: path.to_owned() })
}

/// Words with one blank between them.
fn in_guest(text: &str) -> Option<Check> {
    let mut words = text.split(' ').map(str::to_owned);
    let program = words.next()?;
    let arguments: Vec<String> = words.collect();
    let printable = |word: &String| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic());
    let fits = text.len() <= MOST_GUEST && printable(&program) && arguments.iter().all(printable);
    fits.then_some(Check::Guest { program, arguments })
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
            Check::Ssh { host, port } => write!(f, "ssh:{host}:{port}"),
            Check::Rdp { host, port } => write!(f, "rdp:{host}:{port}"),
            Check::Guest { program, arguments } => {
                write!(f, "guest:{program}")?;
                arguments.iter().try_for_each(|argument| write!(f, " {argument}"))
            }
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
        let all = [
            "tcp:10.0.0.7:5432",
            "http://app.example:8080/health?x=1",
            "http://[::1]:80/",
            "ssh:10.0.0.7:22",
            "rdp:[fd00::7]:3389",
            "guest:/bin/systemctl is-active nginx",
            "guest:true",
        ];
        for text in all {
            assert_eq!(text.parse::<Check>().unwrap().to_string(), text);
        }
        assert_eq!("http://a:80".parse::<Check>().unwrap().to_string(), "http://a:80/");
    }

    #[test]
    fn a_check_without_host_or_port_is_refused() {
        for text in ["", "tcp:", "tcp:host", "tcp::80", "tcp:h:0", "tcp:h:70000", "https://h:1/", "http://h:1/ x", "udp:h:1", "ssh:h", "rdp:h:0", "guest:", "guest: true", "guest:a  b", "guest:a\tb", "guest:a "] {
            assert!(text.parse::<Check>().is_err(), "{text}");
        }
    }
}
