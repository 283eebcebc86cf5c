//! Why an action is refused.

use crate::span::Span;

/// What is outside its limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAction {
    /// It would take no time, or more than anybody waits.
    #[error("within: {within} is outside 1s to {longest}")]
    Within { within: Span, longest: Span },
    /// A text is empty or too long.
    #[error("{field} has {length} bytes, allowed are 1 to {limit}")]
    Length { field: &'static str, length: usize, limit: usize },
    /// There are too many of something, or none.
    #[error("{field} has {count} entries, allowed are {least} to {most}")]
    Count { field: &'static str, count: usize, least: usize, most: usize },
    /// A text has a character that it may not have.
    #[error("{field} {text:?} {rule}")]
    Text { field: &'static str, text: String, rule: &'static str },
    /// A header that is ours, the transport's, or would carry a secret.
    #[error("header {name:?} can't be set in a plan; {rule}")]
    Header { name: String, rule: &'static str },
    /// A value that a record of this type can't have.
    #[error("{value:?} is no value of a record of type {record_type}: {rule}")]
    Value { value: String, record_type: super::RecordType, rule: &'static str },
    /// The name does not lie in the zone.
    #[error("{name:?} does not lie in the zone {zone:?}")]
    Zone { name: String, zone: String },
}

/// 1 to `limit` bytes.
pub(super) fn length(field: &'static str, text: &str, limit: usize) -> Result<(), InvalidAction> {
    if text.is_empty() || text.len() > limit {
        return Err(InvalidAction::Length { field, length: text.len(), limit });
    }
    Ok(())
}

/// What a C program can be given: 1 to `limit` bytes without a zero byte.
pub(super) fn argument(field: &'static str, text: &str, limit: usize) -> Result<(), InvalidAction> {
    length(field, text, limit)?;
    if text.contains('\0') {
        return Err(InvalidAction::Text { field, text: text.replace('\0', "\\0"), rule: "contains a zero byte" });
    }
    Ok(())
}

/// Most arguments of a program, and the longest of them: far below what systems take, far above what people write.
pub(super) const MOST_ARGUMENTS: usize = 64;
pub(super) const LONGEST_ARGUMENT: usize = 4_096;

/// The arguments of a program; an empty one is an argument as well.
pub(super) fn arguments(all: &[String]) -> Result<(), InvalidAction> {
    if all.len() > MOST_ARGUMENTS {
        return Err(InvalidAction::Count { field: "arguments", count: all.len(), least: 0, most: MOST_ARGUMENTS });
    }
    all.iter().filter(|text| !text.is_empty()).try_for_each(|text| argument("an argument", text, LONGEST_ARGUMENT))
}

/// A name or an address that a program can be given without taking it for an option.
pub(super) fn host(text: &str) -> Result<(), InvalidAction> {
    length("host", text, 253)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    if v6 || (text.chars().all(plain) && text.starts_with(|c: char| c.is_ascii_alphanumeric())) {
        return Ok(());
    }
    Err(InvalidAction::Text { field: "host", text: text.to_owned(), rule: "is no host name and no address (an IPv6 address stands without brackets)" })
}

/// A name of the domain name system: labels of 1 to 63 letters, digits, `-` and `_`; the final dot may be left out.
pub(super) fn domain_name(field: &'static str, text: &str) -> Result<(), InvalidAction> {
    length(field, text, 253)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let label = |(at, label): (usize, &str)| (1..=63).contains(&label.len()) && (label.chars().all(plain) || (at == 0 && label == "*"));
    if text.strip_suffix('.').unwrap_or(text).split('.').enumerate().all(label) {
        return Ok(());
    }
    Err(InvalidAction::Text { field, text: text.to_owned(), rule: "is no name of labels of 1 to 63 letters, digits, `-` and `_`" })
}
