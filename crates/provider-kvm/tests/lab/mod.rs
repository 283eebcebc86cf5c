//! A lab for the contract: two real libvirt sites, a machine, and a line that can be cut.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test file uses a part of the lab")]

mod guest;
pub mod circle;
pub mod fleet;
mod heeding;
pub mod images;
mod line;
mod machine;
pub mod other;
mod sites;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::Utc;
use provider::{Endpoint, Phase, Site, contract::{End as Side, Lab}};
use switchback_provider_kvm::{KvmConfig, KvmSite};
use recovery::{ItemName, PointId};

pub use guest::{GuestLab, call, generation, runtime, said, token, wait_until_next_look};
use line::Line;
pub use machine::{DISK_BYTES, Machine};
pub use other::Other;
pub use sites::{Place, Sites, requirements, xtask};

/// Emulated machines on a busy host are slow, not dead.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// Waits until `come_true` gives a value; fails the test if it never does.
pub fn wait_until<T>(what: &str, mut come_true: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = come_true() {
            return value;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::park_timeout(POLL);
    }
}

/// Which agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Source,
    Target,
}

/// Moves this thread, and all that it starts, into the network of the site that receives points: as its agent would be.
pub fn enter_network_of(place: &Place) {
    use std::os::fd::AsFd;
    let namespace = std::fs::File::open(format!("/run/netns/{}", place.netns)).expect("the site has a network");
    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).expect("the network can be entered");
}

/// One case's machine and agents.
pub struct KvmLab {
    sites: &'static Sites,
    machine: Machine,
    second: OnceLock<Machine>,
    raw: Machine,
    line: Line,
    source: Mutex<Option<Arc<KvmSite>>>,
    target: Mutex<Option<Arc<KvmSite>>>,
    source_port: Mutex<SocketAddr>,
    target_port: Mutex<SocketAddr>,
    name: String,
}

impl KvmLab {
    pub fn new(sites: &'static Sites, case: &str) -> Self {
        let name = sites.unique_name();
        println!("{case}: machine {name}");
        let machine = Machine::running(&sites.a, &name, "qcow2");
        let raw = Machine::defined(&sites.a, &format!("{name}-raw"), "raw");
        let lab = Self {
            sites,
            machine,
            second: OnceLock::new(),
            raw,
            line: Line::new(),
            source: Mutex::default(),
            target: Mutex::default(),
            source_port: Mutex::new(([127, 0, 0, 1], 0).into()),
            target_port: Mutex::new(([127, 0, 0, 1], 0).into()),
            name,
        };
        lab.open_source();
        lab.open_target();
        lab
    }

    fn config(&self, place: &Place, data_listen: SocketAddr) -> KvmConfig {
        KvmConfig {
            site: place.name.parse().expect("the lab's site has a valid name"),
            libvirt_uri: place.uri.clone(),
            storage_dir: self.dir(place, "storage"),
            state_dir: self.dir(place, "agent"),
            data_listen,
            tls: self.sites.identity.clone(),
            autostart_patience: provider::AUTOSTART_PATIENCE,
        }
    }

    /// What the source's agent is opened with.
    pub fn source_config(&self) -> KvmConfig {
        self.config(&self.sites.a, ([127, 0, 0, 1], 0).into())
    }

    /// What the target's agent is opened with.
    pub fn target_config(&self) -> KvmConfig {
        self.config(&self.sites.b, *self.target_port.lock().expect("no test thread panicked"))
    }

    /// Ends an agent.
    pub fn close(&self, end: End) {
        let slot = match end {
            End::Source => &self.source,
            End::Target => &self.target,
        };
        drop(slot.lock().expect("no test thread panicked").take());
    }

    /// Starts an agent that was ended.
    pub fn open(&self, end: End) {
        match end {
            End::Source => self.open_source(),
            End::Target => self.open_target(),
        }
    }

    /// What libvirt of the machine's own site says it does.
    pub fn source_state(&self) -> String {
        self.machine.state()
    }

    fn dir(&self, place: &Place, kind: &str) -> PathBuf {
        place.root.join(kind).join(&self.name)
    }

    fn open_source(&self) {
        let mut port = self.source_port.lock().expect("no test thread panicked");
        let site = KvmSite::open(self.config(&self.sites.a, *port)).expect("the source opens");
        *port = site.data_address();
        *self.source.lock().expect("no test thread panicked") = Some(Arc::new(site));
    }

    fn open_target(&self) {
        let mut port = self.target_port.lock().expect("no test thread panicked");
        let site = KvmSite::open(self.config(&self.sites.b, *port)).expect("the target opens");
        *port = site.data_address();
        *self.target.lock().expect("no test thread panicked") = Some(Arc::new(site));
    }

    fn status_at(&self, side: Side) -> Option<provider::ReplicationStatus> {
        self.site(side).reports_now(&self.item())
    }

    fn group_of(&self, item: &ItemName) -> Option<recovery::GroupStatus> {
        self.site(Side::First).reports_now(item)?.group
    }

    fn place(&self, side: Side) -> &Place {
        match side {
            Side::First => &self.sites.a,
            Side::Second => &self.sites.b,
        }
    }

    fn machine_at(&self, side: Side) -> Machine {
        Machine::at(self.place(side), &self.name)
    }
}

/// Reads a site's replication status without an executor.
trait StatusNow {
    fn reports_now(&self, item: &ItemName) -> Option<provider::ReplicationStatus>;
}

impl StatusNow for Arc<dyn Site> {
    fn reports_now(&self, item: &ItemName) -> Option<provider::ReplicationStatus> {
        let mut asked = std::pin::pin!(self.replication_status(item));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match asked.as_mut().poll(&mut context) {
            std::task::Poll::Ready(status) => status.expect("there is a status"),
            std::task::Poll::Pending => None,
        }
    }
}

#[async_trait]
impl Lab for KvmLab {
    fn source(&self) -> Arc<dyn Site> {
        self.source.lock().expect("no test thread panicked").clone().expect("the source is open")
    }

    fn target(&self) -> Arc<dyn Site> {
        self.target.lock().expect("no test thread panicked").clone().expect("the target is open")
    }

    fn item(&self) -> ItemName {
        self.name.parse().expect("the machine's name is an item's")
    }

    fn machine(&self) -> String {
        self.machine.name.clone()
    }

    fn raw_machine(&self) -> String {
        self.raw.name.clone()
    }

    async fn second_machine(&self) -> String {
        self.second.get_or_init(|| Machine::running(&self.sites.a, &format!("{}-2", self.name), "qcow2")).name.clone()
    }

    async fn moment(&self, item: &ItemName) -> String {
        let begun = Utc::now();
        wait_until("a common moment", || {
            let last = self.group_of(item)?.last?;
            (last.taken_at > begun).then_some(last.moment)
        })
    }

    async fn no_moment(&self, item: &ItemName, words: &[&str]) -> String {
        let said = |why: &String| words.iter().all(|word| why.contains(word));
        wait_until("a try that came to no common moment", || self.group_of(item)?.why_none.filter(said))
    }

    async fn power_second(&self, on: bool) {
        let second = Machine::at(&self.sites.a, &self.second_machine().await);
        if on { second.start() } else { second.kill() }
    }

    fn route(&self, endpoint: Endpoint) -> Endpoint {
        self.line.to(endpoint.address.parse().expect("the endpoint is an address"));
        Endpoint { address: self.line.address().to_string(), ..endpoint }
    }

    async fn write_in(&self, side: Side, machine: &str, block: u64, content: u8) {
        Machine::at(self.place(side), machine).write(block, content);
    }

    async fn read_in(&self, side: Side, machine: &str, block: u64) -> u8 {
        Machine::at(self.place(side), machine).read(block)
    }

    async fn first_disk(&self) -> String {
        heeding::digest(&self.sites.a.images.join(format!("{}.qcow2", self.name)))
    }

    async fn point_from(&self, side: Side) -> PointId {
        let written = Utc::now();
        let newest = wait_until("a point with everything written so far", || {
            let status = self.status_at(side)?;
            status.last_point.filter(|_| status.last_point_taken_at > Some(written))
        });
        let replica = self.site(side.other()).replica(&self.item()).await.expect("there is a replica");
        assert!(replica.points.iter().any(|p| p.id >= newest), "point {newest} is not at the target");
        newest
    }

    async fn until_phase_at(&self, side: Side, phase: Phase) {
        wait_until(&format!("phase {phase:?}"), || self.status_at(side).filter(|s| s.phase == phase));
    }

    async fn cut_line_midway(&self) {
        self.line.cut_midway();
        let mut block = 0;
        wait_until("the line to be cut", || {
            if !self.line.is_cut() && self.status_at(Side::First).is_some_and(|s| s.phase == Phase::Replicating) {
                // Something to be cut in the middle of, where no case looks.
                block = (block + 1) % 16;
                self.machine.write(240 + block, 0xee);
            }
            self.line.is_cut().then_some(())
        });
    }

    async fn mend_line(&self) {
        self.line.mend();
    }

    async fn cut_line(&self) {
        self.line.cut();
    }

    async fn power_failure_at(&self, side: Side) {
        self.machine_at(side).kill();
    }

    async fn power_on_at(&self, side: Side) {
        self.machine_at(side).start();
    }

    async fn shut_down_from_within(&self, side: Side) {
        heeding::quit(&self.place(side).uri, &self.name);
        wait_until("libvirt to notice", || (self.machine_at(side).state() == "shut off").then_some(()));
    }

    /// Nothing in these machines listens: what heeds is a process beside them.
    async fn heed_shut_down(&self, side: Side, heeds: bool) {
        if heeds {
            heeding::next_shut_down(&self.place(side).uri, &self.name);
        }
    }

    /// Nothing in these machines freezes.
    async fn refuse_freeze(&self) {}

    async fn stranger_on(&self, network: &str, there: bool) {
        let xml = said(std::process::Command::new("virsh").args(["-q", "-c", &self.sites.b.uri, "net-dumpxml", network]));
        let bridge = xml.split("bridge name='").nth(1).and_then(|rest| rest.split('\'').next()).expect("the network has a bridge");
        // As the whole case, in the network of the second site.
        let ip = |line: &str| drop(said(std::process::Command::new("ip").args(line.split(' '))));
        if there {
            ip("link add stranger0 type veth peer name stranger1");
            ip(&format!("link set stranger0 master {bridge}"));
        } else {
            ip("link delete stranger0");
        }
    }

    async fn restart_source(&self) {
        let old = self.source.lock().expect("no test thread panicked").take();
        drop(old);
        self.open_source();
    }

    async fn restart_target(&self) {
        let old = self.target.lock().expect("no test thread panicked").take();
        drop(old);
        self.open_target();
    }
}

impl Drop for KvmLab {
    fn drop(&mut self) {
        let source = self.source.lock().map(|mut s| s.take());
        let target = self.target.lock().map(|mut t| t.take());
        drop((source, target));
        let [copy, second_copy] = ["test", "2-test"].map(|end| format!("{}-{end}", self.name));
        let (a, b) = (&self.sites.a, &self.sites.b);
        let machines = [(a, &self.name), (a, &self.raw.name), (b, &self.name), (b, &copy), (b, &second_copy)];
        for (place, name) in machines {
            Machine::at(place, name).remove();
        }
        if let Some(second) = self.second.get() {
            second.remove();
        }
    }
}
