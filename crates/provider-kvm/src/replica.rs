//! The recovery points of one item: qcow2 files in a chain, and the journal that says which of them are points.
//!
//! ```text
//!   ITEM/journal-w7.0.jsonl      the truth; the greatest writer and count is the one in force
//!   ITEM/p1-w5.0.vda.qcow2 ◀─ p2-w5.1.vda.qcow2 ◀─ p3-w7.0.vda.qcow2 ◀─ p4-w7.1.vda.qcow2.part (no point yet)
//! ```
//!
//! On the way home the first point lies on the disks of the item's old machine, which are never written.
//!
//! Invariants: 1. A point is written under a temporary name, closed, synced, renamed, and only then recorded; the record is the
//! point. 2. What is not recorded is deleted at opening. 3. Names carry the writer, so a late process collides with nothing, and
//! its records go to a journal that is in force no more. 4. To prune a point, the one above it is merged into its files: the
//! points above stay right at every moment, and the merge can be repeated. 5. Nothing is merged that a
//! machine or a copy reads from, and nothing ever into the old machine's disks.

mod append;
mod journal;
mod prepare;
mod prune;
mod record;
mod store;

pub(crate) use append::Append;
#[cfg(test)]
pub(crate) use append::Base;
use record::Record;
pub(crate) use record::StoredBase;
pub(crate) use store::{ItemStore, NewPoint, is_point_file};

/// Points never make a chain longer than this. libvirt reads QEMU's description of a machine's disks only down to 32 levels and
/// starts none with more than some 23 images in a chain: this leaves room for an old machine's disk beneath the points, and for
/// the disk of a machine or a copy that runs on them.
pub(crate) const MAX_CHAIN: usize = 20;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests;
