//! What a source's deliveries come to, as a fold in memory: the definition by which the database's function is judged.
//!
//! Invariant: the fold is a join. Whatever order the same sayings come in, and however often, it ends the same.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::{Alert, Said};

/// One incident of a source: what fires, since when.
pub type Incident = (String, Option<DateTime<Utc>>);

/// How it stands with an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It goes on.
    Firing,
    /// It is over, for good.
    Resolved,
}

/// All incidents of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incidents {
    standings: BTreeMap<Incident, Standing>,
    /// Up to when everything of a fingerprint is over.
    ends: BTreeMap<String, DateTime<Utc>>,
}

impl Incidents {
    /// Takes one saying; gives the incidents that began or ended with it.
    pub fn take(&mut self, alert: &Alert) -> Vec<(Incident, Standing)> {
        let fingerprint = alert.fingerprint.clone();
        let (starts_at, said) = match alert.said {
            Said::ResolvedUntil { until } => return self.end_all(fingerprint, until),
            Said::Resolved { starts_at } => (starts_at, Standing::Resolved),
            Said::Firing { starts_at } if starts_at.is_some() && starts_at <= self.ends.get(&fingerprint).copied() => (starts_at, Standing::Resolved),
            Said::Firing { starts_at } => (starts_at, Standing::Firing),
        };
        let incident = (fingerprint, starts_at);
        let before = self.standings.get(&incident).copied();
        let after = before.unwrap_or(said).max(said);
        self.standings.insert(incident.clone(), after);
        if before == Some(after) { vec![] } else { vec![(incident, after)] }
    }

    /// How it stands with each, in order.
    pub fn standings(&self) -> impl Iterator<Item = (&Incident, Standing)> {
        self.standings.iter().map(|(incident, standing)| (incident, *standing))
    }

    fn end_all(&mut self, fingerprint: String, until: DateTime<Utc>) -> Vec<(Incident, Standing)> {
        let mut changed = Vec::new();
        for (incident, standing) in &mut self.standings {
            let meant = incident.0 == fingerprint && incident.1.is_some_and(|starts_at| starts_at <= until);
            if meant && *standing == Standing::Firing {
                *standing = Standing::Resolved;
                changed.push((incident.clone(), Standing::Resolved));
            }
        }
        let end = self.ends.entry(fingerprint).or_insert(until);
        *end = (*end).max(until);
        changed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said() -> impl Strategy<Value = Alert> {
        let at = |seconds: i64| DateTime::from_timestamp(seconds, 0);
        let said = (0..4_i64, 0..4_u8).prop_map(move |(seconds, form)| match form {
            0 => Said::Firing { starts_at: at(seconds).filter(|_| seconds > 0) },
            1 => Said::Resolved { starts_at: at(seconds).filter(|_| seconds > 0) },
            2 => Said::ResolvedUntil { until: at(seconds).unwrap_or_default() },
            _ => Said::Firing { starts_at: at(seconds) },
        });
        (prop::sample::select(vec!["a", "b"]), said).prop_map(|(fingerprint, said)| Alert {
            fingerprint: fingerprint.to_owned(),
            said,
            labels: BTreeMap::new(),
            summary: String::new(),
            truncated: false,
        })
    }

    fn taken(alerts: &[Alert]) -> Incidents {
        let mut incidents = Incidents::default();
        for alert in alerts {
            incidents.take(alert);
        }
        incidents
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn neither_order_nor_repetition_changes_what_it_comes_to((alerts, shuffled) in prop::collection::vec(said(), 0..12).prop_flat_map(|alerts| {
            let twice = [alerts.clone(), alerts.clone()].concat();
            (Just(alerts), Just(twice).prop_shuffle())
        })) {
            prop_assert_eq!(taken(&alerts), taken(&shuffled));
        }

        #[test]
        fn what_is_over_stays_over(alerts in prop::collection::vec(said(), 0..12), later in said()) {
            let before = taken(&alerts);
            let mut after = before.clone();
            after.take(&later);
            for (incident, standing) in before.standings() {
                let then = after.standings().find(|(known, _)| *known == incident).map(|(_, standing)| standing);
                prop_assert!(then >= Some(standing), "{:?} went back", incident);
            }
        }
    }
}
