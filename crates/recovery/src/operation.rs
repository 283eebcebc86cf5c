//! What a person or a policy can ask for, and which of it an item's state allows.
//!
//! Invariants: 1. The answer depends on the item's state and profile alone, never on who asks. 2. An operation that is allowed here is
//! one that [`MainState::advance`] begins from that state, or one that runs beside the main state.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Direction, InvalidId, ItemState, MainState, Profile, Resync, Rest, Retreat, Side, TestFailover, profile::has};

/// Something that can be asked of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Begin replication to the other site.
    Protect,
    /// Start an isolated copy from a point; production and replication do not notice.
    TestFailover,
    /// Remove the copy of a test failover.
    CleanTestFailover,
    /// Move to the other site without loss; stops at the first error.
    PlannedFailover,
    /// Move back to the primary site without loss; stops at the first error.
    Failback,
    /// Run at the other site from a point, whether or not the source answers.
    Failover,
    /// Recover again from another point, before the commit.
    ChangePoint,
    /// Accept the failover; the points go.
    Commit,
    /// Discard the failed-over machine and start the source again.
    Undo,
    /// Replicate in the other direction.
    Reprotect,
    /// Compare both sides and copy what differs.
    Resync,
    /// Replace the replication policy.
    ChangePolicy,
    /// Keep a recovery point: there is no commit until it is released.
    Hold,
    /// Let a held point go.
    Release,
    /// End replication and remove the replica.
    Unprotect,
    /// End the running operation and return to the state before it.
    Cancel,
    /// Compare record and reality, and say which of them holds.
    Resolve,
    /// Take it off the list: nothing of it is left to lose.
    Forget,
}

impl Operation {
    /// Every operation, in the order of the life cycle.
    pub const ALL: [Operation; 18] = [
        Operation::Protect,
        Operation::TestFailover,
        Operation::CleanTestFailover,
        Operation::PlannedFailover,
        Operation::Failback,
        Operation::Failover,
        Operation::ChangePoint,
        Operation::Commit,
        Operation::Undo,
        Operation::Reprotect,
        Operation::Resync,
        Operation::ChangePolicy,
        Operation::Hold,
        Operation::Release,
        Operation::Unprotect,
        Operation::Cancel,
        Operation::Resolve,
        Operation::Forget,
    ];

    /// The word used on the command line, in the API and in histories.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Protect => "protect",
            Operation::TestFailover => "test-failover",
            Operation::CleanTestFailover => "clean-test-failover",
            Operation::PlannedFailover => "planned-failover",
            Operation::Failback => "failback",
            Operation::Failover => "failover",
            Operation::ChangePoint => "change-point",
            Operation::Commit => "commit",
            Operation::Undo => "undo",
            Operation::Reprotect => "reprotect",
            Operation::Resync => "resync",
            Operation::ChangePolicy => "change-policy",
            Operation::Hold => "hold",
            Operation::Release => "release",
            Operation::Unprotect => "unprotect",
            Operation::Cancel => "cancel",
            Operation::Resolve => "resolve",
            Operation::Forget => "forget",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Operation {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Operation::ALL.into_iter().find(|operation| operation.as_str() == text).ok_or_else(|| InvalidId::Form {
            kind: "an operation",
            text: text.to_owned(),
            form: "protect, failover, commit, …",
        })
    }
}

/// What the item's state allows under its profile, in the order of the life cycle.
#[must_use]
pub fn allowed_operations(item: &ItemState, profile: Profile) -> Vec<Operation> {
    let mut allowed = allowed_in(item.main, item);
    if item.main.busy_with().is_none() && copy_can_go(item) {
        allowed.push(Operation::CleanTestFailover);
    }
    allowed.retain(|operation| has(profile, *operation, item) && !(item.held && gives_points_up(*operation)));
    allowed.sort_unstable();
    allowed.dedup();
    allowed
}

/// Whether there is a copy of a test failover that nobody is making or removing. It has objects and a pin of its own, named by its generation,
/// and no other is touched: so it goes whatever has become of the item since, also where the item itself runs beside it now.
fn copy_can_go(item: &ItemState) -> bool {
    matches!(item.test_failover, TestFailover::Ready | TestFailover::Failed)
}

/// Whether points go with it: a held one keeps it from being begun.
pub(crate) fn gives_points_up(operation: Operation) -> bool {
    matches!(operation, Operation::Commit | Operation::Unprotect)
}

/// A point is held as long as there are points to choose from, and one at a time.
fn holding(item: &ItemState) -> Operation {
    if item.held { Operation::Release } else { Operation::Hold }
}

fn allowed_in(main: MainState, item: &ItemState) -> Vec<Operation> {
    match main {
        MainState::Unprotected => vec![Operation::Protect, Operation::Forget],
        MainState::Seeding => vec![Operation::Cancel, Operation::Unprotect],
        MainState::Protected => protected(item),
        MainState::FailingOver { retreat: Retreat::Open, .. } => vec![Operation::Cancel],
        MainState::FailingOver { retreat: Retreat::Closed, .. }
        | MainState::ChangingPoint
        | MainState::Committing
        | MainState::Undoing
        | MainState::Unprotecting => vec![],
        MainState::CommitPending => vec![Operation::Commit, Operation::ChangePoint, Operation::Undo, holding(item), Operation::Resolve],
        MainState::Committed if item.active == Side::Recovery => {
            vec![Operation::Reprotect, Operation::Failback, Operation::Unprotect, Operation::Resolve]
        }
        MainState::Committed => vec![Operation::Reprotect, Operation::Unprotect, Operation::Resolve],
        MainState::Reprotecting => vec![Operation::Cancel],
        MainState::Failed { of, before } => {
            let mut allowed = before.map_or_else(Vec::new, |rest: Rest| allowed_in(rest.state(), item));
            allowed.extend([of, Operation::Unprotect, Operation::Resolve]);
            if item.held {
                allowed.push(Operation::Release);
            }
            if before.is_none() && can_be_undone(of) {
                allowed.push(Operation::Undo);
            }
            allowed
        }
        MainState::Reconcile => vec![Operation::Resolve],
    }
}

/// Whether a failed operation that was not put back is one that an undo puts back.
pub(crate) fn can_be_undone(of: Operation) -> bool {
    matches!(of, Operation::ChangePoint | Operation::Failover | Operation::PlannedFailover | Operation::Failback)
}

fn protected(item: &ItemState) -> Vec<Operation> {
    let mut allowed = vec![Operation::Failover, Operation::ChangePolicy, Operation::Unprotect, Operation::Resolve, holding(item)];
    allowed.push(match item.direction {
        Direction::Forward => Operation::PlannedFailover,
        Direction::Reverse => Operation::Failback,
    });
    if item.test_failover == TestFailover::None {
        allowed.push(Operation::TestFailover);
    }
    match item.resync {
        Resync::None | Resync::Needed => allowed.push(Operation::Resync),
        Resync::Running => {}
    }
    allowed
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;
    use crate::{Step, state::every_state};

    fn in_state(main: MainState) -> ItemState {
        ItemState { main, ..ItemState::new() }
    }

    #[test]
    fn the_operations_allowed_in_every_state() {
        let mut table = String::new();
        for main in every_state() {
            let words: Vec<&str> = allowed_operations(&in_state(main), Profile::Kvm).into_iter().map(Operation::as_str).collect();
            table += format!("{:<44} {}", main.to_string(), words.join(", ")).trim_end();
            table.push('\n');
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn what_is_allowed_and_begins_a_move_is_what_the_state_machine_begins() {
        for main in every_state() {
            let away = ItemState { active: Side::Recovery, direction: Direction::Reverse, ..in_state(main) };
            let allowed = [in_state(main), away].map(|item| allowed_operations(&item, Profile::Kvm)).concat();
            for operation in Operation::ALL {
                let begins = main.advance(Step::Begin { operation }).is_ok();
                let beside = matches!(
                    operation,
                    Operation::TestFailover
                        | Operation::CleanTestFailover
                        | Operation::Resync
                        | Operation::ChangePolicy
                        | Operation::Hold
                        | Operation::Release
                        | Operation::Cancel
                        | Operation::Resolve
                        | Operation::Forget
                );
                assert!(!begins || !beside, "{operation} is beside the main state");
                assert!(beside || begins == allowed.contains(&operation), "{main}: {operation}");
            }
        }
    }

    #[test]
    fn failback_is_for_what_runs_away_from_home() {
        let home = in_state(MainState::Protected);
        let away = ItemState { active: Side::Recovery, direction: Direction::Reverse, ..home };
        let allowed = |item: &ItemState| allowed_operations(item, Profile::Kvm);
        assert!(!allowed(&home).contains(&Operation::Failback) && !allowed(&away).contains(&Operation::PlannedFailover));
        assert!(allowed(&away).contains(&Operation::Failback));
        assert!(!allowed(&in_state(MainState::Committed)).contains(&Operation::Failback));
    }

    #[test]
    fn a_test_failover_is_cleaned_before_the_next() {
        let mut item = in_state(MainState::Protected);
        item.test_failover = TestFailover::Ready;
        let allowed = allowed_operations(&item, Profile::Kvm);
        assert!(allowed.contains(&Operation::CleanTestFailover) && !allowed.contains(&Operation::TestFailover));
    }

    #[test]
    fn a_copy_can_be_cleaned_in_every_state_in_which_nothing_is_under_way() {
        for main in every_state() {
            for (test_failover, there) in [(TestFailover::Ready, true), (TestFailover::Failed, true), (TestFailover::None, false), (TestFailover::Cleaning, false)] {
                let allowed = allowed_operations(&ItemState { test_failover, ..in_state(main) }, Profile::Kvm);
                assert_eq!(allowed.contains(&Operation::CleanTestFailover), there && main.busy_with().is_none(), "{main} {test_failover:?}");
            }
        }
    }

    #[test]
    fn decision_e_while_a_point_is_held_there_is_neither_commit_nor_unprotect() {
        let held = |main| allowed_operations(&ItemState { held: true, ..in_state(main) }, Profile::Kvm);
        let pending = held(MainState::CommitPending);
        assert_eq!(pending, [Operation::ChangePoint, Operation::Undo, Operation::Release, Operation::Resolve]);
        for main in every_state() {
            let allowed = held(main);
            assert!(!allowed.contains(&Operation::Commit) && !allowed.contains(&Operation::Unprotect) || main == MainState::Unprotected, "{main}: {allowed:?}");
        }
    }

    #[test]
    fn an_operation_reads_back_from_its_word() {
        for operation in Operation::ALL {
            assert_eq!(operation.as_str().parse::<Operation>().unwrap(), operation);
            assert_eq!(serde_json::to_string(&operation).unwrap(), format!("\"{operation}\""));
        }
    }
}
