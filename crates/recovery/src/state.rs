//! The life of a protected item: one main state, and the moves between them.
//!
//! ```text
//!   unprotected ─▶ seeding ─▶ protected ─▶ failing over ─▶ commit pending ─▶ committing ─▶ committed
//!        ▲                      ▲   ▲                        │  ▲    │                       │
//!        └── unprotecting ◀─────┘   └──────── undoing ◀──────┘  └─ changing point            │
//!                                   └─────────────── reprotecting ◀───────────────────────────┘
//! ```
//!
//! Invariants: 1. [`MainState::advance`] is the only way from one state to another. 2. A failover can be given up until the
//! machine is first powered on with its network, not after. 3. A failed operation names itself, and the state it started
//! from where that was not left.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Operation, operation::can_be_undone};

/// Which way an item is replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the primary to the recovery site.
    Forward,
    /// From the recovery to the primary site.
    Reverse,
}

/// Whether the source takes part in a failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailoverKind {
    /// Nothing is lost; an error stops it.
    Planned,
    /// From a point; a dead source does not stop it.
    Unplanned,
    /// Planned, back to the primary site, from replication in reverse.
    Failback,
    /// Planned, back to the primary site, of an item that is not replicated: everything is copied while the machine is off.
    FullFailback,
}

impl FailoverKind {
    /// The operation that begins it.
    #[must_use]
    pub fn operation(self) -> Operation {
        match self {
            FailoverKind::Planned => Operation::PlannedFailover,
            FailoverKind::Unplanned => Operation::Failover,
            FailoverKind::Failback | FailoverKind::FullFailback => Operation::Failback,
        }
    }
}

/// Whether a failover can still be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retreat {
    /// Nothing runs at the target yet.
    Open,
    /// The machine was powered on with its network.
    Closed,
}

/// A state in which nothing is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rest {
    /// Known, not replicated.
    Unprotected,
    /// Points are taken.
    Protected,
    /// Runs at the other site from a point.
    CommitPending,
    /// Runs at the other site, not replicated.
    Committed,
}

impl Rest {
    /// The same as a main state.
    #[must_use]
    pub fn state(self) -> MainState {
        match self {
            Rest::Unprotected => MainState::Unprotected,
            Rest::Protected => MainState::Protected,
            Rest::CommitPending => MainState::CommitPending,
            Rest::Committed => MainState::Committed,
        }
    }
}

/// What a failure left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stand {
    /// Everything is as before the operation.
    Kept,
    /// Something changed that was not put back.
    Left,
}

/// What an item is doing; exactly one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum MainState {
    /// Known, not replicated.
    Unprotected,
    /// The first full copy is running; it can be resumed.
    Seeding,
    /// Points are taken in the item's direction.
    Protected,
    /// A failover or a failback is running.
    FailingOver {
        /// Planned or not.
        kind: FailoverKind,
        /// Whether it can be cancelled.
        retreat: Retreat,
    },
    /// Runs at the other site from a point that can still be changed.
    CommitPending,
    /// Discarding the target, recovering again from another point.
    ChangingPoint,
    /// Keeping the map of changed extents, withdrawing points, flattening.
    Committing,
    /// Runs at the other site, not replicated.
    Committed,
    /// Copying in the other direction, until the first point.
    Reprotecting,
    /// Replication is being dismantled.
    Unprotecting,
    /// Discarding the target, starting the source again.
    Undoing,
    /// The named operation failed.
    Failed {
        /// Which one; it can be tried again.
        of: Operation,
        /// The state it started from, where that was not left.
        before: Option<Rest>,
    },
    /// Record and reality disagree.
    Reconcile,
}

/// A move of the main state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// The operation starts.
    Begin {
        /// Which one.
        operation: Operation,
    },
    /// The machine is about to be powered on with its network: the point of no return of a failover.
    PowerOn,
    /// The operation reached its end.
    Finish {
        /// Which one.
        operation: Operation,
    },
    /// The operation was given up, and everything is as before it.
    Cancel {
        /// Which one.
        operation: Operation,
    },
    /// The operation failed for good.
    Fail {
        /// Which one.
        operation: Operation,
        /// What it left behind.
        stand: Stand,
    },
    /// Reality was found to differ from the record.
    Contradict,
    /// A probe or a person said what holds.
    Resolve {
        /// The state that holds.
        rest: Rest,
    },
}

/// A move that the state does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no move `{step}` from state {state}")]
pub struct NotAllowed {
    /// Where the item is.
    pub state: MainState,
    /// What was tried.
    pub step: Step,
}

impl MainState {
    /// The state in which nothing is under way, if it is one: its own, or the one that a failed operation has not left.
    #[must_use]
    pub fn rest(self) -> Option<Rest> {
        match self {
            MainState::Unprotected => Some(Rest::Unprotected),
            MainState::Protected => Some(Rest::Protected),
            MainState::CommitPending => Some(Rest::CommitPending),
            MainState::Committed => Some(Rest::Committed),
            MainState::Failed { before, .. } => before,
            MainState::Seeding
            | MainState::FailingOver { .. }
            | MainState::ChangingPoint
            | MainState::Committing
            | MainState::Reprotecting
            | MainState::Unprotecting
            | MainState::Undoing
            | MainState::Reconcile => None,
        }
    }

    /// The state after `step`.
    ///
    /// # Errors
    /// The state does not have that move.
    pub fn advance(self, step: Step) -> Result<MainState, NotAllowed> {
        use MainState as S;
        let next = match (self, step) {
            (S::Failed { of, before }, Step::Begin { operation }) => begin_after_failure(of, before, operation),
            (from, Step::Begin { operation }) => begin(from, operation),
            (S::FailingOver { kind, retreat: Retreat::Open }, Step::PowerOn) => {
                Some(S::FailingOver { kind, retreat: Retreat::Closed })
            }
            (S::ChangingPoint, Step::PowerOn) => Some(S::ChangingPoint),
            (_, Step::Contradict) => Some(S::Reconcile),
            (S::Reconcile, Step::Resolve { rest }) => Some(rest.state()),
            (from, Step::Finish { operation }) if from.busy_with() == Some(operation) => from.finished(),
            (from, Step::Cancel { operation }) if from.busy_with() == Some(operation) => from.cancelled(),
            (from, Step::Fail { operation, stand: Stand::Kept }) if from.busy_with() == Some(operation) => {
                from.untouched().map(|rest| S::Failed { of: operation, before: Some(rest) })
            }
            // What was left is at the target and was never started: the item runs where it ran, accepted, and nothing is to be taken up.
            (
                from @ S::FailingOver { kind: FailoverKind::FullFailback, retreat: Retreat::Open },
                Step::Fail { operation: Operation::Failback, stand: Stand::Left },
            ) => Some(S::Failed { of: Operation::Failback, before: from.untouched() }),
            (from, Step::Fail { operation, stand: Stand::Left }) if from.busy_with() == Some(operation) => {
                Some(S::Failed { of: operation, before: None })
            }
            (
                _,
                Step::PowerOn
                | Step::Finish { .. }
                | Step::Cancel { .. }
                | Step::Fail { .. }
                | Step::Resolve { .. },
            ) => None,
        };
        next.ok_or(NotAllowed { state: self, step })
    }

    /// The operation that is under way in this state.
    #[must_use]
    pub fn busy_with(self) -> Option<Operation> {
        match self {
            MainState::Seeding => Some(Operation::Protect),
            MainState::FailingOver { kind, .. } => Some(kind.operation()),
            MainState::ChangingPoint => Some(Operation::ChangePoint),
            MainState::Committing => Some(Operation::Commit),
            MainState::Reprotecting => Some(Operation::Reprotect),
            MainState::Unprotecting => Some(Operation::Unprotect),
            MainState::Undoing => Some(Operation::Undo),
            MainState::Unprotected
            | MainState::Protected
            | MainState::CommitPending
            | MainState::Committed
            | MainState::Failed { .. }
            | MainState::Reconcile => None,
        }
    }

    fn finished(self) -> Option<MainState> {
        match self {
            MainState::Seeding | MainState::Reprotecting | MainState::Undoing => Some(MainState::Protected),
            MainState::FailingOver { retreat: Retreat::Closed, .. } | MainState::ChangingPoint => {
                Some(MainState::CommitPending)
            }
            MainState::Committing => Some(MainState::Committed),
            MainState::Unprotecting => Some(MainState::Unprotected),
            MainState::FailingOver { retreat: Retreat::Open, .. }
            | MainState::Unprotected
            | MainState::Protected
            | MainState::CommitPending
            | MainState::Committed
            | MainState::Failed { .. }
            | MainState::Reconcile => None,
        }
    }

    /// Only these can be given up by a person; the others end or fail.
    fn cancelled(self) -> Option<MainState> {
        let by_a_person = matches!(self, MainState::Seeding | MainState::FailingOver { .. } | MainState::Reprotecting);
        self.untouched().filter(|_| by_a_person).map(Rest::state)
    }

    /// The state before the running operation, where it has not been left for good.
    fn untouched(self) -> Option<Rest> {
        match self {
            MainState::Seeding => Some(Rest::Unprotected),
            MainState::FailingOver { kind: FailoverKind::FullFailback, retreat: Retreat::Open } => Some(Rest::Committed),
            MainState::FailingOver { retreat: Retreat::Open, .. } => Some(Rest::Protected),
            MainState::ChangingPoint | MainState::Committing | MainState::Undoing => Some(Rest::CommitPending),
            MainState::Reprotecting => Some(Rest::Committed),
            MainState::FailingOver { retreat: Retreat::Closed, .. }
            | MainState::Unprotecting
            | MainState::Unprotected
            | MainState::Protected
            | MainState::CommitPending
            | MainState::Committed
            | MainState::Failed { .. }
            | MainState::Reconcile => None,
        }
    }
}

fn begin(from: MainState, operation: Operation) -> Option<MainState> {
    use MainState as S;
    match (from, operation) {
        (S::Unprotected, Operation::Protect)
        | (S::Protected, Operation::PlannedFailover | Operation::Failover | Operation::Failback)
        | (S::CommitPending, Operation::ChangePoint | Operation::Commit | Operation::Undo)
        | (S::Committed, Operation::Reprotect)
        | (S::Seeding | S::Protected | S::Committed, Operation::Unprotect) => busy_state(operation),
        (S::Committed, Operation::Failback) => Some(S::FailingOver { kind: FailoverKind::FullFailback, retreat: Retreat::Open }),
        _ => None,
    }
}

/// A failed operation can be tried again, given up for what was possible before it, or ended by unprotecting.
fn begin_after_failure(of: Operation, before: Option<Rest>, operation: Operation) -> Option<MainState> {
    if let Some(begun) = before.and_then(|rest| begin(rest.state(), operation)) {
        return Some(begun);
    }
    let undone = operation == Operation::Undo && before.is_none() && can_be_undone(of);
    let ends = operation == Operation::Unprotect || undone;
    if operation == of || ends { busy_state(operation) } else { None }
}

fn busy_state(operation: Operation) -> Option<MainState> {
    let failing_over = |kind| MainState::FailingOver { kind, retreat: Retreat::Open };
    match operation {
        Operation::Protect => Some(MainState::Seeding),
        Operation::PlannedFailover => Some(failing_over(FailoverKind::Planned)),
        Operation::Failover => Some(failing_over(FailoverKind::Unplanned)),
        Operation::Failback => Some(failing_over(FailoverKind::Failback)),
        Operation::ChangePoint => Some(MainState::ChangingPoint),
        Operation::Commit => Some(MainState::Committing),
        Operation::Undo => Some(MainState::Undoing),
        Operation::Reprotect => Some(MainState::Reprotecting),
        Operation::Unprotect => Some(MainState::Unprotecting),
        Operation::TestFailover
        | Operation::CleanTestFailover
        | Operation::Resync
        | Operation::ChangePolicy
        | Operation::Hold
        | Operation::Release
        | Operation::Cancel
        | Operation::Resolve
        | Operation::Forget => None,
    }
}

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state().fmt(f)
    }
}

impl fmt::Display for MainState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            MainState::Unprotected => "unprotected",
            MainState::Seeding => "seeding",
            MainState::Protected => "protected",
            MainState::FailingOver { retreat: Retreat::Closed, .. } => "failing over (powered on)",
            MainState::FailingOver { kind: FailoverKind::Planned, .. } => "failing over (planned)",
            MainState::FailingOver { kind: FailoverKind::Unplanned, .. } => "failing over",
            MainState::FailingOver { kind: FailoverKind::Failback, .. } => "failing back",
            MainState::FailingOver { kind: FailoverKind::FullFailback, .. } => "failing back (full copy)",
            MainState::CommitPending => "commit pending",
            MainState::ChangingPoint => "changing point",
            MainState::Committing => "committing",
            MainState::Committed => "committed",
            MainState::Reprotecting => "reprotecting",
            MainState::Unprotecting => "unprotecting",
            MainState::Undoing => "undoing",
            MainState::Failed { of, before: None } => return f.pad(&format!("failed({of})")),
            MainState::Failed { of, before: Some(rest) } => {
                return f.pad(&format!("failed({of}), still {rest}"));
            }
            MainState::Reconcile => "reconcile",
        };
        f.pad(word)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Begin { operation } => write!(f, "begin {operation}"),
            Step::PowerOn => f.write_str("power on"),
            Step::Finish { operation } => write!(f, "finish {operation}"),
            Step::Cancel { operation } => write!(f, "cancel {operation}"),
            Step::Fail { operation, stand: Stand::Kept } => write!(f, "fail {operation}, nothing changed"),
            Step::Fail { operation, stand: Stand::Left } => write!(f, "fail {operation}"),
            Step::Contradict => f.write_str("contradict"),
            Step::Resolve { rest } => write!(f, "resolve to {rest}"),
        }
    }
}

/// Every state that can be reached, each once, in the order of discovery.
#[cfg(test)]
pub(crate) fn every_state() -> Vec<MainState> {
    let mut states = vec![MainState::Unprotected];
    let mut next = 0;
    while let Some(state) = states.get(next).copied() {
        next += 1;
        for reached in every_step().into_iter().filter_map(|step| state.advance(step).ok()) {
            if !states.contains(&reached) {
                states.push(reached);
            }
        }
    }
    states
}

#[cfg(test)]
pub(crate) fn every_step() -> Vec<Step> {
    let mut steps = vec![Step::PowerOn, Step::Contradict];
    for rest in [Rest::Unprotected, Rest::Protected, Rest::CommitPending, Rest::Committed] {
        steps.push(Step::Resolve { rest });
    }
    for operation in Operation::ALL {
        steps.push(Step::Begin { operation });
        steps.push(Step::Finish { operation });
        steps.push(Step::Cancel { operation });
        steps.push(Step::Fail { operation, stand: Stand::Kept });
        steps.push(Step::Fail { operation, stand: Stand::Left });
    }
    steps
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn every_transition() {
        let mut table = String::new();
        for state in every_state() {
            for step in every_step() {
                if let Ok(reached) = state.advance(step) {
                    table += &format!("{state:<44} {:<36} {reached}\n", step.to_string());
                }
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn a_failover_is_given_up_only_before_the_machine_runs() {
        let begun = MainState::Protected.advance(Step::Begin { operation: Operation::Failover }).unwrap();
        let cancel = Step::Cancel { operation: Operation::Failover };
        assert_eq!(begun.advance(cancel).unwrap(), MainState::Protected);
        let running = begun.advance(Step::PowerOn).unwrap();
        assert_eq!(running.advance(cancel).unwrap_err().state, running);
    }

    fn after(from: MainState, steps: &[Step]) -> MainState {
        steps.iter().fold(from, |state, step| state.advance(*step).unwrap())
    }

    #[test]
    fn rule_6_a_failover_has_two_phases_and_the_commit_is_the_second() {
        let operation = Operation::Failover;
        let running = after(MainState::Protected, &[Step::Begin { operation }, Step::PowerOn, Step::Finish { operation }]);
        assert_eq!(running, MainState::CommitPending);
        let operation = Operation::Commit;
        assert_eq!(after(running, &[Step::Begin { operation }, Step::Finish { operation }]), MainState::Committed);
    }

    #[test]
    fn rule_7_between_the_phases_the_point_is_committed_or_another_one_is_chosen_as_often_as_one_likes() {
        let (change, commit) = (Operation::ChangePoint, Operation::Commit);
        let another = [Step::Begin { operation: change }, Step::PowerOn, Step::Finish { operation: change }];
        assert_eq!(after(MainState::CommitPending, &[another, another].concat()), MainState::CommitPending);
        assert_eq!(after(MainState::CommitPending, &[Step::Begin { operation: commit }]), MainState::Committing);
    }

    #[test]
    fn a_step_of_another_operation_moves_nothing() {
        let finish = Step::Finish { operation: Operation::Commit };
        assert!(MainState::Seeding.advance(finish).is_err());
    }

    #[test]
    fn states_and_steps_read_back_from_json() {
        for state in every_state() {
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<MainState>(&text).unwrap(), state, "{text}");
        }
        for step in every_step() {
            let text = serde_json::to_string(&step).unwrap();
            assert_eq!(serde_json::from_str::<Step>(&text).unwrap(), step, "{text}");
        }
    }
}
