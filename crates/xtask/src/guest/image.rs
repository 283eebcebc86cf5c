//! Makes the guest's three files from the unpacked packages.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::cpio::Archive;
use super::lz4;
use crate::sh;

/// Drivers in the order in which they must be loaded; everything else the guest needs is built into the kernel.
const DRIVERS: [&str; 12] = [
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "drivers/block/virtio_blk",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
    "drivers/char/virtio_console",
    "drivers/input/evdev",
    "drivers/acpi/button",
];

const DISK: &str = "512M";

/// The kernel without its wrapping where that is LZ4 (saves a second of emulation), else the wrapped kernel.
pub(crate) fn kernel(tree: &Path) -> Result<Vec<u8>> {
    let boot = tree.join("boot");
    let file = only(&boot, |name| name.starts_with("vmlinuz-"))?;
    let wrapped = fs::read(&file)?;
    let payload = payload(&wrapped).with_context(|| format!("{} has no boot header", file.display()))?;
    if payload.starts_with(&lz4::MAGIC) { lz4::unpack(payload) } else { Ok(wrapped) }
}

/// The packed kernel inside a bzImage: after the set-up sectors, at `payload_offset` (boot protocol 2.08).
fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| image.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes).map(|n| n as usize);
    let setup_sectors = match image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(*sectors),
    };
    let start = (setup_sectors + 1) * 512 + word(0x248)?;
    image.get(start..start + word(0x24c)?)
}

/// The first file system: one shell, one ledger, the guest agent with its libraries, and the drivers.
pub(crate) fn initramfs(tree: &Path, app: &Path, init: &str, shutdown: &str) -> Result<Vec<u8>> {
    let mut files: Vec<(String, Vec<u8>)> = vec![
        ("init".into(), init.into()),
        ("sbin/shutdown".into(), shutdown.into()),
        ("bin/app".into(), fs::read(app)?),
        ("bin/busybox".into(), fs::read(tree.join("bin/busybox"))?),
    ];
    let agent = tree.join("usr/sbin/qemu-ga");
    files.push(("bin/qemu-ga".into(), fs::read(&agent)?));
    for library in libraries(&agent)? {
        files.push((library.trim_start_matches('/').into(), fs::read(&library)?));
    }
    let mut order = String::new();
    for (name, module) in drivers(tree)? {
        order.push_str(&format!("{name}\n"));
        files.push((format!("modules/{name}"), module));
    }
    files.push(("modules/order".into(), order.into()));

    let mut archive = Archive::new();
    for directory in directories(&files) {
        archive.directory(&directory);
    }
    for (name, content) in &files {
        archive.file(name, content);
    }
    Ok(archive.finish())
}

/// Every parent of every file and the mount points, shortest first.
fn directories(files: &[(String, Vec<u8>)]) -> BTreeSet<String> {
    let parents = files.iter().flat_map(|(name, _)| Path::new(name).ancestors().skip(1));
    let mounts = ["proc", "sys", "dev", "run", "data", "tmp", "var", "var/run"].map(Path::new);
    let all = parents.chain(mounts).filter(|path| !path.as_os_str().is_empty());
    all.map(|path| path.to_string_lossy().into_owned()).collect()
}

fn drivers(tree: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let modules = only(&tree.join("lib/modules"), |_| true)?.join("kernel");
    let mut drivers = Vec::new();
    for driver in DRIVERS {
        let plain = modules.join(format!("{driver}.ko"));
        if !plain.exists() {
            sh::run("xz", &[Path::new("-dk"), &plain.with_extension("ko.xz")])?;
        }
        sh::run("strip", &[Path::new("--strip-debug"), &plain])?;
        let name = plain.file_name().expect("built from a name").to_string_lossy().into_owned();
        drivers.push((name, fs::read(&plain)?));
    }
    Ok(drivers)
}

/// Asks the loader which libraries a program needs. They are the host's: the agent comes from the same release.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let listing = sh::output("ldd", &[program])?;
    let mut libraries = Vec::new();
    for line in listing.lines() {
        if line.contains("not found") {
            bail!("the guest agent needs {}, which this machine lacks", line.trim());
        }
        libraries.extend(line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned));
    }
    Ok(libraries)
}

/// An empty ext4 file system in a qcow2 file, which alone can keep dirty bitmaps across a stop.
pub(crate) fn empty_disk(file: &Path) -> Result<()> {
    let raw = file.with_extension("raw");
    sh::run("truncate", &[Path::new("-s"), Path::new(DISK), &raw])?;
    sh::run("mkfs.ext4", &["-q".as_ref(), "-E".as_ref(), "lazy_itable_init=0".as_ref(), raw.as_os_str()])?;
    let convert = ["convert", "-f", "raw", "-O", "qcow2"].map(Path::new);
    sh::run("qemu-img", &[&convert[..], &[&raw, file]].concat())?;
    fs::remove_file(raw)?;
    Ok(())
}

/// The one entry of a directory whose name passes.
fn only(dir: &Path, accept: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if accept(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        _ => bail!("{} holds {} candidates, expected one", dir.display(), found.len()),
    }
}
