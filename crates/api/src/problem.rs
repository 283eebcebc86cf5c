//! Refusals: one code for each, with what it means for the data and what to do next. RFC 9457, `application/problem+json`.
//!
//! Invariant: every code has a page at `/problems/<code>`, made from the same table as the problem itself.

use recovery::Operation;
use sdk::RunId;
use serde::{Deserialize, Serialize};

/// Media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What kind of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The request can't be read, or a value in it is not allowed.
    InvalidRequest,
    /// Nobody has protected an item of this name.
    UnknownItem,
    /// No run has this id.
    UnknownRun,
    /// No site has this name.
    UnknownSite,
    /// No task is at this place.
    UnknownTask,
    /// No such path or method.
    UnknownPath,
    /// The item's state does not allow it.
    OperationNotAllowed,
    /// The state would allow it, this build can't do it yet.
    OperationNotOffered,
    /// Another run has the item.
    RunInProgress,
    /// The run has ended.
    RunEnded,
    /// There is no point to recover from.
    NoRecoveryPoint,
    /// The name is taken.
    NameTaken,
    /// The same key came with another request, or while the first is being worked on.
    IdempotencyConflict,
    /// Nobody knows who asks.
    Unauthenticated,
    /// Who asks may not do this.
    Forbidden,
    /// The agent is not enrolled here.
    AgentNotEnrolled,
    /// The enrolment token is wrong, used or too old.
    EnrolmentRefused,
    /// The agent's lease was deleted: what it claimed is claimed by others.
    LeaseGone,
    /// The database does not answer.
    DatabaseUnavailable,
    /// The server is at fault.
    Internal,
}

/// The fixed part of a code: status, title, what it means for the data, what to do next.
struct Entry {
    word: &'static str,
    status: u16,
    title: &'static str,
    data: &'static str,
    next: &'static str,
}

const fn entry(word: &'static str, status: u16, title: &'static str, data: &'static str, next: &'static str) -> Entry {
    Entry { word, status, title, data, next }
}

const UNTOUCHED: &str = "Nothing was changed.";

impl Code {
    /// Every code.
    pub const ALL: [Code; 20] = [
        Code::InvalidRequest,
        Code::UnknownItem,
        Code::UnknownRun,
        Code::UnknownSite,
        Code::UnknownTask,
        Code::UnknownPath,
        Code::OperationNotAllowed,
        Code::OperationNotOffered,
        Code::RunInProgress,
        Code::RunEnded,
        Code::NoRecoveryPoint,
        Code::NameTaken,
        Code::IdempotencyConflict,
        Code::Unauthenticated,
        Code::Forbidden,
        Code::AgentNotEnrolled,
        Code::EnrolmentRefused,
        Code::LeaseGone,
        Code::DatabaseUnavailable,
        Code::Internal,
    ];

    fn entry(self) -> Entry {
        match self {
            Code::InvalidRequest => entry("invalid-request", 400, "The request is not valid", UNTOUCHED, "Correct what the detail names and ask again."),
            Code::UnknownItem => {
                entry("unknown-item", 404, "There is no such item", UNTOUCHED, "See `switchback get items` for the names, or protect the machine first.")
            }
            Code::UnknownRun => entry("unknown-run", 404, "There is no such run", UNTOUCHED, "See `switchback runs` for the ids."),
            Code::UnknownSite => {
                entry("unknown-site", 404, "There is no such site", UNTOUCHED, "See `switchback get sites`; a site exists as soon as an agent was enrolled for it.")
            }
            Code::UnknownTask => entry("unknown-task", 404, "There is no such task", UNTOUCHED, "See `switchback queue dead` for run and number."),
            Code::UnknownPath => entry("unknown-path", 404, "There is nothing at this path", UNTOUCHED, "Check that client and server are of the same version."),
            Code::OperationNotAllowed => entry(
                "operation-not-allowed",
                409,
                "The item's state does not allow this",
                UNTOUCHED,
                "Choose one of the allowed operations, or wait until the running one has ended.",
            ),
            Code::OperationNotOffered => {
                entry("operation-not-offered", 409, "This version can't do that yet", UNTOUCHED, "Choose one of the allowed operations.")
            }
            Code::RunInProgress => entry(
                "run-in-progress",
                409,
                "Another run has the item",
                "Nothing was changed; the other run goes on.",
                "Watch it with `switchback why RUN`, wait for its end, or cancel it with `switchback cancel RUN`.",
            ),
            Code::RunEnded => entry("run-ended", 409, "The run has ended", UNTOUCHED, "See `switchback history RUN` for how it ended."),
            Code::NoRecoveryPoint => entry(
                "no-recovery-point",
                409,
                "There is no such recovery point",
                "Nothing was changed; the points that exist are kept.",
                "See `switchback points ITEM` for what can be chosen.",
            ),
            Code::NameTaken => entry("name-taken", 409, "The name is taken", UNTOUCHED, "Choose another name."),
            Code::IdempotencyConflict => entry(
                "idempotency-conflict",
                422,
                "The key belongs to another request",
                "This request changed nothing; the first one with the key counts.",
                "Use a new Idempotency-Key for a new request; repeat the very same request to get its answer.",
            ),
            Code::Unauthenticated => {
                entry("unauthenticated", 401, "Nobody knows who asks", UNTOUCHED, "Set SWITCHBACK_TOKEN, or ask on the server's machine over its socket.")
            }
            Code::Forbidden => entry("forbidden", 403, "You may not do this", UNTOUCHED, "Ask somebody whose role allows it, or for a token with that role."),
            Code::AgentNotEnrolled => entry(
                "agent-not-enrolled",
                401,
                "This agent is not enrolled here",
                "Nothing was changed; replication between enrolled agents goes on.",
                "Make a token with `switchback agent token --site SITE` and run `switchback-agent enroll`.",
            ),
            Code::EnrolmentRefused => entry(
                "enrolment-refused",
                403,
                "The enrolment token does not hold",
                UNTOUCHED,
                "Tokens hold once and for an hour: make a new one with `switchback agent token --site SITE`.",
            ),
            Code::LeaseGone => entry(
                "lease-gone",
                409,
                "The agent's lease is gone",
                "Results of attempts that others have begun again are not accepted.",
                "Open a new lease; the agent does so by itself.",
            ),
            Code::DatabaseUnavailable => entry(
                "database-unavailable",
                503,
                "The database does not answer",
                "Points go on being taken: the agents do not need the database. Runs go on where they were when it is back.",
                "Ask again; if it lasts, look at the database's log.",
            ),
            Code::Internal => {
                entry("internal", 500, "The server is at fault", "What was recorded before is safe.", "Ask again; if it lasts, report it with the trace id.")
            }
        }
    }

    /// The word in its type URI.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.entry().word
    }

    /// HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        self.entry().status
    }

    /// Its page, as plain text.
    #[must_use]
    pub fn page(self) -> String {
        let Entry { word, status, title, data, next } = self.entry();
        format!("{word} ({status})\n\n{title}.\n\nWhat it means for the data: {data}\n\nWhat to do: {next}\n")
    }

    /// By its word.
    #[must_use]
    pub fn of(word: &str) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.as_str() == word)
    }
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `/problems/<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What happened, to what.
    pub detail: String,
    /// What it means for the data.
    pub data: String,
    /// What to do next.
    pub next_step: String,
    /// What the item's state allows, where that is the matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_operations: Option<Vec<Operation>>,
    /// The run that stands in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Under which the server's log and traces have more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

impl Problem {
    /// A problem of this code; `detail` says what happened to what.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let Entry { word, status, title, data, next } = code.entry();
        Self {
            kind: format!("/problems/{word}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            data: data.to_owned(),
            next_step: next.to_owned(),
            allowed_operations: None,
            run: None,
            trace_id: None,
        }
    }

    /// With what the item's state allows.
    #[must_use]
    pub fn allowing(self, operations: Vec<Operation>) -> Self {
        Self { allowed_operations: Some(operations), ..self }
    }

    /// With the run that stands in the way.
    #[must_use]
    pub fn naming(self, run: RunId) -> Self {
        Self { run: Some(run), ..self }
    }

    /// The code, unless a newer server has one that is not known here.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        Code::of(self.kind.rsplit('/').next()?)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.title, self.detail)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_word_a_page_and_a_status_of_refusal() {
        for code in Code::ALL {
            assert_eq!(Code::of(code.as_str()), Some(code));
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!((400..600).contains(&code.status()));
            assert!(code.page().contains("What to do"));
        }
    }

    #[test]
    fn a_problem_names_its_code() {
        let problem = Problem::new(Code::UnknownItem, "no item is called db9");
        assert_eq!(problem.code(), Some(Code::UnknownItem));
        let text = serde_json::to_string(&problem).unwrap();
        assert_eq!(serde_json::from_str::<Problem>(&text).unwrap(), problem);
    }
}
