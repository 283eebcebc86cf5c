//! Simulated sites on their own: lost answers, planned faults, hooks, sites that are down, the ledger.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use chrono::DateTime;
use recovery::{EffectToken, Generation, ItemName, PointId, ReplicationPolicy, SiteName};

use super::*;
use crate::{
    Call, Compute, Fence, NetworkChoice, PowerState, PrepareReplica, ProviderError, RecoverMachine, Replicate, ReplicaStore, Replication, Reports,
};

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
            Replicate { item: self.item.clone(), machine: "vm".to_owned(), generation: GENERATION, policy, endpoint, returning: None, group: None };
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

#[test]
fn a_recovered_machine_does_not_start_where_another_has_its_name() {
    let f = Fixture::new();
    f.world.add_machine(&f.b.name, "vm", &[("vda", 1 << 20, "qcow2")]);
    finish(f.recover(3)).unwrap();
    let refused = finish(f.b.start_machine(&call(4), &f.item, GENERATION)).unwrap_err();
    assert!(matches!(refused, ProviderError::Platform { .. }) && refused.not_applied(), "{refused}");
    assert!(f.world.write(&f.b.name, "vm", "vda", 0, 1), "the other one runs on");
}

#[test]
fn the_network_log_has_whatever_ran_at_once() {
    let f = Fixture::new();
    finish(f.recover(3)).unwrap();
    finish(f.b.start_machine(&call(4), &f.item, GENERATION)).unwrap();
    finish(f.a.fence(&call(5), &f.item, "vm")).unwrap();
    let at_once: Vec<usize> = f.world.network_log().iter().map(|then| then.machines.iter().filter(|on| on.production).count()).collect();
    assert_eq!(at_once, [1, 2, 1]);
}

#[test]
fn a_power_failure_takes_the_record_of_changes() {
    let f = Fixture::new();
    finish(f.recover(3)).unwrap();
    finish(f.b.start_machine(&call(4), &f.item, GENERATION)).unwrap();
    assert!(f.world.write_recovered(&f.b.name, &f.item, "vda", 3, 1));
    assert_eq!(finish(f.b.written(&f.item, GENERATION)).unwrap().blocks, 1);
    f.world.power_failure(&f.b.name, "vm");
    let lost = finish(f.b.written(&f.item, GENERATION)).unwrap_err();
    assert!(matches!(lost, ProviderError::Platform { .. }), "{lost}");
}

#[test]
fn a_point_whose_acknowledgement_was_lost_is_what_the_next_is_counted_from() {
    let f = Fixture::new();
    let sent = || finish(f.a.replication_status(&f.item)).unwrap().unwrap().bytes_sent_total;
    assert!(f.world.write(&f.a.name, "vm", "vda", 1, 11));
    f.world.lose_next_acknowledgement(&f.item);
    assert!(matches!(f.world.replicate(&f.item), Step::Failed(_)));
    let before = sent();
    assert!(f.world.write(&f.a.name, "vm", "vda", 2, 22));
    assert_eq!(f.world.replicate(&f.item), Step::Point(PointId(3)));
    assert_eq!(sent() - before, BLOCK_BYTES);
    let newest = f.world.newest_point(&f.b.name, &f.item).unwrap();
    assert_eq!(newest, Contents::from([(("vda".to_owned(), 1), 11), (("vda".to_owned(), 2), 22)]));
}

#[test]
fn a_host_that_boots_asks_the_target_before_it_starts_what_is_replicated() {
    let f = Fixture::new();
    f.world.add_machine(&f.a.name, "other", &[("vda", 1 << 20, "qcow2")]);
    f.world.set_down(&f.a.name, true);
    finish(f.recover(3)).unwrap();
    let newer = Generation { era: 1, grant_epoch: 2 };
    let of_newer = |seq| Call::new(EffectToken { era: 1, grant_epoch: 2, seq, run_epoch: 1, attempt: 1 }, "test");
    finish(f.b.seal(&of_newer(1), &f.item, newer)).unwrap();
    f.world.set_down(&f.a.name, false);
    let power = |machine| f.world.machine(&f.a.name, machine).unwrap().power;
    assert_eq!(power("other"), PowerState::Running);
    assert_eq!((f.world.replicate(&f.item), power("vm")), (Step::Superseded, PowerState::Off));
    let wanted = RecoverMachine { item: f.item.clone(), generation: newer, point: PointId::FIRST, network: NetworkChoice::AsDefined };
    finish(f.b.recover(&of_newer(2), wanted)).unwrap();
    finish(f.b.start_machine(&of_newer(3), &f.item, newer)).unwrap();
    assert_eq!((f.world.replicate(&f.item), power("vm")), (Step::Quarantined, PowerState::Off));
    assert!(!f.world.machine(&f.a.name, "vm").unwrap().autostart);
    f.world.power_on(&f.a.name, "vm");
    f.a.report_all_again();
    let source = f.a.reports().into_iter().find_map(|report| report.source).unwrap();
    assert_eq!((source.power, source.autostart), (PowerState::Running, false), "what somebody starts all the same is seen");
}

#[test]
fn a_machine_that_waits_for_its_start_does_not_start_once_it_is_fenced() {
    let f = Fixture::new();
    let power = || f.world.machine(&f.a.name, "vm").unwrap().power;
    let call = |attempt| Call::new(EffectToken { era: 1, grant_epoch: 2, seq: 1, run_epoch: 1, attempt }, "test");
    f.world.set_down(&f.a.name, true);
    f.world.set_down(&f.a.name, false);
    let first = finish(f.a.shut_down(&call(1), &f.item, "vm", Duration::from_secs(60))).unwrap();
    assert_eq!((f.world.replicate(&f.item), power()), (Step::Paused, PowerState::Off));
    assert_eq!((finish(f.a.shut_down(&call(2), &f.item, "vm", Duration::from_secs(60))).unwrap(), power()), (first, PowerState::Off));
    finish(f.a.lift_fence(&call(3), &f.item, "vm")).unwrap();
    assert_eq!((f.world.replicate(&f.item), power()), (Step::Paused, PowerState::Off), "nobody waits for its start any more");
}
