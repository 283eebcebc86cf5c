//! Frames: a length, a kind, a payload. Control frames are JSON, data frames are binary with a CRC-32.
//!
//! ```text
//!   u32 length of the rest | u8 kind | payload
//!   Write: u16 disk, u64 offset, u32 crc, content        Zero: u16 disk, u64 offset, u64 length       (big endian)
//! ```

use std::io::{self, Read, Write};

use chrono::{DateTime, Utc};
use recovery::{Consistency, Generation, ItemName, PointId};
use serde::{Deserialize, Serialize};

/// Longest frame that is read: one write of a source plus its head. What is longer is not ours.
pub(super) const MAX_FRAME_BYTES: u32 = (4 << 20) + 64;
/// Version of this protocol; both sides must speak the same.
pub(super) const VERSION: u32 = 1;

const CONTROL: u8 = 1;
const WRITE: u8 = 2;
const ZERO: u8 = 3;
const DIGESTS: u8 = 4;

/// What is agreed upon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum Control {
    Hello { version: u32, item: ItemName, generation: Generation },
    Welcome { newest: Option<(PointId, String)>, seed: bool },
    /// As text for people; `superseded` ends the source's loop.
    Refused { superseded: bool, why: String },
    /// On the newest point, or the first copy; `resume` goes on with a first copy that was begun.
    Begin { resume: bool, disks: Vec<String> },
    Begun,
    /// Digests of all blocks from `offset`, `blocks` of them.
    AskDigests { disk: u16, offset: u64, length: u64 },
    Commit { mark: String, consistency: Consistency, taken_at: DateTime<Utc>, bytes: u64 },
    Committed { point: PointId },
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Control(Control),
    Write { disk: u16, offset: u64, content: Vec<u8> },
    Zero { disk: u16, offset: u64, length: u64 },
    Digests(Vec<[u8; 32]>),
}

pub(super) fn send(out: &mut impl Write, frame: &Frame) -> io::Result<()> {
    match frame {
        Frame::Control(control) => {
            let text = serde_json::to_vec(control)?;
            head(out, CONTROL, text.len())?;
            out.write_all(&text)?;
            out.flush()
        }
        Frame::Write { disk, offset, content } => send_write(out, *disk, *offset, content),
        Frame::Zero { disk, offset, length } => {
            head(out, ZERO, 18)?;
            out.write_all(&disk.to_be_bytes())?;
            out.write_all(&offset.to_be_bytes())?;
            out.write_all(&length.to_be_bytes())
        }
        Frame::Digests(digests) => {
            head(out, DIGESTS, digests.len() * 32)?;
            for digest in digests {
                out.write_all(digest)?;
            }
            out.flush()
        }
    }
}

/// A write without a copy of its content.
pub(super) fn send_write(out: &mut impl Write, disk: u16, offset: u64, content: &[u8]) -> io::Result<()> {
    head(out, WRITE, 14 + content.len())?;
    out.write_all(&disk.to_be_bytes())?;
    out.write_all(&offset.to_be_bytes())?;
    out.write_all(&crc32fast::hash(content).to_be_bytes())?;
    out.write_all(content)
}

fn head(out: &mut impl Write, kind: u8, payload: usize) -> io::Result<()> {
    let length = u32::try_from(payload + 1).ok().filter(|length| *length <= MAX_FRAME_BYTES);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the frame is too long"))?;
    out.write_all(&length.to_be_bytes())?;
    out.write_all(&[kind])
}

pub(super) fn receive(from: &mut impl Read) -> io::Result<Frame> {
    let length = u32::from_be_bytes(array(from)?);
    if length == 0 || length > MAX_FRAME_BYTES {
        return Err(bad(format!("a frame of {length} bytes")));
    }
    let [kind] = array(from)?;
    let payload = length - 1;
    match kind {
        CONTROL => Ok(Frame::Control(serde_json::from_slice(&bytes(from, payload)?)?)),
        WRITE if payload > 14 => {
            let (disk, offset) = (u16::from_be_bytes(array(from)?), u64::from_be_bytes(array(from)?));
            let crc = u32::from_be_bytes(array(from)?);
            let content = bytes(from, payload - 14)?;
            if crc32fast::hash(&content) != crc {
                return Err(bad(format!("the checksum of {} bytes at {offset} does not hold", content.len())));
            }
            Ok(Frame::Write { disk, offset, content })
        }
        ZERO if payload == 18 => {
            Ok(Frame::Zero { disk: u16::from_be_bytes(array(from)?), offset: u64::from_be_bytes(array(from)?), length: u64::from_be_bytes(array(from)?) })
        }
        DIGESTS if payload % 32 == 0 => {
            let all = bytes(from, payload)?;
            Ok(Frame::Digests(all.chunks_exact(32).filter_map(|chunk| chunk.try_into().ok()).collect()))
        }
        _ => Err(bad(format!("a frame of kind {kind} with {payload} bytes"))),
    }
}

fn array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn bytes(from: &mut impl Read, count: u32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count as usize];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn bad(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
