//! What the sites see of an item's machines, and what that means: is the old machine off, and does the item run once?
//!
//! Invariants: 1. What a site said before the item was started elsewhere says nothing about now. 2. An alarm is raised on what was
//! seen, never on what is missing; what is missing is said to be not known.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Fence, ItemRecord, MainState, OldMachine, Operation, SiteName};

/// What one site sees of an item's machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Which site.
    pub site: SiteName,
    /// The machine that is or was replicated from there, and whether it runs.
    pub source_runs: Option<bool>,
    /// Whether it would start with its host.
    pub autostart: bool,
    /// The site has ended it because the item runs elsewhere.
    pub quarantined: bool,
    /// Whether a machine that was recovered there runs.
    pub recovered_runs: Option<bool>,
    /// When that was reported, by the database's clock.
    pub reported_at: DateTime<Utc>,
}

impl Seen {
    fn runs(&self) -> bool {
        self.source_runs == Some(true) || self.recovered_runs == Some(true)
    }
}

/// What holds of the machine that the item was failed over from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OldMachineSeen {
    /// There is none.
    None,
    /// It does not run.
    Off,
    /// It came back and was ended by its site's agent, which keeps it from starting.
    Quarantined,
    /// It runs beside the item.
    Running,
    /// Its site was not heard of since the item was started elsewhere, and nobody proved it off.
    Unknown,
}

impl OldMachineSeen {
    /// For people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            OldMachineSeen::None => "none",
            OldMachineSeen::Off => "off",
            OldMachineSeen::Quarantined => "quarantined",
            OldMachineSeen::Running => "RUNNING",
            OldMachineSeen::Unknown => "not known: its site was not heard of since",
        }
    }
}

/// What holds of the old machine. `running_since` is when the item was started where it runs now, by the database's clock.
#[must_use]
pub fn old_machine(record: &ItemRecord, running_since: Option<DateTime<Utc>>, seen: &[Seen]) -> OldMachineSeen {
    let Some(since) = running_since.filter(|_| away(record)) else { return OldMachineSeen::None };
    let other = record.other_site();
    match seen.iter().find(|seen| seen.site == *other && seen.reported_at > since) {
        Some(seen) if seen.runs() => OldMachineSeen::Running,
        Some(Seen { quarantined: true, .. }) => OldMachineSeen::Quarantined,
        Some(Seen { source_runs: None, recovered_runs: None, .. }) if record.state.old_machine == OldMachine::None => OldMachineSeen::None,
        Some(_) => OldMachineSeen::Off,
        None if record.state.old_machine == OldMachine::Off || matches!(record.fence, Some(Fence::Proven { .. })) => OldMachineSeen::Off,
        None => OldMachineSeen::Unknown,
    }
}

/// What somebody has to do something about at once.
#[must_use]
pub fn alarms(record: &ItemRecord, running_since: Option<DateTime<Utc>>, seen: &[Seen]) -> Vec<String> {
    if old_machine(record, running_since, seen) != OldMachineSeen::Running {
        return vec![];
    }
    let (here, there) = (record.active_site(), record.other_site());
    vec![format!(
        "machine {} runs at both sites: the item was failed over to {here}, and {there} sees it running too. What it writes at {there} will be \
         lost; shut it down there, then reprotect. `switchback resolve` looks at both sites and says what holds",
        record.machine
    )]
}

/// What the sites see that the record can't be true with, a sentence each. A site that is not among them says nothing, and a machine that is
/// off contradicts nothing: somebody may have shut it down.
#[must_use]
pub fn contradictions(record: &ItemRecord, seen: &[Seen]) -> Vec<String> {
    let (here, there) = (record.active_site(), record.other_site());
    let runs = |site: &SiteName| seen.iter().find(|seen| seen.site == *site).map(Seen::runs);
    let machine = &record.machine;
    match (runs(here), runs(there)) {
        (Some(true), Some(true)) => vec![format!("machine {machine} runs at both sites; the item is recorded to run at {here} alone")],
        // What was begun and failed may have been started there without anybody having heard of it.
        (_, Some(true)) if matches!(record.state.main, MainState::Failed { before: None, .. }) => vec![],
        (Some(false), Some(true)) => vec![format!("machine {machine} runs at {there} and not at {here}, where the item is recorded to run")],
        (None, Some(true)) => vec![format!("machine {machine} runs at {there}; the item is recorded to run at {here}, which does not answer")],
        (_, Some(false) | None) => vec![],
    }
}

/// Whether there is an old machine at all: the item was started somewhere else, and no failover is on its way.
fn away(record: &ItemRecord) -> bool {
    match record.state.main {
        MainState::CommitPending | MainState::ChangingPoint | MainState::Committing | MainState::Committed | MainState::Reprotecting => true,
        MainState::Protected => record.recovered_as.is_some(),
        // It may have been started at the target without anybody having heard of it: then which of the two is old is not known.
        MainState::Failed { of: Operation::Failover | Operation::PlannedFailover | Operation::Failback, before: None } => {
            record.powered_on.is_none() && record.recovered_as.is_some()
        }
        MainState::Failed { .. } => record.powered_on.is_some() || record.recovered_as.is_some(),
        MainState::Unprotected
        | MainState::Seeding
        | MainState::FailingOver { .. }
        | MainState::Unprotecting
        | MainState::Undoing
        | MainState::Reconcile => false,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::{Fact, ReplicationPolicy, Side, Stand, Step, apply, fold};

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn failed_over(unfenced: bool) -> ItemRecord {
        let begin = |operation| Fact::Moved { step: Step::Begin { operation } };
        let finish = |operation| Fact::Moved { step: Step::Finish { operation } };
        let fence = match unfenced {
            true => Fact::UnfencedAccepted { by: "ada".into(), reason: "gone".into(), at: at(1) },
            false => Fact::FenceProven { evidence: "off".into(), at: at(1) },
        };
        let facts = [
            Fact::ItemRegistered {
                name: "db9".parse().unwrap(),
                primary: "berlin".parse().unwrap(),
                recovery: "hamburg".parse().unwrap(),
                machine: "db9".to_owned(),
                policy: ReplicationPolicy::default(),
                checks: vec![],
                profile: crate::Profile::Kvm,
            },
            begin(Operation::Protect),
            finish(Operation::Protect),
            begin(Operation::Failover),
            fence,
            Fact::Moved { step: Step::PowerOn },
            Fact::MachineRunning { site: "hamburg".parse().unwrap(), at: at(2) },
            finish(Operation::Failover),
        ];
        fold(&facts).unwrap().unwrap()
    }

    fn berlin(runs: bool, quarantined: bool, reported_at: i64) -> Seen {
        Seen {
            site: "berlin".parse().unwrap(),
            source_runs: Some(runs),
            autostart: false,
            quarantined,
            recovered_runs: None,
            reported_at: at(reported_at),
        }
    }

    #[test]
    fn a_start_that_nobody_heard_of_does_not_make_the_only_machine_an_old_one() {
        let mut record = failed_over(false);
        record.state = crate::ItemState { main: MainState::Protected, active: Side::Primary, ..record.state };
        let steps = [
            Step::Begin { operation: Operation::Failover },
            Step::PowerOn,
            Step::Fail { operation: Operation::Failover, stand: Stand::Left },
        ];
        for step in steps {
            record = apply(Some(record), &Fact::Moved { step }).unwrap();
        }
        let hamburg = Seen { site: "hamburg".parse().unwrap(), source_runs: None, recovered_runs: Some(true), ..berlin(false, false, 3) };
        let seen = [berlin(false, false, 3), hamburg];
        assert_eq!(alarms(&record, Some(at(2)), &seen), [""; 0], "it would say that the one that runs should be shut down");
    }

    #[test]
    fn what_runs_where_it_is_not_recorded_to_run_contradicts_the_record_and_silence_does_not() {
        let record = failed_over(false);
        let hamburg = |runs| Seen { site: "hamburg".parse().unwrap(), source_runs: None, recovered_runs: Some(runs), ..berlin(false, false, 3) };
        assert_eq!(contradictions(&record, &[berlin(false, false, 3), hamburg(true)]), [""; 0]);
        assert_eq!(contradictions(&record, &[hamburg(false)]), [""; 0], "somebody may have shut it down");
        let twice = contradictions(&record, &[berlin(true, false, 3), hamburg(true)]);
        assert_eq!(twice, ["machine db9 runs at both sites; the item is recorded to run at hamburg alone"]);
        let elsewhere = contradictions(&record, &[berlin(true, false, 3), hamburg(false)]);
        assert_eq!(elsewhere, ["machine db9 runs at berlin and not at hamburg, where the item is recorded to run"]);
    }

    #[test]
    fn a_report_from_before_the_start_says_nothing() {
        let stale = [berlin(true, false, 1)];
        assert_eq!(old_machine(&failed_over(true), Some(at(2)), &stale), OldMachineSeen::Unknown);
        assert_eq!(old_machine(&failed_over(false), Some(at(2)), &stale), OldMachineSeen::Off);
        assert!(alarms(&failed_over(true), Some(at(2)), &stale).is_empty());
    }

    #[test]
    fn a_machine_that_runs_on_both_sides_raises_an_alarm_until_it_is_quarantined() {
        let record = failed_over(true);
        let alarm = alarms(&record, Some(at(2)), &[berlin(true, false, 3)]);
        assert!(alarm[0].starts_with("machine db9 runs at both sites"), "{alarm:?}");
        assert!(alarms(&record, Some(at(2)), &[berlin(false, true, 4)]).is_empty());
        assert_eq!(old_machine(&record, Some(at(2)), &[berlin(false, true, 4)]), OldMachineSeen::Quarantined);
    }
}
