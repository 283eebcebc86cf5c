//! Names and numbers that every layer uses for the same thing: items, sites, generations, effect tokens, points.
//!
//! ```text
//!   EffectToken  e1-g3-s12-r2-a1  =  Generation e1-g3  +  which step, by which owner of the run, at which try
//! ```
//!
//! Invariants: 1. A name that parsed is safe as a file name, as a libvirt domain name and inside a URL path. 2. Tokens and
//! generations order from the left. 3. `to_string` and `parse` are inverse; the JSON form is the string form.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a text is not the name or number it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The text is empty or longer than `limit` bytes.
    #[error("{kind} name {text:?} has {} bytes, allowed are 1 to {limit}", .text.len())]
    Length { kind: &'static str, text: String, limit: usize },
    /// The text contains a character outside the allowed set, or begins with punctuation.
    #[error("{kind} name {text:?} may contain only {allowed} and begins with a letter or digit")]
    Characters { kind: &'static str, text: String, allowed: &'static str },
    /// The text does not have the form of `kind`.
    #[error("{text:?} is not {kind} of the form {form}")]
    Form { kind: &'static str, text: String, form: &'static str },
}

macro_rules! string_form {
    ($name:ty) => {
        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    };
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $limit:literal, $allowed:literal, $accept:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let accept: fn(char) -> bool = $accept;
                if text.is_empty() || text.len() > $limit {
                    return Err(InvalidId::Length { kind: $kind, text: text.to_owned(), limit: $limit });
                }
                if !text.chars().all(accept) || !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
                    return Err(InvalidId::Characters { kind: $kind, text: text.to_owned(), allowed: $allowed });
                }
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        string_form!($name);
    };
}

name_type! {
    /// Names a protected item; by default the name of its machine on the platform.
    ItemName, "item", 63, "letters, digits, `.`, `_` and `-`",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

name_type! {
    /// Names a replication group: machines whose points are taken at the same moment.
    GroupName, "replication group", 63, "letters, digits, `.`, `_` and `-`",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

name_type! {
    /// Names a recovery plan.
    PlanName, "plan", 63, "letters, digits, `.`, `_` and `-`",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

name_type! {
    /// Names an isolated network that copies for tests share: that of a plan.
    TestNetwork, "test network", 63, "letters, digits, `.`, `_` and `-`",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

impl From<&PlanName> for TestNetwork {
    /// By the plan and not by its run: copies that a run left which stopped, and those of the run that goes on with it, meet.
    fn from(plan: &PlanName) -> Self {
        Self(plan.0.clone())
    }
}

name_type! {
    /// Names a secret that an agent keeps: a private key, a TSIG key, the value of a header.
    SecretName, "secret", 63, "letters, digits, `.`, `_` and `-`",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

name_type! {
    /// Names a command that the configuration of an agent allows.
    CommandName, "command", 63, "letters, digits, `.`, `_` and `-`",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

name_type! {
    /// Names a site. Its task queue is `site:<name>`.
    SiteName, "site", 40, "lower-case letters, digits and `-`",
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

/// Numbers that stand behind single letters in `text`, such as `e1-g3`; exactly those letters, in that order, decimal, no sign.
fn lettered<const N: usize>(text: &str, letters: [char; N]) -> Option<[i64; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split('-');
    for (number, letter) in numbers.iter_mut().zip(letters) {
        let digits = parts.next()?.strip_prefix(letter)?;
        let canonical = digits == "0" || !digits.starts_with('0');
        if !canonical || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *number = digits.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// Which grant of an item's lock an object on disk belongs to. Grows at each grant, and with the era of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Generation {
    /// The life of the database; raised after a lost tail. Never negative.
    pub era: i64,
    /// Counts the grants of the item's lock. Never negative.
    pub grant_epoch: i64,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}-g{}", self.era, self.grant_epoch)
    }
}

impl FromStr for Generation {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let [era, grant_epoch] = lettered(text, ['e', 'g']).ok_or_else(|| InvalidId::Form {
            kind: "a generation",
            text: text.to_owned(),
            form: "e1-g3",
        })?;
        Ok(Self { era, grant_epoch })
    }
}

string_form!(Generation);

/// Shown with every effect outside the database; a site refuses a lower one than it has seen for the item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EffectToken {
    /// The life of the database.
    pub era: i64,
    /// Counts the grants of the item's lock.
    pub grant_epoch: i64,
    /// Sequence number of the event that scheduled the effect.
    pub seq: i64,
    /// Run epoch of that event; of a local step's present owner.
    pub run_epoch: i64,
    /// Which try of the activity this is, from 1.
    pub attempt: i64,
}

impl EffectToken {
    /// The part that names objects which outlive a single try.
    #[must_use]
    pub fn generation(&self) -> Generation {
        Generation { era: self.era, grant_epoch: self.grant_epoch }
    }
}

impl fmt::Display for EffectToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { era, grant_epoch, seq, run_epoch, attempt } = self;
        write!(f, "e{era}-g{grant_epoch}-s{seq}-r{run_epoch}-a{attempt}")
    }
}

impl FromStr for EffectToken {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let [era, grant_epoch, seq, run_epoch, attempt] =
            lettered(text, ['e', 'g', 's', 'r', 'a']).ok_or_else(|| InvalidId::Form {
                kind: "an effect token",
                text: text.to_owned(),
                form: "e1-g3-s12-r2-a1",
            })?;
        Ok(Self { era, grant_epoch, seq, run_epoch, attempt })
    }
}

string_form!(EffectToken);

/// Sequence number of a recovery point of one item, from 1; never used again within a replica store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PointId(pub u64);

impl PointId {
    /// The number of an item's first point.
    pub const FIRST: PointId = PointId(1);

    /// The number that the point after this one gets.
    #[must_use]
    pub fn next(self) -> PointId {
        PointId(self.0 + 1)
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for PointId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.parse() {
            Ok(number) if number > 0 => Ok(Self(number)),
            Ok(_) | Err(_) => {
                Err(InvalidId::Form { kind: "a point number", text: text.to_owned(), form: "1, 2, 3, …" })
            }
        }
    }
}

/// What a point promises about the software in the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// As after a power failure.
    Crash,
    /// Taken while file systems and applications were quiet.
    App,
}

impl Consistency {
    /// The word used in files, tables and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Consistency::Crash => "crash",
            Consistency::App => "app",
        }
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Consistency {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text {
            "crash" => Ok(Consistency::Crash),
            "app" => Ok(Consistency::App),
            _ => Err(InvalidId::Form { kind: "a consistency", text: text.to_owned(), form: "crash or app" }),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    fn token(era: i64, grant_epoch: i64, seq: i64, run_epoch: i64, attempt: i64) -> EffectToken {
        EffectToken { era, grant_epoch, seq, run_epoch, attempt }
    }

    #[test]
    fn a_token_reads_back_from_its_string_form() {
        let t = token(1, 3, 12, 2, 1);
        assert_eq!(t.to_string(), "e1-g3-s12-r2-a1");
        assert_eq!("e1-g3-s12-r2-a1".parse(), Ok(t));
        assert_eq!(serde_json::to_string(&t).unwrap(), "\"e1-g3-s12-r2-a1\"");
        assert_eq!(t.generation().to_string(), "e1-g3");
    }

    #[test]
    fn tokens_compare_from_the_left() {
        assert!(token(1, 3, 2, 9, 9) < token(1, 3, 3, 0, 1));
        assert!(token(1, 9, 9, 9, 9) < token(2, 0, 0, 0, 0));
        assert!(token(1, 3, 2, 1, 9) < token(1, 3, 2, 2, 1));
    }

    #[test]
    fn only_the_canonical_form_of_a_token_is_read() {
        for text in ["", "e1-g3", "e1-g3-s12-r2-a1-x1", "e01-g3-s12-r2-a1", "e+1-g3-s12-r2-a1", "e1-g3-s-1-r2-a1", "e1-g3-s12-r2-a "] {
            assert!(text.parse::<EffectToken>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_safe_as_a_file_name() {
        assert_eq!("db9".parse::<ItemName>().unwrap().as_str(), "db9");
        for text in ["", ".", "..", "a/b", "-x", "a b", "ä", &"x".repeat(64)] {
            assert!(text.parse::<ItemName>().is_err(), "{text}");
        }
        assert!("Berlin".parse::<SiteName>().is_err());
        assert!(serde_json::from_str::<ItemName>("\"../x\"").is_err());
    }
}
