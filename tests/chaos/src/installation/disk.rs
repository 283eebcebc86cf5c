//! The disk of Postgres: a small one of its own where that can be had, so that it can be full.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};

/// Room for a cluster, its log of changes, and some ten minutes of chaos; twice, for a standby.
const SIZE: &str = "size=1500m,mode=755";
const FILL: &str = "fill";

/// Where Postgres keeps its files.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
    own: bool,
}

impl Disk {
    /// Takes a directory, and mounts a small file system there if that is allowed.
    ///
    /// # Errors
    /// The directory can't be made.
    pub fn at(at: PathBuf) -> Result<Self> {
        fs::create_dir_all(&at)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SIZE, "switchback-chaos"]).arg(&at).stderr(Stdio::null());
        let own = rustix::process::geteuid().is_root() && mount.status().is_ok_and(|status| status.success());
        if !own {
            println!("THE DISK IS NEVER FULL: this machine does not let us mount a small one (that takes root); those strikes are left out");
        }
        Ok(Self { at, own })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Writes until nothing more fits; `false` if the disk is not our own.
    #[must_use]
    pub fn fill(&self) -> bool {
        if !self.own {
            return false;
        }
        let written = File::create(self.at.join(FILL)).map(|mut file| {
            let block = vec![0x5a; 256 * 1024];
            while file.write_all(&block).is_ok() {}
            // The last bytes of room as well: whoever wants a page finds none.
            while file.write_all(&block[..4096]).is_ok() {}
        });
        written.is_ok()
    }

    /// There is room again.
    pub fn clear(&self) {
        match fs::remove_file(self.at.join(FILL)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => eprintln!("the disk stays full: {error}"),
            Ok(()) | Err(_) => {}
        }
    }

    /// Copies what is there to a place that stays.
    ///
    /// # Errors
    /// It can't be copied.
    pub fn keep(&self, to: &Path) -> Result<()> {
        let copied = Command::new("cp").arg("-a").arg(&self.at).arg(to).status()?;
        ensure!(copied.success(), "copying {} to {}", self.at.display(), to.display());
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.own && !Command::new("umount").arg(&self.at).status().is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted: umount it", self.at.display());
        }
    }
}
