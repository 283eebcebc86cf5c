//! What every store must do, as cases that run on the one in memory and on Postgres alike.
//!
//! A case is a sentence; it panics where the sentence does not hold.

mod builds;
mod children;
mod leases;
mod messages;
mod scenes;
mod schedules;
mod tasks;
mod turns;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::Store;

/// A place in which a case runs: an empty store whose clock the case moves.
#[async_trait]
pub trait StoreLab: Send + Sync {
    /// The store under test.
    type Store: Store + 'static;
    /// It, empty.
    fn store(&self) -> Arc<Self::Store>;
    /// Moves its clock.
    async fn advance(&self, by: Duration);
}

/// The body of a case.
pub type Case<L> = for<'a> fn(&'a L) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

macro_rules! cases {
    ($($module:ident :: $name:ident),* $(,)?) => {
        /// All cases with their names.
        #[must_use]
        pub fn cases<L: StoreLab>() -> Vec<(&'static str, Case<L>)> {
            vec![$((stringify!($name), (|lab| Box::pin($module::$name(lab))) as Case<L>)),*]
        }
    };
}

cases! {
    leases::a_new_lease_of_a_worker_has_a_higher_epoch,
    leases::an_expired_lease_still_fences_in_its_holders_favour_until_it_is_deleted,
    leases::a_fenced_worker_can_claim_write_and_release_nothing,
    leases::nobody_releases_what_is_not_theirs,
    leases::runs_of_a_deleted_lease_are_claimed_by_another_with_a_higher_epoch,
    leases::a_living_workers_runs_are_not_claimed,
    leases::a_worker_is_told_what_it_owns,
    builds::a_run_is_carried_on_by_its_build_or_a_newer_one_and_never_by_an_older,
    builds::a_build_that_somebody_prefers_is_the_newest,
    builds::a_worker_of_no_build_claims_nothing_once_one_is_known,
    builds::a_fenced_worker_is_no_build,
    turns::a_turn_is_stored_whole_and_its_chain_holds,
    turns::a_turn_sent_twice_is_taken_and_names_its_writer,
    turns::a_turn_that_ends_its_run_and_is_sent_twice_is_taken,
    turns::a_batch_with_one_taken_turn_stores_nothing,
    turns::a_turn_whose_message_is_gone_is_stale_and_stores_nothing,
    turns::a_message_key_is_recorded_once_for_ever,
    turns::a_closed_run_leaves_no_tasks_timers_or_locks,
    turns::a_run_that_has_ended_is_not_set_aside,
    turns::a_suspended_run_is_not_claimed_and_keeps_its_messages,
    children::a_child_is_started_with_its_parents_turn_and_tells_its_end,
    children::a_child_is_refused_while_an_open_run_is_about_the_same,
    children::a_turn_that_asks_for_a_child_and_is_sent_twice_starts_it_once,
    children::the_end_of_a_parent_stops_the_children_that_end_with_it_and_no_others,
    children::a_child_is_told_to_stop_once_however_often_it_is_asked,
    children::parent_and_child_tell_each_other_once_and_who_has_ended_hears_nothing,
    children::words_of_one_turn_are_heard_in_the_order_in_which_they_were_told,
    children::a_run_may_start_its_own_successor_in_the_turn_that_ends_it,
    messages::one_open_run_for_each_workflow_id,
    messages::starting_the_same_run_twice_starts_it_once,
    messages::a_message_counts_once_while_it_waits,
    messages::a_closed_run_takes_no_messages,
    messages::a_released_run_is_claimed_when_a_message_arrives,
    messages::a_due_timer_becomes_one_message,
    messages::locks_are_granted_in_order_with_growing_epochs,
    tasks::a_task_is_claimed_once_and_completed_once,
    tasks::a_task_may_have_no_input,
    tasks::a_second_attempt_refuses_the_first_ones_result_and_is_in_doubt,
    tasks::a_late_result_counts_as_long_as_nobody_has_begun_again,
    tasks::an_older_attempt_queues_nothing_and_sets_nothing_aside,
    tasks::a_retry_waits_for_its_delay,
    tasks::nobody_claims_in_time_and_the_run_hears_of_it,
    tasks::a_task_whose_agent_died_ends_when_nobody_takes_it_over_within_the_queue_limit,
    tasks::a_silent_attempt_is_claimed_again_and_a_beating_one_is_not,
    tasks::the_last_attempt_overdue_ends_the_task,
    tasks::a_cancelled_task_that_nobody_began_ends_as_cancelled,
    tasks::a_cancelled_look_does_not_wait_for_its_dead_agent,
    tasks::a_dead_letter_is_claimed_by_nobody,
    tasks::the_total_limit_ends_a_task_whatever_its_attempts_do,
    schedules::a_name_is_kept_once_and_forgotten_without_what_it_fired,
    schedules::a_firing_starts_one_run_and_moves_on,
    schedules::a_firing_of_a_stale_belief_changes_nothing,
    schedules::a_time_is_missed_while_the_run_before_is_open,
    schedules::a_time_that_waits_is_due_when_the_run_before_has_ended,
    schedules::what_was_missed_is_recorded_with_its_cause,
    schedules::a_pause_is_kept_with_who_and_why,
    schedules::a_start_by_hand_moves_nothing,
    schedules::a_scheduler_starts_each_time_once,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Faultless, MemoryStore};

    struct InMemory(Arc<MemoryStore>);

    #[async_trait]
    impl StoreLab for InMemory {
        type Store = MemoryStore;
        fn store(&self) -> Arc<MemoryStore> {
            self.0.clone()
        }
        async fn advance(&self, by: Duration) {
            self.0.advance(by);
        }
    }

    #[tokio::test]
    async fn the_store_in_memory_keeps_the_contract() {
        for (name, case) in cases::<InMemory>() {
            println!("{name}");
            let start = chrono::DateTime::from_timestamp(1_800_000_000, 0).expect("a valid time");
            case(&InMemory(Arc::new(MemoryStore::new(start, Arc::new(Faultless))))).await;
        }
    }
}
