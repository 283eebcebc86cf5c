//! Packages that are downloaded and unpacked, never installed: what the demo guest is made from, and the servers that tests run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt::View;
use crate::{paths, sh};

/// What the packages are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// The demo guest.
    Guest,
    /// Prometheus and Alertmanager: installed, they would be started as services.
    Monitoring,
    /// An SSH server and a name server, with the libraries that only they use: installed, they would be started as services.
    Services,
}

/// The kernel's name is that of a package that only points to the current one.
const KERNEL: &str = "linux-image-cloud-amd64";

impl Parts {
    /// Names of the packages.
    pub(crate) fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Guest => &[KERNEL, "busybox-static", "qemu-guest-agent"],
            Self::Monitoring => &["prometheus", "prometheus-alertmanager"],
            Self::Services => &[
                "openssh-server", "libwrap0", "knot", "libknot13", "libdnssec9", "libzscanner4", "libxdp1", "libbpf1", "liblmdb0", "liburcu8",
                "libcap-ng0", "libfstrm0",
            ],
        }
    }

    fn dir(self) -> PathBuf {
        match self {
            Self::Guest => paths::guest_parts(),
            Self::Monitoring => paths::monitoring(),
            Self::Services => paths::services(),
        }
    }

    /// Whether all of it is there.
    pub(crate) fn present(self) -> bool {
        let Ok(entries) = fs::read_dir(self.dir()) else { return false };
        let debs = entries.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "deb"));
        debs.count() == self.packages().len()
    }

    /// Downloads aside and renames, so that the parts are there completely or not at all.
    pub(crate) fn download(self, view: &View) -> Result<()> {
        let parts = self.dir();
        let aside = parts.with_extension(format!("new-{}", std::process::id()));
        fs::create_dir_all(&aside)?;
        let mut apt = Command::new("apt-get");
        apt.args(view.options()).args(["-q", "-o", "APT::Sandbox::User=root", "download"]);
        for package in self.packages() {
            match *package {
                KERNEL => apt.arg(view.dependency(KERNEL, "linux-image-").context("cannot find the cloud kernel")?),
                other => apt.arg(other),
            };
        }
        sh::capture(apt.current_dir(&aside))?;
        if matches!(self, Self::Monitoring | Self::Services) {
            unpack(&aside)?;
        }
        if parts.exists() {
            fs::remove_dir_all(&parts)?;
        }
        fs::rename(aside, parts)?;
        Ok(())
    }
}

fn unpack(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()? {
        sh::capture(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(dir.join("root")))?;
    }
    Ok(())
}
