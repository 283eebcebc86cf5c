//! Drills: asking for one, and telling its verdict.

use std::process::ExitCode;

use anyhow::{Context, Result};
use api::{
    Client,
    items::{Accepted, DrillRequest},
};
use workflows::{Drilled, Stage};

use super::items;
use crate::{
    arguments::{Drill, DrillOptions, Output, Waiting},
    exit,
    output::{self, facts, visible},
    span,
    wait::{self, Ended},
};

pub(super) async fn drill(client: &Client, output: Output, Drill { options, waiting }: Drill) -> Result<ExitCode> {
    let path = format!("/v1/items/{}/drill", options.item);
    let what = format!("the drill of {}", options.item);
    let accepted = items::asked(client, &path, &request(options)?).await?;
    begun(client, output, &accepted, waiting, &what).await
}

/// What is asked for, by hand or by schedule.
pub(super) fn request(options: DrillOptions) -> Result<DrillRequest> {
    let ms = |time: Option<std::time::Duration>| time.map(|time| u64::try_from(time.as_millis()).context("a target is too long")).transpose();
    let (rto_target_ms, rpo_target_ms) = (ms(options.rto_target)?, ms(options.rpo_target)?);
    Ok(DrillRequest { point: options.point, checks: options.check, rto_target_ms, rpo_target_ms, note: options.note })
}

/// Tells that a drill was begun, or stays for its verdict: 0 if it passed, 6 if it did not.
pub(super) async fn begun(client: &Client, output: Output, accepted: &Accepted, waiting: Waiting, what: &str) -> Result<ExitCode> {
    if !waiting.wait {
        output::answer(output, accepted, |Accepted { run }| format!("run {run} was begun; see `switchback why {run}`"))?;
        return Ok(ExitCode::SUCCESS);
    }
    wait::for_verdict(client, output, accepted.run, waiting, |ended| told(what, ended)).await
}

fn told(what: &str, ended: &Ended) -> (String, u8) {
    let shown = ended.output.clone().and_then(|output| serde_json::from_value::<Drilled>(output).ok());
    match shown {
        Some(drilled) if drilled.passed => (verdict(what, &drilled, ended), 0),
        Some(drilled) => (verdict(what, &drilled, ended), exit::DEGRADED),
        None => (wait::sentence(what, ended), ended.exit_code()),
    }
}

fn verdict(what: &str, drilled: &Drilled, ended: &Ended) -> String {
    let passed = if drilled.passed { "has passed" } else { "has NOT passed" };
    let mut text = format!("{what} {passed}\n");
    for why in &drilled.why_not {
        text += &format!("  {}\n", visible(why));
    }
    let measured = |actual: Option<u64>, target: Option<u64>| {
        let actual = actual.map_or_else(|| "not measured".to_owned(), span::took);
        target.map_or_else(|| actual.clone(), |target| format!("{actual}, {} allowed", span::took(target)))
    };
    let tested = drilled.tested.as_ref();
    let left = match &drilled.left_behind {
        None => "could not be listed".to_owned(),
        Some(left) if left.is_empty() => "nothing".to_owned(),
        Some(left) => left.iter().map(|object| format!("{} {}", object.kind, object.name)).collect::<Vec<_>>().join(", "),
    };
    text += &facts(&[
        ("run", ended.run.to_string()),
        ("point", drilled.point.map_or_else(|| format!("none ({})", drilled.requested), |point| format!("{point} ({})", drilled.requested))),
        ("RTO", measured(drilled.rto_actual_ms, drilled.rto_target_ms)),
        ("RPO", measured(drilled.rpo_actual_ms, drilled.rpo_target_ms)),
        ("checks", tested.map_or_else(|| "not asked".to_owned(), |tested| tested.evidence.clone())),
        ("isolation", tested.map_or_else(|| "not shown".to_owned(), |tested| tested.isolation.clone())),
        ("clean-up", if drilled.cleaned { "succeeded" } else { "did NOT succeed" }.to_owned()),
        ("left behind", left),
        ("took", stages(&drilled.stages)),
        ("of that", tested.map(|tested| stages(&tested.stages)).unwrap_or_default()),
    ]);
    text
}

fn stages(stages: &[Stage]) -> String {
    stages.iter().map(|stage| format!("{} {}", stage.name, span::took(stage.took_ms))).collect::<Vec<_>>().join(", ")
}
