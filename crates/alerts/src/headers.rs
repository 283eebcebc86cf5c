//! A delivery's headers: names in lower case, values as text.

use std::collections::BTreeMap;

/// Headers that are kept with a delivery; whatever is not named here may be a credential.
const KEPT: [&str; 6] = ["content-type", "content-length", "user-agent", "x-webhook-id", "x-webhook-subscription", "x-request-id"];
/// Attributes of a CloudEvent in binary mode, which are part of what was said.
const KEPT_START: &str = "ce-";
/// Longest value kept, and most headers: anybody can send.
const KEPT_BYTES: usize = 256;
const MOST_KEPT: usize = 40;

/// A delivery's headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(BTreeMap<String, Vec<String>>);

/// How often a header is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Missing,
    Once(&'a str),
    /// Which one is meant would be a guess.
    Repeated,
}

impl Headers {
    /// The first value of a header; an empty text if there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(|values| values.first()).map_or("", String::as_str)
    }

    pub(crate) fn find(&self, name: &str) -> Found<'_> {
        match self.0.get(name).map(Vec::as_slice) {
            None | Some([]) => Found::Missing,
            Some([value]) => Found::Once(value),
            Some(_) => Found::Repeated,
        }
    }

    /// Names and first values, in order of the names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, values)| Some((name.as_str(), values.first()?.as_str())))
    }

    /// What may be kept with the delivery: never a credential, a signature or a cookie.
    #[must_use]
    pub fn kept(&self) -> BTreeMap<String, String> {
        let kept = self.iter().filter(|(name, _)| KEPT.contains(name) || name.starts_with(KEPT_START));
        kept.take(MOST_KEPT).map(|(name, value)| (cut(name, KEPT_BYTES), cut(value, KEPT_BYTES))).collect()
    }
}

impl<'a> FromIterator<(&'a str, &'a [u8])> for Headers {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a [u8])>>(headers: I) -> Self {
        let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers {
            map.entry(name.to_ascii_lowercase()).or_default().push(String::from_utf8_lossy(value).trim().to_owned());
        }
        Self(map)
    }
}

/// At most so many bytes, and whole characters; Postgres keeps no U+0000.
pub(crate) fn cut(text: &str, most: usize) -> String {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_credential_is_not_kept() {
        let headers: Headers = [
            ("Authorization", &b"Bearer secret"[..]),
            ("X-DR-Token", b"secret"),
            ("X-PagerDuty-Signature", b"v1=00"),
            ("Cookie", b"a=b"),
            ("User-Agent", b"Grafana"),
            ("ce-id", b"1"),
            ("X-Webhook-Id", b"W1"),
        ]
        .into_iter()
        .collect();
        let kept: Vec<String> = headers.kept().into_keys().collect();
        assert_eq!(kept, ["ce-id", "user-agent", "x-webhook-id"]);
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("süd", 2), "s");
        assert_eq!(cut("süd", 3), "sü");
        assert_eq!(cut("a\0b", 9), "a\u{fffd}b");
    }
}
