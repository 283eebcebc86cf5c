//! What servers and workers do by themselves: they look again and again, and start runs as a person would.
//!
//! Invariants: 1. Every process looks, as often as it likes: a second run about the same is refused by the database. 2. A look that fails is
//! told and repeated; whatever was to be found is found by the next one.

use std::time::Duration;

use async_trait::async_trait;
use engine::{RunStore, StartRun, Started};
use recovery::ItemRecord;
use sdk::{Message, RunId, Workflow};
use serde::Serialize;
use store::{PgStore, items::ItemRow};
use tokio::sync::watch;
use uuid::Uuid;

use crate::listen::stopped;

/// Why a look came to nothing.
pub(crate) type LookError = Box<dyn std::error::Error + Send + Sync>;

/// Something that is looked at again and again.
#[async_trait]
pub(crate) trait Look: Send {
    /// Between two looks.
    const EVERY: Duration;
    /// What was not done if a look fails.
    const FAILED: &'static str;

    /// One look, and what follows from it.
    async fn look(&mut self) -> Result<(), LookError>;
}

/// Looks at once, then again and again until told to stop.
pub(crate) async fn keep<L: Look>(mut looker: L, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        if let Err(error) = looker.look().await {
            tracing::warn!(error = &*error, "{}", L::FAILED);
        }
        tokio::select! {
            () = tokio::time::sleep(L::EVERY) => {}
            () = stopped(&mut stop) => {}
        }
    }
}

/// All items, each with its record.
pub(crate) async fn items(store: &PgStore) -> Result<Vec<(ItemRow, ItemRecord)>, LookError> {
    let rows = store.items(None).await?.into_iter();
    rows.map(|row| Ok((serde_json::from_value(row.record.clone())?, row))).map(|read| read.map(|(record, row)| (row, record))).collect()
}

/// Starts a run that nobody has asked for, unless one about the same is open: that one's id is given then.
pub(crate) async fn start<W: Workflow<Input: Serialize>>(store: &PgStore, workflow_id: String, asked_by: &str, input: &W::Input) -> Result<Started, LookError> {
    let start = Message::Start {
        workflow: W::NAME.to_owned(),
        workflow_id,
        requested_by: asked_by.to_owned(),
        input: serde_json::to_value(input)?,
        trace: None,
        parent: None,
    };
    Ok(store.start_run(StartRun { run: RunId(Uuid::now_v7()), start }).await?)
}
