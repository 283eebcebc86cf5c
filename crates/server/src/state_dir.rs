//! Where an installation keeps its files.
//!
//! ```text
//!   DIR/api.sock   DIR/pki/   DIR/pg/   DIR/log/
//!   DIR/spool/NAME.jsonl: what the process of that name has seen of the database, in case that comes back without it
//!   DIR/run/database.pid   DIR/run/server.pid   DIR/run/worker-N.pid: "PID worker ID epoch N"
//! ```
//!
//! Invariant: a file of `run/` is replaced whole, never written into.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The directory of an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir(PathBuf);

/// Why it can't be used.
#[derive(Debug, thiserror::Error)]
#[error("could not {attempted} {path}")]
pub struct StateDirError {
    /// A verb.
    pub attempted: &'static str,
    /// Of what.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl StateDir {
    /// Makes what is missing. Others may enter the directory itself, because Postgres may run as another user.
    ///
    /// # Errors
    /// [`StateDirError`].
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        for (dir, mode) in [("", 0o755), ("pki", 0o700), ("log", 0o750), ("run", 0o755), ("spool", 0o700)] {
            let dir = path.join(dir);
            let made = fs::create_dir_all(&dir).and_then(|()| fs::set_permissions(&dir, Permissions::from_mode(mode)));
            made.map_err(|source| StateDirError { attempted: "make", path: dir, source })?;
        }
        let path = fs::canonicalize(path).map_err(|source| StateDirError { attempted: "find", path: path.to_owned(), source })?;
        Ok(Self(path))
    }

    /// Itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The server's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.0.join("api.sock")
    }

    /// Keys and certificates.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.0.join("pki")
    }

    /// The private cluster.
    #[must_use]
    pub fn cluster(&self) -> PathBuf {
        self.0.join("pg")
    }

    /// What a child says on standard error.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.0.join("log").join(format!("{name}.log"))
    }

    /// What the process of this name has seen of the database.
    #[must_use]
    pub fn spool(&self, name: &str) -> PathBuf {
        self.0.join("spool").join(format!("{name}.jsonl"))
    }

    /// Notes the process that runs as `name`.
    ///
    /// # Errors
    /// [`StateDirError`].
    pub fn note_pid(&self, name: &str, text: &str) -> Result<(), StateDirError> {
        let path = self.0.join("run").join(format!("{name}.pid"));
        write_whole(&path, format!("{text}\n").as_bytes(), 0o644)
    }

    /// Forgets it.
    pub fn forget_pid(&self, name: &str) {
        let path = self.0.join("run").join(format!("{name}.pid"));
        if let Err(error) = fs::remove_file(&path) {
            tracing::debug!(%error, path = %path.display(), "a pid file was not removed");
        }
    }
}

/// Whole or not at all: written beside, flushed, renamed.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StateDirError> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let part = path.with_extension("part");
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(|source| StateDirError { attempted: "write", path: path.to_owned(), source })
}
