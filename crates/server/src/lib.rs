//! The server: HTTP over a Unix socket and TLS, its certificate authority, and the wiring of server, worker and `up`.
//!
//! ```text
//!   up ─┬─ database (private cluster)          unix:DIR/api.sock ─┐
//!       ├─ server ── routes ── store           https://IP:PORT ───┴─▶ caller ─▶ route ─▶ recovery's state machine ─▶ run
//!       └─ workers ── engine ── store
//! ```
//!
//! Invariants: 1. The server decides nothing: what an item allows is [`recovery::allowed_operations`], what happens is a run.
//! 2. TCP is TLS. 3. Who asks is known before anything is looked at; names come from the kernel, a token or a certificate,
//! never from the request. 4. Agents reach their own queues and their own site's status, nothing else.

mod app;
mod by_itself;
mod ca;
mod caller;
mod evidence_key;
mod giving_back;
mod hearing;
mod listen;
mod load_evidence;
mod load_item;
mod plan_steps;
mod problem;
mod readiness;
mod reaping;
mod reconciling;
mod routes;
mod serve;
mod state_dir;
mod tally;
mod up;
mod verify;
mod waking;
mod why;
mod worker;

pub use ca::{Authority, CaError};
pub use serve::{ServeError, ServerOptions, serve};
pub use state_dir::{StateDir, StateDirError};
pub use store::OpenError;
pub use up::{UpError, UpOptions, up};
pub use worker::{WorkerError, WorkerOptions, work, work_on};
