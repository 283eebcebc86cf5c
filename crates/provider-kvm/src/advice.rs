//! A first look at a host of yours: which of its machines can be protected, and if not, why and what to do. Changes nothing.
//!
//! ```text
//!   any libvirt URI ──read-only──▶ each domain: definition, state, snapshots ─▶ rules ─▶ obstacles and remarks
//! ```
//!
//! Invariants: 1. The connection is opened read-only, so libvirt itself refuses whatever would change something. 2. A machine
//! without obstacle is one that `inspect` accepts. 3. Each finding says what to do.

mod rules;

use provider::{PowerState, ProviderError};
use serde::Serialize;
use virt::{
    connect::Connect,
    domain::{Domain, DomainState},
    enumutil::Enum,
    error::{Error as VirtError, ErrorNumber},
    sys,
};

/// Something about a machine that matters for its protection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable word, such as `raw-disk`.
    pub code: &'static str,
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

/// A disk as the definition has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiskLook {
    /// Such as `vda`.
    pub target: String,
    /// libvirt's type of source: `file`, `block`, `network`, `volume`, …
    pub kind: String,
    /// Image format.
    pub format: String,
    /// Path or name of the source, if it has one.
    pub source: Option<String>,
    /// What the guest sees; `None` if libvirt can't tell.
    pub capacity_bytes: Option<u64>,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineLook {
    /// Its name.
    pub name: String,
    /// Canonical lower-case text form.
    pub uuid: String,
    /// Whether it runs.
    pub power: PowerState,
    /// Whether it can be protected as it is.
    pub can_be_protected: bool,
    /// Disks that would be replicated, or that stand in the way.
    pub disks: Vec<DiskLook>,
    /// Each of them has to go before the machine can be protected.
    pub obstacles: Vec<Finding>,
    /// Worth knowing: a failover may need attention, or be less than it could be.
    pub remarks: Vec<Finding>,
}

/// All machines of a host, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostLook {
    /// Which host was looked at.
    pub uri: String,
    /// Sorted by name.
    pub machines: Vec<MachineLook>,
}

/// Looks at every machine that a libvirt knows; the URI may be remote.
///
/// # Errors
/// `Unreachable`: libvirt does not answer there. `Platform`: it refuses to tell.
pub fn look_at(uri: &str) -> Result<HostLook, ProviderError> {
    virt::error::clear_error_callback();
    let unreachable = |e: VirtError| ProviderError::Unreachable { site: uri.to_owned(), detail: e.message().to_owned() };
    let connect = Connect::open_read_only(Some(uri)).map_err(unreachable)?;
    let refused = |what: &str, e: &VirtError| ProviderError::Platform {
        operation: what.to_owned(),
        target: uri.to_owned(),
        detail: e.message().to_owned(),
        applied: provider::Applied::No,
    };
    let domains = connect.list_all_domains(0).map_err(|e| refused("list machines of", &e))?;
    let looked = domains.iter().filter_map(|domain| match machine(domain) {
        Ok(look) => Some(Ok(look)),
        // It was removed while we looked.
        Err(e) if e.code() == Enum::Known(ErrorNumber::NoDomain) => None,
        Err(e) => Some(Err(refused("look at a machine of", &e))),
    });
    let mut machines: Vec<MachineLook> = looked.collect::<Result<_, _>>()?;
    machines.sort_by(|a, b| (&a.name, &a.uuid).cmp(&(&b.name, &b.uuid)));
    Ok(HostLook { uri: uri.to_owned(), machines })
}

fn machine(domain: &Domain) -> Result<MachineLook, VirtError> {
    let power = match domain.state()?.0 {
        Enum::Known(DomainState::Shutoff | DomainState::Crashed) => PowerState::Off,
        Enum::Known(DomainState::Paused | DomainState::PMSuspended) => PowerState::Paused,
        Enum::Known(_) | Enum::Unknown(_) => PowerState::Running,
    };
    let persistent = domain.is_persistent()?;
    // As it will be started next time; whether the guest agent answers stands in the living one.
    let definition = domain.xml_desc(if persistent { sys::VIR_DOMAIN_XML_INACTIVE } else { 0 })?;
    let living = if power == PowerState::Off { None } else { Some(domain.xml_desc(0)?) };
    let seen = rules::Seen {
        persistent,
        // A driver without snapshots has none.
        snapshots: domain.num_snapshots(0).unwrap_or(0),
        definition: &definition,
        living: living.as_deref(),
    };
    let (mut disks, obstacles, remarks) = rules::judge(&seen);
    for disk in &mut disks {
        disk.capacity_bytes = domain.block_info(&disk.target, 0).ok().map(|info| info.capacity);
    }
    Ok(MachineLook {
        name: domain.name()?,
        uuid: domain.uuid_string()?,
        power,
        can_be_protected: obstacles.is_empty(),
        disks,
        obstacles,
        remarks,
    })
}
