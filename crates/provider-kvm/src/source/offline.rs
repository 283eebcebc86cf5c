//! The last point of a machine that is off: what the target lacks is read from its disks, which nothing else has open.
//!
//! Invariants: 1. Nothing is written to the disks: the bitmap that the point was made from stays, so the way back finds it.
//! 2. Only a mark that is whole on every disk is believed; else both sides compare. 3. The loop's thread has ended before, and
//! goes on if this fails. 4. That it succeeded is remembered with the disks' state: the same answer is given again only while
//! nobody has used the machine.

use std::{collections::BTreeMap, path::Path, sync::Arc, thread, time::Duration};

use chrono::Utc;
use provider::{Machine, Progress, ProgressSink, ProviderError, Replicate};
use recovery::{Consistency, PointId};

use super::{
    copy::{self, Disk, Reader},
    plan::{Plan, WayHome},
    record::FinalSync,
    worker::{Pace, Source, Tools},
};
use crate::{
    durable::{self, failed},
    inspect::inspect,
    nbd::Extent,
    qemu::{self, Access, Served},
    stream::{Commit, StreamError},
};

/// A line that breaks, or leads to an agent that was replaced, is tried again so often, waiting longer each time.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const DIRTY: u32 = 1;

/// Makes the last point of a machine that is off and ends its loop.
pub(crate) fn final_sync(source: &Source, sink: &Arc<dyn ProgressSink>) -> Result<PointId, ProviderError> {
    let (tools, wanted) = (source.tools(), source.wanted());
    if source.stopped() && source.final_sync().is_none() {
        return Err(ProviderError::NotReplicated { item: wanted.item });
    }
    let vm = tools.hypervisor.by_name(&wanted.machine)?;
    if vm.active()? {
        return Err(ProviderError::StillRunning { machine: wanted.machine, waited_ms: 0 });
    }
    let machine = inspect(&tools.hypervisor, &wanted.machine)?;
    let disks = stamps(&machine)?;
    if let Some(done) = source.final_sync().filter(|done| done.disks == disks) {
        return Ok(done.point);
    }
    source.rest();
    let synced = tries(source, &wanted, &machine, sink);
    match synced {
        Ok((commit, point)) => {
            source.finished(FinalSync { point, disks }, &commit)?;
            Ok(point)
        }
        Err(error) => {
            source.go_on()?;
            Err(refusal(&wanted, error))
        }
    }
}

fn refusal(wanted: &Replicate, error: StreamError) -> ProviderError {
    match error {
        StreamError::Line(error) => ProviderError::Unreachable { site: wanted.endpoint.address.clone(), detail: error.to_string() },
        StreamError::Refused(ProviderError::NoSuchReplica { item }) => ProviderError::NotReplicated { item },
        StreamError::Refused(error) | StreamError::Here(error) => error,
        StreamError::Stopped => ProviderError::Stopped { operation: "final sync".to_owned(), target: wanted.machine.clone() },
        StreamError::Protocol(detail) => ProviderError::Platform {
            operation: "final sync".to_owned(),
            target: wanted.endpoint.address.clone(),
            detail,
            applied: provider::Applied::Unknown,
        },
    }
}

/// What tells whether the disks were used.
fn stamps(machine: &Machine) -> Result<BTreeMap<String, String>, ProviderError> {
    let stamp = |disk: &provider::Disk| {
        let path = Path::new(&disk.path);
        Ok((disk.target.clone(), durable::stamp(path).map_err(failed("look at", path))?))
    };
    machine.disks.iter().map(stamp).collect()
}

fn tries(source: &Source, wanted: &Replicate, machine: &Machine, sink: &Arc<dyn ProgressSink>) -> Result<(Commit, PointId), StreamError> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..TRIES {
        match once(source.tools(), &source.pace(sink.clone()), wanted, machine) {
            Err(error @ (StreamError::Line(_) | StreamError::Refused(ProviderError::NotWriter { .. }))) => {
                tracing::warn!(item = %wanted.item, %error, "the last point has to wait for the target");
            }
            other => return other,
        }
        if sink.report(Progress { bytes_done: 0, bytes_total: 0 }).is_break() {
            return Err(StreamError::Stopped);
        }
        thread::sleep(pause);
        pause *= 2;
    }
    once(source.tools(), &source.pace(sink.clone()), wanted, machine)
}

fn once(tools: &Tools, pace: &Pace<'_>, wanted: &Replicate, machine: &Machine) -> Result<(Commit, PointId), StreamError> {
    tools.guard.still_writer()?;
    let taken_at = Utc::now();
    let mut line = tools.call(wanted, machine)?;
    pace.opened(&line)?;
    let home = WayHome::of(&*tools.maps, wanted, &line.welcome)?;
    let files: Vec<&Path> = machine.disks.iter().map(|d| Path::new(&d.path)).collect();
    let described = files.iter().map(|path| qemu::describe(path)).collect::<Result<Vec<_>, _>>()?;
    let plan = Plan::new(&line.welcome, home, |mark| described.iter().all(|d| d.marks().iter().any(|m| m == mark)));
    tracing::info!(item = %wanted.item, ?plan.mode, since = ?plan.since, "the last point of a machine that is off");
    pace.phase(plan.phase());
    line.begin(plan.mode)?;
    let disks = machine.disks.iter().zip(0..).map(|(disk, number)| {
        let path = Path::new(&disk.path);
        let changed = plan.since.as_ref().map(|since| changed(tools, path, since, disk.capacity_bytes)).transpose()?;
        let mut served = Served::open(&tools.run_dir, path, Access::Read, None)?;
        let extents = match changed {
            Some(changed) => changed,
            None => served.client()?.extents().map_err(|e| served.error(&e))?,
        };
        Disk::new(&mut line, number, &disk.target, Reader::File(served), &plan, extents)
    });
    let disks = disks.collect::<Result<Vec<_>, StreamError>>()?;
    let bytes = copy::send(&mut line, pace, disks, plan.mode)?;
    // Without a mark of its own in the disks it is one that nobody will find: then the way back compares.
    let mark = plan.since.unwrap_or_else(|| tools.new_mark(wanted.generation));
    let commit = Commit { mark, consistency: Consistency::App, taken_at, bytes, group: None, kept: tools.groups.kept(wanted.group.as_ref()) };
    let point = line.commit(commit.clone())?;
    Ok((commit, point))
}

/// What was written to a disk after a mark, as its reader would tell.
fn changed(tools: &Tools, path: &Path, since: &str, capacity_bytes: u64) -> Result<Vec<Extent>, StreamError> {
    let changed = qemu::written_since(&tools.run_dir, path, since)?;
    let changed = changed.ok_or_else(|| ProviderError::Busy {
        operation: "final sync".to_owned(),
        target: path.display().to_string(),
        detail: format!("its mark {since} was there a moment ago; somebody uses the disk"),
    })?;
    let within = changed.ranges().map(|(offset, length)| (offset, length.min(capacity_bytes.saturating_sub(offset))));
    Ok(within.filter(|(_, length)| *length > 0).map(|(offset, length)| Extent { offset, length, flags: DIRTY }).collect())
}
