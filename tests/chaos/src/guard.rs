//! Ends whatever a session has started once the session itself is gone, however it went: also by SIGKILL.
//!
//! ```text
//!   session ── pipe ──▶ guard: reads until the pipe is closed ─▶ kills all processes of the session's directory ─▶ takes its disk away
//! ```
//!
//! Invariants: 1. A process belongs to a session if its command line names a file in the session's directory; others are not touched. 2. A
//! session that ended as it should leaves its guard nothing to do. 3. Files stay: whoever was interrupted wants to read the logs.

use std::{
    fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// How directories of sessions are called; the number of their process follows.
const STEM: &str = "sb-chaos-";
/// A process that was killed is gone by then, unless the system hangs.
const ENDS: Duration = Duration::from_secs(20);

/// A guard that watches this process.
pub struct Guard(Child);

impl Guard {
    /// Sets one over what will be started in a directory.
    ///
    /// # Errors
    /// This program can't be started again.
    pub fn over(dir: &Path) -> Result<Self> {
        let ourselves = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(ourselves);
        // A group of its own: what ends the session from a terminal does not end it.
        command.args(["guard", "--dir"]).arg(dir).stdin(Stdio::piped()).process_group(0);
        command.spawn().context("starting a guard").map(Self)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

/// Waits until whoever started this process is gone, then clears what is left of it.
///
/// # Errors
/// Something stays although it was killed.
pub fn watch(dir: &Path) -> Result<()> {
    io::copy(&mut io::stdin(), &mut io::sink()).context("watching the session")?;
    let ended = clear(dir)?;
    if ended > 0 {
        eprintln!("the session of {} is gone; {ended} of its processes were ended, its files are left there", dir.display());
    }
    Ok(())
}

/// Kills the processes of a session and takes its disk away. Gives how many there were.
///
/// # Errors
/// Something stays.
pub fn clear(dir: &Path) -> Result<usize> {
    let (first, until) = (processes(dir), Instant::now() + ENDS);
    loop {
        let left = processes(dir);
        if left.is_empty() {
            break;
        }
        for pid in &left {
            // Whoever is gone by now is what was wanted.
            kill_process(*pid, Signal::KILL).ok();
        }
        ensure!(Instant::now() < until, "processes {left:?} of {} do not end", dir.display());
        std::thread::park_timeout(Duration::from_millis(50));
    }
    for mounted in mounts(dir)? {
        let status = Command::new("umount").arg(&mounted).status().context("starting umount")?;
        ensure!(status.success(), "{} could not be unmounted", mounted.display());
    }
    Ok(first.len())
}

/// Clears what sessions have left whose processes and guards are gone, as after a power failure of a container; says so.
pub fn clear_leftovers() {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    for dir in entries.map(|entry| entry.path()).filter(|dir| owner(dir).is_some_and(|pid| test_kill_process(pid).is_err())) {
        let there = processes(&dir).len() + mounts(&dir).map_or(0, |mounts| mounts.len());
        if there == 0 {
            continue;
        }
        match clear(&dir) {
            Ok(ended) => println!("an earlier session has left {}: {ended} processes were ended, its files are still there", dir.display()),
            Err(error) => eprintln!("an earlier session has left {}, and it stays: {error:#}", dir.display()),
        }
    }
}

/// The process whose session a directory is.
fn owner(dir: &Path) -> Option<Pid> {
    Pid::from_raw(dir.file_name()?.to_str()?.strip_prefix(STEM)?.parse().ok()?)
}

/// Processes that have a file in a directory on their command line, but for this one.
#[must_use]
pub fn processes(dir: &Path) -> Vec<Pid> {
    let within = format!("{}/", dir.display()).into_bytes();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())));
    let ours = |(_, path): &(i32, PathBuf)| {
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        line.windows(within.len()).any(|part| part == within)
    };
    pids.filter(ours).filter_map(|(pid, _)| Pid::from_raw(pid)).filter(|pid| *pid != rustix::process::getpid()).collect()
}

/// File systems that are mounted in a directory.
///
/// # Errors
/// The system does not say.
pub fn mounts(dir: &Path) -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading what is mounted")?;
    let places = mounts.lines().filter_map(|line| line.split_whitespace().nth(1)).map(PathBuf::from);
    Ok(places.filter(|place| place.starts_with(dir)).collect())
}
