//! Real processes and a real Postgres, struck by whatever ends or stops processes, connections and disks; an outsider keeps count.
//!
//! ```text
//!                                     strikes: a plan from a seed
//!                                        │ kill, stop, cut, stall, end, fill, pin
//!   submitter ─▶ Postgres ◀─ proxy ◀─ workers, servers ◀─ front ◀─ agents ─▶ ledger ─▶ its file, flushed
//!       │ ids that were told                                                             │
//!       └──────────────────────▶ judge: histories, what was told, what was done ◀────────┘
//! ```
//!
//! Servers are `switchback server`; workers and agents are those of the product (its libraries) with workflows and activities of ours.
//!
//! Invariants: 1. What was done outside is told by the ledger alone, which asks neither engine nor database. 2. A seed gives the plan of
//! strikes, not the order in which processes run. 3. Nothing is judged before everything that was struck is well again.

pub mod call;
pub mod guard;
pub mod hosts;
pub mod installation;
pub mod judge;
pub mod ledger;
pub mod outside;
pub mod programs;
pub mod proxy;
pub mod session;
pub mod strikes;
pub mod submitter;
pub mod takeover;
