//! The simulator's cases: a seed is a world, what is done in it, and what goes wrong meanwhile.
//!
//! ```text
//!   seed ─┬─▶ programs   random workflows on a world that counts; with and without faults they end alike
//!         ├─▶ walk       one machine, whatever its state allows, while sites, lines, guests and processes fail
//!         ├─▶ plans      a random recovery plan there, committed, back, while processes fail
//!         ├─▶ starts     random schedules and alerts: what is due begins once, and nothing else does
//!         └─▶ tails      programs, while the store comes back without its last commits: what is lost is found, and goes on when somebody says so
//!   case ─▶ outcome: what happened in it, or what should not have
//! ```
//!
//! The engine, the workflows, the activities and the recovery logic are those that ship; the store and the hypervisors are models, which
//! contract tests keep like the real ones. One thread, one seed, virtual time.
//!
//! Invariants: 1. Equal cases give equal outcomes, to the digest of every step. 2. A case names all that it depends on, so that it can be
//! kept as a line of text.

mod case;
mod judge;
mod ledger;
mod plans;
mod programs;
mod script;
mod shrink;
mod starts;
mod walk;

pub use case::{Case, CaseError, Kind, Outcome, carried_out};
pub use shrink::shrunk;
