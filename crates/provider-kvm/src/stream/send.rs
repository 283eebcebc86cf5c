//! The source's end of a conversation.

use std::{
    net::{TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

use provider::Endpoint;
use recovery::{Generation, PointId};
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use super::{
    Digest, Frame, Mode, StreamError, Tls,
    frame::{AskWritten, Commit, Hello, Welcome},
    receive::MAX_ASKED_BLOCKS,
};
use crate::blocks::Runs;

const CONNECT: Duration = Duration::from_secs(3);
const GREETING: Duration = Duration::from_secs(10);
/// Writing a large copy to disk may take a while before the target answers.
const ANSWER: Duration = Duration::from_secs(300);

/// A conversation with a target about one item.
pub(crate) struct Line {
    wire: StreamOwned<ClientConnection, TcpStream>,
    pub(crate) welcome: Welcome,
    pub(crate) used_at: Instant,
    endpoint: Endpoint,
    generation: Generation,
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other frame is out of place here")]
impl Line {
    /// Calls the target and greets it.
    pub(crate) fn open(tls: &Tls, endpoint: &Endpoint, hello: Hello) -> Result<Self, StreamError> {
        let name = ServerName::try_from(endpoint.tls_name.clone());
        let name = name.map_err(|_invalid| StreamError::Protocol(format!("{} is no TLS name", endpoint.tls_name)))?;
        let mut last = None;
        let mut connected = None;
        for address in endpoint.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(stream) => {
                    connected = Some(stream);
                    break;
                }
                Err(error) => last = Some(error),
            }
        }
        let Some(stream) = connected else {
            return Err(last.map_or_else(|| StreamError::Protocol(format!("{} has no address", endpoint.address)), StreamError::Line));
        };
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(GREETING))?;
        stream.set_write_timeout(Some(GREETING))?;
        let tls = ClientConnection::new(tls.client.clone(), name).map_err(|e| StreamError::Protocol(e.to_string()))?;
        let mut wire = StreamOwned::new(tls, stream);
        let generation = hello.generation;
        Frame::Hello(hello).write(&mut wire)?;
        let welcome = match Frame::read(&mut wire)? {
            Frame::Welcome(welcome) => welcome,
            Frame::Refused(error) => return Err(StreamError::Refused(error)),
            other => return Err(StreamError::Protocol(format!("{other:?} as an answer to a greeting"))),
        };
        wire.sock.set_read_timeout(Some(ANSWER))?;
        wire.sock.set_write_timeout(Some(ANSWER))?;
        Ok(Self { wire, welcome, used_at: Instant::now(), endpoint: endpoint.clone(), generation })
    }

    /// With which the line can be hung up from another thread.
    pub(crate) fn socket(&self) -> Result<TcpStream, StreamError> {
        Ok(self.wire.sock.try_clone()?)
    }

    /// Whether it is a line to that endpoint for that generation.
    pub(crate) fn serves(&self, endpoint: &Endpoint, generation: Generation) -> bool {
        self.endpoint == *endpoint && self.generation == generation
    }

    /// Begins a copy.
    pub(crate) fn begin(&mut self, mode: Mode) -> Result<(), StreamError> {
        Frame::Begin(mode).write(&mut self.wire)?;
        match self.answer()? {
            Frame::Ready => Ok(()),
            other => Err(StreamError::Protocol(format!("{other:?} as an answer to the beginning of a copy"))),
        }
    }

    /// Says something that has no answer. If the target has hung up with a reason, that is the error.
    pub(crate) fn say(&mut self, frame: &Frame) -> Result<u64, StreamError> {
        match frame.write(&mut self.wire) {
            Err(StreamError::Line(broken)) => match Frame::read(&mut self.wire) {
                Ok(Frame::Refused(error)) => Err(StreamError::Refused(error)),
                Ok(_) | Err(_) => Err(StreamError::Line(broken)),
            },
            other => other,
        }
    }

    /// The target's digests of a range.
    pub(crate) fn digests(&mut self, disk: u16, offset: u64, length: u64) -> Result<Vec<Digest>, StreamError> {
        self.say(&Frame::AskDigests { disk, offset, length })?;
        match self.answer()? {
            Frame::Digests(digests) => Ok(digests),
            other => Err(StreamError::Protocol(format!("{other:?} as an answer to a question for digests"))),
        }
    }

    /// The blocks, of `blocks` in all, of the target's old disk that were written there after a mark.
    pub(crate) fn written(&mut self, disk: u16, mark: &str, blocks: u64) -> Result<Runs, StreamError> {
        let mut written = Runs::default();
        let mut first = 0;
        while first < blocks {
            let count = MAX_ASKED_BLOCKS.min(blocks - first);
            self.say(&Frame::AskWritten(AskWritten { disk, mark: mark.to_owned(), first, count }))?;
            match self.answer()? {
                Frame::Written(bits) if bits.len() as u64 == count.div_ceil(8) => written = written.and(&Runs::of_bits(first, &bits)),
                other => return Err(StreamError::Protocol(format!("{other:?} as an answer to a question for changes"))),
            }
            first += count;
        }
        Ok(written)
    }

    /// Ends a copy; when this returns, the target has the point.
    pub(crate) fn commit(&mut self, commit: Commit) -> Result<PointId, StreamError> {
        let mark = commit.mark.clone();
        self.say(&Frame::Commit(commit))?;
        match self.answer()? {
            Frame::Committed(point) => {
                self.welcome = Welcome { newest: Some((point, mark)), seed: false, ..self.welcome.clone() };
                self.used_at = Instant::now();
                Ok(point)
            }
            other => Err(StreamError::Protocol(format!("{other:?} as an answer to the end of a copy"))),
        }
    }

    fn answer(&mut self) -> Result<Frame, StreamError> {
        match Frame::read(&mut self.wire)? {
            Frame::Refused(error) => Err(StreamError::Refused(error)),
            frame => Ok(frame),
        }
    }
}

/// Keeps the stream within a rate, with bursts of up to a quarter second.
#[derive(Debug)]
pub(crate) struct Limiter {
    bytes_per_s: Option<u64>,
    /// When what was sent so far will have been within the rate.
    free_at: Option<Instant>,
}

impl Limiter {
    pub(crate) fn new(bytes_per_s: Option<u64>) -> Self {
        Self { bytes_per_s, free_at: None }
    }

    /// Counts what was sent, and returns how long to wait before more is.
    pub(crate) fn sent(&mut self, bytes: u64, now: Instant) -> Duration {
        let Some(rate) = self.bytes_per_s else { return Duration::ZERO };
        let took = Duration::from_nanos(u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX));
        let free_at = self.free_at.map_or(now, |at| at.max(now.checked_sub(Duration::from_millis(250)).unwrap_or(now))) + took;
        self.free_at = Some(free_at);
        free_at.saturating_duration_since(now)
    }
}
