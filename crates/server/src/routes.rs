//! The table of routes, and small ones that belong to nobody in particular.

mod access;
mod agents;
mod approvals;
mod asked;
mod drills;
mod evidence;
mod groups;
mod held;
pub(crate) mod items;
mod plan_changes;
mod plan_questions;
mod plan_runs;
mod plans;
mod policies;
mod readiness;
mod runs;
mod store_life;
mod trigger_sources;
mod triggers;
mod schedules;

pub(crate) use items::{by_item, of, point, record, seen};
pub(crate) use plans::plan_of;

use api::{Code, access::VersionView};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};

use crate::{
    app::App,
    caller::Caller,
    problem::{Answer, Refusal},
};

/// All routes of the server.
pub(crate) fn table() -> Router<App> {
    of_plans()
        .merge(of_groups())
        .merge(of_agents())
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/problems/{code}", get(problem_page))
        .route("/v1/version", get(version))
        .route("/v1/items", get(items::list))
        .route("/v1/items/{item}", get(items::one))
        .route("/v1/items/{item}/points", get(items::points))
        .route("/v1/items/{item}/drill", post(drills::begin))
        .route("/v1/readiness", get(readiness::all))
        .route("/v1/items/{item}/readiness", get(readiness::of_item))
        .route("/v1/items/{item}/{operation}", post(items::begin))
        .route("/v1/schedules", get(schedules::list).post(schedules::create))
        .route("/v1/schedules/preview", post(schedules::preview))
        .route("/v1/schedules/{name}", get(schedules::one))
        .route("/v1/schedules/{name}/remove", post(schedules::remove))
        .route("/v1/schedules/{name}/preview", get(schedules::coming))
        .route("/v1/schedules/{name}/history", get(schedules::history))
        .route("/v1/schedules/{name}/pause", post(schedules::pause))
        .route("/v1/schedules/{name}/resume", post(schedules::resume))
        .route("/v1/schedules/{name}/run-now", post(schedules::run_now))
        .route("/v1/runs", get(runs::list))
        .route("/v1/runs/{run}", get(runs::one))
        .route("/v1/runs/{run}/history", get(runs::history))
        .route("/v1/runs/{run}/why", get(runs::why))
        .route("/v1/runs/{run}/cancel", post(runs::cancel))
        .route("/v1/runs/{run}/resume", post(runs::resume))
        .route("/v1/runs/{run}/approval", post(approvals::approve))
        .route("/v1/trigger-policies", get(policies::list).post(policies::apply))
        .route("/v1/trigger-policies/try", post(policies::try_delivery))
        .route("/v1/trigger-policies/{policy}", get(policies::one))
        .route("/v1/trigger-policies/{policy}/remove", post(policies::remove))
        .route("/v1/trigger-policies/{policy}/unlock", post(policies::unlock))
        .route("/v1/kill-switches", get(policies::kill_switches).post(policies::turn_kill_switch))
        .route("/v1/runs/{run}/export", get(evidence::export))
        .route("/v1/runs/{run}/report", get(evidence::report))
        .route("/v1/evidence/key", get(evidence::key))
        .route("/v1/store", get(store_life::look))
        .route("/v1/store/settle/{run}", post(store_life::settle))
        .route("/v1/queues", get(runs::queues))
        .route("/v1/queues/dead", get(runs::dead))
        .route("/v1/tasks/{run}/{seq}/retry", post(runs::retry_dead))
        .route("/v1/tasks/{run}/{seq}/discard", post(runs::discard_dead))
        .route("/v1/verify", post(access::verify_all))
        .route("/v1/sites", get(access::sites))
        .route("/v1/builds", get(access::builds))
        .route("/v1/builds/prefer", post(access::prefer_build))
        .route("/v1/agents", get(access::agents))
        .route("/v1/agents/tokens", post(access::enrolment_token))
        .route("/v1/tokens", get(access::api_tokens).post(access::api_token))
        .route("/v1/triggers/{source}", post(triggers::take).get(triggers::not_taken).options(triggers::shake_hands))
        .route("/v1/trigger-sources", get(trigger_sources::list).post(trigger_sources::create))
        .route("/v1/trigger-sources/{source}/{change}", post(trigger_sources::change))
        .route("/v1/trigger-deliveries", get(trigger_sources::deliveries))
        .route("/v1/trigger-deliveries/{delivery}", get(trigger_sources::delivery))
        .route("/v1/trigger-alerts", get(trigger_sources::alerts))
}

/// What agents ask for, each with its own certificate.
fn of_agents() -> Router<App> {
    Router::new()
        .route("/v1/agent/heads", post(evidence::heads))
        .route("/v1/agent/enroll", post(agents::enroll))
        .route("/v1/agent/lease/open", post(agents::open_lease))
        .route("/v1/agent/lease/renew", post(agents::renew_lease))
        .route("/v1/agent/lease/close", post(agents::close_lease))
        .route("/v1/agent/tasks/claim", post(agents::claim))
        .route("/v1/agent/tasks/report", post(agents::report))
        .route("/v1/agent/tasks/pulse", post(agents::pulse))
        .route("/v1/agent/testify", post(agents::testify))
        .route("/v1/agent/status", post(agents::status))
        .route("/v1/agent/peers", get(agents::peers))
        .route("/v1/agent/report", post(agents::report_itself))
}

fn of_plans() -> Router<App> {
    Router::new()
        .route("/v1/plans", get(plans::list).post(plan_changes::apply))
        .route("/v1/plans/diff", post(plan_changes::diff))
        .route("/v1/plans/{plan}", get(plans::one))
        .route("/v1/plans/{plan}/readiness", get(readiness::of_plan))
        .route("/v1/plans/{plan}/runs", get(plans::runs))
        .route("/v1/plans/{plan}/durations/{work}", get(plan_runs::known_durations))
        .route("/v1/plans/{plan}/remove", post(plan_changes::remove))
        .route("/v1/plans/{plan}/{work}", post(plans::begin))
        .route("/v1/plan-questions", get(plan_questions::list))
        .route("/v1/plan-runs/{run}", get(plan_runs::one))
        .route("/v1/plan-runs/{run}/answer", post(plan_runs::answer))
}

fn of_groups() -> Router<App> {
    Router::new()
        .route("/v1/groups", get(groups::list).post(groups::create))
        .route("/v1/groups/{group}", get(groups::one))
        .route("/v1/groups/{group}/change", post(groups::change))
        .route("/v1/groups/{group}/remove", post(groups::remove))
}

/// Ready means: the database answers and has this build's schema, which was checked at the start and only a newer build changes.
async fn ready(State(app): State<App>) -> Response {
    match app.store.ping().await {
        Ok(()) => "ready\n".into_response(),
        Err(lost) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {lost}\n")).into_response(),
    }
}

async fn metrics(caller: Caller, State(app): State<App>) -> Result<Response, Refusal> {
    tracing::trace!(caller = caller.name, "metrics are read");
    let mut text = telemetry::metrics_text();
    for gauge in app.store.gauges().await? {
        let label = if gauge.label.is_empty() { String::new() } else { format!("{{state=\"{}\"}}", gauge.label) };
        text += &format!("switchback_{}{label} {}\n", gauge.name, gauge.value);
    }
    let alarmed = items::alarmed(&app).await?;
    text += &format!("switchback_items_running_at_both_sites {alarmed}\n");
    text += &policies::gauges(&app).await?;
    text += &crate::readiness::gauges(&app).await?;
    text += &groups::gauges(&app).await?;
    text += &plan_questions::gauges(&app).await?;
    for queue in app.store.queues().await? {
        let name = queue.queue.replace(['"', '\\', '\n'], "_");
        for (state, depth) in [("queued", queue.queued), ("claimed", queue.claimed), ("dead", queue.dead)] {
            text += &format!("switchback_tasks{{queue=\"{name}\",state=\"{state}\"}} {depth}\n");
        }
        let age_ms = u32::try_from(queue.oldest_age_ms.max(0)).unwrap_or(u32::MAX);
        text += &format!("switchback_oldest_task_age_seconds{{queue=\"{name}\"}} {}\n", f64::from(age_ms) / 1000.0);
    }
    text += &app.tally.text();
    for source in app.store.trigger_sources(None).await? {
        text += &format!("switchback_alerts_firing{{source=\"{}\"}} {}\n", source.name, source.firing);
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

async fn problem_page(Path(code): Path<String>) -> Result<String, Refusal> {
    let known = Code::of(&code).map(Code::page);
    known.ok_or_else(|| Refusal::new(Code::UnknownPath, format!("no problem is called {code}")))
}

async fn version(_: Caller) -> Answer<VersionView> {
    Ok(Json(VersionView { version: env!("CARGO_PKG_VERSION").to_owned(), schema: store::migrate::known() }))
}
