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
mod copies;
mod fencing;
mod groups;
mod planned;
mod recovery;
mod replication;
mod returning;
mod script;
mod turning;

use std::sync::Arc;

use ::recovery::{ItemName, PointId};
use async_trait::async_trait;

use crate::{Endpoint, Phase, Site};
use script::Script;

/// One of a lab's sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Where the machine runs at first.
    First,
    /// Where it is replicated to at first.
    Second,
}

impl End {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            End::First => End::Second,
            End::Second => End::First,
        }
    }
}

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
    /// Name of a second machine at the source, of the same kind as the first and running; made when it is first asked for.
    async fn second_machine(&self) -> String;
    /// Puts the line that the lab can cut between the first site and `endpoint`, which is the second's.
    fn route(&self, endpoint: Endpoint) -> Endpoint;

    /// Fills a block of a machine that runs at one of the sites with a byte, as the software in it would.
    async fn write_in(&self, end: End, machine: &str, block: u64, content: u8);
    /// What byte fills the block in a machine that runs at one of the sites.
    async fn read_in(&self, end: End, machine: &str, block: u64) -> u8;
    /// Something that is another text when a byte of the disk is another that the machine had at first, wherever it is kept.
    /// Asked only while no machine writes it.
    async fn first_disk(&self) -> String;

    /// Lets replication from there go on until the other site's newest point holds everything written so far, and returns it.
    async fn point_from(&self, end: End) -> PointId;
    /// Lets replication from the first site go on until all targets have acknowledged another common moment of a group, which an item
    /// is in. Returns its name.
    async fn moment(&self, item: &ItemName) -> String;
    /// Lets replication from the first site go on until an item's group has come to no common moment, for a reason in
    /// which these words are. Returns it.
    async fn no_moment(&self, item: &ItemName, words: &[&str]) -> String;
    /// Lets replication from there go on until it is in this phase.
    async fn until_phase_at(&self, end: End, phase: Phase);
    /// Cuts the line in the middle of the next append, and returns when that has happened. The line stays cut.
    async fn cut_line_midway(&self);
    /// Cuts the line.
    async fn cut_line(&self);
    /// Mends the line.
    async fn mend_line(&self);

    /// Ends the item's machine at a site without warning.
    async fn power_failure_at(&self, end: End);
    /// Ends the second machine without warning, or starts it as a person does.
    async fn power_second(&self, on: bool);
    /// Starts the item's machine at a site, as a person there does.
    async fn power_on_at(&self, end: End);
    /// Ends the item's machine at a site as its own guest does when somebody in it asks for that.
    async fn shut_down_from_within(&self, end: End);
    /// Whether the guest of the item's machine goes down when it is asked to from without.
    async fn heed_shut_down(&self, end: End, heeds: bool);
    /// Makes the guest of the source machine refuse to freeze its file systems.
    async fn refuse_freeze(&self);
    /// Connects something else to an isolated network of copies at the second site, or takes it away.
    async fn stranger_on(&self, network: &str, there: bool);
    /// Ends the source's agent without warning and starts it again.
    async fn restart_source(&self);
    /// Ends the target's agent without warning and starts it again.
    async fn restart_target(&self);

    /// One of both sites.
    fn site(&self, end: End) -> Arc<dyn Site> {
        match end {
            End::First => self.source(),
            End::Second => self.target(),
        }
    }

    /// As [`Lab::write_in`], in the machine that the item had at first.
    async fn write(&self, block: u64, content: u8) {
        self.write_in(End::First, &self.machine(), block, content).await;
    }

    /// As [`Lab::write_in`], in the recovered machine.
    async fn write_recovered(&self, block: u64, content: u8) {
        self.write_in(End::Second, &self.machine(), block, content).await;
    }

    /// As [`Lab::read_in`], in the recovered machine.
    async fn read_recovered(&self, block: u64) -> u8 {
        self.read_in(End::Second, &self.machine(), block).await
    }

    /// As [`Lab::point_from`], from where the machine runs at first.
    async fn point(&self) -> PointId {
        self.point_from(End::First).await
    }

    /// As [`Lab::until_phase_at`], where the machine runs at first.
    async fn until_phase(&self, phase: Phase) {
        self.until_phase_at(End::First, phase).await;
    }

    /// As [`Lab::power_failure_at`], where the machine runs at first.
    async fn power_failure(&self) {
        self.power_failure_at(End::First).await;
    }

    /// As [`Lab::power_on_at`], where the machine runs at first.
    async fn power_on(&self) {
        self.power_on_at(End::First).await;
    }
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
    replication::a_point_that_is_asked_for_is_begun_at_once,
    replication::nobody_is_asked_for_a_point_of_an_item_that_is_not_replicated,
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
    commit::a_machine_that_lost_power_is_committed_all_the_same,
    commit::points_go_on_from_their_number_after_a_commit,
    commit::written_counts_what_a_discard_would_lose,
    replication::an_app_consistent_point_is_taken_when_it_is_due,
    replication::a_guest_that_can_not_be_frozen_gives_points_all_the_same_and_says_why,
    fencing::a_source_that_was_cut_off_is_quarantined,
    fencing::a_superseded_source_is_quarantined_once_the_machine_starts,
    planned::a_guest_that_shuts_down_is_fenced_and_its_replication_stays,
    planned::a_guest_that_ignores_shutdown_goes_on_running,
    planned::a_machine_that_runs_gets_no_final_sync,
    planned::a_final_sync_holds_everything_and_ends_the_loop,
    planned::a_final_sync_with_nothing_to_send_makes_a_point_all_the_same,
    planned::an_item_that_is_not_replicated_has_no_final_sync,
    planned::a_final_sync_without_a_line_says_so_and_is_repeated,
    planned::replication_goes_on_when_a_planned_failover_is_given_up,
    planned::a_stale_token_stops_no_machine_and_syncs_nothing,
    returning::a_round_trip_by_planned_failovers_gives_the_same_disk,
    returning::a_second_round_trip_gives_the_same_disk,
    returning::a_round_trip_after_power_failures_gives_the_same_disk,
    returning::what_the_old_machine_wrote_after_its_last_point_is_put_right,
    returning::a_return_sends_only_what_differs,
    returning::a_quarantined_machine_becomes_a_base,
    returning::a_failback_that_is_undone_lets_the_item_run_away_from_home,
    turning::the_old_disks_stay_as_they_are_while_they_are_a_base,
    turning::dropping_the_replica_gives_the_old_machine_back_off,
    turning::a_machine_that_somebody_starts_again_is_no_base,
    turning::where_there_is_no_old_machine_there_is_no_base,
    turning::preparing_twice_takes_the_old_machine_once,
    turning::a_retired_machine_keeps_its_disks_and_is_a_base,
    turning::a_machine_that_runs_is_not_retired,
    turning::a_retired_machine_is_fenced_and_is_not_discarded,
    turning::dropping_the_replica_removes_a_base_that_a_recovery_had_made,
    turning::dropping_a_replica_that_got_no_point_gives_back_what_a_recovery_had_made,
    copies::a_copy_beside_replication_leaves_production_alone,
    copies::a_copy_is_cleaned_from_any_half_made_state,
    copies::a_second_copy_waits_until_the_first_is_cleaned,
    copies::starting_a_copy_twice_is_one_start,
    copies::points_beneath_a_copy_are_not_pruned,
    copies::points_that_a_copy_reads_are_not_dropped,
    copies::a_real_failover_goes_on_beside_a_copy,
    copies::a_stale_token_makes_and_removes_no_copy,
    copies::copies_of_a_plan_share_a_network_that_goes_with_the_last_of_them,
    copies::a_stranger_on_a_shared_network_keeps_the_next_copy_off,
    groups::members_of_a_group_share_moments_and_take_points_of_their_own,
    groups::a_member_that_is_off_holds_nobody,
    groups::moments_are_never_named_twice_and_go_on_after_a_restart,
    groups::where_one_guest_can_not_be_frozen_the_moment_is_crash_consistent_everywhere,
    groups::all_guests_that_are_frozen_make_an_app_consistent_moment,
    groups::what_is_kept_of_a_moment_is_kept_of_it_everywhere,
    groups::a_member_that_has_left_holds_nobody_and_the_rest_is_told,
    groups::an_item_that_is_not_replicated_joins_no_group,
    groups::a_stale_token_regroups_nothing,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests;
