//! Our states in the words of Azure Site Recovery, for people and programs that know those.
//!
//! One of ours may stand for several of theirs: the first is the one to be shown. The table in `STATES.md` is written from here.

use crate::{FailoverKind, MainState, Operation, Resync, Retreat, Side, TestFailover};

/// The protection states that a main state stands for.
#[must_use]
pub fn protection_states(main: MainState) -> &'static [&'static str] {
    match main {
        MainState::Unprotected => &["UnprotectedStatesBegin"],
        MainState::Seeding => &[
            "InitialReplicationInProgress",
            "EnablingProtection",
            "InitialReplicationCompletedOnPrimary",
            "InitialReplicationCompletedOnRecovery",
        ],
        MainState::Protected => &["Protected"],
        MainState::FailingOver { kind, retreat } => failing_over(kind, retreat),
        MainState::CommitPending => &["UnplannedFailoverCompleted", "PlannedFailoverCompleted", "ChangeRecoveryPointCompleted"],
        MainState::ChangingPoint => &["ChangeRecoveryPointInitiated"],
        MainState::Committing => &["CommitFailoverInProgressOnRecovery", "CommitFailoverInProgressOnPrimary"],
        MainState::Committed => &["CommitFailoverCompleted"],
        MainState::Reprotecting => &["ReprotectInitiated", "InitialReplicationInProgress"],
        MainState::Unprotecting => &["DisablingProtection", "MarkedForDeletion"],
        MainState::Undoing => &["CancelFailoverInProgressOnRecovery", "CancelFailoverInProgressOnPrimary"],
        MainState::Failed { of, before } => failed(of, before.is_some()),
        MainState::Reconcile => &[],
    }
}

fn failing_over(kind: FailoverKind, retreat: Retreat) -> &'static [&'static str] {
    match (kind, retreat) {
        (FailoverKind::Unplanned, Retreat::Open) => &["UnplannedFailoverInitiated"],
        (FailoverKind::Unplanned, Retreat::Closed) => &["UnplannedFailoverCompleting"],
        (FailoverKind::Planned | FailoverKind::Failback | FailoverKind::FullFailback, Retreat::Open) => &["PlannedFailoverInitiated"],
        (FailoverKind::Planned | FailoverKind::Failback | FailoverKind::FullFailback, Retreat::Closed) => &["PlannedFailoverCompleting"],
    }
}

/// `kept`: the state it started from was not left.
fn failed(of: Operation, kept: bool) -> &'static [&'static str] {
    match (of, kept) {
        (Operation::Protect, _) => &["EnablingFailed", "InitialReplicationFailed"],
        (Operation::Failover, true) => &["UnplannedFailoverFailed"],
        (Operation::Failover, false) => &["UnplannedFailoverCompletionFailed"],
        (Operation::PlannedFailover | Operation::Failback, true) => &["PlannedFailoverFailed"],
        (Operation::PlannedFailover | Operation::Failback, false) => &["PlannedFailoverCompletionFailed"],
        (Operation::ChangePoint, _) => &["ChangeRecoveryPointFailed"],
        (Operation::Commit, _) => &["CommitFailoverFailedOnRecovery", "CommitFailoverFailedOnPrimary"],
        (Operation::Undo, _) => &["CancelFailoverFailedOnRecovery", "CancelFailoverFailedOnPrimary"],
        (Operation::Reprotect, _) => &["ReprotectFailed"],
        (Operation::Unprotect, _) => &["DisablingFailed"],
        (
            Operation::TestFailover
            | Operation::CleanTestFailover
            | Operation::Resync
            | Operation::ChangePolicy
            | Operation::Hold
            | Operation::Release
            | Operation::Cancel
            | Operation::Resolve
            | Operation::Forget,
            _,
        ) => &[],
    }
}

/// The test failover states that ours stands for.
#[must_use]
pub fn test_failover_states(test: TestFailover) -> &'static [&'static str] {
    match test {
        TestFailover::None => &["None"],
        TestFailover::Running => &["TestFailoverInitiated", "TestFailoverCompleting"],
        TestFailover::Ready => &["TestFailoverCompleted"],
        TestFailover::Cleaning => &["TestFailoverCleanupInitiated", "TestFailoverCleanupCompleting", "MarkedForDeletion"],
        TestFailover::Failed => &["TestFailoverFailed", "TestFailoverCompletionFailed"],
    }
}

/// The resynchronization states that ours stands for.
#[must_use]
pub fn resynchronization_states(resync: Resync) -> &'static [&'static str] {
    match resync {
        Resync::None => &["None", "Completed"],
        Resync::Needed => &["Failed"],
        Resync::Running => &["Initiated"],
    }
}

/// The active location.
#[must_use]
pub fn active_location(side: Side) -> &'static str {
    match side {
        Side::Primary => "Primary",
        Side::Recovery => "Recovery",
    }
}

#[cfg(test)]
mod tests;
