//! Give back: a source that a failover has left, because nobody could reach it, goes on as before once its site answers.
//!
//! ```text
//!   lock ─▶ look at source and target ─▶ discard what was never started ─▶ unpin ─▶ reopen replica ─▶ start replication ─▶ lift fence ─▶ protected
//! ```
//!
//! Invariants: 1. Only where no machine was powered on since: else the source stays as it is. 2. The record moves when all of it is done; until
//! then the item can be failed over, undone or unprotected as before. 3. A site that does not answer is left after a moment: who fails over
//! meanwhile is not kept waiting.

use std::time::Duration;

use recovery::{Fact, ItemName, Operation, SiteName, Step, allowed_operations};
use sdk::{Activity, Context, Failure, Retry, Workflow};
use serde::{Deserialize, Serialize};

use crate::{
    back::{Back, Then},
    declared::{DiscardMachine, LiftFence, ListPoints, LookAtMachines, SiteError, UnpinPoint},
    promote::pin_of,
    site_queue,
    tracked::Tracked,
    undone::{self, Patience},
};

/// How long an agent may take to pick a question up: it has just been heard.
const PICK_UP: Duration = Duration::from_secs(15);
/// Some two seconds of questions: what does not answer then is dark still.
const ASKED: Retry = Retry { max_attempts: 4, first_ms: 300, factor: 2.0, max_ms: 1_200 };

/// What to give back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GiveBackInput {
    /// The source of which item.
    pub item: ItemName,
}

/// A source that goes on as before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GivenBack {
    /// Where.
    pub site: SiteName,
    /// The item's main state now, in words.
    pub state: String,
}

/// The workflow.
pub struct GiveBack;

impl Workflow for GiveBack {
    const NAME: &'static str = "give-back";
    type Input = GiveBackInput;
    type Output = GivenBack;

    async fn run(ctx: Context, input: GiveBackInput) -> Result<GivenBack, Failure> {
        let mut item = Tracked::lock(&ctx, &input.item).await?;
        let record = item.record()?;
        let Some(left) = record.source_left.clone() else {
            let message = format!("the source of item {} was not left behind: there is nothing to give back", item.name);
            return Err(Failure::fatal("not-allowed-in-this-state", message).not_applied());
        };
        // It failed before anything was started, and is in the middle of it since; in any other state the machine alone was left.
        let midway = allowed_operations(&record.state, record.profile).contains(&Operation::Undo) && record.powered_on.is_none();
        let look = LookAtMachines { item: item.name.clone(), machine: record.machine.clone(), generation: record.running_generation() };
        answers(&item, &left.site, &look).await?;
        if midway {
            answers(&item, record.target_site(), &ListPoints { item: item.name.clone() }).await?;
            as_before(&mut item).await?;
        } else {
            let lift = LiftFence { item: item.name.clone(), machine: record.machine.clone() };
            undone::call(&item.ctx.shielded(), &site_queue(&left.site), &lift, Patience::UntilItPasses).await?;
            item.note(Fact::SourceGivenBack)?;
        }
        Ok(GivenBack { site: left.site, state: item.record()?.state.main.to_string() })
    }
}

/// Refuses while nobody answers there.
async fn answers<A: Activity<Error = SiteError>>(item: &Tracked, site: &SiteName, question: &A) -> Result<(), Failure> {
    let asked = item.ctx.call(site_queue(site), question).retry(ASKED).queue_timeout(PICK_UP).total_timeout(PICK_UP * 2).await;
    asked.map(drop).map_err(|why| {
        let why = Failure::from(why);
        if why.code == "cancelled" {
            return why;
        }
        let message = format!("site {site} does not answer ({}), so the source of item {} can't be given back yet; nothing has changed", why.message, item.name);
        Failure::fatal("site-not-reached", message).not_applied()
    })
}

async fn as_before(item: &mut Tracked) -> Result<(), Failure> {
    let ctx = item.ctx.shielded();
    let record = item.record()?;
    let (target, never_started, chosen) = (site_queue(record.target_site()), record.running_generation(), record.chosen.clone());
    let name = item.name.clone();
    undone::call(&ctx, &target, &DiscardMachine { item: name.clone(), generation: never_started }, Patience::UntilItPasses).await?;
    if let Some(chosen) = chosen {
        let unpin = UnpinPoint { item: name, point: chosen.point, pin: pin_of(never_started) };
        undone::call(&ctx, &target, &unpin, Patience::UntilItPasses).await?;
    }
    item.granted()?;
    Back::of(item)?.given_back(ctx, Then::AsBefore).await?;
    item.step(Step::Begin { operation: Operation::Undo })?;
    item.step(Step::Finish { operation: Operation::Undo })
}
