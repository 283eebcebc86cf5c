//! Turns: whole or not at all, once.
#![expect(clippy::unwrap_used, reason = "a case panics where its sentence does not hold")]

use std::time::Duration;

use sdk::{Message, Seq};
use uuid::Uuid;

use super::{StoreLab, scenes::*};
use crate::{CommitError, LeaseStore, LockRow, RunStore, Sent, Sweeps, TaskStore, TimerRow, Writer};

pub(super) async fn a_turn_is_stored_whole_and_its_chain_holds(lab: &impl StoreLab) {
    let store = lab.store();
    let (hand, _) = with_task(store.as_ref(), options(3)).await;
    let history = store.load_history(hand.claimed.run).await.unwrap();
    assert_eq!(history, hand.history);
    assert_eq!(inbox_keys(store.as_ref(), hand.claimed.run).await, Vec::<String>::new());
    let task = claim_one(store.as_ref(), hand.lease).await.unwrap();
    assert_eq!(serde_json::to_value(&task.task).unwrap(), serde_json::to_value(super::scenes::task(1, options(3))).unwrap());
    assert_eq!((task.token.grant_epoch, task.token.run_epoch, task.token.attempt), (7, hand.claimed.epoch, 1));
}

pub(super) async fn a_turn_sent_twice_is_taken_and_names_its_writer(lab: &impl StoreLab) {
    let store = lab.store();
    let (lease, claimed) = owning(store.as_ref(), "a").await;
    let run = claimed.run;
    let write = Hand::new(lease, claimed).turn(start_message("a"), vec![]);
    store.commit_turns(lease, std::slice::from_ref(&write)).await.unwrap();
    assert!(matches!(store.commit_turns(lease, std::slice::from_ref(&write)).await, Err(CommitError::Taken)));
    assert_eq!(store.writer_of(run, Seq(0)).await.unwrap(), Some(Writer { lease, turn: write.turn }));
    assert_eq!(store.writer_of(run, Seq(1)).await.unwrap(), None);
}

/// Its answer may have been lost: whoever sent it must hear that it was stored, and not that it is wrong.
pub(super) async fn a_turn_that_ends_its_run_and_is_sent_twice_is_taken(lab: &impl StoreLab) {
    let store = lab.store();
    let (lease, claimed) = owning(store.as_ref(), "a").await;
    let run = claimed.run;
    let mut write = Hand::new(lease, claimed).turn(start_message("a"), vec![]);
    write.close = completed();
    store.commit_turns(lease, std::slice::from_ref(&write)).await.unwrap();
    assert!(matches!(store.commit_turns(lease, std::slice::from_ref(&write)).await, Err(CommitError::Taken)));
    assert_eq!(store.writer_of(run, Seq(0)).await.unwrap(), Some(Writer { lease, turn: write.turn }));
}

pub(super) async fn a_batch_with_one_taken_turn_stores_nothing(lab: &impl StoreLab) {
    let store = lab.store();
    let (lease, first) = owning(store.as_ref(), "a").await;
    let second = started(store.as_ref(), "b").await;
    let second = store.claim_runs(lease, 9).await.unwrap().into_iter().find(|c| c.run == second).unwrap();
    let taken = Hand::new(lease, first).turn(start_message("a"), vec![]);
    store.commit_turns(lease, std::slice::from_ref(&taken)).await.unwrap();
    let run = second.run;
    let good = Hand::new(lease, second).turn(start_message("b"), vec![]);
    assert!(matches!(store.commit_turns(lease, &[good, taken]).await, Err(CommitError::Taken)));
    assert_eq!(store.load_history(run).await.unwrap().events.len(), 0);
    assert_eq!(inbox_keys(store.as_ref(), run).await, ["start"]);
}

pub(super) async fn a_turn_whose_message_is_gone_is_stale_and_stores_nothing(lab: &impl StoreLab) {
    let store = lab.store();
    let (lease, claimed) = owning(store.as_ref(), "a").await;
    let run = claimed.run;
    let mut hand = Hand::new(lease, claimed);
    let mut write = hand.turn(start_message("a"), vec![]);
    write.consumed.push("signal:never:sent".into());
    assert!(matches!(store.commit_turns(lease, &[write]).await, Err(CommitError::Stale)));
    let mut write = hand.empty(Uuid::now_v7());
    write.drop_timers.push(Seq(5));
    assert!(matches!(store.commit_turns(lease, &[write]).await, Err(CommitError::Stale)));
    assert_eq!(store.load_history(run).await.unwrap().events.len(), 0);
    assert_eq!(inbox_keys(store.as_ref(), run).await, ["start"]);
}

pub(super) async fn a_message_key_is_recorded_once_for_ever(lab: &impl StoreLab) {
    let store = lab.store();
    let (lease, claimed) = owning(store.as_ref(), "a").await;
    let run = claimed.run;
    let mut hand = Hand::new(lease, claimed);
    let signal = Message::Signal { name: "go".into(), key: "1".into(), body: serde_json::json!(true), by: "tester".into() };
    let write = hand.turn(start_message("a"), vec![]);
    store.commit_turns(lease, &[write]).await.unwrap();
    store.send(run, signal.clone()).await.unwrap();
    let write = hand.turn(signal.clone(), vec![]);
    store.commit_turns(lease, &[write]).await.unwrap();
    store.send(run, signal.clone()).await.unwrap();
    let write = hand.turn(signal, vec![]);
    assert!(matches!(store.commit_turns(lease, &[write]).await, Err(CommitError::Taken)));
    assert_eq!(store.load_history(run).await.unwrap().events.len(), 2);
}

pub(super) async fn a_closed_run_leaves_no_tasks_timers_or_locks(lab: &impl StoreLab) {
    let store = lab.store();
    let (mut hand, queue) = with_task(store.as_ref(), options(3)).await;
    let (run, lease) = (hand.claimed.run, hand.lease);
    store.send(run, Message::Cancel { by: "tester".into(), reason: "done".into() }).await.unwrap();
    let mut write = hand.turn(Message::Cancel { by: "tester".into(), reason: "done".into() }, vec![]);
    write.timers.push(TimerRow { seq: Seq(20), due_at: store.now().await.unwrap() });
    write.locks.push(LockRow { seq: Seq(21), resources: vec!["item:a".into()] });
    store.commit_turns(lease, &[write]).await.unwrap();
    assert_eq!(store.grant_locks(9).await.unwrap(), 1);
    let mut write = hand.turn(Message::Granted { of: Seq(21), grants: vec![] }, vec![]);
    write.close = completed();
    store.commit_turns(lease, &[write]).await.unwrap();
    assert_eq!(store.claim_tasks(lease, &[queue], 9).await.unwrap().len(), 0);
    assert_eq!(store.fire_timers(9).await.unwrap(), 0);
    assert_eq!(inbox_keys(store.as_ref(), run).await, Vec::<String>::new());
    let (lease, next) = owning(store.as_ref(), "b").await;
    let mut hand = Hand::new(lease, next);
    let mut write = hand.turn(start_message("b"), vec![]);
    write.locks.push(LockRow { seq: Seq(1), resources: vec!["item:a".into()] });
    store.commit_turns(lease, &[write]).await.unwrap();
    assert_eq!(store.grant_locks(9).await.unwrap(), 1, "the lock of the closed run is free");
}

pub(super) async fn a_run_that_has_ended_is_not_set_aside(lab: &impl StoreLab) {
    let store = lab.store();
    let (lease, claimed) = owning(store.as_ref(), "a").await;
    let run = claimed.run;
    let mut hand = Hand::new(lease, claimed);
    let mut late = hand.empty(Uuid::now_v7());
    late.close = set_aside();
    let mut write = hand.turn(start_message("a"), vec![]);
    write.close = completed();
    store.commit_turns(lease, &[write]).await.unwrap();
    assert!(matches!(store.commit_turns(lease, &[late]).await, Err(CommitError::Bad(_))));
    assert_eq!(store.send(run, start_message("a")).await.unwrap(), Sent::Closed);
}

pub(super) async fn a_suspended_run_is_not_claimed_and_keeps_its_messages(lab: &impl StoreLab) {
    let store = lab.store();
    let (lease, claimed) = owning(store.as_ref(), "a").await;
    let run = claimed.run;
    let mut write = Hand::new(lease, claimed).empty(Uuid::now_v7());
    write.close = set_aside();
    store.commit_turns(lease, &[write]).await.unwrap();
    lab.advance(Duration::from_secs(60)).await;
    let other = store.open_lease(worker(), TTL).await.unwrap();
    store.expire_leases(other, TTL).await.unwrap();
    assert_eq!(store.claim_runs(other, 9).await.unwrap().len(), 0);
    assert_eq!(inbox_keys(store.as_ref(), run).await, ["start"]);
}
