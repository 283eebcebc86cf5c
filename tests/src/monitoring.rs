//! A real Prometheus and a pair of real Alertmanagers, in the network between the sites, that watch a guest.
//!
//!   guest ── relay at its site ── wan: Prometheus ─▶ Alertmanager ⇄ Alertmanager ─▶ POST /v1/triggers/NAME

use std::{
    fs,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::place::{Place, Running, Said, enter_network, target, wait_until};

/// Longest wait of the relay for a guest: what is slower is down.
const RELAY_PATIENCE: Duration = Duration::from_millis(700);
const PROMETHEUS: u16 = 29_300;
const ALERTMANAGERS: [(u16, u16); 2] = [(29_302, 29_304), (29_303, 29_305)];

/// Prometheus and two Alertmanagers; they end when this is dropped.
pub struct Monitoring {
    running: Vec<Running>,
    place: Place,
}

/// Whom they tell.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Where deliveries go.
    pub url: String,
    /// What they show.
    pub token: String,
    /// By which the receiver is known.
    pub ca: PathBuf,
}

/// The package's root.
fn unpacked() -> PathBuf {
    let path = target().join("monitoring/root");
    fs::canonicalize(&path).unwrap_or_else(|error| panic!("no {} ({error}); `cargo xtask setup` brings it", path.display()))
}

fn tool(name: &str) -> PathBuf {
    unpacked().join("usr/bin").join(name)
}

/// Alertmanager opens its templates where its package would have put them: they are laid over that place, for it alone.
fn alertmanager(place: &Place) -> Command {
    let mut command = place.command(Path::new("unshare"));
    let share = unpacked().join("usr/share");
    let script = format!("mount -t overlay overlay -o lowerdir={}:/usr/share /usr/share && exec \"$@\"", share.display());
    command.args(["--mount", "sh", "-c", &script, "sh"]).arg(tool("prometheus-alertmanager"));
    command
}

impl Monitoring {
    /// Starts them at a place; `watched` is what Prometheus asks every second.
    #[must_use]
    pub fn start(place: &Place, dir: &Path, watched: SocketAddr, hook: &Hook) -> Self {
        let dir = dir.join("monitoring");
        fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("making {}: {error}", dir.display()));
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            fs::write(&path, text).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
            path
        };
        let senders: Vec<String> = ALERTMANAGERS.iter().map(|(web, _)| format!("'127.0.0.1:{web}'")).collect();
        let rules = write("rules.yml", RULES.to_owned());
        let prometheus = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 900ms, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\n\
             alerting: {{alertmanagers: [{{static_configs: [{{targets: [{}]}}]}}]}}\n\
             scrape_configs: [{{job_name: ledger, static_configs: [{{targets: ['{watched}']}}]}}]\n",
            rules.display(),
            senders.join(", ")
        );
        let prometheus = write("prometheus.yml", prometheus);
        let Hook { url, token, ca } = hook;
        let alertmanager = format!(
            "route: {{receiver: dr, group_by: [alertname], group_wait: 1s, group_interval: 2s, repeat_interval: 4s}}\n\
             receivers:\n\
             - name: dr\n  webhook_configs:\n  - url: '{url}'\n    send_resolved: true\n    max_alerts: 0\n\
             \x20   http_config:\n      follow_redirects: false\n      authorization: {{type: Bearer, credentials: '{token}'}}\n\
             \x20     tls_config: {{ca_file: '{}'}}\n",
            ca.display()
        );
        let alertmanager = write("alertmanager.yml", alertmanager);
        let mut monitoring = Self { running: Vec::new(), place: place.clone() };
        for (number, (web, gossip)) in ALERTMANAGERS.into_iter().enumerate() {
            let peer = ALERTMANAGERS[1 - number].1;
            let mut command = self::alertmanager(place);
            command.arg(format!("--config.file={}", alertmanager.display())).arg(format!("--storage.path={}", dir.join(format!("am-{number}")).display()));
            command.args([format!("--web.listen-address=127.0.0.1:{web}"), format!("--cluster.listen-address=127.0.0.1:{gossip}")]);
            command.args([format!("--cluster.advertise-address=127.0.0.1:{gossip}"), format!("--cluster.peer=127.0.0.1:{peer}")]);
            command.args(["--cluster.settle-timeout=2s", "--cluster.gossip-interval=100ms", "--cluster.pushpull-interval=2s"]);
            monitoring.running.push(Running::start(command, &dir.join(format!("alertmanager-{number}.log"))));
        }
        let mut command = place.command(&tool("prometheus"));
        command.arg(format!("--config.file={}", prometheus.display())).arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{PROMETHEUS}"));
        monitoring.running.push(Running::start(command, &dir.join("prometheus.log")));
        monitoring
    }

    /// Waits until Prometheus sees what it watches.
    pub fn sees_it_up(&self) {
        wait_until("Prometheus sees the guest", || self.query("up == 1").then_some(()));
    }

    /// Waits until Prometheus says that it is down.
    pub fn says_it_is_down(&self) {
        wait_until("Prometheus says that the guest is down", || self.query("ALERTS{alertstate=\"firing\"}").then_some(()));
    }

    fn query(&self, expression: &str) -> bool {
        let mut command = self.place.command(&tool("promtool"));
        let said = Said::by(command.args(["query", "instant", &format!("http://127.0.0.1:{PROMETHEUS}"), expression]));
        said.code == 0 && !said.out.trim().is_empty()
    }
}

impl Drop for Monitoring {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for running in &self.running {
                let log = running.log();
                let lines: Vec<&str> = log.lines().collect();
                eprintln!("── monitoring said\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
            }
        }
    }
}

const RULES: &str = "groups:
- name: dr
  rules:
  - alert: LedgerDown
    expr: up{job=\"ledger\"} == 0
    for: 2s
    labels: {severity: critical, site: sitea}
    annotations: {summary: 'the ledger at {{ $labels.instance }} does not answer'}
";

/// Passes connections on from a site's outer address to a guest that only the site can reach.
pub fn relay(netns: &str, at: SocketAddr, to: SocketAddr) {
    let netns = netns.to_owned();
    let (ready, listens) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        enter_network(&netns);
        let listener = TcpListener::bind(at).unwrap_or_else(|error| panic!("listening on {at}: {error}"));
        ready.send(()).unwrap_or_else(|error| panic!("nobody waits for the relay: {error}"));
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || passed_on(stream, to));
        }
    });
    listens.recv().unwrap_or_else(|error| panic!("nobody relays at {at}: {error}"));
}

fn passed_on(client: TcpStream, to: SocketAddr) {
    let both = || -> io::Result<()> {
        let guest = TcpStream::connect_timeout(&to, RELAY_PATIENCE)?;
        let (mut asks, mut hears) = (client.try_clone()?, guest.try_clone()?);
        let asking = std::thread::spawn(move || copy(&mut asks, &mut hears));
        let (mut answers, mut tells) = (guest, client);
        copy(&mut answers, &mut tells);
        tells.shutdown(Shutdown::Both)?;
        drop(asking.join());
        Ok(())
    };
    drop(both());
}

fn copy(from: &mut impl Read, to: &mut impl Write) {
    drop(io::copy(from, to));
}
