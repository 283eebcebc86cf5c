//! Cases about the way home: what ran away from home ends up on the old disks, whatever happened on the way.

use std::collections::BTreeMap;

use super::{End, Script};
use crate::Phase;

/// What the item's disk must hold: blocks that were written. All others are zero.
#[derive(Debug, Clone, Default)]
struct Disk(BTreeMap<u64, u8>);

impl Disk {
    async fn write(&mut self, s: &Script<'_>, end: End, blocks: &[(u64, u8)]) {
        for (block, content) in blocks {
            s.lab.write_in(end, &s.lab.machine(), *block, *content).await;
            self.0.insert(*block, *content);
        }
    }

    async fn check(&self, s: &Script<'_>, end: End) {
        for block in self.0.keys().copied().chain([0, 100, 255]) {
            let expected = self.0.get(&block).copied().unwrap_or(0);
            assert_eq!(s.lab.read_in(end, &s.lab.machine(), block).await, expected, "block {block} at {end:?}");
        }
    }
}

pub(super) async fn a_round_trip_by_planned_failovers_gives_the_same_disk(s: &Script<'_>) {
    let mut disk = Disk::default();
    disk.write(s, End::First, &[(1, 11), (2, 22), (3, 33)]).await;
    s.protect().await;
    s.lab.point().await;
    disk.write(s, End::First, &[(2, 23), (4, 44)]).await;
    let away = s.planned_failover().await;
    disk.check(s, End::Second).await;
    disk.write(s, End::Second, &[(3, 34), (5, 55)]).await;
    s.commit(away).await;
    disk.write(s, End::Second, &[(5, 56), (6, 66)]).await;

    s.reprotect(away).await;
    s.lab.point_from(End::Second).await;
    disk.write(s, End::Second, &[(6, 67), (7, 77)]).await;
    let home = s.planned_failover().await;
    disk.check(s, End::First).await;
    disk.write(s, End::First, &[(7, 78), (8, 88)]).await;
    s.commit(home).await;
    disk.check(s, End::First).await;
}

pub(super) async fn a_second_round_trip_gives_the_same_disk(s: &Script<'_>) {
    let mut disk = Disk::default();
    disk.write(s, End::First, &[(1, 11), (2, 22)]).await;
    s.protect().await;
    s.lab.point().await;
    for lap in 0..2u8 {
        let there = s.planned_failover().await;
        disk.check(s, End::Second).await;
        disk.write(s, End::Second, &[(2, 100 + lap), (10 + u64::from(lap), 1)]).await;
        s.commit(there).await;
        disk.write(s, End::Second, &[(3, 110 + lap)]).await;
        s.reprotect(there).await;
        s.lab.point_from(End::Second).await;
        disk.write(s, End::Second, &[(4, 120 + lap)]).await;

        let home = s.planned_failover().await;
        disk.check(s, End::First).await;
        disk.write(s, End::First, &[(2, 130 + lap), (20 + u64::from(lap), 1)]).await;
        s.commit(home).await;
        disk.write(s, End::First, &[(3, 140 + lap)]).await;
        s.reprotect(home).await;
        s.lab.point_from(End::First).await;
        disk.write(s, End::First, &[(4, 150 + lap)]).await;
    }
}

pub(super) async fn a_round_trip_after_power_failures_gives_the_same_disk(s: &Script<'_>) {
    let mut disk = Disk::default();
    s.protect().await;
    disk.write(s, End::First, &[(1, 11)]).await;
    let chosen = s.lab.point().await;
    let behind = disk.clone();
    disk.write(s, End::First, &[(1, 12), (2, 22)]).await;
    s.lab.point().await;
    disk.write(s, End::First, &[(3, 33)]).await;
    s.lab.power_failure().await;

    let away = s.next_generation();
    s.source().fence(&s.call(), &s.item, &s.lab.machine()).await.expect("the machine is fenced");
    s.target().seal(&s.call(), &s.item, away).await.expect("the replica is sealed");
    s.run_from(chosen).await;
    let mut disk = behind;
    disk.write(s, End::Second, &[(4, 44)]).await;
    s.commit(away).await;
    disk.write(s, End::Second, &[(5, 55)]).await;
    s.lab.power_failure_at(End::Second).await;
    s.lab.power_on_at(End::Second).await;
    disk.write(s, End::Second, &[(6, 66)]).await;

    s.reprotect(away).await;
    s.lab.point_from(End::Second).await;
    disk.write(s, End::Second, &[(7, 77)]).await;
    s.planned_failover().await;
    for block in [2, 3] {
        assert_eq!(s.lab.read_in(End::First, &s.lab.machine(), block).await, 0, "block {block} was never away from home");
    }
    disk.check(s, End::First).await;
}

pub(super) async fn what_the_old_machine_wrote_after_its_last_point_is_put_right(s: &Script<'_>) {
    let mut disk = Disk::default();
    s.protect().await;
    disk.write(s, End::First, &[(1, 11)]).await;
    let chosen = s.lab.point().await;
    s.lab.write(2, 22).await;
    s.lab.point().await;
    s.lab.cut_line().await;
    s.lab.write(3, 33).await;

    let away = s.next_generation();
    s.source().fence(&s.call(), &s.item, &s.lab.machine()).await.expect("the machine is fenced");
    s.lab.mend_line().await;
    s.target().seal(&s.call(), &s.item, away).await.expect("the replica is sealed");
    s.run_from(chosen).await;
    disk.write(s, End::Second, &[(4, 44)]).await;
    s.commit(away).await;
    s.reprotect(away).await;
    s.lab.point_from(End::Second).await;
    s.planned_failover().await;
    disk.check(s, End::First).await;
    for block in [2, 3] {
        assert_eq!(s.lab.read_in(End::First, &s.lab.machine(), block).await, 0, "block {block} was never away from home");
    }
}

pub(super) async fn a_return_sends_only_what_differs(s: &Script<'_>) {
    let mut disk = Disk::default();
    let all: Vec<(u64, u8)> = (10..74).map(|block| (block, 5)).collect();
    disk.write(s, End::First, &all).await;
    s.protect().await;
    s.lab.point().await;
    let away = s.planned_failover().await;
    s.commit(away).await;
    disk.write(s, End::Second, &[(11, 6), (200, 7)]).await;
    s.reprotect(away).await;
    s.lab.point_from(End::Second).await;
    let status = s.source().replication_status(&s.item).await.expect("there is a status").expect("the item is replicated");
    assert!(status.bytes_sent_total < 16 * 65_536, "{status:?}");
    s.planned_failover().await;
    disk.check(s, End::First).await;
}

pub(super) async fn a_quarantined_machine_becomes_a_base(s: &Script<'_>) {
    let mut disk = Disk::default();
    s.protect().await;
    disk.write(s, End::First, &[(1, 11)]).await;
    let chosen = s.lab.point().await;
    s.lab.cut_line().await;
    s.seal().await;
    s.run_from(chosen).await;
    let away = s.generation();
    s.lab.write(2, 99).await;
    s.lab.mend_line().await;
    s.lab.until_phase(Phase::Quarantined).await;
    disk.write(s, End::Second, &[(3, 33)]).await;
    s.commit(away).await;
    s.reprotect(away).await;
    s.lab.point_from(End::Second).await;
    s.planned_failover().await;
    disk.check(s, End::First).await;
    assert_eq!(s.lab.read_in(End::First, &s.lab.machine(), 2).await, 0);
}

pub(super) async fn a_failback_that_is_undone_lets_the_item_run_away_from_home(s: &Script<'_>) {
    let mut disk = Disk::default();
    disk.write(s, End::First, &[(1, 11)]).await;
    s.protect().await;
    s.lab.point().await;
    let away = s.planned_failover().await;
    s.commit(away).await;
    s.reprotect(away).await;
    s.lab.point_from(End::Second).await;
    disk.write(s, End::Second, &[(2, 22)]).await;
    let home = s.planned_failover().await;
    s.lab.write_in(End::First, &s.lab.machine(), 3, 99).await;

    s.next_generation();
    s.target().discard(&s.call(), &s.item, home).await.expect("what ran at home is discarded");
    s.protect().await;
    s.source().lift_fence(&s.call(), &s.item, &s.lab.machine()).await.expect("the fence is lifted");
    s.lab.power_on_at(End::Second).await; // it was down before it was fenced
    disk.check(s, End::Second).await;
    disk.write(s, End::Second, &[(4, 44)]).await;
    s.lab.point_from(End::Second).await;
    s.planned_failover().await;
    disk.check(s, End::First).await;
    assert_eq!(s.lab.read_in(End::First, &s.lab.machine(), 3).await, 0);
}
