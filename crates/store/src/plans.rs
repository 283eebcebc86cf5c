//! Recovery plans, the steps of their runs, and deadlines.

use chrono::{DateTime, Utc};
use sdk::RunId;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{Lost, PgStore, access::Digest, pg::column, sql};

/// Runs whose steps are looked at for what a step takes: older ones say less about today's sites.
const RUNS_LOOKED_AT: i64 = 20;

/// A plan as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanRow {
    /// Its name.
    pub name: String,
    /// Counts its changes, from 1.
    pub version: i64,
    /// As it was written; not where many are read.
    pub text: Option<String>,
    /// As it was read.
    pub plan: Value,
    /// SHA-256 of the text, lower-case hex.
    pub sha256: String,
    /// Who applied it.
    pub applied_by: String,
    /// When.
    pub applied_at: DateTime<Utc>,
    /// The run that carries it out now.
    pub open_run: Option<RunId>,
    /// That run was set aside.
    pub set_aside: bool,
}

/// A plan to be applied.
#[derive(Clone, Debug)]
pub struct NewPlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// As it was written.
    pub text: &'a str,
    /// As it was read.
    pub plan: &'a Value,
    /// SHA-256 of the text.
    pub sha256: Digest,
    /// All its machines.
    pub items: &'a [&'a str],
    /// Who applies it.
    pub by: &'a str,
}

/// A run of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanRunRow {
    /// Which.
    pub root: RunId,
    /// Of which plan.
    pub plan: String,
    /// What was done.
    pub work: String,
    /// With which version.
    pub version: i64,
    /// As the plan wanted it.
    pub rto_target_ms: Option<i64>,
    /// As the plan wanted it.
    pub rpo_target_ms: Option<i64>,
    /// When it began.
    pub began_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why it stopped, if it did.
    pub failure: Option<String>,
}

/// An open run of a plan that has items which somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRow {
    /// Of which plan.
    pub plan: String,
    /// Which.
    pub root: RunId,
    /// What is done; `None` if nothing was begun yet.
    pub work: Option<String>,
    /// Those that are wanted.
    pub items: Vec<String>,
}

/// A step of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanStepRow {
    /// Which.
    pub key: String,
    /// How it stands.
    pub state: String,
    /// When it began.
    pub began_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Tries.
    pub attempts: i32,
    /// What came of it.
    pub said: String,
    /// The run that did it.
    pub run: Option<RunId>,
    /// The run that asks people about it.
    pub asked_by: Option<RunId>,
    /// What it asks.
    pub question: Option<Value>,
}

/// What a run of a plan asks people.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanQuestionRow {
    /// The plan's run.
    pub root: RunId,
    /// Of which plan.
    pub plan: String,
    /// What is done.
    pub work: String,
    /// With which version.
    pub version: i64,
    /// About which step.
    pub key: String,
    /// The run that waits for the answer.
    pub asked_by: Option<RunId>,
    /// What it asks.
    pub question: Option<Value>,
}

/// What a step took in runs that have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationRow {
    /// Which step.
    pub key: String,
    /// Milliseconds, in the middle.
    pub middle_ms: i64,
    /// Milliseconds, at most.
    pub longest_ms: i64,
    /// In how many runs.
    pub runs: i64,
}

/// Something that begins by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Deadline<'a> {
    /// What it is about; a newer one takes its place.
    pub name: &'a str,
    /// From now.
    pub after_ms: i64,
    /// Registered name of what is started.
    pub workflow: &'a str,
    /// What that is about.
    pub workflow_id: &'a str,
    /// Its input.
    pub input: &'a Value,
    /// In words; stands where otherwise a name stands.
    pub cause: &'a str,
    /// The run that sets it.
    pub set_by: RunId,
}

/// A deadline that has not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadlineRow {
    /// What it is about.
    pub name: String,
    /// When.
    pub due_at: DateTime<Utc>,
    /// What the run will be about.
    pub workflow_id: String,
    /// In words.
    pub cause: String,
}

impl PgStore {
    /// Applies a plan; gives its version, which stays if the text is the same.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn apply_plan(&self, new: &NewPlan<'_>) -> Result<i64, Lost> {
        let NewPlan { name, text, plan, sha256, items, by } = new;
        column(&self.one(&sql::APPLY_PLAN, &[name, text, plan, &&sha256[..], items, by]).await?, "version")
    }

    /// Removes a plan; `false` if there is none, an open run is about `workflow_id`, or a deadline of that name has not come.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn remove_plan(&self, name: &str, workflow_id: &str) -> Result<bool, Lost> {
        column(&self.one(&sql::REMOVE_PLAN, &[&name, &workflow_id]).await?, "removed")
    }

    /// Plans, or one of them.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn plans(&self, name: Option<&str>) -> Result<Vec<PlanRow>, Lost> {
        self.rows(&sql::PLANS, &[&name]).await?.iter().map(plan).collect()
    }

    /// A plan as a version of it was.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn plan_version(&self, name: &str, version: i64) -> Result<Option<Value>, Lost> {
        self.rows(&sql::PLAN_VERSION, &[&name, &version]).await?.first().map(|row| column(row, "plan")).transpose()
    }

    /// Runs of plans, newest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn plan_runs(&self, plan: Option<&str>, root: Option<RunId>, limit: i64) -> Result<Vec<PlanRunRow>, Lost> {
        let root = root.map(|run| run.0);
        self.rows(&sql::PLAN_RUNS, &[&plan, &root, &limit]).await?.iter().map(plan_run).collect()
    }

    /// Open runs of plans, other than `but`, that have one of these items.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn plan_runs_over(&self, items: &[&str], but: Option<&str>) -> Result<Vec<HeldRow>, Lost> {
        let held = |row: &Row| Ok(HeldRow { plan: column(row, "plan")?, root: RunId(column(row, "root")?), work: column(row, "work")?, items: column(row, "items")? });
        self.rows(&sql::PLAN_RUNS_OVER, &[&items, &but]).await?.iter().map(held).collect()
    }

    /// The last run of a plan, or of each; those that were never carried out have none.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn last_plan_runs(&self, plan: Option<&str>) -> Result<Vec<PlanRunRow>, Lost> {
        self.rows(&sql::LAST_PLAN_RUNS, &[&plan]).await?.iter().map(plan_run).collect()
    }

    /// Steps of a plan's run, in the order in which they began.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn plan_steps(&self, root: RunId) -> Result<Vec<PlanStepRow>, Lost> {
        self.rows(&sql::PLAN_STEPS, &[&root.0]).await?.iter().map(plan_step).collect()
    }

    /// What runs of plans that have not ended ask people now, or what one of them asks.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn plan_questions(&self, root: Option<RunId>, limit: i64) -> Result<Vec<PlanQuestionRow>, Lost> {
        let root = root.map(|run| run.0);
        self.rows(&sql::PLAN_QUESTIONS, &[&root, &limit]).await?.iter().map(plan_question).collect()
    }

    /// What steps took in the last runs of a work.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn plan_durations(&self, plan: &str, work: &str) -> Result<Vec<DurationRow>, Lost> {
        let duration = |row: &Row| {
            Ok(DurationRow { key: column(row, "key")?, middle_ms: column(row, "middle_ms")?, longest_ms: column(row, "longest_ms")?, runs: column(row, "runs")? })
        };
        self.rows(&sql::PLAN_DURATIONS, &[&plan, &work, &RUNS_LOOKED_AT]).await?.iter().map(duration).collect()
    }

    /// Starts what is due; how many runs that were.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn fire_deadlines(&self) -> Result<i32, Lost> {
        column(&self.one(&sql::FIRE_DEADLINES, &[]).await?, "fired")
    }

    /// Lets something begin later.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn set_deadline(&self, set: &Deadline<'_>) -> Result<(), Lost> {
        let Deadline { name, after_ms, workflow, workflow_id, input, cause, set_by } = set;
        self.rows(&sql::SET_DEADLINE, &[name, after_ms, workflow, workflow_id, input, cause, &set_by.0]).await.map(drop)
    }

    /// Forgets a deadline that has not come.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn drop_deadline(&self, name: &str) -> Result<(), Lost> {
        self.rows(&sql::DROP_DEADLINE, &[&name]).await.map(drop)
    }

    /// Deadlines that have not come, of runs about something or all.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn deadlines(&self, workflow_id: Option<&str>) -> Result<Vec<DeadlineRow>, Lost> {
        let deadline = |row: &Row| Ok(DeadlineRow { name: column(row, "name")?, due_at: column(row, "due_at")?, workflow_id: column(row, "workflow_id")?, cause: column(row, "cause")? });
        self.rows(&sql::DEADLINES, &[&workflow_id]).await?.iter().map(deadline).collect()
    }

    /// The open run about something, with its code's name.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn open_run_of(&self, workflow_id: &str) -> Result<Option<(RunId, String)>, Lost> {
        let rows = self.rows(&sql::OPEN_RUN_OF, &[&workflow_id]).await?;
        rows.first().map(|row| Ok((RunId(column(row, "run_id")?), column(row, "workflow")?))).transpose()
    }
}

fn plan(row: &Row) -> Result<PlanRow, Lost> {
    let open: Option<Uuid> = column(row, "open_run")?;
    Ok(PlanRow {
        name: column(row, "name")?,
        version: column(row, "version")?,
        text: column(row, "text")?,
        plan: column(row, "plan")?,
        sha256: column(row, "sha256")?,
        applied_by: column(row, "applied_by")?,
        applied_at: column(row, "applied_at")?,
        open_run: open.map(RunId),
        set_aside: column::<Option<bool>>(row, "set_aside")?.unwrap_or(false),
    })
}

fn plan_run(row: &Row) -> Result<PlanRunRow, Lost> {
    Ok(PlanRunRow {
        root: RunId(column(row, "root")?),
        plan: column(row, "plan")?,
        work: column(row, "work")?,
        version: column(row, "version")?,
        rto_target_ms: column(row, "rto_target_ms")?,
        rpo_target_ms: column(row, "rpo_target_ms")?,
        began_at: column(row, "began_at")?,
        ended_at: column(row, "ended_at")?,
        failure: column(row, "failure")?,
    })
}

fn plan_question(row: &Row) -> Result<PlanQuestionRow, Lost> {
    Ok(PlanQuestionRow {
        root: RunId(column(row, "root")?),
        plan: column(row, "plan")?,
        work: column(row, "work")?,
        version: column(row, "version")?,
        key: column(row, "key")?,
        asked_by: column::<Option<Uuid>>(row, "asked_by")?.map(RunId),
        question: column(row, "question")?,
    })
}

fn plan_step(row: &Row) -> Result<PlanStepRow, Lost> {
    let run = |name| column::<Option<Uuid>>(row, name).map(|run| run.map(RunId));
    Ok(PlanStepRow {
        key: column(row, "key")?,
        state: column(row, "state")?,
        began_at: column(row, "began_at")?,
        ended_at: column(row, "ended_at")?,
        attempts: column(row, "attempts")?,
        said: column(row, "said")?,
        run: run("run_id")?,
        asked_by: run("asked_by")?,
        question: column(row, "question")?,
    })
}
