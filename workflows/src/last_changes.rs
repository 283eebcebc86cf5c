//! What a source is asked for before an unplanned failover: to shut down and send the rest, or to send one more point. As well as it can:
//! whatever comes of it, the failover goes on, after a time that is bounded.
//!
//!   shutdown wished:  shut down ─▶ final sync          `latest` without it:  one more point
//!
//! Invariants: 1. A source that went down here is given back if the failover is given up. 2. What came of it is recorded, whatever it was.

use std::time::Duration;

use recovery::{Fact, OldMachine, PointChoice, profile::shutdown::Outcome};
use sdk::{CallError, Failure, Saga};

use crate::{
    back::{self, Back, PUT_SOURCE_BACK, Then},
    declared::{AwaitPoint, FinalSync, RequestPoint, ShutDownMachine},
    failover::FailoverInput,
    tracked::Tracked,
};

/// Beyond the guest's own time, for the agent that waits for it.
const SHUT_DOWN_WORK: Duration = Duration::from_secs(60);
/// Longest sending of the last changes: what takes longer is no rest any more, and people wait.
const SEND_LIMIT: Duration = Duration::from_secs(300);
/// Longest wait for one more point of a source that answers: several intervals of a busy machine, and still within a short recovery.
const POINT_LIMIT: Duration = Duration::from_secs(30);

/// What the source gave.
pub(crate) struct Given {
    pub(crate) outcome: Outcome,
    /// It is off and fenced, and given back if the failover is given up.
    pub(crate) fenced: bool,
    /// A way back for it is registered.
    pub(crate) returns: bool,
}

/// Asks the source for what it has not sent yet.
/// `returns`: a way back for it is registered already.
pub(crate) async fn asked_for(item: &mut Tracked, saga: &mut Saga, input: &FailoverInput, returns: bool) -> Result<Given, Failure> {
    let pick_up = Duration::from_millis(input.fence_timeout_ms);
    match (input.shut_down_ms, input.choice) {
        (Some(patience_ms), _) => shut_down(item, saga, (patience_ms, pick_up), returns).await,
        (None, PointChoice::Latest) => {
            one_more_point(item, pick_up).await?;
            Ok(Given { outcome: Outcome::NotAsked, fenced: false, returns })
        }
        (None, _) => Ok(Given { outcome: Outcome::NotAsked, fenced: false, returns }),
    }
}

async fn shut_down(item: &mut Tracked, saga: &mut Saga, (patience_ms, pick_up): (u64, Duration), returned: bool) -> Result<Given, Failure> {
    let back = Back::of(item)?;
    let (name, machine, source) = (item.name.clone(), back.machine.clone(), back.source.clone());
    let limit = pick_up + Duration::from_millis(patience_ms) + SHUT_DOWN_WORK;
    let ask = ShutDownMachine { item: name.clone(), machine, patience_ms };
    let answer = item.ctx.call(source.clone(), &ask).queue_timeout(pick_up).total_timeout(limit).await;
    if matches!(answer, Err(CallError::Cancelled)) {
        return Err(sdk::Cancelled.into());
    }
    let returns = returned || !back::never_begun(&answer);
    if returns && !returned {
        saga.on_failure(PUT_SOURCE_BACK, move |ctx| back.given_back(ctx, Then::AsBefore));
    }
    let proof = match answer {
        Ok(proof) => proof,
        Err(why) => {
            let evidence = format!("the source did not shut down: {}", Failure::from(why));
            item.note(Fact::SourceAsked { sent: None, evidence })?;
            return Ok(Given { outcome: Outcome::Failed, fenced: false, returns });
        }
    };
    item.note(Fact::FenceProven { evidence: proof.evidence, at: proof.at })?;
    item.note(Fact::OldMachineIs { old_machine: OldMachine::Off })?;
    let sent = item.ctx.call(source, &FinalSync { item: name }).queue_timeout(pick_up).total_timeout(SEND_LIMIT).await;
    if matches!(sent, Err(CallError::Cancelled)) {
        return Err(sdk::Cancelled.into());
    }
    let (outcome, sent, evidence) = match sent {
        Ok(point) => (Outcome::ShutDownAndSent, Some(point), format!("the source has shut down and sent the rest as point {point}")),
        Err(why) => (Outcome::ShutDownOnly, None, format!("the source has shut down and could not send the rest: {}", Failure::from(why))),
    };
    item.note(Fact::SourceAsked { sent, evidence })?;
    Ok(Given { outcome, fenced: true, returns })
}

/// Everything that was written until the request is in a point that the target has, if the source answers in time.
async fn one_more_point(item: &mut Tracked, pick_up: Duration) -> Result<(), Failure> {
    let source = Back::of(item)?.source;
    let (name, by) = (item.name.clone(), item.generation);
    let ask = item.ctx.call(source.clone(), &RequestPoint { item: name.clone(), by, compare: false });
    let asked = ask.queue_timeout(pick_up).total_timeout(pick_up + POINT_LIMIT).await;
    let made = match asked {
        Ok(()) => {
            let wait = item.ctx.call(source, &AwaitPoint { item: name, by, patient: false });
            wait.queue_timeout(pick_up).total_timeout(POINT_LIMIT).await
        }
        Err(why) => Err(why),
    };
    if matches!(made, Err(CallError::Cancelled)) {
        return Err(sdk::Cancelled.into());
    }
    let (sent, evidence) = match made {
        Ok(point) => (Some(point), format!("all that the source had written when it was asked is in point {point}")),
        Err(why) => (None, format!("the source sent no further point: {}", Failure::from(why))),
    };
    item.note(Fact::SourceAsked { sent, evidence })
}
