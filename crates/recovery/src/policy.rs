//! The replication policy: how often points are taken, how many are kept, and how much of the line they may use.
//!
//! Invariant: a policy that was built or read is within its limits, so nobody checks them again.

use serde::{Deserialize, Serialize};

/// How an item is replicated. The agents of both sites follow it on their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PolicyFields", into = "PolicyFields")]
pub struct ReplicationPolicy {
    interval_s: u32,
    retention_points: u32,
    retention_window_s: u64,
    bandwidth_bytes_per_s: Option<u64>,
    app_consistent_interval_s: Option<u32>,
    rpo_threshold_s: Option<u32>,
    change_window_s: Option<u64>,
}

/// Why a policy is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// Points can't be taken that often or that rarely.
    #[error("an interval of {interval_s} s is outside 1 to {} s", ReplicationPolicy::MAX_INTERVAL_S)]
    Interval { interval_s: u32 },
    /// A chain of points can't be that short or that long.
    #[error("retention of {points} points is outside 2 to {}", ReplicationPolicy::MAX_POINTS)]
    Points { points: u32 },
    /// The window holds less than one interval, or more than a year.
    #[error("a retention window of {window_s} s is outside {interval_s} s (one interval) to {} s", ReplicationPolicy::MAX_WINDOW_S)]
    Window { window_s: u64, interval_s: u32 },
    /// Less than a disk block a second would never seed anything.
    #[error("a bandwidth of {bytes_per_s} bytes/s is below {} bytes/s", ReplicationPolicy::MIN_BANDWIDTH_BYTES_PER_S)]
    Bandwidth { bytes_per_s: u64 },
    /// A guest is not frozen more often than points are taken, nor more rarely than once a day.
    #[error("app-consistent points every {app_interval_s} s are outside {interval_s} s (one interval) to {} s", ReplicationPolicy::MAX_INTERVAL_S)]
    AppConsistent { app_interval_s: u32, interval_s: u32 },
    /// A threshold below one interval would always be passed.
    #[error("an RPO threshold of {threshold_s} s is outside {interval_s} s (one interval) to {} s", ReplicationPolicy::MAX_THRESHOLD_S)]
    RpoThreshold { threshold_s: u32, interval_s: u32 },
    /// A window that nobody can use, or for which points would be kept for ever.
    #[error("a change window of {window_s} s is outside {} to {} s", ReplicationPolicy::MIN_CHANGE_WINDOW_S, ReplicationPolicy::MAX_CHANGE_WINDOW_S)]
    ChangeWindow { window_s: u64 },
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFields {
    interval_s: u32,
    retention_points: u32,
    retention_window_s: u64,
    #[serde(default)]
    bandwidth_bytes_per_s: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    app_consistent_interval_s: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rpo_threshold_s: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    change_window_s: Option<u64>,
}

impl ReplicationPolicy {
    /// libvirt reads QEMU's description of a disk chain only down to 32 levels, which is some 23 files. This leaves room for the base,
    /// the running overlay and what is pinned.
    pub const MAX_POINTS: u32 = 16;
    /// One day: rarer points are backups.
    pub const MAX_INTERVAL_S: u32 = 86_400;
    /// One year.
    pub const MAX_WINDOW_S: u64 = 366 * 86_400;
    /// One block of 64 KiB a second.
    pub const MIN_BANDWIDTH_BYTES_PER_S: u64 = 65_536;

    /// A week: what may be older than that needs no replication.
    pub const MAX_THRESHOLD_S: u32 = 7 * 86_400;
    /// A minute: another point has to be looked at first.
    pub const MIN_CHANGE_WINDOW_S: u64 = 60;
    /// A month: until then no point of a machine that was failed over goes.
    pub const MAX_CHANGE_WINDOW_S: u64 = 31 * 86_400;

    /// Builds a policy.
    ///
    /// # Errors
    /// A number is outside its limit.
    pub fn new(
        interval_s: u32,
        retention_points: u32,
        retention_window_s: u64,
        bandwidth_bytes_per_s: Option<u64>,
    ) -> Result<Self, InvalidPolicy> {
        if !(1..=Self::MAX_INTERVAL_S).contains(&interval_s) {
            return Err(InvalidPolicy::Interval { interval_s });
        }
        if !(2..=Self::MAX_POINTS).contains(&retention_points) {
            return Err(InvalidPolicy::Points { points: retention_points });
        }
        if !(u64::from(interval_s)..=Self::MAX_WINDOW_S).contains(&retention_window_s) {
            return Err(InvalidPolicy::Window { window_s: retention_window_s, interval_s });
        }
        if let Some(bytes_per_s) = bandwidth_bytes_per_s.filter(|b| *b < Self::MIN_BANDWIDTH_BYTES_PER_S) {
            return Err(InvalidPolicy::Bandwidth { bytes_per_s });
        }
        Ok(Self { interval_s, retention_points, retention_window_s, bandwidth_bytes_per_s, app_consistent_interval_s: None, rpo_threshold_s: None, change_window_s: None })
    }

    /// The same with an app-consistent point at least every so many seconds; `None` takes none.
    ///
    /// # Errors
    /// More often than points are taken, or less than once a day.
    pub fn with_app_consistent(self, every_s: Option<u32>) -> Result<Self, InvalidPolicy> {
        let interval_s = self.interval_s;
        if let Some(app_interval_s) = every_s.filter(|every| !(interval_s..=Self::MAX_INTERVAL_S).contains(every)) {
            return Err(InvalidPolicy::AppConsistent { app_interval_s, interval_s });
        }
        Ok(Self { app_consistent_interval_s: every_s, ..self })
    }

    /// The same with an age from which the newest point counts as too old; `None` goes by the interval alone.
    ///
    /// # Errors
    /// Less than an interval, or more than a week.
    pub fn with_rpo_threshold(self, threshold_s: Option<u32>) -> Result<Self, InvalidPolicy> {
        let interval_s = self.interval_s;
        if let Some(threshold_s) = threshold_s.filter(|threshold| !(interval_s..=Self::MAX_THRESHOLD_S).contains(threshold)) {
            return Err(InvalidPolicy::RpoThreshold { threshold_s, interval_s });
        }
        Ok(Self { rpo_threshold_s: threshold_s, ..self })
    }

    /// The same with another time after a failover in which its point can be changed; `None` goes by the profile.
    ///
    /// # Errors
    /// Less than a minute, or more than a month.
    pub fn with_change_window(self, window_s: Option<u64>) -> Result<Self, InvalidPolicy> {
        if let Some(window_s) = window_s.filter(|window| !(Self::MIN_CHANGE_WINDOW_S..=Self::MAX_CHANGE_WINDOW_S).contains(window)) {
            return Err(InvalidPolicy::ChangeWindow { window_s });
        }
        Ok(Self { change_window_s: window_s, ..self })
    }

    /// Seconds from the start of one point to the start of the next.
    #[must_use]
    pub fn interval_s(&self) -> u32 {
        self.interval_s
    }

    /// Greatest number of points kept, pinned ones not counted.
    #[must_use]
    pub fn retention_points(&self) -> u32 {
        self.retention_points
    }

    /// Seconds over which the kept points are spread.
    #[must_use]
    pub fn retention_window_s(&self) -> u64 {
        self.retention_window_s
    }

    /// Seconds after which the next point is to be app-consistent; `None` if no point is.
    #[must_use]
    pub fn app_consistent_interval_s(&self) -> Option<u32> {
        self.app_consistent_interval_s
    }

    /// Age in seconds from which the newest point is too old; `None` if nobody has said.
    #[must_use]
    pub fn rpo_threshold_s(&self) -> Option<u32> {
        self.rpo_threshold_s
    }

    /// Seconds after a failover in which its point can be changed; `None` as the profile has it.
    #[must_use]
    pub fn change_window_s(&self) -> Option<u64> {
        self.change_window_s
    }

    /// Greatest rate of the data stream in bytes per second; `None` is unlimited.
    #[must_use]
    pub fn bandwidth_bytes_per_s(&self) -> Option<u64> {
        self.bandwidth_bytes_per_s
    }
}

impl Default for ReplicationPolicy {
    /// A point every 5 s, 12 points over 72 h.
    fn default() -> Self {
        Self { interval_s: 5, retention_points: 12, retention_window_s: 72 * 3600, bandwidth_bytes_per_s: None, app_consistent_interval_s: None, rpo_threshold_s: None, change_window_s: None }
    }
}

impl TryFrom<PolicyFields> for ReplicationPolicy {
    type Error = InvalidPolicy;
    fn try_from(f: PolicyFields) -> Result<Self, InvalidPolicy> {
        Self::new(f.interval_s, f.retention_points, f.retention_window_s, f.bandwidth_bytes_per_s)?
            .with_app_consistent(f.app_consistent_interval_s)?
            .with_rpo_threshold(f.rpo_threshold_s)?
            .with_change_window(f.change_window_s)
    }
}

impl From<ReplicationPolicy> for PolicyFields {
    fn from(p: ReplicationPolicy) -> Self {
        Self {
            interval_s: p.interval_s,
            retention_points: p.retention_points,
            retention_window_s: p.retention_window_s,
            bandwidth_bytes_per_s: p.bandwidth_bytes_per_s,
            app_consistent_interval_s: p.app_consistent_interval_s,
            rpo_threshold_s: p.rpo_threshold_s,
            change_window_s: p.change_window_s,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn a_policy_outside_its_limits_is_refused() {
        assert!(ReplicationPolicy::new(5, 16, 259_200, None).is_ok());
        assert_eq!(ReplicationPolicy::new(5, 17, 259_200, None), Err(InvalidPolicy::Points { points: 17 }));
        assert_eq!(ReplicationPolicy::new(0, 12, 259_200, None), Err(InvalidPolicy::Interval { interval_s: 0 }));
        assert_eq!(ReplicationPolicy::new(60, 12, 59, None), Err(InvalidPolicy::Window { window_s: 59, interval_s: 60 }));
        let often = ReplicationPolicy::default().with_app_consistent(Some(4));
        assert_eq!(often, Err(InvalidPolicy::AppConsistent { app_interval_s: 4, interval_s: 5 }));
        let hasty = ReplicationPolicy::default().with_rpo_threshold(Some(4));
        assert_eq!(hasty, Err(InvalidPolicy::RpoThreshold { threshold_s: 4, interval_s: 5 }));
        assert_eq!(ReplicationPolicy::default().with_change_window(Some(59)), Err(InvalidPolicy::ChangeWindow { window_s: 59 }));
        assert_eq!(ReplicationPolicy::new(5, 12, 60, Some(1)), Err(InvalidPolicy::Bandwidth { bytes_per_s: 1 }));
    }

    #[test]
    fn a_policy_read_from_json_is_checked() {
        let text = serde_json::to_string(&ReplicationPolicy::default()).unwrap();
        assert_eq!(serde_json::from_str::<ReplicationPolicy>(&text).unwrap(), ReplicationPolicy::default());
        let said = ReplicationPolicy::default().with_rpo_threshold(Some(900)).unwrap().with_change_window(Some(3_600)).unwrap();
        assert_eq!(serde_json::from_str::<ReplicationPolicy>(&serde_json::to_string(&said).unwrap()).unwrap(), said);
        assert!(serde_json::from_str::<ReplicationPolicy>(r#"{"interval_s":5,"retention_points":200,"retention_window_s":60}"#).is_err());
    }
}
