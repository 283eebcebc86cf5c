//! The product's workflows and the activities that they declare.
//!
//!   protect ─▶ failover | planned failover ─▶ commit ─▶ reprotect ─▶ failback ─▶ commit ─▶ reprotect        unprotect
//!                  └▶ change point, undo             beside them: test failover, clean-up; drill (both)
//!                                              resync, change policy, hold and release a point, resolve, forget; give back
//!   plan: any of these with many items, in order       change group: regroup of each of its items
//!
//! Invariants: 1. Nothing here knows a platform, a store or a clock. 2. A workflow changes the item's record only by facts,
//! recorded in the transaction of the events that cause them. 3. The machine of an item is powered on with its network only
//! after its source is fenced, or after a named person accepted that it is not.

mod action;
mod back;
pub mod change_group;
mod change_policy;
pub mod change_point;
pub mod clean_test;
pub mod commit;
pub mod declared;
mod drill;
mod discarded;
pub mod failover;
mod forget;
mod give_back;
mod hold;
mod last_changes;
mod old_machine;
mod older_point;
mod part;
pub mod plan;
pub mod planned;
mod promote;
mod regroup;
pub mod protect;
pub mod reprotect;
mod resolve;
mod resync;
pub mod test_failover;
mod tracked;
pub mod trigger;
pub mod undo;
mod undone;
pub mod unprotect;

pub use action::{ActionOrder, carry_out};
pub use change_group::{ChangeGroup, ChangeGroupInput, GroupChanged, group_workflow_id};
pub use change_point::{ChangePoint, ChangePointInput};
pub use change_policy::{ChangePolicy, ChangePolicyInput, PolicyChanged};
pub use clean_test::{CleanTestFailover, CleanTestInput, Cleaned};
pub use commit::{Commit, CommitInput, Committed};
pub use drill::{Drill, DrillInput, Drilled, drill_workflow_id};
pub use failover::{Acceptance, Failover, FailoverInput};
pub use plan::{
    PLAN_PROJECTION, Plan, PlanEnded, PlanFact, PlanGroup, PlanInput, PlanNote, PlanOptions, Question, Reply, answer_signal, makes_way, plan_workflow_id,
};
pub use forget::{Forget, ForgetInput, Forgotten};
pub use give_back::{GiveBack, GiveBackInput, GivenBack};
pub use hold::{HeldPoint, Hold, HoldInput, Release, ReleaseInput};
pub use part::{Part, Prepared, ToChooseFrom};
pub use planned::{Failback, PlannedFailover, PlannedInput};
pub use promote::FailedOver;
pub use protect::{Protect, ProtectInput, Protected};
pub use regroup::{Regroup, RegroupInput, Regrouped};
pub use reprotect::{Reprotect, ReprotectInput, Reprotected};
pub use resolve::{Decision, Resolve, ResolveInput, Resolved};
pub use resync::{Resync, ResyncInput, Resynced};
pub use test_failover::{Stage, TestFailover, TestFailoverInput, Tested};
pub use tracked::{ITEM_PROJECTION, ItemChange, item_workflow_id, site_queue};
pub use trigger::{Ballot, Evaluated, Note, TRIGGER_PROJECTION, Trigger, TriggerInput, TriggerNote, trigger_workflow_id};
pub use undo::{Undo, UndoInput, Undone};
pub use unprotect::{LeftGroup, Unprotect, UnprotectInput, Unprotected};

/// Name of the code that decides, by itself and not by its version: two builds that differ in it may take the same run to different ends.
pub const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), "+", env!("SWITCHBACK_DECIDES"));

/// All workflows of the product.
#[must_use]
pub fn registry() -> sdk::Registry {
    sdk::Registry::of_build(BUILD)
        .with::<Protect>()
        .with::<Failover>()
        .with::<PlannedFailover>()
        .with::<ChangePoint>()
        .with::<Undo>()
        .with::<GiveBack>()
        .with::<Commit>()
        .with::<Reprotect>()
        .with::<Failback>()
        .with::<TestFailover>()
        .with::<CleanTestFailover>()
        .with::<Drill>()
        .with::<Unprotect>()
        .with::<Hold>()
        .with::<Release>()
        .with::<Resync>()
        .with::<ChangePolicy>()
        .with::<Resolve>()
        .with::<Trigger>()
        .with::<Plan>()
        .with::<PlanGroup>()
        .with::<ChangeGroup>()
        .with::<Regroup>()
        .with::<Forget>()
}
