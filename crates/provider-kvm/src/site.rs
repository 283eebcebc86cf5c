//! A site: one host with libvirt, its points, its loops, and the ports on top.
//!
//! ```text
//!   STORAGE/ITEM/      points, machines, journal          STATE/writer, STATE/tokens     who may act
//!   STORAGE/ITEM/test/ copies for tests                   STATE/test/ITEM                what was cleaned
//!   STATE/source/ITEM/ what its loop is to do             STATE/fence/ITEM/              what was fenced
//!   STATE/run/         sockets                            STORAGE/.scratch/              old content during a backup
//!   STATE/frozen/      guests that are owed a thaw             STATE/groups/NAME.json moments of a group
//!   STATE/paused/      machines that are owed to run again
//! ```
//!
//! Every port method runs on a thread for blocking work and goes on there if its caller goes away. Mutating calls on one item
//! wait for each other.

mod capacity;
mod compute;
mod extents;
mod fence;
mod guests;
mod old_machine;
mod replica;
mod replication;
mod test_copy;
mod watch;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use provider::{Call, Endpoint, ItemReport, ProviderError, Reports, Site};
use recovery::{Generation, ItemName, Profile, SiteName, readiness::Capacity};

use crate::{
    durable::{self, failed},
    extent_map::StoredMap,
    guard::{Guard, Right},
    hypervisor::Hypervisor,
    machines, qemu,
    replica::ItemStore,
    source::{Autostart, Freezer, Groups, KeptMaps, Kind, Source, Tools},
    stream::{Receiver, Receiving, Tls, TlsIdentity},
};

use watch::Watch;

/// What a site is opened with.
#[derive(Debug, Clone)]
pub struct KvmConfig {
    pub site: SiteName,
    /// The hypervisor beside this agent, such as `qemu:///system`.
    pub libvirt_uri: String,
    /// Points and recovered machines' disks. QEMU must be able to read and write here.
    pub storage_dir: PathBuf,
    /// What this agent remembers; sockets too, so its path must be short. Never shared between hosts.
    pub state_dir: PathBuf,
    /// Where other agents send their points; its address is told to them.
    pub data_listen: SocketAddr,
    pub tls: TlsIdentity,
    /// How long a machine that starts with its host waits for its target's word: [`provider::AUTOSTART_PATIENCE`].
    pub autostart_patience: Duration,
}

/// A site with libvirt and QEMU. Cloned, it is the same one; when the last clone goes, its threads end and what they did is
/// taken up again by the next `open`.
#[derive(Clone)]
pub struct KvmSite {
    inner: Arc<Inner>,
}

impl fmt::Debug for KvmSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvmSite").field("config", &self.inner.host.config).finish_non_exhaustive()
    }
}

/// One item at this site.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) store: Arc<ItemStore>,
    /// Held by a mutating call.
    busy: Mutex<()>,
    /// Held by the conversation that appends.
    appending: Arc<Mutex<()>>,
}

impl Item {
    pub(crate) fn busy(&self) -> MutexGuard<'_, ()> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the receiver and the ports share.
pub(crate) struct Host {
    pub(crate) config: KvmConfig,
    pub(crate) guard: Arc<Guard>,
    pub(crate) hypervisor: Arc<Hypervisor>,
    pub(crate) run_dir: PathBuf,
    /// Of copies.
    pub(crate) networks: machines::Networks,
    items: Mutex<BTreeMap<ItemName, Arc<Item>>>,
}

struct Inner {
    // Before the rest: conversations and loops end first.
    receiver: OnceLock<Receiver>,
    sources: Mutex<BTreeMap<ItemName, Arc<Source>>>,
    host: Arc<Host>,
    tools: Arc<Tools>,
    watch: Watch,
    /// One link into a copy's network at a time.
    linking: Arc<tokio::sync::Mutex<()>>,
    reported: Mutex<BTreeMap<ItemName, ItemReport>>,
}

impl KvmSite {
    /// Opens a site: takes the host over from an earlier agent process, cleans up after it, listens, and takes up all loops.
    /// Needs neither libvirt nor any other site to be there already.
    ///
    /// # Errors
    /// `Storage`, `Platform`: directories, certificate or address can't be used.
    pub fn open(config: KvmConfig) -> Result<Self, ProviderError> {
        let tls = Tls::new(&config.tls)?;
        let (run_dir, scratch_dir) = (config.state_dir.join("run"), config.storage_dir.join(".scratch"));
        for dir in [&config.storage_dir, &config.state_dir, &run_dir, &scratch_dir] {
            durable::make_dir(dir).map_err(failed("make directory", dir))?;
        }
        let guard = Arc::new(Guard::take_over(&config.state_dir, 1)?);
        qemu::end_orphans(&run_dir).map_err(failed("clean", &run_dir))?;
        let hypervisor = Arc::new(Hypervisor::new(&config.libvirt_uri));
        let freezer = Freezer::open(Kind::FileSystems, config.state_dir.join("frozen"), &config.libvirt_uri, guard.clone())?;
        let pauser = Freezer::open(Kind::Machine, config.state_dir.join("paused"), &config.libvirt_uri, guard.clone())?;
        let groups = Groups::open(config.state_dir.join("groups"), config.site.as_str(), guard.clone())?;
        let host = Arc::new(Host { config, guard, hypervisor, run_dir, networks: machines::Networks::default(), items: Mutex::default() });
        let tools = Arc::new(Tools {
            hypervisor: host.hypervisor.clone(),
            guard: host.guard.clone(),
            tls: tls.clone(),
            run_dir: host.run_dir.clone(),
            scratch_dir,
            freezer,
            pauser,
            groups,
            counter: AtomicU64::new(0),
            maps: host.clone(),
            autostart_patience: host.config.autostart_patience,
        });
        for item in host.known_items()? {
            // A damaged replica keeps nobody else from being served.
            if let Err(error) = host.item(&item) {
                tracing::error!(%item, %error, "an item can't be opened");
            }
        }
        let watch = Watch::start(host.clone())?;
        let inner = Inner { receiver: OnceLock::new(), sources: Mutex::default(), host, tools, watch, linking: Arc::default(), reported: Mutex::default() };
        let site = Self { inner: Arc::new(inner) };
        let receiver = Receiver::listen(site.inner.host.config.data_listen, tls, site.inner.host.clone())?;
        site.inner.receiver.get_or_init(|| receiver);
        site.resume_sources()?;
        Ok(site)
    }

    fn resume_sources(&self) -> Result<(), ProviderError> {
        let dir = self.inner.host.config.state_dir.join("source");
        for name in durable::names(&dir).map_err(failed("list", &dir))? {
            let Ok(item) = name.parse::<ItemName>() else { continue };
            if let Some(source) = Source::resume(self.inner.tools.clone(), dir.join(&name))? {
                self.inner.sources().insert(item, Arc::new(source));
            }
        }
        Ok(())
    }

    /// Where this site listens for points; with a port, also if the configuration left it open.
    #[must_use]
    pub fn data_address(&self) -> SocketAddr {
        self.inner.receiver.get().map_or(self.inner.host.config.data_listen, Receiver::address)
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint { address: self.data_address().to_string(), tls_name: self.inner.host.config.tls.name.clone() }
    }

    /// The agent's mark that it starts the item's machine with the host.
    fn autostart(&self, item: &ItemName) -> Autostart {
        let dir = self.inner.host.config.state_dir.join("source").join(item.as_str());
        Autostart::new(dir, self.inner.host.guard.writer())
    }

    /// Whether the agent starts that machine with its host.
    fn starts(&self, machine: &str) -> Result<bool, ProviderError> {
        let sources = self.inner.sources();
        let of_machine = sources.iter().filter(|(_, source)| source.wanted().machine == machine).map(|(item, _)| item);
        of_machine.map(|item| self.autostart(item).held()).try_fold(false, |any, held| Ok(any || held?))
    }

    /// Runs blocking work on a thread of its own. It is done whether or not somebody waits.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&KvmSite) -> Result<T, ProviderError> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let site = self.clone();
        let span = tracing::Span::current();
        let done = tokio::task::spawn_blocking(move || span.in_scope(|| work(&site))).await;
        done.unwrap_or_else(|error| {
            Err(ProviderError::AnswerLost {
                operation: operation.to_owned(),
                target: self.inner.host.config.site.to_string(),
                detail: error.to_string(),
            })
        })
    }

    /// Runs a mutating call on an item: alone, and under a token that is not stale.
    async fn effect<T: Send + 'static>(
        &self,
        operation: &'static str,
        call: &Call,
        item: &ItemName,
        work: impl FnOnce(&KvmSite, &Item, &Right<'_>) -> Result<T, ProviderError> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let (call, name) = (call.clone(), item.clone());
        self.blocking(operation, move |site| {
            let host = &site.inner.host;
            let item = host.item(&name)?;
            let _alone = item.busy();
            host.guard.show(&name, &call)?;
            tracing::info!(operation, item = %name, %call, "effect");
            let done = work(site, &item, &Right { guard: &host.guard, item: &name, call: &call });
            if let Err(error) = &done {
                tracing::warn!(operation, item = %name, %call, %error, "effect failed");
            }
            done
        })
        .await
    }
}

impl Inner {
    fn sources(&self) -> MutexGuard<'_, BTreeMap<ItemName, Arc<Source>>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn source(&self, item: &ItemName) -> Option<Arc<Source>> {
        self.sources().get(item).cloned()
    }
}

impl Host {
    /// Items that have a directory here.
    fn known_items(&self) -> Result<Vec<ItemName>, ProviderError> {
        let dir = &self.config.storage_dir;
        let names = durable::names(dir).map_err(failed("list", dir))?;
        Ok(names.iter().filter_map(|n| n.parse().ok()).filter(|i: &ItemName| dir.join(i.as_str()).is_dir()).collect())
    }

    /// The item, opened if it is not yet.
    pub(crate) fn item(&self, name: &ItemName) -> Result<Arc<Item>, ProviderError> {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(item) = items.get(name) {
            return Ok(item.clone());
        }
        let dir = self.config.storage_dir.join(name.as_str());
        self.guard.still_writer()?;
        if let Some(bar) = self.guard.bar(name)? {
            machines::sweep(&dir, bar)?;
            machines::sweep_copies(&dir, &self.guard, name, bar)?;
        }
        let store = Arc::new(ItemStore::open(name.clone(), self.config.site.as_str(), dir, self.guard.clone())?);
        let item = Arc::new(Item { store, busy: Mutex::default(), appending: Arc::default() });
        items.insert(name.clone(), item.clone());
        Ok(item)
    }
}

impl Receiving for Host {
    fn receiving(&self, item: &ItemName) -> Result<(Arc<ItemStore>, Arc<Mutex<()>>), ProviderError> {
        let item = self.item(item)?;
        Ok((item.store.clone(), item.appending.clone()))
    }

    fn run_dir(&self) -> &Path {
        &self.run_dir
    }
}

impl KeptMaps for Host {
    fn kept_map(&self, item: &ItemName, generation: Generation) -> Result<Option<StoredMap>, ProviderError> {
        let store = self.item(item)?.store.clone();
        match store.extent_map_content(generation)? {
            Some(content) => StoredMap::read(store.dir(), &content),
            None => Ok(None),
        }
    }
}

impl Site for KvmSite {
    fn name(&self) -> &SiteName {
        &self.inner.host.config.site
    }

    fn operates(&self, profile: Profile) -> bool {
        profile == Profile::Kvm
    }
}

impl Reports for KvmSite {
    fn reports(&self) -> Vec<ItemReport> {
        let items: Vec<(ItemName, Arc<Item>)> = {
            let items = self.inner.host.items.lock().unwrap_or_else(PoisonError::into_inner);
            items.iter().map(|(name, item)| (name.clone(), item.clone())).collect()
        };
        let sources = self.inner.sources().clone();
        let mut now: BTreeMap<ItemName, ItemReport> = BTreeMap::new();
        let empty = |item: &ItemName| ItemReport { item: item.clone(), replica: None, replication: None, source: None, recovered: None };
        for (name, item) in items {
            if let Some(replica) = item.store.describe() {
                now.entry(name.clone()).or_insert_with(|| empty(&name)).replica = Some(replica);
            }
        }
        for (name, source) in sources {
            now.entry(name.clone()).or_insert_with(|| empty(&name)).replication = Some(source.status());
        }
        for (name, seen) in self.inner.watch.seen() {
            let report = now.entry(name.clone()).or_insert_with(|| empty(&name));
            (report.source, report.recovered) = (seen.source, seen.recovered);
        }
        let mut reported = self.inner.reported.lock().unwrap_or_else(PoisonError::into_inner);
        for name in reported.keys() {
            now.entry(name.clone()).or_insert_with(|| empty(name)); // what has gone is news too
        }
        let news = now.values().filter(|r| reported.get(&r.item) != Some(*r)).cloned().collect();
        *reported = now;
        news
    }

    fn capacity(&self) -> Result<Capacity, ProviderError> {
        self.look_at_host()
    }

    fn report_all_again(&self) {
        self.inner.reported.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
