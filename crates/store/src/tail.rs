//! The lost tail: a database server that comes back without its last commits, and what is done about it.
//!
//! ```text
//!   answered for ─▶ noted by a witness, on its own disk            started anew: whoever writes is refused (SB005)
//!                                                                       │
//!   known ──▶ asked ── witnesses testify, at most 20 s ──▶ known: leases end, and the era grows if something is not as it was
//!               └─ a run that lacks something: held (nobody claims it or its tasks) │ put back and held │ lost: told, settled by a person
//!               └─ an attempt that is not known: its task is in doubt, or has the result that was accepted; told as adopted
//! ```
//!
//! Invariants: 1. Contents decide: a server that holds all that witnesses have seen goes on, whatever its position in the log. 2. What is
//! held is let go by a person's word alone. 3. A witness that comes late testifies all the same; what it finds is held then, and the era grows.
//! 4. What nobody has seen is not missed: a turn without an answer had no effect that its agent has not noted. 5. An answer that is read after
//! its reader has testified, to a question from before, counts as none.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use engine::{
    StoreError,
    witness::{NotNoted, Note, Testimony, Witness},
};
use sdk::RunId;
use serde_json::json;
use tokio::sync::watch;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    Lost, PgStore,
    pg::{column, replace_nul},
    sql,
};

/// Between two signs of life: how long a server that was started anew is not noticed by somebody who only waits.
const LOOK: Duration = Duration::from_secs(1);
/// Most losses in one answer.
const MOST: i64 = 10_000;

/// Which life of the store this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Grows whenever something may have been lost.
    pub era: i64,
    /// Of the cluster that was known last.
    pub system_identifier: String,
    /// Its timeline then, eight hexadecimal digits.
    pub timeline: String,
    /// When the server that runs was started.
    pub started_at: DateTime<Utc>,
    /// Whether it was found to hold what witnesses have seen, or what it lacks is held.
    pub known: bool,
    /// When one was found so last.
    pub known_at: DateTime<Utc>,
    /// Since when witnesses are asked.
    pub asked_since: Option<DateTime<Utc>>,
}

/// Somebody who can say what was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessRow {
    /// `worker`, `server` or `agent`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its last sign of life, to some seconds.
    pub seen_at: DateTime<Utc>,
    /// Whether it has testified about the server that runs.
    pub testified: bool,
    /// Whether it is waited for.
    pub awaited: bool,
    /// When it was waited for in vain.
    pub silent_at: Option<DateTime<Utc>>,
}

/// Something that a witness saw and the store lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossRow {
    /// Of which run.
    pub run: RunId,
    /// `run`, `shorter`, `differs`, `message` or `effect`.
    pub what: String,
    /// Event that was seen last, or at which the task was scheduled; -1 where there is none.
    pub seq: i32,
    /// `held`, `lost`, `ended` or `adopted`.
    pub became: String,
    /// What the run is about, as far as it is known.
    pub about: Option<String>,
    /// Who saw it.
    pub witness: String,
    /// When it was found.
    pub found_at: DateTime<Utc>,
    /// Whether the run is held now.
    pub held: bool,
    /// State of the run; `None`: there is none.
    pub state: Option<String>,
    /// What a person has decided.
    pub settled: Option<SettledRow>,
}

/// A person's decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledRow {
    /// When.
    pub at: DateTime<Utc>,
    /// Whose.
    pub by: String,
    /// `go_on`, `cancel` or `accept_loss`.
    pub how: String,
    /// Why.
    pub reason: Option<String>,
}

/// When something was asked of the store: after so many testimonies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked(u64);

/// What became of settling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settling {
    /// It is settled.
    Settled,
    /// There is nothing to settle.
    Nothing,
    /// There is no run that could go on or be cancelled.
    NotThere,
    /// It is held: its loss alone can't be accepted.
    Held,
}

impl PgStore {
    /// Taken before the store is asked for what is to be noted.
    pub(crate) fn asked(&self) -> Asked {
        Asked(self.witness.as_ref().map_or(0, |witness| witness.testimonies()))
    }

    /// Notes what the store has answered for. A note that can't be written is missed by nobody but a store that loses its tail: told, and no
    /// reason to stop. An answer that came late is none.
    pub(crate) async fn noted(&self, asked: Asked, attempted: &'static str, notes: impl FnOnce() -> Vec<Note>) -> Result<(), StoreError> {
        let Some(witness) = self.witness.clone() else { return Ok(()) };
        let notes = notes();
        let kept = tokio::task::spawn_blocking(move || witness.note(asked.0, &notes)).await;
        match kept.unwrap_or_else(|error| Err(NotNoted::Disk(std::io::Error::other(error)))) {
            Ok(()) => Ok(()),
            Err(late @ NotNoted::Late) => Err(StoreError::Again { attempted, source: Box::new(late) }),
            Err(NotNoted::Disk(error)) => {
                tracing::error!(%error, "what the database has answered for was not noted; should it lose its last commits, this would not be found");
                Ok(())
            }
        }
    }

    /// A sign of life of a witness; gives whether it is to testify.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn hear_witness(&self, witness: Uuid, kind: &str, name: &str) -> Result<bool, Lost> {
        column(&self.one(&sql::HEAR_WITNESS, &[&witness, &kind, &name]).await?, "testify")
    }

    /// A slice of a testimony; gives how much of it the store lacks.
    ///
    /// # Errors
    /// The database does not answer; it may be sent again.
    pub async fn testify(&self, witness: Uuid, slice: &Testimony, last: bool) -> Result<i32, Lost> {
        let mut notes = json!(slice);
        replace_nul(&mut notes);
        let found = column(&self.one(&sql::TESTIFY, &[&witness, &notes, &last]).await?, "found")?;
        if found > 0 {
            tracing::error!(%witness, found, "the database lacks what it had answered for; see `switchback store check`");
        }
        Ok(found)
    }

    /// Makes the server known if nobody is waited for any more; gives whether it is known now.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn conclude_check(&self) -> Result<bool, Lost> {
        let row = self.one(&sql::CONCLUDE_CHECK, &[]).await?;
        match column(&row, "state")? {
            "known" => Ok(true),
            "checked" => {
                tracing::warn!("the database server was started anew and is known now");
                Ok(true)
            }
            "waiting" => Ok(false),
            other => Err(Lost::Unreadable(other.to_owned())),
        }
    }

    /// Which life of the store this is.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn life(&self) -> Result<Life, Lost> {
        let row = self.one(&sql::STORE_LIFE, &[]).await?;
        Ok(Life {
            era: column(&row, "era")?,
            system_identifier: column(&row, "system_identifier")?,
            timeline: column(&row, "timeline")?,
            started_at: column(&row, "started_at")?,
            known: column(&row, "known")?,
            known_at: column(&row, "known_at")?,
            asked_since: column(&row, "asked_since")?,
        })
    }

    /// Who can say what was committed.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn witnesses(&self) -> Result<Vec<WitnessRow>, Lost> {
        self.rows(&sql::WITNESSES, &[]).await?.iter().map(witness).collect()
    }

    /// What the store lacks: of a run or of all, and what needs nobody any more if `all`. The newest first, at most 10,000.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn losses(&self, run: Option<RunId>, all: bool) -> Result<Vec<LossRow>, Lost> {
        self.rows(&sql::LOSSES, &[&run.map(|run| run.0), &all, &MOST]).await?.iter().map(loss).collect()
    }

    /// Settles what a run lacks. `how` is `go_on`, `cancel` or `accept_loss`; whoever cancels sends the message first.
    ///
    /// # Errors
    /// The database does not answer, or its server is not known.
    pub async fn settle(&self, run: RunId, how: &str, by: &str, reason: &str) -> Result<Settling, Lost> {
        let row = self.one(&sql::SETTLE, &[&run.0, &how, &by, &reason]).await?;
        match column(&row, "answer")? {
            "settled" => Ok(Settling::Settled),
            "nothing" => Ok(Settling::Nothing),
            "not_there" => Ok(Settling::NotThere),
            "held" => Ok(Settling::Held),
            other => Err(Lost::Unreadable(other.to_owned())),
        }
    }

    /// Tells the store of whoever notes for it, and testifies when its server was started anew, until `stop` turns true.
    pub async fn keep_testifying(self: Arc<Self>, kind: &'static str, name: String, mut stop: watch::Receiver<bool>) {
        let Some(witness) = self.witness.clone() else { return };
        while !*stop.borrow() {
            if let Err(error) = self.testify_if_asked(witness.as_ref(), kind, &name).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "nobody heard this witness; trying again");
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
        if let Err(error) = self.forget_witness(witness.id()).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "nobody was told that this witness goes; it is awaited for a while");
        }
    }

    /// A witness ends in order: nobody waits for it.
    ///
    /// # Errors
    /// The database does not answer; it is awaited for a while then.
    pub async fn forget_witness(&self, witness: Uuid) -> Result<(), Lost> {
        self.rows(&sql::FORGET_WITNESS, &[&witness]).await.map(drop)
    }

    /// One sign of life, and what is asked for in return.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn testify_if_asked(&self, witness: &dyn Witness, kind: &str, name: &str) -> Result<bool, Lost> {
        if self.hear_witness(witness.id(), kind, name).await? {
            let slices = witness.testimony();
            for (place, slice) in slices.iter().enumerate() {
                self.testify(witness.id(), slice, place + 1 == slices.len()).await?;
            }
        }
        self.conclude_check().await
    }
}

fn witness(row: &Row) -> Result<WitnessRow, Lost> {
    Ok(WitnessRow {
        kind: column(row, "kind")?,
        name: column(row, "name")?,
        seen_at: column(row, "seen_at")?,
        testified: column(row, "testified")?,
        awaited: column(row, "awaited")?,
        silent_at: column(row, "silent_at")?,
    })
}

fn loss(row: &Row) -> Result<LossRow, Lost> {
    let at: Option<DateTime<Utc>> = column(row, "settled_at")?;
    let settled = at.map(|at| Ok::<_, Lost>(SettledRow { at, by: column(row, "settled_by")?, how: column(row, "settled")?, reason: column(row, "reason")? }));
    Ok(LossRow {
        run: RunId(column(row, "run_id")?),
        what: column(row, "what")?,
        seq: column(row, "seq")?,
        became: column(row, "became")?,
        about: column(row, "about")?,
        witness: column(row, "witness")?,
        found_at: column(row, "found_at")?,
        held: column(row, "held")?,
        state: column(row, "state")?,
        settled: settled.transpose()?,
    })
}
