//! The port for replication at its source.

use std::sync::Arc;

use async_trait::async_trait;
use provider::{Call, ProgressSink, ProviderError, Replicate, Replication, ReplicationStatus};
use recovery::{ItemName, PointId};

use super::KvmSite;
use crate::{
    inspect::inspect,
    source::{Source, remove_marks},
};

#[async_trait]
impl Replication for KvmSite {
    async fn start_replication(&self, call: &Call, wanted: Replicate) -> Result<(), ProviderError> {
        let name = wanted.item.clone();
        self.effect("start replication", call, &name, move |site, _item, _right| {
            inspect(&site.inner.host.hypervisor, &wanted.machine)?;
            if let Some(source) = site.inner.source(&wanted.item) {
                return source.change(wanted);
            }
            let dir = site.inner.host.config.state_dir.join("source").join(wanted.item.as_str());
            let item = wanted.item.clone();
            let source = Source::begin(site.inner.tools.clone(), dir, wanted)?;
            site.inner.sources().insert(item, Arc::new(source));
            Ok(())
        })
        .await
    }

    async fn stop_replication(&self, call: &Call, item: &ItemName) -> Result<(), ProviderError> {
        let name = item.clone();
        self.effect("stop replication", call, item, move |site, _item, _right| {
            let Some(source) = site.inner.source(&name) else { return Ok(()) };
            source.stop()?;
            remove_marks(&site.inner.tools, &source.wanted().machine)
        })
        .await
    }

    async fn final_sync(&self, _call: &Call, _item: &ItemName, _progress: Arc<dyn ProgressSink>) -> Result<PointId, ProviderError> {
        Err(super::not_built("final sync"))
    }

    async fn replication_status(&self, item: &ItemName) -> Result<Option<ReplicationStatus>, ProviderError> {
        Ok(self.inner.source(item).map(|s| s.status()))
    }
}
