//! `anchors.jsonl`: a line for each run, and older ones in `anchors.1.jsonl` and so on.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use api::evidence::Anchor;
use sdk::RunId;

/// When a file is put aside and the next begun: some 60,000 runs, which an editor still opens.
pub(super) const LARGEST_BYTES: u64 = 16 << 20;
/// Files that are kept: together a quarter of a million runs, decades of an installation; what is known of them fits in memory.
const FILES: u32 = 4;

/// Heads that were noted, and the file that the next ones go to.
#[derive(Debug)]
pub(crate) struct Anchors {
    dir: PathBuf,
    file: File,
    bytes: u64,
    largest_bytes: u64,
    noted: BTreeMap<RunId, (u64, String)>,
    alarm: Option<String>,
}

impl Anchors {
    /// Reads what was noted. What a crash has torn at the end of the file is taken off.
    pub(super) fn open(dir: &Path, largest_bytes: u64) -> Result<Self> {
        let (mut noted, mut alarm) = (BTreeMap::new(), None);
        for number in (0..FILES).rev() {
            let path = path(dir, number);
            let text = match fs::read(&path) {
                Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
            };
            for (at, line) in text.split_inclusive('\n').enumerate().filter(|(_, line)| line.ends_with('\n')) {
                match read(line) {
                    Ok(anchor) => drop(noted.entry(anchor.run).or_insert((anchor.events, anchor.head))),
                    Err(why) => {
                        alarm = Some(format!("line {} of {} can't be read ({why}): what it had noted is not compared any more", at + 1, path.display()));
                    }
                }
            }
        }
        let (file, bytes) = opened(&path(dir, 0))?;
        if let Some(alarm) = &alarm {
            tracing::error!(alarm, "the noted heads of ended runs are damaged");
        }
        Ok(Self { dir: dir.to_owned(), file, bytes, largest_bytes, noted, alarm })
    }

    /// Runs that are noted.
    pub(super) fn count(&self) -> u64 {
        self.noted.len() as u64
    }

    /// What is wrong, if anything ever was.
    pub(super) fn alarm(&self) -> Option<&str> {
        self.alarm.as_deref()
    }

    /// Notes those that are new; looks whether the others are as they were noted.
    pub(super) fn note(&mut self, heads: Vec<Anchor>) -> Result<()> {
        let mut lines = Vec::new();
        for head in heads {
            match self.noted.get(&head.run) {
                Some((events, noted)) if *events == head.events && *noted == head.head => {}
                Some((events, noted)) => {
                    let Anchor { run, workflow, workflow_id, events: told, head, .. } = head;
                    let alarm = format!(
                        "run {run} ({workflow} of {workflow_id}) was noted with {events} events ending in {noted}, and is told now with {told} events \
                         ending in {head}: its history was written anew"
                    );
                    tracing::error!(alarm, "a history is not what it was");
                    self.alarm = Some(alarm);
                }
                None => {
                    lines.extend(serde_json::to_vec(&head)?);
                    lines.push(b'\n');
                    self.noted.insert(head.run, (head.events, head.head));
                }
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        let written = self.append(&lines);
        if written.is_err() {
            // What is not on the disk is not noted; all of it is read again and told again.
            *self = Self { alarm: self.alarm.take(), ..Self::open(&self.dir, self.largest_bytes)? };
        }
        written.with_context(|| format!("writing {}", path(&self.dir, 0).display()))
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + lines.len() as u64 > self.largest_bytes {
            self.put_aside()?;
        }
        self.file.write_all(lines)?;
        self.file.sync_data()?;
        self.bytes += lines.len() as u64;
        Ok(())
    }

    /// The oldest file goes; what it held is known until this process ends.
    fn put_aside(&mut self) -> io::Result<()> {
        for number in (0..FILES - 1).rev() {
            match fs::rename(path(&self.dir, number), path(&self.dir, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        (self.file, self.bytes) = opened(&path(&self.dir, 0))?;
        File::open(&self.dir)?.sync_all()
    }
}

/// Prints all that is noted in a directory, the oldest first.
pub(crate) fn print(dir: &Path, mut out: impl Write) -> Result<()> {
    for number in (0..FILES).rev() {
        match File::open(path(dir, number)) {
            Ok(mut file) => drop(io::copy(&mut file, &mut out).context("printing anchors")?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("reading {}", path(dir, number).display())),
        }
    }
    Ok(())
}

fn path(dir: &Path, number: u32) -> PathBuf {
    if number == 0 { dir.join("anchors.jsonl") } else { dir.join(format!("anchors.{number}.jsonl")) }
}

fn read(line: &str) -> Result<Anchor, String> {
    let anchor: Anchor = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if anchor.v > Anchor::VERSION {
        return Err(format!("it is of format {}, this build reads {}", anchor.v, Anchor::VERSION));
    }
    Ok(anchor)
}

/// For appending, behind the last whole line.
fn opened(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(path)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1) as u64;
    if whole < text.len() as u64 {
        tracing::warn!(path = %path.display(), bytes = text.len() as u64 - whole, "a line that a crash had torn is taken off");
        file.set_len(whole)?;
        file.sync_all()?;
    }
    file.seek(SeekFrom::Start(whole))?;
    Ok((file, whole))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    fn head(number: u64, events: u64) -> Anchor {
        Anchor {
            v: Anchor::VERSION,
            run: RunId(uuid::Uuid::from_u64_pair(0, number)),
            workflow: "failover".into(),
            workflow_id: "item:db9".into(),
            closed_at: chrono::DateTime::UNIX_EPOCH,
            events,
            head: format!("{number:064x}"),
        }
    }

    fn lines(dir: &Path) -> Vec<Anchor> {
        let mut printed = Vec::new();
        print(dir, &mut printed).unwrap();
        String::from_utf8(printed).unwrap().lines().map(|line| read(line).unwrap()).collect()
    }

    #[test]
    fn a_run_is_noted_once_and_stays_as_it_was_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut anchors = Anchors::open(dir.path(), LARGEST_BYTES).unwrap();
        anchors.note(vec![head(1, 5), head(2, 6), head(1, 5)]).unwrap();
        assert_eq!((anchors.count(), anchors.alarm()), (2, None));
        anchors.note(vec![head(2, 7)]).unwrap();
        assert!(anchors.alarm().unwrap().contains("was written anew"), "{:?}", anchors.alarm());
        assert_eq!(lines(dir.path()), [head(1, 5), head(2, 6)]);
        let again = Anchors::open(dir.path(), LARGEST_BYTES).unwrap();
        assert_eq!((again.count(), again.alarm()), (2, None));
    }

    #[test]
    fn a_torn_line_is_taken_off_and_a_damaged_one_is_an_alarm() {
        let dir = tempfile::tempdir().unwrap();
        Anchors::open(dir.path(), LARGEST_BYTES).unwrap().note(vec![head(1, 5), head(2, 6)]).unwrap();
        let path = path(dir.path(), 0);
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        let mut anchors = Anchors::open(dir.path(), LARGEST_BYTES).unwrap();
        assert_eq!((anchors.count(), anchors.alarm()), (1, None));
        anchors.note(vec![head(2, 6)]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), whole);
        fs::write(&path, whole.replacen('{', "x", 1)).unwrap();
        let damaged = Anchors::open(dir.path(), LARGEST_BYTES).unwrap();
        assert!(damaged.alarm().unwrap().starts_with("line 1 of"), "{:?}", damaged.alarm());
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut anchors = Anchors::open(dir.path(), 500).unwrap();
        for number in 1..=12 {
            anchors.note(vec![head(number, 1)]).unwrap();
        }
        let kept: Vec<RunId> = lines(dir.path()).into_iter().map(|anchor| anchor.run).collect();
        assert_eq!(kept.len(), 8, "four files of two lines");
        assert_eq!(kept, (5..=12).map(|number| head(number, 1).run).collect::<Vec<_>>());
    }
}
