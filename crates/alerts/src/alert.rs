//! An alert in the one form that all senders' are read as, and what two sayings about one incident come to.
//!
//! ```text
//!   nothing ─▶ firing ─▶ resolved        a join: whatever comes, in whatever order and how often, ends at the same place
//! ```

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What is said of an incident. Times have microseconds, as the database keeps them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Said {
    /// It goes on.
    Firing {
        /// When it began, by the sender's clock; `None` if its fingerprint names this one incident and no other.
        starts_at: Option<DateTime<Utc>>,
    },
    /// It is over, for good.
    Resolved {
        /// As above.
        starts_at: Option<DateTime<Utc>>,
    },
    /// Whatever of this fingerprint had begun until then is over, for good. Said by senders whose end does not name a beginning.
    ResolvedUntil {
        /// By the sender's clock.
        until: DateTime<Utc>,
    },
}

/// One saying about one incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Names what fires, stable from one incident to the next; 1 to 512 bytes.
    pub fingerprint: String,
    /// What is said.
    pub said: Said,
    /// What policies look at; at most 64.
    pub labels: BTreeMap<String, String>,
    /// For people; at most 1 KiB.
    pub summary: String,
    /// Whether the delivery left other alerts out: what it does not name may be anything.
    pub truncated: bool,
}

/// Sayings about the same incident become one, so that a delivery names each incident once, in an order that all writers share.
pub(crate) fn joined(mut alerts: Vec<Alert>) -> Vec<Alert> {
    // Said orders firing before resolved; the later one of equals absorbs the earlier.
    alerts.sort_by(|a, b| (&a.fingerprint, incident(&a.said), &a.said).cmp(&(&b.fingerprint, incident(&b.said), &b.said)));
    alerts.dedup_by(|later, kept| {
        let same = later.fingerprint == kept.fingerprint && incident(&later.said) == incident(&kept.said);
        if same {
            kept.said = later.said.clone();
        }
        same
    });
    alerts
}

/// Which incident of its fingerprint, or which end of several.
fn incident(said: &Said) -> (bool, Option<DateTime<Utc>>) {
    match said {
        Said::Firing { starts_at } | Said::Resolved { starts_at } => (false, *starts_at),
        Said::ResolvedUntil { until } => (true, Some(*until)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(fingerprint: &str, said: Said) -> Alert {
        Alert { fingerprint: fingerprint.to_owned(), said, labels: BTreeMap::new(), summary: String::new(), truncated: false }
    }

    #[test]
    fn a_delivery_names_each_incident_once_and_an_end_wins() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0);
        let (firing, resolved) = (|s| Said::Firing { starts_at: at(s) }, |s| Said::Resolved { starts_at: at(s) });
        let said = vec![alert("b", firing(1)), alert("a", resolved(1)), alert("a", firing(2)), alert("a", firing(1)), alert("b", firing(1))];
        let expected = vec![alert("a", resolved(1)), alert("a", firing(2)), alert("b", firing(1))];
        assert_eq!(joined(said), expected);
    }
}
