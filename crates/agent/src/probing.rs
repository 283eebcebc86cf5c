//! Checks over the network, asked from this host.

use std::time::Duration;

use activities::Prober;
use async_trait::async_trait;
use recovery::Check;

/// Longest single question: a machine that boots answers nothing at all, so asking again is better than waiting.
const LIMIT: Duration = Duration::from_secs(3);
/// A name that can't be looked up takes no longer.
const WITH_NAME: Duration = Duration::from_secs(4);

/// Asks from this host.
pub(crate) struct FromHere;

#[async_trait]
impl Prober for FromHere {
    async fn ask(&self, check: &Check) -> Result<String, String> {
        let asked = check.clone();
        let asking = tokio::task::spawn_blocking(move || provider::ask(&asked, LIMIT));
        match tokio::time::timeout(WITH_NAME, asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(error.to_string()),
            Err(_elapsed) => Err(format!("no answer within {} s", WITH_NAME.as_secs())),
        }
    }
}
