//! The projection of items, and what the sites' journals say of their points.
//!
//! Invariant: items are read here and written by turns alone; points and status are written here, from reports alone.

use chrono::{DateTime, Utc};
use sdk::RunId;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    Lost, PgStore,
    pg::{column, without_nul},
    runs::json,
    sql,
};

/// An item as it is projected.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemRow {
    /// Its name.
    pub name: String,
    /// Its record, as the workflow recorded it.
    pub record: Value,
    /// Grows with every change.
    pub version: i64,
    /// When the last one was.
    pub updated_at: DateTime<Utc>,
    /// Since when it runs where it runs, if it was moved.
    pub running_since: Option<DateTime<Utc>>,
    /// The run that has it now.
    pub open_run: Option<RunId>,
}

/// A point as its site reported it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PointRow {
    /// Of which item.
    pub item: String,
    /// Where.
    pub site: String,
    /// Its number.
    pub point: i64,
    /// `crash` or `app`.
    pub consistency: String,
    /// By the source's clock.
    pub taken_at: DateTime<Utc>,
    /// First half of its generation.
    pub era: i64,
    /// Second half of its generation.
    pub grant_epoch: i64,
    /// What it took on the line.
    pub size_bytes: i64,
    /// Whether retention leaves it alone.
    pub pinned: bool,
    /// Whether it was given up.
    pub withdrawn: bool,
    /// The replication group with which it was taken.
    pub group_name: Option<String>,
    /// At which common moment of that.
    pub moment: Option<String>,
}

/// How replication goes at a source.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicationRow {
    /// Of which item.
    pub item: String,
    /// Who says so.
    pub site: String,
    /// What.
    pub status: Value,
    /// When.
    pub reported_at: DateTime<Utc>,
}

/// A member of a replication group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupRow {
    /// Which item.
    pub item: String,
    /// Which group.
    pub group: String,
    /// As the item's record defines it.
    pub definition: Value,
    /// Since when it does.
    pub updated_at: DateTime<Utc>,
    /// The run that changes the group now.
    pub open_run: Option<RunId>,
}

/// What a site sees of an item's machines.
#[derive(Clone, Debug, PartialEq)]
pub struct MachinesRow {
    /// Of which item.
    pub item: String,
    /// Who says so.
    pub site: String,
    /// What.
    pub seen: Value,
    /// When.
    pub reported_at: DateTime<Utc>,
}

impl PgStore {
    /// One item, or all.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn items(&self, name: Option<&str>) -> Result<Vec<ItemRow>, Lost> {
        self.rows(&sql::ITEMS, &[&name]).await?.iter().map(item).collect()
    }

    /// What names an item: plans, trigger policies and schedules, in words.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn naming_item(&self, item: &str) -> Result<Vec<String>, Lost> {
        self.rows(&sql::NAMING_ITEM, &[&item]).await?.iter().map(|row| column(row, "named_by")).collect()
    }

    /// Those of these items that there are.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn items_named(&self, names: &[&str]) -> Result<Vec<ItemRow>, Lost> {
        self.rows(&sql::ITEMS_NAMED, &[&names]).await?.iter().map(item).collect()
    }

    /// Points of one item, or all.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn points(&self, item: Option<&str>) -> Result<Vec<PointRow>, Lost> {
        self.rows(&sql::POINTS, &[&item]).await?.iter().map(point).collect()
    }

    /// Points of these items.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn points_named(&self, items: &[&str]) -> Result<Vec<PointRow>, Lost> {
        self.rows(&sql::POINTS_NAMED, &[&items]).await?.iter().map(point).collect()
    }

    /// Members of one replication group, or of all.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn groups(&self, name: Option<&str>) -> Result<Vec<GroupRow>, Lost> {
        let member = |row: &Row| {
            Ok(GroupRow {
                item: column(row, "item")?,
                group: column(row, "group_name")?,
                definition: column(row, "definition")?,
                updated_at: column(row, "updated_at")?,
                open_run: column::<Option<Uuid>>(row, "open_run")?.map(RunId),
            })
        };
        self.rows(&sql::GROUPS, &[&name]).await?.iter().map(member).collect()
    }

    /// How replication of one item goes, or of all.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn replication(&self, item: Option<&str>) -> Result<Vec<ReplicationRow>, Lost> {
        let status = |row: &Row| {
            Ok(ReplicationRow {
                item: column(row, "item")?,
                site: column(row, "site")?,
                status: column(row, "status")?,
                reported_at: column(row, "reported_at")?,
            })
        };
        self.rows(&sql::REPLICATION, &[&item]).await?.iter().map(status).collect()
    }

    /// Where machines of one item were seen, or of all.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn machines(&self, item: Option<&str>) -> Result<Vec<MachinesRow>, Lost> {
        let seen = |row: &Row| {
            Ok(MachinesRow {
                item: column(row, "item")?,
                site: column(row, "site")?,
                seen: column(row, "seen")?,
                reported_at: column(row, "reported_at")?,
            })
        };
        self.rows(&sql::MACHINES, &[&item]).await?.iter().map(seen).collect()
    }

    /// Notes which machines of an item a site sees; `None` forgets them.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn put_machines(&self, item: &str, site: &str, seen: Option<&Value>) -> Result<(), Lost> {
        self.rows(&sql::PUT_MACHINES, &[&item, &site, &seen.map(without_nul)]).await.map(drop)
    }

    /// Replaces the points of an item at a site by what its journal lists now.
    ///
    /// # Errors
    /// The database does not answer, or refuses a value.
    pub async fn put_points(&self, item: &str, site: &str, points: &[PointRow]) -> Result<(), Lost> {
        self.rows(&sql::PUT_POINTS, &[&item, &site, &json(&points)?]).await.map(drop)
    }

    /// Notes how replication of an item goes at a site; `None` forgets it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn put_replication(&self, item: &str, site: &str, status: Option<&Value>) -> Result<(), Lost> {
        self.rows(&sql::PUT_REPLICATION, &[&item, &site, &status.map(without_nul)]).await.map(drop)
    }
}

fn item(row: &Row) -> Result<ItemRow, Lost> {
    Ok(ItemRow {
        name: column(row, "name")?,
        record: column(row, "record")?,
        version: column(row, "version")?,
        updated_at: column(row, "updated_at")?,
        running_since: column(row, "running_since")?,
        open_run: column::<Option<Uuid>>(row, "open_run")?.map(RunId),
    })
}

fn point(row: &Row) -> Result<PointRow, Lost> {
    Ok(PointRow {
        item: column(row, "item")?,
        site: column(row, "site")?,
        point: column(row, "point")?,
        consistency: column(row, "consistency")?,
        taken_at: column(row, "taken_at")?,
        era: column(row, "era")?,
        grant_epoch: column(row, "grant_epoch")?,
        size_bytes: column(row, "size_bytes")?,
        pinned: column(row, "pinned")?,
        withdrawn: column(row, "withdrawn")?,
        group_name: column(row, "group_name")?,
        moment: column(row, "moment")?,
    })
}
