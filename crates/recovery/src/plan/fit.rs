//! Whether a work of a plan means a machine as it stands: to be done, there already, or not possible.

use super::steps::Work;
use crate::{ItemRecord, MainState, Operation, Side, SiteName, TestFailover, operation::can_be_undone};

/// What a work means for a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// It is to be done.
    Do,
    /// There is nothing to do.
    There(String),
    /// It can't be done.
    Not(String),
}

/// What `work` of a plan from `from` to `to` means for this machine.
#[must_use]
pub fn fit(work: Work, from: &SiteName, to: &SiteName, record: &ItemRecord) -> Fit {
    if record.primary != *from || record.recovery != *to {
        let (primary, recovery) = (&record.primary, &record.recovery);
        return Fit::Not(format!("it is protected from {primary} to {recovery}, and the plan moves machines from {from} to {to}"));
    }
    let state = &record.state;
    let main = state.main;
    let there = |site: &SiteName| Fit::There(format!("it runs at {site} already ({main})"));
    match work {
        Work::Planned | Work::Unplanned if state.active == Side::Recovery && !failed_at(main, Operation::Failback) => there(to),
        Work::Failback if state.active == Side::Primary && !failed_at(main, Operation::Failback) => there(from),
        Work::Planned => begins(main, Operation::PlannedFailover),
        Work::Unplanned => begins(main, Operation::Failover),
        Work::Failback => begins(main, Operation::Failback),
        Work::Test if state.test_failover != TestFailover::None => Fit::Not("it has a test failover already; clean it first".to_owned()),
        Work::Test if main == MainState::Protected || matches!(main, MainState::Failed { before: Some(crate::Rest::Protected), .. }) => Fit::Do,
        Work::Test => Fit::Not(format!("it is {main}: a test failover needs a machine that is protected")),
        Work::CleanTest if state.test_failover == TestFailover::None => Fit::There("it has no test failover".to_owned()),
        Work::CleanTest => Fit::Do,
        Work::Commit if matches!(main, MainState::Committed | MainState::Protected) => Fit::There(format!("there is nothing to commit: it is {main}")),
        Work::Commit => begins(main, Operation::Commit),
        Work::Undo if main == MainState::Protected => Fit::There("there is nothing to undo: it is protected".to_owned()),
        Work::Undo if matches!(main, MainState::Failed { of, before: None } if can_be_undone(of)) => Fit::Do,
        Work::Undo => begins(main, Operation::Undo),
        Work::Reprotect if main == MainState::Protected => Fit::There("it is protected".to_owned()),
        Work::Reprotect => begins(main, Operation::Reprotect),
    }
}

fn failed_at(main: MainState, operation: Operation) -> bool {
    matches!(main, MainState::Failed { of, .. } if of == operation)
}

fn begins(main: MainState, operation: Operation) -> Fit {
    match main.advance(crate::Step::Begin { operation }) {
        Ok(_) => Fit::Do,
        Err(_) => Fit::Not(format!("it is {main}, and {operation} is not possible from there")),
    }
}
