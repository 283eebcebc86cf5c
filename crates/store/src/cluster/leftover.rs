//! A postmaster that outlived the one who started it: found by its pid file, recognised by its working directory.
//!
//! Invariant: a process is signalled only if it works in our data directory; a pid alone proves nothing.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::ClusterError;

/// How long a fast shutdown may take before an immediate one, and that before giving up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Stops it, if there is one.
pub(super) fn stop(data: &Path) -> Result<(), ClusterError> {
    for signal in [Signal::INT, Signal::QUIT] {
        let Some(pid) = running(data) else { return Ok(()) };
        tracing::warn!(pid = pid.as_raw_nonzero().get(), data = %data.display(), "stopping a database that outlived its starter");
        if let Err(errno) = kill_process(pid, signal) {
            tracing::debug!(%errno, "it was gone already");
        }
        let deadline = Instant::now() + PATIENCE;
        while running(data).is_some() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(50));
        }
    }
    match running(data) {
        None => Ok(()),
        Some(pid) => Err(ClusterError::Leftover { pid: pid.as_raw_nonzero().get(), dir: data.to_owned() }),
    }
}

fn running(data: &Path) -> Option<Pid> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let number: i32 = text.lines().next()?.trim().parse().ok()?;
    let cwd = fs::read_link(format!("/proc/{number}/cwd")).ok()?;
    (cwd == data).then(|| Pid::from_raw(number)).flatten()
}
