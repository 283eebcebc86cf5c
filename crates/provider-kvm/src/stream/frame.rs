//! What is said on the line, and how it is written down: `kind u8, length u32, crc32 u32, payload`, little endian.

use std::io::{self, Read, Write};

use chrono::{DateTime, Utc};
use provider::{ProviderError, group::KeptMoments};
use recovery::{Consistency, Generation, GroupMoment, ItemName, PointId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use crate::blocks;

/// Granularity of comparison and of zero elision.
pub(crate) const BLOCK_BYTES: usize = blocks::BLOCK_BYTES as usize;
/// A frame's payload: at most this much content, and its address.
const MAX_PAYLOAD_BYTES: usize = (4 << 20) + 64;
const VERSION: u32 = 2;

/// Short for a block's content: the first half of its SHA-256.
pub(crate) type Digest = [u8; 16];

/// Why the stream ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("the line broke: {0}")]
    Line(#[from] io::Error),
    #[error("the other side violates the protocol: {0}")]
    Protocol(String),
    /// The target's answer.
    #[error("the target refused: {0}")]
    Refused(ProviderError),
    /// This site's own part failed.
    #[error("{0}")]
    Here(#[from] ProviderError),
    /// The agent or the item is being stopped.
    #[error("it was told to stop")]
    Stopped,
}

/// How a copy is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Everything but zeroes, into an empty first copy.
    Full,
    /// What differs from a first copy that was begun.
    Resume,
    /// What differs from the newest point, or from the old machine's disks, found by digests.
    Compare,
    /// What differs from the old machine's disks, found by digests of what either side may have changed since both were the same.
    Return,
    /// What was changed since the newest point.
    Delta,
}

/// Opens a conversation about an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) version: u32,
    pub(crate) item: ItemName,
    pub(crate) generation: Generation,
    /// Targets and capacities; later frames name a disk by its place here.
    pub(crate) disks: Vec<(String, u64)>,
}

impl Hello {
    pub(crate) fn new(item: ItemName, generation: Generation, disks: Vec<(String, u64)>) -> Self {
        Self { version: VERSION, item, generation, disks }
    }

    pub(crate) fn check(&self) -> Result<(), StreamError> {
        if self.version != VERSION {
            return Err(StreamError::Protocol(format!("it speaks version {}, this agent {VERSION}", self.version)));
        }
        Ok(())
    }
}

/// What the target has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) newest: Option<(PointId, String)>,
    pub(crate) seed: bool,
    /// The first point lies on an old machine's disks, which know their changes since these marks of its points.
    pub(crate) old_marks: Option<Vec<String>>,
}

/// Asks for the blocks of an old machine's disk that were written after a mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AskWritten {
    pub(crate) disk: u16,
    pub(crate) mark: String,
    /// First block asked about.
    pub(crate) first: u64,
    /// How many.
    pub(crate) count: u64,
}

/// Everything was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Commit {
    pub(crate) mark: String,
    pub(crate) consistency: Consistency,
    pub(crate) taken_at: DateTime<Utc>,
    pub(crate) bytes: u64,
    /// The moment that the point shares with points of other items. A target of an earlier build records the point without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<GroupMoment>,
    /// Which moments of the item's group the target is to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kept: Option<KeptMoments>,
}

/// One thing said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Frame {
    Hello(Hello),
    Welcome(Welcome),
    Begin(Mode),
    Ready,
    Data { disk: u16, offset: u64, content: Vec<u8> },
    Zero { disk: u16, offset: u64, length: u64 },
    AskDigests { disk: u16, offset: u64, length: u64 },
    Digests(Vec<Digest>),
    Commit(Commit),
    Committed(PointId),
    Refused(ProviderError),
    AskWritten(AskWritten),
    /// One bit a block.
    Written(Vec<u8>),
}

impl Frame {
    fn encode(&self) -> Result<(u8, Vec<u8>), StreamError> {
        Ok(match self {
            Frame::Hello(hello) => (1, json(hello)?),
            Frame::Welcome(welcome) => (2, json(welcome)?),
            Frame::Begin(mode) => (3, json(mode)?),
            Frame::Ready => (4, vec![]),
            Frame::Data { disk, offset, content } => {
                let mut payload = Vec::with_capacity(content.len() + 10);
                payload.extend(disk.to_le_bytes());
                payload.extend(offset.to_le_bytes());
                payload.extend(content);
                (5, payload)
            }
            Frame::Zero { disk, offset, length } => (6, range(*disk, *offset, *length)),
            Frame::AskDigests { disk, offset, length } => (7, range(*disk, *offset, *length)),
            Frame::Digests(digests) => (8, digests.concat()),
            Frame::Commit(commit) => (9, json(commit)?),
            Frame::Committed(point) => (10, json(point)?),
            Frame::Refused(error) => (11, json(error)?),
            Frame::AskWritten(asked) => (12, json(asked)?),
            Frame::Written(bits) => (13, bits.clone()),
        })
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Self, StreamError> {
        Ok(match kind {
            1 => Frame::Hello(parse(payload)?),
            2 => Frame::Welcome(parse(payload)?),
            3 => Frame::Begin(parse(payload)?),
            4 if payload.is_empty() => Frame::Ready,
            5 if payload.len() > 10 => Frame::Data { disk: le16(payload), offset: le64(&payload[2..]), content: payload[10..].to_vec() },
            6 if payload.len() == 18 => Frame::Zero { disk: le16(payload), offset: le64(&payload[2..]), length: le64(&payload[10..]) },
            7 if payload.len() == 18 => {
                Frame::AskDigests { disk: le16(payload), offset: le64(&payload[2..]), length: le64(&payload[10..]) }
            }
            8 if payload.len().is_multiple_of(size_of::<Digest>()) => {
                Frame::Digests(payload.as_chunks().0.to_vec())
            }
            9 => Frame::Commit(parse(payload)?),
            10 => Frame::Committed(parse(payload)?),
            11 => Frame::Refused(parse(payload)?),
            12 => Frame::AskWritten(parse(payload)?),
            13 => Frame::Written(payload.to_vec()),
            _ => return Err(StreamError::Protocol(format!("a frame of kind {kind} with {} bytes", payload.len()))),
        })
    }

    /// Writes the frame. Returns how many bytes it took.
    pub(crate) fn write(&self, line: &mut impl Write) -> Result<u64, StreamError> {
        let (kind, payload) = self.encode()?;
        let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_PAYLOAD_BYTES);
        let length = length.ok_or_else(|| StreamError::Protocol("our frame is too long".to_owned()))?;
        let mut head = [0; 9];
        head[0] = kind;
        head[1..5].copy_from_slice(&length.to_le_bytes());
        head[5..].copy_from_slice(&crc32fast::hash(&payload).to_le_bytes());
        line.write_all(&head)?;
        line.write_all(&payload)?;
        line.flush()?;
        Ok(payload.len() as u64 + head.len() as u64)
    }

    /// Reads the next frame.
    pub(crate) fn read(line: &mut impl Read) -> Result<Self, StreamError> {
        let mut head = [0; 9];
        line.read_exact(&mut head)?;
        let length = le32(&head[1..]) as usize;
        if length > MAX_PAYLOAD_BYTES {
            return Err(StreamError::Protocol(format!("a frame of {length} bytes")));
        }
        let mut payload = vec![0; length];
        line.read_exact(&mut payload)?;
        if crc32fast::hash(&payload) != le32(&head[5..]) {
            return Err(StreamError::Protocol("a frame whose checksum is wrong".to_owned()));
        }
        Self::decode(head[0], &payload)
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, StreamError> {
    serde_json::to_vec(value).map_err(|e| StreamError::Protocol(format!("our frame can't be written: {e}")))
}

fn parse<T: DeserializeOwned>(payload: &[u8]) -> Result<T, StreamError> {
    serde_json::from_slice(payload).map_err(|e| StreamError::Protocol(format!("a frame can't be read: {e}")))
}

fn range(disk: u16, offset: u64, length: u64) -> Vec<u8> {
    [&disk.to_le_bytes()[..], &offset.to_le_bytes(), &length.to_le_bytes()].concat()
}

fn le16(bytes: &[u8]) -> u16 {
    bytes.first_chunk().map_or(0, |b| u16::from_le_bytes(*b))
}

fn le32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |b| u32::from_le_bytes(*b))
}

fn le64(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b))
}

/// The digest of a block; of a zero block all zeroes, so that holes need not be read.
pub(crate) fn digest(block: &[u8]) -> Digest {
    let mut short = Digest::default();
    if block.iter().any(|b| *b != 0) {
        short.copy_from_slice(&Sha256::digest(block)[..16]);
    }
    short
}
