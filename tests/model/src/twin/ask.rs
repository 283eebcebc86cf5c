//! What can be asked of a store. Leases are numbers in the order of their opening.

use std::time::Duration;

use engine::{
    StartRun, TurnWrite,
    schedule::{Firing, NewSchedule},
};
use sdk::{Failure, Message, Outcome, RunId, Seq, TaskQueue, WorkerId};
use serde_json::Value;

/// An attempt at a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) run: RunId,
    pub(super) seq: Seq,
    pub(super) attempt: i32,
}

#[derive(Clone, Debug)]
pub(super) enum Ask {
    OpenLease(WorkerId, Duration),
    RenewLease(usize, Duration),
    CloseLease(usize),
    ExpireLeases(usize),
    StartRun(StartRun),
    Send(RunId, Message),
    ClaimRuns(usize, u32),
    OwnedRuns(usize),
    ReleaseRuns(usize, Vec<RunId>),
    CommitTurns(usize, Vec<TurnWrite>),
    WriterOf(RunId, Seq),
    LoadHistory(RunId),
    ReadInbox(Vec<RunId>),
    ClaimTasks(usize, Vec<TaskQueue>, u32),
    CompleteTask(Attempt, Outcome),
    RetryTask(Attempt, Failure, Duration, bool),
    BuryTask(Attempt, Failure),
    PulseTask(Attempt, Option<Value>),
    Task(RunId, Seq),
    FireTimers(u32),
    GrantLocks(u32),
    ExpireTasks(u32),
    CreateSchedule(NewSchedule),
    RemoveSchedule(String),
    PauseSchedule(String),
    ResumeSchedule(String),
    /// The version is that of the store, or one that no schedule ever had.
    Fire(Firing, bool),
    Schedules,
    Advance(Duration),
}

impl Ask {
    pub(super) fn name(&self) -> String {
        let said = format!("{self:?}");
        said.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default().to_owned()
    }
}
