//! Sending what belongs into one point.

use std::path::Path;

use super::{
    plan::{Plan, WayHome},
    worker::Pace,
};
use crate::{
    blocks::{self, Runs},
    hypervisor::EXPORT_BITMAP,
    nbd::{Client, Extent, NbdError},
    qemu::Served,
    stream::{BLOCK_BYTES, Frame, Line, Mode, StreamError, digest},
};

/// Read, and at most sent, at once.
const PIECE_BYTES: u64 = 1 << 20;
/// Compared at once.
const WINDOW_BYTES: u64 = 8 << 20;
const DIRTY: u32 = 1;
const HOLE: u32 = 1;
const ZERO: u32 = 2;

/// A range of a disk.
#[derive(Debug, Clone, Copy)]
struct Piece {
    offset: u64,
    length: u64,
}

/// Where a disk's content is read.
pub(super) enum Reader {
    /// At a backup job of a running machine.
    Job(Client),
    /// In the file of a machine that is off.
    File(Served),
}

impl Reader {
    fn client(&mut self) -> Result<&mut Client, StreamError> {
        Ok(match self {
            Reader::Job(client) => client,
            Reader::File(served) => served.client()?,
        })
    }

    fn close(self) -> Result<(), StreamError> {
        match self {
            Reader::Job(client) => client.disconnect().map_err(|e| here(&e)),
            Reader::File(served) => Ok(served.close()?),
        }
    }
}

/// What is to be done with a disk.
enum Work {
    /// Sent without a question.
    Copy(Vec<Extent>),
    /// Sent where the digests differ: in each window everything, or only these blocks.
    Compare { windows: Vec<(Piece, Option<Runs>)>, known: Vec<Extent> },
}

/// One disk, as it was at the moment of the point.
pub(super) struct Disk {
    number: u16,
    reader: Reader,
    work: Work,
}

impl Disk {
    /// `extents` are the reader's, in the context that belongs to the mode: allocation, or changes since the plan's mark.
    pub(super) fn new(line: &mut Line, number: u16, name: &str, mut reader: Reader, plan: &Plan, extents: Vec<Extent>) -> Result<Self, StreamError> {
        let size = reader.client()?.size();
        let work = match (plan.mode, &plan.home) {
            (Mode::Full | Mode::Delta, _) => Work::Copy(extents.into_iter().filter(|e| counts(e, plan.mode)).collect()),
            (Mode::Return, Some(home)) => {
                let differs = may_differ(line, number, name, size, home, &extents)?;
                Work::Compare { windows: windows_of(&differs, size), known: vec![] }
            }
            (Mode::Return | Mode::Resume | Mode::Compare, _) => {
                let all = Extent { offset: 0, length: size, flags: 0 };
                Work::Compare { windows: pieces(all, WINDOW_BYTES).map(|piece| (piece, None)).collect(), known: extents }
            }
        };
        Ok(Self { number, reader, work })
    }

    fn bytes(&self) -> u64 {
        match &self.work {
            Work::Copy(extents) => extents.iter().map(|e| e.length).sum(),
            Work::Compare { windows, .. } => windows.iter().map(|(piece, _)| piece.length).sum(),
        }
    }
}

/// What this side, the other side, or both may have changed since they were the same.
fn may_differ(line: &mut Line, number: u16, name: &str, size: u64, home: &WayHome, dirty: &[Extent]) -> Result<Runs, StreamError> {
    let written_here = Runs::touched(dirty.iter().filter(|e| e.flags & DIRTY != 0).map(|e| (e.offset, e.length)));
    let written_there = line.written(number, &home.mark, size.div_ceil(blocks::BLOCK_BYTES))?;
    let kept = home.map.get(name).cloned().unwrap_or_default();
    tracing::info!(
        disk = name, kept = kept.count(), here = written_here.count(), there = written_there.count(), "blocks that may differ on the way home"
    );
    Ok(kept.and(&written_here).and(&written_there))
}

/// Windows that hold these blocks, each from its first to its last one.
fn windows_of(differs: &Runs, size: u64) -> Vec<(Piece, Option<Runs>)> {
    let window = |runs: Runs| {
        let (first, end) = runs.span()?;
        let (offset, end) = (first * blocks::BLOCK_BYTES, (end * blocks::BLOCK_BYTES).min(size));
        (offset < end).then(|| (Piece { offset, length: end - offset }, Some(runs)))
    };
    differs.windows(WINDOW_BYTES / blocks::BLOCK_BYTES).into_iter().filter_map(window).collect()
}

/// The disks that a backup job serves.
pub(super) fn of_job(line: &mut Line, socket: &Path, names: &[String], plan: &Plan) -> Result<Vec<Disk>, StreamError> {
    let context = match plan.mode {
        Mode::Delta | Mode::Return => format!("qemu:dirty-bitmap:{EXPORT_BITMAP}"),
        Mode::Full | Mode::Resume | Mode::Compare => "base:allocation".to_owned(),
    };
    let opened = names.iter().zip(0..).map(|(name, number)| {
        let mut client = Client::connect(socket, name, Some(&context)).map_err(|e| here(&e))?;
        let extents = client.extents().map_err(|e| here(&e))?;
        Disk::new(line, number, name, Reader::Job(client), plan, extents)
    });
    opened.collect()
}

/// Sends what belongs into a point. Returns how many bytes it took on the line.
pub(super) fn send(line: &mut Line, pace: &Pace<'_>, mut disks: Vec<Disk>, mode: Mode) -> Result<u64, StreamError> {
    pace.begin(disks.iter().map(Disk::bytes).sum());
    let mut sending = Sending { line, pace, mode, sent: 0 };
    for Disk { number, reader, work } in &mut disks {
        match work {
            Work::Copy(extents) => sending.copy(*number, reader, extents)?,
            Work::Compare { windows, known } => sending.compare(*number, reader, windows, known)?,
        }
    }
    let sent = sending.sent;
    disks.into_iter().try_for_each(|disk| disk.reader.close())?;
    Ok(sent)
}

fn here(error: &NbdError) -> StreamError {
    StreamError::Here(provider::ProviderError::Platform {
        operation: "read from".to_owned(),
        target: "a backup of the machine".to_owned(),
        detail: format!("{error}: {:?}", std::error::Error::source(error)),
        applied: provider::Applied::No,
    })
}

/// Whether an extent is work in this mode.
fn counts(extent: &Extent, mode: Mode) -> bool {
    match mode {
        Mode::Delta => extent.flags & DIRTY != 0,
        Mode::Full => extent.flags & (HOLE | ZERO) == 0,
        Mode::Resume | Mode::Compare | Mode::Return => true,
    }
}

/// An extent in pieces that are aligned to blocks.
fn pieces(extent: Extent, piece_bytes: u64) -> impl Iterator<Item = Piece> {
    let end = extent.offset + extent.length;
    let mut offset = extent.offset;
    std::iter::from_fn(move || {
        let next = ((offset / piece_bytes + 1) * piece_bytes).min(end);
        let piece = (offset < end).then_some(Piece { offset, length: next.saturating_sub(offset) });
        offset = next;
        piece
    })
}

struct Sending<'a, 'p> {
    line: &'a mut Line,
    pace: &'a Pace<'p>,
    mode: Mode,
    sent: u64,
}

impl Sending<'_, '_> {
    fn copy(&mut self, disk: u16, reader: &mut Reader, work: &[Extent]) -> Result<(), StreamError> {
        for piece in work.iter().flat_map(|e| pieces(*e, PIECE_BYTES)) {
            let content = read(reader, piece, false)?;
            self.blocks(disk, piece.offset, &content, |_block| true)?;
            self.pace.done(piece.length)?;
        }
        Ok(())
    }

    fn compare(&mut self, disk: u16, reader: &mut Reader, windows: &[(Piece, Option<Runs>)], known: &[Extent]) -> Result<(), StreamError> {
        for (window, only) in windows {
            let theirs = self.line.digests(disk, window.offset, window.length)?;
            if theirs.len() as u64 != window.length.div_ceil(blocks::BLOCK_BYTES) {
                return Err(StreamError::Protocol("not one digest a block".to_owned()));
            }
            let content = read(reader, *window, is_zero(known, *window))?;
            let first = window.offset / blocks::BLOCK_BYTES;
            let looked_at = |block: usize| only.as_ref().is_none_or(|runs| runs.contains(first + block as u64));
            let differs = |(block, content): (usize, &[u8])| looked_at(block) && theirs.get(block) != Some(&digest(content));
            let ours: Vec<bool> = content.chunks(BLOCK_BYTES).enumerate().map(differs).collect();
            self.blocks(disk, window.offset, &content, |block| ours.get(block).copied().unwrap_or(true))?;
            self.pace.done(window.length)?;
        }
        Ok(())
    }

    /// Sends those blocks that are wanted, neighbours together, zeroes as such or, into an empty disk, not at all.
    fn blocks(&mut self, disk: u16, offset: u64, content: &[u8], wanted: impl Fn(usize) -> bool) -> Result<(), StreamError> {
        #[derive(PartialEq, Clone, Copy)]
        enum Kind {
            Skip,
            Zero,
            Data,
        }
        let kind = |(number, block): (usize, &[u8])| match (wanted(number), block.iter().all(|b| *b == 0)) {
            (false, _) => Kind::Skip,
            (true, true) if self.mode == Mode::Full => Kind::Skip,
            (true, true) => Kind::Zero,
            (true, false) => Kind::Data,
        };
        let kinds: Vec<Kind> = content.chunks(BLOCK_BYTES).enumerate().map(kind).collect();
        let mut block = 0;
        for run in kinds.chunk_by(|a, b| a == b) {
            let from = block * BLOCK_BYTES;
            block += run.len();
            let to = (block * BLOCK_BYTES).min(content.len());
            match run[0] {
                Kind::Skip => {}
                Kind::Zero => self.say(&Frame::Zero { disk, offset: offset + from as u64, length: (to - from) as u64 })?,
                Kind::Data => {
                    // A run may be as long as a window; a frame is not.
                    for (i, part) in content[from..to].chunks(PIECE_BYTES as usize).enumerate() {
                        let at = offset + from as u64 + i as u64 * PIECE_BYTES;
                        self.say(&Frame::Data { disk, offset: at, content: part.to_vec() })?;
                    }
                }
            }
        }
        Ok(())
    }

    fn say(&mut self, frame: &Frame) -> Result<(), StreamError> {
        let bytes = self.line.say(frame)?;
        self.sent += bytes;
        self.pace.sent(bytes)
    }
}

/// Whether one of the sorted extents says that a piece reads as zeroes.
fn is_zero(known: &[Extent], piece: Piece) -> bool {
    let after = known.partition_point(|e| e.offset <= piece.offset);
    let around = after.checked_sub(1).and_then(|at| known.get(at));
    around.is_some_and(|e| e.flags & ZERO != 0 && e.offset + e.length >= piece.offset + piece.length)
}

fn read(reader: &mut Reader, piece: Piece, zero: bool) -> Result<Vec<u8>, StreamError> {
    let mut content = vec![0; usize::try_from(piece.length).unwrap_or(0)];
    if !zero {
        reader.client()?.read(piece.offset, &mut content).map_err(|e| here(&e))?;
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_an_extent_once_and_end_at_block_borders() {
        let extent = Extent { offset: 65_536, length: 5 * PIECE_BYTES + 512, flags: 0 };
        let all: Vec<Piece> = pieces(extent, PIECE_BYTES).collect();
        let mut at = extent.offset;
        for (i, piece) in all.iter().enumerate() {
            assert_eq!(piece.offset, at);
            at += piece.length;
            assert!(i == all.len() - 1 || at.is_multiple_of(PIECE_BYTES));
        }
        assert_eq!(at, extent.offset + extent.length);
        assert_eq!(pieces(Extent { offset: 0, length: 0, flags: 0 }, PIECE_BYTES).count(), 0);
    }
}
