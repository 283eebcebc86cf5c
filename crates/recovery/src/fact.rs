//! What workflows record about an item, and the item's record as the fold of it.
//!
//! ```text
//!   ItemRegistered ─▶ Moved ─▶ DisksFound ─▶ Moved … ─▶ PointChosen ─▶ FenceProven ─▶ MachineRunning ─▶ Moved
//! ```
//!
//! Invariants: 1. [`apply`] reads nothing but its arguments. 2. A fact that does not fit the record is refused with what did
//! not fit; it is never applied in part. 3. Applying the facts of an item in the order of its runs gives its record.

mod refused;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    Check, ChosenPoint, Contradiction, Direction, Disk, FailoverKind, Fence, Generation, Group, Hold, ItemName, ItemRecord, ItemState, MainState,
    OldMachine, Operation, PointChoice, PointId, Profile, ReplicationPolicy, RequestedPoint, Rest, Resync, Side, SiteName, SourceLeft, Stand, Step, TestCopy,
    TestFailover,
    operation::{allowed_operations, gives_points_up},
    profile::has,
};

pub use refused::FactRefused;

/// Something that became true of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// The item is known, or known again with other settings while it is unprotected.
    ItemRegistered {
        /// Its name.
        name: ItemName,
        /// Where it runs.
        primary: SiteName,
        /// Where it is replicated to.
        recovery: SiteName,
        /// The name of its machine on the platform.
        machine: String,
        /// How it is replicated.
        policy: ReplicationPolicy,
        /// How the recovered machine is asked whether it serves.
        checks: Vec<Check>,
        /// Which platform's rules it follows.
        #[serde(default, skip_serializing_if = "Profile::is_default")]
        profile: Profile,
    },
    /// The source was asked for its disks.
    DisksFound {
        /// In the platform's order.
        disks: Vec<Disk>,
    },
    /// The main state moved.
    Moved {
        /// How.
        #[serde(rename = "move")]
        step: Step,
    },
    /// A run was granted the item.
    Granted {
        /// Carried by every object that the run makes.
        generation: Generation,
    },
    /// A failover was asked for; which point it takes is settled later.
    PointRequested {
        /// What was asked for.
        requested: RequestedPoint,
    },
    /// The source was asked to shut down first, and to send the rest.
    SourceAsked {
        /// The point that it sent then; `None` if it did not come to that.
        sent: Option<PointId>,
        /// What came of it, in words.
        evidence: String,
    },
    /// What is looked for, once the source has answered or not.
    PointSettled {
        /// Among the points that the target has.
        looked_for: PointChoice,
        /// Why that.
        why: String,
    },
    /// A failover settled on a point.
    PointChosen {
        /// Requested and taken.
        chosen: ChosenPoint,
    },
    /// A failover found a machine at its target that another one had started, and this record knew nothing of: the store had lost it. It is
    /// taken up as it is.
    TakenUp {
        /// Of the failover that started it.
        generation: Generation,
        /// What it was started from.
        chosen: ChosenPoint,
    },
    /// The source was shown to be unable to write.
    FenceProven {
        /// What was seen, in words.
        evidence: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// The target may start although nobody knows whether the source writes.
    UnfencedAccepted {
        /// Who took that upon themselves.
        by: String,
        /// Why.
        reason: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// The machine runs at a site and serves.
    MachineRunning {
        /// Where.
        site: SiteName,
        /// Since when.
        at: DateTime<Utc>,
    },
    /// What a failover took and cost.
    Measured {
        /// From its request until the machine served.
        rto_actual_ms: u64,
        /// From the chosen point until its request.
        rpo_actual_ms: u64,
    },
    /// Points are given up; none of them is offered again.
    PointsWithdrawn {
        /// This one and all before it.
        up_to: PointId,
    },
    /// What became of the machine that the item failed over from.
    OldMachineIs {
        /// Its state.
        old_machine: OldMachine,
    },
    /// The copy beside production changed.
    TestFailoverIs {
        /// Its state.
        test_failover: TestFailover,
        /// What exists or may exist of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        copy: Option<TestCopy>,
    },
    /// A failed-over machine is discarded with what it had written.
    WritesDiscarded {
        /// Where it ran.
        site: SiteName,
        /// Blocks of 64 KiB that it had touched; `None` if nobody could tell.
        blocks: Option<u64>,
    },
    /// The need to compare both sides changed.
    ResyncIs {
        /// Its state.
        resync: Resync,
    },
    /// The item is replicated under another policy.
    PolicyChanged {
        /// The new one.
        policy: ReplicationPolicy,
    },
    /// A point is held.
    Held {
        /// Which, by whom and why.
        hold: Hold,
    },
    /// The held point was let go.
    Released {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// A person agreed to what a choice of a point loses.
    LossAccepted {
        /// Who.
        by: String,
        /// What is lost, as it was told.
        statement: String,
    },
    /// Record and reality disagree.
    Contradicted {
        /// What was seen, in words.
        why: Vec<String>,
        /// When.
        at: DateTime<Utc>,
    },
    /// It was settled which of them holds.
    Resolved {
        /// The state that holds.
        rest: Rest,
        /// Where the item runs.
        site: SiteName,
        /// Who said so; `None` if the sites were seen to agree.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Why.
        reason: String,
    },
    /// A failover was given up, and nobody could reach its source to give it back.
    SourceNotGivenBack {
        /// Where, why and when.
        left: SourceLeft,
    },
    /// The source that was left behind goes on as before.
    SourceGivenBack,
    /// The item is in this replication group, so defined; `None`: in none.
    Grouped {
        /// As all its members know it.
        group: Option<Group>,
    },
    /// The item is taken off the list; one of its name that is registered later begins anew.
    Forgotten {
        /// Who said so.
        by: String,
        /// When.
        at: DateTime<Utc>,
        /// Sites at which something of it may still lie.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left_behind: Vec<SiteName>,
    },
}

/// The record after `fact`; `None` is an item that nobody has heard of.
///
/// # Errors
/// The fact does not fit the record.
pub fn apply(record: Option<ItemRecord>, fact: &Fact) -> Result<ItemRecord, FactRefused> {
    if let Fact::ItemRegistered { name, primary, recovery, machine, policy, checks, profile } = fact {
        // Whoever registers it again has not given its source back.
        let source_left = record.as_ref().and_then(|old| old.source_left.clone());
        let state = registered_state(record, name)?;
        if primary == recovery {
            return Err(FactRefused::SameSite { name: name.clone(), site: primary.clone() });
        }
        return Ok(ItemRecord {
            version: ItemRecord::VERSION,
            name: name.clone(),
            primary: primary.clone(),
            recovery: recovery.clone(),
            machine: machine.clone(),
            disks: vec![],
            policy: policy.clone(),
            checks: checks.clone(),
            state,
            chosen: None,
            fence: None,
            withdrawn_up_to: None,
            rto_actual_ms: None,
            rpo_actual_ms: None,
            powered_on: None,
            recovered_as: None,
            running_since: None,
            test_copy: None,
            profile: *profile,
            requested: None,
            hold: None,
            contradiction: None,
            group: None,
            forgotten: None,
            source_left,
        });
    }
    changed(record.filter(ItemRecord::is_known).ok_or(FactRefused::Unregistered)?, fact)
}

/// Applies `facts` in order to nothing.
///
/// # Errors
/// One of them does not fit; its position comes with the reason.
pub fn fold<'a>(facts: impl IntoIterator<Item = &'a Fact>) -> Result<Option<ItemRecord>, (usize, FactRefused)> {
    let mut record = None;
    for (position, fact) in facts.into_iter().enumerate() {
        record = Some(apply(record, fact).map_err(|refused| (position, refused))?);
    }
    Ok(record)
}

/// A new registration starts over but never goes back behind a generation that objects on disk carry.
fn registered_state(record: Option<ItemRecord>, name: &ItemName) -> Result<ItemState, FactRefused> {
    let Some(old) = record.filter(ItemRecord::is_known) else {
        return Ok(ItemState::new());
    };
    if old.name != *name {
        return Err(FactRefused::OtherItem { fact: name.clone(), record: old.name });
    }
    let unused = matches!(old.state.main, MainState::Unprotected | MainState::Failed { of: Operation::Protect, .. });
    if !unused {
        return Err(FactRefused::InUse { name: name.clone(), state: old.state.main });
    }
    Ok(ItemState { main: old.state.main, generation: old.state.generation, ..ItemState::new() })
}

fn changed(mut record: ItemRecord, fact: &Fact) -> Result<ItemRecord, FactRefused> {
    match fact {
        Fact::ItemRegistered { name, .. } => {
            return Err(FactRefused::InUse { name: name.clone(), state: record.state.main });
        }
        Fact::DisksFound { disks } => record.disks.clone_from(disks),
        Fact::Moved { step } => return after_move(record, *step),
        Fact::Granted { generation } if *generation < record.state.generation => {
            return Err(FactRefused::Generation {
                name: record.name,
                granted: *generation,
                recorded: record.state.generation,
            });
        }
        Fact::Granted { generation } => record.state.generation = *generation,
        Fact::PointChosen { chosen } => record.chosen = Some(chosen.clone()),
        Fact::TakenUp { generation, chosen } => {
            record.state.generation = *generation;
            record.chosen = Some(chosen.clone());
        }
        Fact::FenceProven { evidence, at } => {
            record.fence = Some(Fence::Proven { evidence: evidence.clone(), at: *at });
        }
        Fact::UnfencedAccepted { by, reason, at } => {
            record.fence = Some(Fence::Unfenced { by: by.clone(), reason: reason.clone(), at: *at });
        }
        Fact::MachineRunning { site, at } => {
            record.state.active = side_of(&record, site)?;
            record.running_since = Some(*at);
        }
        Fact::Measured { rto_actual_ms, rpo_actual_ms } => {
            record.rto_actual_ms = Some(*rto_actual_ms);
            record.rpo_actual_ms = Some(*rpo_actual_ms);
        }
        Fact::PointsWithdrawn { up_to } => {
            record.withdrawn_up_to = record.withdrawn_up_to.max(Some(*up_to));
        }
        Fact::OldMachineIs { old_machine } => record.state.old_machine = *old_machine,
        Fact::TestFailoverIs { test_failover, copy } => {
            record.state.test_failover = *test_failover;
            record.test_copy.clone_from(copy);
        }
        Fact::WritesDiscarded { site, .. } => {
            side_of(&record, site)?;
        }
        Fact::ResyncIs { resync } => record.state.resync = *resync,
        Fact::PointRequested { requested } => record.requested = Some(requested.clone()),
        Fact::SourceAsked { .. } | Fact::PointSettled { .. } | Fact::LossAccepted { .. } => {}
        Fact::PolicyChanged { policy } => record.policy = policy.clone(),
        Fact::Held { hold } => {
            side_of(&record, &hold.site)?;
            (record.state.held, record.hold) = (true, Some(hold.clone()));
        }
        Fact::Released { .. } => (record.state.held, record.hold) = (false, None),
        Fact::Contradicted { why, at } => return contradicted(record, why, *at),
        Fact::Resolved { rest, site, .. } => {
            record.state = resolved(&record, *rest, site)?;
            record.contradiction = None;
        }
        Fact::SourceNotGivenBack { left } => {
            side_of(&record, &left.site)?;
            record.source_left = Some(left.clone());
        }
        Fact::SourceGivenBack => record.source_left = None,
        Fact::Grouped { group } => record.group = regrouped(&record, group.as_ref())?,
        Fact::Forgotten { at, .. } => record.forgotten = Some(forgotten(&record, *at)?),
    }
    Ok(record)
}

fn after_move(mut record: ItemRecord, step: Step) -> Result<ItemRecord, FactRefused> {
    let from = record.state.main;
    record.state = moved(&record, step)?;
    (record.recovered_as, record.powered_on) = made_by(&record, from, step);
    if step == (Step::Finish { operation: Operation::Undo }) || gives_failover_up(step) {
        (record.chosen, record.fence, record.requested) = (None, None, None);
        record.state.old_machine = before_the_move(&record);
        record.source_left = None;
    }
    // From here on the source is to stay as it is.
    if step == Step::PowerOn {
        record.source_left = None;
    }
    Ok(record)
}

fn contradicted(mut record: ItemRecord, why: &[String], at: DateTime<Utc>) -> Result<ItemRecord, FactRefused> {
    let before = record.state.main.rest();
    record.state = moved(&record, Step::Contradict)?;
    record.contradiction = Some(Contradiction { why: why.to_vec(), at, before });
    Ok(record)
}

/// The state that somebody or the sites themselves said holds, with the item running at that site.
fn resolved(record: &ItemRecord, rest: Rest, site: &SiteName) -> Result<ItemState, FactRefused> {
    if matches!(rest, Rest::CommitPending | Rest::Committed) && record.powered_on.is_none() && record.recovered_as.is_none() {
        return Err(FactRefused::NeverStarted { name: record.name.clone(), rest });
    }
    let active = side_of(record, site)?;
    let state = moved(record, Step::Resolve { rest })?;
    // What was failed over is not replicated: what it came from is the other site. All else is, or will be, replicated from where it runs.
    let direction = match (rest, active) {
        (Rest::CommitPending, Side::Recovery) | (Rest::Unprotected | Rest::Protected | Rest::Committed, Side::Primary) => Direction::Forward,
        (Rest::CommitPending, Side::Primary) | (Rest::Unprotected | Rest::Protected | Rest::Committed, Side::Recovery) => Direction::Reverse,
    };
    Ok(ItemState { active, direction, ..state })
}

/// Refuses what the item's profile does not have, and what would remove a held point.
fn may_begin(record: &ItemRecord, operation: Operation) -> Result<(), FactRefused> {
    let name = record.name.clone();
    if !has(record.profile, operation, &record.state) {
        return Err(FactRefused::Profile { name, profile: record.profile, operation });
    }
    match &record.hold {
        Some(hold) if gives_points_up(operation) => Err(FactRefused::Held { name, hold: Box::new(hold.clone()), operation }),
        Some(_) | None => Ok(()),
    }
}

fn regrouped(record: &ItemRecord, asked: Option<&Group>) -> Result<Option<Group>, FactRefused> {
    let Some(asked) = asked else { return Ok(None) };
    let name = record.name.clone();
    if let Some(before) = record.group.as_ref().filter(|before| before.name() != asked.name()) {
        return Err(FactRefused::InGroup { name, group: before.name().clone(), asked: asked.name().clone() });
    }
    if !asked.members().contains(&name) {
        return Err(FactRefused::NoMember { name, group: asked.name().clone() });
    }
    Ok(Some(asked.clone()))
}

/// An item that is in use, or that others count on, stays.
fn forgotten(record: &ItemRecord, at: DateTime<Utc>) -> Result<DateTime<Utc>, FactRefused> {
    let name = record.name.clone();
    if let Some(group) = &record.group {
        return Err(FactRefused::StillGrouped { name, group: group.name().clone() });
    }
    if !allowed_operations(&record.state, record.profile).contains(&Operation::Forget) {
        return Err(FactRefused::InUse { name, state: record.state.main });
    }
    Ok(at)
}

/// Which recoveries made the source's machine and the one that was failed over to.
fn made_by(record: &ItemRecord, from: MainState, step: Step) -> (Option<Generation>, Option<Generation>) {
    let (source, target) = (record.recovered_as, record.powered_on);
    let full_failback = matches!(from, MainState::FailingOver { kind: FailoverKind::FullFailback, .. });
    match step {
        Step::PowerOn if full_failback => (target, Some(record.state.generation)),
        Step::PowerOn => (source, Some(record.state.generation)),
        Step::Finish { operation: Operation::Undo } => (source, None),
        Step::Finish { operation: Operation::Reprotect } => (target, None),
        Step::Begin { .. } | Step::Finish { .. } | Step::Cancel { .. } | Step::Fail { .. } | Step::Contradict | Step::Resolve { .. } => {
            (source, target)
        }
    }
}

/// What the old machine was before a failover that was given up.
fn before_the_move(record: &ItemRecord) -> OldMachine {
    if record.recovered_as.is_some() { OldMachine::Off } else { OldMachine::None }
}

/// What it chose and proved holds no more.
fn gives_failover_up(step: Step) -> bool {
    let of = match step {
        Step::Cancel { operation } | Step::Fail { operation, stand: Stand::Kept } => operation,
        Step::Begin { .. } | Step::PowerOn | Step::Finish { .. } | Step::Fail { .. } | Step::Contradict | Step::Resolve { .. } => return false,
    };
    matches!(of, Operation::Failover | Operation::PlannedFailover | Operation::Failback)
}

fn moved(record: &ItemRecord, step: Step) -> Result<ItemState, FactRefused> {
    if let Step::Begin { operation } = step {
        may_begin(record, operation)?;
    }
    let mut state = record.state;
    let refused = |source| FactRefused::Move { name: record.name.clone(), source };
    state.main = state.main.advance(step).map_err(refused)?;
    // From where it was accepted, it is replicated next.
    if step == (Step::Finish { operation: Operation::Commit }) {
        state.direction = match state.active {
            Side::Primary => Direction::Forward,
            Side::Recovery => Direction::Reverse,
        };
    }
    Ok(state)
}

fn side_of(record: &ItemRecord, site: &SiteName) -> Result<Side, FactRefused> {
    match site {
        site if *site == record.primary => Ok(Side::Primary),
        site if *site == record.recovery => Ok(Side::Recovery),
        _ => Err(FactRefused::Site { name: record.name.clone(), site: site.clone() }),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;
    use crate::Consistency;

    fn registered() -> Fact {
        Fact::ItemRegistered {
            name: "db9".parse().unwrap(),
            primary: "berlin".parse().unwrap(),
            recovery: "hamburg".parse().unwrap(),
            machine: "db9".to_owned(),
            policy: ReplicationPolicy::default(),
            checks: vec!["tcp:10.0.0.9:5432".parse().unwrap()],
            profile: Profile::Kvm,
        }
    }

    fn begin(operation: Operation) -> Fact {
        Fact::Moved { step: Step::Begin { operation } }
    }

    fn finish(operation: Operation) -> Fact {
        Fact::Moved { step: Step::Finish { operation } }
    }

    fn a_failover_with_commit() -> Vec<Fact> {
        let at = DateTime::UNIX_EPOCH;
        vec![
            registered(),
            begin(Operation::Protect),
            Fact::Granted { generation: Generation { era: 1, grant_epoch: 1 } },
            Fact::DisksFound { disks: vec![Disk { name: "vda".to_owned(), size_bytes: 1 << 29 }] },
            finish(Operation::Protect),
            begin(Operation::Failover),
            Fact::Granted { generation: Generation { era: 1, grant_epoch: 2 } },
            Fact::UnfencedAccepted { by: "ada".to_owned(), reason: "site burns".to_owned(), at },
            Fact::PointChosen {
                chosen: ChosenPoint {
                    requested: PointChoice::LatestProcessed,
                    point: PointId(7),
                    consistency: Consistency::Crash,
                    taken_at: at,
                },
            },
            Fact::Moved { step: Step::PowerOn },
            Fact::MachineRunning { site: "hamburg".parse().unwrap(), at },
            Fact::Measured { rto_actual_ms: 4200, rpo_actual_ms: 1900 },
            finish(Operation::Failover),
            begin(Operation::Commit),
            Fact::PointsWithdrawn { up_to: PointId(7) },
            finish(Operation::Commit),
        ]
    }

    #[test]
    fn a_record_is_the_fold_of_its_facts() {
        let record = fold(&a_failover_with_commit()).unwrap().unwrap();
        insta::assert_json_snapshot!(record);
        assert_eq!(record.active_site().as_str(), "hamburg");
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<ItemRecord>(&text).unwrap(), record);
    }

    #[test]
    fn facts_read_back_from_json() {
        for fact in a_failover_with_commit() {
            let text = serde_json::to_string(&fact).unwrap();
            assert_eq!(serde_json::from_str::<Fact>(&text).unwrap(), fact, "{text}");
        }
    }

    #[test]
    fn a_newer_record_is_refused_and_an_unknown_field_is_not() {
        let record = fold(&[registered()]).unwrap().unwrap();
        let mut json = serde_json::to_value(&record).unwrap();
        json["colour"] = "green".into();
        assert_eq!(serde_json::from_value::<ItemRecord>(json.clone()).unwrap(), record);
        json["version"] = 2.into();
        let refused = serde_json::from_value::<ItemRecord>(json).unwrap_err().to_string();
        assert_eq!(refused, "item record of format 2, this build reads up to 1");
    }

    #[test]
    fn a_fact_that_does_not_fit_is_refused_with_its_position() {
        let refused = fold(&[registered(), begin(Operation::Commit)]).unwrap_err();
        assert_eq!(refused.0, 1);
        assert!(matches!(refused.1, FactRefused::Move { .. }));
        assert_eq!(fold(&[begin(Operation::Protect)]).unwrap_err(), (0, FactRefused::Unregistered));
    }

    #[test]
    fn an_item_registered_again_keeps_its_generation() {
        let facts = [
            registered(),
            Fact::Granted { generation: Generation { era: 1, grant_epoch: 5 } },
            registered(),
            Fact::Granted { generation: Generation { era: 1, grant_epoch: 4 } },
        ];
        assert!(matches!(fold(&facts).unwrap_err(), (3, FactRefused::Generation { .. })));
    }

    #[test]
    fn rule_32_points_are_not_moved_an_item_keeps_its_sites_as_long_as_it_has_any() {
        let facts = [registered(), begin(Operation::Protect), finish(Operation::Protect)];
        let record = fold(&facts).unwrap();
        let mut elsewhere = registered();
        if let Fact::ItemRegistered { recovery, .. } = &mut elsewhere {
            *recovery = "oslo".parse().unwrap();
        }
        assert!(matches!(apply(record, &elsewhere), Err(FactRefused::InUse { state: MainState::Protected, .. })));
    }

    #[test]
    fn decision_e_a_commit_is_refused_with_the_name_of_who_holds_a_point() {
        let hold = Hold { point: PointId(7), site: "hamburg".parse().unwrap(), by: "ada".to_owned(), reason: "a court".to_owned(), at: DateTime::UNIX_EPOCH };
        let mut facts = a_failover_with_commit();
        let commit = facts.iter().position(|fact| *fact == begin(Operation::Commit)).unwrap();
        facts.insert(commit, Fact::Held { hold });
        let (position, refused) = fold(&facts).unwrap_err();
        assert_eq!(position, commit + 1);
        assert_eq!(
            refused.to_string(),
            "point 7 of item db9 is held by ada since 1970-01-01 00:00 UTC (a court), and commit would remove it; release it first"
        );
        facts.insert(commit + 1, Fact::Released { by: "ada".to_owned(), reason: "over".to_owned() });
        assert!(fold(&facts).is_ok());
    }

    #[test]
    fn a_record_that_was_contradicted_says_what_it_was_and_goes_where_somebody_says() {
        let mut facts = a_failover_with_commit();
        facts.truncate(13);
        facts.push(Fact::Contradicted { why: vec!["it runs twice".to_owned()], at: DateTime::UNIX_EPOCH });
        let record = fold(&facts).unwrap().unwrap();
        assert_eq!(record.contradiction.as_ref().unwrap().before, Some(Rest::CommitPending));
        let resolved = |rest, site: &str| Fact::Resolved { rest, site: site.parse().unwrap(), by: Some("ada".to_owned()), reason: "seen".to_owned() };
        let home = apply(Some(record.clone()), &resolved(Rest::Protected, "berlin")).unwrap();
        assert_eq!((home.state.main, home.state.active, home.state.direction), (MainState::Protected, Side::Primary, Direction::Forward));
        let away = apply(Some(record), &resolved(Rest::Committed, "hamburg")).unwrap();
        assert_eq!((away.state.main, away.state.active, away.state.direction), (MainState::Committed, Side::Recovery, Direction::Reverse));
        assert_eq!(away.contradiction, None);
        let never = fold(&[registered(), Fact::Contradicted { why: vec![], at: DateTime::UNIX_EPOCH }, resolved(Rest::Committed, "hamburg")]);
        assert!(matches!(never.unwrap_err(), (2, FactRefused::NeverStarted { .. })));
    }

    #[test]
    fn an_item_is_in_one_group_at_most_and_stays_in_it_through_a_failover() {
        let group = |name: &str, members: &[&str]| {
            let members = members.iter().map(|item| item.parse().unwrap()).collect();
            Fact::Grouped { group: Some(Group::new(name.parse().unwrap(), members, 30, 4, 3600).unwrap()) }
        };
        let mut facts = a_failover_with_commit();
        facts.insert(5, group("shop", &["db9", "web"]));
        let record = fold(&facts).unwrap().unwrap();
        assert_eq!(record.group.as_ref().map(|group| group.name().as_str()), Some("shop"));
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<ItemRecord>(&text).unwrap(), record);
        let refused = apply(Some(record.clone()), &group("bank", &["db9", "web"])).unwrap_err().to_string();
        assert_eq!(refused, "item db9 is in replication group shop and can't join bank; an item is in one group at most");
        let other = apply(Some(record.clone()), &group("shop", &["db1", "web"])).unwrap_err().to_string();
        assert_eq!(other, "replication group shop has no member db9");
        assert_eq!(apply(Some(record), &Fact::Grouped { group: None }).unwrap().group, None);
    }

    #[test]
    fn an_item_is_forgotten_if_nothing_of_it_is_left_and_begins_anew_later() {
        let forgotten = || Fact::Forgotten { by: "ada".to_owned(), at: DateTime::UNIX_EPOCH, left_behind: vec![] };
        let granted = |grant_epoch| Fact::Granted { generation: Generation { era: 1, grant_epoch } };
        let kept = Fact::Moved { step: Step::Fail { operation: Operation::Protect, stand: Stand::Kept } };
        let never = [registered(), begin(Operation::Protect), granted(5), kept, forgotten()];
        let record = fold(&never).unwrap().unwrap();
        assert!(!record.is_known());
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<ItemRecord>(&text).unwrap(), record);
        assert_eq!(apply(Some(record.clone()), &granted(6)).unwrap_err(), FactRefused::Unregistered);
        assert_eq!(apply(Some(record.clone()), &forgotten()).unwrap_err(), FactRefused::Unregistered);
        assert_eq!(apply(Some(record), &registered()).unwrap(), apply(None, &registered()).unwrap());
        let left = Fact::Moved { step: Step::Fail { operation: Operation::Protect, stand: Stand::Left } };
        let refused = fold(&[registered(), begin(Operation::Protect), left, forgotten()]).unwrap_err();
        assert_eq!((refused.0, refused.1.to_string()), (3, "item db9 is registered and failed(protect), not unprotected".to_owned()));
        let over = fold(&[registered(), begin(Operation::Protect), finish(Operation::Protect), begin(Operation::Unprotect), finish(Operation::Unprotect), forgotten()]);
        assert!(!over.unwrap().unwrap().is_known());
    }

    #[test]
    fn a_machine_does_not_run_at_a_foreign_site() {
        let facts = [registered(), Fact::MachineRunning { site: "oslo".parse().unwrap(), at: DateTime::UNIX_EPOCH }];
        assert!(matches!(fold(&facts).unwrap_err(), (1, FactRefused::Site { .. })));
    }
}
