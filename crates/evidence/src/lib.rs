//! What happened, for people who were not there: histories in a file of their own, checked, replayed and told without a database.
//!
//! ```text
//!   histories ──▶ Bundle ──write──▶ file: header, runs, events, report, signature      one record a line
//!                   │                 └──verify──▶ every byte counts; what changed is named by line, run and event
//!                   ├──▶ report ──▶ JSON, HTML      ├──▶ replay: the same commands?      ├──▶ timeline, moment
//!                   └──▶ what_if: the real engine runs on from there, with one step's outcome replaced
//! ```
//!
//! Invariants: 1. Nothing here does I/O, reads a clock or draws random numbers. 2. Equal histories, key and statements give equal
//! bytes: no clock, no locale, no order of a hash. 3. A report says nothing that can't be derived again from the histories that
//! lie beside it in its file, and whoever verifies it does so. 4. A private key is never serialised: its type can't be.

mod bundle;
mod difference;
mod file;
pub mod moment;
pub mod replay;
pub mod report;
pub mod signing;
pub mod timeline;
mod verify;
pub mod what_if;

pub use bundle::{Bundle, InvalidBundle, MOST_EVENTS};
pub use file::{Fault, Header, Part, Place, Stated};
pub use report::Report;
pub use signing::{Head, InvalidKey, PublicKey, SigningKey};
pub use verify::{Opened, ReportCheck, Verdict, open, verify};
