//! Cases about machines that are made from points.

use ::recovery::{Generation, PointId};

use super::Script;
use crate::{Call, ObjectKind, PowerState, ProviderError, RecoveredState};

const MACHINE: &[ObjectKind] = &[ObjectKind::Machine, ObjectKind::MachineDisk, ObjectKind::Checkpoint, ObjectKind::Temporary];

async fn sealed_with_one_point(s: &Script<'_>) -> PointId {
    s.lab.write(1, 11).await;
    s.protect().await;
    let point = s.lab.point().await;
    s.seal().await;
    point
}

async fn observed(s: &Script<'_>, generation: Generation) -> RecoveredState {
    s.target().observe_machine(&s.item, generation).await.expect("the machine is observed")
}

pub(super) async fn recovering_twice_makes_one_machine(s: &Script<'_>) {
    let point = sealed_with_one_point(s).await;
    let first = s.try_recover(point).await.expect("the point is recovered");
    let second = s.try_recover(point).await.expect("recovering again is no error");
    assert_eq!(second.point, point);
    let disks = s.objects(&s.target(), &[ObjectKind::MachineDisk]).await;
    assert_eq!(disks.len(), s.replica().await.machine.disks.len(), "{disks:?}");
    let token = match observed(s, s.generation()).await {
        RecoveredState::Prepared { token, point: p } => {
            assert_eq!(p, point);
            token
        }
        other @ (RecoveredState::Absent | RecoveredState::Started { .. }) => panic!("it is {other:?}"),
    };
    assert!(token == first.token || token == second.token);
    s.try_start().await.expect("the machine starts");
    assert_eq!(s.lab.read_recovered(1).await, 11);
}

pub(super) async fn starting_twice_is_one_start(s: &Script<'_>) {
    let point = sealed_with_one_point(s).await;
    let first = s.run_from(point).await;
    s.lab.write_recovered(2, 22).await;
    let second = s.try_start().await.expect("starting again is no error");
    assert_eq!(first, second);
    assert_eq!(s.lab.read_recovered(2).await, 22);
    let again = s.try_recover(point).await.expect("a late repeat of recover finds the machine");
    assert_eq!(again.token, first.token);
    assert_eq!(s.lab.read_recovered(2).await, 22);
    let RecoveredState::Started { token, point: from, since, power, standalone } = observed(s, s.generation()).await else {
        panic!("it is not started");
    };
    assert_eq!((token, from, since, power), (first.token, point, first.since, PowerState::Running));
    assert!(!standalone);
}

pub(super) async fn a_stale_token_is_refused_and_changes_nothing(s: &Script<'_>) {
    let point = sealed_with_one_point(s).await;
    let late = s.call();
    s.run_from(point).await;
    let seen = s.call().token;
    s.target().pin(&Call::new(seen, "contract"), &s.item, point, crate::Pin("x".to_owned())).await.expect("the point is pinned");
    let (replica, objects) = (s.replica().await, s.objects(&s.target(), MACHINE).await);

    let stale = ProviderError::StaleToken { item: s.item.clone(), given: late.token, seen };
    assert!(stale.not_applied() && !stale.retryable());
    let generation = s.generation();
    assert_eq!(s.target().discard(&late, &s.item, generation).await, Err(stale.clone()));
    assert_eq!(s.target().start_machine(&late, &s.item, generation).await, Err(stale.clone()));
    assert_eq!(s.target().recover(&late, s.wanted(point)).await, Err(stale.clone()));
    assert_eq!(s.target().withdraw_points(&late, &s.item).await, Err(stale.clone()));
    assert_eq!(s.target().drop_replica(&late, &s.item).await, Err(stale));
    assert_eq!((s.replica().await, s.objects(&s.target(), MACHINE).await), (replica, objects));

    s.lab.restart_target().await;
    let forgotten = s.target().discard(&late, &s.item, generation).await;
    assert!(matches!(forgotten, Err(ProviderError::StaleToken { .. })), "{forgotten:?}");
    assert_eq!(s.lab.read_recovered(1).await, 11);
}

pub(super) async fn a_point_that_is_not_there_is_refused(s: &Script<'_>) {
    sealed_with_one_point(s).await;
    let before = s.objects(&s.target(), MACHINE).await;
    let point = PointId(999_999);
    let refused = s.try_recover(point).await;
    assert_eq!(refused, Err(ProviderError::NoSuchPoint { item: s.item.clone(), point }));
    assert_eq!(s.objects(&s.target(), MACHINE).await, before);
}

pub(super) async fn what_was_never_recovered_is_not_started(s: &Script<'_>) {
    sealed_with_one_point(s).await;
    let refused = s.try_start().await;
    assert_eq!(refused, Err(ProviderError::NotRecovered { item: s.item.clone(), generation: s.generation() }));
    assert_eq!(observed(s, s.generation()).await, RecoveredState::Absent);
}

pub(super) async fn an_older_generation_is_not_started_beside_a_newer_one(s: &Script<'_>) {
    let point = sealed_with_one_point(s).await;
    let older = s.generation();
    s.try_recover(point).await.expect("the point is recovered");
    let newer = s.next_generation();
    s.try_recover(point).await.expect("a newer generation replaces what was never started");
    assert_eq!(observed(s, older).await, RecoveredState::Absent);

    let refused = s.target().start_machine(&s.call(), &s.item, older).await;
    assert_eq!(refused, Err(ProviderError::Superseded { item: s.item.clone(), given: older, newest: newer }));
    s.try_start().await.expect("the newer one starts");
    s.target().discard(&s.call(), &s.item, older).await.expect("discarding what is not there is no error");
    assert_eq!(s.lab.read_recovered(1).await, 11);
}

pub(super) async fn a_started_machine_is_never_replaced_unasked(s: &Script<'_>) {
    let point = sealed_with_one_point(s).await;
    let older = s.generation();
    s.run_from(point).await;
    s.lab.write_recovered(2, 22).await;
    s.next_generation();
    let refused = s.try_recover(point).await;
    assert_eq!(refused, Err(ProviderError::OlderMachine { item: s.item.clone(), older, point }));
    assert_eq!(s.lab.read_recovered(2).await, 22);
}

pub(super) async fn discarding_leaves_nothing(s: &Script<'_>) {
    let point = sealed_with_one_point(s).await;
    let before = s.objects(&s.target(), MACHINE).await;
    assert_eq!(before, [""; 0]);
    s.run_from(point).await;
    s.lab.write_recovered(2, 22).await;
    for _ in 0..2 {
        s.discard().await;
    }
    assert_eq!(s.objects(&s.target(), MACHINE).await, before);
    assert_eq!(observed(s, s.generation()).await, RecoveredState::Absent);
}

pub(super) async fn a_recovered_machine_outlives_the_agents_restart(s: &Script<'_>) {
    let point = sealed_with_one_point(s).await;
    s.try_recover(point).await.expect("the point is recovered");
    s.lab.restart_target().await;
    let started = s.try_start().await.expect("the machine starts");
    s.lab.write_recovered(2, 22).await;
    s.lab.restart_target().await;
    assert_eq!(s.try_start().await, Ok(started));
    assert_eq!((s.lab.read_recovered(1).await, s.lab.read_recovered(2).await), (11, 22));
}

pub(super) async fn the_point_stays_as_it_was_when_its_machine_writes(s: &Script<'_>) {
    let point = sealed_with_one_point(s).await;
    s.run_from(point).await;
    s.lab.write_recovered(1, 99).await;
    s.lab.write_recovered(2, 99).await;
    s.discard().await;
    s.next_generation();
    s.run_from(point).await;
    assert_eq!((s.lab.read_recovered(1).await, s.lab.read_recovered(2).await), (11, 0));
}
