//! The data stream between two agents: TLS with a certificate on both sides, and frames inside.
//!
//! ```text
//!   source                         target
//!     Hello ────────────────────────▶      item, generation, disks
//!           ◀──────────────── Welcome      newest point and its mark, a begun first copy, an old machine's disks
//!     Begin ────────────────────────▶      full, delta, return, or comparison
//!           ◀────────────────── Ready
//!     Data, Zero, AskDigests … ─────▶ ◀─── Digests
//!     AskWritten ───────────────────▶ ◀─── Written
//!     Commit ───────────────────────▶
//!           ◀────────────── Committed      the point is recorded; only now the source forgets what it was made from
//! ```
//!
//! Invariants: 1. Every frame has a checksum, and lengths are bounded before memory is taken. 2. The target decides what is
//! built on what; the source's wish is checked. 3. A line that breaks leaves no point, whatever was sent. 4. One session an
//! item: a newer one ends the older.

mod frame;
mod receive;
mod send;
mod tls;

#[cfg(test)]
use frame::AskWritten;
pub(crate) use frame::{BLOCK_BYTES, Commit, Digest, Frame, Hello, Mode, StreamError, Welcome, digest};
pub(crate) use receive::{Receiver, Receiving};
pub(crate) use send::{Line, Limiter};
pub(crate) use tls::Tls;
pub use tls::TlsIdentity;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests;
