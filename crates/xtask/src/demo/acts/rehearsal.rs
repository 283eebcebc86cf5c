//! A test failover in between: a copy of the machine on a network of its own, while production and replication go on.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::demo::ledger::Ledger;
use crate::demo::outside;
use crate::demo::stage::{MACHINE, MACHINE_IP, Stage};
use crate::demo::voice::Voice;

/// Runs the test, looks at it from outside, cleans it up, and compares what is there with what was there before.
pub(crate) fn test_failover(stage: &Stage, voice: &mut Voice) -> Result<()> {
    voice.act("Rehearse: a test failover, beside production, with production's own address");
    let siteb = stage.lab.site("siteb")?;
    let production = Ledger::at(&stage.lab, "sitea", MACHINE_IP)?;
    let networks = outside::links(siteb)?;
    let before = production.status()?;
    let tested = stage.product.ask(&["test-failover", MACHINE, "--wait"])?;
    let said = &tested["output"];
    ensure!(said["serves"] == true, "the copy does not serve: {}", said["evidence"]);
    voice.say(&format!("the copy from point {} answers on its own network: {}", said["point"], text(&said["evidence"])));
    voice.say(&format!("its network: {}", text(&said["isolation"])));
    let from_site = Ledger::at(&stage.lab, "siteb", MACHINE_IP)?.status();
    ensure!(from_site.is_err(), "the copy can be reached from site B's own network");
    voice.say("from site B's own network nobody answers at that address");
    stage.product.run(&["clean-test-failover", MACHINE, "--wait"])?;
    let left: Vec<String> = outside::links(siteb)?.difference(&networks).cloned().collect();
    ensure!(left.is_empty(), "the test has left network devices at site B: {left:?}");
    let files = outside::inventory(siteb)?;
    // What the agent remembers of calls that would come too late is no part of the copy.
    let of_a_copy = |path: &&PathBuf| path.components().any(|part| part.as_os_str() == "test") && !path.components().any(|part| part.as_os_str() == ".site");
    let left: Vec<_> = files.keys().filter(of_a_copy).collect();
    ensure!(left.is_empty(), "the test has left files at site B: {left:?}");
    let after = production.status()?;
    ensure!(after.boots == before.boots && after.records > before.records, "production noticed the test");
    voice.say(&format!("cleaned up, nothing is left; production went on meanwhile and wrote {} records", after.records - before.records));
    Ok(())
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// Recovers from an earlier point, before the commit, and checks that the ledger is shorter now.
pub(crate) fn change_point(stage: &Stage, voice: &mut Voice) -> Result<u64> {
    voice.act("Change the point: another look, one point earlier");
    let ledger = Ledger::at(&stage.lab, "siteb", MACHINE_IP)?;
    let before = ledger.status()?;
    let view = stage.product.ask(&["get", "item", MACHINE])?;
    let chosen = view["record"]["chosen"]["point"].as_u64().context("no chosen point")?;
    let earlier = stage.product.points_at(MACHINE, "siteb")?.into_iter().map(|point| point.id).filter(|id| *id < chosen).max();
    let earlier = earlier.context("there is no earlier point")?.to_string();
    let refused = stage.product.run(&["change-point", MACHINE, "--point", &earlier]);
    ensure!(refused.is_err(), "the machine would have been discarded without being asked");
    voice.say("without --discard-writes it is refused: what the machine has written at site B would be lost");
    let changed = stage.product.ask(&["change-point", MACHINE, "--point", &earlier, "--discard-writes", "--wait"])?;
    ensure!(changed["output"]["serves"] == true, "the machine does not serve: {}", changed["output"]["evidence"]);
    let (status, verified) = (ledger.status()?, ledger.verify()?);
    ensure!(verified.bad == 0, "{} bad records after the change of point", verified.bad);
    ensure!(status.found < before.found, "point {earlier} holds as much as point {chosen}");
    voice.say(&format!("from point {earlier}: {} records at its start instead of {}, 0 bad", status.found, before.found));
    Ok(status.found)
}
