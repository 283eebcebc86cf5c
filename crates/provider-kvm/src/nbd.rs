//! A client for the network block device protocol, as far as QEMU serves it: on Unix sockets, with structured replies and
//! one metadata context.
//!
//! ```text
//!   connect ─▶ STRUCTURED_REPLY ─▶ [SET_META_CONTEXT] ─▶ GO ─▶ read, write, write_zeroes, trim, block_status, flush ─▶ disconnect
//! ```
//!
//! Invariants: 1. Everything that a server sends is checked before it is used: lengths are bounded, offsets lie within the
//! request, a read is covered exactly once. 2. After an error the connection is not used again.

mod client;
mod handshake;
mod reply;

use std::io;

pub(crate) use client::{Client, Extent};

/// Bytes of the largest read or write; QEMU takes up to 32 MiB.
pub(crate) const MAX_REQUEST_BYTES: usize = 4 << 20;

/// Why a conversation with a server failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NbdError {
    /// The socket.
    #[error("reading from or writing to the NBD server failed")]
    Io(#[from] io::Error),
    /// The server does not keep to the protocol.
    #[error("the NBD server violates the protocol: {0}")]
    Protocol(&'static str),
    /// The server refused an option of the handshake.
    #[error("the NBD server refused option {option}: {message}")]
    Refused { option: u32, message: String },
    /// The server has no such metadata context.
    #[error("the NBD export {export} has no context {context}")]
    NoContext { export: String, context: String },
    /// The server could not carry out a request.
    #[error("the NBD server failed a request at offset {offset}: error {code} {message}")]
    Failed { offset: u64, code: u32, message: String },
    /// The request is not within the export.
    #[error("{length} bytes at {offset} are not within the export of {size} bytes")]
    OutOfRange { offset: u64, length: u64, size: u64 },
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests;
