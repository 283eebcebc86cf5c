//! The job queue: attempts, results, limits, dead letters.
#![expect(clippy::unwrap_used, reason = "a case panics where its sentence does not hold")]

use std::time::Duration;

use sdk::{Failure, Message, Outcome, Scope, Seq, TimeoutKind};

use super::{StoreLab, scenes::*};
use crate::{LeaseStore, Reported, RunStore, Sweeps, TaskPulse, TaskRow, TaskStore};

const SECOND: Duration = Duration::from_secs(1);

pub(super) async fn a_task_is_claimed_once_and_completed_once(lab: &impl StoreLab) {
    let store = lab.store();
    let (hand, _) = with_task(store.as_ref(), options(3)).await;
    let run = hand.claimed.run;
    let task = claim_one(store.as_ref(), hand.lease).await.unwrap();
    assert!(!task.in_doubt);
    assert!(claim_one(store.as_ref(), hand.lease).await.is_none());
    assert_eq!(store.complete_task(run, Seq(1), 1, &done()).await.unwrap(), Reported::Accepted);
    assert_eq!(store.complete_task(run, Seq(1), 1, &done()).await.unwrap(), Reported::Refused);
    assert_eq!(inbox_keys(store.as_ref(), run).await, ["task:1"]);
    assert_eq!(outcome(store.as_ref(), run).await, done());
}

pub(super) async fn a_task_may_have_no_input(lab: &impl StoreLab) {
    let store = lab.store();
    let (lease, claimed) = owning(store.as_ref(), "item:a").await;
    let mut hand = Hand::new(lease, claimed);
    let mut write = hand.turn(start_message("item:a"), vec![]);
    write.tasks.push(TaskRow { input: serde_json::Value::Null, ..task(1, options(3)) });
    store.commit_turns(lease, &[write]).await.unwrap();
    assert_eq!(claim_one(store.as_ref(), lease).await.unwrap().task.input, serde_json::Value::Null);
}

pub(super) async fn a_second_attempt_refuses_the_first_ones_result_and_is_in_doubt(lab: &impl StoreLab) {
    let store = lab.store();
    let (hand, _) = with_task(store.as_ref(), options(3)).await;
    let run = hand.claimed.run;
    claim_one(store.as_ref(), hand.lease).await.unwrap();
    lab.advance(SECOND * 6).await;
    let second = claim_one(store.as_ref(), hand.lease).await.unwrap();
    assert_eq!((second.token.attempt, second.in_doubt), (2, true));
    assert_eq!(store.complete_task(run, Seq(1), 1, &done()).await.unwrap(), Reported::Refused);
    assert_eq!(store.pulse_task(run, Seq(1), 1, None).await.unwrap(), TaskPulse::Gone);
    assert_eq!(store.complete_task(run, Seq(1), 2, &done()).await.unwrap(), Reported::Accepted);
}

pub(super) async fn a_late_result_counts_as_long_as_nobody_has_begun_again(lab: &impl StoreLab) {
    let store = lab.store();
    let (hand, _) = with_task(store.as_ref(), options(3)).await;
    let agent = store.open_lease(worker(), TTL).await.unwrap();
    claim_one(store.as_ref(), agent).await.unwrap();
    lab.advance(TTL * 3).await;
    let other = store.open_lease(worker(), TTL).await.unwrap();
    store.expire_leases(other, TTL).await.unwrap();
    assert_eq!(store.complete_task(hand.claimed.run, Seq(1), 1, &done()).await.unwrap(), Reported::Accepted);
}

pub(super) async fn an_older_attempt_queues_nothing_and_sets_nothing_aside(lab: &impl StoreLab) {
    let store = lab.store();
    let (hand, _) = with_task(store.as_ref(), options(3)).await;
    let run = hand.claimed.run;
    claim_one(store.as_ref(), hand.lease).await.unwrap();
    let failure = Failure::retryable("busy", "the disk is busy").not_applied();
    assert_eq!(store.retry_task(run, Seq(1), 1, &failure, Duration::ZERO, false).await.unwrap(), Reported::Accepted);
    lab.advance(SECOND).await;
    let second = claim_one(store.as_ref(), hand.lease).await.unwrap();
    assert_eq!(store.retry_task(run, Seq(1), 1, &failure, Duration::ZERO, true).await.unwrap(), Reported::Refused);
    assert_eq!(store.bury_task(run, Seq(1), 1, &failure).await.unwrap(), Reported::Refused);
    assert_eq!(store.task(run, Seq(1)).await.unwrap().map(|task| task.token), Some(second.token), "the second goes on");
    assert_eq!(store.complete_task(run, Seq(1), 2, &done()).await.unwrap(), Reported::Accepted);
}

pub(super) async fn a_retry_waits_for_its_delay(lab: &impl StoreLab) {
    let store = lab.store();
    let (hand, _) = with_task(store.as_ref(), options(3)).await;
    let run = hand.claimed.run;
    claim_one(store.as_ref(), hand.lease).await.unwrap();
    let failure = Failure::retryable("busy", "the disk is busy").not_applied();
    assert_eq!(store.retry_task(run, Seq(1), 1, &failure, SECOND * 2, false).await.unwrap(), Reported::Accepted);
    assert!(claim_one(store.as_ref(), hand.lease).await.is_none());
    lab.advance(SECOND * 3).await;
    let second = claim_one(store.as_ref(), hand.lease).await.unwrap();
    assert_eq!((second.token.attempt, second.in_doubt), (2, false));
}

pub(super) async fn nobody_claims_in_time_and_the_run_hears_of_it(lab: &impl StoreLab) {
    let store = lab.store();
    let mut limited = options(3);
    limited.timeouts.queue_ms = Some(4_000);
    let (hand, _) = with_task(store.as_ref(), limited).await;
    assert_eq!(store.expire_tasks(9).await.unwrap(), 0);
    lab.advance(SECOND * 5).await;
    assert_eq!(store.expire_tasks(9).await.unwrap(), 1);
    assert_eq!(outcome(store.as_ref(), hand.claimed.run).await, Outcome::TimedOut { kind: TimeoutKind::Queue, attempts: 0 });
    assert!(claim_one(store.as_ref(), hand.lease).await.is_none());
}

pub(super) async fn a_task_whose_agent_died_ends_when_nobody_takes_it_over_within_the_queue_limit(lab: &impl StoreLab) {
    let store = lab.store();
    let mut limited = options(5);
    limited.timeouts.queue_ms = Some(4_000);
    limited.timeouts.start_to_close_ms = 600_000;
    let (hand, _) = with_task(store.as_ref(), limited).await;
    let agent = store.open_lease(worker(), TTL).await.unwrap();
    claim_one(store.as_ref(), agent).await.unwrap();
    lab.advance(SECOND * 8).await;
    assert_eq!(store.expire_tasks(9).await.unwrap(), 0, "its lease lives: it works");
    store.renew_lease(hand.lease, TTL).await.unwrap();
    lab.advance(SECOND * 3).await;
    assert_eq!(store.expire_leases(hand.lease, TTL).await.unwrap(), [agent]);
    assert_eq!(store.expire_tasks(9).await.unwrap(), 1);
    assert_eq!(outcome(store.as_ref(), hand.claimed.run).await, Outcome::TimedOut { kind: TimeoutKind::Heartbeat, attempts: 1 });
}

pub(super) async fn a_silent_attempt_is_claimed_again_and_a_beating_one_is_not(lab: &impl StoreLab) {
    let store = lab.store();
    let mut limited = options(5);
    limited.timeouts.heartbeat_ms = Some(1_000);
    limited.timeouts.start_to_close_ms = 600_000;
    let (hand, _) = with_task(store.as_ref(), limited).await;
    let run = hand.claimed.run;
    claim_one(store.as_ref(), hand.lease).await.unwrap();
    for percent in [25, 50] {
        lab.advance(Duration::from_millis(800)).await;
        let detail = serde_json::json!({ "percent": percent });
        assert_eq!(store.pulse_task(run, Seq(1), 1, Some(&detail)).await.unwrap(), TaskPulse::Alive);
        assert!(claim_one(store.as_ref(), hand.lease).await.is_none());
    }
    lab.advance(Duration::from_millis(1_200)).await;
    assert_eq!(claim_one(store.as_ref(), hand.lease).await.unwrap().token.attempt, 2);
}

pub(super) async fn the_last_attempt_overdue_ends_the_task(lab: &impl StoreLab) {
    let store = lab.store();
    let (hand, _) = with_task(store.as_ref(), options(1)).await;
    claim_one(store.as_ref(), hand.lease).await.unwrap();
    lab.advance(SECOND * 6).await;
    assert!(claim_one(store.as_ref(), hand.lease).await.is_none());
    assert_eq!(store.expire_tasks(9).await.unwrap(), 1);
    assert_eq!(outcome(store.as_ref(), hand.claimed.run).await, Outcome::TimedOut { kind: TimeoutKind::StartToClose, attempts: 1 });
}

pub(super) async fn a_cancelled_task_that_nobody_began_ends_as_cancelled(lab: &impl StoreLab) {
    let store = lab.store();
    let (mut hand, _) = with_task(store.as_ref(), options(3)).await;
    let (run, lease) = (hand.claimed.run, hand.lease);
    let cancel = Message::Cancel { by: "tester".into(), reason: "enough".into() };
    store.send(run, cancel.clone()).await.unwrap();
    let mut write = hand.turn(cancel, vec![]);
    write.cancel_tasks.push(Seq(1));
    store.commit_turns(lease, &[write]).await.unwrap();
    assert!(claim_one(store.as_ref(), lease).await.is_none());
    assert_eq!(store.expire_tasks(9).await.unwrap(), 1);
    assert_eq!(outcome(store.as_ref(), run).await, Outcome::Cancelled);
}

pub(super) async fn a_dead_letter_is_claimed_by_nobody(lab: &impl StoreLab) {
    let store = lab.store();
    let (hand, _) = with_task(store.as_ref(), options(3)).await;
    claim_one(store.as_ref(), hand.lease).await.unwrap();
    let problem = Failure::fatal("unknown-activity", "no activity is called work here");
    assert_eq!(store.bury_task(hand.claimed.run, Seq(1), 1, &problem).await.unwrap(), Reported::Accepted);
    lab.advance(SECOND * 3600).await;
    store.renew_lease(hand.lease, TTL).await.unwrap();
    assert!(claim_one(store.as_ref(), hand.lease).await.is_none());
    assert_eq!(store.expire_tasks(9).await.unwrap(), 0);
}

pub(super) async fn the_total_limit_ends_a_task_whatever_its_attempts_do(lab: &impl StoreLab) {
    let store = lab.store();
    let mut limited = options(100);
    limited.timeouts.total_ms = Some(8_000);
    let (hand, _) = with_task(store.as_ref(), limited).await;
    claim_one(store.as_ref(), hand.lease).await.unwrap();
    lab.advance(SECOND * 6).await;
    claim_one(store.as_ref(), hand.lease).await.unwrap();
    lab.advance(SECOND * 3).await;
    assert_eq!(store.expire_tasks(9).await.unwrap(), 1);
    assert_eq!(outcome(store.as_ref(), hand.claimed.run).await, Outcome::TimedOut { kind: TimeoutKind::Total, attempts: 2 });
}

pub(super) async fn a_cancelled_look_does_not_wait_for_its_dead_agent(lab: &impl StoreLab) {
    let store = lab.store();
    let (lease, claimed) = owning(store.as_ref(), "item:a").await;
    let run = claimed.run;
    let mut hand = Hand::new(lease, claimed);
    let mut write = hand.turn(start_message("item:a"), vec![]);
    write.tasks.push(TaskRow { scope: Scope::Read, ..task(1, options(9)) });
    write.tasks.push(task(2, options(9)));
    store.commit_turns(lease, &[write]).await.unwrap();
    let agent = store.open_lease(worker(), TTL).await.unwrap();
    assert_eq!(store.claim_tasks(agent, &[queue()], 9).await.unwrap().len(), 2);
    let mut write = hand.empty(uuid::Uuid::now_v7());
    write.cancel_tasks = vec![Seq(1), Seq(2)];
    store.commit_turns(lease, &[write]).await.unwrap();
    assert_eq!(store.expire_tasks(9).await.unwrap(), 0, "the agent lives and tells");
    store.close_lease(agent).await.unwrap();
    assert_eq!(store.expire_tasks(9).await.unwrap(), 1, "what may have changed the world is asked about, however long it takes");
    assert_eq!(outcome(store.as_ref(), run).await, Outcome::Cancelled);
}
