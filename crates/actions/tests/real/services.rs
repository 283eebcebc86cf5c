//! A directory of an agent's actions, and servers from the packages that `cargo xtask setup` unpacks.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use provider::{ActionError, Actions, Done, Link, Order, Wanted};
use recovery::plan::{
    Mode,
    action::{ActionContext, Performed},
};
use switchback_actions::Outside;
use tempfile::TempDir;

/// Longest wait for a server to come up.
const PATIENCE: Duration = Duration::from_secs(20);

/// An agent's directory.
pub(crate) struct Agent {
    pub(crate) dir: TempDir,
}

impl Agent {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn put(&self, name: &str, mode: u32, content: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// A new key of OpenSSH under a name; its public half.
    pub(crate) fn ssh_key(&self, name: &str) -> String {
        let path = self.path().join("secrets").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        ssh_keygen(&path);
        let public = path.with_extension("pub");
        let text = fs::read_to_string(&public).unwrap();
        fs::remove_file(public).unwrap();
        text
    }

    pub(crate) async fn does(&self, yaml: &str) -> Result<Done, ActionError> {
        self.does_while(yaml, None, &Always).await
    }

    pub(crate) async fn does_while(&self, yaml: &str, link: Option<Link>, wanted: &dyn Wanted) -> Result<Done, ActionError> {
        let action: Performed = serde_saphyr::from_str(yaml).unwrap();
        action.check().unwrap();
        Outside::new(self.path()).carry_out(Order { action, context: context(), link }, wanted).await
    }
}

pub(crate) fn context() -> ActionContext {
    ActionContext {
        plan: "shop".parse().unwrap(),
        run: "run-1".to_owned(),
        mode: Mode::Unplanned,
        group: Some("web".to_owned()),
        item: Some("db9".parse().unwrap()),
        step: "tell".to_owned(),
        site: "b".parse().unwrap(),
        attempt: 2,
    }
}

pub(crate) struct Always;

#[async_trait]
impl Wanted for Always {
    async fn still(&self) -> bool {
        true
    }
}

/// Wanted until somebody says otherwise.
#[derive(Default)]
pub(crate) struct Until(pub(crate) AtomicBool);

#[async_trait]
impl Wanted for Until {
    async fn still(&self) -> bool {
        !self.0.load(Ordering::SeqCst)
    }
}

pub(crate) fn ssh_keygen(path: &Path) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(path).status().unwrap();
    assert!(made.success());
}

/// A server that ends with this.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    pub(crate) dir: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The root of the unpacked packages.
pub(crate) fn unpacked() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    let path = target.join("services/root");
    fs::canonicalize(&path).unwrap_or_else(|error| panic!("no {} ({error}); `cargo xtask setup` brings it", path.display()))
}

pub(crate) fn libraries() -> PathBuf {
    unpacked().join("usr/lib/x86_64-linux-gnu")
}

/// A port that nobody uses now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a server, and waits until it takes connections.
pub(crate) fn start(mut command: Command, port: u16, dir: TempDir) -> Server {
    let log = fs::File::create(dir.path().join("log")).unwrap();
    command.env("LD_LIBRARY_PATH", libraries()).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let child = command.spawn().unwrap();
    let mut server = Server { child, port, dir };
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let log = || fs::read_to_string(server.dir.path().join("log")).unwrap_or_default();
        assert!(Instant::now() < deadline, "{command:?} takes no connections: {}", log());
        assert!(server.child.try_wait().unwrap().is_none(), "{command:?} has ended: {}", log());
        std::thread::yield_now();
    }
    server
}

/// An SSH server that lets the holders of these keys in, as whoever runs this.
pub(crate) fn sshd(public_keys: &str) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let port = free_port();
    ssh_keygen(&path.join("host"));
    fs::write(path.join("keys"), public_keys).unwrap();
    let settings = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {0}/host\nAuthorizedKeysFile {0}/keys\nPidFile none\nUsePAM no\nStrictModes no\n\
         PasswordAuthentication no\nPermitRootLogin prohibit-password\nMaxStartups 100\n",
        path.display()
    );
    fs::write(path.join("config"), settings).unwrap();
    let sshd = unpacked().join("usr/sbin/sshd");
    let mut command = if rustix::process::geteuid().is_root() {
        // It looks up a user of its own and a directory under /run, which are laid over this machine's for it alone.
        fs::write(path.join("passwd"), fs::read_to_string("/etc/passwd").unwrap() + "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n").unwrap();
        let script = format!("mount --bind {0}/passwd /etc/passwd && mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec \"$@\"", path.display());
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, "sh"]).arg(sshd);
        command
    } else {
        Command::new(sshd)
    };
    command.args(["-D", "-e", "-f"]).arg(path.join("config"));
    start(command, port, dir)
}

/// What `known_hosts` needs for it.
pub(crate) fn host_key(server: &Server) -> String {
    let key = fs::read_to_string(server.dir.path().join("host.pub")).unwrap();
    format!("[127.0.0.1]:{} {key}", server.port)
}

/// A primary server of the zone example.org, which a key may update.
pub(crate) fn knotd(key: &str) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let (path, port) = (dir.path().to_owned(), free_port());
    fs::write(path.join("example.org.zone"), "$ORIGIN example.org.\n@ 60 SOA ns admin 1 60 60 60 60\n@ 60 NS ns\nns 60 A 127.0.0.1\napp 60 A 10.1.0.7\n").unwrap();
    let settings = format!(
        "server:\n  rundir: {0}\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
         log:\n  - target: stderr\n    any: info\ndatabase:\n  storage: {0}\n\
         key:\n  - id: ddns\n    algorithm: hmac-sha256\n    secret: {key}\n\
         acl:\n  - id: update\n    key: ddns\n    action: [update]\n  - id: ask\n    key: ddns\n    action: [query, transfer]\n\
         zone:\n  - domain: example.org\n    storage: {0}\n    file: example.org.zone\n    acl: [update, ask]\n",
        path.display()
    );
    fs::write(path.join("knot.conf"), settings).unwrap();
    let mut command = Command::new(unpacked().join("usr/sbin/knotd"));
    command.arg("-c").arg(path.join("knot.conf"));
    start(command, port, dir)
}
