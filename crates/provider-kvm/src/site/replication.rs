//! The port for replication at its source.

use std::sync::Arc;

use async_trait::async_trait;
use provider::{Call, PointRequest, ProgressSink, ProviderError, Replicate, Replication, ReplicationStatus};
use recovery::{Group, ItemName, PointId};

use super::KvmSite;
use crate::{
    inspect::inspect,
    source::{Source, final_sync, remove_marks},
};

#[async_trait]
impl Replication for KvmSite {
    async fn start_replication(&self, call: &Call, wanted: Replicate) -> Result<(), ProviderError> {
        let name = wanted.item.clone();
        self.effect("start replication", call, &name, move |site, _item, right| {
            inspect(&site.inner.host.hypervisor, &wanted.machine)?;
            let (item, vm) = (wanted.item.clone(), site.inner.host.hypervisor.by_name(&wanted.machine)?);
            match site.inner.source(&item) {
                Some(source) => source.change(wanted)?,
                None => {
                    let dir = site.inner.host.config.state_dir.join("source").join(item.as_str());
                    let source = Source::begin(site.inner.tools.clone(), dir, wanted)?;
                    site.inner.sources().insert(item.clone(), Arc::new(source));
                }
            }
            right.before("autostart")?;
            site.autostart(&item).take(&vm)
        })
        .await
    }

    async fn stop_replication(&self, call: &Call, item: &ItemName) -> Result<(), ProviderError> {
        let name = item.clone();
        self.effect("stop replication", call, item, move |site, _item, _right| {
            let Some(source) = site.inner.source(&name) else { return Ok(()) };
            let autostart = site.autostart(&name);
            if source.superseded() {
                autostart.ask_on()?;
            }
            source.stop()?;
            let machine = source.wanted().machine;
            match site.inner.host.hypervisor.by_name(&machine) {
                Err(ProviderError::NoSuchMachine { .. }) => autostart.release()?,
                vm => autostart.give_back(&vm?)?,
            }
            remove_marks(&site.inner.tools, &machine)
        })
        .await
    }

    async fn final_sync(&self, call: &Call, item: &ItemName, progress: Arc<dyn ProgressSink>) -> Result<PointId, ProviderError> {
        let name = item.clone();
        self.effect("final sync", call, item, move |site, _item, _right| {
            let source = site.inner.source(&name).ok_or(ProviderError::NotReplicated { item: name })?;
            final_sync(&source, &progress)
        })
        .await
    }

    async fn request_point(&self, call: &Call, wanted: PointRequest) -> Result<(), ProviderError> {
        let name = wanted.item.clone();
        self.effect("request point", call, &name, move |site, _item, _right| {
            let source = site.inner.source(&wanted.item).filter(|source| source.goes_on());
            let PointRequest { item, by, compare } = wanted;
            source.ok_or(ProviderError::NotReplicated { item })?.request(by, compare)
        })
        .await
    }

    async fn regroup(&self, call: &Call, item: &ItemName, group: Option<Group>) -> Result<(), ProviderError> {
        let name = item.clone();
        self.effect("regroup", call, item, move |site, _item, _right| {
            let source = site.inner.source(&name).ok_or(ProviderError::NotReplicated { item: name })?;
            source.regroup(group)
        })
        .await
    }

    async fn replication_status(&self, item: &ItemName) -> Result<Option<ReplicationStatus>, ProviderError> {
        Ok(self.inner.source(item).map(|s| s.status()))
    }
}
