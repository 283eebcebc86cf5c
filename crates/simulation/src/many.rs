//! Many questions about one world, on all processors: what durations come to, what becomes of a plan at each failure.
//!
//! Invariants: 1. Each question has a world of its own, so answers do not depend on how many are asked at the same time. 2. How much is
//! asked in all is limited: a person waits for the answer.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use recovery::plan::{Plan, Stage, Step};

use crate::{Failing, Impossible, Question, Range, Supposed, Told, World};

/// Machines that are simulated for a range, over all draws: some milliseconds each, so half a minute.
const MOST_DRAWN: usize = 4_000;
/// Machines that are simulated where each step fails, over all steps: a plan of a hundred machines with two steps each, and room.
const MOST_FAILING: usize = 40_000;
/// Processors that are used at most: each holds a world.
const MOST_THREADS: usize = 4;

/// How often a plan is drawn of which `wanted` draws are asked for: the larger it is, the less often, down to not at all.
#[must_use]
pub fn draws(plan: &Plan, wanted: u64) -> u64 {
    let most = MOST_DRAWN / plan.members().count().max(1);
    wanted.min(u64::try_from(most).unwrap_or(u64::MAX))
}

impl World {
    /// Follows a question so many times, of which `first`, with durations in the middle, is one; the others have drawn ones. `done` hears
    /// how many there are after each.
    ///
    /// # Errors
    /// [`Impossible`].
    pub fn range(&self, question: &Question, first: &Told, draws: u64, done: &(dyn Fn(usize) + Sync)) -> Result<Range, Impossible> {
        let seeds: Vec<u64> = (1..draws).map(|seed| question.seed.wrapping_mul(1_000_003).wrapping_add(seed)).collect();
        let mut totals = self.each(&seeds, &|drawn| done(drawn + 1), |seed| Ok(self.told(&Question { seed: *seed, ..question.clone() })?.total_ms))?;
        totals.push(first.total_ms);
        Ok(Range::of(totals, first.rto_target_ms))
    }

    /// Follows what becomes of the plan if each of its steps failed, one at a time. `done` hears how many there are after each.
    ///
    /// # Errors
    /// [`Impossible::TooMany`] for a large plan; otherwise as [`World::told`].
    pub fn each_failing(&self, question: &Question, done: &(dyn Fn(usize) + Sync)) -> Result<Vec<Failing>, Impossible> {
        let stages = question.plan.stages(question.work);
        let steps: Vec<&Step> = stages.iter().flat_map(Stage::steps).collect();
        let machines = question.plan.members().count();
        if steps.len() * machines > MOST_FAILING {
            return Err(Impossible::TooMany { steps: steps.len(), machines });
        }
        self.each(&steps, done, |step| {
            let supposed = Supposed { fail_at: Some(step.key.clone()), ..question.supposed.clone() };
            let Told { ending, why, total_ms, machines, .. } = self.told(&Question { supposed, ..question.clone() })?;
            Ok(Failing { step: step.key.clone(), ending, why, total_ms, machines })
        })
    }

    /// Answers in the order of what is asked; the first error, if there is one.
    fn each<Q: Sync, A: Send>(&self, asked: &[Q], done: &(dyn Fn(usize) + Sync), answer: impl Fn(&Q) -> Result<A, Impossible> + Sync) -> Result<Vec<A>, Impossible> {
        let (next, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let answers: Mutex<Vec<(usize, Result<A, Impossible>)>> = Mutex::default();
        let work = || {
            while let Some((place, question)) = Some(next.fetch_add(1, Ordering::SeqCst)).and_then(|place| Some((place, asked.get(place)?))) {
                let answer = answer(question);
                let wrong = answer.is_err();
                answers.lock().unwrap_or_else(PoisonError::into_inner).push((place, answer));
                done(ended.fetch_add(1, Ordering::SeqCst) + 1);
                if wrong {
                    next.store(asked.len(), Ordering::SeqCst);
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS).min(asked.len());
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
        let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
        answers.sort_by_key(|(place, _)| *place);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }
}
