//! Simulated sites on their own: lost answers, planned faults, hooks, sites that are down, the ledger.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use chrono::DateTime;
use recovery::{EffectToken, Generation, ItemName, PointId, ReplicationPolicy, SiteName};

use super::*;
use crate::{Call, Compute, Fence, NetworkChoice, PrepareReplica, ProviderError, RecoverMachine, Replicate, ReplicaStore, Replication};

const GENERATION: Generation = Generation { era: 1, grant_epoch: 1 };

fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn finish<T>(future: impl Future<Output = T>) -> T {
    match poll_once(future) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a simulated call waits"),
    }
}

fn call(seq: i64) -> Call {
    Call::new(EffectToken { era: 1, grant_epoch: 1, seq, run_epoch: 1, attempt: 1 }, "test")
}

/// A world with one machine `vm` at site a that has one point at site b.
struct Fixture {
    world: SimWorld,
    a: SimSite,
    b: SimSite,
    item: ItemName,
}

impl Fixture {
    fn new() -> Self {
        let world = SimWorld::new(Clock::new(|| DateTime::UNIX_EPOCH));
        let (a, b): (SiteName, SiteName) = ("a".parse().unwrap(), "b".parse().unwrap());
        world.add_machine(&a, "vm", &[("vda", 1 << 20, "qcow2")]);
        let fixture = Self { a: world.site(&a), b: world.site(&b), item: "vm".parse().unwrap(), world };
        fixture.protect();
        fixture
    }

    fn protect(&self) {
        let machine = finish(self.a.inspect("vm")).unwrap();
        let policy = ReplicationPolicy::default();
        let prepare = PrepareReplica { item: self.item.clone(), generation: GENERATION, machine, policy: policy.clone(), base: crate::Base::Empty };
        let endpoint = finish(self.b.prepare(&call(1), prepare)).unwrap();
        let replicate =
            Replicate { item: self.item.clone(), machine: "vm".to_owned(), generation: GENERATION, policy, endpoint, returning: None };
        finish(self.a.start_replication(&call(2), replicate)).unwrap();
        assert_eq!(self.world.replicate(&self.item), Step::Point(PointId::FIRST));
    }

    fn recover(&self, seq: i64) -> impl Future<Output = Result<crate::Recovered, ProviderError>> {
        let wanted = RecoverMachine {
            item: self.item.clone(),
            generation: GENERATION,
            point: PointId::FIRST,
            network: NetworkChoice::AsDefined,
        };
        let b = self.b.clone();
        async move { b.recover(&call(seq), wanted).await }
    }

    fn recovered(&self) -> Entry {
        self.world.ledger().total(&self.b.name, &self.item, Op::Recover)
    }
}

#[test]
fn a_lost_answer_leaves_the_effect_and_the_repeat_finds_it() {
    let f = Fixture::new();
    f.world.lose_answer(&f.b.name, Op::Recover, Some(1));
    let lost = finish(f.recover(3)).unwrap_err();
    assert!(lost.retryable() && !lost.not_applied());
    assert_eq!(finish(f.recover(4)).unwrap().token, call(3).token);
    assert_eq!(f.recovered(), Entry { calls: 2, applied: 1, repeats: 1, refused: 0 });
    assert_eq!(f.world.ledger().applied_more_than_once(), []);
}

#[test]
fn a_planned_failure_before_the_effect_leaves_nothing() {
    let f = Fixture::new();
    let error = ProviderError::Busy { operation: "recover".into(), target: "vm".into(), detail: "planned".into() };
    f.world.plan_fault(&f.b.name, Op::Recover, Moment::Before, Verdict::Fail(error.clone()), None);
    for seq in 3..6 {
        assert_eq!(finish(f.recover(seq)), Err(error.clone()));
    }
    assert_eq!(f.recovered(), Entry::default());
    f.world.clear_faults();
    assert!(finish(f.recover(6)).is_ok());
}

#[test]
fn a_hook_sees_both_moments_and_can_kill_the_caller_at_either() {
    let f = Fixture::new();
    let seen: Arc<Mutex<Vec<(Op, Moment)>>> = Arc::default();
    let (log, ledger_of) = (seen.clone(), f.world.clone());
    f.world.on_effect(Some(Arc::new(move |effect: &Effect| {
        let _entries = ledger_of.ledger(); // the world is free while a hook runs
        log.lock().unwrap().push((effect.op, effect.moment));
        if effect.moment == Moment::After { Verdict::Hang } else { Verdict::Proceed }
    })));
    assert!(poll_once(f.recover(3)).is_pending());
    assert_eq!(*seen.lock().unwrap(), [(Op::Recover, Moment::Before), (Op::Recover, Moment::After)]);
    assert_eq!(f.recovered().applied, 1);
    f.world.on_effect(None);
    assert!(finish(f.recover(4)).is_ok());
    assert_eq!(f.recovered().applied, 1);
}

#[test]
fn a_site_that_is_down_does_nothing_and_starts_its_machine_when_it_comes_back() {
    let f = Fixture::new();
    f.world.set_down(&f.a.name, true);
    let error = finish(f.a.fence(&call(3), &f.item, "vm")).unwrap_err();
    assert!(matches!(error, ProviderError::Unreachable { .. }) && error.not_applied());
    assert!(matches!(f.world.replicate(&f.item), Step::Failed(_)));
    f.world.set_down(&f.a.name, false);
    assert!(!f.world.write(&f.a.name, "vm", "vda", 0, 1), "it runs before the target was asked");
    assert_eq!(f.world.replicate(&f.item), Step::Paused);
    assert!(f.world.write(&f.a.name, "vm", "vda", 0, 1));
    assert_eq!(f.world.replicate(&f.item), Step::Point(PointId(2)));
}

#[test]
fn every_method_has_a_name_of_its_own() {
    let mut names: Vec<&str> = Op::ALL.iter().map(|op| op.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Op::ALL.len());
}

#[test]
fn the_same_calls_give_the_same_ledger() {
    let ledgers: Vec<Ledger> = (0..2)
        .map(|_| {
            let f = Fixture::new();
            finish(f.recover(3)).unwrap();
            finish(f.b.start_machine(&call(4), &f.item, GENERATION)).unwrap();
            f.world.ledger()
        })
        .collect();
    assert_eq!(ledgers[0], ledgers[1]);
}
