//! One part of undoing, at a site that may not answer: tried until it passes or a limit is reached, and not for long after somebody has
//! cancelled. What could not be undone is left behind, and said.

use std::time::Duration;

use sdk::{Activity, Call, CallError, Context, Failure, Retry, Saga, TaskQueue};

use crate::declared::FEW;

/// Longest wait for an agent that is to undo something.
const PICK_UP: Duration = Duration::from_secs(15);
/// Longest try: an undoing holds its item, and whoever fails over again at that time is refused.
const LIMIT: Duration = Duration::from_secs(30);
/// How long it is tried after a cancel: enough for a site that answers.
const GRACE: Duration = Duration::from_secs(2);
/// Longest try of what a person waits for.
const LONG_LIMIT: Duration = Duration::from_secs(180);
/// Ends a little before that: then the last answer is told, not that time was up.
const LONG: Retry = Retry { max_attempts: 18, first_ms: 300, factor: 2.0, max_ms: 10_000 };
const SINGLE: Retry = Retry { max_attempts: 1, ..FEW };

/// How often an undoing is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// The site is known not to answer.
    Once,
    /// Until it passes, for some ten seconds.
    UntilItPasses,
    /// Until it passes, for minutes: a person has asked for it, and the site has just answered.
    Long,
}

/// Undoes something.
pub(crate) async fn call<A: Activity>(ctx: &Context, queue: &TaskQueue, undo: &A, patience: Patience) -> Result<A::Output, Failure> {
    let (retry, limit) = match patience {
        Patience::Once => (SINGLE, LIMIT),
        Patience::UntilItPasses => (FEW, LIMIT),
        Patience::Long => (LONG, LONG_LIMIT),
    };
    let undoing = ctx.until_cancelled().call(queue.clone(), undo).retry(retry).queue_timeout(PICK_UP).total_timeout(limit).grace(GRACE);
    let undone = undoing.await;
    if matches!(undone, Err(CallError::Cancelled)) {
        let message = format!("{} was not carried out at {queue} before the run was cancelled, and was not tried any longer", A::NAME);
        return Err(Failure::fatal("given-up", message).not_applied());
    }
    Ok(undone?)
}

/// A step with its undoing, which is registered before it.
pub(crate) async fn step<A: Activity, U: Activity + 'static>(ctx: &Context, saga: &mut Saga, queue: &TaskQueue, step: Call<A>, undo: U) -> Result<A::Output, CallError<A::Error>> {
    if ctx.cancelled() {
        return Err(CallError::Cancelled);
    }
    let queue = queue.clone();
    saga.on_failure(U::NAME, move |ctx| async move { call(&ctx, &queue, &undo, Patience::UntilItPasses).await.map(drop) });
    step.await
}
