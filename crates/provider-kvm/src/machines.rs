//! Machines that were made from points: their records beside the points, and the machines themselves.
//!
//! ```text
//!   machine.TOKEN.json      disks, point, definition: exists = prepared
//!   run.TOKEN.vda.qcow2     its throw-away disk
//!   started.TOKEN.json      when it was first powered on: written before its first instruction
//!   standalone.TOKEN        its disks need no point any more
//!   retired.TOKEN           the hypervisor does not have it any more; its disks are, or will be, beneath a replica
//!   aside.UUID.json         the user's own machine that was in its way
//!   discarded.GENERATION.TOKEN   calls of that generation with a smaller token come too late
//! ```
//!
//! Invariants: 1. Of a generation the greatest token counts; records of smaller ones, and of calls that were discarded, are
//! garbage, whenever they appear. 2. A disk without a record is garbage. 3. A machine is started by a call that fails if its name
//! is in use, and from a record only.

mod aside;
mod bring_up;
mod flat;
mod isolation;
mod kept_copies;
mod neighbour;
mod probe;
mod records;
mod shared;
mod test_copy;

pub(crate) use aside::{back as aside_back, forget as aside_forget};
pub(crate) use bring_up::{checkpoint_name, discard, observe, recover, retire, start, started};
pub(crate) use flat::flatten;
pub(crate) use kept_copies::{files_of_copies, read_by_copies, sweep_copies};
pub(crate) use records::{MachineRecord, dependent, records, sweep};
pub(crate) use shared::{Networks, networks_of_copies};
pub(crate) use test_copy::{Copies, owns_copy};
