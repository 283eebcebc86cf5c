//! A handle on one process of this host that never means another one.
//!
//! A process id may be given to a new process; a handle may not. What a process is, is read *after* the handle is open, so a
//! signal through the handle reaches exactly the process that was looked at, or nobody. This is what makes a late "end that
//! machine" harmless: it can't reach a machine that was started since.

use std::{
    fs, io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// A process.
#[derive(Debug)]
pub(crate) struct Pidfd {
    pid: i32,
    handle: OwnedFd,
}

impl Pidfd {
    /// All processes whose command line satisfies `wanted`.
    pub(crate) fn find(wanted: impl Fn(&[Vec<u8>]) -> bool) -> io::Result<Vec<Pidfd>> {
        let mut found = vec![];
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            if !arguments(pid).is_some_and(|args| wanted(&args)) {
                continue;
            }
            let Some(handle) = Pid::from_raw(pid).and_then(|p| pidfd_open(p, PidfdFlags::empty()).ok()) else { continue };
            if arguments(pid).is_some_and(|args| wanted(&args)) {
                found.push(Pidfd { pid, handle });
            }
        }
        Ok(found)
    }

    /// The QEMU processes that run a machine of that UUID.
    pub(crate) fn of_machine(uuid: &str) -> io::Result<Vec<Pidfd>> {
        Self::find(|args| args.windows(2).any(|pair| pair[0] == b"-uuid" && pair[1].eq_ignore_ascii_case(uuid.as_bytes())))
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Asks it to end. A QEMU process then closes its disks in order.
    pub(crate) fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Ends it.
    pub(crate) fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it has ended. Returns whether it has.
    pub(crate) fn wait(&self, patience: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            let mut ready = [PollFd::new(&self.handle, PollFlags::IN)];
            match poll(&mut ready, Some(&timeout)) {
                Ok(ended) => return Ok(ended > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn arguments(pid: i32) -> Option<Vec<Vec<u8>>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_handle_outlives_its_process_and_then_reaches_nobody() {
        let mark = format!("30.{}", std::process::id());
        let mut child = Command::new("sleep").arg(&mark).stdout(std::process::Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut found = vec![];
        while found.is_empty() && Instant::now() < deadline {
            // A process has no arguments yet at the very moment when it begins.
            found = Pidfd::find(|args| args.get(1).is_some_and(|a| a == mark.as_bytes())).unwrap();
        }
        assert_eq!(found.iter().map(Pidfd::pid).collect::<Vec<_>>(), [child.id().cast_signed()]);
        assert!(!found[0].wait(Duration::ZERO).unwrap());
        found[0].terminate().unwrap();
        assert!(found[0].wait(Duration::from_secs(10)).unwrap());
        child.wait().unwrap();
        found[0].kill().unwrap();
    }
}
