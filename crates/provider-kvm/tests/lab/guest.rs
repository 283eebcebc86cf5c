//! A lab whose machine has an operating system: the demo guest with its ledger and its agent, beside two sites.

use std::{
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
};

use provider::{Base, Call, ItemReport, Phase, PrepareReplica, Replicate, ReplicationStatus, Reports, Site};
use recovery::{EffectToken, Generation, ItemName, ReplicationPolicy};
use serde_json::Value;
use switchback_provider_kvm::{KvmConfig, KvmSite};

use super::{
    End, Place, Sites,
    sites::{requirements, xtask},
    wait_until,
};

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts")
}

pub fn token(grant_epoch: i64, seq: i64, attempt: i64) -> EffectToken {
    EffectToken { era: 1, grant_epoch, seq, run_epoch: 1, attempt }
}

pub fn call(grant_epoch: i64, seq: i64, attempt: i64) -> Call {
    Call::new(token(grant_epoch, seq, attempt), "test")
}

pub fn generation(grant_epoch: i64) -> Generation {
    Generation { era: 1, grant_epoch }
}

/// One guest at the first site, and both agents.
pub struct GuestLab {
    pub sites: &'static Sites,
    pub name: String,
    pub address: String,
    open: Mutex<[Option<Arc<KvmSite>>; 2]>,
    port: Mutex<std::net::SocketAddr>,
}

impl GuestLab {
    /// A guest that is up, with words for its kernel's command line; `None` where there can be no lab.
    pub fn new(case: &str, append: &str) -> Option<Self> {
        let sites = requirements(case)?;
        let name = sites.unique_name();
        println!("{case}: guest {name}");
        let number: u32 = name[1..].parse().expect("a machine's name ends with its number");
        let address = format!("10.1.0.{}", 10 + number);
        let mut command = xtask();
        command.args(["lab", "guest", "--site", &sites.a.name, "--name", &name, "--ip", &format!("{address}/24")]);
        command.args(["--append", append, "--json", "--dir"]).arg(&sites.dir);
        said(&mut command);
        let (open, port) = (Mutex::default(), Mutex::new(([127, 0, 0, 1], 0).into()));
        let lab = Self { sites, name, address, open, port };
        lab.virsh(End::Source, &["autostart", &lab.name]);
        lab.open(End::Source);
        lab.open(End::Target);
        Some(lab)
    }

    pub fn place(&self, end: End) -> &Place {
        match end {
            End::Source => &self.sites.a,
            End::Target => &self.sites.b,
        }
    }

    pub fn item(&self) -> ItemName {
        self.name.parse().expect("the machine's name is an item's")
    }

    pub fn dir(&self, end: End, kind: &str) -> PathBuf {
        self.place(end).root.join(kind).join(&self.name)
    }

    /// What the end's agent is opened with.
    pub fn config(&self, end: End) -> KvmConfig {
        let place = self.place(end);
        KvmConfig {
            site: place.name.parse().expect("the lab's site has a valid name"),
            libvirt_uri: place.uri.clone(),
            storage_dir: self.dir(end, "storage"),
            state_dir: self.dir(end, "agent"),
            data_listen: match end {
                End::Source => ([127, 0, 0, 1], 0).into(),
                End::Target => *self.port.lock().expect("no test thread panicked"),
            },
            tls: self.sites.identity.clone(),
            autostart_patience: provider::AUTOSTART_PATIENCE,
        }
    }

    pub fn open(&self, end: End) {
        let site = KvmSite::open(self.config(end)).expect("the site opens");
        if end == End::Target {
            *self.port.lock().expect("no test thread panicked") = site.data_address();
        }
        self.open.lock().expect("no test thread panicked")[end as usize] = Some(Arc::new(site));
    }

    pub fn close(&self, end: End) {
        let site = self.open.lock().expect("no test thread panicked")[end as usize].take();
        drop(site);
    }

    pub fn site(&self, end: End) -> Arc<dyn Site> {
        self.open.lock().expect("no test thread panicked")[end as usize].clone().expect("the site is open")
    }

    pub fn source(&self) -> Arc<dyn Site> {
        self.site(End::Source)
    }

    pub fn target(&self) -> Arc<dyn Site> {
        self.site(End::Target)
    }

    pub fn virsh(&self, end: End, args: &[&str]) -> String {
        said(Command::new("virsh").args(["-q", "-c", &self.place(end).uri]).args(args)).trim().to_owned()
    }

    /// What libvirt says that a machine does.
    pub fn state(&self, end: End, machine: &str) -> String {
        self.virsh(end, &["domstate", machine])
    }

    pub fn until_state(&self, end: End, machine: &str, state: &str) {
        wait_until(&format!("{machine} to be {state}"), || (self.state(end, machine) == state).then_some(()));
    }

    /// Whether libvirt starts the machine with its host.
    pub fn flag(&self) -> bool {
        let told = self.virsh(End::Source, &["dominfo", &self.name]);
        told.lines().any(|l| l.starts_with("Autostart:") && l.ends_with("enable"))
    }

    /// What the ledger answers, asked from within a site.
    pub fn try_ask(&self, end: End, path: &str) -> Option<Value> {
        let place = self.place(end);
        let url = format!("http://{}:8080/{path}", self.address);
        let output = xtask().args(["lab", "get", "--site", &place.name, "--url", &url, "--dir"]).arg(&self.sites.dir).output();
        let output = output.expect("the lab's program can be started");
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("the ledger answers in JSON"))
    }

    pub fn ask(&self, end: End, path: &str) -> Value {
        wait_until(&format!("an answer to {path}"), || self.try_ask(end, path))
    }

    /// Replicates the guest from the first site to the second one, and waits for a point.
    pub async fn protect(&self, grant_epoch: i64, app_consistent_s: Option<u32>) {
        let policy = ReplicationPolicy::new(1, 16, 3600, None).and_then(|p| p.with_app_consistent(app_consistent_s));
        self.protect_with(grant_epoch, policy.expect("the policy is within its limits")).await;
    }

    pub async fn protect_with(&self, grant_epoch: i64, policy: ReplicationPolicy) {
        let (item, generation) = (self.item(), generation(grant_epoch));
        let machine = self.source().inspect(&self.name).await.expect("the machine is inspected");
        let prepare = PrepareReplica { item: item.clone(), generation, machine, policy: policy.clone(), base: Base::Empty };
        let endpoint = self.target().prepare(&call(grant_epoch, 1, 1), prepare).await.expect("the replica is prepared");
        let wanted = Replicate { item, machine: self.name.clone(), generation, policy, endpoint, returning: None, group: None };
        self.source().start_replication(&call(grant_epoch, 2, 1), wanted).await.expect("replication starts");
        self.until("a point", |status| status.last_point.map(drop)).await;
    }

    /// Waits until replication is as wished.
    pub async fn until<T>(&self, what: &str, wished: impl Fn(&ReplicationStatus) -> Option<T>) -> T {
        let deadline = std::time::Instant::now() + super::PATIENCE;
        loop {
            let status = self.source().replication_status(&self.item()).await.expect("there is a status");
            if let Some(value) = status.as_ref().and_then(&wished) {
                return value;
            }
            assert!(std::time::Instant::now() < deadline, "in vain: {what}; {status:?}");
            wait_until_next_look().await;
        }
    }

    pub async fn until_phase(&self, phase: Phase) {
        self.until(&format!("phase {phase:?}"), |status| (status.phase == phase).then_some(())).await;
    }

    /// The newest report about the item.
    pub fn until_report(&self, end: End, what: &str, wished: impl Fn(&ItemReport) -> bool) -> ItemReport {
        wait_until(what, || {
            let site = self.open.lock().expect("no test thread panicked")[end as usize].clone().expect("the site is open");
            site.report_all_again();
            site.reports().into_iter().find(|r| r.item == self.item() && wished(r))
        })
    }
}

pub async fn wait_until_next_look() {
    tokio::time::sleep(super::POLL).await;
}

/// Runs a program that must succeed and returns what it printed.
pub fn said(command: &mut Command) -> String {
    let output = command.output().expect("the program can be started");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Drop for GuestLab {
    fn drop(&mut self) {
        self.close(End::Source);
        self.close(End::Target);
        for end in [End::Source, End::Target] {
            super::Machine::at(self.place(end), &self.name).remove();
        }
    }
}
