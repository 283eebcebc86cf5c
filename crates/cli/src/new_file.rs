//! A file that is written whole or not at all, and never over another one.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, Result, bail};

/// Writes a new file. It appears under its name when all of it is on the disk.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let part = dir.join(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
    let written = whole(&part, bytes).and_then(|()| fs::hard_link(&part, path)).and_then(|()| fs::File::open(dir)?.sync_all());
    if let Err(error) = fs::remove_file(&part) {
        tracing::debug!(%error, path = %part.display(), "a partial file was not removed");
    }
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{} exists and is left as it is; name another file, or remove it first", path.display())
        }
        written => written.with_context(|| format!("writing {}", path.display())),
    }
}

fn whole(part: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(part)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_whole_and_never_over_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write(&path, b"first").unwrap();
        let refused = write(&path, b"second").unwrap_err().to_string();
        assert!(refused.contains("exists and is left as it is"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing partial is left");
        assert!(write(&dir.path().join("none/a.json"), b"").is_err());
    }
}
