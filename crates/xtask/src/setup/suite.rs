//! Which suite QEMU and libvirt are to come from: the one that the installed `qemu-utils` came from.
//!
//! QEMU's packages of one machine must have one version: taking the system emulator from another suite would remove
//! `qemu-utils`. Backports say so in their version (`…~bpo12+1`), even where the suite is no longer among the sources.

use std::fs;

use anyhow::{Context, Result};

use crate::sh;

/// Where the virtualization packages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    /// From what the machine's sources offer; with the version to match if `qemu-utils` is installed.
    Plain { qemu: Option<String> },
    /// From the release's backports, matching this version.
    Backports { suite: String, qemu: String },
}

impl Suite {
    pub(crate) fn qemu(&self) -> Option<&str> {
        match self {
            Self::Plain { qemu } => qemu.as_deref(),
            Self::Backports { qemu, .. } => Some(qemu),
        }
    }
}

/// Asks dpkg and the release file.
pub(crate) fn of_qemu() -> Result<Suite> {
    let installed = sh::output("dpkg-query", &["-W", "-f", "${db:Status-Abbrev}${Version}", "qemu-utils"]).ok();
    let release = fs::read_to_string("/etc/os-release").context("cannot tell the release of this machine")?;
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or_default();
    Ok(decide(installed.as_deref(), codename))
}

fn decide(installed: Option<&str>, codename: &str) -> Suite {
    let Some(version) = installed.and_then(|text| text.strip_prefix("ii ")) else { return Suite::Plain { qemu: None } };
    if version.contains("~bpo") {
        return Suite::Backports { suite: format!("{codename}-backports"), qemu: version.to_owned() };
    }
    Suite::Plain { qemu: Some(version.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backported_disk_tool_asks_for_backports_of_the_same_version() {
        let suite = decide(Some("ii 1:10.0.2+ds-2+deb13u1~bpo12+1"), "bookworm");
        let expected = Suite::Backports { suite: "bookworm-backports".into(), qemu: "1:10.0.2+ds-2+deb13u1~bpo12+1".into() };
        assert_eq!(suite, expected);
    }

    #[test]
    fn a_disk_tool_of_the_release_stays_with_the_release() {
        let suite = decide(Some("ii 1:7.2+dfsg-7+deb12u15"), "bookworm");
        assert_eq!(suite, Suite::Plain { qemu: Some("1:7.2+dfsg-7+deb12u15".into()) });
    }

    #[test]
    fn a_removed_disk_tool_counts_as_none() {
        assert_eq!(decide(Some("rc 1:7.2"), "bookworm"), Suite::Plain { qemu: None });
        assert_eq!(decide(None, "bookworm"), Suite::Plain { qemu: None });
    }
}
