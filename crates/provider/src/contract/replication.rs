//! Cases about points: how they come, what they hold, which are kept.

use ::recovery::{Consistency, EffectToken, PointId, ReplicationPolicy};

use super::Script;
use crate::{Call, ObjectKind, Phase, Pin, PointRequest, PrepareReplica, ProviderError, Requested};

pub(super) async fn an_unknown_machine_is_refused(s: &Script<'_>) {
    let refused = s.source().inspect("no-such-machine").await;
    assert_eq!(refused, Err(ProviderError::NoSuchMachine { machine: "no-such-machine".to_owned() }));
}

pub(super) async fn a_disk_that_is_not_qcow2_is_refused(s: &Script<'_>) {
    let machine = s.lab.raw_machine();
    let refused = s.source().inspect(&machine).await.expect_err("it is refused");
    assert!(matches!(&refused, ProviderError::DiskNotQcow2 { machine: m, format, .. } if *m == machine && format == "raw"), "{refused}");
    assert!(refused.not_applied() && !refused.retryable());
}

pub(super) async fn seeding_makes_a_first_point(s: &Script<'_>) {
    s.lab.write(3, 33).await;
    s.protect().await;
    let first = s.lab.point().await;
    s.lab.until_phase(Phase::Replicating).await;

    let replica = s.replica().await;
    assert_eq!(replica.points.first().map(|p| p.id), Some(PointId::FIRST));
    assert!(replica.points.iter().any(|p| p.id == first && p.bytes > 0));
    assert_eq!((replica.generation, replica.sealed, replica.withdrawn), (s.generation(), false, false));
    assert_eq!(replica.machine.name, s.lab.machine());
    let status = s.source().replication_status(&s.item).await.expect("there is a status").expect("the item is replicated");
    assert!(status.last_point >= Some(first) && status.bytes_sent_total > 0, "{status:?}");

    s.seal().await;
    s.run_from(first).await;
    assert_eq!((s.lab.read_recovered(3).await, s.lab.read_recovered(4).await), (33, 0));
}

pub(super) async fn a_point_holds_what_was_written_before_it_and_nothing_later(s: &Script<'_>) {
    s.protect().await;
    s.lab.write(1, 11).await;
    let earlier = s.lab.point().await;
    s.lab.write(1, 12).await;
    s.lab.write(200, 21).await;
    let later = s.lab.point().await;
    assert!(earlier < later);

    s.seal().await;
    s.run_from(earlier).await;
    assert_eq!((s.lab.read_recovered(1).await, s.lab.read_recovered(200).await), (11, 0));
    s.discard().await;

    s.next_generation();
    s.run_from(later).await;
    assert_eq!((s.lab.read_recovered(1).await, s.lab.read_recovered(200).await), (12, 21));
}

pub(super) async fn a_point_that_is_asked_for_is_begun_at_once(s: &Script<'_>) {
    let rarely = ReplicationPolicy::new(3_600, 12, 86_400, None).expect("the policy is within its limits");
    s.protect_with(rarely).await;
    let first = s.lab.point().await;
    for compare in [false, true] {
        s.lab.write(1, if compare { 12 } else { 11 }).await;
        let by = s.next_generation();
        let wanted = PointRequest { item: s.item.clone(), by, compare };
        s.source().request_point(&s.call(), wanted.clone()).await.expect("a point is asked for");
        s.source().request_point(&s.call(), wanted).await.expect("twice is once");
        let point = s.lab.point().await;
        assert_eq!(wait_until_answered(s).await, Requested { by, compare, made: Some(point) });
        assert!(point > first);
    }
    s.seal().await;
    let last = *s.offered().await.last().expect("there are points");
    s.run_from(last).await;
    assert_eq!((s.lab.read_recovered(1).await, s.lab.read_recovered(2).await), (12, 0));
}

/// The request for a point, once the source has heard that the target has the point.
async fn wait_until_answered(s: &Script<'_>) -> Requested {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let status = s.source().replication_status(&s.item).await.expect("there is a status").expect("the item is replicated");
        if let Some(answered) = status.requested.filter(|requested| requested.made.is_some()) {
            return answered;
        }
        assert!(std::time::Instant::now() < deadline, "the request is not answered");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

pub(super) async fn nobody_is_asked_for_a_point_of_an_item_that_is_not_replicated(s: &Script<'_>) {
    let wanted = PointRequest { item: s.item.clone(), by: s.generation(), compare: false };
    assert_eq!(s.source().request_point(&s.call(), wanted).await, Err(ProviderError::NotReplicated { item: s.item.clone() }));
}

pub(super) async fn a_cut_line_leaves_earlier_points_whole_and_no_rest(s: &Script<'_>) {
    s.protect().await;
    s.lab.write(1, 11).await;
    let earlier = s.lab.point().await;
    for block in 0..64 {
        s.lab.write(block, 77).await;
    }
    s.lab.cut_line_midway().await;
    assert!(s.offered().await.contains(&earlier));
    s.lab.mend_line().await;
    let later = s.lab.point().await;

    s.seal().await;
    assert_eq!(s.objects(&s.target(), &[ObjectKind::Temporary]).await, [""; 0]);
    s.run_from(earlier).await;
    assert_eq!((s.lab.read_recovered(1).await, s.lab.read_recovered(63).await), (11, 0));
    s.discard().await;
    s.next_generation();
    s.run_from(later).await;
    assert_eq!((s.lab.read_recovered(1).await, s.lab.read_recovered(63).await), (77, 77));
}

pub(super) async fn a_seeding_that_was_cut_goes_on(s: &Script<'_>) {
    for block in 0..128 {
        s.lab.write(block, 5).await;
    }
    s.protect().await;
    s.lab.cut_line_midway().await;
    assert_eq!(s.offered().await, []);
    s.lab.write(7, 6).await;
    s.lab.mend_line().await;
    let point = s.lab.point().await;

    s.seal().await;
    s.run_from(point).await;
    for (block, content) in [(0, 5), (7, 6), (127, 5), (128, 0)] {
        assert_eq!(s.lab.read_recovered(block).await, content, "block {block}");
    }
}

pub(super) async fn a_sealed_replica_takes_no_more_points(s: &Script<'_>) {
    s.protect().await;
    s.lab.point().await;
    let sealed = s.seal().await;
    assert!(sealed.sealed);
    s.lab.write(1, 11).await;
    s.lab.until_phase(Phase::Superseded).await;
    assert_eq!(s.replica().await, sealed);
}

pub(super) async fn a_replica_is_not_prepared_for_an_older_generation(s: &Script<'_>) {
    s.protect().await;
    s.lab.point().await;
    let older = s.generation();
    let sealed = s.seal().await;
    let prepare = PrepareReplica {
        item: s.item.clone(),
        generation: older,
        machine: sealed.machine.clone(),
        policy: sealed.policy.clone(),
        base: crate::Base::Empty,
    };
    let refused = s.target().prepare(&s.call(), prepare).await;
    let expected = ProviderError::Superseded { item: s.item.clone(), given: older, newest: s.generation() };
    assert_eq!(refused, Err(expected));
    assert_eq!(s.replica().await, sealed);
}

pub(super) async fn preparing_again_lets_points_go_on(s: &Script<'_>) {
    s.protect().await;
    let before = s.lab.point().await;
    s.seal().await;
    s.lab.write(1, 11).await;
    s.lab.until_phase(Phase::Superseded).await;

    s.protect().await;
    let after = s.lab.point().await;
    assert!(before < after);
    s.seal().await;
    s.run_from(after).await;
    assert_eq!(s.lab.read_recovered(1).await, 11);
}

pub(super) async fn retention_keeps_the_newest_and_the_pinned_points(s: &Script<'_>) {
    s.protect_keeping(3).await;
    s.lab.write(0, 1).await;
    let pinned = s.lab.point().await;
    let pin = Pin("contract".to_owned());
    for _ in 0..2 {
        s.target().pin(&s.call(), &s.item, pinned, pin.clone()).await.expect("the point is pinned");
    }
    let mut newest = pinned;
    for content in 2..8 {
        s.lab.write(0, content).await;
        s.lab.write(u64::from(content), content).await;
        newest = s.lab.point().await;
    }
    let replica = s.seal().await;
    assert!(replica.points.len() <= 4, "{:?}", replica.points);
    assert!(replica.points.iter().any(|p| p.id == newest));
    let kept = replica.points.iter().find(|p| p.id == pinned).expect("the pinned point is kept");
    assert_eq!(kept.pins, std::slice::from_ref(&pin));

    s.run_from(pinned).await;
    assert_eq!((s.lab.read_recovered(0).await, s.lab.read_recovered(2).await), (1, 0));
    s.discard().await;
    s.next_generation();
    s.run_from(newest).await;
    for (block, content) in [(0, 7), (2, 2), (5, 5), (7, 7), (8, 0)] {
        assert_eq!(s.lab.read_recovered(block).await, content, "block {block}");
    }
    s.target().unpin(&s.call(), &s.item, pinned, pin.clone()).await.expect("the pin is taken away");
    s.target().unpin(&s.call(), &s.item, pinned, pin).await.expect("taking it away twice is once");
    assert!(s.replica().await.points.iter().all(|p| p.pins.is_empty()));
}

pub(super) async fn the_source_goes_on_after_a_restart_without_being_told(s: &Script<'_>) {
    s.protect().await;
    s.lab.write(1, 11).await;
    let before = s.lab.point().await;
    s.lab.restart_source().await;
    s.lab.write(2, 22).await;
    let after = s.lab.point().await;
    assert!(before < after);
    s.seal().await;
    s.run_from(after).await;
    assert_eq!((s.lab.read_recovered(1).await, s.lab.read_recovered(2).await), (11, 22));
}

pub(super) async fn the_target_keeps_its_points_over_a_restart(s: &Script<'_>) {
    s.protect().await;
    s.lab.write(1, 11).await;
    let before = s.lab.point().await;
    s.lab.restart_target().await;
    assert!(s.offered().await.contains(&before));
    s.lab.write(2, 22).await;
    let after = s.lab.point().await;
    assert!(before < after);
    s.seal().await;
    s.run_from(before).await;
    assert_eq!((s.lab.read_recovered(1).await, s.lab.read_recovered(2).await), (11, 0));
}

pub(super) async fn a_power_failure_of_the_machine_loses_no_change(s: &Script<'_>) {
    s.protect().await;
    s.lab.write(1, 11).await;
    let before = s.lab.point().await;
    s.lab.write(2, 22).await;
    s.lab.power_failure().await;
    s.lab.power_on().await;
    s.lab.write(3, 33).await;
    let after = s.lab.point().await;
    assert!(before < after);
    s.seal().await;
    s.run_from(after).await;
    for (block, content) in [(1, 11), (2, 22), (3, 33), (4, 0)] {
        assert_eq!(s.lab.read_recovered(block).await, content, "block {block}");
    }
}

pub(super) async fn a_machine_that_is_off_pauses_its_replication(s: &Script<'_>) {
    s.protect().await;
    s.lab.point().await;
    s.lab.power_failure().await;
    s.lab.until_phase(Phase::Paused).await;
    s.lab.power_on().await;
    s.lab.until_phase(Phase::Replicating).await;
}

pub(super) async fn stopping_removes_the_marks_from_the_machine(s: &Script<'_>) {
    s.protect().await;
    s.lab.point().await;
    assert_ne!(s.objects(&s.source(), &[ObjectKind::Checkpoint]).await, [""; 0]);
    for _ in 0..2 {
        s.source().stop_replication(&s.call(), &s.item).await.expect("replication stops");
    }
    let marks = [ObjectKind::Checkpoint, ObjectKind::Temporary];
    assert_eq!(s.objects(&s.source(), &marks).await, [""; 0]);
    s.lab.until_phase(Phase::Stopped).await;
}

pub(super) async fn reports_tell_what_has_changed(s: &Script<'_>) {
    s.protect().await;
    let point = s.lab.point().await;
    let source = s.source().reports();
    assert!(source.iter().any(|r| r.item == s.item && r.replica.is_none() && r.replication.is_some()), "{source:?}");
    let target = s.target().reports();
    let replica = target.iter().find(|r| r.item == s.item).and_then(|r| r.replica.clone()).expect("the replica is reported");
    assert!(replica.points.iter().any(|p| p.id == point));

    s.seal().await;
    assert!(s.target().reports().iter().any(|r| r.replica.as_ref().is_some_and(|r| r.sealed)));
    assert_eq!(s.target().reports(), []);
    s.target().report_all_again();
    assert_eq!(s.target().reports().len(), 1);

    let older = EffectToken { era: 0, ..s.call().token };
    let refused = s.target().withdraw_points(&Call::new(older, "late"), &s.item).await;
    assert!(refused.is_err());
    assert_eq!(s.target().reports(), []);
}

/// A policy with an app-consistent point each second.
fn app_consistent() -> ReplicationPolicy {
    let policy = ReplicationPolicy::new(1, 16, 3600, None).and_then(|policy| policy.with_app_consistent(Some(1)));
    policy.expect("the case's policy is within its limits")
}

pub(super) async fn an_app_consistent_point_is_taken_when_it_is_due(s: &Script<'_>) {
    s.protect_with(app_consistent()).await;
    s.lab.write(1, 11).await;
    s.lab.point().await;
    let status = s.source().replication_status(&s.item).await.expect("there is a status").expect("the item is replicated");
    assert_eq!(status.app_error, None);
    let newest = status.last_app_point.expect("a point is app-consistent");
    let replica = s.replica().await;
    let point = replica.points.iter().find(|p| p.id == newest).expect("the target has it");
    assert_eq!(point.consistency, Consistency::App);
}

pub(super) async fn a_guest_that_can_not_be_frozen_gives_points_all_the_same_and_says_why(s: &Script<'_>) {
    s.lab.refuse_freeze().await;
    s.protect_with(app_consistent()).await;
    s.lab.write(1, 11).await;
    let point = s.lab.point().await;
    let status = s.source().replication_status(&s.item).await.expect("there is a status").expect("the item is replicated");
    assert!(status.app_error.is_some() && status.last_app_point.is_none() && status.last_error.is_none(), "{status:?}");
    assert!(s.replica().await.points.iter().all(|p| p.consistency == Consistency::Crash));
    s.seal().await;
    s.run_from(point).await;
    assert_eq!(s.lab.read_recovered(1).await, 11);
}
