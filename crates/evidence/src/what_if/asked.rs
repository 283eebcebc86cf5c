//! What is supposed: `step=start-machine fails`, `step=fence-machine times-out`, `step=check-test#2 fails-once: no-answer`.

use std::{fmt, str::FromStr};

/// Another outcome of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhatIf {
    /// Declared name.
    pub step: String,
    /// Which of that name, from 1, in the order in which they were asked for.
    pub nth: usize,
    /// How it is to end.
    pub outcome: Outcome,
}

/// How a step is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// For good.
    Fails {
        /// Code of its failure.
        code: String,
    },
    /// At the first attempt; the next one answers as it was recorded.
    FailsOnce {
        /// Code of its failure.
        code: String,
    },
    /// Nobody picks it up; or, where it may wait for ever, whoever does falls silent.
    TimesOut,
}

/// A text that supposes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} supposes nothing: {why}; write step=NAME fails, step=NAME times-out or step=NAME fails-once, with #2 behind the name for the second of that name and : CODE behind fails for its code")]
pub struct InvalidWhatIf {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Code of a failure that nobody named.
const SUPPOSED: &str = "supposed-failure";

impl FromStr for WhatIf {
    type Err = InvalidWhatIf;
    fn from_str(text: &str) -> Result<Self, InvalidWhatIf> {
        parse(text).map_err(|why| InvalidWhatIf { text: text.to_owned(), why })
    }
}

fn parse(text: &str) -> Result<WhatIf, &'static str> {
    let rest = text.trim().strip_prefix("step=").ok_or("it does not begin with step=")?;
    let (step, outcome) = rest.split_once(char::is_whitespace).ok_or("it does not say what becomes of the step")?;
    let (name, nth) = match step.split_once('#') {
        Some((name, nth)) => (name, nth.parse().ok().filter(|nth| *nth > 0).ok_or("what stands behind # is no number from 1")?),
        None => (step, 1),
    };
    if !kebab(name) {
        return Err("the name of the step is not one of lower-case letters, digits and dashes");
    }
    let (word, code) = match outcome.split_once(':') {
        Some((word, code)) => (word.trim(), Some(code.trim())),
        None => (outcome.trim(), None),
    };
    if code.is_some_and(|code| !kebab(code)) {
        return Err("the code is not one of lower-case letters, digits and dashes");
    }
    let named = code.unwrap_or(SUPPOSED).to_owned();
    let outcome = match (word, code) {
        ("fails", _) => Outcome::Fails { code: named },
        ("fails-once", _) => Outcome::FailsOnce { code: named },
        ("times-out", None) => Outcome::TimesOut,
        ("times-out", Some(_)) => return Err("a step that times out has no code"),
        _ => return Err("the step fails, fails-once or times-out"),
    };
    Ok(WhatIf { step: name.to_owned(), nth, outcome })
}

fn kebab(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

impl fmt::Display for WhatIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step={}", self.step)?;
        if self.nth > 1 {
            write!(f, "#{}", self.nth)?;
        }
        let (word, code) = match &self.outcome {
            Outcome::Fails { code } => ("fails", Some(code)),
            Outcome::FailsOnce { code } => ("fails-once", Some(code)),
            Outcome::TimesOut => ("times-out", None),
        };
        write!(f, " {word}")?;
        code.filter(|code| *code != SUPPOSED).map_or(Ok(()), |code| write!(f, ": {code}"))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn what_is_supposed_reads_back() {
        for text in ["step=start-machine fails", "step=check-test#2 fails-once: no-answer", "step=fence-machine times-out", "step=a fails: b"] {
            assert_eq!(text.parse::<WhatIf>().unwrap().to_string(), text);
        }
        assert_eq!(" step=a#1   fails ".parse::<WhatIf>().unwrap().to_string(), "step=a fails");
    }

    #[test]
    fn what_supposes_nothing_is_refused_with_the_form() {
        for text in ["", "start-machine fails", "step=a", "step=a#0 fails", "step=A fails", "step=a burns", "step=a times-out: x", "step=a fails: X"] {
            assert!(text.parse::<WhatIf>().unwrap_err().to_string().contains("write step=NAME"), "{text}");
        }
    }
}
