//! A thread that looks at the machines of this site now and then, so that reports say how they are without asking libvirt.
//!
//! Invariants: 1. What to look at is read from disk, so the thread keeps nothing of the site alive. 2. What can't be looked at is
//! reported as it was seen last.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use provider::{PowerState, ProviderError, SourceMachine};
use recovery::ItemName;

use super::Host;
use crate::{
    durable::{self, failed},
    machines,
    source::{Autostart, machine_of},
};

const EVERY: Duration = Duration::from_secs(2);

/// How an item's machines here were seen last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Machines {
    pub(super) source: Option<SourceMachine>,
    pub(super) recovered: Option<PowerState>,
}

#[derive(Debug, Default)]
struct Seen {
    machines: BTreeMap<ItemName, Machines>,
    stop: bool,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread. Dropped, it ends by itself.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
}

impl Watch {
    pub(super) fn start(host: Arc<Host>) -> Result<Self, ProviderError> {
        let shared = Arc::new(Shared::default());
        let watching = shared.clone();
        let thread = thread::Builder::new().name("watch".to_owned());
        thread.spawn(move || run(&host, &watching)).map_err(|e| failed("start a thread to", Path::new("watch"))(e))?;
        Ok(Self { shared })
    }

    /// What was seen last.
    pub(super) fn seen(&self) -> BTreeMap<ItemName, Machines> {
        self.shared.lock().machines.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
    }
}

fn run(host: &Host, shared: &Shared) {
    loop {
        let before = shared.lock().machines.clone();
        match look(host, &before) {
            Ok(machines) => shared.lock().machines = machines,
            Err(error) => tracing::debug!(%error, "the machines can't be looked at"),
        }
        let (seen, _) = shared.changed.wait_timeout_while(shared.lock(), EVERY, |s| !s.stop).unwrap_or_else(PoisonError::into_inner);
        if seen.stop {
            return;
        }
    }
}

fn look(host: &Host, before: &BTreeMap<ItemName, Machines>) -> Result<BTreeMap<ItemName, Machines>, ProviderError> {
    let sources = host.config.state_dir.join("source");
    let named = durable::names(&sources).map_err(failed("list", &sources))?;
    let mut items: Vec<ItemName> = named.iter().filter_map(|n| n.parse().ok()).collect();
    items.extend(host.known_items()?);
    items.sort();
    items.dedup();
    let mut seen = BTreeMap::new();
    for item in items {
        let last = before.get(&item).cloned().unwrap_or_default();
        let machines = Machines {
            source: source(host, &item, &sources.join(item.as_str())).unwrap_or(last.source),
            recovered: recovered(host, &item).unwrap_or(last.recovered),
        };
        if machines != Machines::default() {
            seen.insert(item, machines);
        }
    }
    Ok(seen)
}

fn source(host: &Host, item: &ItemName, dir: &Path) -> Result<Option<SourceMachine>, ProviderError> {
    let Some(machine) = machine_of(dir)? else { return Ok(None) };
    let vm = match host.hypervisor.by_name(&machine) {
        Err(ProviderError::NoSuchMachine { .. }) => return Ok(None),
        other => other?,
    };
    let held = Autostart::new(dir.to_owned(), host.guard.writer()).held()?;
    tracing::trace!(%item, machine, "looked");
    Ok(Some(SourceMachine { power: vm.power()?, autostart: vm.autostart()? || held, machine }))
}

/// Of the newest machine that was recovered here and not retired since.
fn recovered(host: &Host, item: &ItemName) -> Result<Option<PowerState>, ProviderError> {
    let dir = host.config.storage_dir.join(item.as_str());
    for record in machines::records(&dir)?.into_values().rev() {
        if record.started(&dir)?.is_some() && !record.retired(&dir) {
            return host.hypervisor.by_uuid(&record.uuid)?.map_or(Ok(PowerState::Off), |vm| vm.power()).map(Some);
        }
    }
    Ok(None)
}
