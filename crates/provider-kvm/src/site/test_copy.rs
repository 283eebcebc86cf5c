//! The port for copies of test failovers.

use async_trait::async_trait;
use provider::{Call, ProviderError, RecoverTest, Recovered, RecoveredState, TestCopies, TestStarted};
use recovery::{Check, Generation, ItemName};

use super::{KvmSite, not_built};

#[async_trait]
impl TestCopies for KvmSite {
    async fn recover_test(&self, _call: &Call, _wanted: RecoverTest) -> Result<Recovered, ProviderError> {
        Err(not_built("recover_test"))
    }

    async fn start_test(&self, _call: &Call, _item: &ItemName, _generation: Generation) -> Result<TestStarted, ProviderError> {
        Err(not_built("start_test"))
    }

    async fn check_test(&self, _item: &ItemName, _generation: Generation, _checks: &[Check]) -> Result<String, ProviderError> {
        Err(not_built("check_test"))
    }

    async fn clean_test(&self, _call: &Call, _item: &ItemName, _generation: Generation) -> Result<(), ProviderError> {
        Err(not_built("clean_test"))
    }

    async fn observe_test(&self, _item: &ItemName, _generation: Generation) -> Result<RecoveredState, ProviderError> {
        Err(not_built("observe_test"))
    }
}
