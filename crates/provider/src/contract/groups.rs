//! Cases about replication groups: moments that their members share, and what becomes of them when a member can't come.

use std::collections::BTreeSet;

use ::recovery::{Consistency, EffectToken, Group, GroupStatus};

use super::Script;
use crate::{Call, Point, ProviderError};

/// Longest pause of the cases: an emulated machine on a busy host is slow.
const PAUSE_MS: u32 = 5_000;

fn group(members: [&Script<'_>; 2], keep: u32) -> Group {
    let members = members.iter().map(|s| s.item.clone()).collect();
    let group = "shop".parse().map(|name| Group::new(name, members, 1, keep, 3600));
    let group = group.expect("the name is a group's").and_then(|group| group.with_max_pause(PAUSE_MS));
    group.expect("the case's group is within its limits")
}

/// Both machines protected as members of one group.
pub(super) async fn both<'a>(s: &Script<'a>, group_of: impl Fn(Group) -> Group) -> Script<'a> {
    let second = s.second().await;
    let group = group_of(group([s, &second], 4));
    for member in [s, &second] {
        member.in_group(&group);
        member.protect().await;
    }
    second
}

async fn status(s: &Script<'_>) -> GroupStatus {
    let status = s.source().replication_status(&s.item).await.expect("there is a status").expect("the item is replicated");
    status.group.expect("the item is in a group")
}

/// An item's points of moments, by moment.
async fn shared(s: &Script<'_>) -> Vec<(String, Point)> {
    let points = s.replica().await.points.into_iter();
    points.filter_map(|point| Some((point.group.as_ref()?.moment.clone(), point))).collect()
}

pub(super) async fn at(s: &Script<'_>, moment: &str) -> Point {
    let found = shared(s).await.into_iter().find(|(at, _)| at == moment);
    found.unwrap_or_else(|| panic!("{} has no point of moment {moment}", s.item)).1
}

pub(super) async fn members_of_a_group_share_moments_and_take_points_of_their_own(s: &Script<'_>) {
    let second = both(s, |group| group).await;
    s.lab.write(1, 11).await;
    let moment = s.lab.moment(&s.item).await;
    let (one, other) = (at(s, &moment).await, at(&second, &moment).await);
    assert_eq!((one.taken_at, &one.group), (other.taken_at, &other.group));
    assert_eq!((one.consistency, other.consistency), (Consistency::Crash, Consistency::Crash));
    let status = status(&second).await;
    let last = status.last.expect("there is a common moment");
    assert!(last.pause_ms <= PAUSE_MS && status.moments > 0 && status.why_none.is_none(), "{last:?}");
    s.lab.moment(&s.item).await;
    let alone = s.replica().await.points.iter().any(|point| point.group.is_none());
    assert!(alone, "points are taken between the moments as well");

    let point = at(s, &moment).await.id;
    s.seal().await;
    s.run_from(point).await;
    assert_eq!(s.lab.read_recovered(1).await, 11);
}

pub(super) async fn a_member_that_is_off_holds_nobody(s: &Script<'_>) {
    let second = both(s, |group| group).await;
    let before = s.lab.moment(&s.item).await;
    s.lab.power_second(false).await;
    s.lab.no_moment(&s.item, &[second.item.as_str(), "off"]).await;
    s.lab.write(1, 11).await;
    let alone = s.lab.point().await;
    assert!(s.replica().await.points.iter().any(|point| point.id == alone));
    let left = status(s).await;
    assert_eq!((left.last.map(|last| last.moment).is_some_and(|last| last >= before), left.why_none.is_some()), (true, true));

    s.lab.power_second(true).await;
    let after = s.lab.moment(&s.item).await;
    assert_ne!(before, after);
    assert_eq!(status(s).await.why_none, None);
}

pub(super) async fn moments_are_never_named_twice_and_go_on_after_a_restart(s: &Script<'_>) {
    let second = both(s, |group| group).await;
    let before = s.lab.moment(&s.item).await;
    s.lab.restart_source().await;
    let after = s.lab.moment(&s.item).await;
    assert_ne!(before, after);
    for member in [s, &second] {
        let moments: Vec<String> = shared(member).await.into_iter().map(|(moment, _)| moment).collect();
        assert_eq!(moments.iter().collect::<BTreeSet<_>>().len(), moments.len(), "{moments:?}");
        assert!(moments.contains(&after), "{moments:?}");
    }
}

fn app_consistent(group: Group) -> Group {
    group.with_app_consistent(Some(1)).expect("each moment may be app-consistent")
}

pub(super) async fn where_one_guest_can_not_be_frozen_the_moment_is_crash_consistent_everywhere(s: &Script<'_>) {
    s.lab.refuse_freeze().await;
    let second = both(s, app_consistent).await;
    let moment = s.lab.moment(&s.item).await;
    assert_eq!((at(s, &moment).await.consistency, at(&second, &moment).await.consistency), (Consistency::Crash, Consistency::Crash));
    let status = status(&second).await;
    assert!(status.app_error.is_some_and(|why| why.contains(s.item.as_str())) && status.why_none.is_none());
}

pub(super) async fn all_guests_that_are_frozen_make_an_app_consistent_moment(s: &Script<'_>) {
    let second = both(s, app_consistent).await;
    let moment = s.lab.moment(&s.item).await;
    assert_eq!((at(s, &moment).await.consistency, at(&second, &moment).await.consistency), (Consistency::App, Consistency::App));
    assert_eq!(status(s).await.app_error, None);
}

pub(super) async fn what_is_kept_of_a_moment_is_kept_of_it_everywhere(s: &Script<'_>) {
    let second = s.second().await;
    let group = group([s, &second], 2);
    // One of them would keep more points by its own policy than the other.
    for (member, points) in [(s, 4), (&second, 9)] {
        member.in_group(&group);
        member.protect_keeping(points).await;
    }
    for content in 1..8 {
        s.lab.write(0, content).await;
        s.lab.moment(&s.item).await;
    }
    // Without one of them there are no new moments, and the other goes on alone.
    s.lab.power_second(false).await;
    s.lab.no_moment(&s.item, &[second.item.as_str(), "off"]).await;
    s.lab.point().await;
    let of = |points: Vec<(String, Point)>| points.into_iter().map(|(moment, _)| moment).collect::<BTreeSet<_>>();
    let (one, other) = (of(shared(s).await), of(shared(&second).await));
    let last = status(s).await.last.expect("there is a common moment").moment;
    assert!(one.contains(&last) && other.contains(&last), "the newest common moment {last} is kept: {one:?}, {other:?}");
    assert_eq!((one.len(), &one), (2, &other));
}

pub(super) async fn a_member_that_has_left_holds_nobody_and_the_rest_is_told(s: &Script<'_>) {
    let second = both(s, |group| group).await;
    s.lab.moment(&s.item).await;
    for _ in 0..2 {
        s.source().regroup(&second.call(), &second.item, None).await.expect("the item leaves its group");
    }
    s.lab.no_moment(&s.item, &[second.item.as_str()]).await;
    let left = s.source().replication_status(&second.item).await.expect("there is a status").expect("the item is replicated");
    assert_eq!(left.group, None);
    s.lab.point().await;
}

pub(super) async fn an_item_that_is_not_replicated_joins_no_group(s: &Script<'_>) {
    let second = s.second().await;
    let group = group([s, &second], 4);
    let refused = s.source().regroup(&s.call(), &s.item, Some(group)).await;
    assert_eq!(refused, Err(ProviderError::NotReplicated { item: s.item.clone() }));
}

pub(super) async fn a_stale_token_regroups_nothing(s: &Script<'_>) {
    both(s, |group| group).await;
    s.lab.moment(&s.item).await;
    let older = EffectToken { era: 0, ..s.call().token };
    let refused = s.source().regroup(&Call::new(older, "late"), &s.item, None).await;
    assert!(matches!(refused, Err(ProviderError::StaleToken { .. })), "{refused:?}");
    s.lab.moment(&s.item).await;
}
