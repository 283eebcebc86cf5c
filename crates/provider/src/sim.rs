//! Sites in memory: the ports without a platform, for simulation, fault matrices and trying things out.
//!
//! ```text
//!   test ──write, replicate, cut, fail──▶ SimWorld ◀──ports── SimSite ◀── activities
//!                                            └──▶ Ledger: what was really done outside, by key
//! ```
//!
//! Invariants: 1. Nothing happens by itself: time is a closure, replication is a call, a fault is planned. The same calls give
//! the same world. 2. No lock is held while a hook runs or a future waits, so any executor will do. 3. The ledger is written
//! by the world, never by the caller.

mod clock;
mod compute;
mod effect;
mod fence;
mod ledger;
mod replica;
mod replication;
mod site;
mod state;
mod test_copy;
mod world;

pub use clock::Clock;
pub use effect::{Effect, Moment, Op, Verdict};
pub use ledger::{EffectKey, Entry, Ledger};
pub use replication::Step;
pub use site::SimSite;
pub use world::SimWorld;

/// Bytes of a block in a simulated disk.
pub const BLOCK_BYTES: u64 = 65_536;

/// Until it is built.
fn not_built(operation: &str) -> crate::ProviderError {
    crate::ProviderError::Platform {
        operation: operation.to_owned(),
        target: "this site".to_owned(),
        detail: "not built yet".to_owned(),
        applied: crate::Applied::No,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests;
