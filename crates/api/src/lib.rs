//! What goes over the wire: requests, answers, problems, and a client for all of it.
//!
//! ```text
//!   cli ──unix socket | https──▶ /v1/…          people and programs; problems as RFC 9457
//!   agent ──https──▶ /v1/agent/…                claim, beat, report; see [`agent`]
//! ```
//!
//! Invariants: 1. Types here are the contract: nothing that the server keeps is sent as it is kept unless it is written here.
//! 2. A refusal names its problem by a code that never changes, says what it means for the data and what to do next.
//! 3. Unknown fields of answers are ignored, unknown fields of requests are refused.

pub mod access;
pub mod agent;
pub mod client;
pub mod evidence;
pub mod groups;
pub mod items;
pub mod plans;
pub mod policies;
pub mod problem;
pub mod queues;
pub mod readiness;
pub mod runs;
pub mod store;
pub mod triggers;
pub mod schedules;

pub use client::{Client, ClientError, Identity, Trust};
pub use problem::{Code, Problem};
