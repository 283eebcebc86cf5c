//! Simulated sites in one process: for trying things out and for demonstrations without a hypervisor.
//!
//! A control socket takes one JSON command a line and answers with one line. Time moves as on the wall; replication takes a
//! point each second.

use std::{os::unix::fs::FileTypeExt, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use chrono::Utc;
use provider::{
    Compute,
    sim::{Clock, SimWorld},
};
use recovery::{ItemName, SiteName};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::watch,
};

use crate::{arguments::Run, identity::Identity, served::Served};

/// What the control socket takes.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
enum Control {
    /// Puts a running machine with one empty disk at a site.
    AddMachine {
        site: SiteName,
        machine: String,
        blocks: u64,
        /// Of its disk.
        #[serde(default = "qcow2")]
        format: String,
    },
    /// Writes a block in a source machine.
    Write { site: SiteName, machine: String, block: u64, content: u64 },
    /// Reads a block of a recovered machine.
    ReadRecovered { site: SiteName, item: ItemName, block: u64 },
    /// Reads a block of whatever machine of that name a site has.
    Read { site: SiteName, machine: String, block: u64 },
    /// Whether a machine runs at a site.
    Power { site: SiteName, machine: String },
    /// Starts a machine, as a person at its site does.
    PowerOn { site: SiteName, machine: String },
    /// Ends a machine without warning.
    PowerOff { site: SiteName, machine: String },
    /// Lets a guest ignore that it is to shut down.
    IgnoreShutDown { site: SiteName, machine: String, ignores: bool },
    /// Lets a guest refuse to be frozen.
    RefuseFreeze { site: SiteName, machine: String, refuses: bool },
    /// Lets a guest answer no check that is asked in it, and a test copy none at all.
    RefuseService { site: SiteName, machine: String, refuses: bool },
    /// Takes a site away or brings it back.
    SiteDown { site: SiteName, down: bool },
    /// What was really done, by effect.
    Ledger {},
    /// What exists of ours at a site.
    Inventory { site: SiteName },
}

fn qcow2() -> String {
    "qcow2".into()
}

pub(crate) fn open(arguments: &Run, stop: watch::Receiver<bool>) -> Result<Vec<Served>> {
    let world = SimWorld::new(Clock::new(Utc::now));
    let mut served = Vec::new();
    for dir in &arguments.state_dir {
        let identity = Identity::load(dir)?;
        let site = Arc::new(world.site(&identity.site));
        let actions = Arc::new(world.actions(&identity.site));
        served.push(Served { identity, state_dir: dir.clone(), site, actions, data_address: None });
    }
    tokio::spawn(replicate(world.clone(), stop.clone()));
    if let Some(path) = &arguments.control {
        // One that was killed has left its socket, at which nobody answers.
        let left = std::fs::symlink_metadata(path).is_ok_and(|what| what.file_type().is_socket());
        if left && std::os::unix::net::UnixStream::connect(path).is_err() {
            std::fs::remove_file(path).with_context(|| format!("removing the old {}", path.display()))?;
        }
        let listener = UnixListener::bind(path).with_context(|| format!("listening at {}", path.display()))?;
        tokio::spawn(control(listener, world, stop, path.clone()));
    }
    Ok(served)
}

async fn replicate(world: SimWorld, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        world.replicate_all();
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            _ = stop.changed() => {}
        }
    }
}

async fn control(listener: UnixListener, world: SimWorld, mut stop: watch::Receiver<bool>, path: impl AsRef<Path>) {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(tokio::spawn(converse(stream, world.clone()))),
                Err(error) => tracing::warn!(%error, "the control socket refused a caller"),
            },
            _ = stop.changed() => break,
        }
    }
    if let Err(error) = std::fs::remove_file(path) {
        tracing::debug!(%error, "the control socket was not removed");
    }
}

async fn converse(stream: UnixStream, world: SimWorld) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match serde_json::from_str::<Control>(&line) {
            Ok(control) => answer(control, &world).await,
            Err(error) => json!({ "error": error.to_string() }),
        };
        if write.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn answer(control: Control, world: &SimWorld) -> Value {
    match control {
        Control::AddMachine { site, machine, blocks, format } => {
            world.add_machine(&site, &machine, &[("vda", blocks * provider::sim::BLOCK_BYTES, &format)]);
            json!({ "ok": true })
        }
        Control::Write { site, machine, block, content } => json!({ "ok": world.write(&site, &machine, "vda", block, content) }),
        Control::ReadRecovered { site, item, block } => json!({ "content": world.read_recovered(&site, &item, "vda", block) }),
        Control::Read { site, machine, block } => json!({ "content": world.read(&site, &machine, "vda", block) }),
        Control::Power { site, machine } => json!({ "power": world.machine(&site, &machine).map(|machine| machine.power) }),
        Control::PowerOff { site, machine } => {
            world.power_failure(&site, &machine);
            json!({ "ok": true })
        }
        Control::PowerOn { site, machine } => {
            world.power_on(&site, &machine);
            json!({ "ok": true })
        }
        Control::IgnoreShutDown { site, machine, ignores } => {
            world.ignore_shut_down(&site, &machine, ignores);
            json!({ "ok": true })
        }
        Control::RefuseFreeze { site, machine, refuses } => {
            world.refuse_freeze(&site, &machine, refuses);
            json!({ "ok": true })
        }
        Control::RefuseService { site, machine, refuses } => {
            world.refuse_service(&site, &machine, refuses);
            json!({ "ok": true })
        }
        Control::SiteDown { site, down } => {
            world.set_down(&site, down);
            json!({ "ok": true })
        }
        Control::Ledger {} => {
            let entries: Vec<Value> = world.ledger().iter().map(|(key, entry)| json!({ "effect": key, "counts": entry })).collect();
            json!({ "ledger": entries, "applied_more_than_once": world.ledger().applied_more_than_once() })
        }
        Control::Inventory { site } => match world.site(&site).inventory().await {
            Ok(inventory) => json!({ "inventory": inventory }),
            Err(error) => json!({ "error": error.to_string() }),
        },
    }
}
