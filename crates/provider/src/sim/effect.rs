//! One call to a simulated site, and the places where a fault can hit it.
//!
//! ```text
//!   call ─▶ planned fault or hook, Before ─▶ token ─▶ apply ─▶ ledger ─▶ planned fault or hook, After ─▶ answer
//! ```

use std::fmt;

use recovery::{EffectToken, ItemName, SiteName};
use serde::{Deserialize, Serialize};

use crate::ProviderError;

macro_rules! ops {
    ($($name:ident = $text:literal),+ $(,)?) => {
        /// A method of a site's ports.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Op {
            $($name),+
        }

        impl Op {
            /// All of them.
            pub const ALL: &[Op] = &[$(Op::$name),+];

            /// The method's name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Op::$name => $text),+
                }
            }
        }
    };
}

ops! {
    Inspect = "inspect",
    Recover = "recover",
    StartMachine = "start_machine",
    Discard = "discard",
    ObserveMachine = "observe_machine",
    Written = "written",
    RunInGuest = "run_in_guest",
    Retire = "retire",
    Flatten = "flatten",
    Inventory = "inventory",
    Fence = "fence",
    ShutDown = "shut_down",
    ObserveFence = "observe_fence",
    LiftFence = "lift_fence",
    StartSource = "start_source",
    Prepare = "prepare",
    Seal = "seal",
    Replica = "replica",
    Pin = "pin",
    Unpin = "unpin",
    KeepExtentMap = "keep_extent_map",
    WithdrawPoints = "withdraw_points",
    RemovePoints = "remove_points",
    DropReplica = "drop_replica",
    StartReplication = "start_replication",
    StopReplication = "stop_replication",
    FinalSync = "final_sync",
    RequestPoint = "request_point",
    Regroup = "regroup",
    ReplicationStatus = "replication_status",
    RecoverTest = "recover_test",
    StartTest = "start_test",
    CheckTest = "check_test",
    CleanTest = "clean_test",
    ObserveTest = "observe_test",
    RunProgram = "run_program",
    ReachCopy = "reach_copy",
    CarryOut = "carry_out",
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Moment {
    /// Nothing has happened yet.
    Before,
    /// It has happened; the answer is not given yet.
    After,
}

/// A call as a hook sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    pub site: SiteName,
    pub op: Op,
    /// `None` for questions that concern no item.
    pub item: Option<ItemName>,
    /// `None` for questions.
    pub token: Option<EffectToken>,
    pub moment: Moment,
}

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Proceed,
    /// Gives this answer instead; the effect, if it is `After`, stays.
    Fail(ProviderError),
    /// Never answers, as if the caller or the line had died at that moment.
    Hang,
}

/// A fault that was planned for calls to come.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) site: SiteName,
    pub(super) op: Op,
    pub(super) moment: Moment,
    pub(super) verdict: Verdict,
    /// `None` is for ever.
    pub(super) times_left: Option<u32>,
}
