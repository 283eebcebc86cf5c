//! Requests on an agreed export.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use super::{
    MAX_REQUEST_BYTES, NbdError,
    handshake::{self, Agreed},
    reply::{self, Asked},
};

const REQUEST_MAGIC: u32 = 0x2560_9513;
const CMD_READ: u16 = 0;
const CMD_WRITE: u16 = 1;
const CMD_DISCONNECT: u16 = 2;
const CMD_FLUSH: u16 = 3;
#[cfg(test)]
const CMD_TRIM: u16 = 4;
const CMD_WRITE_ZEROES: u16 = 6;
const CMD_BLOCK_STATUS: u16 = 7;
/// A local server that says nothing for so long is broken; a flush of a large write may take a while.
const PATIENCE: Duration = Duration::from_secs(120);
/// Block status and zeroing are asked for in pieces of this size.
const SPAN_BYTES: u64 = 1 << 30;

/// A piece of an export with the flags of the metadata context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) flags: u32,
}

/// A conversation with a server about one export.
#[derive(Debug)]
pub(crate) struct Client<S = UnixStream> {
    stream: S,
    size: u64,
    context_id: Option<u32>,
    cookie: u64,
}

impl Client<UnixStream> {
    /// Opens an export on a Unix socket, with one metadata context if wanted.
    pub(crate) fn connect(socket: &Path, export: &str, context: Option<&str>) -> Result<Self, NbdError> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Self::agree(stream, export, context)
    }
}

impl<S: Read + Write> Client<S> {
    /// Agrees with a server at the other end of a stream.
    pub(crate) fn agree(mut stream: S, export: &str, context: Option<&str>) -> Result<Self, NbdError> {
        let Agreed { size, context_id } = handshake::shake(&mut stream, export, context)?;
        Ok(Self { stream, size, context_id, cookie: 0 })
    }

    /// Bytes of the export.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    fn request(&mut self, command: u16, offset: u64, length: u64, payload: &[u8]) -> Result<Asked, NbdError> {
        let length32 = u32::try_from(length).ok().filter(|_| offset.checked_add(length).is_some_and(|end| end <= self.size));
        let length32 = length32.ok_or(NbdError::OutOfRange { offset, length, size: self.size })?;
        self.cookie += 1;
        let mut head = [0; 28];
        head[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        head[6..8].copy_from_slice(&command.to_be_bytes());
        head[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        head[16..24].copy_from_slice(&offset.to_be_bytes());
        head[24..].copy_from_slice(&length32.to_be_bytes());
        self.stream.write_all(&head)?;
        self.stream.write_all(payload)?;
        self.stream.flush()?;
        Ok(Asked { cookie: self.cookie, offset })
    }

    /// Fills `out` from `offset` on.
    pub(crate) fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<(), NbdError> {
        let mut at = offset;
        for part in out.chunks_mut(MAX_REQUEST_BYTES) {
            let asked = self.request(CMD_READ, at, part.len() as u64, &[])?;
            reply::content(&mut self.stream, asked, part)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Writes `content` at `offset`.
    pub(crate) fn write(&mut self, offset: u64, content: &[u8]) -> Result<(), NbdError> {
        let mut at = offset;
        for part in content.chunks(MAX_REQUEST_BYTES) {
            let asked = self.request(CMD_WRITE, at, part.len() as u64, part)?;
            reply::empty(&mut self.stream, asked)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Makes a range read as zeroes, without holding space for it if the server can.
    pub(crate) fn write_zeroes(&mut self, offset: u64, length: u64) -> Result<(), NbdError> {
        self.spans(CMD_WRITE_ZEROES, offset, length)
    }

    /// Gives a range up; what it reads as afterwards is not defined.
    #[cfg(test)]
    pub(crate) fn trim(&mut self, offset: u64, length: u64) -> Result<(), NbdError> {
        self.spans(CMD_TRIM, offset, length)
    }

    fn spans(&mut self, command: u16, offset: u64, length: u64) -> Result<(), NbdError> {
        let (mut at, mut left) = (offset, length);
        while left > 0 {
            let span = left.min(SPAN_BYTES);
            let asked = self.request(command, at, span, &[])?;
            reply::empty(&mut self.stream, asked)?;
            (at, left) = (at + span, left - span);
        }
        Ok(())
    }

    /// Makes everything written so far durable.
    pub(crate) fn flush(&mut self) -> Result<(), NbdError> {
        let asked = self.request(CMD_FLUSH, 0, 0, &[])?;
        reply::empty(&mut self.stream, asked)
    }

    /// The whole export in extents of the metadata context, neighbours with equal flags joined.
    pub(crate) fn extents(&mut self) -> Result<Vec<Extent>, NbdError> {
        let context_id = self.context_id.ok_or(NbdError::Protocol("no metadata context was agreed on"))?;
        let mut all: Vec<Extent> = vec![];
        let mut offset = 0;
        while offset < self.size {
            let span = (self.size - offset).min(SPAN_BYTES);
            let asked = self.request(CMD_BLOCK_STATUS, offset, span, &[])?;
            for extent in reply::status(&mut self.stream, asked, context_id)? {
                let length = extent.length.min(self.size.saturating_sub(extent.offset));
                match all.last_mut() {
                    Some(last) if last.flags == extent.flags => last.length += length,
                    Some(_) | None => all.push(Extent { length, ..extent }),
                }
                offset = extent.offset + length;
            }
        }
        Ok(all)
    }

    /// Ends the conversation; the server has no answer to that.
    pub(crate) fn disconnect(mut self) -> Result<(), NbdError> {
        self.request(CMD_DISCONNECT, 0, 0, &[]).map(drop)
    }
}
