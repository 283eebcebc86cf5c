//! Models of the store protocol, small enough to look at every state that they can come to.
//!
//! ```text
//!   system (a part of the protocol) ─▶ search: all states ─▶ holds │ wrong, with the shortest way │ stuck, with a way
//!   variant (one rule left out)     ─▶ search             ─▶ caught, or the model says nothing about that rule
//! ```
//!
//! Invariants: 1. The protocol holds in each case, in as many states as were counted before. 2. Each rule that can be left out is missed:
//! the variant without it is caught, or it is named as a second line of defence, which matters when the first one is gone.

mod against;
mod case;
mod runs;
mod search;
mod system;
mod tail;
mod turns;
pub mod twin;

pub use against::{Compared, compare_all};
pub use case::{Look, Protocol, Size, Variant};
pub use search::{Found, STUCK, Verdict, search};
pub use system::System;

/// Every case in which the protocol must hold.
#[must_use]
pub fn protocols() -> Vec<Protocol> {
    [turns::cases::protocols(), runs::cases::protocols(), tail::cases::protocols()].into_iter().flatten().collect()
}

/// Every variant that lacks a rule.
#[must_use]
pub fn variants() -> Vec<Variant> {
    [turns::cases::variants(), runs::cases::variants(), tail::cases::variants()].into_iter().flatten().collect()
}
