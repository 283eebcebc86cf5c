//! Where the engine touches the machine: threads, clocks and the tokio runtime. Nothing else in this crate does.

mod drive;
mod keeper;
mod spool;
mod threads;

pub use drive::{DriveTuning, run_scheduler, run_tasks, run_worker};
pub use keeper::ThreadKeeper;
pub use spool::{Spool, lock_soon};
pub use threads::{Inline, PlainThreads};

/// Runs short jobs off the caller's thread.
pub trait Blocking: Send + Sync {
    /// Runs the job soon.
    fn run(&self, job: Box<dyn FnOnce() + Send>);
}
