//! Leases, fences and takeovers.
#![expect(clippy::unwrap_used, reason = "a case panics where its sentence does not hold")]

use std::time::Duration;

use super::{StoreLab, scenes::*};
use crate::{CommitError, LeaseStore, RunStore, StoreError, TaskStore};

pub(super) async fn a_new_lease_of_a_worker_has_a_higher_epoch(lab: &impl StoreLab) {
    let (store, worker) = (lab.store(), worker());
    let first = store.open_lease(worker, TTL).await.unwrap();
    store.close_lease(first).await.unwrap();
    let second = store.open_lease(worker, TTL).await.unwrap();
    assert!(second.epoch > first.epoch);
    assert!(!store.renew_lease(first, TTL).await.unwrap());
    assert!(store.renew_lease(second, TTL).await.unwrap());
}

pub(super) async fn an_expired_lease_still_fences_in_its_holders_favour_until_it_is_deleted(lab: &impl StoreLab) {
    let store = lab.store();
    let (lease, claimed) = owning(store.as_ref(), "a").await;
    lab.advance(TTL * 3).await;
    let mut hand = Hand::new(lease, claimed);
    let write = hand.turn(start_message("a"), vec![]);
    store.commit_turns(lease, &[write]).await.unwrap();
    assert!(store.renew_lease(lease, TTL).await.unwrap(), "its heartbeat revives it");
    let other = store.open_lease(worker(), TTL).await.unwrap();
    assert_eq!(store.expire_leases(other, TTL).await.unwrap(), vec![], "a revived lease is not deleted");
}

pub(super) async fn a_fenced_worker_can_claim_write_and_release_nothing(lab: &impl StoreLab) {
    let store = lab.store();
    let (lease, claimed) = owning(store.as_ref(), "a").await;
    lab.advance(TTL * 3).await;
    let other = store.open_lease(worker(), TTL).await.unwrap();
    assert_eq!(store.expire_leases(other, TTL).await.unwrap(), vec![lease]);
    started(store.as_ref(), "b").await;
    let run = claimed.run;
    let write = Hand::new(lease, claimed).turn(start_message("a"), vec![]);
    assert!(matches!(store.commit_turns(lease, &[write]).await, Err(CommitError::Store(StoreError::Fenced(l))) if l == lease));
    assert!(matches!(store.claim_runs(lease, 9).await, Err(StoreError::Fenced(_))));
    assert!(matches!(store.claim_tasks(lease, &[queue()], 9).await, Err(StoreError::Fenced(_))));
    assert!(matches!(store.release_runs(lease, &[run]).await, Err(StoreError::Fenced(_))));
    assert!(!store.renew_lease(lease, TTL).await.unwrap());
    assert_eq!(store.load_history(run).await.unwrap().events.len(), 0);
}

pub(super) async fn nobody_releases_what_is_not_theirs(lab: &impl StoreLab) {
    let store = lab.store();
    let (lease, claimed) = owning(store.as_ref(), "a").await;
    let other = store.open_lease(worker(), TTL).await.unwrap();
    store.release_runs(other, &[claimed.run]).await.unwrap();
    let kept: Vec<_> = store.owned_runs(lease).await.unwrap().into_iter().map(|run| (run.run, run.epoch)).collect();
    assert_eq!(kept, [(claimed.run, claimed.epoch)]);
}

pub(super) async fn runs_of_a_deleted_lease_are_claimed_by_another_with_a_higher_epoch(lab: &impl StoreLab) {
    let store = lab.store();
    let (_, before) = owning(store.as_ref(), "a").await;
    lab.advance(TTL * 3).await;
    let other = store.open_lease(worker(), TTL).await.unwrap();
    assert_eq!(store.claim_runs(other, 9).await.unwrap().len(), 0, "nobody has deleted the lease yet");
    store.expire_leases(other, TTL).await.unwrap();
    let after = store.claim_runs(other, 9).await.unwrap();
    assert_eq!(after.len(), 1);
    assert_eq!(after[0].run, before.run);
    assert!(after[0].epoch > before.epoch);
}

pub(super) async fn a_living_workers_runs_are_not_claimed(lab: &impl StoreLab) {
    let store = lab.store();
    owning(store.as_ref(), "a").await;
    let other = store.open_lease(worker(), TTL).await.unwrap();
    lab.advance(Duration::from_secs(1)).await;
    store.expire_leases(other, TTL).await.unwrap();
    assert_eq!(store.claim_runs(other, 9).await.unwrap().len(), 0);
}

pub(super) async fn a_worker_is_told_what_it_owns(lab: &impl StoreLab) {
    let store = lab.store();
    let (lease, first) = owning(store.as_ref(), "a").await;
    let second = started(store.as_ref(), "b").await;
    store.claim_runs(lease, 9).await.unwrap();
    let (other, _) = owning(store.as_ref(), "c").await;
    let owned: Vec<_> = store.owned_runs(lease).await.unwrap().into_iter().map(|run| (run.run, run.epoch)).collect();
    assert_eq!(owned, [(first.run, first.epoch), (second, 1)]);
    store.release_runs(lease, &[first.run]).await.unwrap();
    assert_eq!(store.owned_runs(lease).await.unwrap().len(), 1);
    lab.advance(TTL * 3).await;
    store.expire_leases(other, TTL).await.unwrap();
    assert!(matches!(store.owned_runs(lease).await, Err(StoreError::Fenced(l)) if l == lease));
}
