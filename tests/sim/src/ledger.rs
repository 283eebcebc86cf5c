//! The outside world of random programs: it keeps count, refuses late callers, and remembers what should never have happened.
//!
//! ```text
//!   a call ─▶ token below one that was seen for this thing? refused ─▶ done, and noted
//! ```
//!
//! Invariant: nothing here asks the engine; what it says is what an outsider has seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use engine::{Fault, Job, Perform, Probed};
use sdk::{Activity, ActivityOptions, AppError, Effect, Failure, Retry, RunId, Scope, Timeouts, Token};
use serde::{Deserialize, Serialize};

/// What is outside.
#[derive(Debug, Default)]
struct Outside {
    /// Things that are set.
    set: BTreeSet<String>,
    /// How often each thing was made; once is right.
    made: BTreeMap<String, u32>,
    /// How often each bell was rung; once at most is right.
    rung: BTreeMap<String, u32>,
    /// Where each dial stands; it is only ever turned on.
    dials: BTreeMap<String, u64>,
    /// Who is in which room, and in which era he came.
    inside: BTreeMap<String, (RunId, i64)>,
    /// The greatest token that was seen for each thing.
    seen: BTreeMap<String, Token>,
    refused: u64,
    wrong: Vec<String>,
}

/// Shared by all agents, as the world is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Mutex<Outside>>);

/// What is left of a world, for comparing two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// Things that are set.
    pub(crate) set: BTreeSet<String>,
    /// Things that were made.
    pub(crate) made: BTreeSet<String>,
}

impl Ledger {
    fn outside(&self) -> MutexGuard<'_, Outside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What should never have happened, the first of it.
    #[must_use]
    pub(crate) fn wrong(&self) -> Option<String> {
        self.outside().wrong.first().cloned()
    }

    /// How many late callers were refused.
    #[must_use]
    pub(crate) fn refused(&self) -> u64 {
        self.outside().refused
    }

    /// What is left.
    #[must_use]
    pub(crate) fn left(&self) -> Left {
        let outside = self.outside();
        Left { set: outside.set.clone(), made: outside.made.keys().cloned().collect() }
    }

    /// Lets a caller in whose token is not behind one that was seen.
    fn admit(&self, thing: &str, token: Token) -> Result<MutexGuard<'_, Outside>, Fault<Broken>> {
        let mut outside = self.outside();
        if outside.seen.get(thing).is_some_and(|seen| token < *seen) {
            outside.refused += 1;
            return Err(Fault::Other(Failure::retryable("late", format!("a newer caller was here: {thing}")).not_applied()));
        }
        outside.seen.insert(thing.to_owned(), token);
        Ok(outside)
    }
}

/// The typed error of these activities; they never give it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it is broken")
    }
}

impl AppError for Broken {
    fn code(&self) -> String {
        "broken".to_owned()
    }
    fn fatal(&self) -> bool {
        true
    }
}

macro_rules! activity {
    ($name:ident $([$more:ty])?, $word:literal, $effect:ident, $says:literal) => {
        #[doc = $says]
        #[derive(Debug, Serialize, Deserialize)]
        pub(crate) struct $name(pub(crate) String $(, pub(crate) $more)?);

        impl Activity for $name {
            const NAME: &'static str = $word;
            const EFFECT: Effect = Effect::$effect;
            const SCOPE: Scope = Scope::Prod;
            type Output = ();
            type Error = Broken;
            fn options() -> ActivityOptions {
                // Attempts end by crashes here, so there are more of them than chance can use up.
                let retry = Retry { max_attempts: 10_000, first_ms: 100, factor: 2.0, max_ms: 5_000 };
                ActivityOptions { retry, timeouts: Timeouts { start_to_close_ms: 20_000, ..Timeouts::default() } }
            }
        }
    };
}
activity!(Set, "set", Idempotent, "Sets a thing; twice is once.");
activity!(Unset, "unset", Idempotent, "Undoes that.");
activity!(Make, "make", Probeable, "Makes a thing; whether it is there can be asked.");
activity!(Turn[u64], "turn", Idempotent, "Turns a dial to a position; a run turns its dials on, never back.");
activity!(Ring, "ring", AtMostOnce, "Rings a bell; nobody can tell whether it was rung.");
activity!(Enter, "enter", Idempotent, "Enters a room that has place for one run.");
activity!(Leave, "leave", Idempotent, "Leaves it.");

#[async_trait]
impl Perform<Set> for Ledger {
    async fn perform(&self, job: &Job, Set(thing): Set) -> Result<(), Fault<Broken>> {
        self.admit(&thing, job.token)?.set.insert(thing.clone());
        Ok(())
    }
}

#[async_trait]
impl Perform<Unset> for Ledger {
    async fn perform(&self, job: &Job, Unset(thing): Unset) -> Result<(), Fault<Broken>> {
        self.admit(&thing, job.token)?.set.remove(&thing);
        Ok(())
    }
}

#[async_trait]
impl Perform<Make> for Ledger {
    async fn perform(&self, job: &Job, Make(thing): Make) -> Result<(), Fault<Broken>> {
        let mut outside = self.admit(&thing, job.token)?;
        let times = outside.made.entry(thing.clone()).or_default();
        *times += 1;
        if *times > 1 {
            let times = *times;
            outside.wrong.push(format!("{thing} was made {times} times"));
        }
        Ok(())
    }

    async fn probe(&self, job: &Job, Make(thing): &Make) -> Result<Probed<()>, Failure> {
        // Who asks is newer than whoever may still be on the way: from here on that one is late.
        let outside = self.admit(thing, job.token).map_err(|_late| Failure::retryable("late", "a newer caller was here").not_applied())?;
        Ok(if outside.made.contains_key(thing) { Probed::Done(()) } else { Probed::NotDone })
    }
}

#[async_trait]
impl Perform<Turn> for Ledger {
    async fn perform(&self, job: &Job, Turn(dial, to): Turn) -> Result<(), Fault<Broken>> {
        let mut outside = match self.admit(&dial, job.token) {
            Ok(outside) => outside,
            Err(late) => {
                // Where the dial stands says who is late, whatever the tokens are.
                let mut outside = self.outside();
                let at = outside.dials.get(&dial).copied().unwrap_or(0);
                if at < to {
                    outside.wrong.push(format!("who came to turn {dial} on from {at} to {to} was refused as late"));
                }
                return Err(late);
            }
        };
        let at = outside.dials.insert(dial.clone(), to).unwrap_or(0);
        if at > to {
            outside.wrong.push(format!("{dial} was turned back from {at} to {to}"));
        }
        Ok(())
    }
}

#[async_trait]
impl Perform<Ring> for Ledger {
    async fn perform(&self, job: &Job, Ring(bell): Ring) -> Result<(), Fault<Broken>> {
        let mut outside = self.admit(&bell, job.token)?;
        let times = outside.rung.entry(bell.clone()).or_default();
        *times += 1;
        if *times > 1 {
            let times = *times;
            outside.wrong.push(format!("{bell} was rung {times} times"));
        }
        Ok(())
    }
}

#[async_trait]
impl Perform<Enter> for Ledger {
    async fn perform(&self, job: &Job, Enter(room): Enter) -> Result<(), Fault<Broken>> {
        let mut outside = self.admit(&room, job.token)?;
        // A store that came back older does not know who is inside. Its next era does: nobody of an older one is let in any more, not even to leave.
        let before = outside.inside.insert(room.clone(), (job.run, job.token.era));
        if let Some((other, _)) = before.filter(|(other, era)| *other != job.run && *era == job.token.era) {
            outside.wrong.push(format!("{other} and {} are in {room} at the same time", job.run));
        }
        Ok(())
    }
}

#[async_trait]
impl Perform<Leave> for Ledger {
    async fn perform(&self, job: &Job, Leave(room): Leave) -> Result<(), Fault<Broken>> {
        let mut outside = self.admit(&room, job.token)?;
        if outside.inside.get(&room).is_some_and(|(inside, _)| *inside == job.run) {
            outside.inside.remove(&room);
        }
        Ok(())
    }
}
