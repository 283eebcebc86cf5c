//! A machine as its platform describes it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether a machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerState {
    Running,
    /// Has a process, executes nothing.
    Paused,
    Off,
}

impl fmt::Display for PowerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PowerState::Running => "running",
            PowerState::Paused => "paused",
            PowerState::Off => "off",
        })
    }
}

/// The platform's own description of a machine (libvirt: domain XML). Opaque to all but its provider.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Definition(pub String);

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Definition({} bytes)", self.0.len())
    }
}

/// A disk that is replicated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its name inside the machine's definition, such as `vda`; unique in the machine, the same at both sites.
    pub target: String,
    /// Where its image lies at this site.
    pub path: String,
    /// Image format.
    pub format: String,
    pub capacity_bytes: u64,
}

/// A machine at a site. Every disk in it can be replicated: `inspect` refuses machines of which that is not so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub name: String,
    /// Canonical lower-case text form.
    pub uuid: String,
    pub power: PowerState,
    /// Whether the platform starts it with its host.
    pub autostart: bool,
    /// Sorted by target, at least one.
    pub disks: Vec<Disk>,
    /// As it would be started next time.
    pub definition: Definition,
}

impl Machine {
    /// Capacity of all disks.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        self.disks.iter().map(|d| d.capacity_bytes).sum()
    }
}
