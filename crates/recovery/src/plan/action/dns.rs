//! A record set in a zone, replaced by a dynamic update (RFC 2136).

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{InvalidAction, invalid};
use crate::{SecretName, span::Span};

/// Most records of one set: they travel in one message.
const MOST_VALUES: usize = 32;
/// One string of a TXT record.
const LONGEST_TEXT: usize = 255;
/// What resolvers take (RFC 2181, 8), and nobody means more than a week.
const LONGEST_TTL_S: u32 = 7 * 86_400;

/// A record set and what it is to be. Doing it again changes nothing more.
///
/// All records of that name and type are replaced in one message: whoever asks meets the old set or the new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dns {
    /// The primary server of the zone: `HOST`, `HOST:PORT` or `[IPV6]:PORT`; port 53 unless it is said.
    pub server: String,
    /// The zone.
    pub zone: String,
    /// The whole name, in the zone.
    pub name: String,
    /// A, AAAA, CNAME, PTR or TXT.
    #[serde(rename = "type")]
    pub record_type: RecordType,
    /// What the set is to be: addresses, one name, or texts.
    pub values: Vec<String>,
    /// How long resolvers may keep it, in seconds.
    pub ttl: u32,
    /// The name of a TSIG key that the agent has; left out, the update is not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub key: Option<SecretName>,
    /// Longest single attempt.
    #[serde(default = "half_a_minute")]
    #[schemars(with = "String")]
    pub within: Span,
}

/// The types of records that a recovery moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Another name.
    Cname,
    /// The name of an address.
    Ptr,
    /// Texts.
    Txt,
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RecordType::A => "A",
            RecordType::Aaaa => "AAAA",
            RecordType::Cname => "CNAME",
            RecordType::Ptr => "PTR",
            RecordType::Txt => "TXT",
        })
    }
}

fn half_a_minute() -> Span {
    Span::seconds(30)
}

impl Dns {
    /// Where the server is: host without brackets, and port.
    #[must_use]
    pub fn address(&self) -> (&str, u16) {
        const DOMAIN: u16 = 53;
        if let Some((host, rest)) = self.server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            return (host, rest.strip_prefix(':').and_then(|port| port.parse().ok()).unwrap_or(DOMAIN));
        }
        match self.server.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, port.parse().unwrap_or(0)),
            Some(_) | None => (&self.server, DOMAIN),
        }
    }

    pub(super) fn check(&self) -> Result<(), InvalidAction> {
        let (host, port) = self.address();
        invalid::host(host)?;
        if port == 0 {
            return Err(InvalidAction::Text { field: "server", text: self.server.clone(), rule: "has no port from 1 to 65535 behind the colon" });
        }
        invalid::domain_name("zone", &self.zone)?;
        invalid::domain_name("name", &self.name)?;
        if !lies_in(&self.name, &self.zone) {
            return Err(InvalidAction::Zone { name: self.name.clone(), zone: self.zone.clone() });
        }
        let most = if self.record_type == RecordType::Cname { 1 } else { MOST_VALUES };
        if !(1..=most).contains(&self.values.len()) {
            return Err(InvalidAction::Count { field: "values", count: self.values.len(), least: 1, most });
        }
        if self.ttl > LONGEST_TTL_S {
            return Err(InvalidAction::Text { field: "ttl", text: self.ttl.to_string(), rule: "is more than a week" });
        }
        self.values.iter().try_for_each(|value| self.value(value))
    }

    fn value(&self, value: &str) -> Result<(), InvalidAction> {
        let refused = |rule| InvalidAction::Value { value: value.to_owned(), record_type: self.record_type, rule };
        let (holds, rule) = match self.record_type {
            RecordType::A => (value.parse::<Ipv4Addr>().is_ok(), "it is no IPv4 address"),
            RecordType::Aaaa => (value.parse::<Ipv6Addr>().is_ok(), "it is no IPv6 address"),
            RecordType::Cname | RecordType::Ptr => (invalid::domain_name("value", value).is_ok(), "it is no domain name"),
            RecordType::Txt => {
                let printable = value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
                (printable && value.len() <= LONGEST_TEXT, "it is longer than 255 bytes or not printable ASCII")
            }
        };
        if holds { Ok(()) } else { Err(refused(rule)) }
    }
}

fn lies_in(name: &str, zone: &str) -> bool {
    let plain = |text: &str| text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let (name, zone) = (plain(name), plain(zone));
    name == zone || name.strip_suffix(&zone).is_some_and(|rest| rest.ends_with('.'))
}
