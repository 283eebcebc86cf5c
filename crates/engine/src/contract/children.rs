//! Children: how they are started and refused, and what the family hears of an end.
#![expect(clippy::unwrap_used, reason = "a case panics where its sentence does not hold")]

use sdk::{ChildEnd, ClosePolicy, Kin, Lease, Message, Parent, RunId, Seq};
use serde_json::json;

use super::{StoreLab, scenes::*};
use crate::{ChildRow, RunStore, Started, StartRun, Store, Told};

/// A wish for a child at seq 1 of `parent`.
fn wish(parent: RunId, child: RunId, about: &str, close: ClosePolicy) -> ChildRow {
    let Message::Start { workflow, input, workflow_id, requested_by, trace, .. } = start_message(about) else { unreachable!("a start") };
    let parent = Some(Parent { run: parent, seq: Seq(1) });
    ChildRow { seq: Seq(1), child, close, start: Message::Start { workflow, input, workflow_id, requested_by, trace, parent } }
}

/// A run that has asked for a child.
async fn parent_of(store: &impl Store, child: RunId, about: &str, close: ClosePolicy) -> (Lease, Hand) {
    let (lease, claimed) = owning(store, "parent").await;
    let parent = claimed.run;
    let mut hand = Hand::new(lease, claimed);
    let mut write = hand.turn(start_message("parent"), vec![]);
    write.children.push(wish(parent, child, about, close));
    store.commit_turns(lease, &[write]).await.unwrap();
    (lease, hand)
}

/// Claims the child and ends it.
async fn end(store: &impl Store, lease: Lease, child: RunId) {
    let claimed = store.claim_runs(lease, 100).await.unwrap().into_iter().find(|claimed| claimed.run == child).unwrap();
    let mut write = Hand::new(lease, claimed).turn(start_message("child"), vec![]);
    write.close = completed();
    store.commit_turns(lease, &[write]).await.unwrap();
}

async fn messages(store: &impl Store, run: RunId) -> Vec<Message> {
    store.read_inbox(&[run]).await.unwrap().into_iter().map(|row| row.message).collect()
}

pub(super) async fn a_child_is_started_with_its_parents_turn_and_tells_its_end(lab: &impl StoreLab) {
    let (store, child) = (lab.store(), new_run());
    let (lease, hand) = parent_of(store.as_ref(), child, "child", ClosePolicy::Leave).await;
    let parent = hand.claimed.run;
    assert_eq!(messages(store.as_ref(), child).await, [wish(parent, child, "child", ClosePolicy::Leave).start]);
    assert_eq!(messages(store.as_ref(), parent).await, [Message::ChildStarted { of: Seq(1) }]);
    end(store.as_ref(), lease, child).await;
    let closed = Message::ChildClosed { of: Seq(1), end: ChildEnd::Completed { output: json!("well") } };
    assert_eq!(messages(store.as_ref(), parent).await, [Message::ChildStarted { of: Seq(1) }, closed]);
}

pub(super) async fn a_child_is_refused_while_an_open_run_is_about_the_same(lab: &impl StoreLab) {
    let (store, child) = (lab.store(), new_run());
    let open = started(store.as_ref(), "child").await;
    let (_, hand) = parent_of(store.as_ref(), child, "child", ClosePolicy::Cancel).await;
    assert_eq!(messages(store.as_ref(), hand.claimed.run).await, [Message::ChildRefused { of: Seq(1), open }]);
    assert!(messages(store.as_ref(), child).await.is_empty());
}

pub(super) async fn a_turn_that_asks_for_a_child_and_is_sent_twice_starts_it_once(lab: &impl StoreLab) {
    let (store, child) = (lab.store(), new_run());
    let (lease, claimed) = owning(store.as_ref(), "parent").await;
    let parent = claimed.run;
    let mut write = Hand::new(lease, claimed).turn(start_message("parent"), vec![]);
    write.children.push(wish(parent, child, "child", ClosePolicy::Cancel));
    store.commit_turns(lease, std::slice::from_ref(&write)).await.unwrap();
    store.commit_turns(lease, &[write]).await.unwrap_err();
    assert_eq!(inbox_keys(store.as_ref(), child).await, ["start"]);
    assert_eq!(inbox_keys(store.as_ref(), parent).await, ["child:1"]);
}

pub(super) async fn the_end_of_a_parent_stops_the_children_that_end_with_it_and_no_others(lab: &impl StoreLab) {
    for (close, heard) in [(ClosePolicy::Cancel, vec!["start", "cancel"]), (ClosePolicy::Leave, vec!["start"])] {
        let (store, child) = (lab.store(), new_run());
        let about = format!("child {close:?}");
        let (lease, mut hand) = parent_of(store.as_ref(), child, &about, close).await;
        let mut write = hand.turn(Message::ChildStarted { of: Seq(1) }, vec![]);
        write.close = completed();
        store.commit_turns(lease, &[write]).await.unwrap();
        assert_eq!(inbox_keys(store.as_ref(), child).await, heard, "{close:?}");
        end(store.as_ref(), lease, child).await;
        assert!(messages(store.as_ref(), hand.claimed.run).await.is_empty(), "who has ended hears nothing");
    }
}

pub(super) async fn a_child_is_told_to_stop_once_however_often_it_is_asked(lab: &impl StoreLab) {
    let (store, child) = (lab.store(), new_run());
    let (lease, mut hand) = parent_of(store.as_ref(), child, "child", ClosePolicy::Leave).await;
    let told = || Told { to: Kin::Child { of: Seq(1) }, message: Message::Cancel { by: "run".into(), reason: "enough".into() } };
    let mut write = hand.turn(Message::ChildStarted { of: Seq(1) }, vec![]);
    write.told = vec![told(), told()];
    store.commit_turns(lease, &[write]).await.unwrap();
    assert_eq!(inbox_keys(store.as_ref(), child).await, ["start", "cancel"]);
}

fn word(name: &str, to: Kin) -> Told {
    Told { to, message: Message::Signal { name: name.into(), key: "run:2".into(), body: json!({"n": 1}), by: "run".into() } }
}

pub(super) async fn parent_and_child_tell_each_other_once_and_who_has_ended_hears_nothing(lab: &impl StoreLab) {
    let (store, child) = (lab.store(), new_run());
    let (lease, mut hand) = parent_of(store.as_ref(), child, "child", ClosePolicy::Leave).await;
    let parent = hand.claimed.run;
    let mut write = hand.turn(Message::ChildStarted { of: Seq(1) }, vec![]);
    let down = word("go", Kin::Child { of: Seq(1) });
    write.told = vec![down.clone(), down.clone(), word("nobody", Kin::Parent), word("never", Kin::Child { of: Seq(9) })];
    store.commit_turns(lease, &[write]).await.unwrap();
    assert_eq!(&messages(store.as_ref(), child).await[1..], std::slice::from_ref(&down.message));

    let claimed = store.claim_runs(lease, 100).await.unwrap().into_iter().find(|claimed| claimed.run == child).unwrap();
    let mut younger = Hand::new(lease, claimed);
    let (up, mut write) = (word("ready", Kin::Parent), younger.turn(start_message("child"), vec![]));
    write.told = vec![up.clone()];
    store.commit_turns(lease, &[write]).await.unwrap();
    assert_eq!(messages(store.as_ref(), parent).await, std::slice::from_ref(&up.message));

    let mut write = hand.turn(up.message, vec![]);
    write.close = completed();
    store.commit_turns(lease, &[write]).await.unwrap();
    let mut write = younger.turn(down.message, vec![]);
    write.told = vec![word("late", Kin::Parent)];
    store.commit_turns(lease, &[write]).await.unwrap();
    assert!(messages(store.as_ref(), parent).await.is_empty(), "who has ended hears nothing");
}

pub(super) async fn words_of_one_turn_are_heard_in_the_order_in_which_they_were_told(lab: &impl StoreLab) {
    let (store, child) = (lab.store(), new_run());
    let (lease, mut hand) = parent_of(store.as_ref(), child, "child", ClosePolicy::Leave).await;
    let mut write = hand.turn(Message::ChildStarted { of: Seq(1) }, vec![]);
    write.told = ["b", "c", "a"].map(|name| word(name, Kin::Child { of: Seq(1) })).to_vec();
    let said: Vec<Message> = write.told.iter().map(|told| told.message.clone()).collect();
    store.commit_turns(lease, &[write]).await.unwrap();
    assert_eq!(&messages(store.as_ref(), child).await[1..], said);
}

pub(super) async fn a_run_may_start_its_own_successor_in_the_turn_that_ends_it(lab: &impl StoreLab) {
    let (store, successor) = (lab.store(), new_run());
    let (lease, claimed) = owning(store.as_ref(), "same").await;
    let ended = claimed.run;
    let mut write = Hand::new(lease, claimed).turn(start_message("same"), vec![]);
    write.children.push(wish(ended, successor, "same", ClosePolicy::Leave));
    write.close = completed();
    store.commit_turns(lease, &[write]).await.unwrap();
    assert_eq!(inbox_keys(store.as_ref(), successor).await, ["start"]);
    let third = StartRun { run: new_run(), start: start_message("same") };
    assert_eq!(store.start_run(third).await.unwrap(), Started::AlreadyOpen(successor));
}
