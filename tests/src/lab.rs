//! Two libvirt sites with real machines on them, by `cargo xtask lab`, and the product between them.
//!
//!   sitea: agent, guests ── wan: database, server, workers ── siteb: agent
//!
//! A guest appends numbered, checksummed records with fsync; what it says about them is its ledger.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::place::{Place, Running, Said, program, show_logs};
use crate::product::Product;

const API_PORT: u16 = 7443;
/// QEMU opens disks past the page cache, which a file system in memory does not offer.
const BASE: &str = "/var/tmp";

/// Whether a test with real machines can run here. If not, says so, or fails where it was required.
#[must_use]
pub fn kvm_or_skip(name: &str) -> bool {
    let Err(lack) = able() else { return true };
    let required = std::env::var_os("SWITCHBACK_REQUIRE_KVM").is_some_and(|value| value == "1");
    assert!(!required, "{name} needs root and QEMU, and SWITCHBACK_REQUIRE_KVM=1 forbids to skip it: {lack}");
    println!("SKIPPED (needs root and QEMU): {name}");
    println!("  {lack}");
    false
}

fn able() -> Result<(), String> {
    let root = fs::metadata("/proc/self").is_ok_and(|us| us.uid() == 0);
    if !root {
        return Err("this is not root".into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let admin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).chain(admin).collect();
    let missing = ["qemu-system-x86_64", "qemu-img", "qemu-nbd", "libvirtd", "virsh", "ip", "nsenter"];
    let missing: Vec<&str> = missing.into_iter().filter(|name| !dirs.iter().any(|dir| dir.join(name).is_file())).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("missing: {}; `cargo xtask setup` installs them", missing.join(", "))) }
}

/// A lab that is taken down when this is dropped, or when this process ends in any other way.
pub struct Lab {
    dir: PathBuf,
    record: Value,
}

/// A guest's ledger, asked from within a site.
pub struct Ledger<'a> {
    lab: &'a Lab,
    site: String,
    address: String,
}

/// What a guest says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Number of the newest record.
    pub records: u64,
    /// How many this boot found on its disk.
    pub found: u64,
    /// How often this disk was booted from.
    pub boots: u64,
}

impl Lab {
    /// Starts sites `sitea` and `siteb`.
    #[must_use]
    pub fn up(name: &str) -> Self {
        let dir = Path::new(BASE).join(format!("sb-{name}-{}", std::process::id()));
        let mut lab = Self { dir, record: Value::Null };
        let owner = std::process::id().to_string();
        lab.record = lab.xtask("up", &["--owner", &owner, "--json"]).json();
        lab
    }

    /// The product between the sites.
    #[must_use]
    pub fn product(&self, name: &str) -> Product {
        let (hq, wan) = (text(&self.record["hq"]), text(&self.record["wan"]["ip"]));
        let logs = self.dir.join(format!("{name}-logs"));
        fs::create_dir_all(&logs).unwrap_or_else(|error| panic!("making {}: {error}", logs.display()));
        Product::start_at(self.place("wan"), hq.into(), logs, format!("{wan}:{API_PORT}"), &[])
    }

    /// Enrols an agent at a site and starts it there; `port` is for data from other sites.
    pub fn agent(&self, product: &mut Product, name: &str, site: &str, port: u16, environment: &[(&str, &str)]) {
        let (place, here) = (self.place(site), self.site(site));
        let state = Path::new(&text(&here["agent"])).join(name);
        product.enroll(&place, name, site, &state);
        let command = self.agent_command(site, &state, port, environment);
        product.run_agent(name, command, &[name]);
    }

    /// Enrols an agent without starting it.
    pub fn enroll(&self, product: &mut Product, name: &str, site: &str) {
        let state = Path::new(&text(&self.site(site)["agent"])).join(name);
        product.enroll(&self.place(site), name, site, &state);
    }

    /// Starts an agent that was enrolled, without waiting for it.
    #[must_use]
    pub fn start_agent(&self, name: &str, site: &str, port: u16) -> Running {
        let state = Path::new(&text(&self.site(site)["agent"])).join(name);
        Running::start(self.agent_command(site, &state, port, &[]), &self.dir.join(format!("{name}.log")))
    }

    /// Starts an agent that was enrolled before and killed since.
    pub fn agent_again(&self, product: &mut Product, name: &str, site: &str, port: u16, environment: &[(&str, &str)]) {
        let here = self.site(site);
        let state = Path::new(&text(&here["agent"])).join(name);
        let command = self.agent_command(site, &state, port, environment);
        product.run_agent(name, command, &[name]);
    }

    fn agent_command(&self, site: &str, state: &Path, port: u16, environment: &[(&str, &str)]) -> Command {
        let here = self.site(site);
        let mut command = self.place(site).command(&program("switchback-agent"));
        command.arg("run").arg("--state-dir").arg(state).args(["--lease-seconds", "3"]);
        command.args(["--libvirt", &text(&here["uri_inside"]), "--storage", &text(&here["storage"])]);
        command.args(["--data-listen", &format!("{}:{port}", text(&here["ip"]))]).envs(environment.iter().copied());
        command
    }

    /// A site's address in the network between the sites.
    #[must_use]
    pub fn ip(&self, site: &str) -> String {
        text(&self.site(site)["ip"])
    }

    /// Where the lab is; tests may put files there.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Name of a site's network namespace.
    #[must_use]
    pub fn netns(&self, site: &str) -> String {
        text(&self.site(site)["netns"])
    }

    /// Where to start something that is to see what a site sees (or `wan`, the network between them).
    #[must_use]
    pub fn place(&self, place: &str) -> Place {
        let words = [xtask().into_os_string(), "lab".into(), "exec".into(), "--dir".into(), self.dir.clone().into_os_string()];
        Place::behind(words.into_iter().chain(["--site".into(), place.into(), "--".into()]).collect())
    }

    /// Defines and boots a guest; `tick_ms` lies between two records, 0 for none but those asked for.
    pub fn guest(&self, site: &str, name: &str, ip: &str, tick_ms: u32) -> Ledger<'_> {
        self.guest_with(site, name, ip, tick_ms, "")
    }

    /// The same with words on its kernel command line, such as `down=never` for a guest that does not shut down.
    pub fn guest_with(&self, site: &str, name: &str, ip: &str, tick_ms: u32, words: &str) -> Ledger<'_> {
        let (cidr, tick) = (format!("{ip}/24"), tick_ms.to_string());
        drop(self.xtask("guest", &["--site", site, "--name", name, "--ip", &cidr, "--tick-ms", &tick, "--append", words]));
        self.ledger(site, ip)
    }

    /// The ledger of whatever answers at this address of a site.
    #[must_use]
    pub fn ledger(&self, site: &str, ip: &str) -> Ledger<'_> {
        Ledger { lab: self, site: site.into(), address: format!("http://{ip}:8080") }
    }

    /// Kills a guest's QEMU.
    pub fn kill_guest(&self, site: &str, name: &str) {
        drop(self.xtask("kill-guest", &["--site", site, "--name", name]));
    }

    /// Plugs a site's cable in again.
    pub fn heal(&self, site: &str) {
        drop(self.xtask("heal", &["--site", site]));
    }

    /// Kills the libvirt daemon of a site; its machines go on. One that has crashed by itself is told, and as dead.
    pub fn kill_libvirtd(&self, site: &str) {
        let file = self.root(site).join("run/libvirtd.pid");
        let pid = fs::read_to_string(&file).unwrap_or_else(|error| panic!("no {}: {error}", file.display()));
        let pid: i32 = pid.trim().parse().unwrap_or_else(|error| panic!("{pid:?}: {error}"));
        if std::path::Path::new(&format!("/proc/{pid}")).exists() {
            crate::place::signal(pid, "KILL");
        } else {
            println!("the libvirt daemon of {site} had ended by itself; its log: {}", self.root(site).join("log/libvirtd.log").display());
        }
    }

    /// Starts the libvirt daemon of a site again. After a boot of its host it starts what has autostart.
    pub fn restart_libvirtd(&self, site: &str, booted: bool) {
        if booted {
            let once = self.root(site).join("run/qemu/autostarted");
            assert!(!once.exists() || fs::remove_file(&once).is_ok(), "{} stays", once.display());
        }
        drop(self.xtask("restart-libvirtd", &["--site", site]));
    }

    /// libvirt's address within a site.
    #[must_use]
    pub fn uri_inside(&self, site: &str) -> String {
        text(&self.site(site)["uri_inside"])
    }

    /// Directory of a site.
    #[must_use]
    pub fn root(&self, site: &str) -> PathBuf {
        text(&self.site(site)["root"]).into()
    }

    /// Where guests of a site have their disks.
    #[must_use]
    pub fn images(&self, site: &str) -> PathBuf {
        text(&self.site(site)["images"]).into()
    }

    /// Whether libvirt of a site knows a running machine of that name.
    #[must_use]
    pub fn runs(&self, site: &str, machine: &str) -> bool {
        self.virsh(site, &["list", "--name"]).lines().any(|name| name.trim() == machine)
    }

    /// Pulls a site's cable.
    pub fn cut(&self, site: &str) {
        drop(self.xtask("cut", &["--site", site]));
    }

    /// Process of a machine at a site.
    #[must_use]
    pub fn qemu_pid(&self, site: &str, name: &str) -> i32 {
        let file = Path::new(&text(&self.site(site)["root"])).join("run/qemu").join(format!("{name}.pid"));
        let pid = fs::read_to_string(&file).ok().and_then(|pid| pid.trim().parse().ok());
        pid.unwrap_or_else(|| panic!("no process id in {}", file.display()))
    }

    /// Asks libvirt of a site.
    #[must_use]
    pub fn virsh(&self, site: &str, words: &[&str]) -> String {
        let said = Said::by(Command::new("virsh").args(["-q", "-c", &text(&self.site(site)["uri"])]).args(words));
        assert_eq!(said.code, 0, "virsh {words:?}: {said:?}");
        said.out
    }

    /// The same, of a daemon that may be away or refuse.
    #[must_use]
    pub fn try_virsh(&self, site: &str, words: &[&str]) -> Option<String> {
        let said = Said::by(Command::new("virsh").args(["-q", "-c", &text(&self.site(site)["uri"])]).args(words));
        (said.code == 0).then_some(said.out)
    }

    /// Process of a machine that runs at a site.
    #[must_use]
    pub fn running_qemu(&self, site: &str, name: &str) -> Option<i32> {
        let file = self.root(site).join("run/qemu").join(format!("{name}.pid"));
        let pid: i32 = fs::read_to_string(file).ok()?.trim().parse().ok()?;
        Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
    }

    /// Storage of a site's agents.
    #[must_use]
    pub fn storage(&self, site: &str) -> PathBuf {
        text(&self.site(site)["storage"]).into()
    }

    fn site(&self, name: &str) -> &Value {
        let sites = self.record["sites"].as_array().into_iter().flatten();
        sites.into_iter().find(|site| site["name"] == *name).unwrap_or_else(|| panic!("no site {name} in {}", self.record))
    }

    fn xtask(&self, verb: &str, words: &[&str]) -> Said {
        let said = self.try_xtask(verb, words);
        assert_eq!(said.code, 0, "lab {verb} {words:?}: {said:?}");
        said
    }

    fn try_xtask(&self, verb: &str, words: &[&str]) -> Said {
        Said::by(Command::new(xtask()).args(["lab", verb, "--dir"]).arg(&self.dir).args(words))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            show_logs(&self.dir);
            let sites = self.record["sites"].as_array().into_iter().flatten();
            sites.for_each(|site| show_logs(&Path::new(&text(&site["root"])).join("log")));
        }
        let said = self.try_xtask("down", &[]);
        if said.code != 0 {
            eprintln!("the lab was not taken down: {said:?}");
        }
    }
}

impl Ledger<'_> {
    /// What the guest says of itself, if it answers.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        let answer = self.get("/status").ok()?;
        Some(Status { records: number(&answer, "seq"), found: number(&answer, "found"), boots: number(&answer, "boots") })
    }

    /// Number of the newest record; the guest must answer.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.status().unwrap_or_else(|| panic!("{} does not answer at {}", self.address, self.site)).records
    }

    /// Reads the whole ledger back from disk: how many records, how many of them bad.
    #[must_use]
    pub fn verify(&self) -> (u64, u64) {
        let answer = self.must("/verify");
        (number(&answer, "records"), number(&answer, "bad"))
    }

    /// Appends records; the number of the last, which is on disk.
    pub fn append(&self, count: u32) -> u64 {
        number(&self.must(&format!("/append?n={count}")), "seq")
    }

    /// Appends records if the guest answers; the number of the last, which is on disk.
    pub fn try_append(&self, count: u32) -> Option<u64> {
        self.get(&format!("/append?n={count}")).ok().map(|answer| number(&answer, "seq"))
    }

    /// Writes noise into a file of the guest.
    pub fn write_noise(&self, mib: u32, seed: u32) {
        drop(self.must(&format!("/write?file=noise&mb={mib}&seed={seed}")));
    }

    fn must(&self, path: &str) -> Value {
        self.get(path).unwrap_or_else(|said| panic!("{}{path} gives no answer at {}: {said:?}", self.address, self.site))
    }

    fn get(&self, path: &str) -> Result<Value, Said> {
        let said = self.lab.try_xtask("get", &["--site", &self.site, "--url", &format!("{}{path}", self.address)]);
        if said.code == 0 { Ok(said.json()) } else { Err(said) }
    }
}

fn number(answer: &Value, key: &str) -> u64 {
    answer[key].as_u64().unwrap_or_else(|| panic!("no {key} in {answer}"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// The program that builds labs: the one that runs these tests, or else the workspace's.
fn xtask() -> PathBuf {
    std::env::var_os("SWITCHBACK_XTASK").map_or_else(|| program("xtask"), PathBuf::from)
}
