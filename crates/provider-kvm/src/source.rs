//! The source's own loop for an item: take a point, send it, wait, again; with nobody's help.
//!
//! ```text
//!   running? ─▶ greet the target ─▶ what is there to build on? ─▶ backup job + checkpoint ─▶ send ─▶ commit
//!                                                                                            │
//!   wait for the interval ◀── forget the older checkpoint ◀── remember the point ◀───────────┘
//! ```
//!
//! Members of a replication group also meet (`meeting`) and begin a point while all their machines are paused (`round`, `together`).
//!
//! Invariants: 1. What to do lies in a synced file of this writer, so a restarted agent goes on by itself. 2. The target says
//! which point is newest; a delta is sent only if that point's checkpoint is here and its bitmaps are whole. Else both sides
//! compare digests. 3. The older checkpoint goes only after the target has recorded the point. 4. Checkpoints are named by
//! generation and writer, so a late process never meets one of its successor.

mod autostart;
mod copy;
mod cycle;
mod freeze;
mod meeting;
mod offline;
mod plan;
mod quarantine;
mod record;
mod round;
mod together;
mod worker;

pub(crate) use autostart::Autostart;
pub(crate) use cycle::{MARK_PREFIX, remove_marks};
pub(crate) use freeze::{Freezer, Kind};
pub(crate) use meeting::Groups;
pub(crate) use offline::final_sync;
pub(crate) use plan::KeptMaps;
pub(crate) use record::machine_of;
pub(crate) use worker::{Source, Tools};
