//! Sets the stage: a lab, the orchestrator in the network between the sites, an agent inside each site, one machine.
//!
//! Everything that is started lives in one of the lab's network namespaces, so the lab's own teardown finds all of it, and
//! the lab's watcher does so even after a SIGKILL of the demo.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::product::{self, Product};
use crate::lab::machine::{self, Machine, Wish};
use crate::lab::{self, Lab, Site, wait};

pub(crate) const MACHINE: &str = "db9";
pub(crate) const MACHINE_CIDR: &str = "10.1.0.19/24";
pub(crate) const MACHINE_IP: &str = "10.1.0.19";
/// Between two records of the ledger.
const TICK_MS: u32 = 100;

const API_PORT: u16 = 7443;
const STREAM_PORT: u16 = 7444;
/// More than one, so that a killed worker's run is taken over by another one.
const WORKERS: &str = "2";
/// How soon the others may notice that a worker died.
const LEASE_S: &str = "3";
const START_PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Stage {
    pub(crate) lab: Lab,
    pub(crate) product: Product,
}

impl Stage {
    /// Builds the lab. With an owner it goes when that process ends, in whatever way.
    pub(crate) fn set(dir: &Path, owner: Option<u32>) -> Result<Self> {
        let lab = lab::up(dir, 2, owner)?;
        let product = Product::at(&lab.hq);
        Ok(Self { lab, product })
    }

    /// Database, server and workers, between the sites.
    pub(crate) fn start_orchestrator(&self) -> Result<()> {
        let listen = format!("{}:{API_PORT}", self.lab.wan.ip);
        let state = self.lab.hq.display().to_string();
        let args = ["up", "--state-dir", &state, "--listen", &listen, "--workers", WORKERS, "--lease-seconds", LEASE_S];
        self.start("wan", &product::switchback(), &args, &self.log("orchestrator"))?;
        wait::until("the orchestrator", START_PATIENCE, || self.product.ask(&["agent", "list"]))
            .with_context(|| self.said("orchestrator"))?;
        Ok(())
    }

    /// Enrols an agent over the network with a one-time token, and starts it.
    pub(crate) fn start_agent(&self, site: &Site) -> Result<()> {
        let enrolment = self.product.agent_token(&site.name)?;
        let server = format!("https://{}:{API_PORT}", self.lab.wan.ip);
        let (state, storage) = (site.agent.display().to_string(), site.storage.display().to_string());
        let name = format!("agent-{}", site.name);
        let mut enroll = self.inside(&site.name, &product::switchback_agent())?;
        enroll.args(["enroll", "--server", &server, "--ca-sha256", &enrolment.ca_sha256, "--token", &enrolment.token]);
        enroll.args(["--name", &name, "--state-dir", &state]);
        crate::sh::capture(&mut enroll).with_context(|| format!("cannot enrol the agent of {}", site.name))?;
        let data = format!("{}:{STREAM_PORT}", site.ip);
        let args =
            ["run", "--state-dir", &state, "--libvirt", &site.uri_inside, "--storage", &storage, "--data-listen", &data];
        self.start(&site.name, &product::switchback_agent(), &args, &self.log(&name))?;
        wait::until_true(&format!("the agent of {}", site.name), START_PATIENCE, || self.product.agent_is_connected(&name))
            .with_context(|| self.said(&name))
    }

    pub(crate) fn start_machine(&self) -> Result<Machine> {
        let wish = Wish { name: MACHINE, cidr: MACHINE_CIDR, tick_ms: TICK_MS, append: "" };
        machine::start(&self.lab, self.lab.site("sitea")?, &wish)
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.lab.dir.join(format!("{name}.log"))
    }

    /// The end of a log, for an error.
    fn said(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.log(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("{name} said:\n{}", lines[lines.len().saturating_sub(15)..].join("\n"))
    }

    fn inside(&self, place: &str, program: &Path) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["lab", "exec", "--site", place, "--dir"]).arg(&self.lab.dir).arg("--").arg(program);
        Ok(command)
    }

    fn start(&self, place: &str, program: &Path, args: &[&str], log: &Path) -> Result<()> {
        use std::os::unix::process::CommandExt;
        let out = File::create(log)?;
        let mut command = self.inside(place, program)?;
        command.args(args).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        // Ctrl-C is for the demo, which then takes the lab down in order.
        command.process_group(0).spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(())
    }
}
