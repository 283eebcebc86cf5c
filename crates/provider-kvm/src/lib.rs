//! Sites with libvirt and QEMU.

mod durable;
mod ffi;
mod guard;
mod nbd;
mod os_process;
mod qemu;
