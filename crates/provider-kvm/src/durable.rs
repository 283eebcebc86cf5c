//! Files that are still there after a power failure, whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use provider::{Applied, ProviderError};

/// Names what was attempted on which path.
pub(crate) fn failed<'a>(operation: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> ProviderError + 'a {
    move |error| ProviderError::Storage {
        operation: operation.to_owned(),
        path: path.display().to_string(),
        detail: error.to_string(),
        applied: Applied::Unknown,
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes a file's content durable.
pub(crate) fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a directory and its parents, durably.
pub(crate) fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        make_dir(parent)?;
    }
    match fs::create_dir(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    dir.parent().map_or(Ok(()), sync_dir)
}

/// Replaces a file by `content`: aside, synced, renamed, directory synced.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&aside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Makes an empty file of that name, durably. Returns whether it is new.
pub(crate) fn mark(path: &Path) -> io::Result<bool> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => {
            file.sync_all()?;
            path.parent().map_or(Ok(()), sync_dir)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a file. Returns whether it was there. The directory is to be synced by the caller.
pub(crate) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What tells whether a file was written since: its size, and when it was written last.
pub(crate) fn stamp(path: &Path) -> io::Result<String> {
    use std::os::unix::fs::MetadataExt;
    let about = fs::metadata(path)?;
    Ok(format!("{} bytes at {}.{:09}", about.len(), about.mtime(), about.mtime_nsec()))
}

/// Names in a directory, sorted; none if it does not exist. Names that are not UTF-8 are not ours.
pub(crate) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error),
    };
    let mut names = vec![];
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_has_the_new_content_and_nothing_is_left_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(dir.path()).unwrap(), ["a.json"]);
    }

    #[test]
    fn a_mark_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e1");
        assert!(mark(&path).unwrap());
        assert!(!mark(&path).unwrap());
        assert!(remove(&path).unwrap());
        assert!(!remove(&path).unwrap());
    }
}
