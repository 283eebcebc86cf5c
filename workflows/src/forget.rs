//! Forget: an item that is not replicated, and of which nothing is left to lose, is taken off the list.
//!
//!   lock ─▶ in no use, in no group? ─▶ forgotten: its row goes, with what sites and drills have said of it
//!
//! Invariants: 1. No site is asked and no machine touched: what would have to be removed there is removed by unprotect. 2. Histories stay,
//! and so does the count of grants: an item of the same name that is protected later is never behind what this one has left.

use recovery::{Fact, ItemName, MainState, Operation, SiteName, allowed_operations};
use sdk::{Context, Failure, Workflow};
use serde::{Deserialize, Serialize};

use crate::tracked::Tracked;

/// What to forget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForgetInput {
    /// Which.
    pub item: ItemName,
    /// Who says so.
    pub by: String,
    /// Sites at which something of it may still lie, and that is accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_behind: Vec<SiteName>,
    /// Plans, policies and schedules that name it, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named_by: Vec<String>,
}

/// An item that is not known any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forgotten {
    /// What it was last.
    pub was: MainState,
    /// As asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_behind: Vec<SiteName>,
    /// They have to be changed, or the item protected again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named_by: Vec<String>,
}

/// The workflow.
pub struct Forget;

impl Workflow for Forget {
    const NAME: &'static str = "forget";
    type Input = ForgetInput;
    type Output = Forgotten;

    async fn run(ctx: Context, input: ForgetInput) -> Result<Forgotten, Failure> {
        let mut item = Tracked::lock(&ctx, &input.item).await?;
        let record = item.record()?;
        let was = record.state.main;
        if !allowed_operations(&record.state, record.profile).contains(&Operation::Forget) {
            let message = format!("item {} is {was}: it is forgotten once it is unprotected", item.name);
            return Err(Failure::fatal("not-allowed-in-this-state", message).not_applied());
        }
        item.note(Fact::Forgotten { by: input.by, at: ctx.now(), left_behind: input.left_behind.clone() })?;
        Ok(Forgotten { was, left_behind: input.left_behind, named_by: input.named_by })
    }
}
