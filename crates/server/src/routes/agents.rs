//! What agents ask; see [`api::agent`] for the protocol.
//!
//! Invariants: 1. Leases are those of the agent that shows its certificate, queues those of its site and itself. 2. A long poll
//! ends at once when the server stops.

use std::time::Duration;

use api::{
    Code,
    agent::{
        AgentReport, Attempted, ClaimTasks, CloseLease, Done, EnrolRequest, Enrolled, ItemStatus, LeaseOpened, LeaseRenewed, MAX_WAIT_MS, OpenLease, Peer, Peers, Pulse,
        PulseTask, RenewLease, ReportTask, SiteStatus, Task, TaskPulsed, TaskReported, TasksClaimed, Testify, Verdict, tls_name,
    },
};
use axum::{Json, extract::State};
use engine::{
    ClaimedTask, LeaseStore, Reported, RunStore, TaskPulse, TaskStore,
    witness::{EffectNote, SLICE, Testimony},
};
use recovery::{RecoveryPoint, SiteName};
use sdk::{Lease, TaskQueue, WorkerId};
use sha2::{Digest, Sha256};
use store::{
    access::{Enrolment, KnownAgent, NewAgent},
    items::PointRow,
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    app::{App, Asked},
    ca::CaError,
    caller::AgentCaller,
    listen::stopped,
    problem::{Answer, Refusal},
};

/// How often a long poll looks; bounds the delay of a step.
const LOOK: Duration = Duration::from_millis(50);
/// Limits of a lease's life, in milliseconds: shorter ones end by a hiccup, longer ones keep a dead agent's work.
const LEASE_MS: std::ops::RangeInclusive<u64> = 2_000..=120_000;
/// Most tasks in one answer.
const MOST_TASKS: u32 = 100;

pub(super) async fn enroll(State(app): State<App>, Asked(asked): Asked<EnrolRequest>) -> Answer<Enrolled> {
    let EnrolRequest { token, name, csr_pem, build } = asked;
    check_name(&name)?;
    let refused = || Refusal::new(Code::EnrolmentRefused, format!("the token for agent {name} is wrong, used or too old"));
    let digest = Sha256::digest(token.as_bytes()).into();
    app.store.enrolment_site(digest).await?.ok_or_else(refused)?;
    let certificate = app.authority.for_agent(&name, &csr_pem).map_err(|error| match &error {
        CaError::Request(why) => Refusal::new(Code::InvalidRequest, format!("the certificate request can't be used: {why}")),
        CaError::File(_) | CaError::Unreadable { .. } | CaError::Making(_) | CaError::Tls(_) => {
            Refusal::new(Code::Internal, format!("agent {name} got no certificate: {error}"))
        }
    })?;
    let worker = WorkerId(Uuid::now_v7());
    let agent = NewAgent { name: &name, worker, certificate: certificate.sha256, build: &build };
    let site = match app.store.enrol_agent(digest, &agent).await? {
        Enrolment::Enrolled(site) => site,
        Enrolment::Refused => return Err(refused()),
        Enrolment::NameTaken => return Err(Refusal::new(Code::NameTaken, format!("there is an agent {name}"))),
    };
    tracing::info!(agent = name, site, "an agent was enrolled");
    let (tls_name, site) = (tls_name(&name), site_name(&site)?);
    Ok(Json(Enrolled { name, site, worker, certificate_pem: certificate.pem, ca_pem: app.authority.certificate_pem().to_owned(), tls_name }))
}

pub(super) async fn open_lease(AgentCaller(agent): AgentCaller, State(app): State<App>, Asked(asked): Asked<OpenLease>) -> Answer<LeaseOpened> {
    let lease = app.store.open_lease(agent.worker, life(asked.ttl_ms)?).await?;
    app.store.agent_seen(&agent.name, None).await?;
    tracing::info!(agent = agent.name, epoch = lease.epoch, "an agent connected");
    let testify = app.store.hear_witness(agent.worker.0, "agent", &agent.name).await?;
    Ok(Json(LeaseOpened { lease, now: app.store.now().await?, testify }))
}

pub(super) async fn renew_lease(AgentCaller(agent): AgentCaller, State(app): State<App>, Asked(asked): Asked<RenewLease>) -> Answer<LeaseRenewed> {
    own(&agent, asked.lease)?;
    let held = app.store.renew_lease(asked.lease, life(asked.ttl_ms)?).await?;
    let testify = app.store.hear_witness(agent.worker.0, "agent", &agent.name).await?;
    Ok(Json(LeaseRenewed { held, testify }))
}

pub(super) async fn testify(AgentCaller(agent): AgentCaller, State(app): State<App>, Asked(asked): Asked<Testify>) -> Answer<Done> {
    if asked.attempts.len() > SLICE {
        return Err(Refusal::new(Code::InvalidRequest, format!("a testimony comes in slices of at most {SLICE} attempts, not {}", asked.attempts.len())));
    }
    let effects = asked.attempts.into_iter().map(|attempted| {
        let Attempted { run, seq, activity, input_sha256, attempt, run_epoch, era, outcome, accepted } = attempted;
        EffectNote { run, seq, activity, input_sha256, attempt, run_epoch, era, outcome, accepted }
    });
    let slice = Testimony { effects: effects.collect(), ..Testimony::default() };
    app.store.testify(agent.worker.0, &slice, asked.last).await?;
    Ok(Json(Done {}))
}

pub(super) async fn close_lease(AgentCaller(agent): AgentCaller, State(app): State<App>, Asked(asked): Asked<CloseLease>) -> Answer<Done> {
    own(&agent, asked.lease)?;
    app.store.close_lease(asked.lease).await?;
    app.store.forget_witness(agent.worker.0).await?;
    tracing::info!(agent = agent.name, epoch = asked.lease.epoch, "an agent has gone");
    Ok(Json(Done {}))
}

pub(super) async fn claim(AgentCaller(agent): AgentCaller, State(app): State<App>, Asked(asked): Asked<ClaimTasks>) -> Answer<TasksClaimed> {
    own(&agent, asked.lease)?;
    for queue in &asked.queues {
        own_queue(&agent, queue)?;
    }
    let limit = asked.limit.clamp(1, MOST_TASKS);
    let deadline = Instant::now() + Duration::from_millis(asked.wait_ms.min(MAX_WAIT_MS));
    let mut stop = app.stop.clone();
    loop {
        let tasks = app.store.claim_tasks(asked.lease, &asked.queues, limit).await?;
        if !tasks.is_empty() || Instant::now() >= deadline || *stop.borrow() {
            return Ok(Json(TasksClaimed { tasks: tasks.into_iter().map(task).collect() }));
        }
        drop(tokio::time::timeout(LOOK, stopped(&mut stop)).await);
    }
}

pub(super) async fn report(AgentCaller(agent): AgentCaller, State(app): State<App>, Asked(asked): Asked<ReportTask>) -> Answer<TaskReported> {
    let task = app.store.task(asked.run, asked.seq).await?.filter(|task| task.token.attempt == asked.attempt);
    let Some(task) = task else { return Ok(Json(TaskReported { accepted: false })) };
    own_queue(&agent, &task.task.queue)?;
    let verdict = match asked.verdict {
        Verdict::Ended { outcome } => engine::Verdict::Ended(outcome),
        Verdict::Failed { failure } => engine::Verdict::Failed(failure),
        Verdict::Buried { failure } => engine::Verdict::Buried(failure),
    };
    let reported = engine::report(app.store.as_ref(), &task, &verdict).await?;
    Ok(Json(TaskReported { accepted: reported == Reported::Accepted }))
}

pub(super) async fn pulse(AgentCaller(agent): AgentCaller, State(app): State<App>, Asked(asked): Asked<PulseTask>) -> Answer<TaskPulsed> {
    if let Some(task) = app.store.task(asked.run, asked.seq).await? {
        own_queue(&agent, &task.task.queue)?;
    }
    let pulse = match app.store.pulse_task(asked.run, asked.seq, asked.attempt, asked.detail.as_ref()).await? {
        TaskPulse::Alive => Pulse::Alive,
        TaskPulse::CancelRequested => Pulse::CancelRequested,
        TaskPulse::Gone => Pulse::Gone,
    };
    Ok(Json(TaskPulsed { pulse }))
}

pub(super) async fn status(AgentCaller(agent): AgentCaller, State(app): State<App>, Asked(asked): Asked<SiteStatus>) -> Answer<Done> {
    for status in &asked.items {
        note_item(&app, &agent.site, status).await?;
    }
    app.store.agent_seen(&agent.name, asked.data_address.as_deref()).await?;
    Ok(Json(Done {}))
}

/// What an agent says of itself and its host.
pub(super) async fn report_itself(AgentCaller(agent): AgentCaller, State(app): State<App>, Asked(report): Asked<AgentReport>) -> Answer<Done> {
    let report = serde_json::to_value(report).map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    app.store.put_agent_report(&agent.name, &report).await?;
    Ok(Json(Done {}))
}

pub(super) async fn peers(_: AgentCaller, State(app): State<App>) -> Answer<Peers> {
    let peer = |row: store::access::AgentRow| {
        Ok(Peer { site: site_name(&row.site)?, tls_name: tls_name(&row.name), name: row.name, data_address: row.data_address })
    };
    let agents = app.store.agents().await?.into_iter().map(peer).collect::<Result<_, Refusal>>()?;
    Ok(Json(Peers { ca_pem: app.authority.certificate_pem().to_owned(), agents }))
}

async fn note_item(app: &App, site: &str, status: &ItemStatus) -> Result<(), Refusal> {
    let item = status.item.as_str();
    let points = status.replica.iter().flat_map(|replica| replica.points.iter().map(move |point| (point, replica.withdrawn)));
    let points = points.map(|(point, withdrawn)| row(item, site, point, withdrawn)).collect::<Result<Vec<_>, _>>()?;
    app.store.put_points(item, site, &points).await?;
    let replication = status.replication.as_ref().map(serde_json::to_value).transpose();
    let replication = replication.map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    app.store.put_replication(item, site, replication.as_ref()).await?;
    let machines = status.machines.as_ref().map(serde_json::to_value).transpose();
    let machines = machines.map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    app.store.put_machines(item, site, machines.as_ref()).await?;
    Ok(())
}

fn row(item: &str, site: &str, point: &RecoveryPoint, withdrawn: bool) -> Result<PointRow, Refusal> {
    let number = |value: u64| i64::try_from(value).map_err(|error| Refusal::new(Code::InvalidRequest, format!("{value} is too large: {error}")));
    Ok(PointRow {
        item: item.to_owned(),
        site: site.to_owned(),
        point: number(point.id.0)?,
        consistency: point.consistency.as_str().to_owned(),
        taken_at: point.taken_at,
        era: point.generation.era,
        grant_epoch: point.generation.grant_epoch,
        size_bytes: number(point.size_bytes)?,
        pinned: point.pinned,
        withdrawn: withdrawn || point.withdrawn,
        group_name: point.group.as_ref().map(|at| at.group.to_string()),
        moment: point.group.as_ref().map(|at| at.moment.clone()),
    })
}

fn task(claimed: ClaimedTask) -> Task {
    let ClaimedTask { run, task, token, in_doubt } = claimed;
    Task {
        run,
        seq: task.seq,
        queue: task.queue,
        activity: task.activity,
        input: task.input,
        options: task.options,
        effect: task.effect,
        scope: task.scope,
        grant: task.grant,
        trace: task.trace,
        token,
        in_doubt,
    }
}

fn own(agent: &KnownAgent, lease: Lease) -> Result<(), Refusal> {
    if lease.worker == agent.worker {
        return Ok(());
    }
    Err(Refusal::new(Code::Forbidden, format!("the lease of worker {} is not agent {}'s", lease.worker, agent.name)))
}

fn own_queue(agent: &KnownAgent, queue: &TaskQueue) -> Result<(), Refusal> {
    let own = queue.0.strip_prefix("site:") == Some(&agent.site) || queue.0.strip_prefix("host:") == Some(&agent.name);
    if own {
        return Ok(());
    }
    Err(Refusal::new(Code::Forbidden, format!("agent {} of site {} has no business at queue {queue}", agent.name, agent.site)))
}

fn life(ttl_ms: u64) -> Result<Duration, Refusal> {
    if LEASE_MS.contains(&ttl_ms) {
        return Ok(Duration::from_millis(ttl_ms));
    }
    let detail = format!("a lease lives {} to {} ms, not {ttl_ms}", LEASE_MS.start(), LEASE_MS.end());
    Err(Refusal::new(Code::InvalidRequest, detail))
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=40).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('-') && !name.ends_with('-') {
        return Ok(());
    }
    Err(Refusal::new(Code::InvalidRequest, format!("an agent's name has 1 to 40 lower-case letters, digits or dashes inside; {name:?} has not")))
}

fn site_name(name: &str) -> Result<SiteName, Refusal> {
    name.parse().map_err(|error| Refusal::new(Code::Internal, format!("a stored site has no valid name: {error}")))
}
