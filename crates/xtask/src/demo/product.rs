//! The product, by its command line alone. Everything that the demo knows about its answers is in this file and `history`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::Pid;
use serde_json::Value;

use super::clock::Moment;
use super::history::History;
use crate::{paths, setup, sh};

/// The command line, pointed at one installation.
pub(crate) struct Product {
    state_dir: PathBuf,
}

/// A recovery point as the product lists it.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) id: u64,
    pub(crate) taken_at: Moment,
    pub(crate) bytes: u64,
}

/// What an agent needs to enrol once.
pub(crate) struct Enrolment {
    pub(crate) token: String,
    pub(crate) ca_sha256: String,
}

pub(crate) fn switchback() -> PathBuf {
    paths::target().join("debug/switchback")
}

pub(crate) fn switchback_agent() -> PathBuf {
    paths::target().join("debug/switchback-agent")
}

/// Builds the programs, on our terminal: the first time this is most of the waiting. Where libvirt's headers are missing the
/// agent is built without its hypervisor; where they are not, a build for simulated sites would only replace the better one.
pub(crate) fn build() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "-p", "switchback-cli", "-p", "switchback-agent", "--bins"]);
    if !setup::has_libvirt_headers()? {
        command.arg("--no-default-features");
    }
    sh::show(command.current_dir(paths::root())).context("cannot build the programs")
}

impl Product {
    pub(crate) fn at(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned() }
    }

    /// Runs a command for its effect.
    pub(crate) fn run(&self, args: &[&str]) -> Result<()> {
        sh::capture(&mut self.command(args)).map(drop)
    }

    /// Runs a command for its answer.
    pub(crate) fn ask(&self, args: &[&str]) -> Result<Value> {
        let said = sh::capture(self.command(&["-o", "json"]).args(args))?;
        serde_json::from_str(&said).with_context(|| format!("`switchback {}` answered no JSON: {said}", args.join(" ")))
    }

    /// Runs a command for its answer to people.
    pub(crate) fn tell(&self, args: &[&str]) -> Result<String> {
        sh::capture(&mut self.command(args))
    }

    /// The user behind the Unix socket is the caller, whose name goes into the events.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(switchback());
        command.arg("--server").arg(format!("unix:{}", self.state_dir.join("api.sock").display())).args(args);
        command.env_remove("SWITCHBACK_SERVER").env_remove("SWITCHBACK_TOKEN");
        command
    }

    pub(crate) fn agent_token(&self, site: &str) -> Result<Enrolment> {
        let answer = self.ask(&["agent", "token", "--site", site])?;
        let text = |key: &str| answer[key].as_str().map(str::to_owned).with_context(|| format!("no {key} in {answer}"));
        Ok(Enrolment { token: text("token")?, ca_sha256: text("ca_sha256")? })
    }

    pub(crate) fn points(&self, item: &str) -> Result<Vec<Point>> {
        listed(&self.ask(&["points", item])?)?.iter().map(|listed| Point::read(&listed["point"])).collect()
    }

    /// Points that can be chosen at one site.
    pub(crate) fn points_at(&self, item: &str, site: &str) -> Result<Vec<Point>> {
        let answer = self.ask(&["points", item])?;
        let here = listed(&answer)?.iter().filter(|listed| listed["site"] == site && listed["point"]["withdrawn"] != true);
        here.map(|listed| Point::read(&listed["point"])).collect()
    }

    /// Whether an agent has enrolled and holds a lease.
    pub(crate) fn agent_is_connected(&self, name: &str) -> Result<bool> {
        let agents = self.ask(&["agent", "list"])?;
        Ok(listed(&agents)?.iter().any(|agent| agent["name"] == name && agent["connected"] == true))
    }

    /// Asks for an operation and returns the run that carries it out.
    pub(crate) fn request(&self, args: &[&str]) -> Result<String> {
        let answer = self.ask(args)?;
        Ok(answer["run"].as_str().with_context(|| format!("no run in {answer}"))?.to_owned())
    }

    pub(crate) fn history(&self, run: &str) -> Result<History> {
        History::read(&self.ask(&["history", run])?)
    }

    /// The process of a worker, by the id under which it writes events.
    pub(crate) fn worker_pid(&self, worker: &str) -> Result<Pid> {
        let run = self.state_dir.join("run");
        for entry in fs::read_dir(&run).with_context(|| format!("cannot list {}", run.display()))? {
            let path = entry?.path();
            let text = fs::read_to_string(&path).unwrap_or_default();
            if text.contains(worker) {
                return first_number(&text, &path);
            }
        }
        bail!("no process in {} has written down that it is worker {worker}", run.display())
    }

    pub(crate) fn database_pid(&self) -> Result<Pid> {
        let path = self.state_dir.join("run/database.pid");
        first_number(&fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?, &path)
    }
}

impl Point {
    fn read(value: &Value) -> Result<Self> {
        let at = value["taken_at"].as_str().context("a point without its time")?;
        Ok(Self {
            id: value["id"].as_u64().context("a point without its number")?,
            taken_at: Moment::parse(at)?,
            bytes: value["size_bytes"].as_u64().context("a point without its size")?,
        })
    }
}

fn listed(answer: &Value) -> Result<&Vec<Value>> {
    answer["items"].as_array().with_context(|| format!("no list in {answer}"))
}

fn first_number(text: &str, path: &Path) -> Result<Pid> {
    let number = text.split(|c: char| !c.is_ascii_digit()).find(|word| !word.is_empty());
    let number = number.and_then(|word| word.parse().ok()).and_then(Pid::from_raw);
    number.with_context(|| format!("{} holds no process id", path.display()))
}
