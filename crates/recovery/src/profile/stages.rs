//! The four stages of the life cycle. The last one ends where the first one begins.
//!
//! ```text
//!   1 failover ─▶ 2 reprotect at the recovery site ─▶ 3 failback ─▶ 4 reprotect at the primary site ─┐
//!   ▲                                                                                                │
//!   └────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use crate::{Direction, ItemState, MainState, Operation, Rest};

/// A stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// From the primary site, of what is replicated from there.
    Failover,
    /// Of what runs at the recovery site.
    ReprotectAway,
    /// From the recovery site.
    Failback,
    /// Of what runs at the primary site again.
    ReprotectHome,
}

/// What a stage can't do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requires {
    /// Points are taken, at the side where it runs, and kept at the other.
    Replicated,
    /// The failover before it was committed.
    Committed,
    /// The machine at the site that is replicated to does not run.
    OldMachineOff,
    /// The primary site works again.
    PrimarySiteNormal,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Stage; 4] = [Stage::Failover, Stage::ReprotectAway, Stage::Failback, Stage::ReprotectHome];

    /// From 1.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Stage::Failover => 1,
            Stage::ReprotectAway => 2,
            Stage::Failback => 3,
            Stage::ReprotectHome => 4,
        }
    }

    /// The one after it.
    #[must_use]
    pub fn next(self) -> Stage {
        match self {
            Stage::Failover => Stage::ReprotectAway,
            Stage::ReprotectAway => Stage::Failback,
            Stage::Failback => Stage::ReprotectHome,
            Stage::ReprotectHome => Stage::Failover,
        }
    }

    /// What it is begun with; a failover may be planned instead.
    #[must_use]
    pub fn operation(self) -> Operation {
        match self {
            Stage::Failover => Operation::Failover,
            Stage::ReprotectAway | Stage::ReprotectHome => Operation::Reprotect,
            Stage::Failback => Operation::Failback,
        }
    }

    /// What it can't do without.
    #[must_use]
    pub fn requires(self) -> &'static [Requires] {
        match self {
            Stage::Failover => &[Requires::Replicated],
            Stage::ReprotectAway | Stage::ReprotectHome => &[Requires::Committed, Requires::OldMachineOff],
            Stage::Failback => &[Requires::Replicated, Requires::PrimarySiteNormal],
        }
    }
}

/// The stage that an item is in; `None` before it was replicated, and where nobody knows.
#[must_use]
pub fn of(item: &ItemState) -> Option<Stage> {
    let (moving, turning) = match item.direction {
        Direction::Forward => (Stage::Failover, Stage::ReprotectHome),
        Direction::Reverse => (Stage::Failback, Stage::ReprotectAway),
    };
    match item.main {
        MainState::Unprotected | MainState::Seeding | MainState::Unprotecting | MainState::Reconcile => None,
        MainState::Committed | MainState::Reprotecting => Some(turning),
        MainState::Protected
        | MainState::FailingOver { .. }
        | MainState::CommitPending
        | MainState::ChangingPoint
        | MainState::Committing
        | MainState::Undoing => Some(moving),
        MainState::Failed { of: operation, before } => failed(operation, before, moving, turning),
    }
}

fn failed(operation: Operation, before: Option<Rest>, moving: Stage, turning: Stage) -> Option<Stage> {
    match (operation, before) {
        (Operation::Protect | Operation::Unprotect, _) | (_, Some(Rest::Unprotected)) => None,
        (Operation::Reprotect, _) | (_, Some(Rest::Committed)) => Some(turning),
        (_, Some(Rest::Protected | Rest::CommitPending) | None) => Some(moving),
    }
}

/// Whether the loss of the site where an item runs would lose no more than what came after its last point: points are taken, and nothing
/// else goes on. After a failover that is not so until it is replicated again.
#[must_use]
pub fn is_protected(item: &ItemState) -> bool {
    matches!(item.main, MainState::Protected | MainState::Failed { before: Some(Rest::Protected), .. })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::{Fact, ItemRecord, ReplicationPolicy, Side, Step, allowed_operations, apply, fold, profile::Profile};

    fn protected() -> ItemRecord {
        let facts = [
            Fact::ItemRegistered {
                name: "db9".parse().unwrap(),
                primary: "berlin".parse().unwrap(),
                recovery: "hamburg".parse().unwrap(),
                machine: "db9".to_owned(),
                policy: ReplicationPolicy::default(),
                checks: vec![],
                profile: Profile::Kvm,
            },
            Fact::Moved { step: Step::Begin { operation: Operation::Protect } },
            Fact::Moved { step: Step::Finish { operation: Operation::Protect } },
        ];
        fold(&facts).unwrap().unwrap()
    }

    fn moved(record: ItemRecord, step: Step) -> ItemRecord {
        apply(Some(record), &Fact::Moved { step }).unwrap()
    }

    /// Carries a move out to its commit.
    fn committed_at(mut record: ItemRecord, operation: Operation, site: &str) -> ItemRecord {
        record = moved(moved(record, Step::Begin { operation }), Step::PowerOn);
        record = apply(Some(record), &Fact::MachineRunning { site: site.parse().unwrap(), at: DateTime::UNIX_EPOCH }).unwrap();
        record = moved(record, Step::Finish { operation });
        let commit = Operation::Commit;
        moved(moved(record, Step::Begin { operation: commit }), Step::Finish { operation: commit })
    }

    fn replicated(record: ItemRecord) -> ItemRecord {
        let operation = Operation::Reprotect;
        moved(moved(record, Step::Begin { operation }), Step::Finish { operation })
    }

    #[test]
    fn rule_1_there_are_four_stages_and_the_fourth_ends_where_the_first_begins() {
        assert_eq!(Stage::ALL.map(Stage::number), [1, 2, 3, 4]);
        assert_eq!(Stage::ALL.map(|stage| stage.next().number()), [2, 3, 4, 1]);
        let first = protected();
        let away = committed_at(first.clone(), Operation::Failover, "hamburg");
        let going_home = replicated(away.clone());
        let home = committed_at(going_home.clone(), Operation::Failback, "berlin");
        let last = replicated(home.clone());
        let stages = [&first, &away, &going_home, &home, &last].map(|record| of(&record.state).map(Stage::number));
        assert_eq!(stages, [Some(1), Some(2), Some(3), Some(4), Some(1)]);
        let begun = ItemState { old_machine: first.state.old_machine, ..last.state };
        assert_eq!(begun, first.state, "a closed loop");
    }

    #[test]
    fn rule_2_a_failover_needs_replication_that_goes_on() {
        assert_eq!(Stage::Failover.requires(), [Requires::Replicated]);
        let with_failover = |main| allowed_operations(&ItemState { main, ..ItemState::new() }, Profile::Kvm).contains(&Operation::Failover);
        assert!(with_failover(MainState::Protected));
        assert!(!with_failover(MainState::Unprotected) && !with_failover(MainState::Seeding) && !with_failover(MainState::Committed));
    }

    #[test]
    fn rule_3_while_it_is_reprotected_the_machine_at_home_is_off() {
        assert!(Stage::ReprotectAway.requires().contains(&Requires::OldMachineOff));
    }

    #[test]
    fn rule_4_a_failback_waits_until_the_primary_site_is_normal() {
        assert_eq!(Stage::Failback.requires(), [Requires::Replicated, Requires::PrimarySiteNormal]);
    }

    #[test]
    fn rule_5_after_the_failback_it_is_replicated_to_the_recovery_site_again() {
        assert_eq!((Stage::Failback.next(), Stage::ReprotectHome.operation()), (Stage::ReprotectHome, Operation::Reprotect));
        let home = committed_at(replicated(committed_at(protected(), Operation::Failover, "hamburg")), Operation::Failback, "berlin");
        assert!(allowed_operations(&home.state, Profile::Hyperv).contains(&Operation::Reprotect));
        assert_eq!((home.state.active, home.state.direction), (Side::Primary, Direction::Forward));
    }

    #[test]
    fn rule_33_after_a_failover_nothing_is_protected_until_it_is_replicated_again() {
        let away = committed_at(protected(), Operation::Failover, "hamburg");
        let pending = ItemState { main: MainState::CommitPending, ..away.state };
        assert!(is_protected(&protected().state));
        assert!(!is_protected(&pending) && !is_protected(&away.state));
        assert!(is_protected(&replicated(away).state));
    }

    #[test]
    fn rule_34_reprotection_failback_and_replication_follow_each_other_in_this_order() {
        let away = committed_at(protected(), Operation::Failover, "hamburg");
        let vmware = |record: &ItemRecord| allowed_operations(&record.state, Profile::Vmware);
        assert!(vmware(&away).contains(&Operation::Reprotect) && !vmware(&away).contains(&Operation::Failback));
        let going_home = replicated(away);
        assert!(vmware(&going_home).contains(&Operation::Failback) && !vmware(&going_home).contains(&Operation::Reprotect));
        let home = committed_at(going_home, Operation::Failback, "berlin");
        assert!(vmware(&home).contains(&Operation::Reprotect) && !vmware(&home).contains(&Operation::Failback));
    }

    #[test]
    fn rule_53_replicating_the_other_way_round_closes_the_loop() {
        assert_eq!(Stage::ReprotectHome.next(), Stage::Failover);
        let home = committed_at(replicated(committed_at(protected(), Operation::Failover, "hamburg")), Operation::Failback, "berlin");
        let closed = replicated(home);
        assert_eq!(of(&closed.state), Some(Stage::Failover));
        assert!(allowed_operations(&closed.state, Profile::Hyperv).contains(&Operation::PlannedFailover));
    }
}
