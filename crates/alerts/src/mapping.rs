//! How JSON of any form is read as alerts: where things are, and what the words in it mean.
//!
//! Invariant: a word that the mapping does not list is refused. A sender that begins to say something new says it to nobody, and
//! that is recorded, instead of being taken for an end or a beginning.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Alert, DecodeError, Said, decode::checked};

/// Most parts of a fingerprint, labels and words: what a person writes, with room.
const MOST: usize = 32;

/// Where in a JSON text, as in RFC 6901: `/data/status`; the empty text is all of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pointer(String);

/// How alerts are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// A list, each of whose elements is an alert; without it the whole is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Pointer>,
    /// What names that which fires; several are taken together.
    pub fingerprint: Vec<Pointer>,
    /// The word for what is said.
    pub status: Pointer,
    /// Words for firing.
    pub firing: BTreeSet<String>,
    /// Words for resolved.
    pub resolved: BTreeSet<String>,
    /// Words that say neither, such as a warning.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ignored: BTreeSet<String>,
    /// What tells one incident from the next of the same fingerprint.
    pub began: Began,
    /// Labels, by their names; what is not there is left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Pointer>,
    /// A line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Pointer>,
}

/// What tells one incident from the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case", deny_unknown_fields)]
pub enum Began {
    /// A time of beginning that the end names as well.
    Start {
        /// Where it is.
        at: Pointer,
        /// How it is written.
        #[serde(default)]
        form: TimeForm,
    },
    /// The time of the message itself: an end is the end of all that began before. A repeat with a new time counts as one more
    /// incident.
    MessageTime {
        /// Where it is.
        at: Pointer,
        /// How it is written.
        #[serde(default)]
        form: TimeForm,
    },
    /// Nothing: the fingerprint holds an id that the sender makes for each incident. With one that it uses again, the second
    /// incident is taken for the first, which is over.
    Fingerprint,
}

/// How a time is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeForm {
    /// `2026-11-22T21:58:00Z`.
    #[default]
    Rfc3339,
    /// Seconds since 1970, a number or a text.
    UnixS,
    /// Milliseconds since 1970, a number or a text.
    UnixMs,
}

impl Pointer {
    fn in_value<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        value.pointer(&self.0).filter(|found| !found.is_null())
    }
}

impl TryFrom<String> for Pointer {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let valid = text.len() <= 256 && (text.is_empty() || text.starts_with('/'));
        if valid { Ok(Self(text)) } else { Err(format!("{text:?} is no JSON pointer of the form /a/b")) }
    }
}

impl From<Pointer> for String {
    fn from(pointer: Pointer) -> String {
        pointer.0
    }
}

impl Mapping {
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.fingerprint.is_empty() {
            return Err("`fingerprint` names no place".to_owned());
        }
        if self.firing.is_empty() || self.resolved.is_empty() {
            return Err("`firing` and `resolved` need at least one word each: what can't end can't be followed".to_owned());
        }
        let words = [&self.firing, &self.resolved, &self.ignored];
        let mut seen = BTreeSet::new();
        if let Some(word) = words.into_iter().flatten().find(|word| !seen.insert(*word)) {
            return Err(format!("{word:?} has two meanings"));
        }
        if seen.len() > MOST || self.fingerprint.len() > MOST || self.labels.len() > MOST {
            return Err(format!("more than {MOST} words, labels or parts of the fingerprint"));
        }
        Ok(())
    }

    pub(crate) fn read(&self, value: &Value) -> Result<Vec<Alert>, DecodeError> {
        let Some(each) = &self.each else { return Ok(self.one(value)?.into_iter().collect()) };
        let list = each.in_value(value).and_then(Value::as_array).ok_or_else(|| missing(each))?;
        let alerts: Result<Vec<_>, _> = list.iter().map(|element| self.one(element)).collect();
        Ok(alerts?.into_iter().flatten().collect())
    }

    fn one(&self, value: &Value) -> Result<Option<Alert>, DecodeError> {
        let word = text(value, &self.status)?;
        let firing = match &word {
            word if self.firing.contains(word) => true,
            word if self.resolved.contains(word) => false,
            word if self.ignored.contains(word) => return Ok(None),
            _ => return Err(DecodeError::Word(word)),
        };
        let said = match &self.began {
            Began::Fingerprint if firing => Said::Firing { starts_at: None },
            Began::Fingerprint => Said::Resolved { starts_at: None },
            Began::Start { at, form } if firing => Said::Firing { starts_at: Some(time(value, at, *form)?) },
            Began::Start { at, form } => Said::Resolved { starts_at: Some(time(value, at, *form)?) },
            Began::MessageTime { at, form } if firing => Said::Firing { starts_at: Some(time(value, at, *form)?) },
            Began::MessageTime { at, form } => Said::ResolvedUntil { until: time(value, at, *form)? },
        };
        let mut labels = BTreeMap::new();
        for (name, pointer) in &self.labels {
            if pointer.in_value(value).is_some() {
                labels.insert(name.clone(), text(value, pointer)?);
            }
        }
        let summary = match &self.summary {
            Some(pointer) if pointer.in_value(value).is_some() => text(value, pointer)?,
            Some(_) | None => String::new(),
        };
        checked(Alert { fingerprint: self.fingerprint(value)?, said, labels, summary, truncated: false }).map(Some)
    }

    /// One part as it is; several as a JSON list, so that no two lists give the same text.
    fn fingerprint(&self, value: &Value) -> Result<String, DecodeError> {
        let parts: Vec<String> = self.fingerprint.iter().map(|pointer| text(value, pointer)).collect::<Result<_, _>>()?;
        match parts.as_slice() {
            [one] => Ok(one.clone()),
            _ => Ok(Value::from(parts).to_string()),
        }
    }
}

fn missing(pointer: &Pointer) -> DecodeError {
    DecodeError::Missing(pointer.0.clone())
}

/// A text, number or truth value as text.
fn text(value: &Value, pointer: &Pointer) -> Result<String, DecodeError> {
    match pointer.in_value(value) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(found @ (Value::Number(_) | Value::Bool(_))) => Ok(found.to_string()),
        Some(Value::Array(_) | Value::Object(_)) => Err(DecodeError::NoText(pointer.0.clone())),
        Some(Value::Null) | None => Err(missing(pointer)),
    }
}

fn time(value: &Value, pointer: &Pointer, form: TimeForm) -> Result<DateTime<Utc>, DecodeError> {
    let text = text(value, pointer)?;
    let number = || text.parse::<i64>().ok();
    let read = match form {
        TimeForm::Rfc3339 => DateTime::parse_from_rfc3339(&text).ok().map(|time| time.to_utc()),
        TimeForm::UnixS => number().and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
        TimeForm::UnixMs => number().and_then(DateTime::from_timestamp_millis),
    };
    let sane = read.filter(|time| in_range(*time));
    sane.map(|time| time.trunc_subsecs(6)).ok_or_else(|| DecodeError::Time(pointer.0.clone()))
}

/// Years that every part of the product can keep.
pub(crate) fn in_range(time: DateTime<Utc>) -> bool {
    use chrono::Datelike;
    (1..=9999).contains(&time.year())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Limit;

    fn mapping(began: Value) -> Mapping {
        let mut mapping = json!({
            "fingerprint": ["/id"], "status": "/state", "firing": ["down"], "resolved": ["up"], "ignored": ["odd"],
            "labels": {"host": "/host"}, "summary": "/text",
        });
        mapping["began"] = began;
        serde_json::from_value(mapping).unwrap()
    }

    fn own_ids() -> Mapping {
        mapping(json!({"by": "fingerprint"}))
    }

    #[test]
    fn numbers_and_truth_values_are_texts_and_what_is_not_there_is_left_out() {
        let alerts = own_ids().read(&json!({"id": 7, "state": "down", "host": true})).unwrap();
        let labels = [("host".to_owned(), "true".to_owned())].into();
        let expected = Alert { fingerprint: "7".to_owned(), said: Said::Firing { starts_at: None }, labels, summary: String::new(), truncated: false };
        assert_eq!(alerts, [expected]);
    }

    #[test]
    fn what_the_mapping_does_not_say_is_refused() {
        let refused = |value: Value| own_ids().read(&value).unwrap_err();
        assert_eq!(refused(json!({"id": "a", "state": "sideways"})), DecodeError::Word("sideways".to_owned()));
        assert_eq!(refused(json!({"id": "a"})), DecodeError::Missing("/state".to_owned()));
        assert_eq!(refused(json!({"id": [1], "state": "up"})), DecodeError::NoText("/id".to_owned()));
        assert_eq!(refused(json!({"id": "", "state": "up"})), DecodeError::TooMuch(Limit::Fingerprint, 0));
        assert_eq!(refused(json!({"id": "x".repeat(513), "state": "up"})), DecodeError::TooMuch(Limit::Fingerprint, 513));
        assert_eq!(own_ids().read(&json!({"id": "a", "state": "odd"})), Ok(vec![]));
    }

    #[test]
    fn a_time_is_read_in_the_form_that_it_has() {
        let at = |form: &str, value: Value| {
            let began = json!({"by": "start", "at": "/at", "form": form});
            mapping(began).read(&json!({"id": "a", "state": "up", "at": value})).map(|alerts| alerts[0].said.clone())
        };
        let expected = Said::Resolved { starts_at: DateTime::from_timestamp(1_795_384_800, 0) };
        assert_eq!(at("rfc3339", json!("2026-11-22T22:00:00.0000000Z")), Ok(expected.clone()));
        assert_eq!(at("rfc3339", json!("2026-11-22T23:00:00+01:00")), Ok(expected.clone()));
        assert_eq!(at("unix_s", json!(1_795_384_800)), Ok(expected.clone()));
        assert_eq!(at("unix_ms", json!("1795384800000")), Ok(expected));
        for (form, value) in [("rfc3339", json!("yesterday")), ("unix_s", json!("1e9")), ("unix_ms", json!(i64::MAX))] {
            assert_eq!(at(form, value), Err(DecodeError::Time("/at".to_owned())));
        }
    }

    #[test]
    fn several_parts_of_a_fingerprint_are_never_mistaken_for_others() {
        let mut mapping = own_ids();
        mapping.fingerprint = vec![Pointer("/a".to_owned()), Pointer("/b".to_owned())];
        let of = |a: &str, b: &str| mapping.read(&json!({"a": a, "b": b, "state": "up"})).unwrap().remove(0).fingerprint;
        assert_eq!(of("x y", "z"), r#"["x y","z"]"#);
        assert_ne!(of("x y", "z"), of("x", "y z"));
    }

    #[test]
    fn each_element_of_a_list_is_an_alert() {
        let mut mapping = mapping(json!({"by": "message_time", "at": "/at"}));
        mapping.each = Some(Pointer("/alerts".to_owned()));
        let at = "2026-11-22T22:00:00Z";
        let list = json!({"alerts": [{"id": "a", "state": "down", "at": at}, {"id": "a", "state": "up", "at": at}]});
        let said: Vec<Said> = mapping.read(&list).unwrap().into_iter().map(|alert| alert.said).collect();
        let time: DateTime<Utc> = at.parse().unwrap();
        assert_eq!(said, [Said::Firing { starts_at: Some(time) }, Said::ResolvedUntil { until: time }]);
        assert_eq!(mapping.read(&json!({"id": "a"})), Err(DecodeError::Missing("/alerts".to_owned())));
    }

    #[test]
    fn a_mapping_that_contradicts_itself_is_refused() {
        assert_eq!(own_ids().check(), Ok(()));
        let twice = Mapping { ignored: ["up".to_owned()].into(), ..own_ids() };
        assert_eq!(twice.check(), Err("\"up\" has two meanings".to_owned()));
        assert!(Mapping { resolved: BTreeSet::new(), ..own_ids() }.check().is_err());
        assert!(Mapping { fingerprint: vec![], ..own_ids() }.check().is_err());
        assert!(serde_json::from_value::<Pointer>(json!("data/status")).is_err());
    }
}
