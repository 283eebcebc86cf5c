//! Recovery plans: applying them, carrying them out, following and answering their runs.
//!
//! ```text
//!   GET  /v1/plans[/NAME]                POST /v1/plans {text}             POST /v1/plans/diff {text}
//!   POST /v1/plans/NAME/remove           POST /v1/plans/NAME/WORK  ─▶ 202 Accepted { run }
//!        test-failover, clean-test-failover, planned-failover, failover, failback, commit, undo, reprotect
//!   GET  /v1/plans/NAME/durations/WORK
//!   GET  /v1/plans/NAME/runs             GET  /v1/plan-runs/RUN            POST /v1/plan-runs/RUN/answer
//!   GET  /v1/plan-questions
//! ```

use chrono::{DateTime, Utc};
use recovery::{
    Location, PlanName, PointChoice, SiteName, Sync,
    plan::{Asks, Change, Outline, StepRun, Work},
};
use sdk::RunId;
use serde::{Deserialize, Serialize};

use crate::items::AcceptUnfenced;

/// Applies a plan, or asks what it would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyPlan {
    /// YAML.
    pub text: String,
}

/// A plan as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanView {
    /// Its name.
    pub name: PlanName,
    /// Counts its changes, from 1.
    pub version: i64,
    /// As it was written; not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// SHA-256 of the text, lower-case hex.
    pub sha256: String,
    /// Where its machines run normally.
    pub from: SiteName,
    /// Where they are recovered.
    pub to: SiteName,
    /// How many.
    pub items: usize,
    /// In so many groups.
    pub groups: usize,
    /// Who applied it.
    pub applied_by: String,
    /// When.
    pub applied_at: DateTime<Utc>,
    /// What may be asked for now.
    pub allowed_operations: Vec<Work>,
    /// The run that carries it out now.
    pub open_run: Option<RunId>,
    /// That run was set aside.
    pub set_aside: bool,
    /// Its last run.
    pub last_run: Option<PlanRunView>,
    /// What begins by itself, and when.
    pub deadline: Option<DeadlineView>,
    /// What somebody should know about it, in words.
    pub warnings: Vec<String>,
}

/// A plan that was applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanApplied {
    /// As it stands now.
    pub plan: PlanView,
    /// What that changed of the version that stood before.
    pub diff: PlanDiff,
    /// The run that carries the plan out now and goes on with the version with which it began.
    pub goes_on: Option<PlanRunView>,
}

/// All plans.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlansView {
    /// By name, without their texts.
    pub items: Vec<PlanView>,
    /// Those that this build can't read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<UnreadablePlan>,
}

/// A plan that stands and can't be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadablePlan {
    /// Its name.
    pub name: String,
    /// Which version of it.
    pub version: i64,
    /// Why it can't be read.
    pub why: String,
    /// The run that carries it out now.
    pub open_run: Option<RunId>,
}

/// Something that begins by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadlineView {
    /// When.
    pub due_at: DateTime<Utc>,
    /// Why.
    pub cause: String,
}

/// What a text would change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanDiff {
    /// Of which plan.
    pub name: PlanName,
    /// The version that stands; nothing if the plan is new.
    pub version: Option<i64>,
    /// By place; none if nothing would change but the text's form.
    pub changes: Vec<Change>,
    /// The text is that of the version that stands.
    #[serde(default)]
    pub unchanged: bool,
    /// The plan in short, if it is new.
    #[serde(default)]
    pub outline: Option<Outline>,
}

/// Carries a plan out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanWorkRequest {
    /// From which points; as the plan says if nothing is asked for.
    #[serde(default)]
    pub point: Option<PointChoice>,
    /// Go on with machines whose fence can't be proven.
    #[serde(default)]
    pub accept_unfenced: Option<AcceptUnfenced>,
    /// How long a source's agent may take to pick a fence up, milliseconds.
    #[serde(default)]
    pub fence_timeout_ms: Option<u64>,
    /// How long a guest may take to shut down, milliseconds.
    #[serde(default)]
    pub shut_down_ms: Option<u64>,
    /// For a failover: ask the guests to shut down first, whatever comes of it.
    #[serde(default)]
    pub try_shut_down: bool,
    /// For a failback from an older point: why what that loses may be lost.
    #[serde(default)]
    pub accept_loss: Option<AcceptUnfenced>,
    /// For a failback: when data is copied.
    #[serde(default)]
    pub sync: Sync,
    /// For a reprotect: onto what.
    #[serde(default)]
    pub location: Location,
    /// For an undo: what the machines have written since is discarded; this must be true then.
    #[serde(default)]
    pub discard_writes: bool,
    /// For a test failover: its copies are removed after so long, if nobody has done that, milliseconds; two weeks if nothing is said.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
}

/// A run of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanRunView {
    /// Which.
    pub run: RunId,
    /// Of which plan.
    pub plan: PlanName,
    /// With which version.
    pub version: i64,
    /// What is done.
    pub work: Work,
    /// When it began.
    pub began_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why it stopped, if it did.
    pub failure: Option<String>,
    /// As the plan wants it.
    pub rto_target_ms: Option<u64>,
}

/// A run of a plan, step by step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanProgress {
    /// The run.
    pub run: PlanRunView,
    /// Its steps, in the order in which they began; then those that have not begun, as predicted.
    pub steps: Vec<StepView>,
    /// What people are asked.
    pub questions: Vec<QuestionView>,
    /// The clock.
    pub clock: Clock,
}

/// A step of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    /// Its key.
    pub key: String,
    /// What it does, in few words.
    pub does: String,
    /// As it stands; nothing if it has not begun.
    pub step: Option<StepRun>,
    /// What it took in earlier runs, or what the plan allows it, milliseconds.
    pub expected_ms: Option<u64>,
    /// When it will begin, if nothing is late.
    pub expected_at: Option<DateTime<Utc>>,
    /// Whether the whole would end earlier if it were shorter.
    pub critical: bool,
    /// What it asks people, if it does.
    #[serde(default)]
    pub asks: Option<Asks>,
    /// Why this run leaves it out, in words; nothing if it does not.
    #[serde(default)]
    pub left_out: Option<String>,
}

/// Time of a run against what the plan wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Since it began, or how long it took.
    pub elapsed_ms: u64,
    /// As the plan wants it.
    pub target_ms: Option<u64>,
    /// What the steps that have ended would have taken alone.
    pub critical_path_ms: u64,
    /// When it will have ended, from what steps took in earlier runs; nothing if there were none.
    pub eta: Option<DateTime<Utc>>,
    /// It will be, or was, later than the plan wants.
    pub late: bool,
    /// From so many earlier runs.
    pub from_runs: u64,
    /// Steps that people have to answer and of which nobody knows how long that takes: nothing here counts them.
    #[serde(default)]
    pub waits_for: Vec<String>,
}

/// What people are asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionView {
    /// About which step.
    pub step: String,
    /// In words.
    pub text: String,
    /// What may be answered.
    pub choices: Vec<String>,
    /// Who may; everybody who may operate, if nobody is named.
    pub by: Vec<String>,
    /// The roles by which they may.
    #[serde(default)]
    pub roles: Vec<String>,
    /// So many different people.
    pub need: usize,
    /// Until when.
    pub until: DateTime<Utc>,
    /// What was answered so far.
    #[serde(default)]
    pub given: Vec<AnswerGiven>,
}

/// What somebody has answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerGiven {
    /// Who.
    pub by: String,
    /// What.
    pub choice: String,
    /// Why.
    pub reason: Option<String>,
}

/// What a run of a plan asks people now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanQuestion {
    /// The plan's run.
    pub run: RunId,
    /// Of which plan.
    pub plan: PlanName,
    /// What is done.
    pub work: Work,
    /// What is asked.
    pub question: QuestionView,
}

/// What steps took in earlier runs of a work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DurationsView {
    /// By key.
    pub steps: Vec<DurationView>,
}

/// What a step took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DurationView {
    /// Which step.
    pub key: String,
    /// In the middle, milliseconds.
    pub middle_ms: u64,
    /// At most, milliseconds.
    pub longest_ms: u64,
    /// In so many runs.
    pub runs: u64,
}

/// Answers a question of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GiveAnswer {
    /// About which step; may be left out if only one is asked about.
    #[serde(default)]
    pub step: Option<String>,
    /// One of its choices.
    pub choice: String,
    /// Kept in the history.
    #[serde(default)]
    pub reason: Option<String>,
}

/// An answer that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerTaken {
    /// About which step.
    pub step: String,
    /// What was answered.
    pub choice: String,
}
