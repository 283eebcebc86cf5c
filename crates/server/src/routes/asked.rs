//! What the body of each operation's request must say, made into the input of its workflow.
//!
//! Whatever destroys something has to say that it may; the refusal says what would be destroyed.

use std::{collections::BTreeMap, time::Duration};

use api::{
    Code,
    items::{
        AcceptLoss, AcceptUnfenced, ChangePointRequest, ChangePolicyRequest, FailoverRequest, ForgetRequest, HoldRequest, MAX_SHUT_DOWN_MS, PlainRequest, PlannedRequest,
        ProtectRequest, ReleaseRequest, ReprotectRequest, ResolveRequest, TestFailoverRequest, UndoRequest,
    },
};
use engine::RunStore;
use recovery::{
    ItemName, ItemRecord, MainState, Operation, PointChoice, RecoveryPoint, ReplicationPolicy, Rest, Sync, TestCopy,
    profile::failback::{RECOMMENDED, from_point},
    resolve,
};
use serde_json::Value;
use tokio::time::Instant;
use workflows::{
    Acceptance, ChangePointInput, ChangePolicyInput, Decision, FailoverInput, ForgetInput, HoldInput, Part, PlannedInput, ProtectInput, ReleaseInput, ReprotectInput,
    ResolveInput, TestFailoverInput, UndoInput,
};

use super::items::{json, point, site};
use crate::{
    app::{App, read},
    caller::Caller,
    problem::Refusal,
};

/// How long an item may be without a point before that is believed: agents report twice a second, and one report may be lost.
const FIRST_REPORT: Duration = Duration::from_secs(2);

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
    let FailoverRequest { point: choice, accept_unfenced, fence_timeout_ms, shut_down_ms } = read(body)?;
    if let Some(shut_down_ms) = shut_down_ms {
        shut_down_in_time(shut_down_ms)?;
    }
    let record = known(record)?;
    if let Some(AcceptUnfenced { reason }) = &accept_unfenced
        && reason.trim().is_empty()
    {
        return Err(Refusal::new(Code::InvalidRequest, "to go on unfenced needs a reason: it stands in the history beside your name"));
    }
    choosable(app, record, choice).await?;
    let accept_unfenced = accept_unfenced.map(|AcceptUnfenced { reason }| Acceptance { by: caller.name.clone(), reason });
    json(&FailoverInput { item: record.name.clone(), choice, accept_unfenced, fence_timeout_ms, shut_down_ms, part: Part::default() })
}

/// What the target's journal listed when it last reported. The step that waits for the first point ends as soon as the source knows of it, and
/// the target's report of it may still be on its way.
async fn offered_points(app: &App, record: &ItemRecord) -> Result<Vec<RecoveryPoint>, Refusal> {
    let asked = Instant::now();
    loop {
        let rows = app.store.points(Some(record.name.as_str())).await?;
        let points: Vec<RecoveryPoint> = rows.iter().filter(|row| row.site == record.target_site().as_str()).map(point).collect::<Result<_, _>>()?;
        if !points.is_empty() || asked.elapsed() > FIRST_REPORT {
            return Ok(points);
        }
        tokio::time::sleep(FIRST_REPORT / 20).await;
    }
}

pub(super) fn plain(body: &[u8], input: &impl serde::Serialize) -> Result<Value, Refusal> {
    let PlainRequest {} = read(body)?;
    json(input)
}

fn shut_down_in_time(shut_down_ms: u64) -> Result<(), Refusal> {
    if (1_000..=MAX_SHUT_DOWN_MS).contains(&shut_down_ms) {
        return Ok(());
    }
    let detail = format!("{shut_down_ms} ms for the guest to shut down are outside 1 s to {} s", MAX_SHUT_DOWN_MS / 1_000);
    Err(Refusal::new(Code::InvalidRequest, detail))
}

pub(super) async fn planned(app: &App, caller: &Caller, record: Option<&ItemRecord>, operation: Operation, body: &[u8]) -> Result<Value, Refusal> {
    let PlannedRequest { shut_down_ms, sync, point: choice, accept_loss } = read(body)?;
    let record = known(record)?;
    shut_down_in_time(shut_down_ms)?;
    if operation == Operation::PlannedFailover && sync == Sync::DuringFailover {
        return Err(Refusal::new(Code::InvalidRequest, "only a failback can copy everything while the machine is off"));
    }
    if operation == Operation::Failback && sync == Sync::BeforeFailover {
        loses(app, record, choice.unwrap_or(RECOMMENDED), accept_loss.as_ref()).await?;
    } else if choice.is_some_and(|choice| choice != RECOMMENDED) {
        let detail = format!("a {operation} that copies while the machine is off runs from the point that is made then, and from no other");
        return Err(Refusal::new(Code::InvalidRequest, detail));
    }
    let accept_loss = accept_loss.map(|AcceptLoss { reason }| Acceptance { by: caller.name.clone(), reason });
    json(&PlannedInput { item: record.name.clone(), shut_down_ms, sync, choice, accept_loss, part: Part::default() })
}

/// Refuses a failback without a point, and one whose point loses what nobody said may be lost. What failed past its point of no return is
/// taken up, from no point; what is not replicated has none, and the run says what can be done.
async fn loses(app: &App, record: &ItemRecord, choice: PointChoice, accept_loss: Option<&AcceptLoss>) -> Result<(), Refusal> {
    if matches!(record.state.main, MainState::Failed { before: None, .. }) || record.state.main.rest() == Some(Rest::Committed) {
        return Ok(());
    }
    let points = offered_points(app, record).await?;
    let loss = from_point(&record.name, &points, choice, app.store.now().await?);
    let loss = loss.map_err(|none| Refusal::new(Code::NoRecoveryPoint, format!("item {} can't go home: {none}", record.name)))?;
    let Some(loss) = loss else { return Ok(()) };
    match accept_loss {
        Some(AcceptLoss { reason }) if !reason.trim().is_empty() => Ok(()),
        Some(_) => Err(Refusal::new(Code::InvalidRequest, "to accept a loss needs a reason: it stands in the history beside your name")),
        None => {
            let detail = format!(
                "{loss}; nothing has changed yet. Leave the point out, and nothing is lost; or repeat with --accept-loss --reason (accept_loss) to go \
                 home from it. The last point is made all the same, and can be changed to until the commit"
            );
            Err(Refusal::new(Code::ConfirmationNeeded, detail))
        }
    }
}

pub(super) async fn hold(app: &App, caller: &Caller, record: Option<&ItemRecord>, body: &[u8]) -> Result<Value, Refusal> {
    let HoldRequest { point, reason } = read(body)?;
    let reason = said(reason, "a hold")?;
    let record = known(record)?;
    choosable(app, record, PointChoice::Exact(point)).await?;
    json(&HoldInput { item: record.name.clone(), point, by: caller.name.clone(), reason })
}

pub(super) fn release(caller: &Caller, record: Option<&ItemRecord>, body: &[u8]) -> Result<Value, Refusal> {
    let ReleaseRequest { reason } = read(body)?;
    let reason = said(reason, "a release")?;
    json(&ReleaseInput { item: known(record)?.name.clone(), by: caller.name.clone(), reason })
}

/// What unprotect could not reach stays where it is; whoever forgets it says so.
pub(super) async fn forget(app: &App, caller: &Caller, record: Option<&ItemRecord>, body: &[u8]) -> Result<Value, Refusal> {
    let ForgetRequest { leave_behind } = read(body)?;
    let record = known(record)?;
    let name = &record.name;
    let points = app.store.points(Some(name.as_str())).await?;
    let mut left: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for row in points.iter().filter(|row| !row.withdrawn) {
        left.entry(&row.site).or_default().push(row.point.to_string());
    }
    let mut told: Vec<String> = left.iter().map(|(site, points)| format!("site {site} keeps recovery points {} of it", points.join(", "))).collect();
    if let Some(copy) = &record.test_copy {
        left.entry(copy.site.as_str()).or_default();
        told.push(format!("site {} may keep the copy of a test failover", copy.site));
    }
    if let Some(source) = &record.source_left {
        left.entry(source.site.as_str()).or_default();
        told.push(format!("at site {} machine {} may be fenced, so that it stays off, and who forgets it is not there to let it go", source.site, record.machine));
    }
    if !told.is_empty() && !leave_behind {
        let detail = format!(
            "{}: nobody there answered when {name} was unprotected; nothing has changed. Protect it and unprotect it again while that site is there, and \
             nothing is left; or repeat with --leave-behind (leave_behind): it stays there, takes space, and is not listed any more",
            told.join("; ")
        );
        return Err(Refusal::new(Code::ConfirmationNeeded, detail));
    }
    let left_behind = left.into_keys().map(site).collect::<Result<_, _>>()?;
    let named_by = app.store.naming_item(name.as_str()).await?;
    json(&ForgetInput { item: name.clone(), by: caller.name.clone(), left_behind, named_by })
}

fn said(reason: String, of: &str) -> Result<String, Refusal> {
    if reason.trim().is_empty() {
        return Err(Refusal::new(Code::InvalidRequest, format!("{of} needs a reason: it stands in the history beside your name")));
    }
    Ok(reason)
}

pub(super) fn change_policy(record: Option<&ItemRecord>, body: &[u8]) -> Result<Value, Refusal> {
    let ChangePolicyRequest { interval_s, retention_points, retention_window_s, bandwidth_bytes_per_s, app_consistent_interval_s, rpo_threshold_s, change_window_s } = read(body)?;
    let record = known(record)?;
    let now = &record.policy;
    let bandwidth = bandwidth_bytes_per_s.map_or(now.bandwidth_bytes_per_s(), |rate| Some(rate).filter(|rate| *rate > 0));
    let app_consistent = app_consistent_interval_s.map_or(now.app_consistent_interval_s(), |every| Some(every).filter(|every| *every > 0));
    let (points, window) = (retention_points.unwrap_or(now.retention_points()), retention_window_s.unwrap_or(now.retention_window_s()));
    let policy = ReplicationPolicy::new(interval_s.unwrap_or(now.interval_s()), points, window, bandwidth);
    let threshold = rpo_threshold_s.map_or(now.rpo_threshold_s(), |age| Some(age).filter(|age| *age > 0));
    let change = change_window_s.map_or(now.change_window_s(), |window| Some(window).filter(|window| *window > 0));
    let policy = policy.and_then(|policy| policy.with_app_consistent(app_consistent)?.with_rpo_threshold(threshold)?.with_change_window(change));
    let policy = policy.map_err(|why| Refusal::new(Code::InvalidRequest, format!("item {} can't have that policy: {why}", record.name)))?;
    if policy == *now {
        return Err(Refusal::new(Code::NotNow, format!("item {} has that policy already", record.name)));
    }
    json(&ChangePolicyInput { item: record.name.clone(), policy })
}

pub(super) fn resolve_contradiction(caller: &Caller, record: Option<&ItemRecord>, body: &[u8]) -> Result<Value, Refusal> {
    let ResolveRequest { rest, site, reason } = read(body)?;
    let item = known(record)?.name.clone();
    let decision = match (rest, site, reason) {
        (None, None, None) => None,
        (None, _, _) => return Err(Refusal::new(Code::InvalidRequest, "a site or a reason goes with the state that holds, and none is named")),
        (Some(rest), site, reason) => {
            let reason = said(reason.unwrap_or_default(), "a decision")?;
            Some(Decision { rest, site, by: caller.name.clone(), reason })
        }
    };
    json(&ResolveInput { item, decision })
}

/// Refuses another point after its window.
async fn in_time(app: &App, record: &ItemRecord) -> Result<(), Refusal> {
    let now = app.store.now().await?;
    let Some(until) = record.change_until().filter(|until| now > *until) else { return Ok(()) };
    let detail = format!(
        "another point of item {} could be chosen until {}, {} minutes after its failover, by {}. Commit, or undo",
        record.name,
        until.format("%Y-%m-%d %H:%M:%S UTC"),
        record.change_window().num_minutes(),
        if record.policy.change_window_s().is_some() { "its policy".to_owned() } else { format!("the rules of {}", record.profile) }
    );
    Err(Refusal::new(Code::NotNow, detail))
}

pub(super) async fn change_point(app: &App, record: Option<&ItemRecord>, body: &[u8]) -> Result<Value, Refusal> {
    let ChangePointRequest { point: choice, discard_writes } = read(body)?;
    let record = known(record)?;
    in_time(app, record).await?;
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

/// Refuses a time for which no copy may stay.
pub(super) fn stays(ttl_ms: u64) -> Result<(), Refusal> {
    if (TestCopy::MUST_STAY.ms()..=TestCopy::MAY_STAY.ms()).contains(&ttl_ms) {
        return Ok(());
    }
    let detail = format!("a copy that stays for {ttl_ms} ms is outside {} to {}", TestCopy::MUST_STAY, TestCopy::MAY_STAY);
    Err(Refusal::new(Code::InvalidRequest, detail))
}

pub(super) async fn test_failover(app: &App, record: Option<&ItemRecord>, body: &[u8]) -> Result<Value, Refusal> {
    let TestFailoverRequest { point: choice, ttl_ms } = read(body)?;
    let record = known(record)?;
    if let Some(ttl_ms) = ttl_ms {
        stays(ttl_ms)?;
    }
    choosable(app, record, choice).await?;
    json(&TestFailoverInput { item: record.name.clone(), choice, checks: vec![], ttl_ms, part: Part::default() })
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
