//! What somebody else wants to tell a run: the rows of its inbox. Only the owner of the run turns them into events.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ChildEnd, Grant, Inbound, Outcome, Parent, RunId, Seq};

/// A message to a run. Its key makes it count once, for ever.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum Message {
    /// The first: begin.
    Start {
        /// Registered name of the workflow.
        workflow: String,
        /// Its input.
        input: Value,
        /// What the execution is about; at most one open run has it.
        workflow_id: String,
        /// Who asked for it.
        requested_by: String,
        /// W3C trace parent of the request.
        trace: Option<String>,
        /// The run that asked for it, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<Parent>,
    },
    /// An activity ended.
    Finished {
        /// Its scheduling event.
        of: Seq,
        /// How.
        outcome: Outcome,
    },
    /// A timer is due.
    TimerDue {
        /// Its event.
        of: Seq,
    },
    /// Somebody sent a signal.
    Signal {
        /// Name the workflow waits for.
        name: String,
        /// Makes it count once.
        key: String,
        /// Content.
        body: Value,
        /// Who sent it.
        by: String,
    },
    /// Locks were granted.
    Granted {
        /// The request's event.
        of: Seq,
        /// Epoch per resource.
        grants: Vec<Grant>,
    },
    /// A child was started.
    ChildStarted {
        /// The event that asked for it.
        of: Seq,
    },
    /// A child was not started: an open run is about the same.
    ChildRefused {
        /// The event that asked for it.
        of: Seq,
        /// That run.
        open: RunId,
    },
    /// A child ended.
    ChildClosed {
        /// The event that asked for it.
        of: Seq,
        /// How.
        #[serde(rename = "result")]
        end: ChildEnd,
    },
    /// Somebody wants the run to stop.
    Cancel {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
}

impl Message {
    /// The key under which the message counts once in its run.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Start { .. } => "start".into(),
            Self::Finished { of, .. } => format!("task:{of}"),
            Self::TimerDue { of } => format!("timer:{of}"),
            Self::Signal { name, key, .. } => format!("signal:{name}:{key}"),
            Self::Granted { of, .. } => format!("lock:{of}"),
            Self::ChildStarted { of } | Self::ChildRefused { of, .. } => format!("child:{of}"),
            Self::ChildClosed { of, .. } => format!("child-end:{of}"),
            Self::Cancel { .. } => "cancel".into(),
        }
    }

    /// The event that its owner records for it.
    #[must_use]
    pub fn into_inbound(self) -> Inbound {
        match self {
            Self::Start { workflow, input, workflow_id, requested_by, trace, parent } => {
                Inbound::RunStarted { workflow, input, workflow_id, requested_by, trace, parent }
            }
            Self::Finished { of, outcome } => Inbound::ActivityFinished { of, outcome },
            Self::TimerDue { of } => Inbound::TimerFired { of },
            Self::Signal { name, key, body, by } => Inbound::SignalReceived { name, key, body, by },
            Self::Granted { of, grants } => Inbound::LocksGranted { of, grants },
            Self::ChildStarted { of } => Inbound::ChildStarted { of },
            Self::ChildRefused { of, open } => Inbound::ChildRefused { of, open },
            Self::ChildClosed { of, end } => Inbound::ChildClosed { of, end },
            Self::Cancel { by, reason } => Inbound::CancelRequested { by, reason },
        }
    }
}
