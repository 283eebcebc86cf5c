//! Sites with libvirt and QEMU.

mod definition;
mod durable;
mod ffi;
mod guard;
mod hypervisor;
mod machines;
mod nbd;
mod os_process;
mod qemu;
mod replica;
mod stream;
