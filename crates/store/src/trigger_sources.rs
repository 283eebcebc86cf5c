//! Sources of alerts: how they are read, who may speak for them, who listens.
//!
//! Invariant: secrets are read by one query, for one purpose; no other row type here has one.

use alerts::{Key, Secret, SecretDigest};
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::{Row, error::SqlState};

use crate::{Lost, PgStore, pg::column, sql};

/// Most secrets of a source: the one that holds, and the one that is to replace it.
pub const MOST_SECRETS: i64 = 2;

/// What is needed to judge a delivery.
#[derive(Debug)]
pub struct Judging {
    /// As kept; see [`alerts::Settings::from_kept`].
    pub settings: Value,
    /// By which deliveries are believed.
    pub keys: Vec<Key>,
    /// The time.
    pub now: DateTime<Utc>,
}

/// A source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceRow {
    /// Its name.
    pub name: String,
    /// As kept.
    pub settings: Value,
    /// Whether its deliveries count.
    pub enabled: bool,
    /// By whom.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// How many secrets hold.
    pub secrets: i64,
    /// Policies that listen to it.
    pub listeners: Vec<String>,
    /// When the last delivery was accepted.
    pub accepted_at: Option<DateTime<Utc>>,
    /// When the last one was refused.
    pub refused_at: Option<DateTime<Utc>>,
    /// Deliveries that are kept.
    pub deliveries: i64,
    /// Incidents that are kept.
    pub alerts: i64,
    /// Those that go on.
    pub firing: i64,
}

/// A source to be made.
#[derive(Clone, Debug)]
pub struct NewSource<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whose form.
    pub kind: alerts::Kind,
    /// As to be kept.
    pub settings: &'a Value,
    /// By whom.
    pub by: &'a str,
    /// Its secret.
    pub key: &'a Key,
}

impl PgStore {
    /// What is needed to judge a delivery to a source, if there is one of this name.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn judging(&self, source: &str) -> Result<Option<Judging>, Lost> {
        let Some(row) = self.row(&sql::TRIGGER_SOURCE, &[&source]).await? else { return Ok(None) };
        let secrets: Vec<Vec<u8>> = column(&row, "secrets")?;
        let digests: Vec<Vec<u8>> = column(&row, "digests")?;
        let digest = |bytes: Vec<u8>| {
            let sha256 = bytes.try_into().ok().ok_or_else(|| Lost::Unreadable("a digest of another length".to_owned()))?;
            Ok(Key::Shown(SecretDigest::kept(sha256)))
        };
        let signing = secrets.iter().map(|secret| Ok(Key::Signs(Secret::kept(secret))));
        let keys = signing.chain(digests.into_iter().map(digest)).collect::<Result<_, Lost>>()?;
        Ok(Some(Judging { settings: column(&row, "settings")?, keys, now: column(&row, "now")? }))
    }

    /// All sources, or one.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn trigger_sources(&self, name: Option<&str>) -> Result<Vec<SourceRow>, Lost> {
        self.rows(&sql::TRIGGER_SOURCES, &[&name]).await?.iter().map(source_row).collect()
    }

    /// Makes a source; `false` if the name is taken.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn add_trigger_source(&self, new: &NewSource<'_>) -> Result<bool, Lost> {
        let (secret, sha256) = columns(new.key);
        let params: crate::pg::Params<'_> = &[&new.name, &new.kind.as_str(), new.settings, &new.by, &secret, &sha256];
        Ok(self.row(&sql::ADD_TRIGGER_SOURCE, params).await?.is_some())
    }

    /// Gives a source a second secret; `false` if there is no such source, or it has [`MOST_SECRETS`] of them.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn add_trigger_secret(&self, source: &str, key: &Key, by: &str) -> Result<bool, Lost> {
        let (secret, sha256) = columns(key);
        Ok(self.row(&sql::ADD_TRIGGER_SECRET, &[&source, &by, &secret, &sha256, &MOST_SECRETS]).await?.is_some())
    }

    /// Drops all secrets of a source but the newest; `false` if there was only one.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn drop_old_trigger_secret(&self, source: &str) -> Result<bool, Lost> {
        Ok(self.row(&sql::DROP_OLD_TRIGGER_SECRET, &[&source]).await?.is_some())
    }

    /// Lets a source's deliveries count, or not; `false` if there is no such source.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn enable_trigger_source(&self, name: &str, enabled: bool) -> Result<bool, Lost> {
        Ok(self.row(&sql::ENABLE_TRIGGER_SOURCE, &[&name, &enabled]).await?.is_some())
    }

    /// Removes a source with all that belongs to it; `false` if there is no such source, or a policy listens to it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn remove_trigger_source(&self, name: &str) -> Result<bool, Lost> {
        match self.row(&sql::REMOVE_TRIGGER_SOURCE, &[&name]).await {
            Ok(row) => Ok(row.is_some()),
            // Somebody began to listen at this moment.
            Err(Lost::Pg(error)) if error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION) => Ok(false),
            Err(lost) => Err(lost),
        }
    }
}

/// A key as its two columns, one of which is null.
fn columns(key: &Key) -> (Option<&[u8]>, Option<&[u8]>) {
    match key {
        Key::Signs(secret) => (Some(secret.expose()), None),
        Key::Shown(digest) => (None, Some(digest.as_bytes())),
    }
}

fn source_row(row: &Row) -> Result<SourceRow, Lost> {
    Ok(SourceRow {
        name: column(row, "name")?,
        settings: column(row, "settings")?,
        enabled: column(row, "enabled")?,
        created_by: column(row, "created_by")?,
        created_at: column(row, "created_at")?,
        secrets: column(row, "secrets")?,
        listeners: column(row, "listeners")?,
        accepted_at: column(row, "accepted_at")?,
        refused_at: column(row, "refused_at")?,
        deliveries: column(row, "deliveries")?,
        alerts: column(row, "alerts")?,
        firing: column(row, "firing")?,
    })
}
