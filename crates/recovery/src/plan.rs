//! Recovery plans: which machines are recovered together, in which order, with what done before and after.
//!
//!   YAML ─▶ Plan (checked) ─▶ stages of a work ─▶ a run carries them out          ─▶ timeline ─▶ forecast of its own durations
//!                                    └─▶ forecast: when each step would begin and end, and which of them matter
//!
//! Invariant: everything here is a function of the plan and of what it is given.

pub mod action;
mod asks;
mod changes;
mod extra;
mod fit;
mod forecast;
mod mode;
mod outline;
mod reading;
mod schema;
mod spec;
mod steps;
#[cfg(test)]
mod tests;
mod timeline;
mod together;
mod warnings;

pub use asks::{Asks, LeftOut, NOT_IN_A_TEST};
pub use changes::{Change, changes};
pub use extra::Extra;
pub use fit::{Fit, fit, hindrances, undone};
pub use forecast::{Forecast, Timed, forecast};
pub use mode::{InvalidMode, Mode, OnError};
pub use outline::{GroupOutline, Outline};
pub use reading::{InvalidPlan, MOST_GROUPS, MOST_ITEMS_OF_GROUP, MOST_TEXT};
pub use schema::schema;
pub use spec::{Action, Approval, At, CommitPolicy, Does, Group, Manual, Member, Order, Plan, Silence, Then, people};
pub use steps::{InvalidWork, Lane, Stage, Step, StepKind, Unit, Work, action_key, member_key, place};
pub use together::{NotTogether, together};
pub use timeline::{StepRun, StepState, Timeline};
