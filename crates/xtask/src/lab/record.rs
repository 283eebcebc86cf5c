//! What a lab consists of, on disk: `DIR/lab.json`, and an entry in /run that finds DIR again.
//!
//! This is also what `--json` prints; tests of other crates read it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::guest::Guest;

/// Where all labs of this machine are listed, one `PREFIX` link each, with [`MADE_DIRS`] beside them.
pub(crate) const REGISTRY: &str = "/run/switchback-labs";
/// Lists the directories that libvirt insists on and that the machine did not have. The last lab removes them.
pub(crate) const MADE_DIRS: &str = "made-dirs";

const VERSION: u32 = 1;

/// The host's address on every site's guest network.
pub(crate) const BRIDGE_CIDR: &str = "10.1.0.1/24";
/// The guest network's name; it is the same everywhere, so a machine's definition fits both sites.
pub(crate) const BRIDGE: &str = "prod";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Lab {
    pub(crate) version: u32,
    pub(crate) dir: PathBuf,
    /// Starts the name of everything that this lab has outside its directory.
    pub(crate) prefix: String,
    /// The orchestrator's directory, which no site can see.
    pub(crate) hq: PathBuf,
    pub(crate) wan: Wan,
    pub(crate) guest: Guest,
    pub(crate) sites: Vec<Site>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Wan {
    pub(crate) netns: String,
    pub(crate) ip: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) netns: String,
    /// Address on the wide network.
    pub(crate) ip: String,
    /// libvirt of this site, reachable from outside its namespaces.
    pub(crate) uri: String,
    /// libvirt of this site, for what runs inside (`lab exec`).
    pub(crate) uri_inside: String,
    pub(crate) root: PathBuf,
    /// Disks of the machines that the lab itself defines.
    pub(crate) images: PathBuf,
    /// For the agent: recovery points and what belongs to them.
    pub(crate) storage: PathBuf,
    /// For the agent: its certificate and state.
    pub(crate) agent: PathBuf,
    pub(crate) bridge: String,
    pub(crate) bridge_ip: String,
}

impl Lab {
    /// Lays out an empty directory and registers the lab.
    pub(crate) fn create(dir: &Path, sites: u8, guest: Guest) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        if fs::read_dir(dir)?.next().is_some() {
            bail!("{} is not empty: a lab takes its whole directory with it when it goes", dir.display());
        }
        let dir = dir.canonicalize()?;
        let prefix = unused_prefix()?;
        let lab = Self {
            version: VERSION,
            hq: dir.join("hq"),
            wan: Wan { netns: format!("{prefix}-wan"), ip: "10.99.0.254".into() },
            guest,
            sites: (1..=sites).map(|number| Site::new(&dir, &prefix, number)).collect(),
            dir,
            prefix,
        };
        lab.save()?;
        fs::create_dir_all(&lab.hq)?;
        for site in &lab.sites {
            site.make_dirs()?;
        }
        lab.register()?;
        Ok(lab)
    }

    fn register(&self) -> Result<()> {
        let _held = lock_registry()?;
        fs::create_dir_all(REGISTRY)?;
        std::os::unix::fs::symlink(&self.dir, Path::new(REGISTRY).join(&self.prefix))?;
        Ok(())
    }

    pub(crate) fn load(dir: &Path) -> Result<Self> {
        let file = dir.join("lab.json");
        let text = fs::read(&file).with_context(|| format!("no lab in {}", dir.display()))?;
        let lab: Self = serde_json::from_slice(&text).with_context(|| format!("{} is damaged", file.display()))?;
        if lab.version != VERSION {
            bail!("{} has version {}, this program reads {VERSION}", file.display(), lab.version);
        }
        Ok(lab)
    }

    /// Writes the record aside and renames it, so that a reader sees one state or the other.
    pub(crate) fn save(&self) -> Result<()> {
        let aside = self.dir.join("lab.json.new");
        fs::write(&aside, serde_json::to_vec_pretty(self)?)?;
        fs::rename(aside, self.dir.join("lab.json"))?;
        Ok(())
    }

    pub(crate) fn site(&self, name: &str) -> Result<&Site> {
        let names = || self.sites.iter().map(|site| site.name.as_str()).collect::<Vec<_>>().join(", ");
        self.sites.iter().find(|site| site.name == name).with_context(|| format!("no site {name}; there are {}", names()))
    }
}

impl Site {
    fn new(dir: &Path, prefix: &str, number: u8) -> Self {
        let name = format!("site{}", char::from(b'a' + number - 1));
        let root = dir.join("sites").join(&name);
        Self {
            netns: format!("{prefix}-{name}"),
            ip: format!("10.99.0.{number}"),
            uri: format!("qemu:///system?socket={}", root.join("run/libvirt-sock").display()),
            uri_inside: "qemu:///system".into(),
            images: root.join("images"),
            storage: root.join("storage"),
            agent: root.join("agent"),
            bridge: BRIDGE.into(),
            bridge_ip: BRIDGE_CIDR.split('/').next().expect("split yields one").into(),
            name,
            root,
        }
    }

    /// Holds the process id of the keeper of the site's mounts, once they are complete.
    pub(crate) fn keeper_file(&self) -> PathBuf {
        self.root.join("mounted")
    }

    pub(crate) fn keeper(&self) -> Result<i32> {
        let pid = fs::read_to_string(self.keeper_file()).with_context(|| format!("{} is not up", self.name))?;
        Ok(pid.trim().parse()?)
    }

    fn make_dirs(&self) -> Result<()> {
        for dir in ["etc", "run", "lib", "cache", "log"] {
            fs::create_dir_all(self.root.join(dir))?;
        }
        for dir in [&self.images, &self.storage, &self.agent] {
            fs::create_dir_all(dir)?;
        }
        Ok(())
    }
}

/// Holds off every other lab that comes or goes. The lock is on the directory itself, so it leaves no file behind.
pub(crate) fn lock_registry() -> Result<File> {
    let parent = Path::new(REGISTRY).parent().expect("an absolute path");
    let held = File::open(parent)?;
    flock(&held, FlockOperation::LockExclusive)?;
    Ok(held)
}

fn unused_prefix() -> Result<String> {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
    let mut seed = nanos ^ std::process::id().rotate_left(16);
    loop {
        let prefix = format!("sb{:05x}", seed & 0xf_ffff);
        match fs::symlink_metadata(Path::new(REGISTRY).join(&prefix)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(prefix),
            _ => seed = seed.wrapping_mul(0x9E37_79B1).wrapping_add(1),
        }
    }
}
