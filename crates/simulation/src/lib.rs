//! What a plan would do, and how long it would take: its real workflows on simulated sites, in virtual time.
//!
//! ```text
//!   plan, machines as they stand, durations of the past ─▶ world ─▶ engine's worker ─┬─ steps take as long as they took
//!                                                                                    ├─ supposed: fails | site is down | slow
//!                                                                                    └─ people answer after a while
//!                                                        ─▶ timeline, critical path, what becomes of each machine
//! ```
//!
//! Invariants: 1. Nothing here decides what a plan does: the workflows and the engine are those that ship. 2. One thread for a world, no
//! clock, no chance but the seed: equal questions get equal answers. 3. What is assumed is said.

mod answers;
mod drive;
mod durations;
mod many;
mod places;
mod seen;
mod supposed;
mod told;
mod world;

pub use durations::{Durations, Known, PEOPLE};
pub use many::draws;
pub use supposed::{InvalidSupposition, Slow, Supposed};
pub use told::{Ending, Failing, Machine, Range, Told};
pub use world::{Inventory, World};

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
    /// The plan has nothing at that site.
    #[error("the plan has no site {site}; it moves machines from {from} to {to}")]
    NoSuchSite {
        /// As given.
        site: recovery::SiteName,
        /// Where its machines run normally.
        from: recovery::SiteName,
        /// Where they are recovered.
        to: recovery::SiteName,
    },
    /// Nothing that the plan touches has that name.
    #[error("nothing of the plan is called {what}, so nothing of it can be slow; there are {known}")]
    NothingToSlow {
        /// As given.
        what: String,
        /// What there is.
        known: String,
    },
    /// The simulated machines could not be brought where the real ones are.
    #[error("the simulated machines could not be brought where the real ones are: {0}")]
    NotThere(String),
    /// It would take too long to let each step fail.
    #[error(
        "letting each of {steps} steps of {machines} machines fail would take hours; suppose one with --fail-at STEP, or simulate a plan of the same \
         shape with fewer machines"
    )]
    TooMany {
        /// Steps of the plan.
        steps: usize,
        /// Its machines.
        machines: usize,
    },
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
    World::of(question)?.told(question)
}
