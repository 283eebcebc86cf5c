//! Who may do what, and who is there: sites, agents, tokens, versions, the check of the projection.
//!
//! ```text
//!   GET  /v1/sites   GET /v1/agents   GET /v1/version   POST /v1/verify
//!   GET  /v1/builds   POST /v1/builds/prefer
//!   POST /v1/agents/tokens   GET /v1/tokens   POST /v1/tokens
//! ```

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use recovery::{ItemName, SiteName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a person or program may do; each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look.
    Viewer,
    /// Operate on items and runs.
    Operator,
    /// Let others in.
    Admin,
}

impl Role {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not viewer, operator or admin")]
pub struct InvalidRole(pub String);

impl FromStr for Role {
    type Err = InvalidRole;
    fn from_str(text: &str) -> Result<Self, InvalidRole> {
        let known = [Role::Viewer, Role::Operator, Role::Admin].into_iter().find(|role| role.as_str() == text);
        known.ok_or_else(|| InvalidRole(text.to_owned()))
    }
}

/// Asks for a bearer token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// Who will use it; goes into events.
    pub name: String,
    /// What it allows.
    pub role: Role,
}

/// A new bearer token, shown once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCreated {
    /// As asked for.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// The secret.
    pub token: String,
}

/// A bearer token, without its secret, which nobody has but its user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Who uses it, as histories name them.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// Asks for a one-time enrolment token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentTokenRequest {
    /// For an agent of this site; the site exists from then on.
    pub site: SiteName,
}

/// A new enrolment token, shown once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentTokenCreated {
    /// For this site.
    pub site: SiteName,
    /// The secret.
    pub token: String,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// By which the agent knows the server, lower-case hex; of the CA's certificate.
    pub ca_sha256: String,
    /// Where agents reach the server; absent if it does not listen on the network.
    pub server: Option<String>,
}

/// A build of which a worker has been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildView {
    /// Its name: a version, and a digest of the code that decides.
    pub build: String,
    /// Whether new runs are its own, and all others may be.
    pub newest: bool,
    /// Since when it is known, or was preferred.
    pub known_at: DateTime<Utc>,
    /// Living workers.
    pub workers: i64,
    /// Runs that have not ended and that it has claimed last.
    pub open_runs: i64,
}

/// Lets a build be the newest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreferBuild {
    /// Its name.
    pub build: String,
}

/// A site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteView {
    /// Its name.
    pub name: SiteName,
    /// Its agents.
    pub agents: Vec<String>,
    /// Those that were heard of within a lease's life.
    pub connected: i64,
}

/// An enrolled agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentView {
    /// Its name.
    pub name: String,
    /// Its site.
    pub site: SiteName,
    /// Whether it holds a lease.
    pub connected: bool,
    /// Where it takes data.
    pub data_address: Option<String>,
    /// Its version.
    pub build: Option<String>,
    /// When it was enrolled.
    pub enrolled_at: DateTime<Utc>,
    /// When it was last heard of.
    pub seen_at: Option<DateTime<Utc>>,
    /// Ended runs whose heads it has noted, outside the database.
    #[serde(default)]
    pub anchored_runs: Option<i64>,
    /// A run that is not as this agent had noted it: its history was written anew.
    #[serde(default)]
    pub anchor_alarm: Option<String>,
}

/// What runs here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionView {
    /// Version of the server.
    pub version: String,
    /// Version of the schema.
    pub schema: i32,
}

/// Whether the projection is what the histories say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerifyView {
    /// Runs whose chain of hashes was checked.
    pub runs: u64,
    /// Facts that were folded.
    pub facts: u64,
    /// Items that were compared.
    pub items: u64,
    /// Where they differ; empty is well.
    pub differences: Vec<Difference>,
}

/// A difference between what was recorded and what is projected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Of which item, if it is one's.
    pub item: Option<ItemName>,
    /// What differs, in words.
    pub what: String,
    /// What the histories say.
    pub recorded: Option<Value>,
    /// What the table says.
    pub projected: Option<Value>,
}
