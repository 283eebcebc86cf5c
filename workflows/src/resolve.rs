//! Resolve: compare what is recorded of an item with what its sites see, and settle which of the two holds.
//!
//! ```text
//!   lock ─▶ look at both sites ─▶ they agree with the record ─▶ nothing to do; or back from `reconcile` to the state before it
//!                              └▶ they contradict it ─▶ `reconcile` ─▶ a named person's decision that the sites don't contradict
//! ```
//!
//! Invariants: 1. Nothing is guessed: a site that does not answer says nothing, and then only a person can decide. 2. A decision against what
//! was seen is refused, with what has to be done first. 3. Nothing at any site is changed.

use std::time::Duration;

use recovery::{Fact, ItemName, ItemRecord, MainState, Operation, Rest, Seen, Side, SiteName, allowed_operations, contradictions};
use sdk::{CallError, Context, Failure, Workflow};
use serde::{Deserialize, Serialize};

use crate::{declared::LookAtMachines, site_queue, tracked::Tracked};

/// How long a site's agent may take to answer.
const PICK_UP: Duration = Duration::from_secs(60);

/// What to settle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResolveInput {
    /// Which.
    pub item: ItemName,
    /// What a person says holds; without it the sites are looked at, and no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
}

/// What a person says holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The state.
    pub rest: Rest,
    /// Where the item runs; where the record says, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<SiteName>,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What a look at an item came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resolved {
    /// Whether record and reality agree now, as far as anybody could see.
    pub agrees: bool,
    /// What contradicts the record, a sentence each.
    pub contradictions: Vec<String>,
    /// Sites that did not answer.
    pub not_heard: Vec<SiteName>,
    /// The main state, in words.
    pub state: String,
}

/// The workflow.
pub struct Resolve;

impl Workflow for Resolve {
    const NAME: &'static str = "resolve";
    type Input = ResolveInput;
    type Output = Resolved;

    async fn run(ctx: Context, input: ResolveInput) -> Result<Resolved, Failure> {
        let mut item = Tracked::lock(&ctx, &input.item).await?;
        let record = item.record()?.clone();
        if !allowed_operations(&record.state, record.profile).contains(&Operation::Resolve) {
            let message = format!("item {} is {}: there is nothing to settle", item.name, record.state.main);
            return Err(Failure::fatal("not-allowed-in-this-state", message).not_applied());
        }
        let (seen, not_heard) = look(&item, &record).await?;
        let found = contradictions(&as_before(&record), &seen);
        if record.state.main != MainState::Reconcile && !found.is_empty() {
            item.note(Fact::Contradicted { why: found.clone(), at: ctx.now() })?;
        }
        if let Some(decision) = input.decision {
            decided(&mut item, decision, &seen)?;
        } else if found.is_empty() && not_heard.is_empty() {
            agreed(&mut item)?;
        }
        let settled = item.record()?;
        let agrees = settled.state.main != MainState::Reconcile;
        let contradictions = if agrees { vec![] } else { found };
        Ok(Resolved { agrees, contradictions, not_heard, state: settled.state.main.to_string() })
    }
}

/// What the sites see, and which of them did not answer.
async fn look(item: &Tracked, record: &ItemRecord) -> Result<(Vec<Seen>, Vec<SiteName>), Failure> {
    let (mut seen, mut not_heard) = (vec![], vec![]);
    for site in [&record.primary, &record.recovery] {
        let look = LookAtMachines { item: item.name.clone(), machine: record.machine.clone(), generation: record.running_generation() };
        match item.ctx.call(site_queue(site), &look).queue_timeout(PICK_UP).await {
            Ok(looked) => seen.push(Seen {
                site: site.clone(),
                source_runs: looked.source_runs,
                autostart: looked.autostart,
                quarantined: looked.quarantined,
                recovered_runs: looked.recovered_runs,
                reported_at: item.ctx.now(),
            }),
            Err(CallError::Cancelled) => return Err(sdk::Cancelled.into()),
            Err(CallError::Timeout(_) | CallError::Exhausted { .. }) => not_heard.push(site.clone()),
            Err(other) => return Err(other.into()),
        }
    }
    Ok((seen, not_heard))
}

/// The record as it was before the contradiction was found.
fn as_before(record: &ItemRecord) -> ItemRecord {
    let before = record.contradiction.as_ref().and_then(|found| found.before);
    let main = before.map_or(record.state.main, Rest::state);
    ItemRecord { state: recovery::ItemState { main, ..record.state }, ..record.clone() }
}

/// Both sites answered, and nothing contradicts the state from which the item came here.
fn agreed(item: &mut Tracked) -> Result<(), Failure> {
    let record = item.record()?;
    let before = record.contradiction.as_ref().and_then(|found| found.before);
    let (Some(rest), MainState::Reconcile) = (before, record.state.main) else { return Ok(()) };
    let site = record.active_site().clone();
    item.note(Fact::Resolved { rest, site, by: None, reason: "both sites were seen to agree with the record".to_owned() })
}

fn decided(item: &mut Tracked, decision: Decision, seen: &[Seen]) -> Result<(), Failure> {
    let record = item.record()?;
    if record.state.main != MainState::Reconcile {
        let message = format!("record and reality of item {} agree, it is {}: there is nothing to decide", item.name, record.state.main);
        return Err(Failure::fatal("nothing-to-resolve", message).not_applied());
    }
    let Decision { rest, site, by, reason } = decision;
    let site = site.unwrap_or_else(|| record.active_site().clone());
    let as_decided = recovery::apply(Some(record.clone()), &Fact::Resolved { rest, site: site.clone(), by: None, reason: String::new() });
    let as_decided = as_decided.map_err(|why| Failure::fatal("not-allowed-in-this-state", why.to_string()).not_applied())?;
    let against = contradictions(&as_decided, seen);
    if !against.is_empty() {
        let other = if as_decided.state.active == Side::Primary { &record.recovery } else { &record.primary };
        let message = format!(
            "that item {} is {rest} at {site} is not what its sites see: {}. Nothing has changed; shut the machine at {other} down if what it wrote there \
             may be lost, or decide for what runs",
            item.name,
            against.join("; ")
        );
        return Err(Failure::fatal("against-what-is-seen", message).not_applied());
    }
    item.note(Fact::Resolved { rest, site, by: Some(by), reason })
}
