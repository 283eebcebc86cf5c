//! One point, from the look at the machine to the target's acknowledgement.

use std::{path::Path, sync::Arc};

use chrono::{DateTime, Utc};
use provider::{Machine, ProviderError, Replicate, group::KeptMoments};
use recovery::{Consistency, GroupMoment, PointId};

use super::{
    copy,
    plan::{Plan, WayHome},
    round::Round,
    together::{self, Begun},
    worker::{Pace, Tools},
};
use crate::{
    durable,
    hypervisor::{Backup, Vm},
    stream::{Commit, Line, Mode, StreamError},
};

/// Begins the names of checkpoints that count changes for replication.
pub(crate) const MARK_PREFIX: &str = "sb.";

/// What came of a cycle.
#[derive(Debug)]
pub(super) enum Cycle {
    Point(NewPoint),
    /// The machine is off.
    Off,
}

/// A point that the target has.
#[derive(Debug)]
pub(super) struct NewPoint {
    pub(super) id: PointId,
    pub(super) taken_at: DateTime<Utc>,
    pub(super) sent: u64,
    pub(super) consistency: Consistency,
    pub(super) group: Option<GroupMoment>,
}

/// Takes one point and sends it. `line` is kept between cycles while it is fresh. With `compare` both sides are compared though the changes
/// since the last point are known.
pub(super) fn run(
    tools: &Tools,
    wanted: &Replicate,
    machine: &Machine,
    line: &mut Option<Line>,
    pace: &Pace<'_>,
    compare: bool,
) -> Result<Cycle, StreamError> {
    let vm = tools.hypervisor.by_name(&wanted.machine)?;
    if !vm.active()? {
        return Ok(Cycle::Off);
    }
    tools.guard.still_writer()?;
    let disks: Vec<String> = machine.disks.iter().map(|d| d.target.clone()).collect();
    let line = match line {
        Some(open) => open,
        None => {
            let opened = line.insert(tools.call(wanted, machine)?);
            pace.opened(opened)?;
            opened
        }
    };
    end_own_backup(tools, &vm)?;
    let marks = vm.checkpoints()?;
    let home = WayHome::of(&*tools.maps, wanted, &line.welcome)?;
    let mut plan = Plan::new(&line.welcome, home, |mark| marks.contains(mark)).comparing(compare);
    for mark in marks.iter().filter(|m| m.starts_with(MARK_PREFIX) && plan.since.as_ref() != Some(*m)) {
        vm.remove_checkpoint(mark)?;
    }

    let mark = tools.new_mark(wanted.generation);
    let socket = tools.run_dir.join(format!("b{}", tools.count()));
    let job = Job { vm: &vm, disks: &disks, mark: &mark, socket: &socket, scratch_dir: &tools.scratch_dir };
    let round = met(tools, wanted, &plan);
    let together = round.and_then(|round| together::begin(tools, wanted, &job, &plan, &round));
    let begun = match together {
        Some(begun) => begun,
        None => alone(tools, wanted, pace, &job, &mut plan)?,
    };
    pace.phase(plan.phase());
    let kept = tools.groups.kept(wanted.group.as_ref());
    let sent = transfer(line, pace, &job, &plan, &begun, kept);
    let ended = vm.end_backup();
    job.remove_files();
    let (id, sent) = match sent {
        Ok(sent) => sent,
        Err(error) => {
            forget(&vm, &mark);
            return Err(error);
        }
    };
    if let Err(error) = ended {
        tracing::warn!(item = %wanted.item, %error, "the backup job does not end; the next cycle tries again");
    }
    if let Some(since) = plan.since.iter().find(|since| since.starts_with(MARK_PREFIX)) {
        forget(&vm, since);
    }
    let Begun { taken_at, consistency, group } = begun;
    Ok(Cycle::Point(NewPoint { id, taken_at, sent, consistency, group }))
}

/// The others of the item's group, if all come to a moment now. What is not a delta takes too long to be waited for.
fn met(tools: &Tools, wanted: &Replicate, plan: &Plan) -> Option<Arc<Round>> {
    let group = wanted.group.as_ref()?;
    if plan.mode == Mode::Delta {
        return tools.groups.meet(&wanted.item, group);
    }
    tools.groups.sit(&wanted.item, Some(group), Some("it is copied or compared as a whole".to_owned()));
    None
}

/// Begins a point of this machine alone, app-consistent if that is due.
fn alone(tools: &Tools, wanted: &Replicate, pace: &Pace<'_>, job: &Job<'_>, plan: &mut Plan) -> Result<Begun, StreamError> {
    let vm = job.vm;
    let apart = tools.hypervisor.apart(vm)?;
    let job = Job { vm: &apart, ..*job };
    let held = pace.app_due(wanted).then(|| tools.freezer.hold(&wanted.item, vm));
    tools.guard.about_to("backup");
    let mut taken_at = Utc::now();
    let mut begun = job.begin(plan);
    if let (Err(error), Some(since)) = (&begun, &plan.since)
        && vm.active()?
        && !vm.in_backup()
    {
        tracing::warn!(item = %wanted.item, since, %error, "changes since the last point are not known; comparing");
        if since.starts_with(MARK_PREFIX) {
            vm.remove_checkpoint(since)?;
        }
        *plan = Plan::compare();
        taken_at = Utc::now();
        begun = job.begin(plan);
    }
    let consistency = pace.let_go(held);
    begun?;
    Ok(Begun { taken_at, consistency, group: None })
}

/// The backup job of one point.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) vm: &'a Vm,
    pub(super) disks: &'a [String],
    pub(super) mark: &'a str,
    pub(super) socket: &'a Path,
    pub(super) scratch_dir: &'a Path,
}

impl Job<'_> {
    fn backup<'b>(&'b self, since: Option<&'b str>) -> Backup<'b> {
        Backup {
            disks: self.disks,
            since,
            mark: Some(self.mark),
            socket: self.socket,
            scratch_dir: self.scratch_dir,
            scratch_stem: self.mark,
        }
    }

    pub(super) fn begin(&self, plan: &Plan) -> Result<(), ProviderError> {
        self.vm.begin_backup(&self.backup(plan.since.as_deref()))
    }

    fn remove_files(&self) {
        let scratch = self.disks.iter().map(|d| self.backup(None).scratch(d));
        for path in scratch.chain([self.socket.to_owned()]) {
            if let Err(error) = durable::remove(&path) {
                tracing::warn!(path = %path.display(), %error, "a scratch file stays");
            }
        }
    }
}

fn transfer(
    line: &mut Line,
    pace: &Pace<'_>,
    job: &Job<'_>,
    plan: &Plan,
    begun: &Begun,
    kept: Option<KeptMoments>,
) -> Result<(PointId, u64), StreamError> {
    line.begin(plan.mode)?;
    let disks = copy::of_job(line, job.socket, job.disks, plan)?;
    let bytes = copy::send(line, pace, disks, plan.mode)?;
    let Begun { taken_at, consistency, group } = begun;
    let commit = Commit { mark: job.mark.to_owned(), consistency: *consistency, taken_at: *taken_at, bytes, group: group.clone(), kept };
    Ok((line.commit(commit)?, bytes))
}

/// Removes a checkpoint that nobody counts from. If that fails, the next cycle does it.
fn forget(vm: &Vm, mark: &str) {
    if let Err(error) = vm.remove_checkpoint(mark) {
        tracing::debug!(machine = vm.name, mark, %error, "a checkpoint stays until the next cycle");
    }
}

/// Ends a backup job that an earlier process of ours has left. Somebody else's is left alone.
fn end_own_backup(tools: &Tools, vm: &Vm) -> Result<(), ProviderError> {
    let Some(job) = vm.backup() else { return Ok(()) };
    if !job.contains(&tools.scratch_dir.display().to_string()) {
        return Err(ProviderError::Busy {
            operation: "begin a backup".to_owned(),
            target: vm.name.clone(),
            detail: "another backup of the machine is running".to_owned(),
        });
    }
    vm.end_backup()
}

/// Removes everything that replication has put into a machine.
pub(crate) fn remove_marks(tools: &Tools, machine: &str) -> Result<(), ProviderError> {
    let vm = match tools.hypervisor.by_name(machine) {
        Err(ProviderError::NoSuchMachine { .. }) => return Ok(()),
        other => other?,
    };
    if vm.active()? {
        end_own_backup(tools, &vm)?;
    }
    for mark in vm.checkpoints()?.iter().filter(|m| m.starts_with(MARK_PREFIX)) {
        vm.remove_checkpoint(mark)?;
    }
    Ok(())
}
