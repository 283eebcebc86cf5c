//! How items and plans stand: would a recovery work now?
//!
//! ```text
//!   GET  /v1/readiness                     everything that is judged, as judged last
//!   GET  /v1/items/ITEM/readiness          judged now
//!   GET  /v1/plans/PLAN/readiness          judged now
//! ```

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use recovery::readiness::{Finding, Severity};
use serde::{Deserialize, Serialize};

/// How an item or a plan stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadinessView {
    /// `item:NAME` or `plan:NAME`.
    pub subject: String,
    /// The worst of what was found.
    pub severity: Severity,
    /// A drill passed, and nothing has changed since.
    pub verified: bool,
    /// How much of each severity was found.
    pub counts: BTreeMap<Severity, u64>,
    /// All of it.
    pub findings: Vec<Finding>,
    /// Since when it is as bad as it is.
    pub since: DateTime<Utc>,
    /// Since when exactly this is found, but for words and ages.
    pub changed_at: DateTime<Utc>,
    /// When it was judged.
    pub judged_at: DateTime<Utc>,
}
