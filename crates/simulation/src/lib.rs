//! What a plan would do, and how long it would take: its real workflows on simulated sites, in virtual time.
//!
//! ```text
//!   plan, machines as they stand, durations of the past ─▶ world ─▶ engine's worker ─┬─ steps take as long as they took
//!                                                                                    ├─ supposed: fails | site is down | slow
//!                                                                                    └─ people answer after a while
//!                                                        ─▶ timeline, critical path, what becomes of each machine
//! ```
//!
//! Invariants: 1. Nothing here decides what a plan does: the workflows and the engine are those that ship. 2. One thread, no clock, no
//! chance but the seed: equal questions get equal answers. 3. What is assumed is said.

mod answers;
mod drive;
mod durations;
mod supposed;
mod told;
mod world;

pub use durations::{Durations, Known};
pub use supposed::{InvalidSupposition, Slow, Supposed};
pub use told::{Ending, Failing, Machine, Range, Told};
pub use world::Inventory;

use recovery::plan::{Plan, Work};
use workflows::PlanOptions;

/// A question.
#[derive(Clone, Debug)]
pub struct Question {
    /// The plan as it would be carried out.
    pub plan: Plan,
    /// What.
    pub work: Work,
    /// How.
    pub options: PlanOptions,
    /// The machines as they stand.
    pub inventory: Inventory,
    /// What steps took.
    pub durations: Durations,
    /// What goes wrong.
    pub supposed: Supposed,
    /// Draws durations; 0 takes those in the middle.
    pub seed: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Impossible {
    /// A machine of the plan is not known.
    #[error("nobody protects {0}, so the plan can't be carried out")]
    UnknownItem(recovery::ItemName),
    /// A step that the plan does not have.
    #[error("the plan has no step {step} in this work; it has {known}")]
    NoSuchStep {
        /// As given.
        step: String,
        /// What there is.
        known: String,
    },
    /// The simulated machines could not be brought where the real ones are.
    #[error("the simulated machines could not be brought where the real ones are: {0}")]
    NotThere(String),
    /// It was not followed to its end.
    #[error("it was not followed to its end: {0}")]
    Endless(String),
    /// The engine refused.
    #[error("the engine could not run on: {0}")]
    Engine(#[from] engine::StoreError),
}

/// Follows one question to its end.
///
/// # Errors
/// [`Impossible`].
pub fn simulate(question: &Question) -> Result<Told, Impossible> {
    supposed::check(question)?;
    let mut world = world::built(question)?;
    let began_at = world.time();
    let root = world.start(question)?;
    world.suppose(question);
    world.until_ended()?;
    told::told(question, &world, root, began_at)
}

/// The same with drawn durations, so many times: from the shortest to the longest.
///
/// # Errors
/// [`Impossible`].
pub fn range(question: &Question, draws: u64) -> Result<Range, Impossible> {
    let seeds = (1..=draws).map(|seed| question.seed.wrapping_mul(1_000_003).wrapping_add(seed));
    let totals: Result<Vec<u64>, Impossible> = seeds.map(|seed| Ok(simulate(&Question { seed, ..question.clone() })?.total_ms)).collect();
    Ok(Range::of(totals?))
}

/// What becomes of the plan if each of its steps failed, one at a time.
///
/// # Errors
/// [`Impossible`].
pub fn each_failing(question: &Question) -> Result<Vec<Failing>, Impossible> {
    let stages = question.plan.stages(question.work);
    let steps = stages.iter().flat_map(|stage| &stage.lanes).flat_map(|lane| &lane.units).flat_map(|unit| &unit.steps);
    let one = |step: &recovery::plan::Step| {
        let supposed = Supposed { fail_at: Some(step.key.clone()), ..question.supposed.clone() };
        let told = simulate(&Question { supposed, ..question.clone() })?;
        Ok(Failing { step: step.key.clone(), ending: told.ending, why: told.why, total_ms: told.total_ms, machines: told.machines })
    };
    steps.map(one).collect()
}
