//! One child process: started, watched, started again, ended.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{process::Command, sync::watch, time::Instant};

use crate::{listen::stopped, state_dir::StateDir};

/// Pauses before a child is started again: short at first, and it does not keep the machine busy if it can't run at all.
const PAUSES: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(5);
/// A child that lived this long has run: the next pause is short again.
const HAS_RUN: Duration = Duration::from_secs(10);
/// How long a child may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(20);

/// How a child is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// SIGTERM.
    Terminate,
    /// SIGINT, which Postgres answers with a fast shutdown.
    FastShutdown,
}

/// A child to be kept running.
#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) name: String,
    pub(super) log: PathBuf,
    pub(super) state_dir: StateDir,
    pub(super) ending: Ending,
    /// It writes its own pid file, with more in it.
    pub(super) notes_itself: bool,
}

impl Child {
    /// Starts it again and again until `end` turns true, then ends it.
    pub(super) async fn keep_running(&self, command: impl Fn() -> std::process::Command, mut end: watch::Receiver<bool>, say: &impl Fn(&str)) {
        let mut pause = *PAUSES.start();
        while !*end.borrow() {
            let began = Instant::now();
            let why = match self.run_once(command(), &mut end).await {
                Ok(None) => return,
                Ok(Some(status)) => status.to_string(),
                Err(error) => format!("could not be started: {error}"),
            };
            pause = if began.elapsed() > HAS_RUN { *PAUSES.start() } else { (pause * 2).min(*PAUSES.end()) };
            let last = last_line(&self.log).map(|line| format!(", its last words: {line}")).unwrap_or_default();
            say(&format!("{} died ({why}){last}; starting it again, see {}", self.name, self.log.display()));
            drop(tokio::time::timeout(pause, stopped(&mut end)).await);
        }
    }

    /// `None` means that it ended because it was asked to.
    async fn run_once(&self, command: std::process::Command, end: &mut watch::Receiver<bool>) -> std::io::Result<Option<std::process::ExitStatus>> {
        let mut child = self.start(command)?;
        // Held here: waiting would close it, and its end means to the child that we are gone.
        let input = child.stdin.take();
        if let (Some(pid), false) = (child.id(), self.notes_itself)
            && let Err(error) = self.state_dir.note_pid(&self.name, &pid.to_string())
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "a pid file was not written");
        }
        let ended = tokio::select! {
            status = child.wait() => Some(status?),
            () = stopped(end) => None,
        };
        if ended.is_none() {
            self.end(&mut child).await?;
        }
        drop(input);
        self.state_dir.forget_pid(&self.name);
        Ok(ended)
    }

    /// In a process group of its own, so that a Ctrl-C reaches us alone; its input is a pipe that ends with us.
    fn start(&self, mut command: std::process::Command) -> std::io::Result<tokio::process::Child> {
        let log = appended(&self.log)?;
        command.process_group(0).env("NO_COLOR", "1").stdout(log.try_clone()?).stderr(log);
        if self.ending == Ending::Terminate {
            command.stdin(Stdio::piped()).env("SWITCHBACK_ENDS_WITH_STDIN", "1");
        }
        Command::from(command).spawn()
    }

    async fn end(&self, child: &mut tokio::process::Child) -> std::io::Result<()> {
        let signal = match self.ending {
            Ending::Terminate => Signal::TERM,
            Ending::FastShutdown => Signal::INT,
        };
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            kill_process(pid, signal)?;
        }
        if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
            tracing::warn!(child = self.name, "it does not end; killing it");
            child.kill().await?;
        }
        Ok(())
    }
}

/// The last line of a log, as far as a person reads it.
fn last_line(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4096))).ok()?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).ok()?;
    let text = String::from_utf8_lossy(&end);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().take(300).collect())
}

fn appended(path: &Path) -> std::io::Result<File> {
    File::options().create(true).append(true).open(path)
}
