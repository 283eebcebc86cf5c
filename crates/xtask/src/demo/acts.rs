//! The acts of the demo, each told while it happens.

pub(crate) mod evidence;
pub(crate) mod home;
pub(crate) mod rehearsal;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::clock::Moment;
use super::history::History;
use super::ledger::{Ledger, Status, Verified};
use super::outside::{self, Inventory, Witness};
use super::product::Point;
use super::run::{self, Killed};
use super::stage::{MACHINE, MACHINE_IP, Stage};
use super::voice::Voice;
use crate::lab::{machine, net, wait};

const POINTS: usize = 3;
const INTERVAL: &str = "3s";
const PATIENCE: Duration = Duration::from_secs(120);
/// How well the guest's clock and the agent's agree, emulation and one fsync included.
const CLOCKS_AGREE_S: f64 = 0.5;
const REASON: &str = "site A is lost; its machine was killed and its line is cut";

/// What was known when the source died.
pub(crate) struct Disaster {
    pub(crate) at: Moment,
    pub(crate) status: Status,
    /// When the newest records were written, by the guest's clock.
    pub(crate) written: BTreeMap<u64, Moment>,
    pub(crate) points: Vec<Point>,
}

/// What the failover was, seen from outside.
pub(crate) struct Failover {
    pub(crate) run: String,
    pub(crate) requested_at: Moment,
    pub(crate) killed: Vec<Killed>,
    pub(crate) history: History,
    pub(crate) answered_at: Moment,
    pub(crate) verified: Verified,
    pub(crate) status: Status,
    pub(crate) inventories: Vec<(&'static str, Inventory)>,
}

pub(crate) fn protect(stage: &Stage, voice: &mut Voice) -> Result<()> {
    voice.act("Protect the machine: first copy, then a point every few seconds");
    let check = format!("http://{MACHINE_IP}:8080/status");
    let args = ["protect", MACHINE, "--from", "sitea", "--to", "siteb", "--interval", INTERVAL, "--check", &check, "--wait"];
    stage.product.run(&args)?;
    voice.say("the item is protected; from now on the two agents replicate without asking anybody");
    let ledger = Ledger::at(&stage.lab, "sitea", MACHINE_IP)?;
    let mut known = 0;
    for round in 0_u32.. {
        let points = stage.product.points(MACHINE)?;
        for point in points.iter().filter(|point| point.id > known) {
            let age = Moment::now().seconds_after(point.taken_at);
            voice.say(&format!("point {:>2}: {:>8} KiB over the line, {age:.1} s old", point.id, point.bytes / 1024));
            let at = ledger.append(7)?;
            voice.progress(&format!("the guest has written {at} records"));
        }
        known = points.iter().map(|point| point.id).max().unwrap_or(known);
        if points.len() >= POINTS {
            break;
        }
        ledger.write("bulk", 1 + round % 3, round)?; // something to replicate
        wait::until("another point", PATIENCE, || {
            let latest = stage.product.points(MACHINE)?.iter().map(|point| point.id).max();
            latest.filter(|latest| *latest > known).context("no new point yet")
        })?;
    }
    Ok(())
}

/// Kills the machine, then cuts its site off.
pub(crate) fn disaster(stage: &Stage, voice: &mut Voice) -> Result<Disaster> {
    voice.act("The site dies");
    let site = stage.lab.site("sitea")?;
    let ledger = Ledger::at(&stage.lab, "sitea", MACHINE_IP)?;
    let points = stage.product.points(MACHINE)?;
    ledger.append(23)?; // so that something is certainly lost
    let status = ledger.status()?;
    // Far enough back that the newest point is among them, whatever arrives meanwhile.
    let written = ledger.times(status.records.saturating_sub(400).max(1))?;
    let pid = machine::kill(site, MACHINE)?;
    let at = Moment::now();
    net::cut(&stage.lab, site)?;
    voice.say(&format!("SIGKILL to QEMU (process {pid}); the site's cable is pulled"));
    voice.say(&format!("the guest had acknowledged {} records at least", status.records));
    Ok(Disaster { at, status, written, points })
}

/// Asks for the failover, kills the worker that carries it out and the database under it, and waits for the end.
pub(crate) fn failover(stage: &Stage, voice: &mut Voice) -> Result<Failover> {
    voice.act("Fail over, while the orchestrator is being killed");
    let siteb = stage.lab.site("siteb")?;
    let mut inventories = vec![("before the failover", outside::inventory(siteb)?)];
    let ledger = Ledger::at(&stage.lab, "siteb", MACHINE_IP)?;
    let first_answer = thread::spawn({
        let ledger = ledger.clone();
        move || ledger.first_answer(PATIENCE * 2)
    });
    let requested_at = Moment::now();
    let args = ["failover", MACHINE, "--point", "latest-processed", "--accept-unfenced", "--reason", REASON];
    let run = stage.product.request(&[&args[..], &["--fence-timeout", "5s"]].concat())?;
    voice.say(&format!("run {run}: asked for, with the name of whoever accepts that nobody can prove site A to be off"));
    let (killed, history) = run::survive(&stage.product, voice, &run)?;
    voice.act("Look at the machine at site B");
    let answered_at = first_answer.join().map_err(|_panic| anyhow!("the asking thread panicked"))??;
    let (verified, status) = (ledger.verify()?, ledger.status()?);
    voice.say(&format!("it answers; it found {} records at its start, boot number {} of this disk", status.found, status.boots));
    voice.say(&format!("reads the whole ledger back: {} records by now, {} bad", verified.records, verified.bad));
    inventories.push(("after the failover", outside::inventory(siteb)?));
    Ok(Failover { run, requested_at, killed, history, answered_at, verified, status, inventories })
}

/// Accepts the failover, and checks that the machine does not notice.
pub(crate) fn commit(stage: &Stage, voice: &mut Voice, failover: &mut Failover) -> Result<()> {
    voice.act("Commit: the failover is accepted, its points go");
    let ledger = Ledger::at(&stage.lab, "siteb", MACHINE_IP)?;
    let before = ledger.status()?;
    stage.product.run(&["commit", MACHINE, "--wait"])?;
    let (verified, status) = (ledger.verify()?, ledger.status()?);
    ensure!(verified.bad == 0, "{} bad records after the commit", verified.bad);
    ensure!(status.boots == before.boots, "the machine was started again by the commit");
    failover.inventories.push(("after the commit", outside::inventory(stage.lab.site("siteb")?)?));
    voice.say(&format!("committed; the machine went on meanwhile and has {} records, 0 bad", verified.records));
    Ok(())
}

/// What must be true of all this, or the demo has failed.
pub(crate) fn judge(disaster: &Disaster, failover: &Failover, witness: &Witness) -> Result<()> {
    let Verified { records, bad } = failover.verified;
    ensure!(bad == 0, "{bad} of {records} records are bad");
    run::was_taken_over(&failover.history)?;
    let started = format!("{MACHINE}: Started");
    let starts = witness.sightings()?.into_iter().filter(|seen| seen.site == "siteb" && seen.said.starts_with(&started));
    let starts = starts.count();
    ensure!(starts == 1, "libvirt of site B saw {starts} starts of the machine, expected one");
    let cut = Cut::find(disaster, failover)?;
    ensure!(cut.lost > 0, "nothing was lost, although records were written after the last point");
    ensure!(cut.last_kept_s < CLOCKS_AGREE_S, "a record from {:.2} s after the point was kept", cut.last_kept_s);
    ensure!(cut.first_lost_s > -CLOCKS_AGREE_S, "a record from {:.2} s before the point was lost", -cut.first_lost_s);
    Ok(())
}

/// Where the ledger was cut, against the point that was chosen.
pub(crate) struct Cut {
    pub(crate) kept: u64,
    /// At least: what the guest acknowledged between our last question and its death is not known.
    pub(crate) lost: u64,
    /// When the last kept record was written, seconds after the point (hence negative).
    pub(crate) last_kept_s: f64,
    /// When the first lost record was written, seconds after the point.
    pub(crate) first_lost_s: f64,
}

impl Cut {
    pub(crate) fn find(disaster: &Disaster, failover: &Failover) -> Result<Self> {
        let chosen = failover.history.fact("point_chosen").context("the history names no chosen point")?;
        let taken_at = chosen["chosen"]["taken_at"].as_str().context("the chosen point has no time")?;
        let taken_at = Moment::parse(taken_at)?;
        let kept = failover.status.found;
        let after = |record: u64| {
            let written = disaster.written.get(&record).with_context(|| format!("no time is known of record {record}"))?;
            Ok::<_, anyhow::Error>(Moment(written.0 - disaster.status.clock_ahead_ms).seconds_after(taken_at))
        };
        let lost = disaster.status.records.saturating_sub(kept);
        Ok(Self { kept, lost, last_kept_s: after(kept)?, first_lost_s: after(kept + 1)? })
    }
}
