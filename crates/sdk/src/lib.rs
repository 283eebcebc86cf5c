//! One run of a workflow as data, and what a workflow's author uses to write it.
//!
//!   message ─▶ event ─▶ deliver ─▶ poll ─▶ commands ─▶ events
//!
//! A history alternates: one inbound event (something happened), then the commands with which the workflow answered it.
//! Replaying means delivering the inbound events again and finding the very same commands.
//!
//! Invariants: 1. Nothing here does I/O, reads a clock or draws random numbers: they come in with the events.
//! 2. Given the same history, a workflow gives the same commands, or replay says where it differs.
//! 3. No word of disaster recovery occurs in this crate.

pub mod activity;
pub mod call;
pub mod child;
pub mod context;
pub mod event;
pub mod failure;
pub mod history;
pub mod ids;
pub mod join;
mod machine;
pub mod message;
pub mod replay;
pub mod saga;
pub mod signal;
pub mod workflow;

pub use activity::{Activity, ActivityOptions, AppError, Effect, Never, Retry, Scope, Timeouts};
pub use call::{Call, CallError};
pub use child::{Child, ChildError};
pub use context::{Cancelled, Context};
pub use event::{ChildEnd, ClosePolicy, Command, Event, EventBody, Grant, Inbound, Kin, Outcome, Parent};
pub use failure::{Applied, Failure, TimeoutKind};
pub use history::{Hash, History, HistoryError, StoredEvent};
pub use ids::{Lease, RunId, Seq, TaskQueue, Token, WorkerId};
pub use message::Message;
pub use saga::Saga;
pub use signal::{Decided, Quorum, Signal, Vote};
pub use workflow::{Registry, Workflow};
