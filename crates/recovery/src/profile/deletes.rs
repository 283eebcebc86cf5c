//! What a commit deletes.

use crate::{MainState, Operation, plan::Mode};

/// What goes with a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// All recovery points of the item.
    pub points: bool,
    /// The machine that it came from at the recovery site. The one at the primary site is never deleted: it may be what the item goes home to.
    pub machine_at_recovery: bool,
}

/// What a commit deletes after that way to run, on every platform; a test has none.
#[must_use]
pub fn by_commit(mode: Mode) -> Option<Deleted> {
    match mode {
        Mode::Test => None,
        Mode::Planned | Mode::Unplanned => Some(Deleted { points: true, machine_at_recovery: false }),
        Mode::Failback => Some(Deleted { points: true, machine_at_recovery: true }),
    }
}

/// Whether another point can still be chosen in that state: before the commit only.
#[must_use]
pub fn point_can_change(main: MainState) -> bool {
    main.advance(crate::Step::Begin { operation: Operation::ChangePoint }).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTS: Option<Deleted> = Some(Deleted { points: true, machine_at_recovery: false });

    #[test]
    fn rule_8_after_the_commit_the_point_can_not_be_changed_any_more() {
        assert!(point_can_change(MainState::CommitPending));
        assert!(!point_can_change(MainState::Committing) && !point_can_change(MainState::Committed));
    }

    #[test]
    fn rule_9_a_commit_deletes_all_points() {
        assert_eq!([Mode::Planned, Mode::Unplanned].map(by_commit), [POINTS; 2]);
        assert_eq!(by_commit(Mode::Test), None);
    }

    #[test]
    fn rule_11_the_commit_of_a_failback_removes_the_machine_from_the_recovery_site() {
        assert_eq!(by_commit(Mode::Failback), Some(Deleted { points: true, machine_at_recovery: true }));
    }
}
