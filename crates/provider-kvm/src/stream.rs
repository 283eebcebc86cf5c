//! The line between two agents on which points travel: TLS with certificates on both sides, frames with checksums.
//!
//! ```text
//!   source ── Hello ──▶ target      ◀── Welcome { newest point and its mark, a first copy begun? } | Refused
//!          ── Begin ──▶             ── Digests? ──▶ ◀── Digests          (only to compare)
//!          ── Write, Zero … ──▶     ── Commit ──▶   ◀── Committed { point }
//! ```
//!
//! Invariants: 1. A point exists when `Committed` was sent, and stays; before that a broken line leaves nothing but a part.
//! 2. Every block carries a checksum that is checked before it is written. 3. The target answers only to certificates of its
//! own CA, the source sends only to the name it was told. 4. Nothing on this line needs the orchestrator.

mod frame;
mod link;
mod receiver;
mod tls;

pub(crate) use link::{Link, LinkError, Sent};
pub(crate) use receiver::Receiver;
pub use tls::TlsIdentity;
pub(crate) use tls::{TlsError, TlsSides};

/// Blocks are compared by digests of this many bytes.
pub(crate) const DIGEST_BLOCK_BYTES: u64 = 65_536;

#[cfg(test)]
mod tests;
