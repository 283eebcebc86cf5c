//! Dirty bitmaps in qcow2 files: which blocks were written since a mark, of a disk that nothing has open.
//!
//! QEMU flags a bitmap as in use while it has the file open for writing and takes the flag away when it closes it; a program
//! that knows nothing of bitmaps makes all of them invalid by the file's own feature bits. So a bitmap without that flag is
//! whole.
//!
//! Invariants: 1. A mark is believed only if every bitmap of the file is whole and at least one still counts. 2. A mark that
//! still counts has everything since it was made. 3. One that does not was succeeded: then all others count too, except those of
//! failovers that do not count any more, which were succeeded before it. Too much is sent then, never too little.

use std::path::Path;

use provider::ProviderError;
use serde::Deserialize;

use super::{Access, Served, image};
use crate::blocks::Runs;

const DIRTY: u32 = 1;
/// Begins the names of checkpoints from which a failed-over machine's writes are counted.
pub(crate) const FAILOVER_PREFIX: &str = "fo-";

/// A qcow2 file as `qemu-img info` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) capacity_bytes: u64,
    pub(crate) bitmaps: Vec<Bitmap>,
}

/// A dirty bitmap in a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Bitmap {
    pub(crate) name: String,
    #[serde(default)]
    flags: Vec<String>,
}

impl Bitmap {
    fn flagged(&self, flag: &str) -> bool {
        self.flags.iter().any(|f| f == flag)
    }

    fn counts(&self) -> bool {
        self.flagged("auto")
    }
}

impl Described {
    /// Marks from which changes are known.
    pub(crate) fn marks(&self) -> Vec<String> {
        let whole = self.bitmaps.iter().all(|b| !b.flagged("in-use"));
        let counted = self.bitmaps.iter().any(Bitmap::counts);
        if whole && counted { self.bitmaps.iter().map(|b| b.name.clone()).collect() } else { vec![] }
    }

    /// Names of the bitmaps that together have everything since `mark`; `None` if that is not known.
    fn since(&self, mark: &str) -> Option<Vec<&str>> {
        self.marks().iter().any(|m| m == mark).then_some(())?;
        let own = self.bitmaps.iter().find(|b| b.name == mark)?;
        if own.counts() {
            return Some(vec![&own.name]);
        }
        let later = self.bitmaps.iter().filter(|b| b.name == mark || b.counts() || !b.name.starts_with(FAILOVER_PREFIX));
        Some(later.map(|b| b.name.as_str()).collect())
    }
}

/// Describes a file that nothing has open for writing.
pub(crate) fn describe(path: &Path) -> Result<Described, ProviderError> {
    let image = image::at_rest(path)?;
    Ok(Described { capacity_bytes: image.virtual_size, bitmaps: image.bitmaps() })
}

/// The blocks of a disk that were written since `mark`; `None` if that is not known.
pub(crate) fn written_since(run_dir: &Path, path: &Path, mark: &str) -> Result<Option<Runs>, ProviderError> {
    let described = describe(path)?;
    let Some(names) = described.since(mark) else { return Ok(None) };
    let mut written = Runs::default();
    for name in names {
        let mut served = Served::open(run_dir, path, Access::Read, Some(name))?;
        let extents = served.client()?.extents();
        let extents = extents.map_err(|e| served.error(&e))?;
        let dirty = extents.iter().filter(|e| e.flags & DIRTY != 0).map(|e| (e.offset, e.length));
        written = written.and(&Runs::touched(dirty));
        served.close()?;
    }
    Ok(Some(written))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bitmaps: &[(&str, &[&str])]) -> Described {
        let bitmap = |(name, flags): &(&str, &[&str])| Bitmap {
            name: (*name).to_owned(),
            flags: flags.iter().map(|f| (*f).to_owned()).collect(),
        };
        Described { capacity_bytes: 0, bitmaps: bitmaps.iter().map(bitmap).collect() }
    }

    #[test]
    fn a_mark_that_still_counts_is_enough() {
        let file = file(&[("fo-e1-g2", &["auto"]), ("sb.a", &["auto"]), ("sb.b", &["auto"])]);
        assert_eq!(file.since("sb.a"), Some(vec!["sb.a"]));
        assert_eq!(file.since("sb.gone"), None);
    }

    #[test]
    fn a_mark_that_was_succeeded_needs_its_successors() {
        let file = file(&[("fo-e1-g2", &[]), ("sb.a", &[]), ("somebody's", &["auto"])]);
        assert_eq!(file.since("sb.a"), Some(vec!["sb.a", "somebody's"]));
        assert_eq!(file.since("fo-e1-g2"), Some(vec!["fo-e1-g2", "sb.a", "somebody's"]));
    }

    #[test]
    fn one_broken_bitmap_makes_every_mark_doubtful() {
        assert!(file(&[("sb.a", &["auto"]), ("sb.b", &["in-use", "auto"])]).marks().is_empty());
        assert!(file(&[("sb.a", &[])]).marks().is_empty());
        assert!(file(&[]).marks().is_empty());
    }
}
