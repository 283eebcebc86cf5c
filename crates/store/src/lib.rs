//! All SQL of the product: the engine's ports on Postgres, the projections, and the private cluster for those who have none.
//!
//! ```text
//!   cluster ─▶ migrate ─▶ PgStore ─▶ leases · runs · turns · tasks · sweeps      (ports of the engine)
//!                            └────▶ items · points · agents · tokens · views     (what the API asks)
//! ```
//!
//! Invariants: 1. Every writing transaction of a worker begins with the fence, inside one function call: the server never
//! waits for the client inside a transaction. 2. Every statement has a deadline on both sides; one that ran out leaves its
//! connection behind. 3. One query a file, under `sql/`; nothing builds SQL from text. 4. Time is the database's.

pub mod access;
pub mod cluster;
pub mod evidence;
mod error;
pub mod items;
mod leases;
pub mod look;
pub mod migrate;
mod pg;
pub mod plans;
pub mod policies;
pub mod pool;
pub mod readiness;
mod runs;
mod schedules;
mod sql;
mod sweeps;
pub mod tail;
mod tasks;
pub mod testing;
pub mod trigger_sources;
pub mod triggers;
mod turns;

pub use error::{Lost, OpenError};
pub use pg::{Limits, PgStore};
