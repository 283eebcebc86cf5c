//! The product as processes: `switchback up` and an agent that hosts two simulated sites, in a directory of its own.
//! Everything is asked and told by the command line, as a user would.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::{fs::PermissionsExt, net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// Longest wait for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The running product.
pub struct Product {
    dir: PathBuf,
    listen: String,
    up: Child,
    agent: Option<Child>,
}

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

impl Said {
    /// The answer of a command that was run with `-o json`.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }
}

/// Path of a program of the workspace.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let path = target.join("debug").join(name);
    assert!(path.exists(), "{} is not built; run `cargo build --workspace --bins` first", path.display());
    path
}

/// Waits until `look` gives something.
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not happen within {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// A directory that other users may enter: the database runs as one.
#[must_use]
pub fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("sb-{name}-{}", std::process::id()));
    drop(fs::remove_dir_all(&dir));
    fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("making {}: {error}", dir.display()));
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap_or_else(|error| panic!("opening {}: {error}", dir.display()));
    dir
}

impl Product {
    /// Starts database, server and two workers with short leases.
    #[must_use]
    pub fn start(name: &str, environment: &[(&str, &str)]) -> Self {
        let dir = scratch(name);
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map(|address| address.port());
        let listen = format!("127.0.0.1:{}", port.unwrap_or_else(|error| panic!("no free port: {error}")));
        let log = fs::File::create(dir.join("up.log")).unwrap_or_else(|error| panic!("no log: {error}"));
        let errors = log.try_clone().unwrap_or_else(|error| panic!("no log: {error}"));
        let up = Command::new(program("switchback"))
            .arg("--state-dir")
            .arg(dir.join("state"))
            .args(["up", "--listen", &listen, "--workers", "2", "--lease-seconds", "3"])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("starting the product: {error}"));
        let mut product = Self { dir, listen, up, agent: None };
        wait_until("the server answers", || {
            let ended = product.up.try_wait().ok().flatten();
            assert!(ended.is_none(), "`up` has ended ({ended:?}):\n{}", product.log());
            (product.say(&["-o", "json", "get", "items"]).code == 0).then_some(())
        });
        product
    }

    /// What the processes said so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("up.log")).unwrap_or_default()
    }

    /// Directory of the server's state.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Where it listens on the network.
    #[must_use]
    pub fn listen(&self) -> &str {
        &self.listen
    }

    /// A directory for the test's own files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs a command.
    #[must_use]
    pub fn say(&self, words: &[&str]) -> Said {
        self.say_as(&[], words)
    }

    /// Runs a command with other settings in its environment.
    #[must_use]
    pub fn say_as(&self, environment: &[(&str, &str)], words: &[&str]) -> Said {
        let mut command = Command::new(program("switchback"));
        command.env("SWITCHBACK_STATE_DIR", self.state_dir()).env_remove("SWITCHBACK_SERVER").envs(environment.iter().copied());
        let output = command.args(words).stdin(Stdio::null()).output();
        said(&output.unwrap_or_else(|error| panic!("running switchback: {error}")))
    }

    /// Runs a command that must succeed; its JSON answer.
    #[must_use]
    pub fn ask(&self, words: &[&str]) -> Value {
        let said = self.say(&[&["-o", "json"], words].concat());
        assert_eq!(said.code, 0, "switchback {words:?}: {said:?}\n{}", self.log());
        said.json()
    }

    /// Enrolls sites `a` and `b`, hosts them in one simulated world with a machine `db9` at `a`, and waits for both.
    pub fn host_simulated_sites(&mut self, environment: &[(&str, &str)]) {
        for site in ["a", "b"] {
            self.enroll(site);
        }
        let log = fs::File::create(self.dir.join("agent.log")).unwrap_or_else(|error| panic!("no log: {error}"));
        let mut command = Command::new(program("switchback-agent"));
        command.arg("run").arg("--simulated").args(["--lease-seconds", "3"]).arg("--control").arg(self.control());
        for site in ["a", "b"] {
            command.arg("--state-dir").arg(self.dir.join(site));
        }
        command.envs(environment.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        self.agent = Some(command.spawn().unwrap_or_else(|error| panic!("starting the agent: {error}")));
        wait_until("both agents are connected", || {
            let agents = self.ask(&["agent", "list"]);
            let connected = agents["items"].as_array()?.iter().filter(|agent| agent["connected"] == true).count();
            (connected == 2).then_some(())
        });
        self.world(json!({ "do": "add-machine", "site": "a", "machine": "db9", "blocks": 64 }));
    }

    /// Enrolls an agent for a site.
    pub fn enroll(&self, site: &str) {
        let token = self.ask(&["agent", "token", "--site", site]);
        let text = |key: &str| token[key].as_str().unwrap_or_else(|| panic!("no {key} in {token}")).to_owned();
        let mut command = Command::new(program("switchback-agent"));
        command.args(["enroll", "--server", &format!("https://{}", self.listen), "--ca-sha256", &text("ca_sha256"), "--token", &text("token")]);
        command.args(["--name", &format!("{site}-agent")]).arg("--state-dir").arg(self.dir.join(site));
        let said = said(&command.output().unwrap_or_else(|error| panic!("running the agent: {error}")));
        assert_eq!(said.code, 0, "enrolling: {said:?}");
    }

    /// Moves or asks the simulated world.
    pub fn world(&self, what: impl std::borrow::Borrow<Value>) -> Value {
        let stream = wait_until("the simulated world listens", || UnixStream::connect(self.control()).ok());
        let mut writer = &stream;
        writeln!(writer, "{}", what.borrow()).unwrap_or_else(|error| panic!("telling the world: {error}"));
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap_or_else(|error| panic!("hearing the world: {error}"));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("the world said {line:?}: {error}"))
    }

    fn control(&self) -> PathBuf {
        self.dir.join("world.sock")
    }

    /// Process ids that `up` wrote down, by name (`database`, `server`, `worker-1`, …).
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<i32> {
        let text = fs::read_to_string(self.state_dir().join("run").join(format!("{name}.pid"))).ok()?;
        text.split_whitespace().next()?.parse().ok()
    }

    /// Name of the worker process (`worker-N`) that writes events under this id.
    #[must_use]
    pub fn worker_named(&self, id: &str) -> Option<String> {
        let entries = fs::read_dir(self.state_dir().join("run")).ok()?;
        let mut names = entries.flatten().filter(|entry| fs::read_to_string(entry.path()).unwrap_or_default().contains(id));
        Some(names.next()?.path().file_stem()?.to_string_lossy().into_owned())
    }

    /// Sends a signal to a process that the product started.
    pub fn signal(&self, pid: i32, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "signal {signal} to {pid}");
    }

    /// Waits until a run has ended; its view.
    #[must_use]
    pub fn ended(&self, run: &str) -> Value {
        wait_until(&format!("run {run} ends"), || {
            let view = self.say(&["-o", "json", "describe", "run", run]);
            let view = (view.code == 0).then(|| view.json())?;
            matches!(view["state"].as_str(), Some("completed" | "failed" | "cancelled" | "suspended")).then_some(view)
        })
    }
}

fn said(output: &Output) -> Said {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

impl Drop for Product {
    fn drop(&mut self) {
        let mut children: Vec<&mut Child> = self.agent.as_mut().into_iter().collect();
        children.push(&mut self.up);
        for child in children {
            drop(Command::new("kill").arg("-TERM").arg(child.id().to_string()).status());
            let until = Instant::now() + Duration::from_secs(20);
            while child.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < until {
                std::thread::park_timeout(Duration::from_millis(50));
            }
            drop(Command::new("kill").arg("-KILL").arg("--").arg(format!("-{}", child.id())).stderr(Stdio::null()).status());
            drop(child.wait());
        }
        if std::thread::panicking() {
            eprintln!("kept for a look: {}", self.dir.display());
        } else {
            drop(fs::remove_dir_all(&self.dir));
        }
    }
}
