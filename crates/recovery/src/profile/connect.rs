//! Readiness to be connected to by RDP or SSH: what must hold at the source before a failover, and at the target after it.
//!
//! Invariant: a list is judged from what was observed. What nobody has observed is not known, and not known is not a pass.

use std::collections::BTreeMap;

use super::extra::Os;

/// How people reach the machine after a failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Internet,
    /// Through a site-to-site VPN.
    Vpn,
}

/// When a list is gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At the source.
    Before,
    /// At the target.
    After,
}

/// Something that can be observed of a machine or its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    RdpEnabled,
    RdpRulesForPublic,
    RdpAllowedForAllProfiles,
    RdpAllowedForDomainAndPrivate,
    SanPolicyOnlineAll,
    NoPendingUpdates,
    SshStartsAtBoot,
    FirewallAllowsSsh,
    PublicAddress,
    MachineRulesAllowRdp,
    SubnetRulesAllowRdp,
    MachineRulesAllowSsh,
    SubnetRulesAllowSsh,
    BootScreenshot,
}

impl Fact {
    /// What must hold, for people.
    #[must_use]
    pub fn says(self) -> &'static str {
        match self {
            Fact::RdpEnabled => "RDP is enabled",
            Fact::RdpRulesForPublic => "the firewall has rules for RDP over TCP and UDP in the profile Public",
            Fact::RdpAllowedForAllProfiles => "RDP is an allowed app of the Windows firewall in all profiles",
            Fact::RdpAllowedForDomainAndPrivate => "RDP is allowed by the Windows firewall in Domain and Private networks",
            Fact::SanPolicyOnlineAll => "the SAN policy of the operating system is OnlineAll",
            Fact::NoPendingUpdates => "no Windows update is pending: one that starts during a failover keeps everybody from logging on until it is done",
            Fact::SshStartsAtBoot => "the SSH service starts at boot",
            Fact::FirewallAllowsSsh => "the firewall allows SSH",
            Fact::PublicAddress => "the machine has a public address",
            Fact::MachineRulesAllowRdp => "the security rules of the machine allow RDP in",
            Fact::SubnetRulesAllowRdp => "the security rules of its subnet allow RDP in",
            Fact::MachineRulesAllowSsh => "the security rules of the machine allow SSH in",
            Fact::SubnetRulesAllowSsh => "the security rules of its subnet allow SSH in",
            Fact::BootScreenshot => "boot diagnostics are on and the screenshot shows a machine that has booted",
        }
    }
}

/// What must hold.
#[must_use]
pub fn checklist(os: Os, access: Access, when: When) -> Vec<Fact> {
    match (os, when) {
        (Os::Windows, When::Before) => [windows_before(access), vec![Fact::SanPolicyOnlineAll, Fact::NoPendingUpdates]].concat(),
        (Os::Windows, When::After) => vec![Fact::PublicAddress, Fact::MachineRulesAllowRdp, Fact::SubnetRulesAllowRdp, Fact::BootScreenshot],
        (Os::Linux, When::Before) => vec![Fact::SshStartsAtBoot, Fact::FirewallAllowsSsh],
        (Os::Linux, When::After) => vec![Fact::MachineRulesAllowSsh, Fact::SubnetRulesAllowSsh, Fact::PublicAddress, Fact::BootScreenshot],
    }
    .into_iter()
    .filter(|fact| *fact != Fact::PublicAddress || access == Access::Internet) // a VPN leads to the private one
    .collect()
}

fn windows_before(access: Access) -> Vec<Fact> {
    match access {
        Access::Internet => vec![Fact::RdpEnabled, Fact::RdpRulesForPublic, Fact::RdpAllowedForAllProfiles],
        Access::Vpn => vec![Fact::RdpEnabled, Fact::RdpAllowedForDomainAndPrivate],
    }
}

/// What to do when nobody can connect although the list holds.
pub const NO_CONNECTION: [&str; 2] = ["see that the machine runs, at its screenshot or console", "go through the platform's troubleshooting of remote connections"];

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Holds,
    Fails,
    /// Nobody has looked.
    NotKnown,
}

/// Each line of a list with its verdict.
#[must_use]
pub fn judge(list: &[Fact], observed: &BTreeMap<Fact, bool>) -> Vec<(Fact, Verdict)> {
    let verdict = |fact: &Fact| match observed.get(fact) {
        Some(true) => Verdict::Holds,
        Some(false) => Verdict::Fails,
        None => Verdict::NotKnown,
    };
    list.iter().map(|fact| (*fact, verdict(fact))).collect()
}

/// Whether a judged list is passed: all of it is seen to hold.
#[must_use]
pub fn passed(judged: &[(Fact, Verdict)]) -> bool {
    judged.iter().all(|(_, verdict)| *verdict == Verdict::Holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OS: [Os; 2] = [Os::Windows, Os::Linux];

    #[test]
    fn rule_12_windows_over_the_internet_needs_rdp_in_the_public_profile_and_in_all_profiles() {
        let list = checklist(Os::Windows, Access::Internet, When::Before);
        assert_eq!(list[..3], [Fact::RdpEnabled, Fact::RdpRulesForPublic, Fact::RdpAllowedForAllProfiles]);
    }

    #[test]
    fn rule_13_windows_through_a_vpn_needs_rdp_in_domain_and_private_networks() {
        let list = checklist(Os::Windows, Access::Vpn, When::Before);
        assert_eq!(list[..2], [Fact::RdpEnabled, Fact::RdpAllowedForDomainAndPrivate]);
        assert!(!list.contains(&Fact::RdpRulesForPublic));
    }

    #[test]
    fn rule_14_windows_brings_all_its_disks_online() {
        for access in [Access::Internet, Access::Vpn] {
            assert!(checklist(Os::Windows, access, When::Before).contains(&Fact::SanPolicyOnlineAll));
        }
    }

    #[test]
    fn rule_15_windows_has_no_pending_update_when_a_failover_is_triggered() {
        for access in [Access::Internet, Access::Vpn] {
            assert!(checklist(Os::Windows, access, When::Before).contains(&Fact::NoPendingUpdates));
        }
    }

    #[test]
    fn rule_16_windows_at_the_target_is_reached_by_a_public_address_through_both_sets_of_rules_and_is_looked_at() {
        let list = checklist(Os::Windows, Access::Internet, When::After);
        assert_eq!(list, [Fact::PublicAddress, Fact::MachineRulesAllowRdp, Fact::SubnetRulesAllowRdp, Fact::BootScreenshot]);
        assert_eq!(checklist(Os::Windows, Access::Vpn, When::After), list[1..]);
        assert!(NO_CONNECTION[0].contains("runs") && NO_CONNECTION[1].contains("troubleshooting"));
    }

    #[test]
    fn rule_17_linux_starts_ssh_at_boot_and_lets_it_through() {
        for access in [Access::Internet, Access::Vpn] {
            assert_eq!(checklist(Os::Linux, access, When::Before), [Fact::SshStartsAtBoot, Fact::FirewallAllowsSsh]);
        }
    }

    #[test]
    fn rule_18_linux_at_the_target_is_reached_by_ssh_through_both_sets_of_rules_and_is_looked_at() {
        let list = checklist(Os::Linux, Access::Internet, When::After);
        assert_eq!(list, [Fact::MachineRulesAllowSsh, Fact::SubnetRulesAllowSsh, Fact::PublicAddress, Fact::BootScreenshot]);
    }

    #[test]
    fn what_nobody_has_looked_at_is_no_pass() {
        for os in OS {
            let list = checklist(os, Access::Internet, When::Before);
            let mut observed: BTreeMap<Fact, bool> = list.iter().map(|fact| (*fact, true)).collect();
            assert!(passed(&judge(&list, &observed)));
            observed.remove(&list[1]);
            assert_eq!(judge(&list, &observed)[1], (list[1], Verdict::NotKnown));
            assert!(!passed(&judge(&list, &observed)));
            observed.insert(list[1], false);
            assert_eq!(judge(&list, &observed)[1], (list[1], Verdict::Fails));
            assert!(!passed(&judge(&list, &observed)));
        }
    }
}
