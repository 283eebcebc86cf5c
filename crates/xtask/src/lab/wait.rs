//! Waiting for what an outside program will do, with an end and a name.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Looks again and again until there is an answer. The error names what was awaited and the last reason why not.
pub(crate) fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("{what}: not within {} s", limit.as_secs()));
            }
            Err(_) => thread::sleep(BETWEEN_LOOKS),
        }
    }
}

/// Like [`until`], for a question with yes or no.
pub(crate) fn until_true(what: &str, limit: Duration, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    until(what, limit, || look()?.then_some(()).ok_or_else(|| anyhow!("not yet")))
}
