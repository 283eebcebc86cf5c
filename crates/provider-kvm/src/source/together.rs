//! A member's part in a common moment: journal, pause, begin, let go; each step when all others have done the one before.
//!
//! Invariant: whatever happens, this member's machine runs again at the group's limit, and its guest is thawed: both are held by
//! threads of their own that are journaled (`freeze`).

use std::time::Duration;

use chrono::{DateTime, Utc};
use provider::Replicate;
use recovery::{Consistency, GroupMoment};

use super::{
    cycle::Job,
    freeze::{Held, LIMIT},
    plan::Plan,
    round::{Round, Step},
    worker::Tools,
};
use crate::hypervisor::Vm;

/// What is told and answered on one host takes no longer.
const MARGIN: Duration = Duration::from_secs(1);

/// A point that was begun.
pub(super) struct Begun {
    pub(super) taken_at: DateTime<Utc>,
    pub(super) consistency: Consistency,
    pub(super) group: Option<GroupMoment>,
}

/// Begins a point with all others of the round. `None`: nothing was begun, and the point is to be taken alone. A point that was
/// begun without coming to a common moment is the member's own.
pub(super) fn begin(tools: &Tools, wanted: &Replicate, job: &Job<'_>, plan: &Plan, round: &Round) -> Option<Begun> {
    let item = &wanted.item;
    let apart = tools.hypervisor.apart(job.vm).map_err(|e| e.to_string());
    let frozen = apart.as_ref().ok().filter(|_| round.app_due()).map(|vm| frozen(tools, wanted, vm, round));
    let mut own = None;
    let ended = match apart {
        Ok(vm) => paused(tools, wanted, &Job { vm: &vm, ..*job }, plan, round, &mut own),
        Err(why) => round.vote(Step::Prepared, item, Err(why), LIMIT + MARGIN),
    };
    if let Err(why) = ended {
        tools.groups.failed(round, &why);
        drop(frozen);
        return own.map(|taken_at| Begun { taken_at, consistency: Consistency::Crash, group: None });
    }
    if let Some(Err(why)) = frozen.flatten().map(Held::let_go) {
        round.not_app(item, &why);
    }
    let consistency = round.settled(item, LIMIT + MARGIN);
    let taken_at = round.taken_at().or(own)?;
    Some(Begun { taken_at, consistency, group: tools.groups.taken(round, consistency) })
}

/// Freezes the guest for an app-consistent moment; if that fails it is not app-consistent anywhere.
fn frozen(tools: &Tools, wanted: &Replicate, vm: &Vm, round: &Round) -> Option<Held> {
    match tools.freezer.hold(&wanted.item, vm) {
        Ok(held) => Some(held),
        Err(why) => {
            round.not_app(&wanted.item, &why);
            None
        }
    }
}

/// From the journal to the machine that runs again. `own` is when this member's point was begun, once it was.
fn paused(
    tools: &Tools,
    wanted: &Replicate,
    job: &Job<'_>,
    plan: &Plan,
    round: &Round,
    own: &mut Option<DateTime<Utc>>,
) -> Result<(), String> {
    let (item, limit) = (&wanted.item, Duration::from_millis(round.group().max_pause_ms().into()));
    let ready = tools.pauser.ready(item, job.vm);
    let said = ready.as_ref().map(|_ready| ()).map_err(Clone::clone);
    round.vote(Step::Prepared, item, said, LIMIT + MARGIN)?;

    let held = ready?.hold(limit);
    let said = held.as_ref().map(|_held| ()).map_err(Clone::clone);
    round.vote(Step::Paused, item, said, limit)?;

    tools.guard.about_to("backup");
    let taken_at = Utc::now();
    let begun = job.begin(plan).map_err(|e| e.to_string());
    if begun.is_ok() {
        *own = Some(taken_at);
    }
    round.vote(Step::Begun, item, begun, limit)?;

    let let_go = held?.let_go();
    if let Ok(pause) = &let_go {
        round.stood_still(*pause);
    }
    round.vote(Step::LetGo, item, let_go.map(drop), LIMIT + MARGIN)
}
