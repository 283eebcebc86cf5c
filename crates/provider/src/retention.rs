//! Which point goes when there are too many, or one is too old.
//!
//! ```text
//!   newest ─┬┬┬─┬──┬────┬────────┬──────────────── oldest      gaps grow with age, over the policy's window
//! ```
//!
//! Every provider prunes by this one function, so that a list of points looks the same everywhere. Invariants: 1. The newest
//! point and pinned points are never chosen, nor the newest app-consistent one while the policy asks for such points. 2. What is
//! left never exceeds the policy by more than the pinned ones and that one. 3. Age is counted by the clock of the site that holds
//! the points.

use chrono::{DateTime, Utc};
use recovery::{Consistency, PointId, ReplicationPolicy};

use crate::Point;

/// The next point to prune, or `None` if the policy is met. `points` is ordered by number.
#[must_use]
pub fn next_to_prune(points: &[Point], policy: &ReplicationPolicy, now: DateTime<Utc>) -> Option<PointId> {
    let (_newest, older) = points.split_last()?;
    let age_s = |p: &Point| (now - p.recorded_at).as_seconds_f64().max(0.0);
    #[expect(clippy::cast_precision_loss, reason = "a window of a year is far below 2^52 seconds")]
    let window_s = policy.retention_window_s() as f64;

    let newest_app = points.iter().rev().find(|p| p.consistency == Consistency::App).map(|p| p.id);
    let newest_app = newest_app.filter(|_| policy.app_consistent_interval_s().is_some());
    let spare = |p: &Point| p.pins.is_empty() && newest_app != Some(p.id);
    if let Some(expired) = older.iter().find(|p| spare(p) && age_s(p) > window_s) {
        return Some(expired.id);
    }
    let unpinned = points.iter().filter(|p| p.pins.is_empty()).count();
    let allowed = usize::try_from(policy.retention_points()).unwrap_or(usize::MAX);
    if unpinned <= allowed {
        return None;
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
        Point { id: PointId(id), generation, consistency: Consistency::Crash, taken_at: at, recorded_at: at, bytes: 0, pins: vec![] }
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
            while let Some(gone) = next_to_prune(&kept, policy, now) {
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
        assert_eq!(next_to_prune(&lonely, &policy, late), Some(PointId(1)));
        assert_eq!(next_to_prune(&lonely[1..], &policy, late), None);
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
            while let Some(gone) = next_to_prune(&left, policy, now) {
                left.retain(|p| p.id != gone);
            }
            left.into_iter().map(|p| p.id.0).collect::<Vec<_>>()
        };
        assert_eq!(left(&asking, late), [2, 4]);
        assert_eq!(left(&asking, DateTime::UNIX_EPOCH + TimeDelta::seconds(20)), [2, 4]);
        assert_eq!(left(&asked, late), [4]);
    }

    #[test]
    fn no_points_means_nothing_to_prune() {
        assert_eq!(next_to_prune(&[], &ReplicationPolicy::default(), DateTime::UNIX_EPOCH), None);
    }
}
