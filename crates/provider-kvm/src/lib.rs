//! Sites with libvirt and QEMU.

mod durable;
mod ffi;
mod guard;
mod machines;
mod nbd;
mod os_process;
mod qemu;
mod replica;
