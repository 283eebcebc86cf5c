//! What a recovery point holds, read from its files while the agent goes on, without starting anything.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use recovery::PointId;
use rustix::fs::{SeekFrom, seek};
use serde_json::Value;

const RECORD_BYTES: usize = 64;
/// Number, clock and name, each followed by a blank.
const CHECKED_BYTES: usize = 48;

/// A replica's points and their files, as its journal has them now. A point that is being pruned is not among them.
fn files(dir: &Path) -> Vec<(PointId, String)> {
    let names = fs::read_dir(dir).expect("the replica has a directory").filter_map(|e| e.ok()?.file_name().into_string().ok());
    let mut journals: Vec<String> = names.filter(|n| n.starts_with("journal-w") && n.ends_with(".jsonl")).collect();
    journals.sort_by_key(|name| name.len());
    let Some(journal) = journals.pop() else { return vec![] };
    let text = fs::read_to_string(dir.join(journal)).unwrap_or_default();
    let stored = |stored: &Value| Some((PointId(stored["point"]["id"].as_u64()?), stored["files"]["vda"].as_str()?.to_owned()));
    let (mut points, mut pruning) = (vec![], None);
    for record in text.lines().filter_map(|line| serde_json::from_str::<Value>(line.get(9..)?).ok()) {
        let of = record["point"].as_u64().map(PointId);
        match record["record"].as_str() {
            Some("opened") => points = record["state"]["points"].as_array().into_iter().flatten().filter_map(stored).collect(),
            Some("point") => points.extend(stored(&record["stored"])),
            Some("pruning") => pruning = of,
            Some("pruned") => {
                pruning = None;
                if let Some(at) = points.iter().position(|(id, _)| Some(*id) == of) {
                    let (_, file) = points.remove(at);
                    if let Some(above) = points.get_mut(at) {
                        above.1 = file;
                    }
                }
            }
            Some(_) | None => {}
        }
    }
    points.retain(|(id, _)| Some(*id) != pruning);
    points
}

fn file_of(dir: &Path, point: PointId) -> Option<PathBuf> {
    files(dir).into_iter().find(|(id, _)| *id == point).map(|(_, file)| dir.join(file))
}

/// How many records of a guest's ledger a point holds; `None` if the point was pruned before it was read.
///
/// # Panics
/// They are not whole: one is missing below another.
pub fn records(dir: &Path, point: PointId, guest: &str, scratch: &Path) -> Option<u64> {
    loop {
        let file = file_of(dir, point)?;
        let copied = Command::new("qemu-img").args(["convert", "-U", "-O", "raw"]).args([&file, scratch]).output();
        let copied = copied.expect("qemu-img can be started").status.success();
        // Neighbours that were pruned meanwhile have moved it, or it has gone itself.
        if file_of(dir, point)? == file && copied {
            break;
        }
    }
    let numbers = numbers(scratch, guest);
    let count = numbers.len() as u64;
    assert_eq!(numbers.last().copied().unwrap_or(0), count, "point {point} of {guest} has a hole");
    Some(count)
}

/// The numbers of all whole records in a raw image.
fn numbers(image: &Path, guest: &str) -> BTreeSet<u64> {
    let file = File::open(image).expect("the copy can be opened");
    let (mut numbers, mut at) = (BTreeSet::new(), 0);
    while let Ok(begin) = seek(&file, SeekFrom::Data(at)) {
        at = seek(&file, SeekFrom::Hole(begin)).expect("what begins ends");
        let mut content = vec![0; usize::try_from(at - begin).expect("it fits into memory")];
        file.read_exact_at(&mut content, begin).expect("the copy can be read");
        numbers.extend(content.chunks_exact(RECORD_BYTES).filter_map(|record| number(record, guest)));
    }
    numbers
}

fn number(record: &[u8], guest: &str) -> Option<u64> {
    let text = std::str::from_utf8(record).ok()?;
    let number = text.get(..12)?.parse().ok()?;
    let checksum = text[..CHECKED_BYTES].bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let whole = text.get(27..47)?.trim_end() == guest && u32::from_str_radix(text.get(CHECKED_BYTES..CHECKED_BYTES + 8)?, 16) == Ok(checksum);
    whole.then_some(number)
}
