//! Runs executions of workflows: a step machine over ports.
//!
//!   claim runs ─▶ read inbox ─▶ replay (twice) ─▶ commit turns ─▶ release
//!   claim tasks ─▶ probe if in doubt ─▶ perform ─▶ report
//!
//! Invariants: 1. The engine that the simulator runs is the engine that ships: clocks, threads and stores are ports, and
//! tokio's timers and tasks occur in `adapters` only. 2. Only the owner of a run writes its history. 3. No word of disaster
//! recovery occurs in this crate.

pub mod activities;
pub mod adapters;
pub mod contract;
pub mod memory;
pub mod ports;
pub mod runner;
pub mod schedule;
pub mod sim;
pub mod trace;
pub mod turns;
pub mod witness;
pub mod worker;

pub use activities::{ActivityRegistry, Fault, Job, Perform, Probed, Pulse, Shown};
pub use ports::*;
pub use runner::{StoreTasks, TaskRunner, TaskSource, Verdict, report};
pub use worker::{Step, Tuning, Worker};
