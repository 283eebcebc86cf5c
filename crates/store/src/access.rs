//! Sites, agents, tokens, and requests that count once.
//!
//! Invariant: secrets come in as SHA-256 and are never stored otherwise.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sdk::WorkerId;
use serde_json::Value;
use tokio_postgres::{Row, error::SqlState};

use crate::{Lost, PgStore, pg::column, sql};

/// SHA-256 of a secret or of a request.
pub type Digest = [u8; 32];

/// A build of which a worker has been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildRow {
    /// Its name.
    pub build: String,
    /// Since when it is known, or was preferred.
    pub known_at: DateTime<Utc>,
    /// Living workers.
    pub workers: i64,
    /// Open and suspended runs that it has claimed last.
    pub open_runs: i64,
}

/// A site with its agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRow {
    /// Its name.
    pub name: String,
    /// Its agents' names.
    pub agents: Vec<String>,
    /// How many of them hold a lease.
    pub connected: i64,
}

/// An enrolled agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRow {
    /// Its name.
    pub name: String,
    /// Its site.
    pub site: String,
    /// Where it takes data.
    pub data_address: Option<String>,
    /// Its version.
    pub build: Option<String>,
    /// When it was enrolled.
    pub enrolled_at: DateTime<Utc>,
    /// When it last reported.
    pub seen_at: Option<DateTime<Utc>>,
    /// Whether it holds a lease.
    pub connected: bool,
    /// Ended runs whose heads it has noted.
    pub anchored_runs: Option<i64>,
    /// What it was told that is not what it had noted.
    pub anchor_alarm: Option<String>,
}

/// Whom a certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownAgent {
    /// Its name.
    pub name: String,
    /// Its site.
    pub site: String,
    /// Under which it holds leases.
    pub worker: WorkerId,
}

/// Whom a bearer token names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenHolder {
    /// The token's name.
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
}

/// A bearer token, without what it is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiTokenRow {
    /// Its name.
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// An agent to be registered.
#[derive(Clone, Debug)]
pub struct NewAgent<'a> {
    /// Its name.
    pub name: &'a str,
    /// Under which it will hold leases.
    pub worker: WorkerId,
    /// Of its certificate.
    pub certificate: Digest,
    /// Its version.
    pub build: &'a str,
}

/// What became of an enrolment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enrolment {
    /// The agent is registered at this site.
    Enrolled(String),
    /// The token is wrong, used or too old.
    Refused,
    /// Another agent has the name; the token still holds.
    NameTaken,
}

/// A request with a key, as it stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Nobody has asked this before: do it, then keep the answer.
    Fresh,
    /// It was answered.
    Answered {
        /// HTTP status.
        status: i32,
        /// The answer.
        answer: Value,
    },
    /// Another request has the key, or the first is still being worked on.
    Conflict,
}

impl PgStore {
    /// Makes a one-time token for a site, and the site if it is new; gives the end of its life.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn add_enrolment_token(&self, token: Digest, site: &str, by: &str, life: Duration) -> Result<DateTime<Utc>, Lost> {
        self.rows(&sql::ADD_SITE, &[&site]).await?;
        let row = self.one(&sql::ADD_ENROLMENT_TOKEN, &[&&token[..], &site, &by, &life.as_secs_f64()]).await?;
        column(&row, "expires_at")
    }

    /// The site of a token that holds.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn enrolment_site(&self, token: Digest) -> Result<Option<String>, Lost> {
        let row = self.row(&sql::ENROLMENT_SITE, &[&&token[..]]).await?;
        row.map(|row| column(&row, "site")).transpose()
    }

    /// Registers an agent and uses its token up.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn enrol_agent(&self, token: Digest, agent: &NewAgent<'_>) -> Result<Enrolment, Lost> {
        let params: crate::pg::Params<'_> = &[&&token[..], &agent.name, &agent.worker.0, &&agent.certificate[..], &agent.build];
        match self.row(&sql::ENROL_AGENT, params).await {
            Ok(Some(row)) => Ok(Enrolment::Enrolled(column(&row, "site")?)),
            Ok(None) => Ok(Enrolment::Refused),
            Err(Lost::Pg(error)) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => Ok(Enrolment::NameTaken),
            Err(lost) => Err(lost),
        }
    }

    /// All who have a bearer token.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn token_holders(&self) -> Result<Vec<TokenHolder>, Lost> {
        let holder = |row: &Row| Ok(TokenHolder { name: column(row, "name")?, role: column(row, "role")? });
        self.rows(&sql::TOKEN_HOLDERS, &[]).await?.iter().map(holder).collect()
    }

    /// Whom a certificate names.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn agent_by_certificate(&self, certificate: Digest) -> Result<Option<KnownAgent>, Lost> {
        let row = self.row(&sql::AGENT_BY_CERTIFICATE, &[&&certificate[..]]).await?;
        let known = |row: Row| {
            Ok(KnownAgent { name: column(&row, "name")?, site: column(&row, "site")?, worker: WorkerId(column(&row, "worker_id")?) })
        };
        row.map(known).transpose()
    }

    /// Notes that an agent was heard of.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn agent_seen(&self, name: &str, data_address: Option<&str>) -> Result<(), Lost> {
        self.rows(&sql::AGENT_SEEN, &[&name, &data_address]).await.map(drop)
    }

    /// All sites.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn sites(&self) -> Result<Vec<SiteRow>, Lost> {
        let site =
            |row: &Row| Ok(SiteRow { name: column(row, "name")?, agents: column(row, "agents")?, connected: column(row, "connected")? });
        self.rows(&sql::SITES, &[]).await?.iter().map(site).collect()
    }

    /// All builds, the newest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn builds(&self) -> Result<Vec<BuildRow>, Lost> {
        let build = |row: &Row| {
            Ok(BuildRow { build: column(row, "build")?, known_at: column(row, "known_at")?, workers: column(row, "workers")?, open_runs: column(row, "open_runs")? })
        };
        self.rows(&sql::BUILDS, &[]).await?.iter().map(build).collect()
    }

    /// The build that runs which nobody has claimed are for, if any worker has ever said what it is.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn newest_build(&self) -> Result<Option<String>, Lost> {
        self.row(&sql::NEWEST_BUILD, &[]).await?.as_ref().map(|row| column(row, "build")).transpose()
    }

    /// All agents.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn agents(&self) -> Result<Vec<AgentRow>, Lost> {
        let agent = |row: &Row| {
            Ok(AgentRow {
                name: column(row, "name")?,
                site: column(row, "site")?,
                data_address: column(row, "data_address")?,
                build: column(row, "build")?,
                enrolled_at: column(row, "enrolled_at")?,
                seen_at: column(row, "seen_at")?,
                connected: column(row, "connected")?,
                anchored_runs: column(row, "anchored_runs")?,
                anchor_alarm: column(row, "anchor_alarm")?,
            })
        };
        self.rows(&sql::AGENTS, &[]).await?.iter().map(agent).collect()
    }

    /// Makes a bearer token; `false` if the name is taken.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn add_api_token(&self, name: &str, role: &str, token: Digest, by: &str) -> Result<bool, Lost> {
        Ok(self.row(&sql::ADD_API_TOKEN, &[&name, &role, &&token[..], &by]).await?.is_some())
    }

    /// All bearer tokens, by name.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn api_tokens(&self) -> Result<Vec<ApiTokenRow>, Lost> {
        let token = |row: &Row| {
            Ok(ApiTokenRow {
                name: column(row, "name")?,
                role: column(row, "role")?,
                created_by: column(row, "created_by")?,
                created_at: column(row, "created_at")?,
            })
        };
        self.rows(&sql::API_TOKENS, &[]).await?.iter().map(token).collect()
    }

    /// Whom a bearer token names.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn token_holder(&self, token: Digest) -> Result<Option<TokenHolder>, Lost> {
        let row = self.row(&sql::API_TOKEN, &[&&token[..]]).await?;
        row.map(|row| Ok(TokenHolder { name: column(&row, "name")?, role: column(&row, "role")? })).transpose()
    }

    /// Notes that a request with a key is being worked on, unless one was.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn begin_request(&self, actor: &str, key: &str, request: Digest) -> Result<Request, Lost> {
        let row = self.one(&sql::BEGIN_REQUEST, &[&actor, &key, &&request[..]]).await?;
        if column(&row, "fresh")? {
            return Ok(Request::Fresh);
        }
        let same: bool = column(&row, "same_request")?;
        let answered = column::<Option<i32>>(&row, "status")?.zip(column::<Option<Value>>(&row, "answer")?);
        Ok(match answered {
            Some((status, answer)) if same => Request::Answered { status, answer },
            Some(_) | None => Request::Conflict,
        })
    }

    /// Keeps the answer of a request with a key; `None` forgets the key, so that the request can be made again.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn end_request(&self, actor: &str, key: &str, answer: Option<(i32, &Value)>) -> Result<(), Lost> {
        let (status, body) = answer.unzip();
        self.rows(&sql::END_REQUEST, &[&actor, &key, &status, &body]).await.map(drop)
    }
}
