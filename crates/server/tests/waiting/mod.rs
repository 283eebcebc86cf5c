//! Waiting for what must happen.

use std::time::Duration;

/// Looks until there is something; half a minute at most.
pub(crate) async fn wait_until<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
