//! Files of histories and reports, signed with this server's key; and heads for agents to note.
//!
//! Invariant: nothing is derived here: [`evidence`] does that, and whoever verifies the file does it again.

use api::{
    Code,
    evidence::{Anchor, AskHeads, Heads, KeyView},
};
use axum::{
    Json,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use engine::RunStore;
use evidence::{Bundle, Stated};
use sdk::{History, RunId, Workflow};
use serde::Deserialize;
use store::look::RunFilter;
use workflows::Drill;

use crate::{
    app::{App, Asked, Queried, parsed},
    caller::{AgentCaller, Caller},
    problem::{Answer, Refusal},
};

/// Most runs in one file: a plan of hundreds of items with a child each.
const MOST_RUNS: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReportQuery {
    #[serde(default)]
    form: Form,
    rto_target_ms: Option<u64>,
    rpo_target_ms: Option<u64>,
    previous_sha256: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    #[default]
    Json,
    Html,
}

pub(super) async fn export(_: Caller, State(app): State<App>, Path(run): Path<String>) -> Result<Response, Refusal> {
    let bundle = bundle(&app, parsed(&run)?, Stated::default()).await?;
    let key = app.evidence_key.clone();
    let file = worked_out(move || bundle.exported(&key)).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], file).into_response())
}

pub(super) async fn report(_: Caller, State(app): State<App>, Path(run): Path<String>, Queried(query): Queried<ReportQuery>) -> Result<Response, Refusal> {
    let ReportQuery { form, rto_target_ms, rpo_target_ms, previous_sha256 } = query;
    if previous_sha256.as_ref().is_some_and(|hash| hash.len() != 64 || !hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))) {
        return Err(Refusal::new(Code::InvalidRequest, "previous_sha256 is 64 lower-case hexadecimal digits"));
    }
    let run: RunId = parsed(&run)?;
    let about = app.store.runs(&RunFilter { run: Some(run), limit: 1, ..RunFilter::default() }).await?.pop();
    if (rto_target_ms.is_some() || rpo_target_ms.is_some()) && about.is_some_and(|about| about.workflow == Drill::NAME) {
        let detail = format!("run {run} is a drill: its targets are those that it was asked for with, and no report states others");
        return Err(Refusal::new(Code::InvalidRequest, detail));
    }
    let bundle = bundle(&app, run, Stated { rto_target_ms, rpo_target_ms, previous_sha256 }).await?;
    let key = app.evidence_key.clone();
    let file = worked_out(move || match form {
        Form::Json => bundle.reported(&key),
        Form::Html => bundle.reported_as_page(&key),
    });
    let kind = match form {
        Form::Json => "application/json",
        Form::Html => "text/html; charset=utf-8",
    };
    Ok(([(header::CONTENT_TYPE, kind)], file.await?).into_response())
}

pub(super) async fn key(_: Caller, State(app): State<App>) -> Answer<KeyView> {
    Ok(Json(KeyView { key: app.evidence_key.public().to_string() }))
}

pub(super) async fn heads(AgentCaller(agent): AgentCaller, State(app): State<App>, Asked(asked): Asked<AskHeads>) -> Answer<Heads> {
    if let Some(alarm) = &asked.alarm {
        tracing::error!(agent = agent.name, alarm, "an agent has noted another history than the database holds");
    }
    let anchored = i64::try_from(asked.anchored).unwrap_or(i64::MAX);
    app.store.agent_anchors(&agent.name, anchored, asked.alarm.as_deref()).await?;
    let rows = app.store.heads(asked.after, asked.run, i64::try_from(Heads::MOST).unwrap_or(i64::MAX)).await?;
    let anchor = |row: store::evidence::HeadRow| Anchor {
        v: Anchor::VERSION,
        run: row.run,
        workflow: row.workflow,
        workflow_id: row.workflow_id,
        closed_at: row.closed_at,
        events: u64::try_from(row.events).unwrap_or(0),
        head: row.head.to_string(),
    };
    Ok(Json(Heads { heads: rows.into_iter().map(anchor).collect() }))
}

/// The histories of a run, of those that began it and of those that they began. One that is still written is taken as it is now.
async fn bundle(app: &App, run: RunId, stated: Stated) -> Result<Bundle, Refusal> {
    let family = app.store.run_family(run, i64::try_from(MOST_RUNS).unwrap_or(i64::MAX) + 1).await?;
    if family.is_empty() {
        return Err(Refusal::new(Code::UnknownRun, format!("there is no run {run}")));
    }
    if family.len() > MOST_RUNS {
        return Err(Refusal::new(Code::NotExportable, format!("more than {MOST_RUNS} runs belong to run {run}")));
    }
    let mut histories: Vec<History> = Vec::new();
    let mut events = 0;
    for member in family {
        let history = app.store.load_history(member).await?;
        events += history.events.len();
        if events > evidence::MOST_EVENTS {
            return Err(Refusal::new(Code::NotExportable, format!("the family of run {run} has more than {} events", evidence::MOST_EVENTS)));
        }
        // A child whose first turn is still to be taken has nothing to show; its parent's history says that it was asked for.
        if member == run || !history.events.is_empty() {
            histories.push(history);
        }
    }
    let build = env!("CARGO_PKG_VERSION");
    worked_out(move || Bundle::new(build, run, stated, histories)).await?.map_err(|why| Refusal::new(Code::NotExportable, why.to_string()))
}

/// Off the threads that answer others: hashing and writing a large file takes its time.
async fn worked_out<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Refusal::new(Code::Internal, error.to_string()))
}
