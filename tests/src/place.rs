//! Where the product's programs are started: on this machine as it is, or inside the namespaces of a lab.

use std::{
    ffi::OsString,
    fs,
    os::{fd::AsFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Longest wait for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// How much of each log is shown when a test fails.
const SHOWN_LINES: usize = 80;
/// Longest wait for a program to end after it was asked to.
const GRACE: Duration = Duration::from_secs(20);

/// Words that stand before a program and its arguments. The program keeps their process id.
#[derive(Clone, Debug, Default)]
pub struct Place(Vec<OsString>);

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// A program in the background, in a process group of its own, ended when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Place {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        Self::default()
    }

    /// Behind these words.
    #[must_use]
    pub fn behind(words: Vec<OsString>) -> Self {
        Self(words)
    }

    /// A program that is to be started here.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let Some((first, words)) = self.0.split_first() else { return Command::new(program) };
        let mut command = Command::new(first);
        command.args(words).arg(program);
        command
    }
}

impl Said {
    /// Reads what a finished program left.
    #[must_use]
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Runs a program to its end.
    #[must_use]
    pub fn by(command: &mut Command) -> Self {
        let output = command.stdin(Stdio::null()).output();
        Self::of(&output.unwrap_or_else(|error| panic!("running {command:?}: {error}")))
    }

    /// The answer of a command that was run with `-o json`.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }
}

impl Running {
    /// Starts a program whose output goes to the end of a file.
    #[must_use]
    pub fn start(mut command: Command, log: &Path) -> Self {
        let out = fs::File::options().create(true).append(true).open(log).unwrap_or_else(|error| panic!("no {}: {error}", log.display()));
        let errors = out.try_clone().unwrap_or_else(|error| panic!("no {}: {error}", log.display()));
        command.stdin(Stdio::null()).stdout(out).stderr(errors).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(-1)
    }

    /// What it said so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// Whether a signal holds it (state `T`).
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    }

    /// Asks it to end and waits; kills what does not.
    pub fn end(&mut self) {
        if self.is_stopped() {
            drop(Command::new("kill").arg("-KILL").arg(self.pid().to_string()).status());
        }
        drop(Command::new("kill").arg("-TERM").arg(self.pid().to_string()).stderr(Stdio::null()).status());
        let until = Instant::now() + GRACE;
        while self.ended().is_none() && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        drop(Command::new("kill").arg("-KILL").arg("--").arg(format!("-{}", self.pid())).stderr(Stdio::null()).status());
        drop(self.child.wait());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.end();
        }
    }
}

/// Sends a signal to a process that the tests have started.
pub fn signal(pid: i32, signal: &str) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "signal {signal} to {pid}");
}

/// Where everything is built.
#[must_use]
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from)
}

/// Lets this thread, and those that it starts, see the network of a namespace. There is no way back.
pub fn enter_network(netns: &str) {
    let path = Path::new("/run/netns").join(netns);
    let file = fs::File::open(&path).unwrap_or_else(|error| panic!("opening {}: {error}", path.display()));
    let kind = rustix::thread::LinkNameSpaceType::Network;
    rustix::thread::move_into_link_name_space(file.as_fd(), Some(kind)).unwrap_or_else(|error| panic!("entering {}: {error}", path.display()));
}

/// Path of a program of the workspace.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let path = fs::canonicalize(target().join("debug").join(name));
    path.unwrap_or_else(|error| panic!("{name} is not built ({error}); run `cargo build --workspace --bins` first"))
}

/// Shows how each log in a directory ended, for whoever reads why a test failed.
pub(crate) fn show_logs(dir: &Path) {
    let paths = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in paths.filter(|path| path.extension().is_some_and(|end| end == "log")) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("── {} ended with\n{}", path.display(), lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n"));
    }
}

/// Waits until `look` gives something.
pub fn wait_until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_until_within(PATIENCE, what, look)
}

/// Waits until `look` gives something, up to a limit.
pub fn wait_until_within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not happen within {limit:?}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}
