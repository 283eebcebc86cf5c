//! The way home: site A comes back, the machine is reprotected, moves back without loss, and is protected as at the start.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::demo::clock::Moment;
use crate::demo::ledger::{Ledger, Verified};
use crate::demo::outside;
use crate::demo::product::Point;
use crate::demo::stage::{MACHINE, MACHINE_IP, Stage};
use crate::demo::voice::Voice;
use crate::lab::{machine, net, wait};

const PATIENCE: Duration = Duration::from_secs(90);

/// What the way home cost.
pub(crate) struct Homecoming {
    pub(crate) back_bytes: u64,
    pub(crate) forth_bytes: u64,
    pub(crate) disk_bytes: u64,
    /// From the request of the failback until the machine answered at site A.
    pub(crate) down_s: f64,
    /// When the machine answered at home.
    pub(crate) home_at: Moment,
    pub(crate) verified: Verified,
}

/// Site A is back, and somebody there switches the old machine on.
pub(crate) fn return_of_the_dead(stage: &Stage, voice: &mut Voice) -> Result<()> {
    voice.act("Site A comes back, and somebody there switches the old machine on");
    let sitea = stage.lab.site("sitea")?;
    net::heal(&stage.lab, sitea)?;
    wait::until_true("the agent of site A", PATIENCE, || stage.product.agent_is_connected("agent-sitea"))?;
    machine::virsh(sitea, &["start", MACHINE])?;
    let started = Moment::now();
    voice.say("the cable is in again; `virsh start` at site A: now the machine would run twice");
    wait::until_true("the end of the old machine", PATIENCE, || Ok(!machine::is_running(sitea, MACHINE)?))?;
    let took = Moment::now().seconds_after(started);
    let old = wait::until("the item says so", PATIENCE, || {
        let view = stage.product.ask(&["get", "item", MACHINE])?;
        let old = view["old_machine"].as_str().context("no old machine")?.to_owned();
        ensure!(old == "quarantined", "the old machine is {old}");
        Ok(old)
    })?;
    voice.say(&format!("site A's agent learnt that the item runs elsewhere and ended it after {took:.1} s; the old machine is {old}"));
    Ok(())
}

/// The points at a site, as soon as its agent has reported some.
fn first_points(stage: &Stage, site: &str) -> Result<Vec<Point>> {
    wait::until(&format!("points at {site}"), PATIENCE, || {
        let points = stage.product.points_at(MACHINE, site)?;
        ensure!(!points.is_empty(), "none is reported yet");
        Ok(points)
    })
}

/// Reprotects and fails back; judges that nothing was lost on the way.
pub(crate) fn go(stage: &Stage, voice: &mut Voice) -> Result<Homecoming> {
    voice.act("Reprotect: replicate back, onto the old machine's disk");
    let siteb = Ledger::at(&stage.lab, "siteb", MACHINE_IP)?;
    siteb.append(11)?;
    stage.product.run(&["reprotect", MACHINE, "--wait"])?;
    let first = first_points(stage, "sitea")?.into_iter().min_by_key(|point| point.id).context("no point at site A")?;
    let view = stage.product.ask(&["get", "item", MACHINE])?;
    let disk_bytes = view["record"]["disks"][0]["size_bytes"].as_u64().context("no disk")?;
    voice.say(&format!("point {} at site A took {} KiB over the line, of a disk of {} MiB", first.id, first.bytes / 1024, disk_bytes >> 20));

    voice.act("Fail back: shut down, send the rest, start at home");
    let before = siteb.status()?;
    let asked = Moment::now();
    let failed_back = stage.product.ask(&["failback", MACHINE, "--shut-down-timeout", "60s", "--wait"])?;
    ensure!(failed_back["output"]["serves"] == true, "the machine does not serve: {}", failed_back["output"]["evidence"]);
    let sitea = Ledger::at(&stage.lab, "sitea", MACHINE_IP)?;
    let home_at = Moment::now();
    let (status, verified) = (sitea.status()?, sitea.verify()?);
    ensure!(verified.bad == 0, "{} bad records after the failback", verified.bad);
    ensure!(status.found >= before.records, "site B had {} records, the machine found {} at home", before.records, status.found);
    voice.say(&format!("it answers at site A; it found {} records at its start, none is lost, 0 bad", status.found));
    let chosen = failed_back["output"]["point"].as_u64().context("no point")?;
    outside::same_disks(stage, MACHINE, chosen)?;
    voice.say("qemu-img compare of what site B wrote last and what site A started from: identical");

    voice.act("Commit and reprotect: protected again, as at the start");
    stage.product.run(&["commit", MACHINE, "--wait"])?;
    stage.product.run(&["reprotect", MACHINE, "--wait"])?;
    let view = stage.product.ask(&["get", "item", MACHINE])?;
    ensure!(view["state"] == "protected" && view["record"]["state"]["direction"] == "forward", "the item is {}", view["state"]);
    let points = first_points(stage, "siteb")?;
    let newest = points.iter().map(|point| point.id).max().context("no point at site B")?;
    wait::until_true("another point at site B", PATIENCE, || {
        Ok(stage.product.points_at(MACHINE, "siteb")?.iter().any(|point| point.id > newest))
    })?;
    let verified = sitea.verify()?;
    ensure!(verified.bad == 0, "{} bad records at the end", verified.bad);
    voice.say(&format!("points arrive at site B again; {} records at home, 0 bad", verified.records));
    let forth_bytes = points.iter().min_by_key(|point| point.id).map_or(0, |point| point.bytes);
    let compared = stage.product.ask(&["verify"])?;
    ensure!(compared["differences"] == serde_json::json!([]), "record and histories differ: {compared}");
    Ok(Homecoming { back_bytes: first.bytes, forth_bytes, disk_bytes, down_s: home_at.seconds_after(asked), home_at, verified })
}
