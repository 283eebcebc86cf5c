//! Sites with libvirt and QEMU: machines as libvirt has them, points as qcow2 files, data over TLS between agents.
//!
//! ```text
//!                     KvmSite  (the ports of `provider`)
//!            ┌───────────┼──────────────┬───────────────┐
//!         machines     replica ◀──── stream ◀──────── source        loops, threads of their own
//!            │           │                              │
//!       hypervisor     qemu (qemu-img, qemu-nbd) ── nbd ┘
//!            │
//!           ffi (virt, virt-sys)                guard: every effect asks it first
//! ```
//!
//! Invariants: 1. Replication needs no orchestrator. 2. A point is in the journal or is no point. 3. A call that comes late
//! fails or makes garbage (`guard`). 4. Only `ffi` is unsafe.

mod advice;
mod blocks;
mod definition;
mod durable;
mod extent_map;
mod fenced;
mod ffi;
mod guard;
mod hypervisor;
mod inspect;
mod machines;
mod nbd;
mod pidfd;
mod qemu;
mod replica;
mod site;
mod source;
mod stream;

pub use advice::{DiskLook, Finding, HostLook, MachineLook, look_at};
pub use site::{KvmConfig, KvmSite};
pub use stream::TlsIdentity;
