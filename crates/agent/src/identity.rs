//! Who this agent is, on disk: `identity.json` and `agent.key`, readable for their owner only.

use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use anyhow::{Context, Result, bail};
use recovery::SiteName;
use sdk::WorkerId;
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

/// What the server gave at enrolment, and where the server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    version: u32,
    pub(crate) server: String,
    pub(crate) name: String,
    pub(crate) site: SiteName,
    pub(crate) worker: WorkerId,
    pub(crate) certificate_pem: String,
    pub(crate) ca_pem: String,
    pub(crate) tls_name: String,
    #[serde(skip)]
    pub(crate) key_pem: String,
}

impl Identity {
    pub(crate) fn new(server: &str, given: api::agent::Enrolled, key_pem: String) -> Self {
        let api::agent::Enrolled { name, site, worker, certificate_pem, ca_pem, tls_name } = given;
        Self { version: VERSION, server: server.into(), name, site, worker, certificate_pem, ca_pem, tls_name, key_pem }
    }

    /// A client that shows this identity.
    pub(crate) fn client(&self) -> Result<api::Client> {
        let trust = api::Trust::Ca(self.ca_pem.clone().into_bytes());
        let own = api::Identity { certificate_pem: self.certificate_pem.clone().into_bytes(), key_pem: self.key_pem.clone().into_bytes() };
        Ok(api::Client::https(authority(&self.server)?, &trust, Some(&own), None)?)
    }

    pub(crate) fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("identity.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("this agent is not enrolled: there is no {}; get a token with `switchback agent token --site SITE`, then `switchback-agent enroll`", path.display())
            }
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let mut identity: Self = serde_json::from_str(&text).with_context(|| format!("{} is damaged; enroll again", path.display()))?;
        if identity.version != VERSION {
            bail!("{} is of format {}, this build reads {VERSION}", path.display(), identity.version);
        }
        let key = dir.join("agent.key");
        identity.key_pem = fs::read_to_string(&key).with_context(|| format!("reading {}", key.display()))?;
        Ok(identity)
    }

    /// Keeps this identity to one process: two would share its leases and tasks unseen. The file must be kept open. One that was just killed
    /// may need a moment to be gone.
    pub(crate) fn hold(dir: &Path) -> Result<fs::File> {
        let path = dir.join("agent.lock");
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        let locked = engine::adapters::lock_soon(&file);
        locked.with_context(|| format!("another switchback-agent runs with the identity in {}; stop it first", dir.display()))?;
        Ok(file)
    }

    /// Key first: an identity without its key would look enrolled.
    pub(crate) fn save(&self, dir: &Path) -> Result<()> {
        private_dir(dir)?;
        write_private(&dir.join("agent.key"), self.key_pem.as_bytes())?;
        write_private(&dir.join("identity.json"), &serde_json::to_vec_pretty(self)?)
    }
}

/// `HOST:PORT` of a server's URL.
pub(crate) fn authority(server: &str) -> Result<&str> {
    let rest = server.strip_prefix("https://").map(|rest| rest.trim_end_matches('/'));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains('/') => Ok(rest),
        Some(_) | None => bail!("{server:?} is not a server of the form https://HOST:PORT"),
    }
}

pub(crate) fn private_dir(dir: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(dir).with_context(|| format!("making {}", dir.display()))
}

/// Whole or not at all: a temporary file, flushed, renamed.
fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))
}
