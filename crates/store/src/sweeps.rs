//! What anybody may do for everybody: due timers, free locks, overdue tasks.

use async_trait::async_trait;
use engine::{StoreError, Sweeps};

use crate::{
    PgStore,
    error::store_error,
    pg::column,
    runs::int,
    sql::{self, Query},
};

#[async_trait]
impl Sweeps for PgStore {
    async fn fire_timers(&self, limit: u32) -> Result<u32, StoreError> {
        self.count(&sql::FIRE_TIMERS, limit).await
    }

    async fn grant_locks(&self, limit: u32) -> Result<u32, StoreError> {
        let query = &sql::GRANT_LOCKS;
        let granted = async { column::<i32>(&self.one(query, &[&int(limit)]).await?, "grant_locks") };
        granted.await.map(|rows| u32::try_from(rows).unwrap_or(0)).map_err(|lost| store_error(query.attempted, lost))
    }

    async fn expire_tasks(&self, limit: u32) -> Result<u32, StoreError> {
        self.count(&sql::EXPIRE_TASKS, limit).await
    }
}

impl PgStore {
    async fn count(&self, query: &Query, limit: u32) -> Result<u32, StoreError> {
        let counted = async { column::<i64>(&self.one(query, &[&i64::from(limit)]).await?, "count") };
        counted.await.map(|rows| u32::try_from(rows).unwrap_or(u32::MAX)).map_err(|lost| store_error(query.attempted, lost))
    }
}
