//! Sites in memory: the ports without a platform, for simulation, fault matrices and trying things out.
//!
//! ```text
//!   test ──write, replicate, cut, fail──▶ SimWorld ◀──ports── SimSite ◀── activities
//!                                            └──▶ Ledger: what was really done outside, by key
//! ```
//!
//! Invariants: 1. Nothing happens by itself: time is a closure, replication is a call, a fault is planned. The same calls give
//! the same world. 2. No lock is held while a hook runs or a future waits, so any executor will do. 3. The ledger is written
//! by the world, never by the caller. 4. A wrong choice of what is sent loses data here as it does anywhere: a point is what the
//! target has, overlaid by exactly the blocks that came.

mod actions;
mod base;
mod boot;
mod clock;
mod compute;
mod effect;
mod extents;
mod fence;
mod group;
mod hand;
mod inventory;
mod ledger;
mod machine;
mod network;
mod replica;
mod replication;
mod site;
mod state;
mod stream;
mod test_copy;
mod world;

pub use actions::{ActionEntry, ActionKey, SimActions};
pub use clock::Clock;
pub use effect::{Effect, Moment, Op, Verdict};
pub use group::Together;
pub use hand::Contents;
pub use ledger::{EffectKey, Entry, Ledger};
pub use network::{OnNetwork, PoweredOn};
pub use replication::Step;
pub use site::SimSite;
pub use world::SimWorld;

/// Bytes of a block in a simulated disk.
pub const BLOCK_BYTES: u64 = 65_536;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests;
