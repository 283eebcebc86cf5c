//! libvirt beside this agent: machines by name or UUID, and what may be asked of each. All calls block.
//!
//! The connection is made when it is needed and made again when it has broken, so a restart of the daemon is not noticed.

mod guest;
mod network;
mod outlived;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use provider::{Applied, PowerState, ProviderError};
use virt::{
    connect::Connect,
    domain::{Domain, DomainState},
    error::{ErrorNumber, Error as VirtError},
    sys,
};

use crate::{
    ffi::{self, BlockJob, CallError},
    pidfd::Pidfd,
};

pub(crate) use guest::ShutDownBy;
use outlived::{Bounds, Outcome, answered};

/// A QEMU process that is asked to end closes its disks first; then it is killed.
const TERMINATE_PATIENCE: Duration = Duration::from_secs(10);
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// libvirt notices the end of a process or job a moment later.
const NOTICE_PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// The hypervisor of this host.
pub(crate) struct Hypervisor {
    uri: String,
    connection: Mutex<Option<Connect>>,
}

impl fmt::Debug for Hypervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hypervisor({})", self.uri)
    }
}

/// A machine that libvirt knows. The handle means the UUID: it never reaches a machine with another one.
#[derive(Debug)]
pub(crate) struct Vm {
    domain: Domain,
    pub(crate) name: String,
    pub(crate) uuid: String,
}

/// What came of starting a machine from its definition.
#[derive(Debug)]
pub(crate) enum Created {
    Paused(Vm),
    /// A machine of that name or UUID is there already.
    Exists,
}

impl Hypervisor {
    pub(crate) fn new(uri: &str) -> Self {
        virt::error::clear_error_callback();
        Self { uri: uri.to_owned(), connection: Mutex::new(None) }
    }

    /// The same machine on a connection of its own: libvirt lets only a few calls of a connection go on at a time.
    pub(crate) fn apart(&self, vm: &Vm) -> Result<Vm, ProviderError> {
        Self::new(&self.uri).by_uuid(&vm.uuid)?.ok_or_else(|| ProviderError::NoSuchMachine { machine: vm.name.clone() })
    }

    pub(crate) fn connect(&self) -> Result<Connect, ProviderError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(live) = connection.as_ref().filter(|c| c.is_alive().unwrap_or(false)) {
            return Ok(live.clone());
        }
        let unreachable = |e: VirtError| ProviderError::Unreachable { site: self.uri.clone(), detail: e.message().to_owned() };
        let new = Connect::open(Some(&self.uri)).map_err(unreachable)?;
        *connection = Some(new.clone());
        Ok(new)
    }

    /// The machine of that name.
    pub(crate) fn by_name(&self, name: &str) -> Result<Vm, ProviderError> {
        match self.connect()?.lookup_domain_by_name(name) {
            Ok(domain) => Vm::of(domain),
            Err(e) if is(&e, ErrorNumber::NoDomain) => Err(ProviderError::NoSuchMachine { machine: name.to_owned() }),
            Err(e) => Err(failed("look up", name)(e.into())),
        }
    }

    /// The machine of that UUID, if there is one.
    pub(crate) fn by_uuid(&self, uuid: &str) -> Result<Option<Vm>, ProviderError> {
        match self.connect()?.lookup_domain_by_uuid_string(uuid) {
            Ok(domain) => Vm::of(domain).map(Some),
            Err(e) if is(&e, ErrorNumber::NoDomain) => Ok(None),
            Err(e) => Err(failed("look up", uuid)(e.into())),
        }
    }

    /// All machines.
    pub(crate) fn all(&self) -> Result<Vec<Vm>, ProviderError> {
        let domains = self.connect()?.list_all_domains(0).map_err(|e| failed("list machines of", &self.uri)(e.into()))?;
        // One may go while we look; then it is not there.
        Ok(domains.into_iter().filter_map(|d| Vm::of(d).ok()).collect())
    }

    /// Starts a machine, paused and without a stored definition. Fails if its name or UUID is in use.
    pub(crate) fn create_paused(&self, name: &str, xml: &str) -> Result<Created, ProviderError> {
        let _span = calling("create", name);
        match self.connect()?.create_domain_xml(xml, sys::VIR_DOMAIN_START_PAUSED) {
            Ok(domain) => Vm::of(domain).map(Created::Paused),
            Err(e) if is(&e, ErrorNumber::DomExist) || e.message().contains("already") => Ok(Created::Exists),
            Err(e) => Err(failed("start", name)(e.into())),
        }
    }

    /// Stores a machine's definition. Fails if its name belongs to a machine with another UUID.
    pub(crate) fn define(&self, name: &str, xml: &str) -> Result<(), ProviderError> {
        let _span = calling("define", name);
        self.connect()?.define_domain_xml(xml).map(drop).map_err(|e| failed("define", name)(e.into()))
    }
}

impl Vm {
    fn of(domain: Domain) -> Result<Self, ProviderError> {
        let name = domain.name().map_err(|e| failed("ask for", "a machine's name")(e.into()))?;
        let uuid = domain.uuid_string().map_err(|e| failed("ask for the UUID of", &name)(e.into()))?;
        Ok(Self { domain, name, uuid })
    }

    fn err<E: Into<CallError>>(&self, operation: &str) -> impl FnOnce(E) -> ProviderError {
        let failed = failed(operation, &self.name);
        move |e| failed(e.into())
    }

    pub(crate) fn power(&self) -> Result<PowerState, ProviderError> {
        use virt::enumutil::Enum;
        let state = match self.domain.info() {
            Ok(details) => details.state,
            Err(e) if is(&e, ErrorNumber::NoDomain) => return Ok(PowerState::Off),
            Err(e) => return Err(self.err("ask for the state of")(e)),
        };
        Ok(match state {
            Enum::Known(DomainState::Shutoff | DomainState::Crashed) => PowerState::Off,
            Enum::Known(DomainState::Paused | DomainState::PMSuspended) => PowerState::Paused,
            Enum::Known(_) | Enum::Unknown(_) => PowerState::Running,
        })
    }

    pub(crate) fn active(&self) -> Result<bool, ProviderError> {
        Ok(self.power()? != PowerState::Off)
    }

    /// A machine without a stored definition does not start with its host.
    pub(crate) fn autostart(&self) -> Result<bool, ProviderError> {
        if !self.persistent()? {
            return Ok(false);
        }
        self.domain.autostart().map_err(self.err("ask for autostart of"))
    }

    pub(crate) fn persistent(&self) -> Result<bool, ProviderError> {
        self.domain.is_persistent().map_err(self.err("ask about"))
    }

    pub(crate) fn set_autostart(&self, on: bool) -> Result<(), ProviderError> {
        self.domain.set_autostart(on).map(drop).map_err(self.err("set autostart of"))
    }

    /// As it would be started next time.
    pub(crate) fn definition(&self) -> Result<String, ProviderError> {
        self.domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_SECURE).map_err(self.err("describe"))
    }

    pub(crate) fn capacity_bytes(&self, disk: &str) -> Result<u64, ProviderError> {
        self.domain.block_info(disk, 0).map(|b| b.capacity).map_err(self.err("ask for a disk of"))
    }

    /// Starts a machine from its stored definition, paused.
    pub(crate) fn start_paused(&self) -> Result<(), ProviderError> {
        let _span = calling("create", &self.name);
        match self.domain.create_with_flags(sys::VIR_DOMAIN_START_PAUSED) {
            Err(_) if self.active()? => Ok(()),
            other => other.map(drop).map_err(self.err("start")),
        }
    }

    pub(crate) fn suspend(&self) -> Result<(), ProviderError> {
        let _span = calling("suspend", &self.name);
        self.domain.suspend().map(drop).map_err(self.err("pause"))
    }

    pub(crate) fn resume(&self) -> Result<(), ProviderError> {
        let _span = calling("resume", &self.name);
        self.domain.resume().map(drop).map_err(self.err("resume"))
    }

    /// Handles on the processes that run the machine now. A machine that is started later is not among them.
    pub(crate) fn processes(&self) -> Result<Vec<Pidfd>, ProviderError> {
        Pidfd::of_machine(&self.uuid).map_err(|e| failed_with("find the process of", &self.name, e.to_string()))
    }

    /// Ends exactly these processes of the machine, and waits until libvirt says that it is off.
    pub(crate) fn power_off(&self, processes: &[Pidfd]) -> Result<(), ProviderError> {
        let _span = calling("destroy", &self.name);
        let io = |e: std::io::Error| failed_with("end", &self.name, e.to_string());
        for process in processes {
            process.terminate().map_err(io)?;
            if !process.wait(TERMINATE_PATIENCE).map_err(io)? {
                process.kill().map_err(io)?;
                if !process.wait(KILL_PATIENCE).map_err(io)? {
                    return Err(failed_with("end", &self.name, format!("its process {} does not end", process.pid())));
                }
            }
        }
        self.until("end", || Ok(!self.active()?))
    }

    /// Removes the stored definition and libvirt's records of checkpoints. The machine must be off.
    pub(crate) fn undefine(&self) -> Result<(), ProviderError> {
        let flags = sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE;
        let _span = calling("undefine", &self.name);
        match self.domain.undefine_flags(flags) {
            Err(e) if !is(&e, ErrorNumber::NoDomain) => Err(self.err("undefine")(e)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(crate) fn checkpoints(&self) -> Result<BTreeSet<String>, ProviderError> {
        Ok(ffi::checkpoint_names(&self.domain).map_err(self.err("list checkpoints of"))?.into_iter().collect())
    }

    /// Counts changes of these disks from now on under this name.
    pub(crate) fn checkpoint(&self, name: &str, disks: &[String]) -> Result<(), ProviderError> {
        let _span = calling("checkpoint", &self.name);
        ffi::checkpoint_create(&self.domain, &checkpoint_xml(name, disks)).map_err(self.err("make a checkpoint of"))
    }

    /// Removes a checkpoint; if its marks in the disks are broken, then at least libvirt's record of it.
    pub(crate) fn remove_checkpoint(&self, name: &str) -> Result<(), ProviderError> {
        if self.active()? && ffi::checkpoint_delete(&self.domain, name, false).is_ok() {
            return Ok(());
        }
        match ffi::checkpoint_delete(&self.domain, name, true) {
            Err(CallError::Libvirt(e)) if is(&e, ErrorNumber::NoDomainCheckpoint) => Ok(()),
            other => other.map_err(self.err("remove a checkpoint of")),
        }
    }

    /// Serves the machine's disks as they are now on a Unix socket, one export per disk target. With `since`, each export has
    /// the dirty bitmap of what changed since that checkpoint. With `mark`, a checkpoint is made in the same instant. To be called on
    /// a connection of its own: if the machine's process ends meanwhile, libvirt may never answer.
    pub(crate) fn begin_backup(&self, backup: &Backup<'_>) -> Result<(), ProviderError> {
        let (domain, job) = (self.domain.clone(), backup.xml());
        let checkpoint = backup.mark.map(|mark| checkpoint_xml(mark, backup.disks));
        // What can't be looked at is taken to live.
        let lives = || !Pidfd::of_machine(&self.uuid).is_ok_and(|processes| processes.is_empty());
        match answered(Bounds::default(), move || ffi::backup_begin(&domain, &job, checkpoint.as_deref()), lives) {
            Outcome::Answered(answer) => answer.map_err(self.err("begin a backup of")),
            Outcome::Outlived => Err(failed_with("begin a backup of", &self.name, "its process has ended, and libvirt does not answer".to_owned())),
            Outcome::Lost(why) => Err(failed_with("begin a backup of", &self.name, why)),
        }
    }

    /// The backup job that runs, as libvirt describes it.
    pub(crate) fn backup(&self) -> Option<String> {
        ffi::backup_xml(&self.domain).ok()
    }

    /// Whether a backup job runs.
    pub(crate) fn in_backup(&self) -> bool {
        self.backup().is_some()
    }

    /// Ends a backup job and waits until it is gone.
    pub(crate) fn end_backup(&self) -> Result<(), ProviderError> {
        if !self.in_backup() {
            return Ok(());
        }
        ffi::abort_job(&self.domain).map_err(self.err("end a backup of"))?;
        self.until("end a backup of", || Ok(!self.in_backup()))
    }

    pub(crate) fn block_pull(&self, disk: &str) -> Result<(), ProviderError> {
        let _span = calling("blockpull", &self.name);
        ffi::block_pull(&self.domain, disk).map_err(self.err("pull points into a disk of"))
    }

    pub(crate) fn block_job(&self, disk: &str) -> Result<Option<BlockJob>, ProviderError> {
        ffi::block_job(&self.domain, disk).map_err(self.err("ask for a block job of"))
    }

    pub(crate) fn end_block_job(&self, disk: &str) -> Result<(), ProviderError> {
        ffi::block_job_abort(&self.domain, disk).map_err(self.err("end a block job of"))
    }

    fn until(&self, operation: &str, come_true: impl Fn() -> Result<bool, ProviderError>) -> Result<(), ProviderError> {
        let deadline = Instant::now() + NOTICE_PATIENCE;
        while !come_true()? {
            if Instant::now() > deadline {
                return Err(failed_with(operation, &self.name, "libvirt does not say that it happened".to_owned()));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

/// What a backup job is to serve.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backup<'a> {
    pub(crate) disks: &'a [String],
    pub(crate) since: Option<&'a str>,
    pub(crate) mark: Option<&'a str>,
    pub(crate) socket: &'a std::path::Path,
    /// Old content goes to files in this directory while the job runs; they are named by `scratch_stem` and the disk.
    pub(crate) scratch_dir: &'a std::path::Path,
    pub(crate) scratch_stem: &'a str,
}

/// Name of the bitmap that an incremental backup exports.
pub(crate) const EXPORT_BITMAP: &str = "sb-changes";

impl Backup<'_> {
    /// The scratch file of a disk.
    pub(crate) fn scratch(&self, disk: &str) -> std::path::PathBuf {
        self.scratch_dir.join(format!("{}.{disk}.scratch", self.scratch_stem))
    }

    fn xml(&self) -> String {
        let since = self.since.map(|s| format!("<incremental>{}</incremental>", escape(s))).unwrap_or_default();
        let bitmap = self.since.map(|_| format!(" exportbitmap='{EXPORT_BITMAP}'")).unwrap_or_default();
        let socket = escape(&self.socket.display().to_string());
        let disks = self.disks.iter().map(|disk| {
            let scratch = escape(&self.scratch(disk).display().to_string());
            let disk = escape(disk);
            format!("<disk name='{disk}' backup='yes' type='file' exportname='{disk}'{bitmap}><driver type='qcow2'/><scratch file='{scratch}'/></disk>")
        });
        let disks: String = disks.collect();
        format!("<domainbackup mode='pull'>{since}<server transport='unix' socket='{socket}'/><disks>{disks}</disks></domainbackup>")
    }
}

fn checkpoint_xml(name: &str, disks: &[String]) -> String {
    let disks = disks.iter().map(|d| format!("<disk name='{}' checkpoint='bitmap'/>", escape(d)));
    format!("<domaincheckpoint><name>{}</name><disks>{}</disks></domaincheckpoint>", escape(name), disks.collect::<String>())
}

/// A span around a call that changes something; part of the trace of the run that asked for it.
fn calling(call: &'static str, machine: &str) -> tracing::span::EnteredSpan {
    tracing::info_span!("libvirt", call, machine).entered()
}

/// Text as it stands in XML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&apos;").replace('"', "&quot;")
}

fn is(error: &VirtError, number: ErrorNumber) -> bool {
    matches!(error.code(), virt::enumutil::Enum::Known(n) if n == number)
}

fn failed(operation: &str, target: &str) -> impl FnOnce(CallError) -> ProviderError {
    let (operation, target) = (operation.to_owned(), target.to_owned());
    move |e| failed_with(&operation, &target, e.to_string())
}

fn failed_with(operation: &str, target: &str, detail: String) -> ProviderError {
    ProviderError::Platform { operation: operation.to_owned(), target: target.to_owned(), detail, applied: Applied::Unknown }
}
