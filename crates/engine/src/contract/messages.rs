//! Starts, messages, timers and locks.
#![expect(clippy::unwrap_used, reason = "a case panics where its sentence does not hold")]

use std::time::Duration;

use sdk::{Message, RunId, Seq};

use super::{StoreLab, scenes::*};
use crate::{LeaseStore, LockRow, RunStore, Sent, StartRun, Started, Sweeps, TimerRow};

pub(super) async fn one_open_run_for_each_workflow_id(lab: &impl StoreLab) {
    let store = lab.store();
    let (lease, claimed) = owning(store.as_ref(), "item:a").await;
    let second = StartRun { run: new_run(), start: start_message("item:a") };
    assert_eq!(store.start_run(second.clone()).await.unwrap(), Started::AlreadyOpen(claimed.run));
    let mut write = Hand::new(lease, claimed).turn(start_message("item:a"), vec![]);
    write.close = completed();
    store.commit_turns(lease, &[write]).await.unwrap();
    assert_eq!(store.start_run(second).await.unwrap(), Started::New);
}

pub(super) async fn starting_the_same_run_twice_starts_it_once(lab: &impl StoreLab) {
    let store = lab.store();
    let start = StartRun { run: new_run(), start: start_message("item:a") };
    assert_eq!(store.start_run(start.clone()).await.unwrap(), Started::New);
    assert_eq!(store.start_run(start.clone()).await.unwrap(), Started::New);
    assert_eq!(inbox_keys(store.as_ref(), start.run).await, ["start"]);
}

pub(super) async fn a_message_counts_once_while_it_waits(lab: &impl StoreLab) {
    let store = lab.store();
    let run = started(store.as_ref(), "a").await;
    let signal = |key: &str| Message::Signal { name: "go".into(), key: key.into(), body: serde_json::json!(key), by: "tester".into() };
    for key in ["1", "2", "1", "2", "1"] {
        assert_eq!(store.send(run, signal(key)).await.unwrap(), Sent::Accepted);
    }
    assert_eq!(inbox_keys(store.as_ref(), run).await, ["start", "signal:go:1", "signal:go:2"]);
    assert_eq!(store.send(new_run(), signal("1")).await.unwrap(), Sent::NoSuchRun);
}

pub(super) async fn a_closed_run_takes_no_messages(lab: &impl StoreLab) {
    let store = lab.store();
    let (lease, claimed) = owning(store.as_ref(), "a").await;
    let run = claimed.run;
    let mut write = Hand::new(lease, claimed).turn(start_message("a"), vec![]);
    write.close = completed();
    store.commit_turns(lease, &[write]).await.unwrap();
    let cancel = Message::Cancel { by: "tester".into(), reason: "late".into() };
    assert_eq!(store.send(run, cancel).await.unwrap(), Sent::Closed);
}

pub(super) async fn a_released_run_is_claimed_when_a_message_arrives(lab: &impl StoreLab) {
    let store = lab.store();
    let (lease, claimed) = owning(store.as_ref(), "a").await;
    let (run, epoch) = (claimed.run, claimed.epoch);
    let write = Hand::new(lease, claimed).turn(start_message("a"), vec![]);
    store.commit_turns(lease, &[write]).await.unwrap();
    store.release_runs(lease, &[run]).await.unwrap();
    let other = store.open_lease(worker(), TTL).await.unwrap();
    assert_eq!(store.claim_runs(other, 9).await.unwrap().len(), 0, "a sleeper costs nothing");
    store.send(run, Message::Cancel { by: "tester".into(), reason: "wake".into() }).await.unwrap();
    let again = store.claim_runs(other, 9).await.unwrap();
    assert_eq!(again.iter().map(|c| c.run).collect::<Vec<RunId>>(), [run]);
    assert!(again[0].epoch > epoch);
}

pub(super) async fn a_due_timer_becomes_one_message(lab: &impl StoreLab) {
    let store = lab.store();
    let (lease, claimed) = owning(store.as_ref(), "a").await;
    let run = claimed.run;
    let mut write = Hand::new(lease, claimed).turn(start_message("a"), vec![]);
    write.timers.push(TimerRow { seq: Seq(1), due_at: store.now().await.unwrap() + Duration::from_secs(30) });
    store.commit_turns(lease, &[write]).await.unwrap();
    assert_eq!(store.fire_timers(9).await.unwrap(), 0);
    lab.advance(Duration::from_secs(31)).await;
    assert_eq!(store.fire_timers(9).await.unwrap(), 1);
    assert_eq!(store.fire_timers(9).await.unwrap(), 0);
    assert_eq!(inbox_keys(store.as_ref(), run).await, ["timer:1"]);
}

pub(super) async fn locks_are_granted_in_order_with_growing_epochs(lab: &impl StoreLab) {
    let store = lab.store();
    let mut epochs = Vec::new();
    let mut hands = Vec::new();
    for about in ["a", "b"] {
        let (lease, claimed) = owning(store.as_ref(), about).await;
        let mut hand = Hand::new(lease, claimed);
        let mut write = hand.turn(start_message(about), vec![]);
        write.locks.push(LockRow { seq: Seq(1), resources: vec!["item:x".into(), "item:y".into()] });
        store.commit_turns(lease, &[write]).await.unwrap();
        hands.push(hand);
    }
    assert_eq!(store.grant_locks(9).await.unwrap(), 1);
    assert_eq!(store.grant_locks(9).await.unwrap(), 0, "the second waits");
    for hand in &mut hands {
        let row = store.read_inbox(&[hand.claimed.run]).await.unwrap().pop().unwrap();
        let Message::Granted { grants, .. } = &row.message else { panic!("a grant waits, not {row:?}") };
        epochs.push(grants.iter().map(|g| (g.resource.clone(), g.epoch, g.era)).collect::<Vec<_>>());
        let mut write = hand.turn(row.message, vec![]);
        write.close = completed();
        store.commit_turns(hand.lease, &[write]).await.unwrap();
        store.grant_locks(9).await.unwrap();
    }
    let granted = |epoch| vec![("item:x".to_owned(), epoch, 1), ("item:y".to_owned(), epoch, 1)];
    assert_eq!(epochs, [granted(1), granted(2)]);
}
