//! Extra processing: what the recovery of some machines does beside booting them, predicted so that an estimate of the time counts it in.
//!
//! It takes eight to ten minutes where one reason holds, in a test failover as well. Of what is not known of a guest it is said so, and the
//! shortest time is then without it, the longest with it.

use std::{collections::BTreeSet, fmt};

use super::Profile;
use crate::{plan::Mode, span::Span};

/// Shortest time of the extra step.
pub const SHORTEST: Span = Span::seconds(8 * 60);
/// Longest time of the extra step.
pub const LONGEST: Span = Span::seconds(10 * 60);
/// Mobility service that needs no extra step any more.
pub const MOBILITY_SERVICE: (u32, u32) = (9, 8);
/// Drivers that a machine from VMware must have to boot in the recovery site.
pub const BOOT_DRIVERS: [&str; 5] = ["storvsc", "vmbus", "storflt", "intelide", "atapi"];

/// The operating system of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Os {
    Windows,
    Linux,
}

/// What is known of a guest; `None` is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guest {
    pub os: Option<Os>,
    /// Major and minor version.
    pub mobility_service: Option<(u32, u32)>,
    pub dhcp: Option<bool>,
    pub boot_drivers: Option<BTreeSet<String>>,
    /// A machine under Hyper-V that is protected as if it were a physical server.
    pub as_physical: bool,
}

/// Why there is an extra step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    OldMobilityService { version: (u32, u32) },
    PhysicalServer,
    LinuxUnderVmware,
    ProtectedAsPhysical,
    NoDhcp,
    NoBootDriver { driver: &'static str },
    /// Nobody has looked; it may be needed.
    NotKnown { what: &'static str },
}

/// A step that is predicted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraStep {
    /// At least one.
    pub reasons: Vec<Reason>,
    pub shortest: Span,
    pub longest: Span,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::OldMobilityService { version: (major, minor) } => write!(f, "its mobility service {major}.{minor} is older than {}.{}", MOBILITY_SERVICE.0, MOBILITY_SERVICE.1),
            Reason::PhysicalServer => f.write_str("it is a physical server"),
            Reason::LinuxUnderVmware => f.write_str("it runs Linux under VMware"),
            Reason::ProtectedAsPhysical => f.write_str("it is protected as a physical server"),
            Reason::NoDhcp => f.write_str("DHCP is not enabled"),
            Reason::NoBootDriver { driver } => write!(f, "it lacks the boot driver {driver}"),
            Reason::NotKnown { what } => write!(f, "nobody knows {what}"),
        }
    }
}

/// How long, and why.
impl fmt::Display for ExtraStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why: Vec<String> = self.reasons.iter().map(ToString::to_string).collect();
        let least = if self.shortest.ms() == 0 { "up to".to_owned() } else { format!("{} to", self.shortest) };
        write!(f, "extra processing, {least} {}: {}", self.longest, why.join(", "))
    }
}

/// The extra step of recovering a guest; `None` if there is none for sure.
#[must_use]
pub fn step(profile: Profile, mode: Mode, guest: &Guest) -> Option<ExtraStep> {
    match mode {
        // On the way home the machine boots where it came from.
        Mode::Failback => return None,
        Mode::Test | Mode::Planned | Mode::Unplanned => {}
    }
    let reasons = reasons(profile, guest);
    let sure = reasons.iter().any(|reason| !matches!(reason, Reason::NotKnown { .. }));
    let shortest = if sure { SHORTEST } else { Span::seconds(0) };
    (!reasons.is_empty()).then_some(ExtraStep { reasons, shortest, longest: LONGEST })
}

fn reasons(profile: Profile, guest: &Guest) -> Vec<Reason> {
    match profile {
        Profile::Kvm => vec![],
        Profile::Physical => vec![Reason::PhysicalServer],
        Profile::Hyperv if guest.as_physical => vec![Reason::ProtectedAsPhysical],
        Profile::Hyperv => vec![],
        Profile::Vmware => under_vmware(guest),
    }
}

fn under_vmware(guest: &Guest) -> Vec<Reason> {
    let mut reasons = vec![];
    let not_known = |what| Reason::NotKnown { what };
    match guest.mobility_service {
        Some(version) if version < MOBILITY_SERVICE => reasons.push(Reason::OldMobilityService { version }),
        Some(_) => {}
        None => reasons.push(not_known("the version of the mobility service")),
    }
    match guest.os {
        Some(Os::Linux) => reasons.push(Reason::LinuxUnderVmware),
        Some(Os::Windows) => {}
        None => reasons.push(not_known("the operating system")),
    }
    match guest.dhcp {
        Some(false) => reasons.push(Reason::NoDhcp),
        Some(true) => {}
        None => reasons.push(not_known("whether DHCP is enabled")),
    }
    match &guest.boot_drivers {
        Some(found) => reasons.extend(BOOT_DRIVERS.into_iter().filter(|d| !found.contains(*d)).map(|driver| Reason::NoBootDriver { driver })),
        None => reasons.push(not_known("the boot drivers")),
    }
    reasons
}

/// Whether the recovery switches the hypervisor's guest tools off: VMware Tools of a Windows machine mean nothing where it runs next.
#[must_use]
pub fn guest_tools_off(profile: Profile, mode: Mode, os: Os) -> bool {
    profile == Profile::Vmware && mode == Mode::Unplanned && os == Os::Windows
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    fn windows() -> Guest {
        Guest {
            os: Some(Os::Windows),
            mobility_service: Some((9, 8)),
            dhcp: Some(true),
            boot_drivers: Some(BOOT_DRIVERS.map(str::to_owned).into()),
            as_physical: false,
        }
    }

    fn of(profile: Profile, guest: &Guest) -> Vec<Reason> {
        step(profile, Mode::Unplanned, guest).map_or_else(Vec::new, |step| step.reasons)
    }

    #[test]
    fn rule_22_the_tools_of_windows_machines_under_vmware_are_off_during_a_failover() {
        let off = |profile, os| guest_tools_off(profile, Mode::Unplanned, os);
        assert!(off(Profile::Vmware, Os::Windows) && !off(Profile::Vmware, Os::Linux) && !off(Profile::Hyperv, Os::Windows));
    }

    #[test]
    fn rule_23_a_physical_server_always_needs_extra_processing() {
        assert_eq!(of(Profile::Physical, &windows()), [Reason::PhysicalServer]);
    }

    #[test]
    fn rule_25_each_reason_for_extra_processing_is_seen() {
        assert_eq!(of(Profile::Vmware, &windows()), [], "nothing stands in its way");
        let old = Guest { mobility_service: Some((9, 7)), ..windows() };
        assert_eq!(of(Profile::Vmware, &old), [Reason::OldMobilityService { version: (9, 7) }], "a");
        assert_eq!(of(Profile::Physical, &windows()), [Reason::PhysicalServer], "b");
        let linux = Guest { os: Some(Os::Linux), ..windows() };
        assert_eq!(of(Profile::Vmware, &linux), [Reason::LinuxUnderVmware], "c");
        assert_eq!(of(Profile::Hyperv, &Guest { as_physical: true, ..linux.clone() }), [Reason::ProtectedAsPhysical], "d");
        assert_eq!(of(Profile::Hyperv, &linux), []);
        assert_eq!(of(Profile::Vmware, &Guest { dhcp: Some(false), ..windows() }), [Reason::NoDhcp], "e");
        for driver in BOOT_DRIVERS {
            let mut guest = windows();
            guest.boot_drivers.as_mut().unwrap().remove(driver);
            assert_eq!(of(Profile::Vmware, &guest), [Reason::NoBootDriver { driver }], "f");
        }
    }

    #[test]
    fn rule_25_the_extra_step_takes_eight_to_ten_minutes_in_a_test_as_well() {
        for mode in [Mode::Test, Mode::Unplanned] {
            let step = step(Profile::Physical, mode, &windows()).unwrap();
            assert_eq!((step.shortest.to_string(), step.longest.to_string()), ("8m".to_owned(), "10m".to_owned()), "{mode}");
        }
    }

    #[test]
    fn rule_25_what_nobody_has_looked_at_may_take_the_longest_time_and_is_said() {
        let step = step(Profile::Vmware, Mode::Unplanned, &Guest::default()).unwrap();
        assert_eq!((step.shortest, step.longest, step.reasons.len()), (Span::seconds(0), LONGEST, 4));
        assert!(step.reasons.contains(&Reason::NotKnown { what: "the operating system" }));
    }
}
