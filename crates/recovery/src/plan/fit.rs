//! Whether a work of a plan means a machine as it stands: to be done, there already, or not possible; and what that means for the plan.
//!
//! Invariant: what is there already never hinders, so that a plan that stopped half-way is gone on with by the same work.

use super::{mode::OnError, spec::{Group, Member, Plan}, steps::Work};
use crate::{ItemName, ItemRecord, MainState, Operation, Rest, Side, SiteName, Sync, TestFailover, operation::can_be_undone};

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
    let (main, rest) = (state.main, state.main.rest());
    let there = |site: &SiteName| Fit::There(format!("it runs at {site} already ({main})"));
    match work {
        // Also where the way home was tried in vain: from there a failover would go the other way.
        Work::Planned | Work::Unplanned if state.active == Side::Recovery && !half_way(main, Operation::Failback) => there(to),
        Work::Planned | Work::Unplanned if half_way(main, Operation::Failback) => {
            Fit::Not(format!("it is {main}: it stopped half-way home, repeat the failback or undo it first"))
        }
        Work::Failback if state.active == Side::Primary && !failed_at(main, Operation::Failback) => there(from),
        Work::Planned => begins(main, Operation::PlannedFailover),
        Work::Unplanned => begins(main, Operation::Failover),
        Work::Failback => begins(main, Operation::Failback),
        Work::Test if state.test_failover != TestFailover::None => Fit::Not("it has a test failover already; clean it first".to_owned()),
        Work::Test if main == MainState::Protected || matches!(main, MainState::Failed { before: Some(Rest::Protected), .. }) => Fit::Do,
        Work::Test => Fit::Not(format!("it is {main}: a test failover needs a machine that is protected")),
        Work::CleanTest if state.test_failover == TestFailover::None => Fit::There("it has no test failover".to_owned()),
        Work::CleanTest => Fit::Do,
        Work::Commit if matches!(rest, Some(Rest::Committed | Rest::Protected)) => Fit::There(format!("there is nothing to commit: it is {main}")),
        Work::Commit => begins(main, Operation::Commit),
        Work::Undo if rest == Some(Rest::Protected) => Fit::There(format!("there is nothing to undo: it is {main}")),
        Work::Undo if matches!(main, MainState::Failed { of, before: None } if can_be_undone(of)) => Fit::Do,
        Work::Undo => begins(main, Operation::Undo),
        Work::Reprotect if rest == Some(Rest::Protected) => Fit::There(format!("it is {main}")),
        Work::Reprotect => begins(main, Operation::Reprotect),
    }
}

fn half_way(main: MainState, operation: Operation) -> bool {
    matches!(main, MainState::Failed { of, before: None } if of == operation)
}

fn failed_at(main: MainState, operation: Operation) -> bool {
    matches!(main, MainState::Failed { of, .. } if of == operation)
}

fn begins(main: MainState, operation: Operation) -> Fit {
    match main.advance(crate::Step::Begin { operation }) {
        Ok(_) => Fit::Do,
        Err(_) => Fit::Not(needs(main, operation)),
    }
}

/// What has to be done first.
fn needs(main: MainState, operation: Operation) -> String {
    let next = match (main, main.rest()) {
        (MainState::Reconcile, _) => "record and reality disagree, `switchback resolve` first",
        (MainState::Failed { before: None, .. }, _) => "it stopped half-way, repeat that or undo it first",
        (_, Some(Rest::CommitPending)) if operation == Operation::Failback => "it was failed over and not committed, commit first, then reprotect",
        (_, Some(Rest::CommitPending)) => "it was failed over and not committed, commit first",
        (_, Some(Rest::Committed)) if operation == Operation::Undo => "what it was failed over from is given up, reprotect it and fail back instead",
        (_, Some(Rest::Committed)) => "it is not replicated, reprotect it first",
        (_, Some(Rest::Unprotected)) => "protect it first",
        (_, Some(Rest::Protected)) => return format!("it is {main}, and {operation} is not possible from there"),
        (_, None) => "wait until that has ended",
    };
    format!("it is {main}: {next}")
}

/// What keeps a work from being done: machines without which the plan would stop, with what each needs. What there is to do for others is not
/// begun beside them: a failover would power them off and put them back. A machine that the plan goes on without keeps nothing.
#[must_use]
pub fn hindrances<'a>(plan: &Plan, work: Work, sync: Sync, record_of: impl Fn(&ItemName) -> Option<&'a ItemRecord>) -> Vec<(ItemName, String)> {
    let moves = matches!(work, Work::Planned | Work::Unplanned);
    // Copies that are there already are told by the test itself.
    if matches!(work, Work::Test | Work::CleanTest) {
        return vec![];
    }
    let members = plan.groups.iter().flat_map(|group| group.items.iter().map(move |member| (group, member)));
    let stop = members.filter(|(group, member)| stops(plan, group, member));
    let found = stop.filter_map(|(_, member)| {
        let Some(record) = record_of(&member.item) else {
            return moves.then(|| (member.item.clone(), "nobody protects it: protect it first, or take it out of the plan".to_owned()));
        };
        let why = match fit(work, &plan.from, &plan.to, record) {
            Fit::Not(why) => why,
            Fit::Do => way_home(work, sync, record)?,
            Fit::There(_) => return None,
        };
        Some((member.item.clone(), why))
    });
    found.collect()
}

/// Whether the plan stops when this machine fails: where a person is asked, that one may leave it out.
fn stops(plan: &Plan, group: &Group, member: &Member) -> bool {
    let unsaid = if member.critical { group.on_error.unwrap_or(plan.on_error) } else { OnError::Continue };
    member.on_error.unwrap_or(unsaid) == OnError::Stop
}

/// What a failback would say of a machine that can't go home in the way that was asked for.
fn way_home(work: Work, sync: Sync, record: &ItemRecord) -> Option<String> {
    let replicated = match (work, record.state.main.rest()) {
        (Work::Failback, Some(rest)) => rest != Rest::Committed,
        _ => return None,
    };
    match (replicated, sync) {
        (false, Sync::BeforeFailover) => Some("it is committed and not replicated back: reprotect it first, or repeat with --sync during-failover".to_owned()),
        (true, Sync::DuringFailover) => Some("it is replicated back already: leave --sync out".to_owned()),
        (true, Sync::BeforeFailover) | (false, Sync::DuringFailover) => None,
    }
}

/// What an undo ends and loses, a sentence for each machine that it means.
#[must_use]
pub fn undone(plan: &Plan, records: &[ItemRecord]) -> Vec<String> {
    let meant = records.iter().filter(|record| fit(Work::Undo, &plan.from, &plan.to, record) == Fit::Do);
    let told = meant.map(|record| match (record.powered_on, record.running_since) {
        (None, _) => format!("{}: nothing, it was never started at {}", record.name, record.target_site()),
        (Some(_), Some(since)) => {
            format!("{}: all that it has written at {} since {}", record.name, record.target_site(), since.format("%Y-%m-%d %H:%M:%S UTC"))
        }
        (Some(_), None) => format!("{}: all that it may have written at {}", record.name, record.target_site()),
    });
    told.collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;
    use crate::{Direction, Fact, Generation, ItemState, ReplicationPolicy, apply};

    fn plan() -> Plan {
        Plan::from_yaml("version: 1\nname: shop\nfrom: a\nto: b\ngroups: [{ name: data, items: [{ item: db1 }, { item: db2 }, { item: web, critical: false }] }]\n").unwrap()
    }

    fn record(name: &str, main: MainState) -> ItemRecord {
        let (primary, recovery) = ("a".parse().unwrap(), "b".parse().unwrap());
        let policy = ReplicationPolicy::default();
        let registered = Fact::ItemRegistered { name: name.parse().unwrap(), primary, recovery, machine: name.into(), policy, checks: vec![], profile: crate::Profile::Kvm };
        let known = apply(None, &registered).unwrap();
        let away = matches!(main.rest(), Some(Rest::CommitPending | Rest::Committed));
        let (active, direction) = if away { (Side::Recovery, Direction::Reverse) } else { (Side::Primary, Direction::Forward) };
        let direction = if main == MainState::CommitPending { Direction::Forward } else { direction };
        let powered_on = away.then_some(Generation { era: 1, grant_epoch: 2 });
        let running_since = away.then_some(chrono::DateTime::UNIX_EPOCH);
        ItemRecord { state: ItemState { main, active, direction, ..known.state }, powered_on, running_since, ..known }
    }

    fn found(work: Work, sync: Sync, mains: [MainState; 3]) -> Vec<String> {
        let records: Vec<ItemRecord> = ["db1", "db2", "web"].into_iter().zip(mains).map(|(name, main)| record(name, main)).collect();
        let found = hindrances(&plan(), work, sync, |item| records.iter().find(|record| record.name == *item));
        found.into_iter().map(|(item, why)| format!("{item}: {why}")).collect()
    }

    const HALF_WAY: MainState = MainState::Failed { of: Operation::Failover, before: None };
    const STILL: MainState = MainState::Failed { of: Operation::Failover, before: Some(Rest::Protected) };

    #[test]
    fn a_work_is_hindered_by_machines_that_need_something_else_first_and_by_none_that_is_there() {
        use MainState::{CommitPending, Committed, Protected, Reconcile, Seeding};
        let early = Sync::BeforeFailover;
        assert_eq!(found(Work::Reprotect, early, [CommitPending, Committed, Protected]), ["db1: it is commit pending: it was failed over and not committed, commit first"]);
        assert_eq!(
            found(Work::Failback, early, [CommitPending, Committed, Protected]),
            [
                "db1: it is commit pending: it was failed over and not committed, commit first, then reprotect",
                "db2: it is committed and not replicated back: reprotect it first, or repeat with --sync during-failover",
            ]
        );
        assert_eq!(found(Work::Failback, Sync::DuringFailover, [Protected, Committed, Protected]), [""; 0]);
        assert_eq!(
            found(Work::Undo, early, [Committed, Reconcile, CommitPending]),
            [
                "db1: it is committed: what it was failed over from is given up, reprotect it and fail back instead",
                "db2: it is reconcile: record and reality disagree, `switchback resolve` first",
            ]
        );
        assert_eq!(
            found(Work::Commit, early, [HALF_WAY, Seeding, CommitPending]),
            ["db1: it is failed(failover): it stopped half-way, repeat that or undo it first", "db2: it is seeding: wait until that has ended"]
        );
        assert_eq!(
            found(Work::Unplanned, early, [Seeding, Reconcile, Protected]),
            ["db1: it is seeding: wait until that has ended", "db2: it is reconcile: record and reality disagree, `switchback resolve` first"],
            "or the others would be powered off for nothing"
        );
        let nobody = hindrances(&plan(), Work::Unplanned, early, |_| None);
        assert_eq!(nobody.iter().map(|(item, _)| item.to_string()).collect::<Vec<_>>(), ["db1", "db2"], "the plan goes on without web");
        for (work, mains) in [
            (Work::Commit, [CommitPending, Committed, Protected]),
            (Work::Commit, [CommitPending, STILL, HALF_WAY]),
            (Work::Undo, [CommitPending, Protected, STILL]),
            (Work::Undo, [HALF_WAY, CommitPending, Committed]),
            (Work::Reprotect, [Committed, Protected, CommitPending]),
            (Work::Unplanned, [STILL, HALF_WAY, Reconcile]),
            (Work::Planned, [CommitPending, Protected, Seeding]),
        ] {
            assert_eq!(found(work, early, mains), [""; 0], "{work} {mains:?}");
        }
    }

    #[test]
    fn what_runs_where_the_plan_wants_it_is_not_moved_whatever_was_tried_in_vain() {
        let in_vain = MainState::Failed { of: Operation::Failback, before: Some(Rest::Protected) };
        let half_way = MainState::Failed { of: Operation::Failback, before: None };
        for work in [Work::Planned, Work::Unplanned] {
            let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
            let mut away = record("db1", in_vain);
            (away.state.active, away.state.direction) = (Side::Recovery, Direction::Reverse);
            assert_eq!(fit(work, &a, &b, &away), Fit::There(format!("it runs at b already ({in_vain})")), "a failover of it would go from b to a");
            for active in [Side::Primary, Side::Recovery] {
                away.state = ItemState { main: half_way, active, ..away.state };
                assert!(matches!(fit(work, &a, &b, &away), Fit::Not(why) if why.contains("half-way home")), "{work} {active:?}");
            }
        }
    }

    #[test]
    fn an_undo_says_of_each_machine_what_it_loses() {
        let records = [record("db1", MainState::CommitPending), record("db2", HALF_WAY), record("web", MainState::Protected)];
        assert_eq!(undone(&plan(), &records), ["db1: all that it has written at b since 1970-01-01 00:00:00 UTC", "db2: nothing, it was never started at b"]);
    }
}
