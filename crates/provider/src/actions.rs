//! What an agent does beside its machines: requests, scripts, commands and updates of zones, as plans order them.
//!
//! ```text
//!   activities ──▶ Actions ─┬─ sim::SimActions       writes down what was done, by key
//!                           └─ actions::Outside      ssh, reqwest, DNS updates, commands that the configuration allows
//! ```
//!
//! Invariants: 1. An error says whether it may have happened. 2. When the future is dropped or the order is to end, no process of
//! it goes on here. 3. What was said is kept up to a limit, and no secret of this agent stands in it.

use async_trait::async_trait;
use recovery::{
    plan::action::{ActionContext, Performed},
    readiness::ActionsReport,
};

use crate::Link;

/// What is to be done.
#[derive(Debug)]
pub struct Order {
    /// One of http, ssh, command and dns; the others are the site's.
    pub action: Performed,
    /// Which step of which plan that is.
    pub context: ActionContext,
    /// A script of a test: the way to the machine in its isolated network.
    pub link: Option<Link>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// What was done and what was answered, in words.
    pub evidence: String,
    /// An exit code, a status of HTTP, a response code of DNS.
    pub status: Option<i32>,
    /// What was said.
    pub said: Said,
}

/// Why an action was not done, or not known to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// This agent lacks what it takes: a secret, an allowed command, a client.
    #[error("{detail}")]
    NotConfigured { detail: String, advice: String },
    /// It was refused before anything was sent or begun.
    #[error("{detail}")]
    Refused { detail: String, advice: String },
    /// Nobody was reached: certainly nothing happened, and another time it may.
    #[error("{target} can't be reached: {detail}")]
    Unreachable { target: String, detail: String },
    /// It was begun, and its end says that it was not done, or not all of it.
    #[error("{detail}")]
    Failed { detail: String, status: Option<i32>, said: Said },
    /// It was asked, and the answer is "not now".
    #[error("{detail}")]
    NotNow { detail: String },
    /// It was begun, and what became of it is unknown.
    #[error("{detail}")]
    Unknown { detail: String, said: Said },
    /// It was ended because nobody wants it any more; it may have happened.
    #[error("it was ended because the run is being cancelled")]
    Stopped,
}

/// Whether an order is still wanted.
#[async_trait]
pub trait Wanted: Send + Sync {
    /// `false`: end soon. Asked every few seconds; each call is a sign of life as well.
    async fn still(&self) -> bool;
}

/// Carries out what is no machine's.
#[async_trait]
pub trait Actions: Send + Sync {
    /// Does it.
    ///
    /// # Errors
    /// [`ActionError`].
    async fn carry_out(&self, order: Order, wanted: &dyn Wanted) -> Result<Done, ActionError>;

    /// What can be done, for those who want to know beforehand. Blocks for as long as files take.
    fn report(&self) -> ActionsReport;
}

/// The beginning and the end of what was said, within a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    head: Vec<u8>,
    tail: std::collections::VecDeque<u8>,
    limit: usize,
    left_out: u64,
}

impl Said {
    /// Keeps at most `limit` bytes: the first quarter, and the newest of the rest.
    #[must_use]
    pub fn within(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// More was said.
    pub fn hear(&mut self, bytes: &[u8]) {
        let room = (self.limit / 4).saturating_sub(self.head.len()).min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.head.extend(first);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(self.limit - self.limit / 4);
        self.tail.drain(..over);
        self.left_out += over as u64;
    }

    /// How many bytes are missing in the middle.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The same without a secret, wherever it stands.
    #[must_use]
    pub fn without(self, secret: &[u8]) -> Self {
        let tail: Vec<u8> = self.tail.into_iter().collect();
        // Where nothing is left out, it may stand across the middle.
        if self.left_out == 0 {
            return Self { head: blotted(&[self.head, tail].concat(), secret), tail: [].into(), ..self };
        }
        Self { head: blotted(&self.head, secret), tail: blotted(&tail, secret).into(), ..self }
    }

    /// As text: what is no UTF-8 is replaced, and a line says how much is missing in the middle.
    #[must_use]
    pub fn text(&self) -> String {
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        if self.left_out == 0 {
            return legible(&[self.head.as_slice(), &tail].concat());
        }
        format!("{}\n… {} bytes are left out …\n{}", legible(&self.head), self.left_out, legible(&tail))
    }

    /// The last words, for an error.
    #[must_use]
    pub fn last_words(&self, most: usize) -> String {
        let text = self.text();
        let text = text.trim();
        let start = (text.len().saturating_sub(most)..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        if start == 0 { text.to_owned() } else { format!("…{}", &text[start..]) }
    }
}

/// A secret is blotted out, and so is its part at either end.
fn blotted(text: &[u8], secret: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(text.len());
    let mut rest = text;
    // A secret that was cut by the limit: its end at the beginning, its beginning at the end.
    let leads = (4..secret.len()).rev().find(|cut| rest.starts_with(&secret[secret.len() - cut..])).unwrap_or(0);
    if leads > 0 {
        kept.extend(BLOT);
        rest = &rest[leads..];
    }
    while let Some(at) = rest.windows(secret.len()).position(|part| part == secret) {
        kept.extend([&rest[..at], BLOT].concat());
        rest = &rest[at + secret.len()..];
    }
    let trails = (4..secret.len()).rev().find(|cut| rest.ends_with(&secret[..*cut])).unwrap_or(0);
    kept.extend(&rest[..rest.len() - trails]);
    if trails > 0 {
        kept.extend(BLOT);
    }
    kept
}

/// Stands where a secret stood.
const BLOT: &[u8] = b"[secret]";

/// Text that a database and a terminal take: no zero bytes, no escapes.
fn legible(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t' | '\r') { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_kept_up_to_a_limit_from_both_ends() {
        let mut said = Said::within(8);
        assert_eq!(said.text(), "");
        said.hear(b"abc");
        said.hear(b"defgh");
        assert_eq!((said.text().as_str(), said.left_out()), ("abcdefgh", 0));
        said.hear(b"ijk");
        assert_eq!(said.text(), "ab\n… 3 bytes are left out …\nfghijk");
        assert_eq!(said.last_words(3), "…ijk");
        said.hear(&vec![b'x'; 1_000_000]);
        assert_eq!(said.text(), "ab\n… 1000003 bytes are left out …\nxxxxxx");
    }

    #[test]
    fn a_secret_that_is_said_back_is_blotted_out() {
        let heard = |limit, words: &[u8]| {
            let mut said = Said::within(limit);
            said.hear(words);
            said.without(b"s3cr3t-token").text()
        };
        assert_eq!(heard(100, b"you are s3cr3t-token, and s3cr3t-token"), "you are [secret], and [secret]");
        assert_eq!(heard(40, b"0123s3cr3t-token456789012345678901234567890123456789"), "0123[secret]\n… 12 bytes are left out …\n012345678901234567890123456789");
        assert_eq!(heard(40, b"01234567890123456789 s3cr3t-token and so on it goes yes"), "0123456789\n… 15 bytes are left out …\n[secret] and so on it goes yes");
    }

    #[test]
    fn what_is_no_text_is_replaced() {
        let mut said = Said::within(100);
        said.hear(b"ok\xff\0\x1b[31m\n\xc3");
        said.hear(b"\xa4");
        assert_eq!(said.text(), "ok\u{fffd}\u{fffd}\u{fffd}[31m\nä");
        assert_eq!(said.last_words(1), "…");
        assert_eq!(said.last_words(2), "…ä");
    }
}
