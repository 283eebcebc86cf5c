//! `cargo xtask demo`: a real machine fails over while its orchestrator is being killed, and comes home again.
//!
//!   stage ─▶ protect ─▶ test failover ─▶ the site dies ─▶ failover (worker killed, Postgres restarted) ─▶ change point ─▶ commit
//!         ─▶ the site returns, old machine quarantined ─▶ reprotect ─▶ failback ─▶ commit ─▶ reprotect: as at the start ─▶ report
//!
//! Invariants: 1. The product is used by its command line alone, and judged by what others saw. 2. Whatever ends the demo,
//! nothing of it is left: its lab has a watcher. 3. A claim that does not hold fails the demo.

mod acts;
mod clock;
mod history;
mod ledger;
mod outside;
mod product;
mod report;
mod run;
mod simulated;
mod stage;
mod voice;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::args::Args;
use crate::lab;
use crate::setup::{self, Scope};
use clock::Moment;
use outside::Witness;
use stage::Stage;
use voice::Voice;

pub(crate) const USAGE: &str = "\
cargo xtask demo [--yes] [--keep]
    Two libvirt sites, one machine; its site dies, the orchestrator is killed in the middle of the failover, the machine
    runs at the other site, and comes home again without losing a byte. Needs root and QEMU. --keep leaves everything running for a look around.
cargo xtask demo --simulated [--yes]
    The same with sites that exist in memory only. Needs neither.";

/// Postgres' user must be able to pass, which it could not below /root; QEMU wants direct I/O, which not every /tmp has.
const BASE: &str = "/var/tmp";

pub(crate) fn command(mut args: Args) -> Result<()> {
    let (yes, keep, simulated) = (args.flag("--yes"), args.flag("--keep"), args.flag("--simulated"));
    args.finish()?;
    ensure!(!(keep && simulated), "--keep is for real sites; simulated ones are gone with their agent");
    if !simulated {
        require_root()?;
    }
    setup::run(if simulated { Scope::Simulated } else { Scope::Real }, yes)?;
    let start = Moment::now();
    println!("Building the programs (the first time, this is most of the waiting)");
    product::build()?;
    let mut voice = Voice::new();
    let dir = PathBuf::from(BASE).join(format!("switchback-demo-{}", std::process::id()));
    clean_up_on_signal(&dir)?;
    let outcome = if simulated {
        simulated::play(&dir, &mut voice)
    } else {
        let owner = (!keep).then(std::process::id); // what is kept must outlive us
        play(&dir, owner, &mut voice)
    };
    if outcome.is_ok() && keep {
        look_around(&dir);
        return Ok(());
    }
    keep_logs_of_a_failure(&dir, outcome.is_err())?;
    clean_up(&dir).context("cannot clean up")?;
    outcome?;
    ensure!(!dir.exists(), "{} is still there", dir.display());
    println!("\nNothing is left of it. The demo took {:.0} s.", report::seconds_since(start));
    Ok(())
}

fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    for lack in setup::missing(Scope::Real)? {
        eprintln!("missing: {lack}");
    }
    bail!("the demo needs root (network namespaces, mounts, a libvirt system daemon of its own); `cargo xtask demo --simulated` does not")
}

fn play(dir: &Path, owner: Option<u32>, voice: &mut Voice) -> Result<()> {
    voice.act("Two sites, an orchestrator between them, a machine at site A");
    let stage = Stage::set(dir, owner)?;
    voice.say("two libvirt daemons are up, each in network and mounts of its own");
    stage.start_orchestrator()?;
    voice.say("database, server and two workers are up; no site can see the database's socket");
    for site in &stage.lab.sites {
        stage.start_agent(site)?;
        voice.say(&format!("the agent of {} has enrolled and polls", site.name));
    }
    let witness = Witness::post(&stage.lab)?;
    let machine = stage.start_machine()?;
    voice.say(&format!("machine {} answers at {} in site A after {} ms of emulated boot", machine.name, machine.http, machine.boot_ms));
    acts::protect(&stage, voice)?;
    acts::rehearsal::test_failover(&stage, voice)?;
    let disaster = acts::disaster(&stage, voice)?;
    let mut failover = acts::failover(&stage, voice)?;
    acts::judge(&disaster, &failover, &witness)?;
    acts::rehearsal::change_point(&stage, voice)?;
    acts::commit(&stage, voice, &mut failover)?;
    acts::home::return_of_the_dead(&stage, voice)?;
    let home = acts::home::go(&stage, voice)?;
    acts::evidence::take_away(&stage.product, dir, &failover.run, voice)?;
    let cut = acts::Cut::find(&disaster, &failover)?;
    report::print(&disaster, &failover, &cut, &home, &witness.sightings()?);
    Ok(())
}

/// Ctrl-C and SIGTERM clean up before we go. SIGKILL can't, but the lab has a watcher, and simulated sites end with us.
fn clean_up_on_signal(dir: &Path) -> Result<()> {
    let dir = dir.to_owned();
    ctrlc::set_handler(move || {
        eprintln!("\nstopped; cleaning up");
        if let Err(error) = clean_up(&dir) {
            eprintln!("cannot clean up: {error:#}");
        }
        std::process::exit(130);
    })
    .context("cannot prepare for Ctrl-C")
}

/// Takes the lab down, if there is one, and removes what else there is.
fn clean_up(dir: &Path) -> Result<()> {
    lab::down(dir)?;
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    Ok(())
}

/// What the programs said is wanted when the demo failed, and is gone with the lab otherwise.
fn keep_logs_of_a_failure(dir: &Path, failed: bool) -> Result<()> {
    if !failed || !dir.is_dir() {
        return Ok(());
    }
    let kept = crate::paths::target().join("demo-logs");
    fs::create_dir_all(&kept)?;
    for entry in fs::read_dir(dir)?.chain(fs::read_dir(dir.join("hq/log")).into_iter().flatten()) {
        let path = entry?.path();
        if let Some(name) = path.file_name().filter(|_| path.extension().is_some_and(|end| end == "log")) {
            fs::copy(&path, kept.join(name))?;
        }
    }
    eprintln!("what the programs said is in {}", kept.display());
    Ok(())
}

fn look_around(dir: &Path) {
    let shown = dir.display();
    println!("\nEverything still runs:");
    println!("  {} --server unix:{shown}/hq/api.sock get items", product::switchback().display());
    println!("  cargo xtask lab exec --dir {shown} --site siteb -- virsh list");
    println!("  cargo xtask lab down --dir {shown}        takes it all away");
}
