//! Commands on items: protect, points, failover, commit, unprotect, and looking at them.

use std::io::{BufRead, IsTerminal};

use anyhow::{Context, Result};
use api::{
    Client,
    items::{AcceptUnfenced, Accepted, FailoverRequest, ItemView, Listed, PlainRequest, PointView, ProtectRequest},
};
use recovery::{ItemName, ReplicationPolicy};
use uuid::Uuid;

use crate::{
    arguments::{Change, Failover, Form, Protect, Waiting},
    ending::Ending,
    print, waiting,
};

/// Begins an operation; the same request sent twice counts once.
async fn begin(client: &Client, item: &ItemName, word: &str, body: &impl serde::Serialize, wait: Waiting, form: Form) -> Result<Ending> {
    let key = Uuid::now_v7().to_string();
    let accepted: Accepted = client.post_once(&format!("/v1/items/{item}/{word}"), &key, body).await?;
    waiting::begun(client, accepted.run, wait, form).await
}

pub(crate) async fn protect(client: &Client, wanted: Protect, form: Form) -> Result<Ending> {
    let seconds = u32::try_from(wanted.interval.as_secs()).unwrap_or(u32::MAX);
    let policy = ReplicationPolicy::new(seconds, wanted.retention_points, wanted.retention_window.as_secs(), wanted.bandwidth)
        .context("the replication policy is not possible")?;
    let Protect { item, from, to, machine, checks, waiting, .. } = wanted;
    let request = ProtectRequest { from, to, machine, policy, checks };
    begin(client, &item, "protect", &request, waiting, form).await
}

pub(crate) async fn failover(client: &Client, wanted: Failover, form: Form) -> Result<Ending> {
    let fence_timeout_ms = u64::try_from(wanted.fence_timeout.as_millis()).unwrap_or(u64::MAX);
    let accept_unfenced = wanted.reason.filter(|_| wanted.accept_unfenced).map(|reason| AcceptUnfenced { reason });
    let request = FailoverRequest { point: wanted.point, accept_unfenced, fence_timeout_ms };
    begin(client, &wanted.item, "failover", &request, wanted.waiting, form).await
}

pub(crate) async fn commit(client: &Client, wanted: Change, form: Form) -> Result<Ending> {
    let view: ItemView = client.get(&format!("/v1/items/{}", wanted.item)).await?;
    let loses = format!(
        "commit accepts the failover of {} and removes its {} recovery points; no other point can be chosen afterwards",
        wanted.item, view.points
    );
    if !agreed(&loses, wanted.yes)? {
        return Ok(Ending::Failed);
    }
    begin(client, &wanted.item, "commit", &PlainRequest {}, wanted.waiting, form).await
}

pub(crate) async fn unprotect(client: &Client, wanted: Change, form: Form) -> Result<Ending> {
    let view: ItemView = client.get(&format!("/v1/items/{}", wanted.item)).await?;
    let loses = format!(
        "unprotect ends replication of {} and removes its replica at {} with {} recovery points; the machine itself is not touched",
        wanted.item,
        view.record.target_site(),
        view.points
    );
    if !agreed(&loses, wanted.yes)? {
        return Ok(Ending::Failed);
    }
    begin(client, &wanted.item, "unprotect", &PlainRequest {}, wanted.waiting, form).await
}

/// Says what will be lost, and asks where a person sits.
fn agreed(loses: &str, yes: bool) -> Result<bool> {
    eprintln!("{loses}");
    if yes || !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    eprint!("go on? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    let agreed = matches!(answer.trim(), "y" | "Y" | "yes");
    if !agreed {
        eprintln!("nothing was changed");
    }
    Ok(agreed)
}

pub(crate) async fn points(client: &Client, item: &ItemName, form: Form) -> Result<Ending> {
    let points: Listed<PointView> = client.get(&format!("/v1/items/{item}/points")).await?;
    if form == Form::Json {
        print::json(&points)?;
        return Ok(Ending::Well);
    }
    let rows = points.items.iter().map(|view| {
        let point = &view.point;
        let state = match (point.withdrawn, point.pinned) {
            (true, _) => "withdrawn",
            (false, true) => "pinned",
            (false, false) => "",
        };
        let size = print::bytes(point.size_bytes);
        [point.id.to_string(), point.consistency.to_string(), print::time(point.taken_at), size, view.site.to_string(), state.to_owned()]
    });
    print::table(["POINT", "CONSISTENCY", "TAKEN AT", "RECEIVED", "SITE", ""], rows);
    Ok(Ending::Well)
}

pub(crate) async fn list(client: &Client, form: Form) -> Result<Ending> {
    let items: Listed<ItemView> = client.get("/v1/items").await?;
    if form == Form::Json {
        print::json(&items)?;
        return Ok(Ending::Well);
    }
    let rows = items.items.iter().map(|view| {
        let newest = view.newest_point.as_ref().map(|point| print::time(point.taken_at));
        let allowed: Vec<&str> = view.allowed_operations.iter().map(|operation| operation.as_str()).collect();
        [
            view.record.name.to_string(),
            view.state.clone(),
            view.record.active_site().to_string(),
            view.points.to_string(),
            print::or_dash(newest),
            print::or_dash(view.open_run),
            allowed.join(", "),
        ]
    });
    print::table(["ITEM", "STATE", "RUNS AT", "POINTS", "NEWEST POINT", "OPEN RUN", "POSSIBLE NOW"], rows);
    Ok(Ending::Well)
}

pub(crate) async fn describe(client: &Client, item: &str, form: Form) -> Result<Ending> {
    let item: ItemName = item.parse()?;
    let view: ItemView = client.get(&format!("/v1/items/{item}")).await?;
    if form == Form::Json {
        print::json(&view)?;
        return Ok(Ending::Well);
    }
    let record = &view.record;
    let disks: Vec<String> = record.disks.iter().map(|disk| format!("{} {}", disk.name, print::bytes(disk.size_bytes))).collect();
    let checks: Vec<String> = record.checks.iter().map(ToString::to_string).collect();
    let allowed: Vec<&str> = view.allowed_operations.iter().map(|operation| operation.as_str()).collect();
    let policy = &record.policy;
    let replication = view.replication.as_ref().map(|seen| {
        let trouble = seen.status.last_error.as_ref().map(|why| format!(", trouble: {why}")).unwrap_or_default();
        format!("{} ({} sent, said by {} at {}){trouble}", seen.status.phase, print::bytes(seen.status.bytes_sent_total), seen.site, print::time(seen.reported_at))
    });
    print::sheet(&[
        ("item", record.name.to_string()),
        ("state", view.state.clone()),
        ("possible now", allowed.join(", ")),
        ("machine", record.machine.clone()),
        ("primary site", record.primary.to_string()),
        ("recovery site", record.recovery.to_string()),
        ("runs at", record.active_site().to_string()),
        ("generation", record.state.generation.to_string()),
        ("disks", disks.join(", ")),
        ("policy", format!("a point every {} s, {} kept over {} s", policy.interval_s(), policy.retention_points(), policy.retention_window_s())),
        ("checks", checks.join(", ")),
        ("replication", print::or_dash(replication)),
        ("points", view.points.to_string()),
        ("newest point", print::or_dash(view.newest_point.as_ref().map(|point| format!("{} of {}", point.id, print::time(point.taken_at))))),
        ("chosen point", print::or_dash(record.chosen.as_ref().map(|chosen| format!("{} of {}", chosen.point, print::time(chosen.taken_at))))),
        ("fence", print::or_dash(record.fence.as_ref().and_then(|fence| serde_json::to_value(fence).ok()).map(|fence| print::flat(&fence)))),
        ("RTO actual", print::or_dash(record.rto_actual_ms.and_then(|ms| i64::try_from(ms).ok()).map(print::millis))),
        ("RPO actual", print::or_dash(record.rpo_actual_ms.and_then(|ms| i64::try_from(ms).ok()).map(print::millis))),
        ("open run", print::or_dash(view.open_run)),
        ("changed", print::time(view.updated_at)),
    ]);
    Ok(Ending::Well)
}
