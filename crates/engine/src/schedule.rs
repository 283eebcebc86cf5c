//! Schedules: a workflow that is started with the same input at the times of a calendar.
//!
//!   spec ─▶ times (wall clock ─▶ instants) ─▶ plan (now: start, missed, next) ─▶ fire (one transaction) ─▶ run
//!
//! Invariants: 1. Times and plans are computed from data alone: equal input, equal answer, on every server. 2. A fire time
//! ends in one row: started, or missed with its cause. 3. Any number of servers may try; the schedule's row says who was first.

mod plan;
mod scheduler;
mod spec;
mod store;
mod times;

pub use plan::Plan;
pub use scheduler::Scheduler;
pub use spec::{CatchUp, CatchUpRuns, ClockChange, Missing, Overlap, Repeated, ScheduleError, ScheduleSpec};
pub use store::{Due, Fired, Firing, FiringKind, FiringStart, Missed, Moves, NewSchedule, NextFire, Pause, Recorded, Schedule, ScheduleStore};
pub use times::{Clock, FireTime, Timetable, fire_times};
