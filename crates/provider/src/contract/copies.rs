//! Cases about copies for tests: they disturb nothing, and nothing of them is left.

use std::collections::BTreeSet;

use ::recovery::PointId;

use super::{End, Script, groups};
use crate::{Call, ObjectKind, PowerState, ProviderError, RecoverTest, Recovered, RecoveredState, TestStarted};

/// What a copy may consist of. Points come and go beside it.
const KINDS: &[ObjectKind] =
    &[ObjectKind::Machine, ObjectKind::MachineDisk, ObjectKind::Checkpoint, ObjectKind::Network, ObjectKind::Record];

/// Replicated, with block 1 in its point.
async fn protected(s: &Script<'_>) -> PointId {
    s.protect().await;
    s.lab.write(1, 11).await;
    s.lab.point().await
}

async fn try_copy(s: &Script<'_>, point: PointId) -> Result<Recovered, ProviderError> {
    let wanted = RecoverTest { item: s.item.clone(), generation: s.generation(), point, network: None };
    s.target().recover_test(&s.call(), wanted).await
}

async fn try_start(s: &Script<'_>) -> Result<TestStarted, ProviderError> {
    s.target().start_test(&s.call(), &s.item, s.generation()).await
}

/// A running copy under a new generation.
async fn running_copy(s: &Script<'_>, point: PointId) -> TestStarted {
    s.next_generation();
    try_copy(s, point).await.expect("the copy is made");
    try_start(s).await.expect("the copy starts")
}

async fn clean(s: &Script<'_>) {
    s.target().clean_test(&s.call(), &s.item, s.generation()).await.expect("the copy is cleaned");
}

async fn observed(s: &Script<'_>) -> RecoveredState {
    s.target().observe_test(&s.item, s.generation()).await.expect("the copy is observed")
}

pub(super) async fn a_copy_beside_replication_leaves_production_alone(s: &Script<'_>) {
    let point = protected(s).await;
    let before = s.objects(&s.target(), KINDS).await;
    let started = running_copy(s, point).await;
    assert!(started.point == point && !started.isolation.network.is_empty() && !started.isolation.detail.is_empty(), "{started:?}");
    assert_ne!(started.machine, s.lab.machine());
    assert!(matches!(observed(s).await, RecoveredState::Started { power: PowerState::Running, .. }));
    assert_eq!(s.lab.read_in(End::Second, &started.machine, 1).await, 11);
    s.lab.write_in(End::Second, &started.machine, 2, 99).await;
    let evidence = s.target().check_test(&s.item, s.generation(), &[]).await.expect("nothing is asked");
    assert!(!evidence.is_empty());

    s.lab.write(3, 33).await;
    let later = s.lab.point().await;
    assert!(point < later, "replication goes on");
    let production = s.source().inspect(&s.lab.machine()).await.expect("the machine is inspected");
    assert_eq!(production.power, PowerState::Running);
    assert!(!s.replica().await.sealed);

    for _ in 0..2 {
        clean(s).await;
    }
    assert_eq!(s.objects(&s.target(), KINDS).await, before);
    assert_eq!(observed(s).await, RecoveredState::Absent);
    s.seal().await;
    s.run_from(later).await;
    for (block, content) in [(1, 11), (2, 0), (3, 33)] {
        assert_eq!(s.lab.read_recovered(block).await, content, "block {block}");
    }
}

/// What exists, and how many records: an agent that is started anew may keep them under other names.
async fn all(s: &Script<'_>) -> (Vec<String>, usize) {
    let (records, others): (Vec<ObjectKind>, Vec<ObjectKind>) = KINDS.iter().partition(|kind| **kind == ObjectKind::Record);
    (s.objects(&s.target(), &others).await, s.objects(&s.target(), &records).await.len())
}

pub(super) async fn a_copy_is_cleaned_from_any_half_made_state(s: &Script<'_>) {
    let point = protected(s).await;
    let before = all(s).await;
    s.next_generation();
    clean(s).await;
    let refused = try_start(s).await;
    assert_eq!(refused, Err(ProviderError::NotRecovered { item: s.item.clone(), generation: s.generation() }));
    let nowhere = PointId(999_999);
    assert_eq!(try_copy(s, nowhere).await, Err(ProviderError::NoSuchPoint { item: s.item.clone(), point: nowhere }));
    assert_eq!(all(s).await, before);

    s.next_generation();
    try_copy(s, point).await.expect("the copy is made");
    assert!(matches!(observed(s).await, RecoveredState::Prepared { .. }));
    s.lab.restart_target().await;
    clean(s).await;
    assert_eq!(all(s).await, before);

    running_copy(s, point).await;
    s.lab.restart_target().await;
    clean(s).await;
    assert_eq!(all(s).await, before);
}

pub(super) async fn a_second_copy_waits_until_the_first_is_cleaned(s: &Script<'_>) {
    let point = protected(s).await;
    let first = running_copy(s, point).await;
    let existing = s.generation();
    s.next_generation();
    let refused = try_copy(s, point).await;
    assert_eq!(refused, Err(ProviderError::TestCopyExists { item: s.item.clone(), existing }));
    assert_eq!(s.lab.read_in(End::Second, &first.machine, 1).await, 11);
    clean(s).await;
    try_copy(s, point).await.expect("the second copy is made");
    try_start(s).await.expect("the second copy starts");
    let older = s.target().clean_test(&s.call(), &s.item, existing).await;
    assert_eq!(older, Ok(()), "there is none of that generation");
    assert!(matches!(observed(s).await, RecoveredState::Started { .. }));
    clean(s).await;
}

pub(super) async fn starting_a_copy_twice_is_one_start(s: &Script<'_>) {
    let point = protected(s).await;
    let started = running_copy(s, point).await;
    s.lab.write_in(End::Second, &started.machine, 2, 22).await;
    let made = try_copy(s, point).await.expect("making it again is no error");
    assert_eq!((made.point, made.machine), (point, started.machine.clone()));
    s.lab.restart_target().await;
    let again = try_start(s).await.expect("starting again is no error");
    assert_eq!((again.point, again.machine, again.since), (started.point, started.machine.clone(), started.since));
    assert_eq!(s.lab.read_in(End::Second, &started.machine, 2).await, 22);
    clean(s).await;
}

pub(super) async fn points_beneath_a_copy_are_not_pruned(s: &Script<'_>) {
    s.protect_keeping(2).await;
    s.lab.write(1, 11).await;
    s.lab.point().await;
    s.lab.write(2, 22).await;
    let point = s.lab.point().await;
    let started = running_copy(s, point).await;
    for content in 3..9 {
        s.lab.write(u64::from(content), content).await;
        s.lab.point().await;
    }
    assert!(s.offered().await.contains(&point));
    for (block, content) in [(1, 11), (2, 22), (3, 0), (8, 0)] {
        assert_eq!(s.lab.read_in(End::Second, &started.machine, block).await, content, "block {block}");
    }
    clean(s).await;
    for content in 9..12 {
        s.lab.write(u64::from(content), content).await;
        s.lab.point().await;
    }
    assert!(s.offered().await.len() <= 3, "{:?}", s.offered().await);
}

pub(super) async fn points_that_a_copy_reads_are_not_dropped(s: &Script<'_>) {
    let point = protected(s).await;
    running_copy(s, point).await;
    s.source().stop_replication(&s.call(), &s.item).await.expect("replication stops");
    let refused = s.target().drop_replica(&s.call(), &s.item).await.expect_err("a copy reads them");
    assert!(matches!(&refused, ProviderError::PointsInUse { item, .. } if *item == s.item), "{refused}");
    clean(s).await;
    s.target().drop_replica(&s.call(), &s.item).await.expect("the replica is dropped");
    assert_eq!(s.objects(&s.target(), KINDS).await, [""; 0]);
}

pub(super) async fn a_real_failover_goes_on_beside_a_copy(s: &Script<'_>) {
    let point = protected(s).await;
    let copy = running_copy(s, point).await;
    let of_copy = s.generation();
    s.lab.write_in(End::Second, &copy.machine, 2, 99).await;
    s.seal().await;
    s.run_from(point).await;
    assert_eq!((s.lab.read_recovered(1).await, s.lab.read_recovered(2).await), (11, 0));
    let absent = s.target().observe_machine(&s.item, of_copy).await;
    assert_eq!(absent, Ok(RecoveredState::Absent), "a copy is no recovered machine");
    s.lab.write_recovered(3, 33).await;
    clean(s).await;
    assert_eq!((s.lab.read_recovered(1).await, s.lab.read_recovered(3).await), (11, 33));
    assert_eq!(s.objects(&s.target(), &[ObjectKind::Network]).await, [""; 0]);
}

pub(super) async fn a_stale_token_makes_and_removes_no_copy(s: &Script<'_>) {
    let point = protected(s).await;
    s.next_generation();
    let late = s.call();
    try_copy(s, point).await.expect("the copy is made");
    let started = try_start(s).await.expect("the copy starts");
    let seen = s.call().token;
    s.target().pin(&Call::new(seen, "contract"), &s.item, point, crate::Pin("x".to_owned())).await.expect("the point is pinned");
    let stale = ProviderError::StaleToken { item: s.item.clone(), given: late.token, seen };
    let wanted = RecoverTest { item: s.item.clone(), generation: s.generation(), point, network: None };
    assert_eq!(s.target().recover_test(&late, wanted).await, Err(stale.clone()));
    assert_eq!(s.target().start_test(&late, &s.item, s.generation()).await, Err(stale.clone()));
    assert_eq!(s.target().clean_test(&late, &s.item, s.generation()).await, Err(stale));
    assert_eq!(s.lab.read_in(End::Second, &started.machine, 1).await, 11);
    clean(s).await;
}

/// A copy of an item on the network that the copies of a plan share, of its only point.
async fn shared_copy(s: &Script<'_>, point: PointId) -> Result<TestStarted, ProviderError> {
    s.next_generation();
    let network = Some("shop".parse().expect("it is a name"));
    let wanted = RecoverTest { item: s.item.clone(), generation: s.generation(), point, network };
    s.target().recover_test(&s.call(), wanted).await.expect("the copy is made");
    try_start(s).await
}

/// Both machines replicated, and a point of each.
async fn both<'a>(s: &Script<'a>) -> (Script<'a>, [PointId; 2]) {
    let second = groups::both(s, |group| group).await;
    let moment = s.lab.moment(&s.item).await;
    let points = [groups::at(s, &moment).await.id, groups::at(&second, &moment).await.id];
    (second, points)
}

/// Of copies of any item.
async fn networks(s: &Script<'_>) -> BTreeSet<String> {
    let inventory = s.target().inventory().await.expect("there is an inventory");
    inventory.objects.into_iter().filter(|object| object.kind == ObjectKind::Network).map(|object| object.name).collect()
}

pub(super) async fn copies_of_a_plan_share_a_network_that_goes_with_the_last_of_them(s: &Script<'_>) {
    let (second, points) = both(s).await;
    let one = shared_copy(s, points[0]).await.expect("the first copy starts");
    let alone = networks(s).await;
    let other = shared_copy(&second, points[1]).await.expect("the second copy starts beside it");
    assert_eq!(one.isolation.network, other.isolation.network);
    assert_eq!(networks(s).await, alone, "nothing was made beside the first one's network");
    let again = try_start(s).await.expect("its network is still isolated");
    assert_eq!((again.since, again.machine), (one.since, one.machine));
    for copy in [s, &second] {
        copy.target().check_test(&copy.item, copy.generation(), &[]).await.expect("it runs");
    }

    for _ in 0..2 {
        clean(s).await;
        assert_eq!(networks(s).await, alone, "the second copy is on it");
    }
    assert!(matches!(observed(&second).await, RecoveredState::Started { power: PowerState::Running, .. }));
    s.lab.restart_target().await;
    shared_copy(s, points[0]).await.expect("a copy joins again");
    clean(&second).await;
    assert_eq!(networks(s).await, alone, "the first copy is on it");
    clean(s).await;
    assert_eq!(networks(s).await, BTreeSet::new());
    clean(&second).await;
}

pub(super) async fn a_stranger_on_a_shared_network_keeps_the_next_copy_off(s: &Script<'_>) {
    let (second, points) = both(s).await;
    let one = shared_copy(s, points[0]).await.expect("the first copy starts");
    let network = one.isolation.network.as_str();
    s.lab.stranger_on(network, true).await;
    let refused = shared_copy(&second, points[1]).await.expect_err("somebody else is on the network");
    assert!(matches!(&refused, ProviderError::NotIsolated { network: of, .. } if of == network), "{refused}");
    assert!(matches!(observed(&second).await, RecoveredState::Prepared { .. } | RecoveredState::Started { power: PowerState::Off, .. }), "it never ran");
    s.lab.stranger_on(network, false).await;
    try_start(&second).await.expect("it is isolated again");
    clean(s).await;
    clean(&second).await;
    assert_eq!(networks(s).await, BTreeSet::new());
}
