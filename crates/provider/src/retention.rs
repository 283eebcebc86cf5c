//! Which point goes when there are too many, or one is too old.
//!
//! ```text
//!   newest ─┬┬┬─┬──┬────┬────────┬──────────────── oldest      gaps grow with age, over the policy's window
//! ```
//!
//! Every provider prunes by this one function, so that a list of points looks the same everywhere. Invariants: 1. The newest
//! point, pinned points and held ones are never chosen, nor the newest app-consistent one while the policy asks for such points.
//! 2. Pinned and held points count: they and the others together meet the policy. Where they leave the others no room, the newest
//! two of the others stay all the same, one of which may be the newest app-consistent one. 3. Age is counted by the clock of the
//! site that holds the points. 4. About points of common moments their source decides, for all members at once (`group`): those
//! that it keeps are as pinned ones, and those that it has given up go first, so that what goes at one target goes at all.

use chrono::{DateTime, Utc};
use recovery::{Consistency, PointId, ReplicationPolicy};

use crate::{Point, group::KeptMoments};

/// What the others keep where pinned and held points leave them no room: the newest point, and one to go back to.
const OTHERS_AT_LEAST: usize = 2;

/// The next point to prune, or `None` if the policy is met. `points` is ordered by number. Something reads from the files of the
/// point `held` and of all before it, so that none of them may be merged. `kept` is what came with the newest
/// point.
#[must_use]
pub fn next_to_prune(
    points: &[Point],
    held: Option<PointId>,
    kept: Option<&KeptMoments>,
    policy: &ReplicationPolicy,
    now: DateTime<Utc>,
) -> Option<PointId> {
    let (_newest, older) = points.split_last()?;
    let age_s = |p: &Point| (now - p.recorded_at).as_seconds_f64().max(0.0);
    #[expect(clippy::cast_precision_loss, reason = "a window of a year is far below 2^52 seconds")]
    let window_s = policy.retention_window_s() as f64;

    let newest_app = points.iter().rev().find(|p| p.consistency == Consistency::App).map(|p| p.id);
    let newest_app = newest_app.filter(|_| policy.app_consistent_interval_s().is_some());
    let common = |p: &Point| kept.zip(p.group.as_ref()).and_then(|(kept, at)| kept.keeps(at));
    let stays = |p: &Point| !p.pins.is_empty() || held >= Some(p.id) || common(p) == Some(true);
    let spare = |p: &Point| !stays(p) && newest_app != Some(p.id);
    if let Some(given_up) = older.iter().find(|p| spare(p) && common(p) == Some(false)) {
        return Some(given_up.id);
    }
    if let Some(expired) = older.iter().find(|p| spare(p) && age_s(p) > window_s) {
        return Some(expired.id);
    }
    let staying = points.iter().filter(|p| stays(p)).count();
    let allowed = usize::try_from(policy.retention_points()).unwrap_or(usize::MAX);
    let (room, least) = (allowed.saturating_sub(staying), OTHERS_AT_LEAST.min(allowed));
    if points.len() - staying <= room.max(least) {
        return None;
    }
    if room < least {
        return older.iter().find(|p| spare(p)).map(|p| p.id);
    }
    // A point is worth as much as the gap that its loss would leave, seen from its age.
    let worth = |i: usize| {
        let gap_s = age_s(&points[i - 1]) - age_s(&points[i + 1]);
        gap_s / (age_s(&points[i]) + f64::from(policy.interval_s()))
    };
    let inner = (1..points.len() - 1).filter(|&i| spare(&points[i]));
    inner.min_by(|&a, &b| worth(a).total_cmp(&worth(b))).map(|i| points[i].id).or_else(|| {
        // With no inner point to spare the oldest goes.
        older.iter().find(|p| spare(p)).map(|p| p.id)
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use chrono::TimeDelta;
    use recovery::Generation;

    use super::*;
    use crate::Pin;

    fn point(id: u64, at_s: i64) -> Point {
        let at = DateTime::UNIX_EPOCH + TimeDelta::seconds(at_s);
        let generation = Generation { era: 1, grant_epoch: 1 };
        Point { id: PointId(id), generation, consistency: Consistency::Crash, taken_at: at, recorded_at: at, bytes: 0, pins: vec![], group: None }
    }

    /// Takes points up to this number every 5 s onto what there is, while something holds one, and prunes after each.
    fn go_on(kept: &mut Vec<Point>, last: u64, held: Option<u64>, policy: &ReplicationPolicy) {
        for id in kept.last().map_or(1, |p| p.id.0 + 1)..=last {
            kept.push(point(id, id as i64 * 5));
            let now = kept.last().unwrap().recorded_at;
            while let Some(gone) = next_to_prune(kept, held.map(PointId), None, policy, now) {
                kept.retain(|p| p.id != gone);
            }
        }
    }

    fn ids(points: &[Point]) -> Vec<u64> {
        points.iter().map(|p| p.id.0).collect()
    }

    #[test]
    fn points_that_are_held_count_and_are_never_chosen() {
        let policy = ReplicationPolicy::new(5, 12, 86_400, None).unwrap();
        let mut kept = vec![];
        go_on(&mut kept, 10, None, &policy);
        let held = ids(&kept);
        for last in 11..=60 {
            go_on(&mut kept, last, Some(10), &policy);
            let left = ids(&kept);
            assert!(left.starts_with(&held) && left.ends_with(&[last]) && left.len() <= 12, "{left:?}");
        }
        go_on(&mut kept, 61, None, &policy);
        assert_eq!(kept.len(), 12);
    }

    #[test]
    fn the_newest_two_stay_beside_held_points_that_fill_the_policy() {
        let policy = ReplicationPolicy::new(5, 12, 600, None).unwrap();
        let mut kept = vec![];
        go_on(&mut kept, 30, None, &policy);
        let held = ids(&kept);
        assert_eq!((held.len(), held.last()), (12, Some(&30)));
        go_on(&mut kept, 500, Some(30), &policy);
        assert_eq!(ids(&kept), [&held[..], &[499, 500]].concat(), "age counts for none of them");
        go_on(&mut kept, 501, None, &policy);
        assert_eq!(ids(&kept), [499, 500, 501], "what was held is too old");
    }

    #[test]
    fn a_pinned_point_above_those_that_are_held_stays_and_counts() {
        let policy = ReplicationPolicy::new(5, 6, 86_400, None).unwrap();
        let mut kept = vec![];
        go_on(&mut kept, 5, None, &policy);
        kept[3].pins.push(Pin("kept".into()));
        go_on(&mut kept, 50, Some(2), &policy);
        assert_eq!((ids(&kept).len(), &ids(&kept)[..2]), (6, &[1, 2][..]));
        assert!(ids(&kept).contains(&4) && ids(&kept).ends_with(&[50]));
    }

    /// Takes a point every `interval_s`, prunes after each, and returns the ages of what is left, newest first.
    fn ages_after(points: u64, policy: &ReplicationPolicy, pinned: &[u64]) -> Vec<i64> {
        let interval_s = i64::from(policy.interval_s());
        let mut kept: Vec<Point> = vec![];
        for id in 1..=points {
            let mut p = point(id, id as i64 * interval_s);
            p.pins.extend(pinned.contains(&id).then(|| Pin("kept".into())));
            kept.push(p);
            let now = kept.last().unwrap().recorded_at;
            while let Some(gone) = next_to_prune(&kept, None, None, policy, now) {
                kept.retain(|p| p.id != gone);
            }
        }
        let now = kept.last().unwrap().recorded_at;
        kept.iter().rev().map(|p| (now - p.recorded_at).num_seconds()).collect()
    }

    #[test]
    fn gaps_grow_with_age_and_reach_back_to_the_first_point() {
        let policy = ReplicationPolicy::new(5, 12, 86_400, None).unwrap();
        let ages = ages_after(1000, &policy, &[]);
        assert_eq!(ages.len(), 12);
        assert_eq!(ages[0], 0);
        assert!(ages[1] <= 10, "{ages:?}");
        assert_eq!(*ages.last().unwrap(), 4995, "{ages:?}");
        let gaps: Vec<i64> = ages.windows(2).map(|w| w[1] - w[0]).collect();
        assert!(gaps[0] * 20 < *gaps.last().unwrap(), "{gaps:?}");
    }

    #[test]
    fn nothing_older_than_the_window_is_kept_but_the_newest() {
        let policy = ReplicationPolicy::new(5, 12, 60, None).unwrap();
        assert!(ages_after(1000, &policy, &[]).iter().all(|age| *age <= 60));
        let lonely = [point(1, 0), point(2, 1)];
        let late = DateTime::UNIX_EPOCH + TimeDelta::days(9);
        assert_eq!(next_to_prune(&lonely, None, None, &policy, late), Some(PointId(1)));
        assert_eq!(next_to_prune(&lonely[1..], None, None, &policy, late), None);
    }

    #[test]
    fn a_pinned_point_outlives_window_and_number() {
        let policy = ReplicationPolicy::new(5, 2, 60, None).unwrap();
        let ages = ages_after(100, &policy, &[7]);
        assert!(ages.contains(&(93 * 5)), "{ages:?}");
        assert_eq!(ages.len(), 3);
    }

    #[test]
    fn the_newest_app_consistent_point_outlives_window_and_number_while_such_points_are_asked_for() {
        let app = |id, s| Point { consistency: Consistency::App, ..point(id, s) };
        let points = [app(1, 0), app(2, 5), point(3, 10), point(4, 15)];
        let asked = ReplicationPolicy::new(5, 2, 60, None).unwrap();
        let asking = asked.clone().with_app_consistent(Some(300)).unwrap();
        let late = DateTime::UNIX_EPOCH + TimeDelta::days(1);
        let left = |policy: &ReplicationPolicy, now| {
            let mut left = points.to_vec();
            while let Some(gone) = next_to_prune(&left, None, None, policy, now) {
                left.retain(|p| p.id != gone);
            }
            left.into_iter().map(|p| p.id.0).collect::<Vec<_>>()
        };
        assert_eq!(left(&asking, late), [2, 4]);
        assert_eq!(left(&asking, DateTime::UNIX_EPOCH + TimeDelta::seconds(20)), [2, 4]);
        assert_eq!(left(&asked, late), [4]);
    }

    #[test]
    fn points_of_kept_moments_stay_beyond_window_and_number_and_others_make_room() {
        let policy = ReplicationPolicy::new(5, 4, 60, None).unwrap();
        let common = |id: u64, s| {
            let at = recovery::GroupMoment { group: "shop".parse().unwrap(), moment: format!("m{id}") };
            Point { group: Some(at), ..point(id, s) }
        };
        let points = vec![common(1, 0), common(2, 5), point(3, 10), common(4, 15), point(5, 20), point(6, 25)];
        let left = |of: &str, kept: &[&str], at_s| {
            let (mut left, moments) = (points.clone(), kept.iter().map(|m| (*m).to_owned()).collect());
            let kept = KeptMoments { group: of.parse().unwrap(), moments };
            while let Some(gone) = next_to_prune(&left, None, Some(&kept), &policy, DateTime::UNIX_EPOCH + TimeDelta::seconds(at_s)) {
                left.retain(|p| p.id != gone);
            }
            ids(&left)
        };
        assert_eq!(left("shop", &["m1", "m4"], 25), [1, 4, 5, 6]);
        assert_eq!(left("shop", &["m1", "m4"], 900), [1, 4, 6], "age counts for none of them");
        assert_eq!(left("shop", &["m4"], 25), [3, 4, 5, 6], "what the source gives up goes first");
        assert_eq!(left("bank", &["m9"], 25), [1, 3, 5, 6], "those of a group that was left are as any other");
        assert_eq!(left("bank", &[], 900), [6]);
    }

    #[test]
    fn no_points_means_nothing_to_prune() {
        assert_eq!(next_to_prune(&[], None, None, &ReplicationPolicy::default(), DateTime::UNIX_EPOCH), None);
    }
}
