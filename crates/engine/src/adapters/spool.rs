//! A witness's notes in a file: one JSON line a note, flushed before it counts, written anew when most of it is out of date.
//!
//! ```text
//!   {"v":1,"witness":"…"}          who this is; the file outlives the process
//!   {"at":1764000000,"note":"run",…}
//! ```
//!
//! Invariants: 1. [`Spool::note`] returns when its lines are on the disk. 2. A line that was torn by a crash was never counted; a file that can't
//! be read at all is set aside and told, and nobody stays away for want of it. 3. One process
//! at a time. 4. Notes live for a day, and there are at most so many: a store further behind than a day is brought back by people, who know it.

#![expect(clippy::disallowed_methods, reason = "this is an adapter")]

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::witness::{Book, EffectNote, NotNoted, Note, RunNote, Testimony, Witness};

/// A message or outcome larger than this is not noted whole: the file is for many small ones.
const BODY_BYTES: usize = 64 << 10;
/// Lines that are out of date before the file is written anew.
const STALE_LINES: usize = 10_000;
/// A process of some hundred megabytes that was killed is gone by then, also on a machine that is busy.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Serialize, Deserialize)]
struct Head {
    v: u8,
    witness: Uuid,
}

#[derive(Serialize, Deserialize)]
struct Line {
    at: u64,
    body: Note,
}

struct Inner {
    file: File,
    lines: usize,
    book: Book,
}

/// A file of notes.
pub struct Spool {
    path: PathBuf,
    witness: Uuid,
    inner: Mutex<Inner>,
    _lock: File,
}

impl Spool {
    /// Opens a file of notes, or makes it for a witness `fresh`. One that is damaged is set aside, beside where it was.
    ///
    /// # Errors
    /// The file can't be used, another process has it, or a newer build has written it.
    pub fn open(path: &Path, fresh: Uuid) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let lock = File::options().create(true).truncate(false).write(true).open(path.with_extension("lock"))?;
        lock_soon(&lock).map_err(|error| io::Error::new(error.kind(), format!("another process writes {}", path.display())))?;
        let (witness, notes) = match read(path)? {
            Found::Notes(witness, notes) => (witness, notes),
            Found::Nothing => (fresh, vec![]),
            Found::Damaged => {
                set_aside(path)?;
                (fresh, vec![])
            }
        };
        let file = File::options().create(true).append(true).open(path)?;
        let mut inner = Inner { file, lines: notes.len(), book: Book::default() };
        for Line { at, body } in notes {
            inner.book.keep(at, body);
        }
        inner.write_anew(path, witness)?;
        Ok(Self { path: path.to_owned(), witness, inner: Mutex::new(inner), _lock: lock })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Witness for Spool {
    fn id(&self) -> Uuid {
        self.witness
    }

    fn testimonies(&self) -> u64 {
        self.inner().book.testimonies()
    }

    fn note(&self, since: u64, notes: &[Note]) -> Result<(), NotNoted> {
        if notes.is_empty() {
            return Ok(());
        }
        let at = now_s();
        let mut inner = self.inner();
        if inner.book.testimonies() != since {
            return Err(NotNoted::Late);
        }
        let mut text = String::new();
        for note in notes {
            let note = short(note.clone());
            text += &serde_json::to_string(&Line { at, body: note.clone() }).map_err(io::Error::from)?;
            text.push('\n');
            inner.book.keep(at, note);
        }
        inner.lines += notes.len();
        inner.file.write_all(text.as_bytes())?;
        inner.file.sync_data()?;
        inner.book.forget(at);
        if inner.lines > inner.book.len() + STALE_LINES {
            inner.write_anew(&self.path, self.witness)?;
        }
        Ok(())
    }

    fn testimony(&self) -> Vec<Testimony> {
        let mut inner = self.inner();
        inner.book.forget(now_s());
        inner.book.tell()
    }
}

impl Inner {
    /// Whole or not at all: written beside, flushed, renamed.
    fn write_anew(&mut self, path: &Path, witness: Uuid) -> io::Result<()> {
        let part = path.with_extension("part");
        let mut file = File::create(&part)?;
        let mut text = serde_json::to_string(&Head { v: 1, witness })?;
        text.push('\n');
        for (at, note) in self.book.notes() {
            text += &serde_json::to_string(&Line { at, body: note.clone() })?;
            text.push('\n');
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, path)?;
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        self.file = File::options().append(true).open(path)?;
        self.lines = self.book.len();
        Ok(())
    }
}

/// Without what is too large: then a run that is lost can only be told, and an effect is in doubt.
fn short(note: Note) -> Note {
    let large = |bytes: Result<Vec<u8>, serde_json::Error>| bytes.is_ok_and(|bytes| bytes.len() > BODY_BYTES);
    match note {
        Note::Run(note) if note.start.as_ref().is_some_and(|start| large(serde_json::to_vec(start))) => Note::Run(RunNote { start: None, ..note }),
        Note::Effect(note) if note.outcome.as_ref().is_some_and(|outcome| large(serde_json::to_vec(outcome))) => {
            Note::Effect(EffectNote { outcome: None, ..note })
        }
        note @ (Note::Run(_) | Note::Message(_) | Note::Effect(_)) => note,
    }
}

/// Locks a file for this process. Whoever was killed holds its locks until the system has taken it away: for that it is waited.
///
/// # Errors
/// Another process holds it and goes on.
pub fn lock_soon(file: &File) -> io::Result<()> {
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => std::thread::park_timeout(Duration::from_millis(50)),
            locked => return Ok(locked?),
        }
    }
}

/// What a file holds.
enum Found {
    /// There is none, or none that was ever finished.
    Nothing,
    Notes(Uuid, Vec<Line>),
    /// Whose it was can't be read.
    Damaged,
}

/// Notes that are lost are told: what they alone knew of is not found, should the database lose its last commits.
fn set_aside(path: &Path) -> io::Result<()> {
    let aside = path.with_extension(format!("damaged-{}", now_s()));
    fs::rename(path, &aside)?;
    tracing::error!(
        file = %path.display(), aside = %aside.display(),
        "the file of notes is damaged and was set aside; should the database have lost its last commits, what this file alone knew of is not found"
    );
    Ok(())
}

fn read(path: &Path) -> io::Result<Found> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        file => file?,
    };
    let mut lines = BufReader::new(file).split(b'\n');
    let Some(first) = lines.next() else { return Ok(Found::Nothing) };
    let Ok(head) = serde_json::from_slice::<Head>(&first?) else { return Ok(Found::Damaged) };
    if head.v != 1 {
        return Err(io::Error::other(format!("{} was written by a newer build (version {})", path.display(), head.v)));
    }
    let (mut notes, mut unread) = (Vec::new(), 0_usize);
    for line in lines {
        match serde_json::from_slice(&line?) {
            Ok(note) => notes.push(note),
            Err(_) => unread += 1,
        }
    }
    // One may be torn by a crash: nobody was told that it is kept.
    if unread > 1 {
        tracing::error!(file = %path.display(), lines = unread, "lines of the file of notes are damaged; what they alone knew of is not told");
    }
    Ok(Found::Notes(head.witness, notes))
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use sdk::RunId;

    use super::*;

    fn head(run: u64, seq: i32) -> Note {
        Note::Run(RunNote { run: RunId(Uuid::from_u64_pair(1, run)), seq, hash: Some(format!("{seq:02x}")), start: None, child_of: None })
    }

    fn place() -> PathBuf {
        std::env::temp_dir().join(format!("spool-{}", Uuid::now_v7())).join("a.jsonl")
    }

    #[test]
    fn notes_outlive_the_process_and_a_torn_line_is_none() {
        let (path, id) = (place(), Uuid::from_u64_pair(9, 9));
        let spool = Spool::open(&path, id).unwrap();
        spool.note(0, &[head(1, 3), head(2, 0), head(1, 5)]).unwrap();
        let said = spool.testimony();
        drop(spool);
        File::options().append(true).open(&path).unwrap().write_all(b"{\"at\":1,\"body\":{\"note\"").unwrap();
        let again = Spool::open(&path, Uuid::nil()).unwrap();
        assert_eq!((again.id(), again.testimony()), (id, said.clone()));
        let runs: Vec<i32> = said[0].runs.iter().map(|note| note.seq).collect();
        assert_eq!(runs, [5, 0], "of a run the newest head");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_damaged_lines_are_left_out() {
        let (path, id) = (place(), Uuid::from_u64_pair(9, 9));
        Spool::open(&path, id).unwrap().note(0, &[head(1, 3)]).unwrap();
        File::options().append(true).open(&path).unwrap().write_all(b"nonsense\n\xff\xfe\n").unwrap();
        let again = Spool::open(&path, Uuid::nil()).unwrap();
        assert_eq!((again.id(), again.testimony()[0].runs.len()), (id, 1));
        drop(again);
        for nonsense in [b"nonsense\n".as_slice(), b"\xff\xfe\n", b"\n"] {
            fs::write(&path, nonsense).unwrap();
            let fresh = Spool::open(&path, Uuid::nil()).unwrap();
            assert_eq!((fresh.id(), fresh.testimony()[0].len()), (Uuid::nil(), 0));
            let aside = fs::read_dir(path.parent().unwrap()).unwrap().flatten().find(|entry| entry.file_name().to_string_lossy().contains("damaged"));
            let aside = aside.unwrap().path();
            assert_eq!(fs::read(&aside).unwrap(), nonsense, "it can be looked at");
            fs::remove_file(aside).unwrap();
        }
        fs::write(&path, b"{\"v\":2,\"witness\":\"00000000-0000-0000-0000-000000000000\"}\n").unwrap();
        assert!(Spool::open(&path, id).is_err_and(|error| error.to_string().contains("newer build")));
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn two_processes_do_not_write_one_file() {
        let path = place();
        let _held = Spool::open(&path, Uuid::nil()).unwrap();
        assert!(Spool::open(&path, Uuid::nil()).is_err());
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn what_was_asked_for_before_a_testimony_and_heard_after_it_is_not_noted() {
        let path = place();
        let spool = Spool::open(&path, Uuid::nil()).unwrap();
        let asked = spool.testimonies();
        assert!(spool.testimony()[0].is_empty());
        assert!(matches!(spool.note(asked, &[head(1, 0)]), Err(NotNoted::Late)));
        spool.note(spool.testimonies(), &[head(2, 0)]).unwrap();
        assert_eq!(spool.testimony()[0].runs.iter().map(|note| note.run).collect::<Vec<_>>(), [RunId(Uuid::from_u64_pair(1, 2))]);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
