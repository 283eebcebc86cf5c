//! Which build carries on which run.
#![expect(clippy::unwrap_used, reason = "a case panics where its sentence does not hold")]

use sdk::{Lease, RunId};

use super::{StoreLab, scenes::*};
use crate::{LeaseStore, Store, StoreError};

/// A new worker of that build.
async fn of_build(store: &impl Store, build: &str) -> Lease {
    let lease = store.open_lease(worker(), TTL).await.unwrap();
    store.declare_build(lease, build).await.unwrap();
    lease
}

async fn claimed(store: &impl Store, lease: Lease) -> Vec<RunId> {
    store.claim_runs(lease, 9).await.unwrap().into_iter().map(|run| run.run).collect()
}

pub(super) async fn a_run_is_carried_on_by_its_build_or_a_newer_one_and_never_by_an_older(lab: &impl StoreLab) {
    let store = lab.store();
    let yesterday = of_build(store.as_ref(), "yesterday").await;
    let first = started(store.as_ref(), "a").await;
    assert_eq!(claimed(store.as_ref(), yesterday).await, [first]);
    let today = of_build(store.as_ref(), "today").await;
    let second = started(store.as_ref(), "b").await;
    assert_eq!(claimed(store.as_ref(), yesterday).await, [], "what begins now is not for an older build");
    assert_eq!(claimed(store.as_ref(), today).await, [second]);
    store.close_lease(yesterday).await.unwrap();
    assert_eq!(claimed(store.as_ref(), today).await, [first], "a newer build goes on with it");
    store.close_lease(today).await.unwrap();
    let again = of_build(store.as_ref(), "yesterday").await;
    assert_eq!(claimed(store.as_ref(), again).await, [], "neither what the newer one has begun nor what it has taken over");
    let back = of_build(store.as_ref(), "today").await;
    assert_eq!(claimed(store.as_ref(), back).await, [first, second]);
}

pub(super) async fn a_build_that_somebody_prefers_is_the_newest(lab: &impl StoreLab) {
    let store = lab.store();
    let yesterday = of_build(store.as_ref(), "yesterday").await;
    let today = of_build(store.as_ref(), "today").await;
    let first = started(store.as_ref(), "a").await;
    assert_eq!(claimed(store.as_ref(), today).await, [first]);
    assert!(!store.prefer_build("of nobody").await.unwrap());
    assert!(store.prefer_build("yesterday").await.unwrap());
    store.close_lease(today).await.unwrap();
    let second = started(store.as_ref(), "b").await;
    let again = of_build(store.as_ref(), "today").await;
    assert_eq!(claimed(store.as_ref(), again).await, [first], "its own, and nothing new");
    assert_eq!(claimed(store.as_ref(), yesterday).await, [second]);
    store.close_lease(again).await.unwrap();
    assert_eq!(claimed(store.as_ref(), yesterday).await, [first]);
}

pub(super) async fn a_worker_of_no_build_claims_nothing_once_one_is_known(lab: &impl StoreLab) {
    let store = lab.store();
    let nameless = store.open_lease(worker(), TTL).await.unwrap();
    let first = started(store.as_ref(), "a").await;
    assert_eq!(claimed(store.as_ref(), nameless).await, [first]);
    let today = of_build(store.as_ref(), "today").await;
    let second = started(store.as_ref(), "b").await;
    assert_eq!(claimed(store.as_ref(), nameless).await, []);
    store.close_lease(nameless).await.unwrap();
    assert_eq!(claimed(store.as_ref(), today).await, [first, second]);
}

pub(super) async fn a_fenced_worker_is_no_build(lab: &impl StoreLab) {
    let store = lab.store();
    let lease = store.open_lease(worker(), TTL).await.unwrap();
    store.close_lease(lease).await.unwrap();
    assert!(matches!(store.declare_build(lease, "today").await, Err(StoreError::Fenced(fenced)) if fenced == lease));
    assert!(!store.prefer_build("today").await.unwrap(), "it is not known");
}
