//! An action of a plan as a step: how often it may be tried, how long it may take, and what its failure says.
//!
//!   may be done again ─▶ `carry-out`, tried three times; a check is asked until its time is up
//!   may not           ─▶ `carry-out-once`; tried again only if the last try certainly did nothing

use std::time::Duration;

use recovery::{
    Generation,
    plan::action::{ActionContext, Performed, Repeats},
};
use sdk::{Activity, Applied, Call, CallError, Context, Failure, Retry, TimeoutKind};
use serde::{Deserialize, Serialize};

use crate::{
    declared::{ActionResult, CarryOut, CarryOutOnce, SiteError},
    site_queue,
};

/// An action of a plan, ready to be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionOrder {
    /// What.
    pub action: Performed,
    /// Which step of which plan that is, and whose agent carries it out.
    pub context: ActionContext,
    /// Of the machine or the copy that it belongs to: the item's `running_generation`, in tests that of its `test_copy`.
    pub machine: Option<Generation>,
    /// The plan names `test` among the modes of this very action.
    pub meant_for_tests: bool,
}

/// Tries of an action that may be done again, and of one that certainly was not done.
const TRIES: u32 = 3;
/// Beside the action's own time: the pauses between tries, and what an agent takes to end one and to say so.
const MARGIN: Duration = Duration::from_secs(60);
/// Most questions of one check: each leaves a trace in the database.
const MOST_QUESTIONS: u64 = 300;
/// Shortest time between two questions.
const LEAST_PAUSE_MS: u64 = 500;
/// Code of an action that was begun and says that it did not work.
const FAILED: &str = "action-failed";

/// Carries an action out at the site that its context names. `patience` is how long its agent may take to pick it up.
///
/// # Errors
/// What came of it. `applied` says whether it may have happened all the same: `Unknown` is for a person.
pub async fn carry_out(ctx: &Context, order: &ActionOrder, patience: Duration) -> Result<ActionResult, Failure> {
    let ActionOrder { action, context, machine, meant_for_tests } = order.clone();
    let queue = site_queue(&context.site);
    let done = match action.repeats() {
        Repeats::Harmless => limited(ctx.call(queue, &CarryOut { action, context, machine, meant_for_tests }), &order.action, patience).await,
        Repeats::Never => limited(ctx.call(queue, &CarryOutOnce { action, context, machine, meant_for_tests }), &order.action, patience).await,
    };
    done.map_err(|error| failure(&order.action, &order.context, error))
}

fn limited<A: Activity>(call: Call<A>, action: &Performed, patience: Duration) -> Call<A> {
    let within = action.within();
    if let Performed::Check(_) = action {
        let pause = (within.ms() / MOST_QUESTIONS).max(LEAST_PAUSE_MS);
        let asked = Retry { max_attempts: i32::MAX, first_ms: pause, factor: 1.0, max_ms: pause };
        // An agent that is away is told as such, and not as a check that does not hold.
        let patience = patience.min(within.duration().saturating_sub(Duration::from_millis(LEAST_PAUSE_MS)));
        return call.queue_timeout(patience).total_timeout(within.duration()).retry(asked);
    }
    call.queue_timeout(patience).total_timeout(within.duration() * TRIES + patience + MARGIN)
}

/// What a person reads: which action, and whether it may have happened.
fn failure(action: &Performed, context: &ActionContext, error: CallError<SiteError>) -> Failure {
    let harmless = action.repeats() == Repeats::Harmless;
    let doubt = match &error {
        CallError::Unknown(_) => true,
        CallError::Timeout(kind) => *kind != TimeoutKind::Queue,
        CallError::Exhausted { last, .. } => last.applied == Applied::Unknown,
        CallError::App(_) | CallError::Cancelled | CallError::Unreadable(_) => false,
    };
    let certain = match &error {
        CallError::Timeout(TimeoutKind::Queue) | CallError::Cancelled => true,
        // The others say so themselves; what has failed may have done half of its work.
        CallError::App(site) => site.code != FAILED,
        CallError::Timeout(_) | CallError::Exhausted { .. } | CallError::Unknown(_) | CallError::Unreadable(_) => false,
    };
    let said = match (&error, action) {
        (CallError::Cancelled, _) => return error.into(),
        (CallError::Timeout(TimeoutKind::Queue), _) => Some(format!("the agent of site {} did not pick it up in time", context.site)),
        (CallError::Timeout(TimeoutKind::Total), Performed::Check(wait)) => Some(format!("it did not hold within {}", wait.within)),
        _ => None,
    };
    let failure = Failure::from(error);
    let said = said.unwrap_or_else(|| failure.message.clone());
    let end = if doubt && !harmless { "; whether it was done is unknown: look before it is done again" } else { "" };
    let failure = Failure { message: format!("action {} ({}: {action}): {said}{end}", context.step, action.kind()), ..failure };
    if certain { failure.not_applied() } else { failure }
}
