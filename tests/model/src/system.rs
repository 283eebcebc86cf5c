//! What a model is: states, the steps that lead from one to the next, and what must never be.
//!
//! Invariants: 1. A step is one statement, or one thing that goes wrong; a statement that would wait for a lock is no step at that moment.
//! 2. Faults are budgeted by the state, so that there are finitely many states and the way on may not need another fault.

use std::{fmt::Debug, hash::Hash};

/// A protocol, or what is left of it without one of its rules.
pub trait System: Sync {
    /// All that anybody knows or keeps.
    type State: Clone + Hash;
    /// What one of them does.
    type Step: Clone + Debug;

    /// Where it begins.
    fn first(&self) -> Self::State;
    /// What may happen next. Nothing follows a state that is wrong.
    fn steps(&self, state: &Self::State) -> Vec<Self::Step>;
    /// What it leads to; `None` if it changes nothing.
    fn after(&self, state: &Self::State, step: &Self::Step) -> Option<Self::State>;
    /// The invariants that do not hold any more.
    fn wrong(&self, state: &Self::State) -> Vec<&'static str>;
    /// Whether all work is done. From each state a way must lead to such a one.
    fn ended(&self, state: &Self::State) -> bool;
}
