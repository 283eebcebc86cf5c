//! The journal's file: one line a record, `CRC32 JSON`, synced before anybody is told.
//!
//! A line that is cut or wrong at the very end was never acknowledged and is dropped. One that is wrong before a right one is
//! damage, and nothing is guessed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use provider::ProviderError;
use recovery::ItemName;

use super::record::{Record, State};
use crate::durable::{self, failed};

const VERSION: u32 = 1;

/// The journal in force, open for appending.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    broken: bool,
}

/// Which journal file this is: the writer that made it, and its how manieth.
fn number(name: &str) -> Option<(i64, u64)> {
    let (writer, count) = name.strip_prefix("journal-w")?.strip_suffix(".jsonl")?.split_once('.')?;
    Some((writer.parse().ok()?, count.parse().ok()?))
}

/// Names of journal files in a directory, the one in force last.
fn journals(dir: &Path) -> Result<Vec<String>, ProviderError> {
    let names = durable::names(dir).map_err(failed("list", dir))?;
    let mut journals: Vec<String> = names.into_iter().filter(|n| number(n).is_some()).collect();
    journals.sort_by_key(|n| number(n));
    Ok(journals)
}

/// Reads the state that the journal in force describes.
pub(super) fn read(item: &ItemName, dir: &Path) -> Result<Option<State>, ProviderError> {
    let Some(name) = journals(dir)?.pop() else { return Ok(None) };
    let path = dir.join(name);
    let content = fs::read(&path).map_err(failed("read", &path))?;
    let records = parse(&content).map_err(|detail| ProviderError::Damaged {
        item: item.clone(),
        detail: format!("{}: {detail}", path.display()),
    })?;
    Ok(records.into_iter().fold(None, State::after))
}

fn parse(content: &[u8]) -> Result<Vec<Record>, String> {
    let mut records = vec![];
    let mut wrong = None;
    for (i, line) in content.split_inclusive(|b| *b == b'\n').enumerate() {
        let read = read_line(line);
        if let Some(earlier) = wrong {
            if read.is_some() {
                return Err(format!("line {earlier} is wrong and a later one is right"));
            }
            continue;
        }
        match read {
            Some(Record::Opened { version, .. }) if version > VERSION => return Err(format!("it has version {version}, this agent reads {VERSION}")),
            Some(record) => records.push(record),
            None => wrong = Some(i + 1),
        }
    }
    if records.is_empty() {
        return Err("its first line can't be read".to_owned());
    }
    Ok(records)
}

fn read_line(line: &[u8]) -> Option<Record> {
    let line = line.strip_suffix(b"\n")?;
    let (crc, json) = (line.get(..8)?, line.get(9..)?);
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?, 16).ok()?;
    (crc32fast::hash(json) == crc).then(|| serde_json::from_slice(json).ok())?
}

fn line(record: &Record) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(record)?;
    Ok(format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())).into_bytes())
}

impl Journal {
    /// Begins a journal of this writer that holds `state`, and removes the ones before it.
    pub(super) fn begin(dir: &Path, writer: i64, state: Option<&State>) -> Result<Self, ProviderError> {
        let older = journals(dir)?;
        let count = older.iter().filter_map(|n| number(n)).filter(|(w, _)| *w == writer).map(|(_, c)| c + 1).max();
        let path = dir.join(format!("journal-w{writer}.{}.jsonl", count.unwrap_or(0)));
        let first = line(&Record::Opened { version: VERSION, state: state.cloned().map(Box::new) }).map_err(failed("write", &path))?;
        durable::write(&path, &first).map_err(failed("write", &path))?;
        let file = OpenOptions::new().append(true).open(&path).map_err(failed("open", &path))?;
        for name in older.iter().filter(|n| number(n) < number(&file_name(&path))) {
            let path = dir.join(name);
            durable::remove(&path).map_err(failed("remove", &path))?;
        }
        Ok(Self { path, file, broken: false })
    }

    /// Adds a record. When this returns, it is true. After a failure nothing more is added: what a failed sync has left on disk
    /// is not known until the journal is read again.
    pub(super) fn add(&mut self, record: &Record) -> Result<(), ProviderError> {
        if self.broken {
            return Err(failed("append to", &self.path)(io::Error::other("an earlier append failed; the agent must be restarted")));
        }
        let line = line(record).map_err(failed("append to", &self.path))?;
        self.broken = true;
        self.file.write_all(&line).and_then(|()| self.file.sync_data()).map_err(failed("append to", &self.path))?;
        self.broken = false;
        Ok(())
    }

    /// Removes all journals of a directory: the replica is no more.
    pub(super) fn remove_all(dir: &Path) -> Result<(), ProviderError> {
        // The one in force goes last, so that an older one never comes into force.
        for name in journals(dir)? {
            let path = dir.join(name);
            durable::remove(&path).map_err(failed("remove", &path))?;
        }
        durable::sync_dir(dir).map_err(failed("sync", dir))
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    fn item() -> ItemName {
        "vm".parse().unwrap()
    }

    #[test]
    fn a_cut_last_line_is_dropped_and_a_wrong_earlier_one_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::begin(dir.path(), 3, None).unwrap();
        for _ in 0..2 {
            journal.add(&Record::Withdrawn).unwrap();
        }
        let whole = fs::read(&journal.path).unwrap();
        assert_eq!(parse(&whole).unwrap().len(), 3);
        let last = whole.split_inclusive(|b| *b == b'\n').next_back().unwrap().len();
        for cut in 1..last {
            assert_eq!(parse(&whole[..whole.len() - cut]).unwrap().len(), 2, "cut {cut}");
        }
        let second = whole.iter().position(|b| *b == b'\n').unwrap() + 12;
        let mut flipped = whole.clone();
        flipped[second] ^= 1;
        fs::write(&journal.path, flipped).unwrap();
        assert!(matches!(read(&item(), dir.path()), Err(ProviderError::Damaged { .. })));
    }

    #[test]
    fn a_late_writers_records_are_not_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let mut early = Journal::begin(dir.path(), 3, None).unwrap();
        let _late = Journal::begin(dir.path(), 4, None).unwrap();
        early.add(&Record::Withdrawn).unwrap();
        assert_eq!(journals(dir.path()).unwrap(), ["journal-w4.0.jsonl"]);
        assert_eq!(read(&item(), dir.path()), Ok(None));
    }
}
