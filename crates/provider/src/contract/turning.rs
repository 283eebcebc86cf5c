//! Cases about the old machine: what it must be to become a base, and what becomes of it.

use super::{End, Script};
use crate::{Base, ObjectKind, Phase, PowerState, ProviderError, Quiet};

/// Runs away from home, committed.
async fn away(s: &Script<'_>) -> ::recovery::Generation {
    s.lab.write(1, 11).await;
    s.protect().await;
    s.lab.point().await;
    let away = s.planned_failover().await;
    s.commit(away).await;
    away
}

pub(super) async fn the_old_disks_stay_as_they_are_while_they_are_a_base(s: &Script<'_>) {
    let generation = away(s).await;
    let before = s.lab.first_disk().await;
    s.reprotect(generation).await;
    for content in 2..5 {
        s.lab.write_recovered(1, content).await;
        s.lab.point_from(End::Second).await;
    }
    assert_eq!(s.lab.first_disk().await, before);
    let home = s.planned_failover().await;
    s.lab.write_in(End::First, &s.lab.machine(), 1, 5).await;
    s.commit(home).await;
    assert_eq!(s.lab.first_disk().await, before);
    assert_eq!(s.lab.read_in(End::First, &s.lab.machine(), 1).await, 5);
}

pub(super) async fn dropping_the_replica_gives_the_old_machine_back_off(s: &Script<'_>) {
    let generation = away(s).await;
    let machine = s.lab.machine();
    let before = s.lab.first_disk().await;
    let home = s.lab.site(End::First);
    let known = home.inspect(&machine).await.expect("the machine is inspected");
    s.reprotect(generation).await;
    s.lab.write_recovered(1, 99).await;
    s.lab.point_from(End::Second).await;
    let gone = home.inspect(&machine).await;
    assert_eq!(gone, Err(ProviderError::NoSuchMachine { machine: machine.clone() }), "nobody can start it by mistake");

    s.lab.site(End::Second).stop_replication(&s.call(), &s.item).await.expect("replication stops");
    for _ in 0..2 {
        home.drop_replica(&s.call(), &s.item).await.expect("the replica is dropped");
    }
    assert_eq!(s.lab.first_disk().await, before);
    let back = home.inspect(&machine).await.expect("the machine is known again");
    assert_eq!((back.power, back.autostart), (PowerState::Off, false));
    assert_eq!((back.uuid, back.disks), (known.uuid, known.disks));
    s.lab.power_on().await;
    assert_eq!(s.lab.read_in(End::First, &machine, 1).await, 11);
}

pub(super) async fn a_machine_that_somebody_starts_again_is_no_base(s: &Script<'_>) {
    let generation = away(s).await;
    let policy = s.replica().await.policy;
    s.lab.power_on().await;
    s.turn();
    s.next_generation();
    let refused = s.prepare(Base::OldMachine, &policy).await.expect_err("it runs");
    assert!(matches!(&refused, ProviderError::NotFenced { item, .. } if *item == s.item), "{refused}");
    assert_eq!(s.lab.read_in(End::First, &s.lab.machine(), 1).await, 11, "it was not touched");
    s.turn();
    s.reprotect(generation).await;
    s.lab.point_from(End::Second).await;
}

pub(super) async fn where_there_is_no_old_machine_there_is_no_base(s: &Script<'_>) {
    let policy = ::recovery::ReplicationPolicy::default();
    let refused = s.prepare(Base::OldMachine, &policy).await.expect_err("there is none");
    assert!(matches!(&refused, ProviderError::NoOldMachine { item, .. } if *item == s.item), "{refused}");
    assert_eq!(s.target().replica(&s.item).await, Err(ProviderError::NoSuchReplica { item: s.item.clone() }));
}

pub(super) async fn preparing_twice_takes_the_old_machine_once(s: &Script<'_>) {
    let generation = away(s).await;
    s.reprotect(generation).await;
    s.lab.write_recovered(2, 22).await;
    s.lab.point_from(End::Second).await;
    let before = s.replica().await;
    s.prepare(Base::OldMachine, &before.policy).await.expect("preparing twice is once");
    s.lab.restart_source().await; // the site at home, which is the target now
    s.prepare(Base::OldMachine, &before.policy).await.expect("preparing twice is once");
    assert!(before.points.iter().all(|p| p.generation == s.generation()));
    s.lab.write_recovered(3, 33).await;
    let point = s.lab.point_from(End::Second).await;
    assert!(before.points.iter().all(|p| p.id < point));
    s.planned_failover().await;
    for (block, content) in [(1, 11), (2, 22), (3, 33)] {
        assert_eq!(s.lab.read_in(End::First, &s.lab.machine(), block).await, content, "block {block}");
    }
}

pub(super) async fn a_retired_machine_keeps_its_disks_and_is_a_base(s: &Script<'_>) {
    let there = away(s).await;
    s.reprotect(there).await;
    s.lab.point_from(End::Second).await;
    let home = s.planned_failover().await;
    let second = s.lab.site(End::Second);
    for _ in 0..2 {
        second.retire(&s.call(), &s.item, there).await.expect("it is retired");
    }
    s.lab.restart_target().await;
    let second = s.lab.site(End::Second);
    let gone = second.inspect(&s.lab.machine()).await;
    assert_eq!(gone, Err(ProviderError::NoSuchMachine { machine: s.lab.machine() }));
    assert_eq!(s.objects(&second, &[ObjectKind::Machine]).await, [""; 0]);
    assert_ne!(s.objects(&second, &[ObjectKind::MachineDisk]).await, [""; 0]);
    s.commit(home).await;

    s.reprotect(home).await;
    second.retire(&s.call(), &s.item, there).await.expect("a base is retired for good");
    s.lab.write(2, 22).await;
    s.lab.point_from(End::First).await;
    let again = s.planned_failover().await;
    assert_eq!((s.lab.read_recovered(1).await, s.lab.read_recovered(2).await), (11, 22));
    s.commit(again).await;
    assert_eq!((s.lab.read_recovered(1).await, s.lab.read_recovered(2).await), (11, 22));
    let disks = s.objects(&second, &[ObjectKind::MachineDisk]).await;
    assert_eq!(disks.len(), 1, "the base that a recovery had made is gone: {disks:?}");
}

pub(super) async fn a_machine_that_runs_is_not_retired(s: &Script<'_>) {
    let generation = away(s).await;
    let refused = s.target().retire(&s.call(), &s.item, generation).await.expect_err("it runs");
    assert!(matches!(refused, ProviderError::StillRunning { .. }), "{refused}");
    let other = s.next_generation();
    let refused = s.target().retire(&s.call(), &s.item, other).await;
    assert_eq!(refused, Err(ProviderError::NotRecovered { item: s.item.clone(), generation: other }));
    s.lab.until_phase(Phase::Stopped).await;
    assert_eq!(s.lab.read_recovered(1).await, 11);
    s.target().flatten(&s.call(), &s.item, generation, std::sync::Arc::new(Quiet)).await.expect("it is flat");
}

pub(super) async fn a_retired_machine_is_fenced_and_is_not_discarded(s: &Script<'_>) {
    let there = away(s).await;
    s.reprotect(there).await;
    s.lab.point_from(End::Second).await;
    s.planned_failover().await;
    let second = s.lab.site(End::Second);
    second.retire(&s.call(), &s.item, there).await.expect("it is retired");
    let before = s.objects(&second, &[ObjectKind::MachineDisk]).await;
    let proof = second.fence(&s.call(), &s.item, &s.lab.machine()).await.expect("what is taken from the hypervisor is fenced");
    assert_eq!((proof.power, proof.autostart_off), (PowerState::Off, true));
    let refused = second.discard(&s.call(), &s.item, there).await.expect_err("its disks belong to the next replica");
    assert!(matches!(refused, ProviderError::Platform { .. }) && refused.not_applied(), "{refused}");
    assert_eq!(s.objects(&second, &[ObjectKind::MachineDisk]).await, before);
}

pub(super) async fn dropping_the_replica_removes_a_base_that_a_recovery_had_made(s: &Script<'_>) {
    let there = away(s).await;
    s.reprotect(there).await;
    s.lab.point_from(End::Second).await;
    let home = s.planned_failover().await;
    s.commit(home).await;
    s.reprotect(home).await;
    s.lab.write_in(End::First, &s.lab.machine(), 2, 22).await;
    s.lab.point_from(End::First).await;

    s.lab.site(End::First).stop_replication(&s.call(), &s.item).await.expect("replication stops");
    let second = s.lab.site(End::Second);
    for _ in 0..2 {
        second.drop_replica(&s.call(), &s.item).await.expect("the replica is dropped");
    }
    let kinds = [ObjectKind::Machine, ObjectKind::MachineDisk, ObjectKind::PointFile, ObjectKind::Record, ObjectKind::Temporary];
    assert_eq!(s.objects(&second, &kinds).await, [""; 0]);
    let gone = second.inspect(&s.lab.machine()).await;
    assert_eq!(gone, Err(ProviderError::NoSuchMachine { machine: s.lab.machine() }));
    for (block, content) in [(1, 11), (2, 22)] {
        assert_eq!(s.lab.read_in(End::First, &s.lab.machine(), block).await, content, "block {block}");
    }
}

pub(super) async fn dropping_a_replica_that_got_no_point_gives_back_what_a_recovery_had_made(s: &Script<'_>) {
    let there = away(s).await;
    for block in 10..74 {
        s.lab.write_recovered(block, 5).await;
    }
    s.reprotect(there).await;
    s.lab.point_from(End::Second).await;
    let home = s.planned_failover().await;
    s.commit(home).await;
    s.lab.write_in(End::First, &s.lab.machine(), 2, 22).await;

    s.turn();
    s.next_generation();
    let (second, machine) = (s.lab.site(End::Second), s.lab.machine());
    let kinds = [ObjectKind::Machine, ObjectKind::MachineDisk, ObjectKind::PointFile];
    let before = s.objects(&second, &kinds).await;
    let known = second.inspect(&machine).await.expect("the machine is inspected");
    let policy = ::recovery::ReplicationPolicy::default();
    begun_and_dropped(s, &policy).await;
    assert_eq!(s.objects(&second, &kinds).await, before);
    let back = second.inspect(&machine).await.expect("the machine is known again");
    assert_eq!((back.power, back.autostart), (PowerState::Off, false));
    assert_eq!((back.uuid, back.disks), (known.uuid, known.disks));
    second.retire(&s.call(), &s.item, there).await.expect("its records are as they were");

    let retired = s.objects(&second, &kinds).await;
    begun_and_dropped(s, &policy).await;
    assert_eq!(s.objects(&second, &kinds).await, retired);
    assert_eq!(second.inspect(&machine).await, Err(ProviderError::NoSuchMachine { machine: machine.clone() }), "it stays retired");
    s.turn();

    s.reprotect(home).await;
    s.lab.point_from(End::First).await;
    let status = s.source().replication_status(&s.item).await.expect("there is a status").expect("the item is replicated");
    assert!(status.bytes_sent_total < 16 * 65_536, "{status:?}");
    s.planned_failover().await;
    for (block, content) in [(1, 11), (2, 22), (10, 5), (73, 5)] {
        assert_eq!(s.lab.read_recovered(block).await, content, "block {block}");
    }
}

/// A reprotect that is given up before anything was sent.
async fn begun_and_dropped(s: &Script<'_>, policy: &::recovery::ReplicationPolicy) {
    s.target().fence(&s.call(), &s.item, &s.lab.machine()).await.expect("the old machine is off");
    s.next_generation();
    s.prepare(Base::OldMachine, policy).await.expect("the old machine is the base");
    for _ in 0..2 {
        s.target().drop_replica(&s.call(), &s.item).await.expect("the replica is dropped");
    }
    assert_eq!(s.target().replica(&s.item).await, Err(ProviderError::NoSuchReplica { item: s.item.clone() }));
}
