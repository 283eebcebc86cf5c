//! Takes a lab down: everything that runs in its namespaces, the namespaces, the directory, the registration.
//!
//! What belongs to a lab is found by its prefix, not by a list that might be incomplete: each of its programs lives in one
//! of its network namespaces. So this also works on the remains of a lab whose directory is gone.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, setsid};

use super::record::{Lab, MADE_DIRS, REGISTRY, lock_registry};
use super::wait;
use crate::sh;

/// Time for databases and machines to end in order before they are killed.
const GRACE: Duration = Duration::from_secs(4);
/// How soon the watcher of a lab that was taken down by hand notices that.
const BETWEEN_LOOKS: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
const NETNS: &str = "/run/netns";

/// Takes down the lab in `dir`. Nothing to do is success.
pub(crate) fn down(dir: &Path) -> Result<()> {
    if !dir.join("lab.json").exists() {
        return Ok(());
    }
    let lab = Lab::load(dir)?;
    remove(&lab.prefix)?;
    remove_dir(&lab.dir)?;
    unregister(&lab.prefix)
}

/// Takes down every lab of this machine, whoever started it. Returns their prefixes.
pub(crate) fn down_all() -> Result<Vec<String>> {
    let labs = labs()?;
    for (prefix, dir) in &labs {
        down(dir)?;
        remove(prefix)?;
        unregister(prefix)?;
    }
    Ok(labs.into_iter().map(|(prefix, _)| prefix).collect())
}

/// Starts a process that takes the lab down when its owner ends, in whatever way.
pub(crate) fn watch_in_background(lab: &Lab, owner: u32) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["lab", "watch", "--owner", &owner.to_string(), "--dir"]).arg(&lab.dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("cannot start the lab's watcher")?;
    Ok(())
}

/// The watcher itself: outlives the terminal, waits for the owner's end, takes the lab down. It goes with the lab.
pub(crate) fn watch(dir: &Path, owner: i32) -> Result<()> {
    setsid().context("the watcher needs a session of its own")?;
    std::env::set_current_dir("/")?;
    let owner = Pid::from_raw(owner).context("the owner must be a process id")?;
    if let Ok(alive) = pidfd_open(owner, PidfdFlags::empty()) {
        let mut ended = [PollFd::new(&alive, PollFlags::IN)];
        while dir.join("lab.json").exists() && !matches!(poll(&mut ended, Some(&BETWEEN_LOOKS)), Ok(1..)) {}
    }
    down(dir)
}

fn labs() -> Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(REGISTRY) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut labs = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_symlink() {
            labs.push((entry.file_name().to_string_lossy().into_owned(), fs::read_link(entry.path())?));
        }
    }
    Ok(labs)
}

/// Forgets a lab; the last one also removes the directories that labs had to make.
fn unregister(prefix: &str) -> Result<()> {
    let _held = lock_registry()?;
    let registry = Path::new(REGISTRY);
    fs::remove_file(registry.join(prefix)).or_else(tolerate(&[ErrorKind::NotFound]))?;
    if !labs()?.is_empty() {
        return Ok(());
    }
    let gone_or_used = tolerate(&[ErrorKind::NotFound, ErrorKind::DirectoryNotEmpty, ErrorKind::ResourceBusy]);
    let made = fs::read_to_string(registry.join(MADE_DIRS)).unwrap_or_default();
    for dir in made.lines().rev() {
        fs::remove_dir(dir).or_else(&gone_or_used)?;
    }
    fs::remove_file(registry.join(MADE_DIRS)).or_else(&gone_or_used)?;
    fs::remove_dir(registry).or_else(&gone_or_used)?;
    Ok(())
}

/// Ends whatever runs in the namespaces of a prefix, then removes them.
fn remove(prefix: &str) -> Result<()> {
    let namespaces = namespaces(prefix)?;
    let inodes: BTreeSet<u64> = namespaces.iter().filter_map(|path| Some(fs::metadata(path).ok()?.ino())).collect();
    signal_all(&inodes, Signal::TERM)?;
    if wait::until_true("orderly end", GRACE, || Ok(inhabitants(&inodes)?.is_empty())).is_err() {
        wait::until_true("end after SIGKILL", Duration::from_secs(20), || {
            signal_all(&inodes, Signal::KILL)?; // again: they may have had children meanwhile
            Ok(inhabitants(&inodes)?.is_empty())
        })?;
    }
    for path in namespaces {
        let name = path.file_name().expect("listed from a directory").to_string_lossy().into_owned();
        if let Err(error) = sh::run("ip", &["netns", "del", &name])
            && path.exists()
        {
            return Err(error);
        }
    }
    Ok(())
}

fn namespaces(prefix: &str) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(NETNS) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let all: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    let start = format!("{prefix}-");
    let ours = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start));
    Ok(all.into_iter().filter(ours).collect())
}

/// Every process whose network is one of these. Ours never is.
fn inhabitants(inodes: &BTreeSet<u64>) -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let lives_here = fs::metadata(entry.path().join("ns/net")).is_ok_and(|net| inodes.contains(&net.ino()));
        if lives_here && !is_zombie(pid) {
            found.extend(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

/// A dead child that its parent has not asked about holds nothing.
fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

fn signal_all(inodes: &BTreeSet<u64>, signal: Signal) -> Result<()> {
    for pid in inhabitants(inodes)? {
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Two may remove at once, and a dying program may still write; so an entry that vanished or appeared is no failure.
fn remove_dir(dir: &Path) -> Result<()> {
    wait::until(&format!("removal of {}", dir.display()), Duration::from_secs(5), || {
        fs::remove_dir_all(dir).or_else(tolerate(&[ErrorKind::NotFound]))?;
        Ok(())
    })
}

fn tolerate(kinds: &[ErrorKind]) -> impl Fn(std::io::Error) -> std::io::Result<()> {
    move |error| if kinds.contains(&error.kind()) { Ok(()) } else { Err(error) }
}
