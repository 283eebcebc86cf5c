//! One try at a common moment: who is there, and how each step went for all.
//!
//! ```text
//!   gathered ─▶ prepared ─▶ paused ─▶ begun ─▶ let go ─▶ thawed        after each step all wait for all
//!                  └──────────┴─────────┴─────────┴── one could not: there is no moment, and each lets its machine go at once
//! ```
//!
//! Invariants: 1. All members come to the same end: once all were let go in time there is a moment, and nobody can take that back.
//! 2. No wait is without limit. 3. A moment counts only if each machine was held until every point was begun.

use std::{
    collections::BTreeSet,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use recovery::{Consistency, Group, GroupMoment, ItemName};

/// What all do together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Prepared,
    Paused,
    Begun,
    LetGo,
    Thawed,
}

impl Step {
    fn words(self) -> &'static str {
        match self {
            Step::Prepared => "was ready to be paused",
            Step::Paused => "was paused",
            Step::Begun => "had begun its point",
            Step::LetGo => "was let go",
            Step::Thawed => "was thawed",
        }
    }
}

#[derive(Debug, Default)]
struct Votes {
    arrived: BTreeSet<ItemName>,
    /// Who has voted, by step.
    cast: [BTreeSet<ItemName>; 5],
    /// Why there is no moment.
    void: Option<String>,
    /// Why it is not app-consistent.
    not_app: Option<String>,
    /// When all stood still.
    taken_at: Option<DateTime<Utc>>,
    pause: Duration,
    moment: Option<GroupMoment>,
    told: bool,
}

/// A round of members.
#[derive(Debug)]
pub(super) struct Round {
    group: Group,
    app_due: bool,
    votes: Mutex<Votes>,
    changed: Condvar,
}

impl Round {
    pub(super) fn new(group: Group, app_due: bool) -> Self {
        Self { group, app_due, votes: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn group(&self) -> &Group {
        &self.group
    }

    /// Whether its moment is to be app-consistent.
    pub(super) fn app_due(&self) -> bool {
        self.app_due
    }

    fn lock(&self) -> MutexGuard<'_, Votes> {
        self.votes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Comes. Returns whether all are there now.
    ///
    /// # Errors
    /// The others wait no longer.
    pub(super) fn arrive(&self, item: &ItemName) -> Result<bool, String> {
        let mut votes = self.lock();
        if let Some(why) = &votes.void {
            return Err(why.clone());
        }
        votes.arrived.insert(item.clone());
        self.changed.notify_all();
        Ok(votes.arrived == *self.group.members())
    }

    /// Sends those home who wait for the others.
    pub(super) fn give_up(&self, why: &str) {
        self.lock().void.get_or_insert_with(|| why.to_owned());
        self.changed.notify_all();
    }

    /// Waits until all are there.
    ///
    /// # Errors
    /// Why they are not.
    pub(super) fn gathered(&self, patience: Duration) -> Result<(), String> {
        let missing = |votes: &Votes| self.group.members().difference(&votes.arrived).map(ToString::to_string).collect::<Vec<_>>();
        let waits = |votes: &mut Votes| votes.void.is_none() && !missing(votes).is_empty();
        let (mut votes, _) = self.changed.wait_timeout_while(self.lock(), patience, waits).unwrap_or_else(PoisonError::into_inner);
        let missing = missing(&votes);
        if missing.is_empty() {
            return Ok(());
        }
        let late = || format!("{} did not come within {} s: still sending a point, or not reaching its target", missing.join(", "), patience.as_secs());
        let why = votes.void.get_or_insert_with(late).clone();
        self.changed.notify_all();
        Err(why)
    }

    /// Says how a step went for a member, and waits until that is known of all.
    ///
    /// # Errors
    /// Why there is no moment.
    pub(super) fn vote(&self, step: Step, item: &ItemName, mine: Result<(), String>, limit: Duration) -> Result<(), String> {
        let mut votes = self.lock();
        if let Err(why) = mine {
            votes.void.get_or_insert_with(|| format!("{item}: {why}"));
        }
        votes.cast[step as usize].insert(item.clone());
        if step == Step::Paused && votes.cast[step as usize] == *self.group.members() {
            votes.taken_at = Some(Utc::now());
        }
        self.changed.notify_all();
        let members = self.group.members().len();
        let waits = |votes: &mut Votes| votes.void.is_none() && votes.cast[step as usize].len() < members;
        let (mut votes, _) = self.changed.wait_timeout_while(votes, limit, waits).unwrap_or_else(PoisonError::into_inner);
        let missing: Vec<String> = self.group.members().difference(&votes.cast[step as usize]).map(ToString::to_string).collect();
        if !missing.is_empty() {
            votes.void.get_or_insert_with(|| format!("it took longer than {} ms until {} {}", limit.as_millis(), missing.join(", "), step.words()));
            self.changed.notify_all();
        }
        votes.void.clone().map_or(Ok(()), Err)
    }

    /// How long a member's machine stood still.
    pub(super) fn stood_still(&self, pause: Duration) {
        let mut votes = self.lock();
        votes.pause = votes.pause.max(pause);
    }

    /// Why the moment is not app-consistent anywhere.
    pub(super) fn not_app(&self, item: &ItemName, why: &str) {
        self.lock().not_app.get_or_insert_with(|| format!("{item}: {why}"));
    }

    /// What the moment's points are, as far as that is known.
    pub(super) fn consistency(&self) -> Consistency {
        if self.app_due && self.lock().not_app.is_none() { Consistency::App } else { Consistency::Crash }
    }

    /// Says that a member's guest was let go, and waits until all were: what the moment's points are.
    pub(super) fn settled(&self, item: &ItemName, limit: Duration) -> Consistency {
        let mut votes = self.lock();
        votes.cast[Step::Thawed as usize].insert(item.clone());
        self.changed.notify_all();
        let members = self.group.members().len();
        let waits = |votes: &mut Votes| votes.cast[Step::Thawed as usize].len() < members;
        (votes, _) = self.changed.wait_timeout_while(votes, limit, waits).unwrap_or_else(PoisonError::into_inner);
        if votes.cast[Step::Thawed as usize].len() < members {
            votes.not_app.get_or_insert_with(|| format!("it took longer than {} ms until all guests had thawed", limit.as_millis()));
        }
        drop(votes);
        self.consistency()
    }

    /// The moment's name, which the first who asks makes of its time, its pause, and why it is not app-consistent.
    pub(super) fn named(&self, name: impl FnOnce(DateTime<Utc>, Duration, Option<String>) -> GroupMoment) -> Option<GroupMoment> {
        let mut votes = self.lock();
        if votes.moment.is_none() {
            votes.moment = Some(name(votes.taken_at?, votes.pause, votes.not_app.clone()));
        }
        votes.moment.clone()
    }

    /// When all stood still.
    pub(super) fn taken_at(&self) -> Option<DateTime<Utc>> {
        self.lock().taken_at
    }

    /// Whether nobody has told yet how it ended.
    pub(super) fn first_to_tell(&self) -> bool {
        !std::mem::replace(&mut self.lock().told, true)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn round(app_due: bool) -> Arc<Round> {
        let members = ["a", "b", "c"].iter().map(|item| item.parse().unwrap()).collect();
        Arc::new(Round::new(Group::new("shop".parse().unwrap(), members, 1, 2, 60).unwrap(), app_due))
    }

    /// Each member does the same on a thread of its own.
    fn each<T: Send + 'static>(round: &Arc<Round>, work: impl Fn(&Round, ItemName) -> T + Send + Clone + 'static) -> Vec<T> {
        let start = |item: &ItemName| {
            let (round, item, work) = (round.clone(), item.clone(), work.clone());
            thread::spawn(move || work(&round, item))
        };
        let threads: Vec<_> = round.group().members().iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }

    #[test]
    fn nobody_goes_on_before_all_are_there() {
        let round = round(false);
        let item = |name: &str| name.parse::<ItemName>().unwrap();
        assert_eq!((round.arrive(&item("a")), round.arrive(&item("b"))), (Ok(false), Ok(false)));
        assert_eq!(
            round.gathered(Duration::ZERO).unwrap_err(),
            "c did not come within 0 s: still sending a point, or not reaching its target"
        );
        assert!(round.arrive(&item("c")).is_err(), "the others have gone");
    }

    #[test]
    fn what_one_could_not_do_ends_the_round_for_all_and_for_the_same_reason() {
        let ends = each(&round(false), |round, item| {
            let mine = if item.as_str() == "b" { Err("no".to_owned()) } else { Ok(()) };
            round.vote(Step::Prepared, &item, Ok(()), LIMIT).and_then(|()| round.vote(Step::Paused, &item, mine, LIMIT))
        });
        assert_eq!(ends, vec![Err("b: no".to_owned()); 3]);
    }

    #[test]
    fn who_does_not_vote_in_time_ends_the_round() {
        let round = round(false);
        let item: ItemName = "a".parse().unwrap();
        let why = round.vote(Step::Begun, &item, Ok(()), Duration::from_millis(3)).unwrap_err();
        assert_eq!(why, "it took longer than 3 ms until b, c had begun its point");
    }

    #[test]
    fn a_moment_has_one_name_and_one_consistency_for_all() {
        let ends = each(&round(true), |round, item| {
            for step in [Step::Prepared, Step::Paused, Step::Begun, Step::LetGo] {
                round.vote(step, &item, Ok(()), LIMIT).unwrap();
            }
            if item.as_str() == "c" {
                round.not_app(&item, "deaf");
            }
            let consistency = round.settled(&item, LIMIT);
            let named = round.named(|_, _, why| GroupMoment { group: round.group().name().clone(), moment: format!("{item}: {why:?}") });
            (consistency, named)
        });
        assert_eq!(ends[0].0, Consistency::Crash);
        assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "{ends:?}");
    }
}
