//! The machine that an item was failed over from: made sure to be off before anything is laid upon its disks, or started in its place.

use std::time::Duration;

use recovery::{Fact, OldMachine};
use sdk::{CallError, Failure, TimeoutKind};

use crate::{declared::FenceMachine, site_queue, tracked::Tracked};

/// How long the agent beside it may take to pick the question up.
const PICK_UP: Duration = Duration::from_secs(60);

/// Ends the old machine at the site where the item does not run, if it does run there, and keeps it from starting.
pub(crate) async fn off(item: &mut Tracked) -> Result<(), Failure> {
    let record = item.record()?;
    let (site, machine) = (record.other_site().clone(), record.machine.clone());
    let fence = FenceMachine { item: item.name.clone(), machine: machine.clone() };
    match item.ctx.call(site_queue(&site), &fence).queue_timeout(PICK_UP).await {
        Ok(_) => item.note(Fact::OldMachineIs { old_machine: OldMachine::Off }),
        // It was deleted, or an earlier failback has retired it.
        Err(CallError::App(why)) if why.code == "no-such-machine" => item.note(Fact::OldMachineIs { old_machine: OldMachine::None }),
        Err(CallError::Timeout(TimeoutKind::Queue)) => Err(Failure::fatal(
            "old-site-not-reached",
            format!("nobody at site {site} answers, so the old machine {machine} can't be shown to be off; nothing has changed. Repeat when the site is back"),
        )
        .not_applied()),
        Err(other) => Err(other.into()),
    }
}
