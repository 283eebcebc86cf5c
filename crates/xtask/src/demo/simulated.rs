//! The demo without machines: the same programs, workflows, database and killer, on sites that exist in an agent's memory.
//!
//! Needs neither root nor QEMU. The simulated world counts what was done to it, which is the ledger at the end.

mod acts;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::product::{self, Product};
use crate::lab::wait;

pub(super) use acts::play;

const ITEM: &str = "db9";
const SITES: [&str; 2] = ["sitea", "siteb"];
const PATIENCE: Duration = Duration::from_secs(60);

/// The programs, stopped in order when this is dropped; by the kernel when we are killed.
pub(super) struct Simulation {
    dir: PathBuf,
    pub(super) product: Product,
    running: Vec<Child>,
}

impl Simulation {
    pub(super) fn start(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let state = dir.join("hq");
        let mut simulation = Self { dir: dir.to_owned(), product: Product::at(&state), running: Vec::new() };
        // Free now; nobody else on this machine is after it.
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let state = state.display().to_string();
        let args = ["up", "--state-dir", &state, "--listen", &listen, "--workers", "2", "--lease-seconds", "3"];
        simulation.spawn("orchestrator", &product::switchback(), &args)?;
        wait::until("the orchestrator", PATIENCE, || simulation.product.ask(&["agent", "list"]))?;
        let mut dirs = Vec::new();
        for site in SITES {
            let enrolment = simulation.product.agent_token(site)?;
            let state = simulation.dir.join(format!("agent-{site}")).display().to_string();
            let mut enroll = Command::new(product::switchback_agent());
            enroll.args(["enroll", "--server", &format!("https://{listen}"), "--ca-sha256", &enrolment.ca_sha256]);
            enroll.args(["--token", &enrolment.token, "--name", &format!("agent-{site}"), "--state-dir", &state]);
            crate::sh::capture(&mut enroll)?;
            dirs.push(state);
        }
        let control = simulation.socket().display().to_string();
        let args = ["run", "--simulated", "--control", &control, "--state-dir", &dirs[0], "--state-dir", &dirs[1]];
        simulation.spawn("agents", &product::switchback_agent(), &args)?;
        for site in SITES {
            let name = format!("agent-{site}");
            wait::until_true(&name, PATIENCE, || simulation.product.agent_is_connected(&name))?;
        }
        Ok(simulation)
    }

    /// Starts a program that gets SIGTERM when we end, however that happens.
    fn spawn(&mut self, name: &str, program: &Path, args: &[&str]) -> Result<()> {
        let out = File::create(self.dir.join(format!("{name}.log")))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(program).args(args);
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).process_group(0);
        self.running.push(command.spawn().with_context(|| format!("cannot start {}", program.display()))?);
        Ok(())
    }

    /// Stops the programs, agents first, and removes their directory.
    pub(super) fn stop(&mut self) -> Result<()> {
        while let Some(mut child) = self.running.pop() {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a child without a process id")?;
            if child.try_wait()?.is_none() {
                kill_process(pid, Signal::TERM)?;
            }
            wait::until_true("the end of a program", PATIENCE, || Ok(child.try_wait()?.is_some()))?;
        }
        Ok(())
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("world.sock")
    }

    /// Tells the simulated world something, and returns its answer.
    pub(super) fn control(&self, order: &Value) -> Result<Value> {
        let mut stream = UnixStream::connect(self.socket()).context("the simulated world does not listen")?;
        writeln!(stream, "{order}")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line).with_context(|| format!("{order}: {line:?}"))?;
        match answer.get("error") {
            Some(error) => bail!("{order}: {error}"),
            None => Ok(answer),
        }
    }

    /// Lets the machine at a site write records `from` to `to`.
    pub(super) fn write(&self, site: &str, from: u64, to: u64) -> Result<u64> {
        for record in from..=to {
            let order = json!({ "do": "write", "site": site, "machine": ITEM, "block": record, "content": record });
            ensure!(self.control(&order)?["ok"] == true, "the machine at {site} took no write");
        }
        Ok(to)
    }

    /// How many records the machine at a site has, from the first on; a record behind a gap is an error.
    pub(super) fn kept(&self, site: &str, written: u64) -> Result<u64> {
        let mut kept = 0;
        for record in 1..=written {
            let order = json!({ "do": "read", "site": site, "machine": ITEM, "block": record });
            if self.control(&order)?["content"] == record {
                ensure!(kept + 1 == record, "record {record} is there, record {} is not", kept + 1);
                kept = record;
            }
        }
        Ok(kept)
    }

    /// What exists of ours at a site, by kind and name. Points come and go.
    pub(super) fn objects(&self, site: &str) -> Result<Vec<String>> {
        let answer = self.control(&json!({ "do": "inventory", "site": site }))?;
        let objects = answer["inventory"]["objects"].as_array().into_iter().flatten();
        Ok(objects.filter(|object| object["kind"] != "point_file").map(|object| format!("{} {}", object["kind"], object["name"])).collect())
    }

    /// What the world counted; an effect that was applied twice fails the demo.
    pub(super) fn ledger(&self) -> Result<()> {
        let answer = self.control(&json!({ "do": "ledger" }))?;
        println!("\nSeen from outside: what was done to the simulated world");
        for entry in answer["ledger"].as_array().into_iter().flatten() {
            let (effect, counts) = (&entry["effect"], &entry["counts"]);
            let applied = counts["applied"].as_u64().unwrap_or(0);
            if applied > 0 {
                let point = effect["point"].as_u64().map(|point| format!(" point {point}")).unwrap_or_default();
                let line = format!("{} {}{point}: applied {applied}, repeated {}", effect["site"], effect["op"], counts["repeats"]);
                println!("  {}", line.replace('"', ""));
            }
        }
        let twice = answer["applied_more_than_once"].as_array().map_or(0, Vec::len);
        ensure!(twice == 0, "{twice} effects were applied more than once");
        Ok(())
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("cannot stop the programs: {error:#}");
        }
    }
}
