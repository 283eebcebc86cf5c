//! What every provider must do, as cases that run against any of them.
//!
//! ```text
//!   CASES ──run_case──▶ Lab ──▶ source Site, target Site
//!                        └────▶ the world around them: software that writes, power, the line, restarts of agents
//! ```
//!
//! A case is a sentence; it panics where the sentence is not true. Each runs in a lab of its own. A provider that can't do a
//! case yet names it in its tests.

mod commit;
mod fencing;
mod recovery;
mod replication;
mod script;

use std::sync::Arc;

use ::recovery::{ItemName, PointId};
use async_trait::async_trait;

use crate::{Endpoint, Phase, Site};
use script::Script;

/// Two sites, and the world around them. Blocks have 64 KiB; the machine has at least 256 of them on its first disk, and they
/// are zero at first. Waiting is bounded by the lab, which panics when something does not come true.
#[async_trait]
pub trait Lab: Send + Sync {
    /// Where the machine runs at first. Another object after [`Lab::restart_source`].
    fn source(&self) -> Arc<dyn Site>;
    /// Where it is replicated to. Another object after [`Lab::restart_target`].
    fn target(&self) -> Arc<dyn Site>;
    /// The item under test.
    fn item(&self) -> ItemName;
    /// Name of its machine, which runs and starts with its host.
    fn machine(&self) -> String;
    /// Name of another machine at the source, whose disk is not qcow2.
    fn raw_machine(&self) -> String;
    /// Puts the line that the lab can cut between source and `endpoint`.
    fn route(&self, endpoint: Endpoint) -> Endpoint;

    /// Fills a block of the source machine with a byte, as the software in it would.
    async fn write(&self, block: u64, content: u8);
    /// Fills a block of the recovered machine with a byte, as the software in it would.
    async fn write_recovered(&self, block: u64, content: u8);
    /// What byte fills the block in the running recovered machine.
    async fn read_recovered(&self, block: u64) -> u8;

    /// Lets replication go on until the target's newest point holds everything written so far, and returns it.
    async fn point(&self) -> PointId;
    /// Lets replication go on until it is in this phase.
    async fn until_phase(&self, phase: Phase);
    /// Cuts the line in the middle of the next append, and returns when that has happened. The line stays cut.
    async fn cut_line_midway(&self);
    /// Mends the line.
    async fn mend_line(&self);

    /// Ends the source machine without warning.
    async fn power_failure(&self);
    /// Starts the source machine, as a person at its site does.
    async fn power_on(&self);
    /// Ends the source's agent without warning and starts it again.
    async fn restart_source(&self);
    /// Ends the target's agent without warning and starts it again.
    async fn restart_target(&self);
}

macro_rules! cases {
    ($($module:ident :: $name:ident),+ $(,)?) => {
        /// Names of all cases.
        pub const CASES: &[&str] = &[$(stringify!($name)),+];

        /// Runs one case in a fresh lab.
        ///
        /// # Panics
        /// The provider does not do what the case says, or there is no such case.
        pub async fn run_case(name: &str, lab: &dyn Lab) {
            let script = Script::new(lab);
            match name {
                $(stringify!($name) => Box::pin($module::$name(&script)).await,)+
                other => panic!("there is no case {other}"),
            }
        }
    };
}

cases! {
    replication::an_unknown_machine_is_refused,
    replication::a_disk_that_is_not_qcow2_is_refused,
    replication::seeding_makes_a_first_point,
    replication::a_point_holds_what_was_written_before_it_and_nothing_later,
    replication::a_cut_line_leaves_earlier_points_whole_and_no_rest,
    replication::a_seeding_that_was_cut_goes_on,
    replication::a_sealed_replica_takes_no_more_points,
    replication::a_replica_is_not_prepared_for_an_older_generation,
    replication::preparing_again_lets_points_go_on,
    replication::retention_keeps_the_newest_and_the_pinned_points,
    replication::the_source_goes_on_after_a_restart_without_being_told,
    replication::the_target_keeps_its_points_over_a_restart,
    replication::a_power_failure_of_the_machine_loses_no_change,
    replication::a_machine_that_is_off_pauses_its_replication,
    replication::stopping_removes_the_marks_from_the_machine,
    replication::reports_tell_what_has_changed,
    recovery::recovering_twice_makes_one_machine,
    recovery::starting_twice_is_one_start,
    recovery::a_stale_token_is_refused_and_changes_nothing,
    recovery::a_point_that_is_not_there_is_refused,
    recovery::what_was_never_recovered_is_not_started,
    recovery::an_older_generation_is_not_started_beside_a_newer_one,
    recovery::a_started_machine_is_never_replaced_unasked,
    recovery::discarding_leaves_nothing,
    recovery::a_recovered_machine_outlives_the_agents_restart,
    recovery::the_point_stays_as_it_was_when_its_machine_writes,
    fencing::a_fence_proves_that_the_machine_is_off,
    fencing::a_fence_on_an_unknown_machine_is_no_proof,
    fencing::a_machine_that_somebody_starts_again_breaks_the_fence,
    fencing::a_lifted_fence_brings_the_machine_back,
    commit::withdrawn_points_are_offered_never_again,
    commit::points_in_use_are_not_removed,
    commit::a_flattened_machine_needs_no_point,
    commit::the_extent_map_has_newer_points_and_later_writes,
    commit::dropping_a_replica_leaves_nothing,
    commit::a_whole_failover_and_its_commit,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests;
