//! What a platform's machines can and can't do: the rules of recovery that differ from one platform to the other.
//!
//! ```text
//!   profile ─▶ stages of the life cycle, operations and their direction, the source's shutdown, points that may be chosen,
//!              extra processing, readiness to be connected to, way home, what a commit deletes
//! ```
//!
//! Invariants: 1. All of it is a function of values; what was not observed is not known, and not known is not a pass. 2. Only a profile
//! with an adapter is operated; the others are modelled, and whoever asks for one at a real site is refused. 3. Each numbered rule has a test
//! that bears its number.

pub mod azure;
pub mod choices;
pub mod connect;
pub mod deletes;
pub mod extra;
pub mod failback;
pub mod guide;
mod operations;
pub mod shutdown;
pub mod stages;
pub mod sync;

use std::{fmt, str::FromStr};

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

pub(crate) use operations::has;

/// Which platform's rules an item follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Machines under libvirt and QEMU.
    #[default]
    Kvm,
    /// Virtual machines under VMware.
    Vmware,
    /// Virtual machines under Hyper-V.
    Hyperv,
    /// Servers without a hypervisor.
    Physical,
}

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 4] = [Profile::Kvm, Profile::Vmware, Profile::Hyperv, Profile::Physical];

    /// The word used on the command line, in the API and in histories.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Profile::Kvm => "kvm",
            Profile::Vmware => "vmware",
            Profile::Hyperv => "hyperv",
            Profile::Physical => "physical",
        }
    }

    /// Whether this build has an adapter for such machines. The others are modelled: simulated sites and simulations of plans know them.
    #[must_use]
    pub fn operated(self) -> bool {
        self == Profile::Kvm
    }

    /// How long after a failover another point may be chosen, before the commit.
    #[must_use]
    pub fn change_window(self) -> TimeDelta {
        match self {
            Profile::Hyperv => TimeDelta::hours(24),
            Profile::Kvm | Profile::Vmware | Profile::Physical => TimeDelta::hours(72),
        }
    }

    /// Whether it is that of an item of which nothing else is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Profile::default()
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not kvm, vmware, hyperv or physical")]
pub struct InvalidProfile {
    /// What was given.
    pub text: String,
}

impl FromStr for Profile {
    type Err = InvalidProfile;
    fn from_str(text: &str) -> Result<Self, InvalidProfile> {
        Profile::ALL.into_iter().find(|profile| profile.as_str() == text).ok_or_else(|| InvalidProfile { text: text.to_owned() })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn rule_10_another_point_may_be_chosen_for_24_hours_under_hyperv_and_for_72_elsewhere() {
        let hours = Profile::ALL.map(|profile| (profile.as_str(), profile.change_window().num_hours()));
        assert_eq!(hours, [("kvm", 72), ("vmware", 72), ("hyperv", 24), ("physical", 72)]);
    }

    #[test]
    fn a_profile_reads_back_from_its_word_and_only_kvm_is_operated() {
        for profile in Profile::ALL {
            assert_eq!(profile.as_str().parse::<Profile>().unwrap(), profile);
            assert_eq!(serde_json::to_string(&profile).unwrap(), format!("\"{profile}\""));
        }
        assert_eq!("xen".parse::<Profile>().unwrap_err().to_string(), "\"xen\" is not kvm, vmware, hyperv or physical");
        let operated: Vec<Profile> = Profile::ALL.into_iter().filter(|profile| profile.operated()).collect();
        assert_eq!(operated, [Profile::Kvm]);
    }
}
