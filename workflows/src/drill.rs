//! Drill: a rehearsal that counts. A test failover is started, asked whether it serves, measured, and removed without a trace.
//!
//!   inventory ─▶ test failover (child) ─▶ clean-up (child) ─▶ inventory ─▶ verdict
//!
//! Invariants: 1. What the test failover made is cleaned up whatever happens, a cancel of the drill included. 2. A copy that
//! somebody else made is left alone. 3. A drill passed only if each of its claims was seen to hold; what was not seen does not
//! hold. 4. A drill that did not pass has completed with its verdict: a failed run is one that has none.

mod verdict;

use std::time::Duration;

use recovery::{Check, ItemName, PointChoice, SiteName};
use sdk::{ChildError, ClosePolicy, Context, Failure, Workflow};
use serde::{Deserialize, Serialize};

pub use verdict::Drilled;
use verdict::{Seen, Trial};

use crate::{
    CleanTestFailover, CleanTestInput, Part, TestFailover, TestFailoverInput,
    declared::{TakeInventory, TestObject},
    item_workflow_id, site_queue,
    test_failover::Stages,
    tracked::known,
};

/// Longest wait for a site to list what it has: its agent answers in seconds, or the site is gone.
const INVENTORY_LIMIT: Duration = Duration::from_secs(300);
/// Waits for the item while another run has it, before the copy is removed: an hour and a half in all, longer than any failover
/// that waits for nobody.
const CLEAN_WAITS_S: [u64; 12] = [5, 10, 20, 40, 60, 120, 300, 600, 900, 900, 1_200, 1_200];

/// What to rehearse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrillInput {
    /// Which.
    pub item: ItemName,
    /// Which point.
    pub choice: PointChoice,
    /// Asked beside the item's own checks.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Longest time until it serves.
    pub rto_target_ms: Option<u64>,
    /// Greatest age of the point.
    pub rpo_target_ms: Option<u64>,
    /// Why, for whoever reads the report.
    pub note: Option<String>,
}

/// The workflow.
pub struct Drill;

/// Workflow id of drills of an item: one at a time, whoever asks.
#[must_use]
pub fn drill_workflow_id(item: &ItemName) -> String {
    format!("drill:{item}")
}

impl Workflow for Drill {
    const NAME: &'static str = "drill";
    type Input = DrillInput;
    type Output = Drilled;

    async fn run(ctx: Context, input: DrillInput) -> Result<Drilled, Failure> {
        let requested_at = ctx.now();
        let mut stages = Stages::since(requested_at);
        let record = known(&ctx, &input.item).await?;
        let unknown = || Failure::fatal("no-such-item", format!("no item is called {}: there is nothing to rehearse", input.item)).not_applied();
        let site = record.ok_or_else(unknown)?.target_site().clone();
        let before = inventory(&ctx, &site, &input.item).await;
        if ctx.cancelled() {
            return Err(sdk::Cancelled.into());
        }
        stages.end("inventory before", ctx.now());
        let mut seen = Seen { site, test_run: None, trial: Trial::NotBegun(String::new()), cleaned: Ok(()), clean_runs: vec![], left_behind: Ok(vec![]) };
        match before {
            Err(why) => seen.trial = Trial::NotBegun(format!("site {} could not list what it has: {}", seen.site, why.message)),
            Ok(before) => rehearse(&ctx, &input, &before, &mut seen, &mut stages).await,
        }
        let drilled = verdict::of(input, requested_at, seen, stages.all());
        if ctx.cancelled() {
            return Err(verdict::cancelled(&drilled));
        }
        Ok(drilled)
    }
}

/// The test failover and its clean-up. From where it begins nothing stops the clean-up.
async fn rehearse(ctx: &Context, input: &DrillInput, before: &[TestObject], seen: &mut Seen, stages: &mut Stages) {
    let wanted = TestFailoverInput { item: input.item.clone(), choice: input.choice, checks: input.checks.clone(), ttl_ms: None, part: Part::default() };
    seen.trial = match ctx.child::<TestFailover>(item_workflow_id(&input.item), &wanted, ClosePolicy::Cancel).await {
        Err(ChildError::AlreadyOpen(run)) => Trial::NotBegun(format!("run {run} has the item")),
        Err(why) => Trial::NotBegun(Failure::from(why).message),
        Ok(child) => {
            seen.test_run = Some(child.run());
            child.ended().await.map_or_else(Trial::of_error, |tested| Trial::Tested(Box::new(tested)))
        }
    };
    stages.end("test failover", ctx.now());
    let ctx = ctx.shielded();
    if seen.trial.has_a_copy() {
        seen.cleaned = clean(&ctx, &input.item, &mut seen.clean_runs).await;
        stages.end("clean-up", ctx.now());
    }
    let after = inventory(&ctx, &seen.site, &input.item).await;
    seen.left_behind = after.map(|after| after.into_iter().filter(|object| !before.contains(object)).collect());
    stages.end("inventory after", ctx.now());
}

async fn inventory(ctx: &Context, site: &SiteName, item: &ItemName) -> Result<Vec<TestObject>, Failure> {
    let taken = ctx.call(site_queue(site), &TakeInventory { item: item.clone() }).total_timeout(INVENTORY_LIMIT).await?;
    Ok(taken.objects)
}

/// Removes the copy, after whoever has the item now.
async fn clean(ctx: &Context, item: &ItemName, runs: &mut Vec<sdk::RunId>) -> Result<(), Failure> {
    let mut waits = CLEAN_WAITS_S.into_iter().map(Duration::from_secs);
    loop {
        let input = CleanTestInput { item: item.clone() };
        let why = match ctx.child::<CleanTestFailover>(item_workflow_id(item), &input, ClosePolicy::Leave).await {
            Err(why @ ChildError::AlreadyOpen(_)) => why.into(),
            Err(why) => return Err(why.into()),
            Ok(child) => {
                runs.push(child.run());
                match child.ended().await {
                    Ok(_) => return Ok(()),
                    Err(why) => Failure::from(why),
                }
            }
        };
        // A real failover removes the copy by itself: then there is nothing left to be cleaned.
        let record = known(ctx, item).await?;
        if record.is_none_or(|record| record.state.test_failover == recovery::TestFailover::None) {
            return Ok(());
        }
        let Some(wait) = waits.next() else { return Err(why) };
        ctx.sleep(wait).await?;
    }
}
