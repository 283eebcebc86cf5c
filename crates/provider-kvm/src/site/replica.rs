//! The port for received points.

use async_trait::async_trait;
use provider::{Base, Call, Endpoint, ExtentMap, Pin, PrepareReplica, ProviderError, Replica, ReplicaStore};
use recovery::{Generation, ItemName, PointId};

use super::{Item, KvmSite, extents, old_machine};
use crate::guard::Right;

#[async_trait]
impl ReplicaStore for KvmSite {
    async fn prepare(&self, call: &Call, wanted: PrepareReplica) -> Result<Endpoint, ProviderError> {
        let name = wanted.item.clone();
        self.effect("prepare", call, &name, move |site, item, right| prepare(site, item, right, wanted)).await
    }

    async fn seal(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<Replica, ProviderError> {
        self.effect("seal", call, item, move |_site, item, _right| item.store.seal(generation)).await
    }

    async fn replica(&self, item: &ItemName) -> Result<Replica, ProviderError> {
        let name = item.clone();
        self.blocking("replica", move |site| {
            site.inner.host.item(&name)?.store.describe().ok_or(ProviderError::NoSuchReplica { item: name })
        })
        .await
    }

    async fn pin(&self, call: &Call, item: &ItemName, point: PointId, pin: Pin) -> Result<(), ProviderError> {
        self.effect("pin", call, item, move |_site, item, _right| item.store.pin(point, pin)).await
    }

    async fn unpin(&self, call: &Call, item: &ItemName, point: PointId, pin: Pin) -> Result<(), ProviderError> {
        self.effect("unpin", call, item, move |_site, item, _right| item.store.unpin(point, pin)).await
    }

    async fn keep_extent_map(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<ExtentMap, ProviderError> {
        let name = item.clone();
        self.effect("keep extent map", call, item, move |site, item, _right| extents::keep(site, item, &name, generation)).await
    }

    async fn withdraw_points(&self, call: &Call, item: &ItemName) -> Result<(), ProviderError> {
        self.effect("withdraw points", call, item, move |_site, item, _right| item.store.withdraw()).await
    }

    async fn remove_points(&self, call: &Call, item: &ItemName) -> Result<(), ProviderError> {
        self.effect("remove points", call, item, move |site, item, right| {
            item.store.remove_points()?;
            old_machine::leave(site, item, right)?;
            old_machine::accepted(site, right)
        })
        .await
    }

    async fn drop_replica(&self, call: &Call, item: &ItemName) -> Result<(), ProviderError> {
        self.effect("drop replica", call, item, move |site, item, right| {
            if !item.store.begin_drop()? {
                return Ok(());
            }
            old_machine::back(site, item, right)?;
            item.store.end_drop()
        })
        .await
    }
}

fn prepare(site: &KvmSite, item: &Item, right: &Right<'_>, wanted: PrepareReplica) -> Result<Endpoint, ProviderError> {
    let begins = item.store.begins(&wanted)?;
    if begins {
        // What an interrupted removal has left of the replica's life before this one.
        old_machine::leave(site, item, right)?;
    }
    let base = match wanted.base {
        Base::OldMachine if begins => Some(old_machine::find(site, item, &wanted)?),
        Base::OldMachine => old_machine::used_since(site, item, right, &wanted)?,
        Base::Empty => None,
    };
    let endpoint = item.store.prepare(wanted, base, site.endpoint())?;
    if let Some(base) = item.store.old_machine() {
        old_machine::take(site, item, right, &base)?;
    }
    Ok(endpoint)
}
