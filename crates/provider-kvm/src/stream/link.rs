//! The source's end of the line.

use std::{
    io::{self, BufWriter, Write},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use provider::Endpoint;
use recovery::{Consistency, Generation, ItemName, PointId};

use super::{
    DIGEST_BLOCK_BYTES,
    frame::{self, Control, Frame, VERSION, bad},
    tls::{ClientStream, TlsSides},
};
use crate::replica::Base;

/// Why the line does not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The line broke or said something else than agreed; try again later.
    #[error("the line to {to} broke while {doing}")]
    Broken {
        to: String,
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    /// The target has a newer generation, or takes no more points: the loop ends.
    #[error("the target takes no points of this generation: {why}")]
    Superseded { why: String },
    /// The target refuses for now.
    #[error("the target refuses: {why}")]
    Refused { why: String },
}

/// What a point is, for the target's record.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) mark: String,
    pub(crate) consistency: Consistency,
    pub(crate) taken_at: DateTime<Utc>,
}

/// A line to a target, greeted.
#[derive(Debug)]
pub(crate) struct Link {
    to: String,
    stream: BufWriter<ClientStream>,
    bytes: u64,
    pace: Pace,
}

impl Link {
    /// Connects and greets; says what the target has.
    pub(crate) fn open(
        tls: &TlsSides,
        endpoint: &Endpoint,
        item: &ItemName,
        generation: Generation,
        bytes_per_s: Option<u64>,
    ) -> Result<(Self, Base), LinkError> {
        let to = endpoint.address.clone();
        let stream = tls.connect(endpoint).map_err(|source| LinkError::Broken { to: to.clone(), doing: "connecting", source })?;
        let mut link = Self { to, stream: BufWriter::with_capacity(256 << 10, stream), bytes: 0, pace: Pace::new(bytes_per_s) };
        link.tell(Control::Hello { version: VERSION, item: item.clone(), generation })?;
        match link.hear("being greeted")? {
            Control::Welcome { newest, seed } => Ok((link, Base { newest, seed })),
            other => Err(link.unexpected("being greeted", &other)),
        }
    }

    /// Begins a point on the newest one, or the first copy; `disks` fixes their numbers on this line.
    pub(crate) fn begin(&mut self, resume: bool, disks: &[String]) -> Result<(), LinkError> {
        self.tell(Control::Begin { resume, disks: disks.to_vec() })?;
        match self.hear("beginning a point")? {
            Control::Begun => Ok(()),
            other => Err(self.unexpected("beginning a point", &other)),
        }
    }

    /// Sends content. A piece that is all zeroes goes as such.
    pub(crate) fn write(&mut self, disk: u16, offset: u64, content: &[u8]) -> Result<(), LinkError> {
        if content.iter().all(|byte| *byte == 0) {
            return self.zero(disk, offset, content.len() as u64);
        }
        let sent = frame::send_write(&mut self.stream, disk, offset, content);
        sent.map_err(|source| self.broken("sending content", source))?;
        self.bytes += content.len() as u64;
        self.pace.passed(content.len() as u64);
        Ok(())
    }

    /// Sends zeroes.
    pub(crate) fn zero(&mut self, disk: u16, offset: u64, length: u64) -> Result<(), LinkError> {
        let sent = frame::send(&mut self.stream, &Frame::Zero { disk, offset, length });
        sent.map_err(|source| self.broken("sending zeroes", source))
    }

    /// SHA-256 of each block of 64 KiB (the last may be shorter) from `offset` on, as the target has them.
    pub(crate) fn digests(&mut self, disk: u16, offset: u64, length: u64) -> Result<Vec<[u8; 32]>, LinkError> {
        const DOING: &str = "comparing";
        self.tell(Control::AskDigests { disk, offset, length })?;
        match self.receive(DOING)? {
            Frame::Digests(digests) if digests.len() as u64 == length.div_ceil(DIGEST_BLOCK_BYTES) => Ok(digests),
            Frame::Control(Control::Refused { superseded, why }) => Err(refused(superseded, why)),
            _ => Err(self.broken(DOING, bad("an answer to another question".to_owned()))),
        }
    }

    /// Payload sent on this line so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes it a point at the target. When this returns, the point is there and stays there.
    pub(crate) fn commit(&mut self, sent: Sent) -> Result<PointId, LinkError> {
        let Sent { mark, consistency, taken_at } = sent;
        self.tell(Control::Commit { mark, consistency, taken_at, bytes: self.bytes })?;
        match self.hear("committing a point")? {
            Control::Committed { point } => {
                self.bytes = 0;
                Ok(point)
            }
            other => Err(self.unexpected("committing a point", &other)),
        }
    }

    fn tell(&mut self, control: Control) -> Result<(), LinkError> {
        let told = frame::send(&mut self.stream, &Frame::Control(control));
        told.map_err(|source| self.broken("talking", source))
    }

    fn hear(&mut self, doing: &'static str) -> Result<Control, LinkError> {
        match self.receive(doing)? {
            Frame::Control(Control::Refused { superseded, why }) => Err(refused(superseded, why)),
            Frame::Control(control) => Ok(control),
            Frame::Write { .. } | Frame::Zero { .. } | Frame::Digests(_) => Err(self.broken(doing, bad("data where an answer belongs".to_owned()))),
        }
    }

    fn receive(&mut self, doing: &'static str) -> Result<Frame, LinkError> {
        let flushed = self.stream.flush();
        let received = flushed.and_then(|()| frame::receive(self.stream.get_mut()));
        received.map_err(|source| self.broken(doing, source))
    }

    fn broken(&self, doing: &'static str, source: io::Error) -> LinkError {
        LinkError::Broken { to: self.to.clone(), doing, source }
    }

    fn unexpected(&self, doing: &'static str, control: &Control) -> LinkError {
        self.broken(doing, bad(format!("an unexpected {control:?}")))
    }
}

fn refused(superseded: bool, why: String) -> LinkError {
    if superseded { LinkError::Superseded { why } } else { LinkError::Refused { why } }
}

/// Keeps the average rate below the policy's limit.
#[derive(Debug)]
struct Pace {
    bytes_per_s: Option<u64>,
    since: Instant,
    passed: u64,
}

impl Pace {
    fn new(bytes_per_s: Option<u64>) -> Self {
        Self { bytes_per_s, since: Instant::now(), passed: 0 }
    }

    fn passed(&mut self, bytes: u64) {
        let Some(limit) = self.bytes_per_s else { return };
        self.passed += bytes;
        let due = Duration::from_millis(self.passed.saturating_mul(1000) / limit.max(1));
        if let Some(early) = due.checked_sub(self.since.elapsed()) {
            std::thread::sleep(early);
        }
    }
}
