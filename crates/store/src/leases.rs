//! Leases on Postgres: the row is the right.

use std::time::Duration;

use async_trait::async_trait;
use engine::{LeaseStore, StoreError};
use sdk::{Lease, WorkerId};

use crate::{Lost, PgStore, error::{fenced_error, store_error}, pg::column, sql};

#[async_trait]
impl LeaseStore for PgStore {
    async fn open_lease(&self, worker: WorkerId, ttl: Duration) -> Result<Lease, StoreError> {
        let query = &sql::OPEN_LEASE;
        let opened = async {
            let row = self.one(query, &[&worker.0, &ttl.as_secs_f64()]).await?;
            Ok(Lease { worker, epoch: column(&row, "epoch")? })
        };
        opened.await.map_err(|lost| store_error(query.attempted, lost))
    }

    async fn declare_build(&self, lease: Lease, build: &str) -> Result<(), StoreError> {
        let query = &sql::DECLARE_BUILD;
        let declared = self.rows(query, &[&lease.worker.0, &lease.epoch, &build]).await;
        declared.map(drop).map_err(|lost| fenced_error(query.attempted, lease, lost))
    }

    async fn prefer_build(&self, build: &str) -> Result<bool, StoreError> {
        let query = &sql::PREFER_BUILD;
        let preferred = async { column(&self.one(query, &[&build]).await?, "known") };
        preferred.await.map_err(|lost| store_error(query.attempted, lost))
    }

    async fn renew_lease(&self, lease: Lease, ttl: Duration) -> Result<bool, StoreError> {
        let query = &sql::RENEW_LEASE;
        let row = self.beat(query, &[&lease.worker.0, &lease.epoch, &ttl.as_secs_f64()]).await;
        row.map(|row| row.is_some()).map_err(|lost| store_error(query.attempted, lost))
    }

    async fn close_lease(&self, lease: Lease) -> Result<(), StoreError> {
        let query = &sql::CLOSE_LEASE;
        let closed = self.rows(query, &[&lease.worker.0, &lease.epoch]).await;
        closed.map(drop).map_err(|lost| store_error(query.attempted, lost))
    }

    async fn expire_leases(&self, ours: Lease, ttl: Duration) -> Result<Vec<Lease>, StoreError> {
        let query = &sql::EXPIRE_LEASES;
        let expired = async {
            let rows = self.rows(query, &[&ours.worker.0, &ours.epoch, &ttl.as_secs_f64()]).await?;
            let lease = |row| Ok(Lease { worker: WorkerId(column(row, "worker_id")?), epoch: column(row, "epoch")? });
            rows.iter().map(lease).collect::<Result<Vec<_>, Lost>>()
        };
        expired.await.map_err(|lost| store_error(query.attempted, lost))
    }
}
