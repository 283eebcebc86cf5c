//! Another process of this test's program: an agent that stops itself before a step, or one that goes on until it is killed.
//!
//! ```text
//!   the test                                        a case of its own, in another process
//!     │ ── spawn: `--exact CASE`, its order in the environment ──▶ `ordered`: opens the site, does its part of the order
//!     │ waits until it has stopped itself, goes on with the same site
//!     │ ── SIGCONT or SIGKILL ──▶
//! ```
//!
//! In the test's own process `ordered` gives nothing, so that case does nothing there. The other process goes with its `Other`.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use switchback_provider_kvm::{KvmConfig, KvmSite, TlsIdentity};

use super::wait_until;

const ORDER: &str = "SWITCHBACK_TEST_ORDER";

/// What a site is opened with; it listens wherever it can.
#[derive(Serialize, Deserialize)]
struct SiteOrder {
    site: String,
    libvirt_uri: String,
    storage_dir: PathBuf,
    state_dir: PathBuf,
    identity: [String; 4],
    autostart_patience: Duration,
}

impl SiteOrder {
    fn of(config: KvmConfig) -> Self {
        let TlsIdentity { ca_pem, cert_pem, key_pem, name } = config.tls;
        Self {
            site: config.site.to_string(),
            libvirt_uri: config.libvirt_uri,
            storage_dir: config.storage_dir,
            state_dir: config.state_dir,
            identity: [ca_pem, cert_pem, key_pem, name],
            autostart_patience: config.autostart_patience,
        }
    }

    fn open(self) -> KvmSite {
        let [ca_pem, cert_pem, key_pem, name] = self.identity;
        let site = KvmSite::open(KvmConfig {
            site: self.site.parse().expect("the site has a name"),
            libvirt_uri: self.libvirt_uri,
            storage_dir: self.storage_dir,
            state_dir: self.state_dir,
            data_listen: ([127, 0, 0, 1], 0).into(),
            tls: TlsIdentity { ca_pem, cert_pem, key_pem, name },
            autostart_patience: self.autostart_patience,
        });
        site.expect("the site opens")
    }
}

/// Which site, and what a test's own case is to do there.
#[derive(Serialize, Deserialize)]
struct Order<T> {
    site: SiteOrder,
    part: T,
}

/// In the other process: its site, open, and its part of the order. `None` in the test's own.
pub fn ordered<T: DeserializeOwned>() -> Option<(KvmSite, T)> {
    let order = std::env::var(ORDER).ok()?;
    let order: Order<T> = serde_json::from_str(&order).expect("the order can be read");
    Some((order.site.open(), order.part))
}

/// In the other process: an agent that goes on with its loops until it is killed.
pub fn agent_until_killed() {
    let Some((_open, ())) = ordered() else { return };
    loop {
        std::thread::park();
    }
}

/// The other process. It is killed when this goes.
pub struct Other(Child);

impl Other {
    /// Starts a case of this test's program in a process of its own, with one more variable in its environment.
    pub fn spawn(case: &str, config: KvmConfig, part: impl Serialize, (variable, value): (&str, &str)) -> Self {
        let order = Order { site: SiteOrder::of(config), part };
        let mut command = Command::new(std::env::current_exe().expect("this test has a program"));
        command.args(["--exact", case, "--nocapture"]).stdin(Stdio::null());
        command.env(ORDER, serde_json::to_string(&order).expect("the order is written")).env(variable, value);
        Self(command.spawn().expect("the other process starts"))
    }

    /// Starts a case that stops itself before a step, and waits until it has.
    pub fn stopped_before(step: &str, case: &str, config: KvmConfig, part: impl Serialize) -> Self {
        let other = Self::spawn(case, config, part, ("SWITCHBACK_PAUSE_BEFORE", step));
        let stat = format!("/proc/{}/stat", other.0.id());
        wait_until(&format!("the other process to stop before {step}"), || {
            let line = fs::read_to_string(&stat).ok()?;
            let state = line.rsplit_once(") ")?.1.chars().next()?;
            assert_ne!(state, 'Z', "the other process ended without coming to {step}");
            (state == 'T').then_some(())
        });
        other
    }

    /// Lets it go on where it stopped itself.
    pub fn go_on(&self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-CONT", &pid]).status().expect("kill can be started").success());
    }

    /// Waits for its own end.
    pub fn end(mut self) -> ExitStatus {
        self.0.wait().expect("the other process ends")
    }

    /// Kills it, wherever it is.
    pub fn kill(mut self) {
        self.0.kill().expect("the other process is killed");
        self.0.wait().expect("it ends");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
