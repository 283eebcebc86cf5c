//! Sources of alerts, deliveries, and alerts as they were heard of.

mod sender;
mod settings;

use std::{path::Path, process::ExitCode};

use alerts::SourceName;
use anyhow::{Context, Result};
use api::{
    Client,
    items::Listed,
    triggers::{
        AlertView, CreateSource, DeliveryBody, DeliveryView, RemoveSource, RotateSecret, SecretText, SourceKeyed, SourceRemoved, SourceView,
    },
};
use chrono::{DateTime, Utc};
use serde_json::json;

use super::policies;
use crate::{
    arguments::{Output, SourceCommand, TriggerCommand},
    output,
    output::{or_dash, table},
};

pub(super) async fn trigger(client: &Client, output: Output, command: TriggerCommand) -> Result<ExitCode> {
    match command {
        TriggerCommand::Policy(command) => return policies::policy(client, output, command).await,
        TriggerCommand::Source { command } => source(client, output, command).await?,
        TriggerCommand::Deliveries { source, limit } => deliveries(client, output, source.as_ref(), limit).await?,
        TriggerCommand::Delivery { id } => {
            let body: DeliveryBody = client.get(&format!("/v1/trigger-deliveries/{id}")).await?;
            output::answer(output, &body, |body| body.text.lines().map(output::visible).collect::<Vec<_>>().join("\n"))?;
        }
        TriggerCommand::Alerts { source, firing, limit } => alerts(client, output, source.as_ref(), firing, limit).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn source(client: &Client, output: Output, command: SourceCommand) -> Result<()> {
    let at = |name: &SourceName, change: &str| format!("/v1/trigger-sources/{name}/{change}");
    match command {
        SourceCommand::List => list(client, output).await,
        SourceCommand::Create(create) => {
            let asked = CreateSource { name: create.name.clone(), settings: settings::of(&create)?, secret: given(create.secret_file.as_deref())? };
            let keyed: SourceKeyed = client.post("/v1/trigger-sources", &asked).await?;
            output::answer(output, &keyed, sender::configuration)
        }
        SourceCommand::Rotate { name, secret_file } => {
            let asked = RotateSecret { secret: given(secret_file.as_deref())? };
            let keyed: SourceKeyed = client.post(&at(&name, "rotate"), &asked).await?;
            output::answer(output, &keyed, |keyed| {
                let shown = keyed.secret.as_ref().map(|secret| format!(":\n\n  {}\n", secret.0)).unwrap_or_default();
                format!(
                    "source {name} has two secrets, and believes either{shown}\n\
                     Give its sender the new one, then run `switchback trigger source drop-old-secret {name}`"
                )
            })
        }
        SourceCommand::DropOldSecret { name } => {
            let view: SourceView = client.post(&at(&name, "drop-old-secret"), &json!({})).await?;
            output::answer(output, &view, |view| format!("source {} believes its newest secret alone", view.name))
        }
        SourceCommand::Enable { name } => {
            let view: SourceView = client.post(&at(&name, "enable"), &json!({})).await?;
            output::answer(output, &view, |view| format!("deliveries to source {} count", view.name))
        }
        SourceCommand::Disable { name } => {
            let view: SourceView = client.post(&at(&name, "disable"), &json!({})).await?;
            output::answer(output, &view, |view| {
                format!("deliveries to source {} are taken and noted, and count for nothing; its {} firing alerts stay as they are", view.name, view.firing)
            })
        }
        SourceCommand::Remove { name, discard_deliveries } => {
            let removed: SourceRemoved = client.post(&at(&name, "remove"), &RemoveSource { discard_deliveries }).await?;
            output::answer(output, &removed, |removed| {
                format!("source {} is gone, and with it {} deliveries and {} alerts", removed.name, removed.deliveries, removed.alerts)
            })
        }
    }
}

/// The secret in a file, without the end of its line.
fn given(file: Option<&Path>) -> Result<Option<SecretText>> {
    let Some(file) = file else { return Ok(None) };
    let text = std::fs::read_to_string(file).with_context(|| format!("reading the secret in {}", file.display()))?;
    Ok(Some(SecretText(text.trim_end_matches(['\r', '\n']).to_owned())))
}

async fn list(client: &Client, output: Output) -> Result<()> {
    let sources: Listed<SourceView> = client.get("/v1/trigger-sources").await?;
    output::answer(output, &sources, |sources| {
        let rows = sources.items.iter().map(|source| {
            [
                source.name.to_string(),
                source.kind.to_string(),
                if source.enabled { "enabled" } else { "disabled" }.to_owned(),
                source.secrets.to_string(),
                source.firing.to_string(),
                or_dash(source.accepted_at.map(time)),
                or_dash(source.refused_at.map(time)),
                if source.listeners.is_empty() { "nobody".to_owned() } else { source.listeners.join(", ") },
            ]
        });
        let heads = ["SOURCE", "KIND", "STATE", "SECRETS", "FIRING", "ACCEPTED AT (UTC)", "REFUSED AT (UTC)", "LISTENED TO BY"];
        table(heads, rows, "there is no source of alerts; `switchback trigger source create` makes one")
    })
}

async fn deliveries(client: &Client, output: Output, source: Option<&SourceName>, limit: u16) -> Result<()> {
    let of = source.map(|source| format!("&source={source}")).unwrap_or_default();
    let deliveries: Listed<DeliveryView> = client.get(&format!("/v1/trigger-deliveries?limit={limit}{of}")).await?;
    output::answer(output, &deliveries, |deliveries| {
        let rows = deliveries.items.iter().map(|delivery| {
            [
                delivery.id.to_string(),
                time(delivery.received_at),
                delivery.source.clone(),
                delivery.verdict.clone(),
                delivery.alerts.to_string(),
                delivery.remote.clone(),
                or_dash(delivery.reason.as_ref().map(|reason| match &delivery.detail {
                    Some(detail) => format!("{reason}: {detail}"),
                    None => reason.clone(),
                })),
            ]
        });
        table(["DELIVERY", "AT (UTC)", "SOURCE", "VERDICT", "ALERTS", "FROM", "REASON"], rows, "nothing was delivered")
    })
}

async fn alerts(client: &Client, output: Output, source: Option<&SourceName>, firing: bool, limit: u16) -> Result<()> {
    let of = source.map(|source| format!("&source={source}")).unwrap_or_default();
    let alerts: Listed<AlertView> = client.get(&format!("/v1/trigger-alerts?firing={firing}&limit={limit}{of}")).await?;
    output::answer(output, &alerts, |alerts| {
        let rows = alerts.items.iter().map(|alert| {
            [
                alert.source.clone(),
                alert.fingerprint.clone(),
                if alert.truncated { format!("{}, others left out", alert.status) } else { alert.status.clone() },
                or_dash(alert.starts_at.map(time)),
                time(alert.first_received_at),
                time(alert.last_received_at),
                alert.summary.clone(),
            ]
        });
        let heads = ["SOURCE", "ALERT", "STATUS", "SINCE (SENDER)", "FIRST HEARD (UTC)", "LAST HEARD (UTC)", "SUMMARY"];
        table(heads, rows, if firing { "no alert is firing" } else { "no alert was heard of" })
    })
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}
