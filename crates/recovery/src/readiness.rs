//! Whether a recovery would work if it were needed now: what is known of an item or a plan, judged check by check.
//!
//! ```text
//!   records, points, reports of agents, drills ──▶ Facts ──judge_item, judge_plan──▶ findings: ok, unknown, warning, critical
//!                                                                                      └─ what it is, what it means, what to do
//! ```
//!
//! Invariants: 1. A judgement is a pure function of facts and a time. 2. What is not known is said to be unknown, never taken for well.
//! 3. A drill counts for what it was made with: whatever has changed since is named, and then the item is not verified any more.

mod facts;
mod item;
mod people;
mod plan;
mod sites;
mod verified;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use facts::{Access, ActionsReport, AgentFacts, AgentReport, AskFacts, Capacity, Facts, ItemFacts, MachineNeeds, Networks, PlanFacts, ReplicationFacts, StepFacts};
pub use item::judge_item;
pub use plan::judge_plan;
pub use verified::{Fingerprint, Verification, changes_since, fingerprint};

/// How bad it is; the greater the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Nobody can tell now.
    Unknown,
    /// A recovery would work, but not as well as it should, or not for long.
    Warning,
    /// A recovery would fail, or lose more than it may.
    Critical,
}

impl Severity {
    /// All of them, from the best.
    pub const ALL: [Severity; 4] = [Severity::Ok, Severity::Unknown, Severity::Warning, Severity::Critical];

    /// The word used in tables, metrics and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Unknown => "unknown",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which check, kebab-case: stable.
    pub check: String,
    /// The item, site, agent or step that it is about.
    pub about: String,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub what: String,
    /// What it means for a recovery; empty if all is well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub means: String,
    /// What to do; empty if nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub next: String,
}

impl Finding {
    fn ok(check: &str, about: impl fmt::Display, what: impl Into<String>) -> Self {
        Self { check: check.to_owned(), about: about.to_string(), severity: Severity::Ok, what: what.into(), means: String::new(), next: String::new() }
    }

    /// A plan that stands in the database and that this build can't read.
    #[must_use]
    pub fn unreadable_plan(name: &str, why: &str) -> Self {
        let next = format!("Apply it again: switchback plan apply -f FILE; or bring servers and workers to one version. (switchback plan remove {name} removes it.)");
        Self::bad(Severity::Critical, "plan", name, [why.to_owned(), "It can't be carried out.".to_owned(), next])
    }

    fn bad(severity: Severity, check: &str, about: impl fmt::Display, [what, means, next]: [String; 3]) -> Self {
        Self { check: check.to_owned(), about: about.to_string(), severity, what, means, next }
    }
}

/// The worst of all; all is well if there is nothing.
#[must_use]
pub fn worst(findings: &[Finding]) -> Severity {
    findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
}

/// A duration in the words of people.
fn ago(span: chrono::TimeDelta) -> String {
    match (span.num_days(), span.num_hours(), span.num_minutes()) {
        (days @ 2.., _, _) => format!("{days} days"),
        (_, hours @ 2.., _) => format!("{hours} h"),
        (_, _, minutes @ 2..) => format!("{minutes} min"),
        _ => format!("{} s", span.num_seconds().max(0)),
    }
}

/// Bytes in the words of people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{}.{} GiB", bytes >> 30, ((bytes % (1 << 30)) * 10) >> 30),
    }
}

#[cfg(test)]
mod tests;
