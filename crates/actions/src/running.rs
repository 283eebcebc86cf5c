//! A process of an action with all its children, which ends with it.
//!
//! ```text
//!   spawn in a group of its own ─▶ what it says, piece by piece ─▶ its end
//!        └ late or unwanted: TERM to the group, KILL after some seconds, gone     dropped: KILL at once
//! ```
//!
//! Invariant: the group is signalled only while its leader has not been waited for, so that its number is its own. Who
//! ends one goes on when the whole group is gone: a signal is not yet an end, and what is told as ended does nothing more.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, test_kill_process_group, waitid};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, ChildStdin, Command},
    sync::mpsc,
    task::JoinSet,
    time::Instant,
};

use crate::limits::{Limits, Over};

/// Between asking a group to end and ending it.
const GRACE: Duration = Duration::from_secs(3);
/// Between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(50);
/// Between two looks whether those are gone that were killed.
const LAST_LOOK: Duration = Duration::from_millis(2);
/// How long what a process has said is still read after its end: somebody who inherited its output may keep it open for ever.
const DRAIN: Duration = Duration::from_secs(1);

/// What happens with a process.
#[derive(Debug)]
pub(crate) enum Event {
    /// It said something.
    Said(Vec<u8>),
    /// It ended, and all that it said was told.
    Ended(ExitStatus),
    /// It should end.
    Over(Over),
}

/// A process with its children.
pub(crate) struct Running {
    child: Child,
    group: Option<Pid>,
    pub(crate) input: Option<ChildStdin>,
    output: mpsc::Receiver<Vec<u8>>,
    readers: JoinSet<()>,
    ended: Option<(ExitStatus, Instant)>,
}

impl Running {
    /// Starts it in a group of its own. Its outputs are heard together.
    pub(crate) fn spawn(mut command: Command) -> io::Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).process_group(0);
        let mut child = command.spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let (say, output) = mpsc::channel(16);
        let mut readers = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            readers.spawn(hear(stdout, say.clone()));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.spawn(hear(stderr, say));
        }
        Ok(Self { input: child.stdin.take(), child, group, output, readers, ended: None })
    }

    /// What happens next.
    pub(crate) async fn next(&mut self, limits: &mut Limits<'_>) -> io::Result<Event> {
        loop {
            if self.ended.is_none() && limits.left().is_zero() {
                return Ok(Event::Over(Over::Late)); // however much it has to say
            }
            if let Some((status, until)) = self.ended {
                return Ok(match tokio::time::timeout_at(until, self.output.recv()).await {
                    Ok(Some(said)) => Event::Said(said),
                    Ok(None) | Err(_) => Event::Ended(status),
                });
            }
            tokio::select! {
                Some(said) = self.output.recv() => return Ok(Event::Said(said)),
                status = self.child.wait() => self.ended = Some((status?, Instant::now() + DRAIN)),
                over = limits.over() => return Ok(Event::Over(over)),
            }
        }
    }

    /// Ends it with its children. It is waited for last: until then the number of its group is its own.
    pub(crate) async fn end(&mut self) {
        self.signal(Signal::TERM);
        let until = Instant::now() + GRACE;
        while !self.is_over() && Instant::now() < until {
            tokio::time::sleep(LOOK).await;
        }
        self.signal(Signal::KILL);
        let group = self.group.take();
        drop(tokio::time::timeout(GRACE, self.child.wait()).await);
        if let Some(group) = group {
            gone(group).await;
        }
        self.readers.abort_all();
    }

    /// Whether its leader has ended, without taking note of it.
    fn is_over(&self) -> bool {
        let Some(leader) = self.group else { return true };
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(leader), look), Ok(None))
    }

    fn signal(&self, signal: Signal) {
        if let (Some(group), None) = (self.group, self.ended) {
            // Gone is as good.
            if let Err(error) = kill_process_group(group, signal) {
                tracing::debug!(%error, ?signal, "an action's processes were not signalled");
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever has ended by itself may have left something that is meant to stay.
        self.signal(Signal::KILL);
    }
}

/// Until nobody is left of a group that was killed. Asking does no harm, should its number be another's by now; who is not
/// gone in time hangs in the kernel, or nobody takes note of its end.
async fn gone(group: Pid) {
    let until = Instant::now() + GRACE;
    while test_kill_process_group(group).is_ok() && Instant::now() < until {
        tokio::time::sleep(LAST_LOOK).await;
    }
}

async fn hear(mut from: impl AsyncRead + Unpin, say: mpsc::Sender<Vec<u8>>) {
    let mut part = vec![0; 8_192];
    while let Ok(read @ 1..) = from.read(&mut part).await {
        if say.send(part[..read].to_vec()).await.is_err() {
            return;
        }
    }
}

/// An exit code as a shell tells it.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// In words.
pub(crate) fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exits with {code}"),
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or(0)),
    }
}
