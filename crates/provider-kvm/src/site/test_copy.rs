//! The port for copies of test failovers.

use async_trait::async_trait;
use provider::{Call, ProviderError, RecoverTest, Recovered, RecoveredState, TestCopies, TestStarted};
use recovery::{Check, Generation, ItemName};

use super::{Item, KvmSite};
use crate::machines::Copies;

impl KvmSite {
    fn copies<'a>(&'a self, name: &'a ItemName, item: &Item) -> Copies<'a> {
        let host = &self.inner.host;
        Copies::of(&host.hypervisor, &host.guard, &host.networks, name, item.store.dir())
    }
}

#[async_trait]
impl TestCopies for KvmSite {
    async fn recover_test(&self, call: &Call, wanted: RecoverTest) -> Result<Recovered, ProviderError> {
        let name = wanted.item.clone();
        self.effect("recover test", call, &name, move |site, item, right| {
            site.copies(&wanted.item, item).recover(&item.store, right, &wanted)
        })
        .await
    }

    async fn start_test(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<TestStarted, ProviderError> {
        let name = item.clone();
        self.effect("start test", call, item, move |site, item, right| site.copies(&name, item).start(right, generation)).await
    }

    async fn check_test(&self, item: &ItemName, generation: Generation, checks: &[Check]) -> Result<String, ProviderError> {
        let (name, checks) = (item.clone(), checks.to_vec());
        self.blocking("check test", move |site| {
            let item = site.inner.host.item(&name)?;
            // One probe at a time, and none while the network comes or goes.
            let _alone = item.busy();
            site.copies(&name, &item).check(generation, &checks)
        })
        .await
    }

    async fn clean_test(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<(), ProviderError> {
        let name = item.clone();
        self.effect("clean test", call, item, move |site, item, right| {
            site.copies(&name, item).clean(right, generation)?;
            // Now, and not with the next point: another copy might hold them by then.
            item.store.thin();
            Ok(())
        })
        .await
    }

    async fn observe_test(&self, item: &ItemName, generation: Generation) -> Result<RecoveredState, ProviderError> {
        let name = item.clone();
        self.blocking("observe test", move |site| {
            let item = site.inner.host.item(&name)?;
            site.copies(&name, &item).observe(generation)
        })
        .await
    }
}
