//! What the body of each operation's request must say, made into the input of its workflow.
//!
//! Whatever destroys something has to say that it may; the refusal says what would be destroyed.

use api::{
    Code,
    items::{
        AcceptUnfenced, ChangePointRequest, FailoverRequest, MAX_SHUT_DOWN_MS, PlainRequest, PlannedRequest, ProtectRequest, ReprotectRequest,
        TestFailoverRequest, UndoRequest,
    },
};
use recovery::{ItemName, ItemRecord, Operation, PointChoice, RecoveryPoint, Sync, resolve};
use serde_json::Value;
use workflows::{
    Acceptance, ChangePointInput, FailoverInput, Part, PlannedInput, ProtectInput, ReprotectInput, TestFailoverInput, UndoInput,
};

use super::items::{json, point};
use crate::{
    app::{App, read},
    caller::Caller,
    problem::Refusal,
};

pub(super) async fn protect(app: &App, name: &ItemName, body: &[u8]) -> Result<Value, Refusal> {
    let ProtectRequest { from, to, machine, policy, checks, profile } = read(body)?;
    if from == to {
        return Err(Refusal::new(Code::InvalidRequest, format!("item {name} would be replicated from site {from} to itself")));
    }
    let sites = app.store.sites().await?;
    for wanted in [&from, &to] {
        if !sites.iter().any(|known| known.name == wanted.as_str() && !known.agents.is_empty()) {
            return Err(Refusal::new(Code::UnknownSite, format!("no agent is enrolled for a site {wanted}")));
        }
    }
    let machine = machine.unwrap_or_else(|| name.as_str().to_owned());
    json(&ProtectInput { item: name.clone(), machine, from, to, policy, checks, profile })
}

pub(super) async fn failover(app: &App, caller: &Caller, record: Option<&ItemRecord>, body: &[u8]) -> Result<Value, Refusal> {
    let FailoverRequest { point: choice, accept_unfenced, fence_timeout_ms } = read(body)?;
    let record = known(record)?;
    if let Some(AcceptUnfenced { reason }) = &accept_unfenced
        && reason.trim().is_empty()
    {
        return Err(Refusal::new(Code::InvalidRequest, "to go on unfenced needs a reason: it stands in the history beside your name"));
    }
    choosable(app, record, choice).await?;
    let accept_unfenced = accept_unfenced.map(|AcceptUnfenced { reason }| Acceptance { by: caller.name.clone(), reason });
    json(&FailoverInput { item: record.name.clone(), choice, accept_unfenced, fence_timeout_ms, part: Part::default() })
}

/// What the target's journal listed when it last reported.
async fn offered_points(app: &App, record: &ItemRecord) -> Result<Vec<RecoveryPoint>, Refusal> {
    let rows = app.store.points(Some(record.name.as_str())).await?;
    rows.iter().filter(|row| row.site == record.target_site().as_str()).map(point).collect()
}

pub(super) fn plain(body: &[u8], input: &impl serde::Serialize) -> Result<Value, Refusal> {
    let PlainRequest {} = read(body)?;
    json(input)
}

pub(super) fn planned(name: &ItemName, operation: Operation, body: &[u8]) -> Result<Value, Refusal> {
    let PlannedRequest { shut_down_ms, sync } = read(body)?;
    if !(1_000..=MAX_SHUT_DOWN_MS).contains(&shut_down_ms) {
        let detail = format!("{shut_down_ms} ms for the guest to shut down are outside 1 s to {} s", MAX_SHUT_DOWN_MS / 1_000);
        return Err(Refusal::new(Code::InvalidRequest, detail));
    }
    if operation == Operation::PlannedFailover && sync == Sync::DuringFailover {
        return Err(Refusal::new(Code::InvalidRequest, "only a failback can copy everything while the machine is off"));
    }
    json(&PlannedInput { item: name.clone(), shut_down_ms, sync, part: Part::default() })
}

pub(super) async fn change_point(app: &App, record: Option<&ItemRecord>, body: &[u8]) -> Result<Value, Refusal> {
    let ChangePointRequest { point: choice, discard_writes } = read(body)?;
    let record = known(record)?;
    choosable(app, record, choice).await?;
    may_discard(record, discard_writes)?;
    json(&ChangePointInput { item: record.name.clone(), choice })
}

pub(super) fn undo(record: Option<&ItemRecord>, body: &[u8]) -> Result<Value, Refusal> {
    let UndoRequest { discard_writes } = read(body)?;
    let record = known(record)?;
    may_discard(record, discard_writes)?;
    json(&UndoInput { item: record.name.clone() })
}

pub(super) fn reprotect(name: &ItemName, body: &[u8]) -> Result<Value, Refusal> {
    let ReprotectRequest { location } = read(body)?;
    json(&ReprotectInput { item: name.clone(), location })
}

pub(super) async fn test_failover(app: &App, record: Option<&ItemRecord>, body: &[u8]) -> Result<Value, Refusal> {
    let TestFailoverRequest { point: choice } = read(body)?;
    let record = known(record)?;
    choosable(app, record, choice).await?;
    json(&TestFailoverInput { item: record.name.clone(), choice, checks: vec![], part: Part::default() })
}

/// Refuses to discard what nobody said may be discarded, and says what that is.
fn may_discard(record: &ItemRecord, discard_writes: bool) -> Result<(), Refusal> {
    if discard_writes {
        return Ok(());
    }
    let since = record.running_since.map_or_else(String::new, |since| format!(" since {}", since.format("%Y-%m-%d %H:%M:%S UTC")));
    let detail = format!(
        "this ends machine {} at {} and discards everything it has written there{since}; nothing has changed yet. Repeat with --discard-writes \
         (discard_writes: true) to do it; how much it was will stand in the history",
        record.machine,
        record.target_site()
    );
    Err(Refusal::new(Code::ConfirmationNeeded, detail))
}

pub(super) async fn choosable(app: &App, record: &ItemRecord, choice: PointChoice) -> Result<(), Refusal> {
    let known = offered_points(app, record).await?;
    resolve(&known, choice).map_err(|none| Refusal::new(Code::NoRecoveryPoint, format!("item {}: {none}", record.name)))?;
    Ok(())
}

fn known(record: Option<&ItemRecord>) -> Result<&ItemRecord, Refusal> {
    record.ok_or_else(|| Refusal::new(Code::Internal, "an operation on an item without record passed the check"))
}
