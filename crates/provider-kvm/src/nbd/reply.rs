//! Structured replies: chunks that belong to one request, until the last of them.

use std::io::Read;

use super::{
    Extent, MAX_REQUEST_BYTES, NbdError,
    handshake::{be32, be64, take},
};

const REPLY_MAGIC: u32 = 0x668e_33ef;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
const FLAG_DONE: u16 = 1;
const NONE: u16 = 0;
const OFFSET_DATA: u16 = 1;
const OFFSET_HOLE: u16 = 2;
const BLOCK_STATUS: u16 = 5;
const ERROR: u16 = 1 << 15;
const ERROR_OFFSET: u16 = ERROR | 2;
const MAX_CHUNK_BYTES: usize = MAX_REQUEST_BYTES + (1 << 20);

struct Chunk {
    done: bool,
    kind: u16,
    body: Vec<u8>,
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) cookie: u64,
    pub(super) offset: u64,
}

fn chunk(stream: &mut impl Read, asked: Asked) -> Result<Chunk, NbdError> {
    let magic = be32(&take::<4>(stream)?)?;
    if magic == SIMPLE_REPLY_MAGIC {
        return simple(stream, asked);
    }
    if magic != REPLY_MAGIC {
        return Err(NbdError::Protocol("a reply has no magic number"));
    }
    let head = take::<16>(stream)?;
    if be64(&head[4..])? != asked.cookie {
        return Err(NbdError::Protocol("a reply is for another request"));
    }
    let length = be32(&head[12..])? as usize;
    if length > MAX_CHUNK_BYTES {
        return Err(NbdError::Protocol("a chunk is too long"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let kind = u16::from_be_bytes([head[2], head[3]]);
    let done = u16::from_be_bytes([head[0], head[1]]) & FLAG_DONE != 0;
    Ok(Chunk { done, kind, body })
}

/// A server may answer what returns no content in the old way.
fn simple(stream: &mut impl Read, asked: Asked) -> Result<Chunk, NbdError> {
    let head = take::<12>(stream)?;
    if be64(&head[4..])? != asked.cookie {
        return Err(NbdError::Protocol("a reply is for another request"));
    }
    match be32(&head)? {
        0 => Ok(Chunk { done: true, kind: NONE, body: vec![] }),
        code => Err(NbdError::Failed { offset: asked.offset, code, message: String::new() }),
    }
}

fn error(kind: u16, body: &[u8], asked: Asked) -> NbdError {
    let code = be32(body).unwrap_or(0);
    let length = body.get(4..6).map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]])));
    let message = body.get(6..6 + length).unwrap_or_default();
    let offset = match kind {
        ERROR_OFFSET => body.get(6 + length..).and_then(|b| be64(b).ok()).unwrap_or(asked.offset),
        _ => asked.offset,
    };
    NbdError::Failed { offset, code, message: String::from_utf8_lossy(message).into_owned() }
}

/// Runs `take` on every chunk until the last. An error chunk is returned after the last one, so that the stream stays in step.
fn each(stream: &mut impl Read, asked: Asked, mut take: impl FnMut(u16, &[u8]) -> Result<(), NbdError>) -> Result<(), NbdError> {
    let mut failure = None;
    loop {
        let Chunk { done, kind, body } = chunk(stream, asked)?;
        match kind {
            NONE if body.is_empty() => {}
            kind if kind & ERROR != 0 => failure = failure.or(Some(error(kind, &body, asked))),
            kind => take(kind, &body)?,
        }
        if done {
            return failure.map_or(Ok(()), Err);
        }
    }
}

/// An answer without content.
pub(super) fn empty(stream: &mut impl Read, asked: Asked) -> Result<(), NbdError> {
    each(stream, asked, |_kind, _body| Err(NbdError::Protocol("content was not asked for")))
}

/// Content for all of `out`.
pub(super) fn content(stream: &mut impl Read, asked: Asked, out: &mut [u8]) -> Result<(), NbdError> {
    let mut covered = 0;
    each(stream, asked, |kind, body| {
        let at = be64(body)?;
        let length = match kind {
            OFFSET_DATA => body.len() - 8,
            OFFSET_HOLE if body.len() == 12 => be32(&body[8..])? as usize,
            _ => return Err(NbdError::Protocol("a chunk is no content")),
        };
        let start = at.checked_sub(asked.offset).and_then(|s| usize::try_from(s).ok());
        let part = start.and_then(|s| out.get_mut(s..s.checked_add(length)?));
        let part = part.ok_or(NbdError::Protocol("content lies outside the request"))?;
        if kind == OFFSET_DATA {
            part.copy_from_slice(&body[8..]);
        } else {
            part.fill(0);
        }
        covered += length;
        Ok(())
    })?;
    if covered != out.len() {
        return Err(NbdError::Protocol("content has gaps or overlaps"));
    }
    Ok(())
}

/// Extents from the request's offset on; the last one may reach beyond its end.
pub(super) fn status(stream: &mut impl Read, asked: Asked, context_id: u32) -> Result<Vec<Extent>, NbdError> {
    let mut extents = vec![];
    each(stream, asked, |kind, body| {
        if kind != BLOCK_STATUS || body.len() < 12 || (body.len() - 4) % 8 != 0 || be32(body)? != context_id {
            return Err(NbdError::Protocol("a chunk is no block status of our context"));
        }
        let mut offset = asked.offset;
        for pair in body[4..].chunks_exact(8) {
            let length = u64::from(be32(pair)?);
            if length == 0 {
                return Err(NbdError::Protocol("an extent is empty"));
            }
            extents.push(Extent { offset, length, flags: be32(&pair[4..])? });
            offset += length;
        }
        Ok(())
    })?;
    if extents.is_empty() {
        return Err(NbdError::Protocol("a block status is empty"));
    }
    Ok(extents)
}
