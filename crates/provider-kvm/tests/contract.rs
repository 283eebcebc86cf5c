//! The provider contract on real libvirt and QEMU: every case of `provider::contract`, in a lab of two sites.
//!
//! The machines have no operating system: their disks are written and read through QEMU's own device, as a guest's driver
//! would, so a case takes seconds.

mod lab;

use lab::{KvmLab, requirements};
use provider::contract::{CASES, run_case};

/// Cases that this provider can't do yet, with the reason.
const NOT_YET: &[(&str, &str)] = &[];

fn run(case: &str) {
    let Some(sites) = requirements(case) else { return };
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
}
