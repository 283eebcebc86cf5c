//! What can be done to a scene's item: by which workflow, with which input, and after what.

use recovery::{ItemRecord, Location, MainState, Operation, PointChoice, PointId, ReplicationPolicy, Rest, Sync};
use serde_json::Value;
use workflows::{
    Acceptance, ChangePointInput, ChangePolicyInput, CleanTestInput, CommitInput, DrillInput, FailoverInput, ForgetInput, GiveBackInput, HoldInput, Part, PlannedInput, ProtectInput,
    ReleaseInput, ReprotectInput, ResolveInput, ResyncInput, TestFailoverInput, UndoInput, UnprotectInput,
};

use crate::{ITEM, Scene, item, now, site};

/// What runs are started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Protect.
    Protect,
    /// Failover with a source that can be fenced.
    Failover,
    /// Failover with a source that is gone; a person accepts it.
    FailoverUnfenced,
    /// Failover whose source is asked to shut down first.
    FailoverShutDown,
    /// Failover to all that was sent.
    FailoverLatest,
    /// Planned failover with a guest that shuts down.
    PlannedFailover,
    /// Change of the point after a failover, to the oldest that there is.
    ChangePoint,
    /// Undo of a failover.
    Undo,
    /// Commit.
    Commit,
    /// Reprotect onto the old machine's disks.
    Reprotect,
    /// Reprotect into a new machine at the old site.
    ReprotectElsewhere,
    /// Failback of an item that is replicated in reverse.
    Failback,
    /// Failback of an item that is not replicated.
    FullFailback,
    /// Unplanned failover from the recovery site to the primary one.
    FailoverHome,
    /// Undo of a failback.
    UndoHome,
    /// Commit of a failback.
    CommitHome,
    /// Reprotect after a failback, onto the disks of a machine that a recovery had made.
    ReprotectAgain,
    /// Test failover.
    TestFailover,
    /// Clean-up of a test failover.
    CleanTest,
    /// Drill.
    Drill,
    /// Failover beside a test copy, to its end.
    CommitBesideCopy,
    /// Unprotect.
    Unprotect,
    /// Unprotect of an item that is replicated in reverse.
    UnprotectAway,
    /// Comparison of both sides.
    Resync,
    /// Another policy.
    ChangePolicy,
    /// Hold of the newest point.
    Hold,
    /// Release of it.
    Release,
    /// Comparison of record and reality.
    Resolve,
    /// The end of an item's record.
    Forget,
    /// Giving back of a source that a failover has left.
    GiveBack,
}

const HOME_AND_PROTECTED: &[Work] = &[Work::Protect];
const FAILED_OVER: &[Work] = &[Work::Protect, Work::Failover];
const AWAY: &[Work] = &[Work::Protect, Work::Failover, Work::Commit];
const AWAY_AND_PROTECTED: &[Work] = &[Work::Protect, Work::Failover, Work::Commit, Work::Reprotect];
const FAILED_BACK: &[Work] = &[Work::Protect, Work::Failover, Work::Commit, Work::Reprotect, Work::Failback];

impl Work {
    /// All of it.
    pub const ALL: [Work; 30] = [
        Work::Protect,
        Work::Failover,
        Work::FailoverUnfenced,
        Work::PlannedFailover,
        Work::ChangePoint,
        Work::Undo,
        Work::Commit,
        Work::Reprotect,
        Work::ReprotectElsewhere,
        Work::Failback,
        Work::FullFailback,
        Work::FailoverHome,
        Work::UndoHome,
        Work::CommitHome,
        Work::ReprotectAgain,
        Work::TestFailover,
        Work::CleanTest,
        Work::Drill,
        Work::CommitBesideCopy,
        Work::Unprotect,
        Work::UnprotectAway,
        Work::FailoverShutDown,
        Work::FailoverLatest,
        Work::Resync,
        Work::ChangePolicy,
        Work::Hold,
        Work::Release,
        Work::Resolve,
        Work::Forget,
        Work::GiveBack,
    ];

    /// What has to be done first.
    #[must_use]
    pub fn before(self) -> &'static [Work] {
        match self {
            Work::Protect => &[],
            Work::FailoverShutDown | Work::FailoverLatest | Work::Resync | Work::ChangePolicy | Work::Hold | Work::Resolve | Work::GiveBack => HOME_AND_PROTECTED,
            Work::Release => &[Work::Protect, Work::Hold],
            Work::Forget => &[Work::Protect, Work::Unprotect],
            Work::Failover | Work::FailoverUnfenced | Work::PlannedFailover | Work::TestFailover | Work::Drill | Work::Unprotect => HOME_AND_PROTECTED,
            Work::ChangePoint | Work::Undo | Work::Commit => FAILED_OVER,
            Work::Reprotect | Work::ReprotectElsewhere | Work::FullFailback => AWAY,
            Work::Failback | Work::FailoverHome | Work::UnprotectAway => AWAY_AND_PROTECTED,
            Work::UndoHome | Work::CommitHome => FAILED_BACK,
            Work::ReprotectAgain => &[Work::Protect, Work::Failover, Work::Commit, Work::Reprotect, Work::Failback, Work::CommitHome],
            Work::CleanTest => &[Work::Protect, Work::TestFailover],
            Work::CommitBesideCopy => &[Work::Protect, Work::TestFailover, Work::Failover],
        }
    }

    /// Name of the workflow that does it.
    #[must_use]
    pub fn workflow(self) -> &'static str {
        match self {
            Work::Protect => "protect",
            Work::Failover | Work::FailoverHome | Work::FailoverShutDown | Work::FailoverLatest | Work::FailoverUnfenced => "failover",
            Work::PlannedFailover => "planned-failover",
            Work::Failback | Work::FullFailback => "failback",
            Work::ChangePoint => "change-point",
            Work::Undo | Work::UndoHome => "undo",
            Work::Commit | Work::CommitHome | Work::CommitBesideCopy => "commit",
            Work::Reprotect | Work::ReprotectAgain | Work::ReprotectElsewhere => "reprotect",
            Work::TestFailover => "test-failover",
            Work::CleanTest => "clean-test-failover",
            Work::Drill => "drill",
            Work::Unprotect | Work::UnprotectAway => "unprotect",
            Work::Resync => "resync",
            Work::ChangePolicy => "change-policy",
            Work::Hold => "hold",
            Work::Release => "release",
            Work::Resolve => "resolve",
            Work::Forget => "forget",
            Work::GiveBack => "give-back",
        }
    }

    /// For the step table.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Work::Protect => "protect",
            Work::Failover => "failover, the source can be fenced",
            Work::FailoverUnfenced => "failover, the source is gone and that is accepted",
            Work::PlannedFailover => "planned failover",
            Work::ChangePoint => "change point",
            Work::Undo => "undo",
            Work::Commit => "commit",
            Work::Reprotect => "reprotect, onto the old machine's disks",
            Work::ReprotectElsewhere => "reprotect, into a new machine at the old site",
            Work::Failback => "failback, replicated in reverse",
            Work::FullFailback => "failback, not replicated: everything is copied while the machine is off",
            Work::FailoverHome => "failover from the recovery site to the primary one",
            Work::UndoHome => "undo of a failback",
            Work::CommitHome => "commit of a failback",
            Work::ReprotectAgain => "reprotect after a failback, onto the disks that a recovery had made",
            Work::TestFailover => "test failover",
            Work::CleanTest => "clean test failover",
            Work::Drill => "drill: beside these, the steps of a test failover and of its clean-up",
            Work::CommitBesideCopy => "commit beside a test copy",
            Work::Unprotect => "unprotect",
            Work::UnprotectAway => "unprotect, replicated in reverse",
            Work::FailoverShutDown => "failover, the source is asked to shut down first",
            Work::FailoverLatest => "failover to all that was sent: the source is asked for one more point",
            Work::Resync => "resync",
            Work::ChangePolicy => "change policy",
            Work::Hold => "hold a point",
            Work::Release => "release a point",
            Work::Resolve => "resolve: record and reality agree",
            Work::Forget => "forget",
            Work::GiveBack => "give back: a source that a failover has left fenced, and whose site answers again",
        }
    }

    /// Whether the source's last write must be there afterwards.
    #[must_use]
    pub fn loses_nothing(self) -> bool {
        matches!(self, Work::PlannedFailover | Work::Failback | Work::FullFailback)
    }

    /// What carries an operation out on an item in this state; `None` for what this build does not offer or what is asked otherwise.
    #[must_use]
    pub fn of(operation: Operation, record: &ItemRecord) -> Option<Self> {
        let unreplicated = matches!(record.state.main, MainState::Committed | MainState::Failed { before: Some(Rest::Committed), .. });
        Some(match operation {
            Operation::Protect => Work::Protect,
            Operation::TestFailover => Work::TestFailover,
            Operation::CleanTestFailover => Work::CleanTest,
            Operation::PlannedFailover => Work::PlannedFailover,
            Operation::Failback if unreplicated => Work::FullFailback,
            Operation::Failback => Work::Failback,
            Operation::Failover => Work::Failover,
            Operation::ChangePoint => Work::ChangePoint,
            Operation::Commit => Work::Commit,
            Operation::Undo => Work::Undo,
            Operation::Reprotect => Work::Reprotect,
            Operation::Unprotect => Work::Unprotect,
            Operation::Resync => Work::Resync,
            Operation::ChangePolicy => Work::ChangePolicy,
            Operation::Hold => Work::Hold,
            Operation::Release => Work::Release,
            Operation::Resolve => Work::Resolve,
            Operation::Forget => Work::Forget,
            Operation::Cancel => return None,
        })
    }

    /// What its run is about.
    pub(crate) fn about(self) -> String {
        if self == Work::Drill { workflows::drill_workflow_id(&item()) } else { workflows::item_workflow_id(&item()) }
    }

    pub(crate) fn input(self, scene: &Scene) -> Value {
        match self {
            Work::Protect => {
                let away = scene.runs_at() == [site("b")];
                let (from, to) = if away { (site("b"), site("a")) } else { (site("a"), site("b")) };
                let input = ProtectInput {
                    item: item(),
                    machine: ITEM.into(),
                    from,
                    to,
                    policy: ReplicationPolicy::default(),
                    checks: vec![],
                    profile: recovery::Profile::Kvm,
                };
                json(input)
            }
            Work::Failover | Work::FailoverHome => json(failover(None)),
            Work::FailoverShutDown => json(FailoverInput { shut_down_ms: Some(60_000), choice: PointChoice::Latest, ..failover(None) }),
            Work::FailoverLatest => json(FailoverInput { choice: PointChoice::Latest, ..failover(None) }),
            Work::Resync => json(ResyncInput { item: item() }),
            Work::ChangePolicy => json(ChangePolicyInput { item: item(), policy: another_policy(scene) }),
            Work::Hold => json(HoldInput { item: item(), point: newest(scene), by: "ada".into(), reason: "a court asks for it".into() }),
            Work::Release => json(ReleaseInput { item: item(), by: "ada".into(), reason: "the court has it".into() }),
            Work::GiveBack => json(GiveBackInput { item: item() }),
            Work::Resolve => json(ResolveInput { item: item(), decision: None }),
            Work::Forget => json(ForgetInput { item: item(), by: "ada".into(), left_behind: vec![], named_by: vec![] }),
            Work::FailoverUnfenced => {
                let accepted = Acceptance { by: "ada".into(), reason: "the site burns".into() };
                json(failover(Some(accepted)))
            }
            Work::PlannedFailover => json(planned(Sync::BeforeFailover)),
            Work::Failback => json(planned(Sync::BeforeFailover)),
            Work::FullFailback => json(planned(Sync::DuringFailover)),
            Work::ChangePoint => json(ChangePointInput { item: item(), choice: oldest(scene) }),
            Work::Undo | Work::UndoHome => json(UndoInput { item: item() }),
            Work::Commit | Work::CommitHome | Work::CommitBesideCopy => json(CommitInput { item: item() }),
            Work::Reprotect | Work::ReprotectAgain => json(ReprotectInput { item: item(), location: Location::Original }),
            Work::ReprotectElsewhere => json(ReprotectInput { item: item(), location: Location::Alternate }),
            Work::TestFailover => json(TestFailoverInput { item: item(), choice: PointChoice::LatestProcessed, checks: vec![], ttl_ms: None, part: Part::default() }),
            Work::CleanTest => json(CleanTestInput { item: item() }),
            Work::Drill => json(drill()),
            Work::Unprotect | Work::UnprotectAway => json(UnprotectInput { item: item() }),
        }
    }
}

fn json(input: impl serde::Serialize) -> Value {
    serde_json::to_value(input).unwrap_or(Value::Null)
}

/// A drill whose targets every undisturbed one meets.
#[must_use]
pub fn drill() -> DrillInput {
    DrillInput {
        item: item(),
        choice: PointChoice::LatestProcessed,
        checks: vec![],
        rto_target_ms: Some(900_000),
        rpo_target_ms: Some(900_000),
        note: Some("a rehearsal".into()),
    }
}

fn failover(accept_unfenced: Option<Acceptance>) -> FailoverInput {
    FailoverInput { item: item(), choice: PointChoice::LatestProcessed, accept_unfenced, fence_timeout_ms: 20_000, shut_down_ms: None, part: Part::default() }
}

fn planned(sync: Sync) -> PlannedInput {
    PlannedInput { item: item(), shut_down_ms: 60_000, sync, choice: None, accept_loss: None, part: Part::default() }
}

/// Another interval than the one in force.
fn another_policy(scene: &Scene) -> ReplicationPolicy {
    let seconds = scene.record().map_or(0, |record| record.policy.interval_s());
    ReplicationPolicy::new(if seconds == 5 { 7 } else { 5 }, 12, 72 * 3600, None).unwrap_or_default()
}

fn newest(scene: &Scene) -> PointId {
    let target = scene.record().map_or(site("b"), |record| record.target_site().clone());
    let replica = now(provider::ReplicaStore::replica(&scene.world.site(&target), &item())).ok();
    replica.and_then(|replica| replica.points.last().map(|point| point.id)).unwrap_or(PointId::FIRST)
}

fn oldest(scene: &Scene) -> PointChoice {
    let target = scene.record().map_or(site("b"), |record| record.target_site().clone());
    let replica = now(provider::ReplicaStore::replica(&scene.world.site(&target), &item())).ok();
    let first = replica.and_then(|replica| replica.points.first().map(|point| point.id));
    first.map_or(PointChoice::LatestProcessed, PointChoice::Exact)
}
