//! Builds the demo guest: an emulated machine that is up two to four seconds after it is started.
//!
//!   kernel package ─▶ vmlinux (unpacked once, so that the emulator need not)   ┐
//!   busybox, qemu-ga, drivers, app.c ─▶ initramfs.cpio                         ├─▶ target/guest/HASH/
//!   mkfs.ext4 ─▶ disk.qcow2, 512 MiB, empty                                    ┘
//!
//! Invariants: 1. The directory's name is the hash of everything the guest is made from, so a change rebuilds it and two
//! checkouts agree. 2. A directory under its final name is complete: it is built aside and renamed. 3. Packages are
//! unpacked, never installed.

mod cpio;
mod image;
mod lz4;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{paths, sh};

/// Raised when the recipe below changes in a way that its inputs do not show.
const RECIPE: u32 = 1;

const APP: &str = include_str!("../guest/app.c");
const INIT: &str = include_str!("../guest/init");
const SHUTDOWN: &str = include_str!("../guest/shutdown");

/// The files that a machine is started from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Guest {
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: PathBuf,
    /// An empty ext4 file system in qcow2, to be copied for each machine.
    pub(crate) disk: PathBuf,
}

impl Guest {
    fn at(dir: &Path) -> Self {
        Self { kernel: dir.join("vmlinux"), initrd: dir.join("initramfs.cpio"), disk: dir.join("disk.qcow2") }
    }
}

/// Returns the guest's files, building them first unless that was done before.
pub(crate) fn ready() -> Result<Guest> {
    let parts = parts()?;
    let finished = paths::guests().join(recipe_hash(&parts)?);
    if finished.is_dir() {
        return Ok(Guest::at(&finished));
    }
    let aside = paths::guests().join(format!("building-{}", std::process::id()));
    fs::create_dir_all(&aside)?;
    let built = build(&parts, &aside).context("cannot build the demo guest");
    if built.is_err() || fs::rename(&aside, &finished).is_err() {
        fs::remove_dir_all(&aside)?; // failed, or somebody else was faster
    }
    built?;
    Ok(Guest::at(&finished))
}

/// The packages that setup downloaded for the guest, in a fixed order.
fn parts() -> Result<Vec<PathBuf>> {
    let dir = paths::guest_parts();
    let entries = fs::read_dir(&dir).with_context(|| missing_parts(&dir))?;
    let mut debs: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    debs.retain(|path| path.extension().is_some_and(|end| end == "deb"));
    debs.sort();
    if debs.is_empty() {
        bail!(missing_parts(&dir));
    }
    Ok(debs)
}

fn missing_parts(dir: &Path) -> String {
    format!("no guest parts in {}: run `cargo xtask setup`", dir.display())
}

fn recipe_hash(debs: &[PathBuf]) -> Result<String> {
    let mut hash = Fnv::default();
    hash.add(&RECIPE.to_le_bytes());
    for source in [APP, INIT, SHUTDOWN] {
        hash.add(source.as_bytes());
    }
    for deb in debs {
        hash.add(deb.file_name().expect("listed from a directory").as_encoded_bytes());
        hash.add(&fs::metadata(deb)?.len().to_le_bytes());
    }
    Ok(format!("{:016x}", hash.0))
}

fn build(debs: &[PathBuf], out: &Path) -> Result<()> {
    let tree = out.join("packages");
    fs::create_dir_all(&tree)?;
    for deb in debs {
        sh::run("dpkg-deb", &[Path::new("-x"), deb, &tree])?;
    }
    let app = out.join("app");
    fs::write(out.join("app.c"), APP)?;
    sh::run("gcc", &["-static".as_ref(), "-O2".as_ref(), "-o".as_ref(), app.as_os_str(), out.join("app.c").as_os_str()])
        .context("cannot compile the guest's ledger")?;
    let guest = Guest::at(out);
    fs::write(&guest.kernel, image::kernel(&tree)?)?;
    fs::write(&guest.initrd, image::initramfs(&tree, &app, INIT, SHUTDOWN)?)?;
    image::empty_disk(&guest.disk)?;
    fs::remove_dir_all(&tree)?;
    fs::remove_file(app)?;
    fs::remove_file(out.join("app.c"))?;
    Ok(())
}

/// FNV-1a with 64 bits: names a cache entry, protects nothing.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
