//! What an agent and its server say to each other. HTTPS; the agent shows the certificate that it got at its enrolment.
//!
//! ```text
//!   POST /v1/agent/enroll          EnrolRequest   ─▶ Enrolled        no certificate yet: one-time token
//!   POST /v1/agent/lease/open      OpenLease      ─▶ LeaseOpened
//!   POST /v1/agent/lease/renew     RenewLease     ─▶ LeaseRenewed    every third of the ttl, on a connection of its own
//!   POST /v1/agent/lease/close     CloseLease     ─▶ Done
//!   POST /v1/agent/testify         Testify        ─▶ Done            what it has done, when it was asked to testify
//!   POST /v1/agent/tasks/claim     ClaimTasks     ─▶ TasksClaimed    waits up to `wait_ms` for the first task
//!   POST /v1/agent/tasks/report    ReportTask     ─▶ TaskReported    once; repeat it until there is an answer
//!   POST /v1/agent/tasks/pulse     PulseTask      ─▶ TaskPulsed
//!   POST /v1/agent/status          SiteStatus     ─▶ Done            what its journals say, whenever they changed
//!   POST /v1/agent/report          AgentReport    ─▶ Done            what it says of itself and its host, every minute
//!   GET  /v1/agent/peers                          ─▶ Peers           who else is enrolled, and the CA they are known by
//!   POST /v1/agent/heads           AskHeads       ─▶ Heads           ends of histories, to be noted outside the database
//! ```
//!
//! Invariants: 1. Everything but `enroll` and `report` is harmless to repeat; `report` is answered the same twice in effect: the
//! first accepted one counts. 2. `lease-gone` (409) means: stop what you do under this lease, open a new one. 3. An agent claims
//! from `site:<its site>` and `host:<its name>` only, and from nobody else's queue.

use chrono::{DateTime, Utc};
pub use recovery::readiness::AgentReport;
use recovery::{Generation, ItemName, RecoveryPoint, SiteName};
use sdk::{ActivityOptions, Effect, Failure, Grant, Lease, Outcome, RunId, Scope, Seq, TaskQueue, Token, WorkerId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest wait for a first task that a server grants, in milliseconds: below the idle limits of proxies.
pub const MAX_WAIT_MS: u64 = 25_000;

/// Where an enrolled agent's certificate says it is: the DNS name that peers verify it by.
#[must_use]
pub fn tls_name(agent: &str) -> String {
    format!("{agent}.agent.switchback.internal")
}

/// Asks for a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// From `switchback agent token`.
    pub token: String,
    /// Lower-case letters, digits and dashes, at most 40; unique.
    pub name: String,
    /// PKCS #10, PEM. Its key stays with the agent; its subject and names are not looked at.
    pub csr_pem: String,
    /// Version of the agent.
    pub build: String,
}

/// An agent's identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// As asked for.
    pub name: String,
    /// The token's site.
    pub site: SiteName,
    /// Under which it holds leases, for ever.
    pub worker: WorkerId,
    /// For the key of the request; for clients and servers.
    pub certificate_pem: String,
    /// Who signed it; agents and server know each other by it.
    pub ca_pem: String,
    /// What the certificate is valid for.
    pub tls_name: String,
}

/// Asks for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenLease {
    /// Its life without renewal; 2,000 to 120,000.
    pub ttl_ms: u64,
}

/// A lease with a new epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseOpened {
    /// The right to claim.
    pub lease: Lease,
    /// By the database's clock.
    pub now: DateTime<Utc>,
    /// The database server was started anew: say what you have done, see [`Testify`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub testify: bool,
}

/// A heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewLease {
    /// Which.
    pub lease: Lease,
    /// From now on.
    pub ttl_ms: u64,
}

/// Whether the lease is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRenewed {
    /// `false`: it was deleted.
    pub held: bool,
    /// The database server was started anew: say what you have done, see [`Testify`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub testify: bool,
}

/// An attempt as its agent has noted it, on its own disk and before it began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempted {
    /// For which run.
    pub run: RunId,
    /// Its scheduling event.
    pub seq: Seq,
    /// Declared name.
    pub activity: String,
    /// SHA-256 of the input's JSON text, in hex.
    pub input_sha256: String,
    /// Which attempt.
    pub attempt: i32,
    /// Of the token that was shown.
    pub run_epoch: i64,
    /// Of the token that was shown.
    #[serde(default)]
    pub era: i64,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// That the report of it was accepted.
    #[serde(default)]
    pub accepted: bool,
}

/// What an agent has done, in slices. It is compared with what the database holds: what the database lacks is adopted or held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Testify {
    /// At most 500.
    pub attempts: Vec<Attempted>,
    /// Nothing follows.
    pub last: bool,
}

/// Gives a lease back at a clean stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloseLease {
    /// Which.
    pub lease: Lease,
}

/// Nothing more to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

/// Asks for work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimTasks {
    /// Under which.
    pub lease: Lease,
    /// Where from.
    pub queues: Vec<TaskQueue>,
    /// At most this many; at least 1, at most 100.
    pub limit: u32,
    /// How long to wait for the first one; at most [`MAX_WAIT_MS`].
    pub wait_ms: u64,
}

/// Work to be done now. May be empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TasksClaimed {
    /// In the order in which they became due.
    pub tasks: Vec<Task>,
}

/// One attempt to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// For which run.
    pub run: RunId,
    /// Its scheduling event.
    pub seq: Seq,
    /// Where it waited.
    pub queue: TaskQueue,
    /// Declared name.
    pub activity: String,
    /// Typed by the declaration.
    pub input: Value,
    /// Retries and limits.
    pub options: ActivityOptions,
    /// What repetition means.
    pub effect: Effect,
    /// What it may touch.
    pub scope: Scope,
    /// Lock under which it happens.
    pub grant: Option<Grant>,
    /// W3C trace parent.
    pub trace: Option<String>,
    /// To be shown to the outside world; holds the attempt.
    pub token: Token,
    /// An earlier attempt may have had its effect.
    pub in_doubt: bool,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportTask {
    /// For which run.
    pub run: RunId,
    /// Which task.
    pub seq: Seq,
    /// Which attempt.
    pub attempt: i32,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It ended.
    Ended {
        /// How.
        #[serde(rename = "result")]
        outcome: Outcome,
    },
    /// It failed; the retry policy decides.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// Nobody at this site can run it.
    Buried {
        /// Why.
        failure: Failure,
    },
}

/// Whether a report counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReported {
    /// `false`: the task is gone or another attempt has begun. Stop.
    pub accepted: bool,
}

/// A sign of life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PulseTask {
    /// For which run.
    pub run: RunId,
    /// Which task.
    pub seq: Seq,
    /// Which attempt.
    pub attempt: i32,
    /// Progress, for people.
    #[serde(default)]
    pub detail: Option<Value>,
}

/// What a sign of life learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskPulsed {
    /// How to go on.
    pub pulse: Pulse,
}

/// How to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pulse {
    /// Go on.
    Alive,
    /// Somebody wants it to stop: end in a clean state soon.
    CancelRequested,
    /// Not ours any more: stop.
    Gone,
}

/// What a site's journals say. Items that are not named are left as they were.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteStatus {
    /// Where peers send data to, as `host:port`; absent while nothing listens.
    #[serde(default)]
    pub data_address: Option<String>,
    /// News of items.
    pub items: Vec<ItemStatus>,
}

/// News of one item at one site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemStatus {
    /// Which.
    pub item: ItemName,
    /// What the site holds, whole: points that are not named are gone. Absent if it is no target of the item.
    #[serde(default)]
    pub replica: Option<ReplicaStatus>,
    /// How replication from here goes; absent if it is no source of the item.
    #[serde(default)]
    pub replication: Option<ReplicationStatus>,
    /// Which machines of the item the site sees; absent if none, or if nobody has looked yet.
    #[serde(default)]
    pub machines: Option<MachinesStatus>,
}

/// Which machines of an item a site sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachinesStatus {
    /// Whether the machine that is or was replicated from here runs; absent if there is none.
    #[serde(default)]
    pub source_runs: Option<bool>,
    /// Whether it would start with its host.
    #[serde(default)]
    pub autostart: bool,
    /// It was ended here because the item runs elsewhere.
    #[serde(default)]
    pub quarantined: bool,
    /// Whether a machine that was recovered here runs; absent if there is none. Copies of test failovers do not count.
    #[serde(default)]
    pub recovered_runs: Option<bool>,
}

/// What a site holds of an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaStatus {
    /// The newest one shown to the replica.
    pub generation: Generation,
    /// No appends are taken.
    pub sealed: bool,
    /// Points are not offered any more.
    pub withdrawn: bool,
    /// All that there are.
    pub points: Vec<RecoveryPoint>,
}

/// How the source's loop goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicationStatus {
    /// Carried by its appends.
    pub generation: Generation,
    /// `seeding`, `replicating`, `resyncing`, `paused`, `broken`, `superseded`, `stopped` or `quarantined`.
    pub phase: String,
    /// Of the copy that is running.
    pub bytes_done: u64,
    /// Of the copy that is running.
    pub bytes_total: u64,
    /// The newest point that the target has acknowledged.
    #[serde(default)]
    pub last_point: Option<recovery::PointId>,
    /// When that was taken, by the source's clock.
    #[serde(default)]
    pub last_point_taken_at: Option<DateTime<Utc>>,
    /// The newest app-consistent one.
    #[serde(default)]
    pub last_app_point: Option<recovery::PointId>,
    /// Why the last try at an app-consistent point became a crash-consistent one.
    #[serde(default)]
    pub app_error: Option<String>,
    /// Gone when a point succeeds.
    #[serde(default)]
    pub last_error: Option<String>,
    /// Payload sent since replication was started.
    pub bytes_sent_total: u64,
    /// How its replication group goes; absent if it is in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<recovery::GroupStatus>,
}

/// Agents that know each other by the same CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// Who signed all of them, PEM.
    pub ca_pem: String,
    /// All enrolled agents, the asking one included.
    pub agents: Vec<Peer>,
}

/// An enrolled agent, as its peers see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its site.
    pub site: SiteName,
    /// Where it takes data, if it does.
    pub data_address: Option<String>,
    /// What its certificate is valid for.
    pub tls_name: String,
}
