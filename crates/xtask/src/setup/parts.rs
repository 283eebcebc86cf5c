//! The packages that the demo guest is made from: downloaded and unpacked, never installed.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::apt::View;
use crate::{paths, sh};

/// The kernel's name is that of a package that only points to the current one.
pub(crate) const PACKAGES: [&str; 3] = [KERNEL, "busybox-static", "qemu-guest-agent"];

const KERNEL: &str = "linux-image-cloud-amd64";

/// Downloads aside and renames, so that the parts are there completely or not at all.
pub(crate) fn download(view: &View) -> Result<()> {
    let parts = paths::guest_parts();
    let aside = parts.with_extension(format!("new-{}", std::process::id()));
    fs::create_dir_all(&aside)?;
    let kernel = view.dependency(KERNEL, "linux-image-").context("cannot find the cloud kernel")?;
    let mut apt = Command::new("apt-get");
    apt.args(view.options()).args(["-q", "-o", "APT::Sandbox::User=root", "download", &kernel]).args(&PACKAGES[1..]);
    sh::capture(apt.current_dir(&aside))?;
    if parts.exists() {
        fs::remove_dir_all(&parts)?;
    }
    fs::rename(aside, parts)?;
    Ok(())
}
