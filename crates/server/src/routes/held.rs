//! What a plan has while it is carried out: all its machines, until its end. What was done to one of them in between would take away what the
//! plan does next, or its undo.
//!
//! Invariant: a real failover waits for no rehearsal; it finds the machine itself free, or the rehearsal's run on it.

use api::{Code, Problem};
use recovery::plan::Work;
use store::plans::HeldRow;

use crate::{app::App, problem::Refusal};

/// Most machines that a refusal names.
const MOST_NAMED: usize = 5;

/// Refuses what is asked of these items while a plan, other than `but`, has one of them. `real`: it goes before rehearsals.
pub(super) async fn free(app: &App, items: &[&str], but: Option<&str>, asked: &str, real: bool) -> Result<(), Refusal> {
    let rows = app.store.plan_runs_over(items, but).await?;
    let Some(held) = rows.into_iter().find(|row| !(real && rehearses(row))) else { return Ok(()) };
    let HeldRow { plan, root, work, items } = held;
    let work = work.as_deref().and_then(Work::of_recorded).map_or_else(|| "something".to_owned(), |work| work.to_string());
    let more = items.len().saturating_sub(MOST_NAMED);
    let named = items.into_iter().take(MOST_NAMED).collect::<Vec<_>>().join(", ");
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let detail = format!(
        "plan {plan} carries out {work} in run {root}, and has {named}{more} until that ends: {asked} would take away what it does next, or its undo; \
         nothing has changed. `switchback plan status {root}` says what it waits for: answer that, wait for its end, or `switchback cancel {root}`"
    );
    Err(Problem::new(Code::RunInProgress, detail).naming(root).into())
}

fn rehearses(row: &HeldRow) -> bool {
    matches!(row.work.as_deref().and_then(Work::of_recorded), Some(Work::Test | Work::CleanTest))
}
