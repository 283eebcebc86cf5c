//! Trigger policies and kill switches.

use std::{collections::BTreeMap, io::Read, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use api::{
    Client,
    items::Listed,
    policies::{
        ApplyPolicy, KillSwitchView, PolicyChanged, PolicyView, Tried, TryDelivery, TurnKillSwitch,
    },
    runs::{HistoryView, RunView},
};
use recovery::trigger::{Mode, TriggerPolicy};
use sdk::RunId;
use serde::Serialize;

use super::{approve::people, explained};
use crate::{
    arguments::{KillSwitchCommand, Output, PolicyCommand},
    output::{self, or_dash, visible},
};

/// Largest file that is sent: the server reads no more.
const MOST_BYTES: u64 = 1 << 20;

pub(super) async fn policy(client: &Client, output: Output, command: PolicyCommand) -> Result<ExitCode> {
    match command {
        PolicyCommand::Apply { file } => apply(client, output, &file).await,
        PolicyCommand::List => list(client, output).await,
        PolicyCommand::Describe { name } => {
            let view: PolicyView = client.get(&format!("/v1/trigger-policies/{name}")).await?;
            output::answer(output, &view, described)?;
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Explain { what, last } => explain(client, output, &what, last).await,
        PolicyCommand::Test { file, source, headers } => test(client, output, &file, source, &headers).await,
        PolicyCommand::Unlock { name } => {
            let changed: PolicyChanged = client.post(&format!("/v1/trigger-policies/{name}/unlock"), &serde_json::json!({})).await?;
            let said = if changed.changed { "goes on" } else { "was not locked" };
            output::answer(output, &changed, |_| format!("trigger policy {name} {said}"))?;
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Remove { name } => {
            let changed: PolicyChanged = client.post(&format!("/v1/trigger-policies/{name}/remove"), &serde_json::json!({})).await?;
            output::answer(output, &changed, |_| format!("trigger policy {name} is gone; its versions and histories stay"))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A file, or standard input, of at most so many bytes.
pub(super) fn read(file: &Path, most_bytes: u64) -> Result<String> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().take(most_bytes + 1).read_to_string(&mut text)
    } else {
        let opened = std::fs::File::open(file).with_context(|| format!("could not open {}", file.display()))?;
        opened.take(most_bytes + 1).read_to_string(&mut text)
    };
    let read = read.with_context(|| format!("could not read {}", file.display()))?;
    if read as u64 > most_bytes {
        bail!("{} has more than {most_bytes} bytes; the server reads no more", file.display());
    }
    Ok(text)
}

async fn apply(client: &Client, output: Output, file: &Path) -> Result<ExitCode> {
    let view: PolicyView = client.post("/v1/trigger-policies", &ApplyPolicy { text: read(file, MOST_BYTES)? }).await?;
    output::answer(output, &view, |view| {
        let does = match view.mode {
            Mode::Armed => "is armed: it may start failovers of",
            Mode::Shadow => "watches and only tells what it would do with",
            Mode::Off => "is off; it does nothing with",
        };
        let mut lines = vec![format!("trigger policy {} version {} {does} item {}", view.name, view.version, view.item)];
        lines.extend(warnings(view).into_iter().map(str::to_owned));
        lines.join("\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What whoever armed it should know before the night comes.
fn warnings(view: &PolicyView) -> Vec<&'static str> {
    let Ok(policy) = TriggerPolicy::from_yaml(&view.text) else { return vec![] };
    let armed = view.mode == Mode::Armed;
    let mut warnings = Vec::new();
    if armed && policy.approval.need == 0 {
        warnings.push("  nobody is asked: alerts that fire now count as well, and the failover starts as soon as all rules hold");
    }
    if armed && policy.failover.accept_unfenced.is_none() {
        warnings.push("  without accept-unfenced a failover stops if nobody can prove that the source is off, which is so if its site is dark");
    }
    if armed && policy.failover.accept_unfenced.is_some() {
        warnings.push("  accept-unfenced: the machine is started even if the source may still run and write");
    }
    warnings
}

async fn list(client: &Client, output: Output) -> Result<ExitCode> {
    let policies: Listed<PolicyView> = client.get("/v1/trigger-policies").await?;
    output::answer(output, &policies, |policies| {
        let rows = policies.items.iter().map(|view| {
            let state = match (&view.asks, view.flap_locked_at, view.open_run) {
                _ if view.set_aside => format!("SET ASIDE: no alert starts anything; `switchback resume {}`", or_dash(view.open_run)),
                (Some(question), ..) => format!("asks {} until {}Z", people(&question.by, question.need), question.until.format("%H:%M:%S")),
                (None, Some(_), _) => "locked: alerts came and went".to_owned(),
                (None, None, Some(_)) => view.standing.clone().unwrap_or_else(|| "an alert is being looked at".to_owned()),
                (None, None, None) => "quiet".to_owned(),
            };
            let mode = serde_json::to_value(view.mode).ok().and_then(|mode| mode.as_str().map(str::to_owned));
            [view.name.to_string(), view.version.to_string(), view.item.to_string(), or_dash(mode), state, or_dash(view.open_run)]
        });
        output::table(["POLICY", "VERSION", "ITEM", "MODE", "NOW", "RUN"], rows, "there are no trigger policies")
    })?;
    Ok(ExitCode::SUCCESS)
}

fn described(view: &PolicyView) -> String {
    let facts = output::facts(&[
        ("policy", format!("{} version {}", view.name, view.version)),
        ("applied", format!("by {} at {}", view.applied_by, view.applied_at.format("%Y-%m-%d %H:%M:%SZ"))),
        ("sha256", view.sha256.clone()),
        ("locked", or_dash(view.flap_locked_at)),
        ("evaluated by run", or_dash(view.open_run)),
    ]);
    let text: Vec<String> = view.text.lines().map(visible).collect();
    format!("{facts}\n{}", text.join("\n"))
}

async fn explain(client: &Client, output: Output, what: &str, last: u16) -> Result<ExitCode> {
    let runs: Vec<RunView> = match what.parse::<RunId>() {
        Ok(run) => vec![client.get(&format!("/v1/runs/{run}")).await?],
        Err(_) => {
            let policy: PolicyView = client.get(&format!("/v1/trigger-policies/{what}")).await?;
            let runs: Listed<RunView> = client.get(&format!("/v1/runs?about=trigger:{}&limit={last}", policy.name)).await?;
            runs.items
        }
    };
    let mut evaluations = Vec::new();
    for run in runs {
        let history: HistoryView = client.get(&format!("/v1/runs/{}/history", run.run)).await?;
        evaluations.push(explained::evaluation(run, &history.events));
    }
    let none = || format!("no alert that policy {what} listens to has been looked at so far");
    output::answer(output, &evaluations, |all| {
        let texts: Vec<String> = all.iter().map(explained::text).collect();
        if texts.is_empty() { none() } else { texts.join("\n\n") }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn test(client: &Client, output: Output, file: &Path, source: String, headers: &[String]) -> Result<ExitCode> {
    let pair = |header: &String| {
        let (name, value) = header.split_once(':').with_context(|| format!("{header:?} is no header of the form \"Name: value\""))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    let headers = headers.iter().map(pair).collect::<Result<BTreeMap<_, _>>>()?;
    let tried: Tried = client.post("/v1/trigger-policies/try", &TryDelivery { source, headers, body: read(file, MOST_BYTES)? }).await?;
    output::answer(output, &tried, |tried| {
        let mut lines = vec![format!("{} alert(s)", tried.alerts.len())];
        for alert in &tried.alerts {
            let labels: Vec<String> = alert.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let state = if alert.firing { "fires" } else { "is over" };
            lines.push(visible(&format!("  {} {state}: {} {{{}}}", alert.fingerprint, alert.summary, labels.join(", "))));
        }
        for policy in &tried.policies {
            lines.push(format!("policy {} version {}, if these alerts went on:", policy.policy, policy.version));
            lines.extend(explained::rules(&policy.judgement));
        }
        if tried.policies.is_empty() {
            lines.push("no policy listens to this source".to_owned());
        }
        lines.join("\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Switches {
    on: Vec<KillSwitchView>,
}

pub(super) async fn kill_switch(client: &Client, output: Output, command: KillSwitchCommand) -> Result<ExitCode> {
    let turned = match command {
        KillSwitchCommand::On { reach, reason } => Some(TurnKillSwitch { scope: reach.scope(), on: true, reason }),
        KillSwitchCommand::Off { reach } => Some(TurnKillSwitch { scope: reach.scope(), on: false, reason: String::new() }),
        KillSwitchCommand::List => None,
    };
    let on: Listed<KillSwitchView> = match &turned {
        Some(turned) => client.post("/v1/kill-switches", turned).await?,
        None => client.get("/v1/kill-switches").await?,
    };
    output::answer(output, &Switches { on: on.items }, |switches| {
        let rows = switches.on.iter().map(|view| {
            [view.scope.clone(), view.by.clone(), view.since.format("%Y-%m-%d %H:%M:%S").to_string(), view.reason.clone()]
        });
        output::table(["REACHES", "BY", "SINCE (UTC)", "REASON"], rows, "no kill switch is on")
    })?;
    Ok(ExitCode::SUCCESS)
}
