//! The product as processes: `switchback up` and its agents, in a directory of its own, at any place.
//! Everything is asked and told by the command line, as a user would.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::place::show_logs;
pub use crate::place::{PATIENCE, Place, Running, Said, program, signal, wait_until, wait_until_within};

/// The running product.
pub struct Product {
    dir: PathBuf,
    state_dir: PathBuf,
    listen: String,
    place: Place,
    environment: Vec<(String, String)>,
    agents: BTreeMap<String, Running>,
    up: Option<Running>,
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
    /// Starts database, server and two workers with short leases on this machine.
    #[must_use]
    pub fn start(name: &str, environment: &[(&str, &str)]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map(|address| address.port());
        let listen = format!("127.0.0.1:{}", port.unwrap_or_else(|error| panic!("no free port: {error}")));
        let dir = scratch(name);
        Self::start_at(Place::here(), dir.join("state"), dir, listen, environment)
    }

    /// Starts them at a place. `dir` is for logs and the tests' own files and is removed in the end.
    #[must_use]
    pub fn start_at(place: Place, state_dir: PathBuf, dir: PathBuf, listen: String, environment: &[(&str, &str)]) -> Self {
        let environment = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut product = Self { dir, state_dir, listen, place, environment, agents: BTreeMap::new(), up: None };
        product.start_again();
        product
    }

    /// Starts database, server and workers after [`stop`](Self::stop).
    pub fn start_again(&mut self) {
        let mut command = self.place.command(&program("switchback"));
        command.args(["up", "--listen", &self.listen, "--workers", "2", "--lease-seconds", "3", "--state-dir"]).arg(&self.state_dir);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        let mut up = Running::start(command, &self.dir.join("up.log"));
        wait_until("the server answers", || {
            let ended = up.ended();
            assert!(ended.is_none(), "`up` has ended ({ended:?}):\n{}", self.log());
            (self.say(&["-o", "json", "get", "items"]).code == 0).then_some(())
        });
        self.up = Some(up);
    }

    /// Stops database, server and workers. Agents go on.
    pub fn stop(&mut self) {
        if let Some(mut up) = self.up.take() {
            up.end();
        }
    }

    /// What the processes of `up` said so far.
    #[must_use]
    pub fn log(&self) -> String {
        let mut paths = vec![self.dir.join("up.log")];
        let logs = fs::read_dir(self.state_dir.join("log")).into_iter().flatten().flatten();
        paths.extend(logs.map(|entry| entry.path()));
        paths.iter().map(|path| fs::read_to_string(path).unwrap_or_default()).collect()
    }

    /// Directory of the server's state.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.state_dir.clone()
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
        command.env("SWITCHBACK_STATE_DIR", &self.state_dir).env_remove("SWITCHBACK_SERVER").envs(environment.iter().copied());
        Said::by(command.args(words))
    }

    /// Runs a command that must succeed; its JSON answer.
    #[must_use]
    pub fn ask(&self, words: &[&str]) -> Value {
        let said = self.say(&[&["-o", "json"], words].concat());
        assert_eq!(said.code, 0, "switchback {words:?}: {said:?}");
        said.json()
    }

    /// Runs a command that may say that something is not as it should be, or that there is no answer yet: null then.
    #[must_use]
    pub fn ask_any(&self, words: &[&str]) -> Value {
        let said = self.say(&[&["-o", "json"], words].concat());
        serde_json::from_str(&said.out).unwrap_or(Value::Null)
    }

    /// Begins an operation; its run.
    #[must_use]
    pub fn begin(&self, words: &[&str]) -> String {
        let answer = self.ask(words);
        answer["run"].as_str().unwrap_or_else(|| panic!("no run in {answer}")).to_owned()
    }

    /// The points of an item, by number.
    #[must_use]
    pub fn points(&self, item: &str) -> BTreeMap<u64, Value> {
        let answer = self.ask(&["points", item]);
        let points = answer["items"].as_array().into_iter().flatten().map(|listed| listed["point"].clone());
        points.map(|point| (point["id"].as_u64().unwrap_or_else(|| panic!("no number in {point}")), point)).collect()
    }

    /// Events of a run.
    #[must_use]
    pub fn events(&self, run: &str) -> Vec<Value> {
        let history = self.ask(&["history", run]);
        history["events"].as_array().unwrap_or_else(|| panic!("no events in {history}")).clone()
    }

    /// The main state of an item, in words.
    #[must_use]
    pub fn item_state(&self, item: &str) -> String {
        let item = self.ask(&["get", "item", item]);
        item["state"].as_str().unwrap_or_else(|| panic!("no state in {item}")).to_owned()
    }

    /// Waits until an event of a run mentions `what`; the events so far.
    #[must_use]
    pub fn seen(&self, run: &str, what: &str) -> Vec<Value> {
        wait_until(&format!("{what} stands in the history"), || {
            let said = self.say(&["-o", "json", "history", run]);
            let events = (said.code == 0).then(|| said.json()["events"].as_array().cloned())??;
            events.iter().any(|event| event["body"].to_string().contains(what)).then_some(events)
        })
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

    /// Enrolls an agent for a site, from that place, with an identity in `dir`.
    pub fn enroll(&self, place: &Place, name: &str, site: &str, dir: &Path) {
        let token = self.ask(&["agent", "token", "--site", site]);
        let text = |key: &str| token[key].as_str().unwrap_or_else(|| panic!("no {key} in {token}")).to_owned();
        let mut command = place.command(&program("switchback-agent"));
        command.args(["enroll", "--server", &format!("https://{}", self.listen), "--ca-sha256", &text("ca_sha256"), "--token", &text("token")]);
        command.args(["--name", name]).arg("--state-dir").arg(dir);
        let said = Said::by(&mut command);
        assert_eq!(said.code, 0, "enrolling: {said:?}");
    }

    /// Starts an agent process and waits until the agents of these names are connected.
    pub fn run_agent(&mut self, name: &str, command: Command, connected: &[&str]) {
        let mut running = Running::start(command, &self.dir.join(format!("agent-{name}.log")));
        wait_until(&format!("agents {connected:?} are connected"), || {
            let ended = running.ended();
            assert!(ended.is_none(), "the agent has ended ({ended:?}):\n{}", running.log());
            connected.iter().all(|name| self.is_connected(name)).then_some(())
        });
        self.agents.insert(name.to_owned(), running);
    }

    /// Whether an agent has a lease.
    #[must_use]
    pub fn is_connected(&self, agent: &str) -> bool {
        let agents = self.ask(&["agent", "list"]);
        agents["items"].as_array().into_iter().flatten().any(|listed| listed["name"] == *agent && listed["connected"] == true)
    }

    /// A running agent process.
    #[must_use]
    pub fn agent(&self, name: &str) -> &Running {
        self.agents.get(name).unwrap_or_else(|| panic!("no agent {name} was started"))
    }

    /// Kills an agent process, as a power failure does.
    pub fn kill_agent(&mut self, name: &str) {
        crate::place::signal(self.agent(name).pid(), "KILL");
        self.agents.remove(name);
    }

    /// Ends an agent process.
    pub fn end_agent(&mut self, name: &str) {
        self.agents.remove(name);
    }

    /// Enrolls sites `a` and `b`, hosts them in one simulated world with a machine `db9` at `a`, and waits for both.
    pub fn host_simulated_sites(&mut self, environment: &[(&str, &str)]) {
        let mut command = Command::new(program("switchback-agent"));
        command.arg("run").arg("--simulated").args(["--lease-seconds", "3"]).arg("--control").arg(self.control());
        for site in ["a", "b"] {
            self.enroll(&Place::here(), &format!("{site}-agent"), site, &self.dir.join(site));
            command.arg("--state-dir").arg(self.dir.join(site));
        }
        command.envs(environment.iter().copied());
        self.run_agent("simulated", command, &["a-agent", "b-agent"]);
        self.world(json!({ "do": "add-machine", "site": "a", "machine": "db9", "blocks": 64 }));
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
        let text = fs::read_to_string(self.state_dir.join("run").join(format!("{name}.pid"))).ok()?;
        text.split_whitespace().next()?.parse().ok()
    }

    /// Name of the worker process (`worker-N`) that writes events under this id.
    #[must_use]
    pub fn worker_named(&self, id: &str) -> Option<String> {
        let entries = fs::read_dir(self.state_dir.join("run")).ok()?;
        let mut names = entries.flatten().filter(|entry| fs::read_to_string(entry.path()).unwrap_or_default().contains(id));
        Some(names.next()?.path().file_stem()?.to_string_lossy().into_owned())
    }

    /// Process of the worker that wrote the newest of these events.
    #[must_use]
    pub fn owner(&self, events: &[Value]) -> i32 {
        let worker = events.last().and_then(|event| event["worker"].as_str()).unwrap_or_else(|| panic!("nobody wrote {events:?}"));
        let named = self.worker_named(worker).and_then(|name| self.pid(&name));
        named.unwrap_or_else(|| panic!("no process says that it is worker {worker}"))
    }

}

impl Drop for Product {
    fn drop(&mut self) {
        if std::thread::panicking() {
            [&self.dir, &self.state_dir.join("log")].into_iter().for_each(|dir| show_logs(dir));
        }
        self.agents.clear();
        self.stop();
        drop(fs::remove_dir_all(&self.dir));
    }
}
