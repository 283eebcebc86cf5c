//! Operations on items, and their points.

use std::process::ExitCode;

use anyhow::{Context, Result};
use api::{
    Client, ClientError,
    items::{
        AcceptLoss, AcceptUnfenced, Accepted, ChangePointRequest, FailoverRequest, Listed, PlainRequest, PlannedRequest, PointView, ProtectRequest, ReprotectRequest,
        TestFailoverRequest, UndoRequest,
    },
};
use recovery::{ItemName, ReplicationPolicy};
use serde::Serialize;

use crate::{
    arguments::{
        ChangePoint, Discarding, Failback, Failover, ItemOperation, Location, Output, PlannedFailover, Protect, Reprotect, ShuttingDown, Sync, TestFailover,
        Waiting,
    },
    output, span, wait,
};

/// For a guest's shutdown before an unplanned failover: people wait, and it goes on without.
const SHUT_DOWN: std::time::Duration = std::time::Duration::from_secs(120);
/// How often a request whose answer was lost is repeated; its key makes it count once.
const REPEATS: u32 = 3;

pub(super) async fn protect(client: &Client, output: Output, arguments: Protect) -> Result<ExitCode> {
    let seconds = |time: std::time::Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let policy = ReplicationPolicy::new(seconds(arguments.interval), arguments.retention_points, arguments.retention_window.as_secs(), arguments.bandwidth);
    let policy = policy.and_then(|policy| {
        let policy = policy.with_app_consistent(arguments.app_consistent_every.map(seconds))?.with_rpo_threshold(arguments.rpo_threshold.map(seconds))?;
        policy.with_change_window(arguments.change_window.map(|window| window.as_secs()))
    });
    let policy = match policy {
        Ok(policy) => policy,
        Err(error) => {
            eprintln!("switchback: {error}");
            return Ok(2.into());
        }
    };
    let request = ProtectRequest { from: arguments.from, to: arguments.to, machine: arguments.machine, policy, checks: arguments.check, profile: arguments.profile };
    begin(client, output, &arguments.item, "protect", &request, arguments.waiting).await
}

pub(super) async fn failover(client: &Client, output: Output, arguments: Failover) -> Result<ExitCode> {
    let accept_unfenced = arguments.reason.filter(|_| arguments.accept_unfenced).map(|reason| AcceptUnfenced { reason });
    let fence_timeout_ms = u64::try_from(arguments.fence_timeout.as_millis()).context("the time for the fence is too long")?;
    let patience = arguments.shut_down.then(|| arguments.shut_down_timeout.unwrap_or(SHUT_DOWN));
    let shut_down_ms = patience.map(|patience| u64::try_from(patience.as_millis())).transpose().context("the time for the guest to shut down is too long")?;
    let request = FailoverRequest { point: arguments.point, accept_unfenced, fence_timeout_ms, shut_down_ms };
    begin(client, output, &arguments.item, "failover", &request, arguments.waiting).await
}

pub(super) async fn planned_failover(client: &Client, output: Output, arguments: PlannedFailover) -> Result<ExitCode> {
    let request = PlannedRequest { shut_down_ms: shut_down_ms(arguments.shutting_down)?, sync: recovery::Sync::BeforeFailover, point: None, accept_loss: None };
    begin(client, output, &arguments.item, "planned-failover", &request, arguments.waiting).await
}

pub(super) async fn failback(client: &Client, output: Output, arguments: Failback) -> Result<ExitCode> {
    let sync = match arguments.sync {
        Sync::BeforeFailover => recovery::Sync::BeforeFailover,
        Sync::DuringFailover => recovery::Sync::DuringFailover,
    };
    let accept_loss = arguments.reason.filter(|_| arguments.accept_loss).map(|reason| AcceptLoss { reason });
    let request = PlannedRequest { shut_down_ms: shut_down_ms(arguments.shutting_down)?, sync, point: Some(arguments.point), accept_loss };
    begin(client, output, &arguments.item, "failback", &request, arguments.waiting).await
}

fn shut_down_ms(arguments: ShuttingDown) -> Result<u64> {
    u64::try_from(arguments.shut_down_timeout.as_millis()).context("the time for the guest to shut down is too long")
}

pub(super) async fn change_point(client: &Client, output: Output, arguments: ChangePoint) -> Result<ExitCode> {
    let request = ChangePointRequest { point: arguments.point, discard_writes: arguments.discard_writes };
    begin(client, output, &arguments.item, "change-point", &request, arguments.waiting).await
}

pub(super) async fn undo(client: &Client, output: Output, arguments: Discarding) -> Result<ExitCode> {
    let request = UndoRequest { discard_writes: arguments.discard_writes };
    begin(client, output, &arguments.item, "undo", &request, arguments.waiting).await
}

pub(super) async fn reprotect(client: &Client, output: Output, arguments: Reprotect) -> Result<ExitCode> {
    let location = match arguments.location {
        Location::Original => recovery::Location::Original,
        Location::Alternate => recovery::Location::Alternate,
    };
    begin(client, output, &arguments.item, "reprotect", &ReprotectRequest { location }, arguments.waiting).await
}

pub(super) async fn test_failover(client: &Client, output: Output, arguments: TestFailover) -> Result<ExitCode> {
    let ttl_ms = Some(u64::try_from(arguments.ttl.as_millis()).context("the time for which the copy stays is too long")?);
    let request = TestFailoverRequest { point: arguments.point, ttl_ms };
    begin(client, output, &arguments.item, "test-failover", &request, arguments.waiting).await
}

pub(super) async fn plain(client: &Client, output: Output, operation: &str, arguments: &ItemOperation) -> Result<ExitCode> {
    begin(client, output, &arguments.item, operation, &PlainRequest {}, arguments.waiting).await
}

pub(super) async fn points(client: &Client, output: Output, item: &ItemName) -> Result<ExitCode> {
    let points: Listed<PointView> = client.get(&format!("/v1/items/{item}/points")).await?;
    output::answer(output, &points, |points| {
        let rows = points.items.iter().map(|PointView { site, point }| {
            let marks = [(point.pinned, "pinned"), (point.withdrawn, "withdrawn")];
            let marks: Vec<&str> = marks.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
            [
                point.id.to_string(),
                point.taken_at.format("%Y-%m-%d %H:%M:%S").to_string(),
                point.consistency.to_string(),
                span::size(point.size_bytes),
                site.to_string(),
                point.generation.to_string(),
                output::or_dash(point.group.as_ref().map(|at| format!("{} {}", at.group, at.moment))),
                marks.join(", "),
            ]
        });
        output::table(["POINT", "TAKEN AT (UTC)", "CONSISTENCY", "RECEIVED", "SITE", "GENERATION", "COMMON MOMENT", ""], rows, "there are no points")
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn begin(client: &Client, output: Output, item: &ItemName, operation: &str, request: &impl Serialize, waiting: Waiting) -> Result<ExitCode> {
    let accepted = asked(client, &format!("/v1/items/{item}/{operation}"), request).await?;
    let run = accepted.run;
    if !waiting.wait {
        output::answer(output, &accepted, |Accepted { run }| format!("run {run} was begun; see `switchback why {run}`"))?;
        return Ok(ExitCode::SUCCESS);
    }
    wait::for_end(client, output, run, waiting, &format!("{operation} of {item}")).await
}

/// Repeated if the answer was lost: the key makes it count once.
pub(super) async fn asked(client: &Client, path: &str, request: &impl Serialize) -> Result<Accepted, ClientError> {
    let key = uuid::Uuid::new_v4().to_string();
    let mut repeats = 0;
    loop {
        match client.post_once(path, &key, request).await {
            Err(ClientError::Unreachable { source, .. }) if repeats < REPEATS && !source.is_connect() => {
                repeats += 1;
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
            other => return other,
        }
    }
}
