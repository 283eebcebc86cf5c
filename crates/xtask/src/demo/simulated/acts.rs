//! The acts on simulated sites: the same circle, judged by the blocks that the machine holds.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{ITEM, PATIENCE, SITES, Simulation};
use crate::demo::acts::evidence;
use crate::demo::clock::Moment;
use crate::demo::voice::Voice;
use crate::demo::{report, run};
use crate::lab::wait;

/// Blocks of 64 KiB of the machine's disk. Record number N is block N.
const BLOCKS: u64 = 8192;
const REASON: &str = "site A is gone";

/// Plays the whole demo in `dir`, which is removed afterwards.
pub(in crate::demo) fn play(dir: &Path, voice: &mut Voice) -> Result<()> {
    voice.act("Two simulated sites and a real orchestrator");
    let mut simulation = Simulation::start(dir)?;
    voice.say("database, server, two workers and the agent of both sites are up");
    simulation.control(&json!({ "do": "add-machine", "site": SITES[0], "machine": ITEM, "blocks": BLOCKS }))?;
    let written = protect(&simulation, voice)?;
    rehearse(&simulation, voice)?;
    voice.act("The site dies");
    let product = &simulation.product;
    simulation.control(&json!({ "do": "site-down", "site": SITES[0], "down": true }))?;
    let death = Moment::now();
    voice.say(&format!("site A is away; {written} records had been written there"));
    voice.act("Fail over, while the orchestrator is being killed");
    let args = ["failover", ITEM, "--point", "latest-processed", "--accept-unfenced", "--reason", REASON];
    let requested_at = Moment::now();
    let run = product.request(&[&args[..], &["--fence-timeout", "5s"]].concat())?;
    let (killed, history) = run::survive(product, voice, &run)?;
    run::was_taken_over(&history)?;
    let kept = simulation.kept(SITES[1], written)?;
    voice.say(&format!("{kept} records are at site B without a gap, {} are lost", written - kept));
    ensure!(kept > 0, "no record has arrived at site B");
    let kept = change_point(&simulation, voice, written, kept)?;
    voice.act("Commit: the failover is accepted, its points go");
    product.run(&["commit", ITEM, "--wait"])?;
    ensure!(simulation.kept(SITES[1], written)? == kept, "the commit changed what the machine holds");
    go_home(&simulation, voice, kept)?;
    evidence::take_away(product, dir, &run, voice)?;
    report::timeline(death, &[(requested_at, "the failover is asked for")], &killed, &history);
    report::owners(&run, &history);
    simulation.ledger()?;
    simulation.stop()
}

/// Writes records and waits for points; returns how many records there are at the end, the last of them after the last point.
fn protect(simulation: &Simulation, voice: &mut Voice) -> Result<u64> {
    voice.act("Protect the machine");
    let product = &simulation.product;
    product.run(&["protect", ITEM, "--from", SITES[0], "--to", SITES[1], "--interval", "1s", "--wait"])?;
    let mut written = 0;
    let mut known = 0;
    for _ in 0..3 {
        written = simulation.write(SITES[0], written + 1, written + 5)?;
        let points = wait::until("another point", PATIENCE, || {
            let points = product.points(ITEM)?;
            points.iter().any(|point| point.id > known + 1).then_some(points).context("no new point yet")
        })?;
        for point in points.iter().filter(|point| point.id > known) {
            voice.say(&format!("point {:>2}: {:>8} KiB over the line", point.id, point.bytes / 1024));
        }
        known = points.iter().map(|point| point.id).max().unwrap_or(known);
    }
    simulation.write(SITES[0], written + 1, written + 3)
}

fn rehearse(simulation: &Simulation, voice: &mut Voice) -> Result<()> {
    voice.act("Rehearse: a test failover, beside production");
    let product = &simulation.product;
    let before = simulation.objects(SITES[1])?;
    let tested = product.ask(&["test-failover", ITEM, "--wait"])?;
    voice.say(&format!("a copy of point {} runs on a network of its own: {}", tested["output"]["point"], tested["output"]["isolation"]));
    product.run(&["clean-test-failover", ITEM, "--wait"])?;
    ensure!(simulation.objects(SITES[1])? == before, "the test has left something at site B");
    voice.say("cleaned up; what is at site B is what was there before");
    Ok(())
}

fn change_point(simulation: &Simulation, voice: &mut Voice, written: u64, kept: u64) -> Result<u64> {
    voice.act("Change the point: another look, one point earlier");
    let product = &simulation.product;
    let view = product.ask(&["get", "item", ITEM])?;
    let chosen = view["record"]["chosen"]["point"].as_u64().context("no chosen point")?;
    let mut earlier: Vec<u64> = product.points_at(ITEM, SITES[1])?.into_iter().map(|point| point.id).filter(|id| *id < chosen).collect();
    earlier.sort_unstable();
    // Far enough back that it holds less: a point may have come without news.
    let earlier = earlier[earlier.len().saturating_sub(3)..].first().context("there is no earlier point")?.to_string();
    product.run(&["change-point", ITEM, "--point", &earlier, "--discard-writes", "--wait"])?;
    let now = simulation.kept(SITES[1], written)?;
    ensure!(now <= kept, "an earlier point holds more");
    voice.say(&format!("from point {earlier}: {now} records instead of {kept}"));
    Ok(now)
}

fn go_home(simulation: &Simulation, voice: &mut Voice, kept: u64) -> Result<()> {
    let product = &simulation.product;
    voice.act("Site A comes back; its machine would start with its host");
    simulation.control(&json!({ "do": "site-down", "site": SITES[0], "down": false }))?;
    wait::until("the old machine to be quarantined", PATIENCE, || {
        let view = product.ask(&["get", "item", ITEM])?;
        ensure!(view["old_machine"] == "quarantined", "the old machine is {}", view["old_machine"]);
        Ok(())
    })?;
    let power = simulation.control(&json!({ "do": "power", "site": SITES[0], "machine": ITEM }))?;
    ensure!(power["power"] == "off", "the old machine is {power}");
    voice.say("the item says that its old machine is quarantined; it is off");

    voice.act("Reprotect, and fail back");
    product.run(&["reprotect", ITEM, "--wait"])?;
    let written = simulation.write(SITES[1], kept + 1, kept + 7)?;
    product.run(&["failback", ITEM, "--wait"])?;
    ensure!(simulation.kept(SITES[0], written)? == written, "records were lost on the way home");
    voice.say(&format!("home, with all {written} records"));

    voice.act("Commit and reprotect: protected again, as at the start");
    product.run(&["commit", ITEM, "--wait"])?;
    product.run(&["reprotect", ITEM, "--wait"])?;
    let view = product.ask(&["get", "item", ITEM])?;
    ensure!(view["state"] == "protected" && view["record"]["state"]["direction"] == "forward", "the item is {}", view["state"]);
    let compared = product.ask(&["verify"])?;
    ensure!(compared["differences"] == json!([]), "record and histories differ: {compared}");
    voice.say("points go to site B again");
    Ok(())
}
