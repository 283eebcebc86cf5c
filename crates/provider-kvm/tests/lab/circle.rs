//! One machine that goes from site to site and home again, through the ports alone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use provider::{
    Base, Call, Compute, Fence, NetworkChoice, PrepareReplica, Quiet, RecoverMachine, Replicate, ReplicaStore, Replication,
    ReplicationStatus,
};
use recovery::{EffectToken, Generation, ItemName, PointId, ReplicationPolicy};
use sha2::{Digest, Sha256};
use switchback_provider_kvm::{KvmConfig, KvmSite};

use super::{Machine, Place, Sites, requirements, wait_until};

/// Which site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    A,
    B,
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }
}

/// One item, its two sites, and how many runs had it so far.
pub struct Circle {
    sites: &'static Sites,
    pub name: String,
    open: [Mutex<Option<KvmSite>>; 2],
    grant_epoch: AtomicI64,
    seq: AtomicI64,
    /// Under which generation the machine was recovered where it runs.
    recovered: Mutex<Option<Generation>>,
    first: OnceLock<Generation>,
    policy: Mutex<ReplicationPolicy>,
}

fn every(seconds: u32) -> ReplicationPolicy {
    ReplicationPolicy::new(seconds, 16, 3600, None).expect("the policy is within its limits")
}

/// Runs a case with a machine at A, if this host can.
pub fn run(case: &str, of: impl AsyncFnOnce(Circle)) {
    let Some(sites) = requirements(case) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts");
    runtime.block_on(of(Circle::new(sites, case)));
}

/// Of an image as it lies there.
pub fn hash(path: &Path) -> String {
    hex::encode(Sha256::digest(fs::read(path).expect("the image can be read")))
}

impl Circle {
    /// A machine that runs at A, under both agents.
    pub fn new(sites: &'static Sites, case: &str) -> Self {
        let name = sites.unique_name();
        println!("{case}: machine {name}");
        Machine::running(&sites.a, &name, "qcow2");
        let circle = Self {
            sites,
            name,
            open: [Mutex::default(), Mutex::default()],
            grant_epoch: AtomicI64::new(1),
            seq: AtomicI64::new(0),
            recovered: Mutex::default(),
            first: OnceLock::new(),
            policy: Mutex::new(every(1)),
        };
        circle.open(Side::A);
        circle.open(Side::B);
        circle
    }

    fn policy(&self) -> ReplicationPolicy {
        self.policy.lock().expect("no test thread panicked").clone()
    }

    /// From the next replication on, a point every so many seconds.
    pub fn points_every(&self, seconds: u32) {
        *self.policy.lock().expect("no test thread panicked") = every(seconds);
    }

    pub fn place(&self, side: Side) -> &'static Place {
        match side {
            Side::A => &self.sites.a,
            Side::B => &self.sites.b,
        }
    }

    pub fn machine(&self, side: Side) -> Machine {
        Machine::at(self.place(side), &self.name)
    }

    pub fn item(&self) -> ItemName {
        self.name.parse().expect("the machine's name is an item's")
    }

    fn slot(&self, side: Side) -> &Mutex<Option<KvmSite>> {
        &self.open[usize::from(side == Side::B)]
    }

    pub fn open(&self, side: Side) {
        self.open_at(side, ([127, 0, 0, 1], 0).into());
    }

    /// Opens a site where its agent listened before.
    pub fn open_at(&self, side: Side, data_listen: std::net::SocketAddr) {
        let place = self.place(side);
        let site = KvmSite::open(KvmConfig {
            site: place.name.parse().expect("the site has a valid name"),
            libvirt_uri: place.uri.clone(),
            storage_dir: self.storage(side),
            state_dir: place.root.join("agent").join(&self.name),
            data_listen,
            tls: self.sites.identity.clone(),
            autostart_patience: provider::AUTOSTART_PATIENCE,
        });
        *self.slot(side).lock().expect("no test thread panicked") = Some(site.expect("the site opens"));
    }

    pub fn close(&self, side: Side) {
        drop(self.slot(side).lock().expect("no test thread panicked").take());
    }

    pub fn site(&self, side: Side) -> KvmSite {
        self.slot(side).lock().expect("no test thread panicked").clone().expect("the site is open")
    }

    pub fn storage(&self, side: Side) -> PathBuf {
        self.place(side).root.join("storage").join(&self.name)
    }

    pub fn generation(&self) -> Generation {
        Generation { era: 1, grant_epoch: self.grant_epoch.load(Ordering::SeqCst) }
    }

    /// Another run gets the item.
    pub fn next_run(&self) -> Generation {
        self.grant_epoch.fetch_add(1, Ordering::SeqCst);
        self.generation()
    }

    pub fn call(&self) -> Call {
        let Generation { era, grant_epoch } = self.generation();
        let seq = self.seq.fetch_add(1, Ordering::SeqCst) + 1;
        Call::new(EffectToken { era, grant_epoch, seq, run_epoch: 1, attempt: 1 }, "circle")
    }

    pub async fn prepare(&self, from: Side, base: Base) -> Result<provider::Endpoint, provider::ProviderError> {
        let machine = self.site(from).inspect(&self.name).await.expect("the machine is inspected");
        let wanted = PrepareReplica { item: self.item(), generation: self.generation(), machine, policy: self.policy(), base };
        self.site(from.other()).prepare(&self.call(), wanted).await
    }

    /// Replicates from `from` to the other site.
    pub async fn protect(&self, from: Side, base: Base) {
        let endpoint = self.prepare(from, base).await.expect("the replica is prepared");
        self.replicate(from, endpoint).await;
    }

    pub async fn replicate(&self, from: Side, endpoint: provider::Endpoint) {
        let returning = *self.recovered.lock().expect("no test thread panicked");
        let (item, machine, policy) = (self.item(), self.name.clone(), self.policy());
        let wanted = Replicate { item, machine, generation: self.generation(), policy, endpoint, returning, group: None };
        self.site(from).start_replication(&self.call(), wanted).await.expect("replication starts");
    }

    /// Another run replicates the machine back onto its old disks.
    pub async fn reprotect(&self, from: Side) {
        self.next_run();
        self.protect(from, Base::OldMachine).await;
    }

    pub async fn status(&self, side: Side) -> Option<ReplicationStatus> {
        self.site(side).replication_status(&self.item()).await.expect("the status can be read")
    }

    /// The newest point, once it holds everything that was written so far.
    pub fn point(&self, from: Side) -> PointId {
        let written = Utc::now();
        wait_until("a point with everything written so far", || {
            let status = self.status_now(from)?;
            let new = status.generation == self.generation() && status.last_point_taken_at > Some(written);
            status.last_point.filter(|_| new)
        })
    }

    fn report(&self, side: Side) -> Option<provider::ItemReport> {
        let site = self.site(side);
        provider::Reports::report_all_again(&site);
        provider::Reports::reports(&site).into_iter().find(|r| r.item == self.item())
    }

    pub fn status_now(&self, side: Side) -> Option<ReplicationStatus> {
        self.report(side)?.replication
    }

    /// How many points a site has.
    pub fn points_now(&self, side: Side) -> usize {
        self.report(side).and_then(|r| r.replica).map_or(0, |r| r.points.len())
    }

    /// Names of the item's files at a site that begin so.
    pub fn files(&self, side: Side, start: &str) -> Vec<String> {
        let dir = self.storage(side).join(&self.name);
        let entries = fs::read_dir(dir).expect("the item has a directory").map(|e| e.expect("it can be listed").file_name());
        entries.filter_map(|n| n.into_string().ok()).filter(|n| n.starts_with(start)).collect()
    }

    /// How many files are being received at a site.
    pub fn parts(&self, side: Side) -> usize {
        self.files(side, "").iter().filter(|name| name.ends_with(".part")).count()
    }

    pub fn sent(&self, from: Side) -> u64 {
        self.status_now(from).map_or(0, |s| s.bytes_sent_total)
    }

    /// What the points at a site have cost on the line, by number.
    pub async fn costs(&self, side: Side) -> Vec<(u64, u64)> {
        let replica = self.site(side).replica(&self.item()).await.expect("there is a replica");
        replica.points.iter().map(|p| (p.id.0, p.bytes)).collect()
    }

    pub async fn fence(&self, side: Side) {
        self.site(side).fence(&self.call(), &self.item(), &self.name).await.expect("the machine is fenced");
    }

    /// Shuts the machine down, sends the rest, and brings it up at the other site.
    pub async fn planned(&self, from: Side) -> PointId {
        self.next_run();
        self.machine(from).stop();
        let patience = Duration::from_secs(5);
        self.site(from).shut_down(&self.call(), &self.item(), &self.name, patience).await.expect("the machine is shut down");
        let point = self.site(from).final_sync(&self.call(), &self.item(), Arc::new(Quiet)).await.expect("the rest is sent");
        self.bring_up(from.other(), point).await;
        point
    }

    /// Fences the machine and brings the newest point up at the other site.
    pub async fn unplanned(&self, from: Side) -> PointId {
        self.next_run();
        self.fence(from).await;
        let replica = self.site(from.other()).replica(&self.item()).await.expect("there is a replica");
        let newest = replica.points.last().expect("there is a point").id;
        self.bring_up(from.other(), newest).await;
        newest
    }

    pub async fn bring_up(&self, to: Side, point: PointId) {
        let (site, generation) = (self.site(to), self.generation());
        site.seal(&self.call(), &self.item(), generation).await.expect("the replica is sealed");
        let wanted = RecoverMachine { item: self.item(), generation, point, network: NetworkChoice::AsDefined };
        site.recover(&self.call(), wanted).await.expect("the point is recovered");
        site.start_machine(&self.call(), &self.item(), generation).await.expect("the machine starts");
        *self.recovered.lock().expect("no test thread panicked") = Some(generation);
        self.first.get_or_init(|| generation);
    }

    /// Under which generation the machine was recovered for the first time.
    pub fn first_recovered(&self) -> Generation {
        *self.first.get().expect("a machine was recovered")
    }

    /// Accepts the failover.
    pub async fn commit(&self, to: Side) {
        let (site, item) = (self.site(to), self.item());
        let generation = self.recovered().expect("a machine was recovered");
        self.next_run();
        let map = site.keep_extent_map(&self.call(), &item, generation).await.expect("the map is kept");
        println!("  kept map: {} blocks", map.blocks);
        site.withdraw_points(&self.call(), &item).await.expect("the points are withdrawn");
        site.flatten(&self.call(), &item, generation, Arc::new(Quiet)).await.expect("the machine is flattened");
        site.remove_points(&self.call(), &item).await.expect("the points are removed");
    }

    pub fn recovered(&self) -> Option<Generation> {
        *self.recovered.lock().expect("no test thread panicked")
    }

    /// The machine's disk as libvirt has it.
    pub fn disk(&self, side: Side) -> PathBuf {
        self.machine(side).disk()
    }

    /// Fails unless two images read the same; nothing may be running on them.
    pub fn same(&self, one: &std::path::Path, other: &std::path::Path) {
        let output = Command::new("qemu-img").arg("compare").args([one, other]).output().expect("qemu-img can be started");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains("identical"), "{} and {}: {said}", one.display(), other.display());
    }
}

impl Drop for Circle {
    fn drop(&mut self) {
        self.close(Side::A);
        self.close(Side::B);
        self.machine(Side::A).remove();
        self.machine(Side::B).remove();
    }
}
