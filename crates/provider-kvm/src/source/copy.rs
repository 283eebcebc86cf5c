//! Sending what belongs into one point.

use std::path::Path;

use super::worker::Pace;
use crate::{
    hypervisor::EXPORT_BITMAP,
    nbd::{Client, Extent, NbdError},
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
    /// It is known to read as zeroes.
    zero: bool,
}

/// One disk, as it was at the moment of the point.
struct Disk {
    number: u16,
    client: Client,
    extents: Vec<Extent>,
}

/// Sends all disks of a backup job. Returns how many bytes it took on the line.
pub(super) fn send(line: &mut Line, pace: &Pace<'_>, socket: &Path, disks: &[String], mode: Mode) -> Result<u64, StreamError> {
    let opened = disks.iter().zip(0..).map(|(name, number)| open(socket, name, number, mode));
    let mut opened: Vec<Disk> = opened.collect::<Result<_, _>>()?;
    let total: u64 = opened.iter().flat_map(|d| &d.extents).filter(|e| counts(e, mode)).map(|e| e.length).sum();
    pace.begin(total);
    let mut sending = Sending { line, pace, mode, sent: 0 };
    for disk in &mut opened {
        match mode {
            Mode::Full | Mode::Delta => sending.copy(disk)?,
            Mode::Resume | Mode::Compare => sending.compare(disk)?,
        }
    }
    let sent = sending.sent;
    for disk in opened {
        disk.client.disconnect().map_err(|e| here(&e))?;
    }
    Ok(sent)
}

fn open(socket: &Path, name: &str, number: u16, mode: Mode) -> Result<Disk, StreamError> {
    let context = match mode {
        Mode::Delta => format!("qemu:dirty-bitmap:{EXPORT_BITMAP}"),
        Mode::Full | Mode::Resume | Mode::Compare => "base:allocation".to_owned(),
    };
    let mut client = Client::connect(socket, name, Some(&context)).map_err(|e| here(&e))?;
    let extents = client.extents().map_err(|e| here(&e))?;
    Ok(Disk { number, client, extents })
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
        Mode::Resume | Mode::Compare => true,
    }
}

/// An extent in pieces that are aligned to blocks.
fn pieces(extent: Extent, piece_bytes: u64, zero: bool) -> impl Iterator<Item = Piece> {
    let end = extent.offset + extent.length;
    let mut offset = extent.offset;
    std::iter::from_fn(move || {
        let next = ((offset / piece_bytes + 1) * piece_bytes).min(end);
        let piece = (offset < end).then_some(Piece { offset, length: next.saturating_sub(offset), zero });
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
    fn copy(&mut self, disk: &mut Disk) -> Result<(), StreamError> {
        let work: Vec<Extent> = disk.extents.iter().filter(|e| counts(e, self.mode)).copied().collect();
        for piece in work.into_iter().flat_map(|e| pieces(e, PIECE_BYTES, false)) {
            let content = read(disk, piece)?;
            self.blocks(disk.number, piece.offset, &content, |_block| true)?;
            self.pace.done(piece.length)?;
        }
        Ok(())
    }

    fn compare(&mut self, disk: &mut Disk) -> Result<(), StreamError> {
        let size = disk.client.size();
        let all = Extent { offset: 0, length: size, flags: 0 };
        let known: Vec<Extent> = disk.extents.clone();
        for window in pieces(all, WINDOW_BYTES, false) {
            let zero = known.iter().any(|e| {
                e.flags & ZERO != 0 && e.offset <= window.offset && e.offset + e.length >= window.offset + window.length
            });
            let theirs = self.line.digests(disk.number, window.offset, window.length)?;
            if theirs.len() as u64 != window.length.div_ceil(BLOCK_BYTES as u64) {
                return Err(StreamError::Protocol("not one digest a block".to_owned()));
            }
            let content = read(disk, Piece { zero, ..window })?;
            let differs = |block: usize, content: &[u8]| theirs.get(block) != Some(&digest(content));
            let ours: Vec<bool> = content.chunks(BLOCK_BYTES).enumerate().map(|(i, c)| differs(i, c)).collect();
            self.blocks(disk.number, window.offset, &content, |block| ours.get(block).copied().unwrap_or(true))?;
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

fn read(disk: &mut Disk, piece: Piece) -> Result<Vec<u8>, StreamError> {
    let mut content = vec![0; usize::try_from(piece.length).unwrap_or(0)];
    if !piece.zero {
        disk.client.read(piece.offset, &mut content).map_err(|e| here(&e))?;
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_an_extent_once_and_end_at_block_borders() {
        let extent = Extent { offset: 65_536, length: 5 * PIECE_BYTES + 512, flags: 0 };
        let all: Vec<Piece> = pieces(extent, PIECE_BYTES, false).collect();
        let mut at = extent.offset;
        for (i, piece) in all.iter().enumerate() {
            assert_eq!(piece.offset, at);
            at += piece.length;
            assert!(i == all.len() - 1 || at.is_multiple_of(PIECE_BYTES));
        }
        assert_eq!(at, extent.offset + extent.length);
        assert_eq!(pieces(Extent { offset: 0, length: 0, flags: 0 }, PIECE_BYTES, false).count(), 0);
    }
}
