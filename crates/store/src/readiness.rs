//! What agents say of themselves, which drills have passed, and how items and plans stand.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sdk::RunId;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;

use crate::{
    Lost, PgStore,
    pg::{column, without_nul},
    runs::json,
    sql,
};

/// Subjects that one statement keeps: what is found of one takes some KiB, and a statement some MiB then.
const SUBJECTS_AT_ONCE: usize = 1_000;

/// An agent and what it says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentReportRow {
    /// Its name.
    pub name: String,
    /// Its site.
    pub site: String,
    /// Whether it holds a lease.
    pub connected: bool,
    /// When it was last heard of.
    pub seen_at: Option<DateTime<Utc>>,
    /// What it said.
    pub report: Option<Value>,
    /// When.
    pub reported_at: Option<DateTime<Utc>>,
}

/// A drill that has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedRow {
    /// Its run.
    pub run: RunId,
    /// What it was about: `drill:ITEM`.
    pub workflow_id: String,
    /// When it ended.
    pub closed_at: DateTime<Utc>,
}

/// A test of a plan that has passed, with its clean-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedPlanRow {
    /// Which plan.
    pub plan: String,
    /// The test's run.
    pub root: RunId,
    /// Of the plan's text then.
    pub sha256: String,
    /// When the clean-up ended.
    pub cleaned_at: DateTime<Utc>,
}

/// The last drill or test of a subject that has passed.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedRow {
    /// `item:NAME` or `plan:NAME`.
    pub subject: String,
    /// Its run.
    pub run: RunId,
    /// When it ended.
    pub at: DateTime<Utc>,
    /// With what.
    pub fingerprint: Value,
}

/// How a subject was found to stand.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// `item:NAME` or `plan:NAME`.
    pub subject: String,
    /// The worst of what was found.
    pub severity: &'static str,
    /// How much of each severity was found.
    pub counts: Value,
    /// What makes a change.
    pub marks: Vec<String>,
    /// What was found.
    pub findings: Value,
}

/// How a subject stands.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadinessRow {
    /// `item:NAME` or `plan:NAME`.
    pub subject: String,
    /// The worst of what was found.
    pub severity: String,
    /// How much of each severity was found.
    pub counts: Value,
    /// What was found.
    pub findings: Value,
    /// Since when it is as bad as it is.
    pub since: DateTime<Utc>,
    /// Since when exactly this is found, but for words and ages.
    pub changed_at: DateTime<Utc>,
    /// When it was judged last.
    pub judged_at: DateTime<Utc>,
}

impl PgStore {
    /// Keeps what an agent says of itself and its host.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn put_agent_report(&self, name: &str, report: &Value) -> Result<(), Lost> {
        self.rows(&sql::PUT_AGENT_REPORT, &[&name, &without_nul(report)]).await.map(drop)
    }

    /// All agents with what they say of themselves.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn agent_reports(&self) -> Result<Vec<AgentReportRow>, Lost> {
        let agent = |row: &Row| {
            Ok(AgentReportRow {
                name: column(row, "name")?,
                site: column(row, "site")?,
                connected: column(row, "connected")?,
                seen_at: column(row, "seen_at")?,
                report: column(row, "report")?,
                reported_at: column(row, "reported_at")?,
            })
        };
        self.rows(&sql::AGENT_REPORTS, &[]).await?.iter().map(agent).collect()
    }

    /// Drills of items that have passed after the last one that is noted.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn passed_drills(&self) -> Result<Vec<PassedRow>, Lost> {
        let passed = |row: &Row| {
            Ok(PassedRow { run: RunId(column(row, "run_id")?), workflow_id: column(row, "workflow_id")?, closed_at: column(row, "closed_at")? })
        };
        self.rows(&sql::PASSED_DRILLS, &[]).await?.iter().map(passed).collect()
    }

    /// Tests of plans that have passed after the last one that is noted.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn passed_plan_tests(&self) -> Result<Vec<PassedPlanRow>, Lost> {
        let passed = |row: &Row| {
            Ok(PassedPlanRow {
                plan: column(row, "plan")?,
                root: RunId(column(row, "root")?),
                sha256: column(row, "sha256")?,
                cleaned_at: column(row, "cleaned_at")?,
            })
        };
        self.rows(&sql::PASSED_PLAN_TESTS, &[]).await?.iter().map(passed).collect()
    }

    /// Notes that a drill or a test has passed, unless a later one is noted.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn put_verified(&self, verified: &VerifiedRow) -> Result<(), Lost> {
        let VerifiedRow { subject, run, at, fingerprint } = verified;
        self.rows(&sql::PUT_VERIFIED, &[subject, &run.0, at, fingerprint]).await.map(drop)
    }

    /// The last drill or test that has passed, of one subject or of all.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn verified(&self, subject: Option<&str>) -> Result<BTreeMap<String, VerifiedRow>, Lost> {
        let verified = |row: &Row| {
            let subject: String = column(row, "subject")?;
            let verified = VerifiedRow {
                subject: subject.clone(),
                run: RunId(column(row, "run_id")?),
                at: column(row, "verified_at")?,
                fingerprint: column(row, "fingerprint")?,
            };
            Ok((subject, verified))
        };
        self.rows(&sql::VERIFIED, &[&subject]).await?.iter().map(verified).collect()
    }

    /// Keeps how subjects stand, each of which is named once. One statement keeps a thousand of them.
    ///
    /// # Errors
    /// The database does not answer; those before are kept.
    pub async fn put_readiness(&self, judged: &[Judged]) -> Result<(), Lost> {
        for some in judged.chunks(SUBJECTS_AT_ONCE) {
            self.rows(&sql::PUT_READINESS, &[&without_nul(&json(&some)?)]).await?;
        }
        Ok(())
    }

    /// How one subject stands, or all.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn readiness(&self, subject: Option<&str>) -> Result<Vec<ReadinessRow>, Lost> {
        let stands = |row: &Row| {
            Ok(ReadinessRow {
                subject: column(row, "subject")?,
                severity: column(row, "severity")?,
                counts: column(row, "counts")?,
                findings: column(row, "findings")?,
                since: column(row, "since")?,
                changed_at: column(row, "changed_at")?,
                judged_at: column(row, "judged_at")?,
            })
        };
        self.rows(&sql::READINESS, &[&subject]).await?.iter().map(stands).collect()
    }

    /// Forgets subjects whose names begin so and that are none of these.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn forget_readiness(&self, prefix: &str, but: &[String]) -> Result<(), Lost> {
        self.rows(&sql::FORGET_READINESS, &[&prefix, &but]).await.map(drop)
    }
}
