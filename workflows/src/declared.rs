//! Activities that workflows ask for. Each is carried out at a site, by its agent, but for `LoadItem`.
//!
//! A site's typed error is always [`SiteError`]; what may pass is retried by the engine and never seen here.

mod actions;
mod machines;
mod plans;
mod replicas;
mod test_copies;
mod triggers;

use recovery::{Generation, PointId, ItemName, ItemRecord};
use sdk::{Activity, ActivityOptions, AppError, Effect, Retry, Scope, Timeouts};
use serde::{Deserialize, Serialize};

pub use actions::{ActionResult, CarryOut, CarryOutOnce, MOST_OUTPUT};
pub use machines::{
    CheckMachine, DiscardMachine, FenceMachine, Fenced, FlattenMachine, InspectMachine, Inspected, LiftFence, LookAtMachines, Looked, MeasureWrites, RecoverMachine,
    Recovered, RetireMachine, Served, ShutDownMachine, StartMachine, StartSource, StartedMachine, Written,
};
pub use plans::{DropDeadline, MakeWay, SetDeadline, Way};
pub use replicas::{
    ApplyPolicy, AwaitFirstPoint, AwaitPoint, Base, DropReplica, Endpoint, ExtentMap, FinalSync, KeepExtentMap, ListPoints, Opened, PinPoint, PrepareReplica, RegroupReplication, RemovePoints,
    ReopenReplica, RequestPoint, SealReplica, Sealed,
    StartReplication, StopReplication, UnpinPoint, WithdrawPoints,
};
pub use test_copies::{CheckTest, CleanTest, RecoverTest, StartTest, StartedTest, TakeInventory, TakenInventory, TestObject};
pub use triggers::{LoadEvidence, Look};

/// Why a site will not do it, however often it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteError {
    /// Stable code, kebab-case.
    pub code: String,
    /// What was attempted on what, and what stands in the way.
    pub message: String,
    /// What to do next.
    pub advice: String,
    /// The machine that stands in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
}

/// A machine that a failover has started at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Of that failover.
    pub generation: Generation,
    /// What it was started from.
    pub point: PointId,
}

impl std::fmt::Display for SiteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.message, self.advice)
    }
}

impl AppError for SiteError {
    fn code(&self) -> String {
        self.code.clone()
    }
    fn fatal(&self) -> bool {
        true
    }
}

/// Reads an item's record as projected so far. Carried out beside the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoadItem {
    /// Which.
    pub item: ItemName,
}

impl Activity for LoadItem {
    const NAME: &'static str = "load-item";
    const EFFECT: Effect = Effect::Idempotent;
    const SCOPE: Scope = Scope::Read;
    type Output = Option<ItemRecord>;
    type Error = SiteError;
    fn options() -> ActivityOptions {
        READ
    }
}

/// For reading beside the store: as long as it takes.
pub(crate) const READ: ActivityOptions = ActivityOptions {
    retry: Retry { max_attempts: 1_000, first_ms: 200, factor: 1.5, max_ms: 5_000 },
    timeouts: Timeouts { queue_ms: None, start_to_close_ms: 10_000, total_ms: None, heartbeat_ms: None },
};

/// Some ten seconds: what is restarted is there again, and a hypervisor that does not answer is taken for dead.
pub(crate) const FEW: Retry = Retry { max_attempts: 6, first_ms: 300, factor: 2.0, max_ms: 10_000 };

/// For quick calls to a hypervisor: several attempts, a minute each.
pub(crate) const CALL: ActivityOptions = ActivityOptions {
    retry: FEW,
    timeouts: Timeouts { queue_ms: None, start_to_close_ms: 60_000, total_ms: None, heartbeat_ms: Some(15_000) },
};

/// For undoing: it must come through, so it is tried for an hour; a person sees it waiting.
pub(crate) const UNDO: ActivityOptions = ActivityOptions {
    retry: Retry { max_attempts: 120, first_ms: 300, factor: 2.0, max_ms: 30_000 },
    timeouts: Timeouts { queue_ms: None, start_to_close_ms: 60_000, total_ms: Some(3_600_000), heartbeat_ms: Some(15_000) },
};

/// For waiting by asking again and again: each question is short, and a "not yet" is a failure that may pass. Where a limit of time
/// stands as well, the questions end a little before it: then the last answer is told, not that time was up.
pub(crate) const fn asking(every_ms: u64, times: i32) -> ActivityOptions {
    ActivityOptions {
        retry: Retry { max_attempts: times, first_ms: every_ms, factor: 1.0, max_ms: every_ms },
        timeouts: Timeouts { queue_ms: None, start_to_close_ms: 30_000, total_ms: None, heartbeat_ms: Some(15_000) },
    }
}

/// For one long wait at a hypervisor: as long as it lives, but who does not answer at all is not asked for long.
pub(crate) const LONG: ActivityOptions = ActivityOptions { retry: FEW, ..COPY };

/// For copying: as long as it moves.
pub(crate) const COPY: ActivityOptions = ActivityOptions {
    retry: Retry { max_attempts: 50, first_ms: 1_000, factor: 2.0, max_ms: 60_000 },
    timeouts: Timeouts { queue_ms: None, start_to_close_ms: 86_400_000, total_ms: None, heartbeat_ms: Some(30_000) },
};

macro_rules! declare {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident : $type:ty),* $(,)? } is $word:literal, $effect:ident, $scope:ident, $options:expr => $output:ty) => {
        $(#[$doc])*
        #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type),* }

        impl sdk::Activity for $name {
            const NAME: &'static str = $word;
            const EFFECT: sdk::Effect = sdk::Effect::$effect;
            const SCOPE: sdk::Scope = sdk::Scope::$scope;
            type Output = $output;
            type Error = $crate::declared::SiteError;
            fn options() -> sdk::ActivityOptions {
                $options
            }
        }
    };
}
pub(crate) use declare;
