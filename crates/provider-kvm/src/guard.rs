//! Who may act on this host: the newest agent process, with the newest token of the item.
//!
//! ```text
//!   STATE/writer/7              the newest number is the agent process that may act
//!   STATE/tokens/ITEM/e1-g3-…   the greatest one is the bar
//! ```
//!
//! libvirt knows no tokens, so a call can be overtaken between this check and the hypervisor. Three rules make that harmless.
//!
//! Invariants: 1. A bar is a set of names of which the greatest counts, so a late process can't lower it. 2. What a call makes
//! is named by its token or by its writer, so a late process makes garbage and nothing else, and sweeps nothing of its
//! successor's. 3. A recovered machine has a UUID of its generation; a machine is ended by a handle on its very process that was
//! opened before the last check; and it is started paused, checked again, and only then let go. So a late libvirt call finds
//! nothing, or what it starts never runs.
//!
//! `SWITCHBACK_PAUSE_BEFORE=<call>` stops this process with SIGSTOP, once, between the check and that call. The calls are:
//! `recover`, `create`, `checkpoint`, `resume`, `define`, `destroy`, `undefine`, `autostart`, `blockpull`, `backup`, `record`,
//! `prune`, `shutdown`, `freeze`, `thaw`, `suspend`, `unpause`, `network`.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use provider::{Call, ProviderError};
use recovery::{EffectToken, ItemName};

use crate::durable::{self, failed};

/// The right of one call to change one item.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Right<'a> {
    pub(crate) guard: &'a Guard,
    pub(crate) item: &'a ItemName,
    pub(crate) call: &'a Call,
}

impl Right<'_> {
    /// Checks once more, directly before a step that others would feel.
    pub(crate) fn before(&self, step: &str) -> Result<(), ProviderError> {
        self.guard.show(self.item, self.call)?;
        self.guard.about_to(step);
        Ok(())
    }
}

/// The right of this process to act.
#[derive(Debug)]
pub(crate) struct Guard {
    state_dir: PathBuf,
    writer: i64,
    pause_before: Option<String>,
    paused: AtomicBool,
}

impl Guard {
    /// Takes the host over from whatever agent process had it. `at_least` is the agent's lease epoch.
    pub(crate) fn take_over(state_dir: &Path, at_least: i64) -> Result<Self, ProviderError> {
        let dir = state_dir.join("writer");
        durable::make_dir(&dir).map_err(failed("make directory", &dir))?;
        let mut writer = newest_writer(&dir)?.map_or(at_least, |newest| at_least.max(newest + 1));
        while !durable::mark(&dir.join(writer.to_string())).map_err(failed("take over", &dir))? {
            writer += 1; // another process was faster
        }
        let pause_before = std::env::var("SWITCHBACK_PAUSE_BEFORE").ok().filter(|call| !call.is_empty());
        let guard = Self { state_dir: state_dir.to_owned(), writer, pause_before, paused: AtomicBool::new(false) };
        for older in durable::names(&dir).map_err(failed("list", &dir))?.iter().filter_map(|n| n.parse::<i64>().ok()) {
            if older < writer {
                let path = dir.join(older.to_string());
                durable::remove(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(guard)
    }

    /// The number of this agent process on this host; greater than that of any before it.
    pub(crate) fn writer(&self) -> i64 {
        self.writer
    }

    /// Where this host remembers what was done on it.
    pub(crate) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Refuses if a newer agent process has the host.
    pub(crate) fn still_writer(&self) -> Result<(), ProviderError> {
        match newest_writer(&self.state_dir.join("writer"))? {
            Some(newest) if newest > self.writer => Err(ProviderError::NotWriter { ours: self.writer, newest }),
            Some(_) | None => Ok(()),
        }
    }

    /// Refuses an older token than the greatest seen of the item, else remembers it.
    pub(crate) fn show(&self, item: &ItemName, call: &Call) -> Result<(), ProviderError> {
        self.still_writer()?;
        let given = call.token;
        let dir = self.state_dir.join("tokens").join(item.as_str());
        let seen = self.bar(item)?;
        if let Some(seen) = seen.filter(|seen| given < *seen) {
            return Err(ProviderError::StaleToken { item: item.clone(), given, seen });
        }
        if seen != Some(given) {
            durable::make_dir(&dir).map_err(failed("make directory", &dir))?;
            durable::mark(&dir.join(given.to_string())).map_err(failed("remember token in", &dir))?;
            if let Some(older) = seen {
                let path = dir.join(older.to_string());
                durable::remove(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    /// The greatest token seen of the item.
    pub(crate) fn bar(&self, item: &ItemName) -> Result<Option<EffectToken>, ProviderError> {
        let dir = self.state_dir.join("tokens").join(item.as_str());
        let names = durable::names(&dir).map_err(failed("list", &dir))?;
        Ok(names.iter().filter_map(|n| n.parse().ok()).max())
    }

    /// Called between a check and the call that it allows; a test may stop the process here.
    pub(crate) fn about_to(&self, call: &str) {
        if self.pause_before.as_deref() == Some(call) && !self.paused.swap(true, Ordering::SeqCst) {
            tracing::warn!(call, "stopping before the call, as SWITCHBACK_PAUSE_BEFORE says");
            if let Err(error) = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP) {
                tracing::error!(%error, "could not stop this process");
            }
        }
    }
}

fn newest_writer(dir: &Path) -> Result<Option<i64>, ProviderError> {
    let names = durable::names(dir).map_err(failed("list", dir))?;
    Ok(names.iter().filter_map(|n| n.parse().ok()).max())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    fn call(seq: i64, attempt: i64) -> Call {
        Call::new(EffectToken { era: 1, grant_epoch: 1, seq, run_epoch: 1, attempt }, "test")
    }

    #[test]
    fn a_newer_process_takes_over_and_the_older_one_may_do_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let item: ItemName = "vm".parse().unwrap();
        let first = Guard::take_over(dir.path(), 5).unwrap();
        first.show(&item, &call(1, 1)).unwrap();
        let second = Guard::take_over(dir.path(), 3).unwrap();
        assert_eq!((first.writer(), second.writer()), (5, 6));
        assert_eq!(first.show(&item, &call(2, 1)), Err(ProviderError::NotWriter { ours: 5, newest: 6 }));
        second.show(&item, &call(2, 1)).unwrap();
        assert_eq!(Guard::take_over(dir.path(), 40).unwrap().writer(), 40);
    }

    #[test]
    fn an_older_token_is_refused_after_a_restart_too() {
        let dir = tempfile::tempdir().unwrap();
        let item: ItemName = "vm".parse().unwrap();
        let guard = Guard::take_over(dir.path(), 0).unwrap();
        guard.show(&item, &call(2, 1)).unwrap();
        guard.show(&item, &call(2, 1)).unwrap();
        guard.show(&item, &call(2, 2)).unwrap();
        let guard = Guard::take_over(dir.path(), 0).unwrap();
        let stale = ProviderError::StaleToken { item: item.clone(), given: call(2, 1).token, seen: call(2, 2).token };
        assert_eq!(guard.show(&item, &call(2, 1)), Err(stale));
        guard.show(&"other".parse().unwrap(), &call(1, 1)).unwrap();
    }

    #[test]
    fn a_late_process_cannot_lower_the_bar() {
        let dir = tempfile::tempdir().unwrap();
        let item: ItemName = "vm".parse().unwrap();
        let guard = Guard::take_over(dir.path(), 0).unwrap();
        guard.show(&item, &call(9, 1)).unwrap();
        // What a process does that was stopped after its check and goes on now:
        durable::mark(&dir.path().join("tokens/vm").join(call(3, 1).token.to_string())).unwrap();
        assert_eq!(guard.bar(&item).unwrap(), Some(call(9, 1).token));
    }
}
