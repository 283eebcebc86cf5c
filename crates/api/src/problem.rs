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
    /// No schedule has this name.
    UnknownSchedule,
    /// No plan has this name.
    UnknownPlan,
    /// No replication group has this name.
    UnknownGroup,
    /// No such path or method.
    UnknownPath,
    /// The item's state does not allow it.
    OperationNotAllowed,
    /// The state would allow it, this build can't do it yet.
    OperationNotOffered,
    /// It would change nothing, or nobody asks for it.
    NotNow,
    /// Another run has the item.
    RunInProgress,
    /// The run has ended.
    RunEnded,
    /// There is no point to recover from.
    NoRecoveryPoint,
    /// The run's histories can't be put into a file.
    NotExportable,
    /// It would destroy something, and nobody said that it may.
    ConfirmationNeeded,
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
    /// No source of alerts has this name.
    UnknownSource,
    /// No trigger policy has this name.
    UnknownPolicy,
    /// No delivery has this number, or its body was forgotten.
    UnknownDelivery,
    /// The source's secrets or listeners stand in the way.
    SourceConflict,
    /// The delivery does not prove that it is from its source, or is too old.
    DeliveryNotBelieved,
    /// The delivery is larger than any alert.
    DeliveryTooLarge,
    /// The delivery is not of its source's form.
    DeliveryUnreadable,
    /// The agent's lease was deleted: what it claimed is claimed by others.
    LeaseGone,
    /// The database does not answer.
    DatabaseUnavailable,
    /// The database belongs to something else, or is too old.
    WrongDatabase,
    /// The database was brought up to date by a newer build.
    NewerDatabase,
    /// The database server was started anew, and whether it has lost something is being found out.
    StoreChecking,
    /// The server is at fault.
    Internal,
}

/// The fixed part of a code: status, title, what it means for the data, what to do next.
struct Entry {
    code: Code,
    word: &'static str,
    status: u16,
    title: &'static str,
    data: &'static str,
    next: &'static str,
}

const fn entry(code: Code, word: &'static str, status: u16, title: &'static str, data: &'static str, next: &'static str) -> Entry {
    Entry { code, word, status, title, data, next }
}

const UNTOUCHED: &str = "Nothing was changed.";

/// One row a code, in the order of [`Code`].
const TABLE: [Entry; 36] = [
    entry(Code::InvalidRequest, "invalid-request", 400, "The request is not valid", UNTOUCHED, "Correct what the detail names and ask again."),
    entry(
        Code::UnknownItem,
        "unknown-item",
        404,
        "There is no such item",
        UNTOUCHED,
        "See `switchback get items` for the names, or protect the machine first.",
    ),
    entry(Code::UnknownRun, "unknown-run", 404, "There is no such run", UNTOUCHED, "See `switchback runs` for the ids."),
    entry(
        Code::UnknownSite,
        "unknown-site",
        404,
        "There is no such site",
        UNTOUCHED,
        "See `switchback get sites`; a site exists as soon as an agent was enrolled for it.",
    ),
    entry(Code::UnknownTask, "unknown-task", 404, "There is no such task", UNTOUCHED, "See `switchback queue dead` for run and number."),
    entry(
        Code::UnknownSchedule,
        "unknown-schedule",
        404,
        "There is no such schedule",
        UNTOUCHED,
        "See `switchback schedule list` for the names; `switchback schedule history NAME` still tells of one that was removed.",
    ),
    entry(Code::UnknownPlan, "unknown-plan", 404, "There is no such plan", UNTOUCHED, "See `switchback plan list` for the names."),
    entry(
        Code::UnknownGroup,
        "unknown-group",
        404,
        "There is no such replication group",
        UNTOUCHED,
        "See `switchback group list` for the names, or make one with `switchback group create NAME --items …`.",
    ),
    entry(
        Code::UnknownPath,
        "unknown-path",
        404,
        "There is nothing at this path",
        UNTOUCHED,
        "Check that client and server are of the same version.",
    ),
    entry(
        Code::OperationNotAllowed,
        "operation-not-allowed",
        409,
        "The item's state does not allow this",
        UNTOUCHED,
        "Choose one of the allowed operations, or wait until the running one has ended.",
    ),
    entry(
        Code::OperationNotOffered,
        "operation-not-offered",
        409,
        "This version can't do that yet",
        UNTOUCHED,
        "Choose one of the allowed operations.",
    ),
    entry(Code::NotNow, "not-now", 409, "That is not possible as things stand", UNTOUCHED, "The detail says how things stand; look again and decide."),
    entry(
        Code::RunInProgress,
        "run-in-progress",
        409,
        "Another run has the item",
        "Nothing was changed; the other run goes on.",
        "Watch it with `switchback why RUN`, wait for its end, or cancel it with `switchback cancel RUN`.",
    ),
    entry(Code::RunEnded, "run-ended", 409, "The run has ended", UNTOUCHED, "See `switchback history RUN` for how it ended."),
    entry(
        Code::NoRecoveryPoint,
        "no-recovery-point",
        409,
        "There is no such recovery point",
        "Nothing was changed; the points that exist are kept.",
        "See `switchback points ITEM` for what can be chosen.",
    ),
    entry(
        Code::NotExportable,
        "not-exportable",
        409,
        "These histories can't be put into a file",
        UNTOUCHED,
        "A run that was just begun can be exported after its first turn; of a large family take one of the runs that were begun.",
    ),
    entry(
        Code::ConfirmationNeeded,
        "confirmation-needed",
        409,
        "This destroys data and was not confirmed",
        UNTOUCHED,
        "Read what would be lost; repeat with the confirmation that the detail names.",
    ),
    entry(Code::NameTaken, "name-taken", 409, "The name is taken", UNTOUCHED, "Choose another name."),
    entry(
        Code::IdempotencyConflict,
        "idempotency-conflict",
        422,
        "The key belongs to another request",
        "This request changed nothing; the first one with the key counts.",
        "Use a new Idempotency-Key for a new request; repeat the very same request to get its answer.",
    ),
    entry(
        Code::Unauthenticated,
        "unauthenticated",
        401,
        "Nobody knows who asks",
        UNTOUCHED,
        "Set SWITCHBACK_TOKEN, or ask on the server's machine over its socket.",
    ),
    entry(Code::Forbidden, "forbidden", 403, "You may not do this", UNTOUCHED, "Ask somebody whose role allows it, or for a token with that role."),
    entry(
        Code::AgentNotEnrolled,
        "agent-not-enrolled",
        401,
        "This agent is not enrolled here",
        "Nothing was changed; replication between enrolled agents goes on.",
        "Make a token with `switchback agent token --site SITE` and run `switchback-agent enroll`.",
    ),
    entry(
        Code::EnrolmentRefused,
        "enrolment-refused",
        403,
        "The enrolment token does not hold",
        UNTOUCHED,
        "Tokens hold once and for an hour: make a new one with `switchback agent token --site SITE`.",
    ),
    entry(
        Code::UnknownSource,
        "unknown-source",
        404,
        "There is no such source of alerts",
        "Nothing was changed; the delivery was not kept.",
        "See `switchback trigger source list` for the names, and correct the path in the sender's configuration.",
    ),
    entry(
        Code::UnknownPolicy,
        "unknown-policy",
        404,
        "There is no such trigger policy",
        UNTOUCHED,
        "See `switchback trigger list` for the names, or apply one with `switchback trigger apply -f FILE`.",
    ),
    entry(
        Code::UnknownDelivery,
        "unknown-delivery",
        404,
        "There is no such delivery",
        "Nothing was changed; old deliveries are forgotten, what they said of alerts stays.",
        "See `switchback trigger deliveries` for the numbers.",
    ),
    entry(
        Code::SourceConflict,
        "source-conflict",
        409,
        "The source of alerts does not allow this now",
        UNTOUCHED,
        "See `switchback trigger source list` for its secrets and for who listens to it.",
    ),
    entry(
        Code::DeliveryNotBelieved,
        "delivery-not-believed",
        401,
        "The delivery is not believed",
        "No alert was changed; the refusal was noted.",
        "Compare the secret and the clock of the sender with the source's; see `switchback trigger deliveries`.",
    ),
    entry(
        Code::DeliveryTooLarge,
        "delivery-too-large",
        413,
        "The delivery is too large",
        "No alert was changed; the refusal was noted.",
        "Let the sender group its alerts more finely, or limit their number (`max_alerts`).",
    ),
    entry(
        Code::DeliveryUnreadable,
        "delivery-unreadable",
        400,
        "The delivery can't be read",
        "No alert was changed; the refusal was noted.",
        "Compare the sender's version and template with the kind and mapping of the source; see `switchback trigger deliveries`.",
    ),
    entry(
        Code::LeaseGone,
        "lease-gone",
        409,
        "The agent's lease is gone",
        "Results of attempts that others have begun again are not accepted.",
        "Open a new lease; the agent does so by itself.",
    ),
    entry(
        Code::DatabaseUnavailable,
        "database-unavailable",
        503,
        "The database does not answer",
        "Points go on being taken: the agents do not need the database. Runs go on where they were when it is back.",
        "Ask again; if it lasts, look at the database's log.",
    ),
    entry(
        Code::WrongDatabase,
        "wrong-database",
        409,
        "This is not a database for Switchback",
        "Nothing was changed in it.",
        "Name an empty database of Postgres 15 or newer, or leave --database-url away for a private one.",
    ),
    entry(
        Code::NewerDatabase,
        "newer-database",
        409,
        "A newer build has been at this database",
        "Nothing was changed; newer builds go on with it.",
        "Start the newest build that was ever started on it; schemas are not taken back.",
    ),
    entry(
        Code::StoreChecking,
        "store-checking",
        503,
        "The database server was started anew and is being checked",
        "Nothing was changed. Whether it holds all that it had answered for is compared with what workers, servers and agents have seen; points go on being taken.",
        "Ask again in some seconds; `switchback store check` shows who is waited for, at most 20 seconds.",
    ),
    entry(
        Code::Internal,
        "internal",
        500,
        "The server is at fault",
        "What was recorded before is safe.",
        "Ask again; if it lasts, report it with the trace id.",
    ),
];

/// A code without its row, or a row out of order, does not compile. `Internal` stands last.
const _: () = {
    let mut at = 0;
    while at < TABLE.len() {
        assert!(TABLE[at].code as usize == at);
        at += 1;
    }
    assert!(Code::Internal as usize + 1 == TABLE.len());
};

impl Code {
    /// Every code.
    pub const ALL: [Code; TABLE.len()] = {
        let mut all = [Code::InvalidRequest; TABLE.len()];
        let mut at = 0;
        while at < all.len() {
            all[at] = TABLE[at].code;
            at += 1;
        }
        all
    };

    fn entry(self) -> &'static Entry {
        &TABLE[self as usize]
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
        let Entry { word, status, title, data, next, .. } = self.entry();
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
        let Entry { word, status, title, data, next, .. } = code.entry();
        Self {
            kind: format!("/problems/{word}"),
            title: (*title).to_owned(),
            status: *status,
            detail: detail.into(),
            data: (*data).to_owned(),
            next_step: (*next).to_owned(),
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
    fn the_table_is_in_the_order_of_the_codes() {
        for code in Code::ALL {
            assert_eq!(code.entry().code, code);
        }
        assert_eq!(Code::ALL[Code::ALL.len() - 1], Code::Internal);
    }

    #[test]
    fn a_problem_names_its_code() {
        let problem = Problem::new(Code::UnknownItem, "no item is called db9");
        assert_eq!(problem.code(), Some(Code::UnknownItem));
        let text = serde_json::to_string(&problem).unwrap();
        assert_eq!(serde_json::from_str::<Problem>(&text).unwrap(), problem);
    }
}
