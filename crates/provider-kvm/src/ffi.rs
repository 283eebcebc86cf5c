//! libvirt calls for which the `virt` crate has no wrapper: backup, checkpoints, block jobs, frozen file systems.
//!
//! The only unsafe code of the project, so a namespace for a thread and a question to a network are here too. Each function borrows a live `Domain`, passes strings that end with NUL, checks the
//! result and frees what libvirt allocated. All of them block.
#![expect(unsafe_code, reason = "libvirt's C interface has no safe wrapper for these calls")]

use std::{
    ffi::{CStr, CString, NulError},
    net::Ipv4Addr,
    ptr,
    time::{Duration, Instant},
};

use virt::{domain::Domain, error::Error, sys};

/// Why a call into libvirt failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// libvirt's own answer.
    #[error("libvirt: {}", .0.message())]
    Libvirt(Error),
    /// A string can't be passed to C.
    #[error("a text for libvirt contains a zero byte")]
    ZeroByte(#[source] NulError),
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        Self::Libvirt(error)
    }
}

/// How far a block job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockJob {
    pub(crate) done: u64,
    pub(crate) total: u64,
}

fn text(s: &str) -> Result<CString, CallError> {
    CString::new(s).map_err(CallError::ZeroByte)
}

fn check(result: i32) -> Result<i32, CallError> {
    if result < 0 { Err(CallError::Libvirt(Error::last_error())) } else { Ok(result) }
}

/// Starts a backup job, and with it the checkpoint that the next one counts from.
pub(crate) fn backup_begin(domain: &Domain, backup_xml: &str, checkpoint_xml: Option<&str>) -> Result<(), CallError> {
    let backup = text(backup_xml)?;
    let checkpoint = checkpoint_xml.map(text).transpose()?;
    let checkpoint = checkpoint.as_ref().map_or(ptr::null(), |c| c.as_ptr());
    // SAFETY: the domain is live while borrowed; both strings outlive the call.
    check(unsafe { sys::virDomainBackupBegin(domain.as_ptr(), backup.as_ptr(), checkpoint, 0) }).map(drop)
}

/// The running backup job's description, or an error if there is none.
pub(crate) fn backup_xml(domain: &Domain) -> Result<String, CallError> {
    // SAFETY: the domain is live while borrowed; a result that is not null is a string that we own and free.
    unsafe {
        let xml = sys::virDomainBackupGetXMLDesc(domain.as_ptr(), 0);
        if xml.is_null() {
            return Err(CallError::Libvirt(Error::last_error()));
        }
        let copy = CStr::from_ptr(xml).to_string_lossy().into_owned();
        libc_free(xml);
        Ok(copy)
    }
}

/// # Safety
/// `memory` was allocated by libvirt for us and is not used any more.
unsafe fn libc_free(memory: *mut std::ffi::c_char) {
    unsafe extern "C" {
        fn free(memory: *mut std::ffi::c_void);
    }
    // SAFETY: libvirt allocates with malloc; the caller gives the memory up.
    unsafe { free(memory.cast()) }
}

/// Ends the domain's job, such as a backup.
pub(crate) fn abort_job(domain: &Domain) -> Result<(), CallError> {
    // SAFETY: the domain is live while borrowed.
    check(unsafe { sys::virDomainAbortJob(domain.as_ptr()) }).map(drop)
}

/// Makes a checkpoint of a running domain.
pub(crate) fn checkpoint_create(domain: &Domain, xml: &str) -> Result<(), CallError> {
    let xml = text(xml)?;
    // SAFETY: the domain is live while borrowed, the string outlives the call, and a result that is not null is freed.
    unsafe {
        let checkpoint = sys::virDomainCheckpointCreateXML(domain.as_ptr(), xml.as_ptr(), 0);
        if checkpoint.is_null() {
            return Err(CallError::Libvirt(Error::last_error()));
        }
        check(sys::virDomainCheckpointFree(checkpoint)).map(drop)
    }
}

/// Names of the domain's checkpoints.
pub(crate) fn checkpoint_names(domain: &Domain) -> Result<Vec<String>, CallError> {
    let mut list: *mut sys::virDomainCheckpointPtr = ptr::null_mut();
    // SAFETY: libvirt stores an array of `count` checkpoints in `list`; we free each and then the array.
    unsafe {
        let count = check(sys::virDomainListAllCheckpoints(domain.as_ptr(), &raw mut list, 0))?;
        let count = usize::try_from(count).unwrap_or(0);
        let mut names = Vec::with_capacity(count);
        for i in 0..count {
            let checkpoint = *list.add(i);
            let name = sys::virDomainCheckpointGetName(checkpoint);
            if !name.is_null() {
                names.push(CStr::from_ptr(name).to_string_lossy().into_owned());
            }
            check(sys::virDomainCheckpointFree(checkpoint))?;
        }
        libc_free(list.cast());
        Ok(names)
    }
}

/// Removes a checkpoint: with its marks in the disks, or only libvirt's own record of it.
pub(crate) fn checkpoint_delete(domain: &Domain, name: &str, record_only: bool) -> Result<(), CallError> {
    let name = text(name)?;
    let flags = if record_only { sys::VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY } else { 0 };
    // SAFETY: the domain is live while borrowed, the string outlives the call, and the checkpoint is freed.
    unsafe {
        let checkpoint = sys::virDomainCheckpointLookupByName(domain.as_ptr(), name.as_ptr(), 0);
        if checkpoint.is_null() {
            return Err(CallError::Libvirt(Error::last_error()));
        }
        let deleted = check(sys::virDomainCheckpointDelete(checkpoint, flags));
        check(sys::virDomainCheckpointFree(checkpoint))?;
        deleted.map(drop)
    }
}

/// Starts copying everything that a disk still reads from its backing chain into the disk itself.
pub(crate) fn block_pull(domain: &Domain, disk: &str) -> Result<(), CallError> {
    let disk = text(disk)?;
    // SAFETY: the domain is live while borrowed; the string outlives the call.
    check(unsafe { sys::virDomainBlockPull(domain.as_ptr(), disk.as_ptr(), 0, 0) }).map(drop)
}

/// The block job of a disk, if one runs.
pub(crate) fn block_job(domain: &Domain, disk: &str) -> Result<Option<BlockJob>, CallError> {
    let disk = text(disk)?;
    let mut job = sys::virDomainBlockJobInfo { type_: 0, bandwidth: 0, cur: 0, end: 0 };
    // SAFETY: the domain is live while borrowed; libvirt fills the structure that we own.
    let found = check(unsafe { sys::virDomainGetBlockJobInfo(domain.as_ptr(), disk.as_ptr(), &raw mut job, 0) })?;
    Ok((found > 0).then_some(BlockJob { done: job.cur, total: job.end }))
}

/// Ends the block job of a disk; what it has copied stays.
pub(crate) fn block_job_abort(domain: &Domain, disk: &str) -> Result<(), CallError> {
    let disk = text(disk)?;
    // SAFETY: the domain is live while borrowed; the string outlives the call.
    check(unsafe { sys::virDomainBlockJobAbort(domain.as_ptr(), disk.as_ptr(), 0) }).map(drop)
}

/// Gives the calling thread a network namespace of its own, empty, which goes with the thread.
pub(crate) fn own_network() -> std::io::Result<()> {
    // SAFETY: only the network namespace changes, which no memory of this process depends on.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.map_err(Into::into)
}

/// `struct sockaddr_ll` of packet(7).
#[repr(C)]
struct LinkAddress {
    family: u16,
    protocol: u16,
    interface: i32,
    hardware: u16,
    kind: u8,
    length: u8,
    address: [u8; 8],
}

// SAFETY: the pointer is to a whole `sockaddr_ll` that lives as long as the closure runs, and the length is its size.
unsafe impl rustix::net::addr::SocketAddrArg for LinkAddress {
    unsafe fn with_sockaddr<R>(&self, f: impl FnOnce(*const rustix::net::addr::SocketAddrOpaque, rustix::net::addr::SocketAddrLen) -> R) -> R {
        f(ptr::from_ref(self).cast(), size_of::<Self>() as rustix::net::addr::SocketAddrLen)
    }
}

/// Asks a network whether anybody has an IPv4 address, as one who has none (RFC 5227): nobody learns anything from the question.
/// Waits so long for an answer. The calling thread must be alone in its network namespace with that interface, whose hardware address
/// `own` is.
pub(crate) fn who_has(interface: &str, own: [u8; 6], address: Ipv4Addr, patience: Duration) -> std::io::Result<bool> {
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, eth, netdevice::name_to_index, recv, sendto, socket_with};
    const ETHERNET: [u8; 2] = [0, 1];
    const IPV4: [u8; 2] = [8, 0];
    const REQUEST: [u8; 2] = [0, 1];
    let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(eth::ARP))?;
    let index = name_to_index(&socket, interface)?;
    let everybody = LinkAddress {
        family: AddressFamily::PACKET.as_raw(),
        protocol: 0x0806_u16.to_be(),
        interface: i32::try_from(index).map_err(std::io::Error::other)?,
        hardware: 0,
        kind: 0,
        length: 6,
        address: [0xff; 8],
    };
    let question = [&ETHERNET[..], &IPV4, &[6, 4], &REQUEST, &own, &[0; 4], &[0; 6], &address.octets()].concat();
    sendto(&socket, &question, SendFlags::empty(), &everybody)?;
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut waits = [rustix::event::PollFd::new(&socket, rustix::event::PollFlags::IN)];
        let wait = rustix::event::Timespec::try_from(left).map_err(std::io::Error::other)?;
        match rustix::event::poll(&mut waits, Some(&wait)) {
            Err(rustix::io::Errno::INTR) => continue,
            other if left.is_zero() || other? == 0 => return Ok(false),
            _ => {}
        }
        let mut heard = [0_u8; 64];
        let (length, _) = recv(&socket, &mut heard[..], RecvFlags::empty())?;
        // Whoever speaks from that address has it: sender's protocol address, at 14.
        if length >= 28 && heard[8..14] != own && heard[14..18] == address.octets() {
            return Ok(true);
        }
    }
}

/// Asks the guest's agent to hold all file systems still. Returns how many are held.
pub(crate) fn fs_freeze(domain: &Domain) -> Result<u32, CallError> {
    // SAFETY: the domain is live while borrowed; no list means all file systems.
    let held = check(unsafe { sys::virDomainFSFreeze(domain.as_ptr(), ptr::null_mut(), 0, 0) })?;
    Ok(u32::try_from(held).unwrap_or(0))
}

/// Asks the guest's agent to let all file systems go. Returns how many were held.
pub(crate) fn fs_thaw(domain: &Domain) -> Result<u32, CallError> {
    // SAFETY: the domain is live while borrowed; no list means all file systems.
    let held = check(unsafe { sys::virDomainFSThaw(domain.as_ptr(), ptr::null_mut(), 0, 0) })?;
    Ok(u32::try_from(held).unwrap_or(0))
}
