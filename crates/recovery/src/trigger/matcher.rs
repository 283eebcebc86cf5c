//! Which alerts a policy means: matchers on labels, written as Alertmanager writes them.
//!
//! ```text
//!   severity = critical      severity != info      instance =~ db.*      job !~ test|lab
//! ```
//!
//! Invariants: 1. A label that is absent is the empty text. 2. A pattern matches the whole value.

use std::{collections::BTreeMap, fmt, str::FromStr};

use regex_lite::Regex;
use serde::{Deserialize, Serialize};

/// Longest pattern: more is a mistake, and costs at every look.
const LONGEST: usize = 500;

/// A condition on one label.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Matcher {
    label: String,
    value: String,
    negated: bool,
    pattern: Option<Regex>,
}

/// A text that is no matcher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no matcher of the form label = value, label != value, label =~ pattern or label !~ pattern: {why}")]
pub struct InvalidMatcher {
    /// What was given.
    pub text: String,
    /// What does not fit.
    pub why: String,
}

impl Matcher {
    /// The label and value that an alert must hold, where that can be told without looking at patterns.
    #[must_use]
    pub fn required(&self) -> Option<(&str, &str)> {
        (!self.negated && self.pattern.is_none() && !self.value.is_empty()).then_some((&self.label, &self.value))
    }

    /// Whether these labels fulfil it.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let found = labels.get(&self.label).map_or("", String::as_str);
        let same = self.pattern.as_ref().map_or_else(|| found == self.value, |pattern| pattern.is_match(found));
        same != self.negated
    }
}

impl FromStr for Matcher {
    type Err = InvalidMatcher;
    fn from_str(text: &str) -> Result<Self, InvalidMatcher> {
        let refused = |why: &str| InvalidMatcher { text: text.to_owned(), why: why.to_owned() };
        if text.len() > LONGEST {
            return Err(refused("it is longer than 500 bytes"));
        }
        let sign = text.find(['=', '!']).ok_or_else(|| refused("it has no sign"))?;
        let (label, rest) = text.split_at(sign);
        let (label, signs) = (label.trim(), ["=~", "!~", "!=", "="]);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/');
        if label.is_empty() || !label.chars().all(plain) {
            return Err(refused("its label is empty or holds other characters than letters, digits and _ - . : /"));
        }
        let sign = signs.into_iter().find(|sign| rest.starts_with(sign)).ok_or_else(|| refused("its sign is none of = != =~ !~"))?;
        let value = rest[sign.len()..].trim();
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        let pattern = sign.ends_with('~').then(|| Regex::new(&format!("^(?:{value})$")));
        let pattern = pattern.transpose().map_err(|error| refused(&format!("its pattern can't be read, {error}")))?;
        Ok(Self { label: label.to_owned(), value: value.to_owned(), negated: sign.starts_with('!'), pattern })
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match (self.negated, self.pattern.is_some()) {
            (false, false) => "=",
            (true, false) => "!=",
            (false, true) => "=~",
            (true, true) => "!~",
        };
        write!(f, "{} {sign} {}", self.label, self.value)
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}
impl Eq for Matcher {}

impl TryFrom<String> for Matcher {
    type Error = InvalidMatcher;
    fn try_from(text: String) -> Result<Self, InvalidMatcher> {
        text.parse()
    }
}

impl From<Matcher> for String {
    fn from(matcher: Matcher) -> Self {
        matcher.to_string()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn a_matcher_compares_the_whole_value_and_takes_an_absent_label_for_empty() {
        let labels = BTreeMap::from([("severity".to_owned(), "critical".to_owned())]);
        let cases = [
            ("severity = critical", true),
            ("severity=\"critical\"", true),
            ("severity != critical", false),
            ("severity =~ crit", false),
            ("severity =~ crit.*|page", true),
            ("severity !~ info|warning", true),
            ("team = ", true),
            ("team != x", true),
        ];
        for (text, holds) in cases {
            let matcher: Matcher = text.parse().unwrap();
            assert_eq!(matcher.matches(&labels), holds, "{text}");
            assert_eq!(matcher.to_string().parse::<Matcher>().unwrap(), matcher);
        }
    }

    #[test]
    fn a_matcher_without_label_sign_or_readable_pattern_is_refused() {
        for text in ["", "severity", "= x", "a b = c", "a =~ (", "a ! c"] {
            assert!(text.parse::<Matcher>().is_err(), "{text}");
        }
    }
}
