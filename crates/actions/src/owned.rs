//! Files that nobody but their owner may write, and secrets that nobody but their owner may read.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use provider::ActionError;
use recovery::SecretName;

use crate::lacks;

/// Longest secret: a private key of OpenSSH has a few thousand bytes.
const MOST_SECRET: u64 = 65_536;
/// Longest configuration.
const MOST_CONFIGURATION: u64 = 1 << 20;

/// A secret; it is never told.
pub(crate) struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// Without the end of its last line.
    pub(crate) fn text(&self) -> &str {
        self.0.trim_end_matches(['\n', '\r'])
    }
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotOwned {
    #[error("there is no {}", .0.display())]
    Missing(PathBuf),
    #[error("{} can't be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is no plain file", .0.display())]
    NoFile(PathBuf),
    #[error("{} has {bytes} bytes, more than the {limit} that are read", path.display())]
    TooLong { path: PathBuf, bytes: u64, limit: u64 },
    #[error("{} belongs to user {owner}, neither to root nor to the user {ours} of this agent", path.display())]
    Foreign { path: PathBuf, owner: u32, ours: u32 },
    #[error("{} has the mode {mode:03o}: others than its owner can {may} it", path.display())]
    Open { path: PathBuf, mode: u32, may: &'static str },
    #[error("{} is no text", .0.display())]
    NoText(PathBuf),
}

impl NotOwned {
    pub(crate) fn advice(&self) -> String {
        match self {
            Self::Missing(path) => format!("put it there: `install -m 600 /dev/stdin {}`", path.display()),
            Self::Open { path, may, .. } if *may == "write" => format!("`chmod go-w {}`", path.display()),
            Self::Open { path, .. } => format!("`chmod 600 {}`", path.display()),
            Self::Foreign { path, .. } => format!("`chown root {}`", path.display()),
            Self::Unreadable { .. } | Self::NoFile(_) | Self::TooLong { .. } | Self::NoText(_) => "put a plain text file there".to_owned(),
        }
    }
}

impl From<NotOwned> for ActionError {
    fn from(why: NotOwned) -> Self {
        lacks(why.to_string(), why.advice())
    }
}

/// Where a secret is.
pub(crate) fn path_of(dir: &Path, name: &SecretName) -> PathBuf {
    dir.join("secrets").join(name.as_str())
}

/// A secret by its name.
pub(crate) fn secret(dir: &Path, name: &SecretName) -> Result<Secret, NotOwned> {
    read(&path_of(dir, name), 0o077, "read or write", MOST_SECRET).map(Secret)
}

/// A configuration that others may read.
pub(crate) fn configuration(path: &Path) -> Result<String, NotOwned> {
    read(path, 0o022, "write", MOST_CONFIGURATION)
}

/// Opens first and looks at what was opened, so that nothing is exchanged in between.
fn read(path: &Path, closed_to_others: u32, may: &'static str, limit: u64) -> Result<String, NotOwned> {
    let unreadable = |source: io::Error| {
        let missing = source.kind() == io::ErrorKind::NotFound;
        if missing { NotOwned::Missing(path.to_owned()) } else { NotOwned::Unreadable { path: path.to_owned(), source } }
    };
    let file = fs::File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(NotOwned::NoFile(path.to_owned()));
    }
    owner(path, &metadata)?;
    let mode = metadata.mode() & 0o777;
    if mode & closed_to_others != 0 {
        return Err(NotOwned::Open { path: path.to_owned(), mode, may });
    }
    if metadata.len() > limit {
        return Err(NotOwned::TooLong { path: path.to_owned(), bytes: metadata.len(), limit });
    }
    let mut bytes = vec![];
    file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|_no_text| NotOwned::NoText(path.to_owned()))
}

/// Root's, or ours.
pub(crate) fn owner(path: &Path, metadata: &fs::Metadata) -> Result<(), NotOwned> {
    let ours = rustix::process::geteuid().as_raw();
    if metadata.uid() == 0 || metadata.uid() == ours {
        return Ok(());
    }
    Err(NotOwned::Foreign { path: path.to_owned(), owner: metadata.uid(), ours })
}
