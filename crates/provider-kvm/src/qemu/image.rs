//! Chains of qcow2 files.

use std::{path::Path, process::Command};

use provider::{Applied, ProviderError};
use serde::Deserialize;

use super::{bitmap::Bitmap, run};

/// A range of a file that holds content of its own, be it zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allocated {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

fn qemu_img(verb: &str, target: &Path) -> Command {
    let mut command = Command::new("qemu-img");
    command.arg(verb);
    if let Some(dir) = target.parent() {
        command.current_dir(dir);
    }
    command
}

fn name(path: &Path) -> &std::ffi::OsStr {
    path.file_name().unwrap_or(path.as_os_str())
}

/// Makes an empty image. Replaces one that is there.
pub(crate) fn create(path: &Path, capacity_bytes: u64) -> Result<(), ProviderError> {
    let mut command = qemu_img("create", path);
    command.args(["-q", "-f", "qcow2"]).arg(name(path)).arg(capacity_bytes.to_string());
    run("qemu-img create", path, &mut command).map(drop)
}

/// Makes an overlay on an image. One in the same directory is named relative to it. Replaces one that is there.
pub(crate) fn create_on(path: &Path, backing: &Path) -> Result<(), ProviderError> {
    let beside = backing.parent() == path.parent();
    let mut command = qemu_img("create", path);
    command.args(["-q", "-f", "qcow2", "-F", "qcow2", "-b"]);
    command.arg(if beside { name(backing) } else { backing.as_os_str() }).arg(name(path));
    run("qemu-img create", path, &mut command).map(drop)
}

/// Makes an overlay on an image in the directory above. Replaces one that is there.
pub(crate) fn create_above(path: &Path, backing: &Path) -> Result<(), ProviderError> {
    let mut command = qemu_img("create", path);
    command.args(["-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(Path::new("..").join(name(backing))).arg(name(path));
    run("qemu-img create", path, &mut command).map(drop)
}

/// Copies what `top` holds into `base`, which is beneath it. May be repeated; `base` is no valid image of anything until it ends.
pub(crate) fn commit(top: &Path, base: &Path) -> Result<(), ProviderError> {
    let mut command = qemu_img("commit", top);
    command.args(["-q", "-d", "-f", "qcow2", "-b"]).arg(name(base)).arg(name(top));
    run("qemu-img commit", top, &mut command).map(drop)
}

/// Points an overlay at another backing file with the same content as its present one.
pub(crate) fn rebase(path: &Path, backing: &Path) -> Result<(), ProviderError> {
    let mut command = qemu_img("rebase", path);
    command.args(["-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(name(backing)).arg(name(path));
    run("qemu-img rebase", path, &mut command).map(drop)
}

/// Copies everything that an image reads from its chain into the image. Nothing may have it open.
pub(crate) fn pull_offline(path: &Path) -> Result<(), ProviderError> {
    let mut command = qemu_img("rebase", path);
    command.args(["-q", "-f", "qcow2", "-b", ""]).arg(name(path));
    run("qemu-img rebase", path, &mut command).map(drop)
}

/// What an image says about itself.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Image {
    pub(super) virtual_size: u64,
    backing_filename: Option<String>,
    format_specific: Option<FormatSpecific>,
}

#[derive(Deserialize)]
struct FormatSpecific {
    data: FormatDetails,
}

#[derive(Deserialize)]
struct FormatDetails {
    #[serde(default)]
    bitmaps: Vec<Bitmap>,
}

impl Image {
    pub(super) fn bitmaps(self) -> Vec<Bitmap> {
        self.format_specific.map(|s| s.data.bitmaps).unwrap_or_default()
    }
}

fn ask(path: &Path, arguments: &[&str]) -> Result<Image, ProviderError> {
    let mut command = qemu_img("info", path);
    // A name with a colon would be a protocol.
    command.args(arguments).args(["--output=json", "-f", "qcow2"]).arg(Path::new(".").join(name(path)));
    let output = run("qemu-img info", path, &mut command)?;
    serde_json::from_slice(&output.stdout).map_err(|e| unreadable("qemu-img info", path, &e))
}

/// Describes an image; fails while it is open for writing.
pub(super) fn at_rest(path: &Path) -> Result<Image, ProviderError> {
    ask(path, &[])
}

/// Name of the backing file, as the image has it. The image may be in use.
pub(crate) fn backing(path: &Path) -> Result<Option<String>, ProviderError> {
    Ok(ask(path, &["--force-share"])?.backing_filename)
}

/// Ranges that the top file of the chain holds itself. Nothing may be writing to it.
pub(crate) fn allocated(path: &Path) -> Result<Vec<Allocated>, ProviderError> {
    #[derive(Deserialize)]
    struct Mapped {
        start: u64,
        length: u64,
        depth: u64,
        present: bool,
    }
    let mut command = qemu_img("map", path);
    command.args(["--force-share", "--output=json", "-f", "qcow2"]).arg(name(path));
    let output = run("qemu-img map", path, &mut command)?;
    let mapped: Vec<Mapped> = serde_json::from_slice(&output.stdout).map_err(|e| unreadable("qemu-img map", path, &e))?;
    let own = mapped.into_iter().filter(|m| m.depth == 0 && m.present);
    Ok(own.map(|m| Allocated { offset: m.start, length: m.length }).collect())
}

fn unreadable(operation: &str, path: &Path, error: &serde_json::Error) -> ProviderError {
    ProviderError::Platform {
        operation: operation.to_owned(),
        target: path.display().to_string(),
        detail: format!("its answer can't be read: {error}"),
        applied: Applied::No,
    }
}
