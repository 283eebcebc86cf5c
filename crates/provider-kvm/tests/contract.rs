//! The provider contract on real libvirt and QEMU: every case of `provider::contract`, in a lab of two sites.
//!
//! The machines have no operating system: their disks are written and read through QEMU's own device, as a guest's driver
//! would, so a case takes seconds.

mod lab;

use lab::{KvmLab, enter_network_of, requirements};
use provider::contract::{CASES, run_case};

/// Cases that this provider can't do yet, with the reason.
const NOT_YET: &[(&str, &str)] = &[
    ("an_app_consistent_point_is_taken_when_it_is_due", "these machines have no guest to freeze; `gentle` has one"),
    ("all_guests_that_are_frozen_make_an_app_consistent_moment", "these machines have no guest to freeze; `groups` has four"),
];

fn run(case: &str) {
    let Some(sites) = requirements(case) else { return };
    enter_network_of(&sites.b);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts");
    let lab = KvmLab::new(sites, case);
    runtime.block_on(run_case(case, &lab));
}

macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )+

        #[test]
        fn no_case_of_the_contract_is_left_out() {
            let mut here = vec![$(stringify!($name)),+];
            here.extend(NOT_YET.iter().map(|(name, _reason)| *name));
            here.sort_unstable();
            let mut all = CASES.to_vec();
            all.sort_unstable();
            assert_eq!(here, all);
        }
    };
}

cases! {
    an_unknown_machine_is_refused,
    a_disk_that_is_not_qcow2_is_refused,
    seeding_makes_a_first_point,
    a_point_holds_what_was_written_before_it_and_nothing_later,
    a_point_that_is_asked_for_is_begun_at_once,
    nobody_is_asked_for_a_point_of_an_item_that_is_not_replicated,
    a_cut_line_leaves_earlier_points_whole_and_no_rest,
    a_seeding_that_was_cut_goes_on,
    a_sealed_replica_takes_no_more_points,
    a_replica_is_not_prepared_for_an_older_generation,
    preparing_again_lets_points_go_on,
    retention_keeps_the_newest_and_the_pinned_points,
    the_source_goes_on_after_a_restart_without_being_told,
    the_target_keeps_its_points_over_a_restart,
    a_power_failure_of_the_machine_loses_no_change,
    a_machine_that_is_off_pauses_its_replication,
    stopping_removes_the_marks_from_the_machine,
    reports_tell_what_has_changed,
    recovering_twice_makes_one_machine,
    starting_twice_is_one_start,
    a_stale_token_is_refused_and_changes_nothing,
    a_point_that_is_not_there_is_refused,
    what_was_never_recovered_is_not_started,
    an_older_generation_is_not_started_beside_a_newer_one,
    a_started_machine_is_never_replaced_unasked,
    discarding_leaves_nothing,
    a_recovered_machine_outlives_the_agents_restart,
    the_point_stays_as_it_was_when_its_machine_writes,
    a_fence_proves_that_the_machine_is_off,
    a_fence_on_an_unknown_machine_is_no_proof,
    a_machine_that_somebody_starts_again_breaks_the_fence,
    a_lifted_fence_brings_the_machine_back,
    withdrawn_points_are_offered_never_again,
    points_in_use_are_not_removed,
    a_flattened_machine_needs_no_point,
    the_extent_map_has_newer_points_and_later_writes,
    dropping_a_replica_leaves_nothing,
    a_whole_failover_and_its_commit,
    a_machine_that_lost_power_is_committed_all_the_same,
    points_go_on_from_their_number_after_a_commit,
    written_counts_what_a_discard_would_lose,
    a_guest_that_can_not_be_frozen_gives_points_all_the_same_and_says_why,
    a_source_that_was_cut_off_is_quarantined,
    a_superseded_source_is_quarantined_once_the_machine_starts,
    a_guest_that_shuts_down_is_fenced_and_its_replication_stays,
    a_guest_that_ignores_shutdown_goes_on_running,
    a_machine_that_runs_gets_no_final_sync,
    a_final_sync_holds_everything_and_ends_the_loop,
    a_final_sync_with_nothing_to_send_makes_a_point_all_the_same,
    an_item_that_is_not_replicated_has_no_final_sync,
    a_final_sync_without_a_line_says_so_and_is_repeated,
    replication_goes_on_when_a_planned_failover_is_given_up,
    a_stale_token_stops_no_machine_and_syncs_nothing,
    a_round_trip_by_planned_failovers_gives_the_same_disk,
    a_second_round_trip_gives_the_same_disk,
    a_round_trip_after_power_failures_gives_the_same_disk,
    what_the_old_machine_wrote_after_its_last_point_is_put_right,
    a_return_sends_only_what_differs,
    a_quarantined_machine_becomes_a_base,
    a_failback_that_is_undone_lets_the_item_run_away_from_home,
    the_old_disks_stay_as_they_are_while_they_are_a_base,
    dropping_the_replica_gives_the_old_machine_back_off,
    a_machine_that_somebody_starts_again_is_no_base,
    where_there_is_no_old_machine_there_is_no_base,
    preparing_twice_takes_the_old_machine_once,
    a_retired_machine_keeps_its_disks_and_is_a_base,
    a_machine_that_runs_is_not_retired,
    a_retired_machine_is_fenced_and_is_not_discarded,
    dropping_the_replica_removes_a_base_that_a_recovery_had_made,
    dropping_a_replica_that_got_no_point_gives_back_what_a_recovery_had_made,
    a_copy_beside_replication_leaves_production_alone,
    a_copy_is_cleaned_from_any_half_made_state,
    a_second_copy_waits_until_the_first_is_cleaned,
    starting_a_copy_twice_is_one_start,
    points_beneath_a_copy_are_not_pruned,
    points_that_a_copy_reads_are_not_dropped,
    a_real_failover_goes_on_beside_a_copy,
    a_stale_token_makes_and_removes_no_copy,
    copies_of_a_plan_share_a_network_that_goes_with_the_last_of_them,
    a_stranger_on_a_shared_network_keeps_the_next_copy_off,
    members_of_a_group_share_moments_and_take_points_of_their_own,
    a_member_that_is_off_holds_nobody,
    moments_are_never_named_twice_and_go_on_after_a_restart,
    where_one_guest_can_not_be_frozen_the_moment_is_crash_consistent_everywhere,
    what_is_kept_of_a_moment_is_kept_of_it_everywhere,
    a_member_that_has_left_holds_nobody_and_the_rest_is_told,
    an_item_that_is_not_replicated_joins_no_group,
    a_stale_token_regroups_nothing,
}
