//! The beginning of a conversation: what both sides can do, and which export.

use std::io::{Read, Write};

use super::NbdError;

const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const FIXED_NEWSTYLE: u16 = 1;
const FIXED_NEWSTYLE_NO_ZEROES: u32 = 3;
const OPT_GO: u32 = 7;
const OPT_STRUCTURED_REPLY: u32 = 8;
const OPT_SET_META_CONTEXT: u32 = 10;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_META_CONTEXT: u32 = 4;
const REP_ERROR: u32 = 1 << 31;
const INFO_EXPORT: u16 = 0;
const MAX_OPTION_REPLY_BYTES: usize = 64 << 10;
const MAX_OPTION_REPLIES: usize = 1000;

/// What was agreed on.
pub(super) struct Agreed {
    pub(super) size: u64,
    pub(super) context_id: Option<u32>,
}

/// Reads exactly N bytes.
pub(super) fn take<const N: usize>(stream: &mut impl Read) -> Result<[u8; N], NbdError> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn be32(bytes: &[u8]) -> Result<u32, NbdError> {
    let four = bytes.first_chunk().ok_or(NbdError::Protocol("a field is cut off"))?;
    Ok(u32::from_be_bytes(*four))
}

pub(super) fn be64(bytes: &[u8]) -> Result<u64, NbdError> {
    let eight = bytes.first_chunk().ok_or(NbdError::Protocol("a field is cut off"))?;
    Ok(u64::from_be_bytes(*eight))
}

/// Agrees on an export, with one metadata context if wanted.
pub(super) fn shake<S: Read + Write>(stream: &mut S, export: &str, context: Option<&str>) -> Result<Agreed, NbdError> {
    let hello = take::<18>(stream)?;
    if be64(&hello)? != NBD_MAGIC || be64(&hello[8..])? != OPTION_MAGIC {
        return Err(NbdError::Protocol("it does not greet as a newstyle server"));
    }
    if u16::from_be_bytes([hello[16], hello[17]]) & FIXED_NEWSTYLE == 0 {
        return Err(NbdError::Protocol("it is no fixed newstyle server"));
    }
    stream.write_all(&FIXED_NEWSTYLE_NO_ZEROES.to_be_bytes())?;
    option(stream, OPT_STRUCTURED_REPLY, &[])?;

    let name_bytes = counted(export);
    let mut context_id = None;
    if let Some(context) = context {
        let mut body = name_bytes.clone();
        body.extend(1u32.to_be_bytes());
        body.extend(counted(context));
        let replies = option(stream, OPT_SET_META_CONTEXT, &body)?;
        let ours = replies.iter().find(|(kind, body)| *kind == REP_META_CONTEXT && body.get(4..) == Some(context.as_bytes()));
        let Some((_, body)) = ours else {
            return Err(NbdError::NoContext { export: export.to_owned(), context: context.to_owned() });
        };
        context_id = Some(be32(body)?);
    }

    let mut body = name_bytes;
    body.extend(0u16.to_be_bytes());
    for (kind, body) in option(stream, OPT_GO, &body)? {
        if kind == REP_INFO && body.len() == 12 && body[..2] == INFO_EXPORT.to_be_bytes() {
            return Ok(Agreed { size: be64(&body[2..])?, context_id });
        }
    }
    Err(NbdError::Protocol("it does not describe the export"))
}

fn counted(text: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn option<S: Read + Write>(stream: &mut S, option: u32, body: &[u8]) -> Result<Vec<(u32, Vec<u8>)>, NbdError> {
    let mut request = OPTION_MAGIC.to_be_bytes().to_vec();
    request.extend(option.to_be_bytes());
    request.extend(u32::try_from(body.len()).map_err(|_too_long| NbdError::Protocol("our option is too long"))?.to_be_bytes());
    request.extend(body);
    stream.write_all(&request)?;
    stream.flush()?;

    let mut replies = vec![];
    while replies.len() < MAX_OPTION_REPLIES {
        let head = take::<20>(stream)?;
        if be64(&head)? != OPTION_REPLY_MAGIC || be32(&head[8..])? != option {
            return Err(NbdError::Protocol("it answers another option"));
        }
        let (kind, length) = (be32(&head[12..])?, be32(&head[16..])? as usize);
        if length > MAX_OPTION_REPLY_BYTES {
            return Err(NbdError::Protocol("an answer to an option is too long"));
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        if kind & REP_ERROR != 0 {
            return Err(NbdError::Refused { option, message: String::from_utf8_lossy(&body).into_owned() });
        }
        if kind == REP_ACK {
            return Ok(replies);
        }
        replies.push((kind, body));
    }
    Err(NbdError::Protocol("it never stops answering an option"))
}
