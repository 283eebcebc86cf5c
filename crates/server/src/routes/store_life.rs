//! The store itself: what it has lost, and what becomes of it.
//!
//! Invariant: whoever cancels a run that is held is heard before it is let go, so that it takes no step in between.

use api::{
    Code,
    access::Role,
    store::{LossView, Settle, SettleHow, Settled, StoreState, StoreView, WitnessView},
};
use axum::{
    Json,
    extract::{Path, State},
};
use engine::{RunStore, Sent};
use sdk::{Message, RunId};
use serde::Deserialize;
use store::tail::{LossRow, Settling, WitnessRow};

use crate::{
    app::{App, Asked, Queried, parsed},
    caller::Caller,
    problem::{Answer, Refusal},
};

/// Longest reason: it is shown in a line.
const REASON_BYTES: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Also what is settled or needs nobody.
    #[serde(default)]
    all: bool,
}

pub(super) async fn look(_: Caller, State(app): State<App>, Queried(Which { all }): Queried<Which>) -> Answer<StoreView> {
    view(&app, None, all).await
}

pub(super) async fn settle(caller: Caller, State(app): State<App>, Path(run): Path<String>, Asked(asked): Asked<Settle>) -> Answer<StoreView> {
    caller.may(Role::Operator)?;
    let (run, Settle { how, reason }): (RunId, Settle) = (parsed(&run)?, asked);
    if reason.trim().is_empty() || reason.len() > REASON_BYTES || reason.contains('\0') {
        return Err(Refusal::new(Code::InvalidRequest, format!("a reason has 1 to {REASON_BYTES} bytes of text")));
    }
    let waiting = app.store.losses(Some(run), false).await?;
    if waiting.is_empty() {
        return Err(Refusal::new(Code::NotNow, format!("of run {run} there is nothing to settle")));
    }
    if how == SettleHow::Cancel {
        let cancel = Message::Cancel { by: caller.name.clone(), reason: reason.clone() };
        match app.store.send(run, cancel).await? {
            Sent::Accepted => {}
            Sent::Closed => return Err(Refusal::new(Code::RunEnded, format!("run {run} has ended: accept what was lost of it"))),
            Sent::NoSuchRun => return Err(not_there(run)),
        }
    }
    match app.store.settle(run, how.as_str(), &caller.name, &reason).await? {
        Settling::Settled => {}
        Settling::Nothing => return Err(Refusal::new(Code::NotNow, format!("of run {run} there is nothing to settle"))),
        Settling::NotThere => return Err(not_there(run)),
        Settling::Held => {
            let detail = format!("run {run} is held and can go on or be cancelled; its loss alone can't be accepted");
            return Err(Refusal::new(Code::InvalidRequest, detail));
        }
    }
    tracing::warn!(%run, how = how.as_str(), by = caller.name, reason, "what the database has lost of a run is settled");
    view(&app, Some(run), true).await
}

fn not_there(run: RunId) -> Refusal {
    Refusal::new(Code::UnknownRun, format!("run {run} is lost, and nobody knows what it was asked for: accept the loss and ask for it again"))
}

async fn view(app: &App, run: Option<RunId>, all: bool) -> Answer<StoreView> {
    let life = app.store.life().await?;
    let witnesses = app.store.witnesses().await?.into_iter().map(|row| {
        let WitnessRow { kind, name, seen_at, testified, awaited, silent_at } = row;
        WitnessView { kind, name, seen_at, testified, awaited, silent_at }
    });
    Ok(Json(StoreView {
        state: if life.known { StoreState::Known } else { StoreState::Checking },
        era: life.era,
        system_identifier: life.system_identifier,
        timeline: life.timeline,
        started_at: life.started_at,
        known_at: life.known_at,
        asked_since: life.asked_since,
        witnesses: witnesses.collect(),
        losses: app.store.losses(run, all).await?.into_iter().map(loss).collect(),
    }))
}

fn loss(row: LossRow) -> LossView {
    let LossRow { run, what, seq, became, about, witness, found_at, held, state, settled } = row;
    let settled = settled.map(|settled| Settled { at: settled.at, by: settled.by, how: settled.how, reason: settled.reason });
    LossView { run, what, seq, became, about, witness, found_at, held, run_state: state, settled }
}
