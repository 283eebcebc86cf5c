//! Where a plan waits for people, and which of its steps a test leaves out.
//!
//! Invariant: both follow from the plan alone, so that a forecast, a run and whoever looks at it mean the same.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    spec::{Action, Does, Plan},
    steps::{Stage, Step, Work},
};

/// What a step asks people. How long they take is nobody's to predict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asks {
    /// To agree.
    Approval {
        /// In which roles.
        of: BTreeSet<String>,
    },
    /// To do something by hand.
    Manual {
        /// In which roles; everybody who may operate, if none is named.
        of: BTreeSet<String>,
    },
}

impl Asks {
    /// What an action asks people; nothing if an agent carries it out.
    #[must_use]
    pub fn of(action: &Action) -> Option<Self> {
        match action.does() {
            Ok(Does::Approval(approval)) => Some(Asks::Approval { of: approval.of }),
            Ok(Does::Manual(manual)) => Some(Asks::Manual { of: manual.of }),
            Ok(Does::Performed(_)) | Err(_) => None,
        }
    }

    /// The roles that are asked.
    #[must_use]
    pub fn roles(&self) -> &BTreeSet<String> {
        match self {
            Asks::Approval { of } | Asks::Manual { of } => of,
        }
    }

    /// Those that wait for people, counted: `2 approvals and 1 manual step`; nothing if there is none.
    #[must_use]
    pub fn counted<'a>(all: impl IntoIterator<Item = &'a Asks>) -> Option<String> {
        let (mut approvals, mut manual) = (0, 0);
        for asks in all {
            match asks {
                Asks::Approval { .. } => approvals += 1,
                Asks::Manual { .. } => manual += 1,
            }
        }
        let words = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        match (approvals, manual) {
            (0, 0) => None,
            (approvals, 0) => Some(words(approvals, "approval")),
            (0, manual) => Some(words(manual, "manual step")),
            (approvals, manual) => Some(format!("{} and {}", words(approvals, "approval"), words(manual, "manual step"))),
        }
    }
}

/// A step of a failover that a test of it leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Which.
    pub step: Step,
    /// The key of the test's step before which it would come; nothing if it would come last.
    pub before: Option<String>,
}

/// Why a test leaves a step out, in words.
pub const NOT_IN_A_TEST: &str = "not in a test";

impl Plan {
    /// What a failover does that a test of it leaves out, in order; nothing for other works.
    #[must_use]
    pub fn left_out(&self, work: Work) -> Vec<LeftOut> {
        if work != Work::Test {
            return vec![];
        }
        let (tested, real) = (self.stages(Work::Test), self.stages(Work::Unplanned));
        let kept: BTreeSet<&str> = tested.iter().flat_map(Stage::steps).map(|step| step.key.as_str()).collect();
        let mut before = None;
        let mut found = vec![];
        for step in real.iter().flat_map(Stage::steps).collect::<Vec<_>>().into_iter().rev() {
            if kept.contains(step.key.as_str()) {
                before = Some(step.key.clone());
            } else {
                found.push(LeftOut { step: step.clone(), before: before.clone() });
            }
        }
        found.reverse();
        found
    }
}
