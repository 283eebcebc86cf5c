//! What is recorded: inbound events (something happened) and commands (what the workflow wants next).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{ActivityOptions, Effect, Failure, RunId, Scope, Seq, TaskQueue, WorkerId};

/// One line of a history, with who wrote it under which epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Version of this format.
    pub v: u8,
    /// Position.
    pub seq: Seq,
    /// When it was recorded, by the store's clock.
    pub at: DateTime<Utc>,
    /// The worker that wrote it.
    pub worker: WorkerId,
    /// Under this lease epoch.
    pub lease_epoch: i64,
    /// As this claim of the run.
    pub run_epoch: i64,
    /// The turn it belongs to.
    pub turn: Uuid,
    /// Key of the message it consumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub msg_key: Option<String>,
    /// What.
    pub body: EventBody,
}

/// An event is one or the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventBody {
    /// Something happened.
    Inbound(Inbound),
    /// The workflow wants something.
    Command(Command),
}

/// A lock as it was granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What is locked.
    pub resource: String,
    /// Grows with each grant of this resource.
    pub epoch: i64,
    /// Life of the database in which it was granted.
    pub era: i64,
}

/// How an activity ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// With its result.
    Completed {
        /// Typed by the declaration.
        output: Value,
    },
    /// For good: fatal, or no attempt left.
    Failed {
        /// The last failure.
        failure: Failure,
        /// Attempts that were made.
        attempts: i32,
    },
    /// A time limit ran out.
    TimedOut {
        /// Which.
        kind: crate::TimeoutKind,
        /// Attempts that were made.
        attempts: i32,
    },
    /// It was cancelled before it began.
    Cancelled,
    /// It may have happened, and neither a repetition nor a probe is allowed to or able to find out.
    Unknown {
        /// What is known.
        failure: Failure,
        /// Attempts that were made.
        attempts: i32,
    },
}

/// Which run asked for this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The run.
    pub run: RunId,
    /// Its event that asked.
    pub seq: Seq,
}

/// What becomes of a child that is open when its parent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosePolicy {
    /// It is asked to stop and to put back what it did.
    Cancel,
    /// It goes on.
    Leave,
}

/// A relative of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Kin {
    /// The run that asked for this one.
    Parent,
    /// A run that this one asked for.
    Child {
        /// The event that asked for it.
        of: Seq,
    },
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum ChildEnd {
    /// Well.
    Completed {
        /// Typed by its workflow.
        output: Value,
    },
    /// Badly.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// On request.
    Cancelled {
        /// What was left behind, if a compensation failed.
        failure: Failure,
    },
}

/// Something that happened to the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields are those of the message of the same name")]
pub enum Inbound {
    RunStarted {
        workflow: String,
        input: Value,
        workflow_id: String,
        requested_by: String,
        trace: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<Parent>,
    },
    ActivityFinished { of: Seq, #[serde(rename = "result")] outcome: Outcome },
    TimerFired { of: Seq },
    SignalReceived { name: String, key: String, body: Value, by: String },
    LocksGranted { of: Seq, grants: Vec<Grant> },
    ChildStarted { of: Seq },
    ChildRefused { of: Seq, open: RunId },
    ChildClosed { of: Seq, #[serde(rename = "result")] end: ChildEnd },
    CancelRequested { by: String, reason: String },
}

/// Something that the workflow wants, in the order in which it asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Command {
    /// Carry out an activity.
    ActivityScheduled {
        /// Declared name.
        activity: String,
        /// Where it waits.
        queue: TaskQueue,
        /// Its input.
        input: Value,
        /// Retries and limits.
        options: ActivityOptions,
        /// What repetition means.
        effect: Effect,
        /// What it may touch.
        scope: Scope,
        /// Lock under which it happens.
        grant: Option<Grant>,
        /// Whether it undoes an earlier step.
        compensation: bool,
    },
    /// Don't begin this activity if nobody has; tell its attempt to stop if somebody has.
    ActivityCancelRequested {
        /// Its scheduling event.
        of: Seq,
    },
    /// Wake me.
    TimerStarted {
        /// When.
        due_at: DateTime<Utc>,
        /// What it limits, for people.
        label: String,
    },
    /// No longer needed.
    TimerCancelled {
        /// Its event.
        of: Seq,
    },
    /// Lock all of these, sorted, at once.
    LocksRequested {
        /// Names.
        resources: Vec<String>,
    },
    /// The locks of that request are free again.
    LocksReleased {
        /// The request's event.
        of: Seq,
    },
    /// Start another execution, unless an open run is about the same.
    ChildRequested {
        /// Its id, which follows from ours.
        child: RunId,
        /// Registered name of its workflow.
        workflow: String,
        /// What it is about; at most one open run has it.
        workflow_id: String,
        /// Its input.
        input: Value,
        /// What becomes of it when we end.
        close: ClosePolicy,
    },
    /// Ask that child to stop.
    ChildCancelRequested {
        /// The event that asked for it.
        of: Seq,
        /// Why.
        reason: String,
    },
    /// Tell a relative something, which it hears as a signal, once; one that has ended hears nothing.
    SignalSent {
        /// Whom.
        to: Kin,
        /// Name that it waits for.
        name: String,
        /// Content.
        body: Value,
    },
    /// A fact for the caller's projection, opaque to the engine.
    Recorded {
        /// Name of the projection.
        projection: String,
        /// The fact.
        fact: Value,
    },
    /// From here on the run can't be cancelled.
    PointOfNoReturn {
        /// Why.
        reason: String,
    },
    /// A request to cancel came too late.
    CancelRefused {
        /// Why.
        reason: String,
    },
    /// The end, well.
    RunCompleted {
        /// Its result.
        output: Value,
    },
    /// The end, badly.
    RunFailed {
        /// Why.
        failure: Failure,
    },
    /// The end, on request; compensations have run.
    RunCancelled {
        /// What was left behind, if a compensation failed.
        failure: Failure,
    },
}

impl EventBody {
    /// Name of the kind, as shown to people and stored beside the body.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Inbound(inbound) => inbound.kind(),
            Self::Command(command) => command.kind(),
        }
    }
}

impl Inbound {
    /// Name of the kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RunStarted { .. } => "run_started",
            Self::ActivityFinished { .. } => "activity_finished",
            Self::TimerFired { .. } => "timer_fired",
            Self::SignalReceived { .. } => "signal_received",
            Self::LocksGranted { .. } => "locks_granted",
            Self::ChildStarted { .. } => "child_started",
            Self::ChildRefused { .. } => "child_refused",
            Self::ChildClosed { .. } => "child_closed",
            Self::CancelRequested { .. } => "cancel_requested",
        }
    }
}

impl Command {
    /// Name of the kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ActivityScheduled { .. } => "activity_scheduled",
            Self::ActivityCancelRequested { .. } => "activity_cancel_requested",
            Self::TimerStarted { .. } => "timer_started",
            Self::TimerCancelled { .. } => "timer_cancelled",
            Self::LocksRequested { .. } => "locks_requested",
            Self::LocksReleased { .. } => "locks_released",
            Self::ChildRequested { .. } => "child_requested",
            Self::ChildCancelRequested { .. } => "child_cancel_requested",
            Self::SignalSent { .. } => "signal_sent",
            Self::Recorded { .. } => "recorded",
            Self::PointOfNoReturn { .. } => "point_of_no_return",
            Self::CancelRefused { .. } => "cancel_refused",
            Self::RunCompleted { .. } => "run_completed",
            Self::RunFailed { .. } => "run_failed",
            Self::RunCancelled { .. } => "run_cancelled",
        }
    }

    /// Whether the run ends with it.
    #[must_use]
    pub fn closes(&self) -> bool {
        matches!(self, Self::RunCompleted { .. } | Self::RunFailed { .. } | Self::RunCancelled { .. })
    }
}
