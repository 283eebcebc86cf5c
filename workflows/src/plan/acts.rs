//! Actions of a plan, one after the other: what an agent carries out, what a person does, what people agree to.

use std::time::Duration;

use recovery::{
    Generation, ItemName,
    plan::{
        Action, At, Does, Mode, StepRun, action_key,
        action::{ActionContext, Performed},
    },
};
use sdk::Failure;

use super::{
    Stop, asks,
    member::{Kept, Policy, Went},
    on_error,
};
use crate::{
    ActionOrder, carry_out,
    declared::ActionResult,
    tracked::record_of,
};

/// How long an agent may take to pick an action up: a site that is dead must not hold the plan.
const PICK_UP: Duration = Duration::from_secs(60);

/// Where actions stand.
pub(crate) struct Stage<'a> {
    pub(crate) mode: Mode,
    pub(crate) group: Option<&'a str>,
    pub(crate) item: Option<&'a ItemName>,
    pub(crate) place: String,
}

/// All of them that belong to the mode.
pub(crate) async fn chain(kept: &Kept<'_>, stage: &Stage<'_>, actions: &[Action]) -> Result<(), Stop> {
    for action in actions.iter().filter(|action| action.runs_in(stage.mode, stage.item)) {
        let policy = Policy { retries: action.retries, on_error: on_error(action.on_error, None, kept.on_error) };
        kept.step(&action_key(&stage.place, action), policy, async |step| {
            let said = one(kept, stage, action, step).await?;
            Ok(Went::Done((), said))
        })
        .await?;
    }
    Ok(())
}

async fn one(kept: &Kept<'_>, stage: &Stage<'_>, action: &Action, step: &StepRun) -> Result<String, Failure> {
    match action.does() {
        Ok(Does::Performed(performed)) => Ok(performed_by_agent(kept, stage, action, performed, step.attempts).await?.evidence),
        Ok(Does::Manual(manual)) => asks::manual(kept.ctx, kept.book, step, kept.people(&manual.of), &manual).await,
        Ok(Does::Approval(approval)) => asks::approval(kept.ctx, kept.book, step, kept.people(&approval.of), &approval).await,
        Err(kinds) => Err(Failure::fatal("invalid-plan", format!("action {} has {kinds} kinds", action.name))),
    }
}

async fn performed_by_agent(kept: &Kept<'_>, stage: &Stage<'_>, action: &Action, performed: Performed, attempt: u32) -> Result<ActionResult, Failure> {
    let site = if action.at == At::Target { kept.target } else { kept.source }.clone();
    let machine = machine(kept, stage, &performed).await?;
    let context = ActionContext {
        plan: kept.plan.clone(),
        run: kept.book.root().to_string(),
        mode: stage.mode,
        group: stage.group.map(str::to_owned),
        item: stage.item.cloned(),
        step: action.name.clone(),
        site,
        attempt,
    };
    let order = ActionOrder { action: performed, context, machine, meant_for_tests: action.meant_for_tests() };
    carry_out(kept.ctx, &order, PICK_UP).await
}

/// The machine or the copy that an action belongs to, where it goes into one.
async fn machine(kept: &Kept<'_>, stage: &Stage<'_>, performed: &Performed) -> Result<Option<Generation>, Failure> {
    let item = match performed {
        Performed::Guest(guest) => Some(&guest.item),
        Performed::Ssh(_) | Performed::Check(_) if stage.mode == Mode::Test => stage.item,
        Performed::Ssh(_) | Performed::Check(_) | Performed::Http(_) | Performed::Command(_) | Performed::Dns(_) => None,
    };
    let Some(item) = item else { return Ok(None) };
    let record = record_of(kept.ctx, item).await?;
    Ok(match stage.mode {
        Mode::Test => record.test_copy.map(|copy| copy.generation),
        Mode::Planned | Mode::Unplanned | Mode::Failback => Some(record.running_generation()),
    })
}
