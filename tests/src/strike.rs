//! What goes wrong at one step of a simulated run.
//!
//! ```text
//!   strike(simulation, fault, which attempts) ─▶ the step is claimed ─▶ its effect ─▶ its report ─▶ the turn that records it
//!                                                    └ crash, cancel, failure  └ crash, hang, failure   └ crash  └ the worker's crash
//! ```

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use engine::{
    ClaimedTask, RunStore,
    memory::{MemoryStore, now},
    sim::{CrashSwitch, Intervention, Moment},
};
use sdk::{ActivityOptions, EventBody, Failure, Inbound, Message, RunId};

/// What goes wrong at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its agent crashes before it has done anything.
    CrashBeforeEffect,
    /// Its agent crashes when it has done everything and told nobody.
    CrashAfterEffect,
    /// Its agent crashes when it has told it.
    CrashAfterRecord,
    /// A worker crashes before it stores the turn that records it.
    WorkerDiesBeforeTurn,
    /// A worker crashes after it has stored the turn that records it.
    WorkerDiesAfterTurn,
    /// A passing trouble after the effect, twice: it is asked for again.
    Repeats,
    /// The first attempt does everything and is never heard of again, while its agent lives: its time is up.
    TimesOut,
    /// It fails each time, with nothing done.
    FailsForEver,
    /// It fails each time, and everything is done.
    FailsForEverAfterEffect,
    /// Each attempt does everything and is never heard of again.
    TimesOutForEver,
    /// Somebody cancels while it is carried out.
    CancelHere,
}

impl Fault {
    /// Those after which everything goes on as if nothing had been.
    const PASSING: [Self; 7] = [
        Self::CrashBeforeEffect,
        Self::CrashAfterEffect,
        Self::CrashAfterRecord,
        Self::WorkerDiesBeforeTurn,
        Self::WorkerDiesAfterTurn,
        Self::Repeats,
        Self::TimesOut,
    ];

    /// Those that can strike at a step with these limits. Where all attempts together have less time than one alone, an attempt
    /// that hangs is the last.
    pub fn passing(options: ActivityOptions) -> impl Iterator<Item = Self> {
        let limits = options.timeouts;
        let another = times_out(&options) && limits.total_ms.is_none_or(|total_ms| total_ms > 2 * limits.start_to_close_ms);
        Self::PASSING.into_iter().filter(move |fault| *fault != Self::TimesOut || another)
    }

    /// Whether a process dies of it.
    #[must_use]
    pub fn crashes(self) -> bool {
        !matches!(self, Self::Repeats | Self::TimesOut) && Self::PASSING.contains(&self)
    }
}

/// Lets a fault strike at the attempts that `here` names, until the switch is cleared. A cancel is for `root`, or for the step's own
/// run, and is heard there before the step goes on. How often it has struck is told.
pub fn strike(switch: &CrashSwitch, store: &MemoryStore, root: Option<RunId>, fault: Fault, here: impl Fn(&ClaimedTask) -> bool + Send + Sync + 'static) -> Arc<AtomicU32> {
    let struck = Arc::new(AtomicU32::new(0));
    // 1: the step's report is on its way. 2: it is stored, and the next turn is the one that records it.
    let armed = Arc::new(AtomicU32::new(0));
    let again = AtomicBool::new(false);
    let (hits, arms, store) = (struck.clone(), armed.clone(), store.clone());
    switch.on_attempt(move |task, moment| {
        if !here(task) {
            return Intervention::None;
        }
        let times = hits.load(Ordering::SeqCst);
        let answer = match (fault, moment) {
            (Fault::CrashBeforeEffect, Moment::Claimed) | (Fault::CrashAfterEffect, Moment::Performed) | (Fault::CrashAfterRecord, Moment::Reported) if times == 0 => {
                Intervention::Crash
            }
            (Fault::Repeats, Moment::Performed) if times < 2 => Intervention::Fail(Failure::retryable("passing", "it passes")),
            (Fault::TimesOut, Moment::Performed) if times == 0 => Intervention::Hang,
            (Fault::TimesOutForEver, Moment::Performed) => Intervention::Hang,
            (Fault::FailsForEver, Moment::Claimed) => Intervention::Fail(broken(task).not_applied()),
            (Fault::FailsForEverAfterEffect, Moment::Performed) => Intervention::Fail(broken(task)),
            (Fault::CancelHere, Moment::Claimed) if times == 0 => {
                cancel(&store, root.unwrap_or(task.run));
                Intervention::Wait
            }
            (Fault::CancelHere, Moment::Claimed) if !has_heard(&store, root.unwrap_or(task.run)) => return Intervention::Wait,
            // One that asks until it is so hears that it is not, else chance would decide whether there is anything to cancel.
            (Fault::CancelHere, Moment::Performed) if asks_for_ever(task) && !again.swap(true, Ordering::SeqCst) => {
                Intervention::Fail(Failure::retryable("not-yet", "not yet").not_applied())
            }
            (Fault::WorkerDiesBeforeTurn | Fault::WorkerDiesAfterTurn, Moment::Performed) if times == 0 => {
                arms.store(1, Ordering::SeqCst);
                hits.fetch_add(1, Ordering::SeqCst);
                return Intervention::None;
            }
            _ => return Intervention::None,
        };
        hits.fetch_add(1, Ordering::SeqCst);
        answer
    });
    switch.on_store_call(move |call, after| {
        if call == "complete_task" && after && armed.load(Ordering::SeqCst) == 1 {
            armed.store(2, Ordering::SeqCst);
        }
        let wanted = (fault == Fault::WorkerDiesBeforeTurn && !after) || (fault == Fault::WorkerDiesAfterTurn && after);
        let strikes = call == "commit_turns" && wanted && armed.load(Ordering::SeqCst) == 2;
        if strikes {
            armed.store(0, Ordering::SeqCst);
        }
        strikes
    });
    struck
}

/// What may pass, at steps that give up some day; for those that ask until it is so, what can't pass.
fn broken(task: &ClaimedTask) -> Failure {
    if asks_for_ever(task) { Failure::fatal("broken", "it is broken for good") } else { Failure::retryable("broken", "it is broken") }
}

/// From so many attempts on a step is asked for until it is so.
const MANY_ATTEMPTS: i32 = 1_000;

fn asks_for_ever(task: &ClaimedTask) -> bool {
    task.task.options.retry.max_attempts >= MANY_ATTEMPTS
}

/// Whether an attempt that hangs is taken away from there within an hour. What copies may take a day, as long as its agent lives.
#[must_use]
pub fn times_out(options: &ActivityOptions) -> bool {
    options.timeouts.start_to_close_ms <= 3_600_000
}

/// Whether its time limits end a step that nobody ever answers for; the others wait until somebody does, or cancels.
#[must_use]
pub fn gives_up(options: &ActivityOptions) -> bool {
    options.timeouts.total_ms.is_some() || (options.retry.max_attempts < MANY_ATTEMPTS && times_out(options))
}

/// Somebody cancels a run.
///
/// # Panics
/// The store refuses it.
pub fn cancel(store: &MemoryStore, run: RunId) {
    let message = Message::Cancel { by: "ada".into(), reason: "changed my mind".into() };
    assert!(now(store.send(run, message)).is_ok(), "a cancel is stored");
}

/// Whether the run knows that somebody wants it cancelled.
fn has_heard(store: &MemoryStore, run: RunId) -> bool {
    store.history(run).is_ok_and(|history| history.events.iter().any(|event| matches!(event.event.body, EventBody::Inbound(Inbound::CancelRequested { .. }))))
}
