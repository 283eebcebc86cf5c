//! What a text changes of a plan, before it is applied and when it is.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use api::{
    Client,
    plans::{ApplyPlan, PlanApplied, PlanDiff},
};
use recovery::plan::{GroupOutline, MOST_TEXT, Outline};
use serde_json::Value;

use super::policies;
use crate::{
    arguments::Output,
    exit,
    output::{self, or_dash, visible},
};

pub(super) async fn apply(client: &Client, output: Output, file: &Path) -> Result<ExitCode> {
    let applied: PlanApplied = client.post("/v1/plans", &asked(file)?).await?;
    output::answer(output, &applied, |applied| {
        let PlanApplied { plan, diff, goes_on } = applied;
        let mut lines = vec![told(diff, plan.version)];
        lines.extend(goes_on.as_ref().map(|run| format!("run {} ({}) goes on with version {}; version {} is for the next", run.run, run.work, run.version, plan.version)));
        lines.push(format!("plan {} version {}: {} machines in {} groups, from {} to {}", plan.name, plan.version, plan.items, plan.groups, plan.from, plan.to));
        lines.extend(plan.warnings.iter().map(|warning| format!("  {}", visible(warning))));
        lines.join("\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What was changed, by the version that it led to.
fn told(diff: &PlanDiff, version: i64) -> String {
    match diff.version {
        _ if diff.unchanged => format!("unchanged: version {version} has this text"),
        None => diff.outline.as_ref().map(|outline| new(diff, outline)).unwrap_or_default(),
        Some(before) if diff.changes.is_empty() => format!("only the form of the text has changed since version {before}: comments, order of keys, spelling"),
        Some(before) => changes(diff, before),
    }
}

pub(super) async fn diff(client: &Client, output: Output, file: &Path) -> Result<ExitCode> {
    let diff: PlanDiff = client.post("/v1/plans/diff", &asked(file)?).await?;
    output::answer(output, &diff, |diff| match (diff.version, &diff.outline) {
        (Some(version), _) if diff.unchanged => format!("unchanged: version {version} of plan {} has this text", diff.name),
        (Some(version), _) if diff.changes.is_empty() => format!("plan {} stays as version {version} has it; only the form of the text is another", diff.name),
        (Some(version), _) => changes(diff, version),
        (None, Some(outline)) => new(diff, outline),
        (None, None) => format!("plan {} is new", diff.name),
    })?;
    let same = diff.version.is_some() && diff.changes.is_empty();
    Ok(if same { ExitCode::SUCCESS } else { exit::DEGRADED.into() })
}

fn asked(file: &Path) -> Result<ApplyPlan> {
    Ok(ApplyPlan { text: policies::read(file, MOST_TEXT as u64)? })
}

fn changes(diff: &PlanDiff, version: i64) -> String {
    let word = |value: &Option<Value>| or_dash(value.as_ref());
    let rows = diff.changes.iter().map(|change| [change.path.clone(), word(&change.before), word(&change.after)]);
    output::table(["WHERE", &format!("VERSION {version}"), "NEW"], rows, "nothing changes")
}

/// A plan that nobody has seen yet, in short.
fn new(diff: &PlanDiff, outline: &Outline) -> String {
    let Outline { before, groups, after, steps, asks } = outline;
    let names = |names: &[String]| if names.is_empty() { "-".to_owned() } else { names.join(", ") };
    let rows = groups.iter().map(|GroupOutline { name, items, before, after }| [name.clone(), names(items), names(before), names(after)]);
    let mut lines = vec![format!("plan {} is new", diff.name), output::table(["GROUP", "MACHINES", "BEFORE", "AFTER"], rows, "it has no groups")];
    for (when, actions) in [("before all", before), ("after all", after)] {
        lines.extend((!actions.is_empty()).then(|| format!("{when}: {}", visible(&actions.join(", ")))));
    }
    let asks = asks.as_ref().map(|asks| format!(", among them {asks}")).unwrap_or_default();
    lines.push(format!("a failover of it has {steps} steps{asks}; `switchback plan simulate -f FILE` tells how long it takes"));
    lines.join("\n")
}
