//! An item while a workflow has it: its record, changed by facts that are recorded as they are applied.
//!
//! Each recorded change carries the record that results, so that the projection is a plain write, and the fact, so that
//! `verify` can fold all facts again and compare.

use recovery::{Fact, Generation, ItemName, ItemRecord, MainState, Operation, SiteName, Stand, Step, apply};
use sdk::{Context, Failure, Grant, TaskQueue};
use serde::{Deserialize, Serialize};

use crate::{
    back,
    declared::{LoadItem, Standing},
};

/// Name of the projection of item records.
pub const ITEM_PROJECTION: &str = "recovery.item";

/// A change of an item's record as it stands in histories.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemChange {
    /// Which.
    pub item: ItemName,
    /// What became true.
    pub fact: Fact,
    /// The record after it.
    pub record: ItemRecord,
}

/// Workflow id of everything that is done to an item: one at a time.
#[must_use]
pub fn item_workflow_id(item: &ItemName) -> String {
    format!("item:{item}")
}

/// Queue of a site's agents.
#[must_use]
pub fn site_queue(site: &SiteName) -> TaskQueue {
    TaskQueue::new(format!("site:{site}"))
}

/// Queue of what is carried out beside the store.
pub(crate) fn server_queue() -> TaskQueue {
    TaskQueue::new("server")
}

/// An item's record, as it stands while another may have the item.
pub(crate) async fn record_of(ctx: &Context, item: &ItemName) -> Result<ItemRecord, Failure> {
    known(ctx, item).await?.ok_or_else(|| no_such_item(item))
}

/// The same, if there is such an item: one that was forgotten is none.
pub(crate) async fn known(ctx: &Context, item: &ItemName) -> Result<Option<ItemRecord>, Failure> {
    let record = ctx.call(server_queue(), &LoadItem { item: item.clone() }).await?;
    Ok(record.filter(ItemRecord::is_known))
}

fn no_such_item(item: &ItemName) -> Failure {
    Failure::fatal("no-such-item", format!("no item is called {item}")).not_applied()
}

/// An item under lock.
pub(crate) struct Tracked {
    pub(crate) ctx: Context,
    pub(crate) name: ItemName,
    pub(crate) generation: Generation,
    record: Option<ItemRecord>,
    left: bool,
    failed_before: bool,
    /// Newest generation that the record knew of when it was loaded.
    known: Option<Generation>,
}

impl Tracked {
    /// Locks the item for this run and loads its record.
    pub(crate) async fn lock(ctx: &Context, name: &ItemName) -> Result<Self, Failure> {
        let (ctx, grant) = ctx.lock(&item_workflow_id(name)).await?;
        let Grant { epoch, era, .. } = grant;
        let record = known(&ctx, name).await?;
        let known = record.as_ref().map(|record| record.state.generation);
        Ok(Self { ctx, name: name.clone(), generation: Generation { era, grant_epoch: epoch }, record, left: false, failed_before: false, known })
    }

    pub(crate) fn record(&self) -> Result<&ItemRecord, Failure> {
        self.record.as_ref().ok_or_else(|| no_such_item(&self.name))
    }

    /// Applies a fact and records it.
    pub(crate) fn note(&mut self, fact: Fact) -> Result<(), Failure> {
        let refused = |why: recovery::FactRefused| Failure::fatal("not-allowed-in-this-state", causes(&why)).not_applied();
        let record = apply(self.record.clone(), &fact).map_err(refused)?;
        self.record = Some(record.clone());
        self.ctx.record(ITEM_PROJECTION, &ItemChange { item: self.name.clone(), fact, record });
        Ok(())
    }

    /// Refuses an operation that the item's state does not have.
    pub(crate) fn may(&self, operation: Operation) -> Result<(), Failure> {
        let begun = self.record()?.state.main.advance(Step::Begin { operation });
        begun.map(drop).map_err(|why| Failure::fatal("not-allowed-in-this-state", format!("item {}: {why}", self.name)).not_applied())
    }

    /// Begins an operation, if the item's state has it.
    pub(crate) fn begin(&mut self, operation: Operation) -> Result<(), Failure> {
        self.record()?;
        self.failed_before = matches!(self.record()?.state.main, MainState::Failed { before: None, .. });
        self.step(Step::Begin { operation })
    }

    /// The machine that an earlier try at the operation may have started, past its point of no return.
    pub(crate) fn started_before(&self) -> Option<Generation> {
        self.record.as_ref().and_then(|record| record.powered_on).filter(|_| self.failed_before)
    }

    /// The machine that stands in a recovery's way, if it was started by a failover newer than any that the record knew of.
    pub(crate) fn unknown_machine(&self, why: &Failure) -> Option<Standing> {
        let standing: Standing = serde_json::from_value(why.detail.get("error")?.get("standing")?.clone()).ok()?;
        self.known.is_some_and(|known| standing.generation > known).then_some(standing)
    }

    /// Lets this run's objects carry its own generation.
    pub(crate) fn granted(&mut self) -> Result<(), Failure> {
        self.note(Fact::Granted { generation: self.generation })
    }

    pub(crate) fn step(&mut self, step: Step) -> Result<(), Failure> {
        self.note(Fact::Moved { step })
    }

    /// From here on a failure leaves something behind that nobody puts back.
    pub(crate) fn leave(&mut self) {
        self.left = true;
    }

    /// Records how an operation ended, and hands its result on.
    pub(crate) fn end<T>(&mut self, operation: Operation, result: Result<T, Failure>) -> Result<T, Failure> {
        let step = match &result {
            Ok(_) => Step::Finish { operation },
            Err(failure) => {
                if let Some(left) = back::left_by(self, failure) {
                    self.note(left)?;
                }
                self.end_of(operation, failure)
            }
        };
        self.step(step)?;
        result
    }

    fn end_of(&self, operation: Operation, failure: &Failure) -> Step {
        let kept = !self.left && failure.detail.get("left_behind").is_none() && self.moves(Step::Fail { operation, stand: Stand::Kept });
        // What the state machine lets nobody give up has failed where it was given up all the same: it is never left under way.
        let given_up = failure.code == "cancelled" && self.moves(Step::Cancel { operation });
        match (kept, given_up) {
            (true, true) => Step::Cancel { operation },
            (true, false) => Step::Fail { operation, stand: Stand::Kept },
            (false, _) => Step::Fail { operation, stand: Stand::Left },
        }
    }

    /// Whether the state machine has that move from here.
    fn moves(&self, step: Step) -> bool {
        let state = self.record.as_ref().map_or(MainState::Unprotected, |record| record.state.main);
        state.advance(step).is_ok()
    }
}

/// An error and what caused it, in one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
