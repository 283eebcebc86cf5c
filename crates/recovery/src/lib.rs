//! Disaster recovery as data: what is protected, its recovery points, its states, and the facts that change them.
//!
//! ```text
//!   facts (recorded by workflows) ──apply──▶ ItemRecord { state, policy, chosen point, fence … }
//!                                                 │
//!                              allowed_operations ┴─▶ what may be asked for now
//! ```
//!
//! Invariants: 1. Everything here is a pure function of its arguments; time comes in as a value. 2. An item's record is
//! the fold of its facts and of nothing else, so it can be rebuilt and compared. 3. A state is left only through
//! [`MainState::advance`]; what is not written there does not happen.

mod check;
mod fact;
mod group;
pub mod ids;
mod item;
mod operation;
mod point;
pub mod plan;
pub mod policy;
pub mod readiness;
pub mod profile;
mod seen;
pub mod span;
mod state;
pub mod trigger;
mod way_back;

pub use check::{Check, InvalidCheck};
pub use fact::{Fact, FactRefused, apply, fold};
pub use group::{Apart, Group, GroupRefused, GroupStatus, InvalidGroup, LastMoment, apart, joinable};
pub use ids::{CommandName, Consistency, EffectToken, Generation, GroupName, InvalidId, ItemName, PlanName, PointId, SecretName, SiteName, TestNetwork};
pub use item::{
    ChosenPoint, Contradiction, Disk, Fence, Hold, ItemRecord, ItemState, OldMachine, RequestedPoint, Resync, Side, SourceLeft, TestCopy, TestFailover,
};
pub use operation::{Operation, allowed_operations};
pub use point::{GroupMoment, InvalidChoice, NoPoint, PointChoice, RecoveryPoint, common_points, resolve};
pub use policy::{InvalidPolicy, ReplicationPolicy};
pub use profile::{InvalidProfile, Profile};
pub use seen::{OldMachineSeen, Seen, alarms, contradictions, old_machine};
pub use state::{Direction, FailoverKind, MainState, NotAllowed, Rest, Retreat, Stand, Step};
pub use way_back::{Location, Sync};
