//! Heads of ended runs, noted where the owner of the database can't reach: whoever writes a history anew is found by them.
//!
//! ```text
//!   server: heads by the time of their end ─▶ known? same? ─▶ new: a line in anchors.jsonl, fsynced
//!                                                └─ another head than noted: an alarm, here and in the server's list of agents
//! ```
//!
//! Invariants: 1. A line is written once and never changed; a run that is told otherwise later stays noted as it was first. 2. A line
//! that was torn by a crash was never counted. 3. The time of an end is not the time at which it becomes visible: each look goes back
//! a little, and now and then to the beginning, which also finds old histories that were changed.

mod file;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Result;
use api::evidence::{AskHeads, Heads};
use chrono::{DateTime, TimeDelta, Utc};
use sdk::RunId;
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) use file::{Anchors, print};

/// How often ended runs are looked for: how long somebody has to change a history unseen.
const EVERY: Duration = Duration::from_secs(10);
/// How far each look goes back: far longer than any transaction of the server may take.
const OVERLAP: TimeDelta = TimeDelta::minutes(10);
/// Looks until one goes back to the beginning: six hours.
const WHOLE_AFTER: u32 = 2_160;

/// Notes heads until `stop` turns true.
pub(crate) async fn keep(client: Arc<api::Client>, mut anchors: Anchors, mut stop: watch::Receiver<bool>) {
    let (mut looks, mut newest) = (0_u32, DateTime::UNIX_EPOCH);
    while !*stop.borrow() {
        let whole = looks.is_multiple_of(WHOLE_AFTER);
        let from = if whole { DateTime::UNIX_EPOCH } else { newest - OVERLAP };
        match look(&client, &mut anchors, from, &stop).await {
            Ok(until) => {
                looks = looks.wrapping_add(1);
                newest = newest.max(until);
            }
            Err(error) => tracing::debug!(%error, "no heads were noted; looking again later"),
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stop.changed() => {}
        }
    }
}

/// One look: all that ended after `from`. Gives the time of the last end.
async fn look(client: &api::Client, anchors: &mut Anchors, from: DateTime<Utc>, stop: &watch::Receiver<bool>) -> Result<DateTime<Utc>> {
    let (mut after, mut run) = (from, RunId(Uuid::nil()));
    while !*stop.borrow() {
        let told = anchors.alarm().map(str::to_owned);
        let asked = AskHeads { after, run, anchored: anchors.count(), alarm: told.clone() };
        let Heads { heads } = client.post("/v1/agent/heads", &asked).await?;
        let last = heads.last().map(|head| (head.closed_at, head.run));
        let all = heads.len() < Heads::MOST;
        let before = anchors.count();
        anchors.note(heads)?;
        (after, run) = last.unwrap_or((after, run));
        // What was found now is told at once, not at the next look.
        if all && told.as_deref() == anchors.alarm() && before == anchors.count() {
            break;
        }
    }
    Ok(after)
}

/// The anchors of an agent, opened where it keeps its identity.
pub(crate) fn open(dir: &Path) -> Result<Anchors> {
    Anchors::open(dir, file::LARGEST_BYTES)
}
