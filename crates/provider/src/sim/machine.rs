//! A simulated machine, and what its disks hold.
//!
//! ```text
//!   Image = blocks + marks        a write goes into the block and into what is counted since every mark
//! ```
//!
//! Invariants: 1. A mark that is there has counted every write since it was made; a power failure takes all marks of a machine
//! that ran. 2. All machines of a site stand in one table, so a name is taken once, whoever made the machine.

use std::collections::{BTreeMap, BTreeSet};

use recovery::{Generation, ItemName};

use super::BLOCK_BYTES;
use crate::{Definition, Disk, Machine, PowerState, ProviderError};

/// A block of a machine: which disk, which block.
pub(super) type Address = (String, u64);
/// What disks hold; a block that is not there is zero.
pub(super) type Blocks = BTreeMap<Address, u64>;

/// The network of machines that somebody else made.
pub(super) const PRODUCTION: &str = "production";

/// From when changes are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// An append; numbers are never used again in a world.
    Point(u64),
    /// The first start of a machine that was recovered under this generation.
    Failover(Generation),
}

/// All disks of a machine.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    pub(super) blocks: Blocks,
    pub(super) marks: BTreeMap<Mark, BTreeSet<Address>>,
}

/// Who made a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// Somebody before us.
    Original,
    /// A recovery.
    Recovered { item: ItemName, generation: Generation },
    /// A test failover.
    Copy { item: ItemName, generation: Generation },
}

/// A machine that a hypervisor knows, or knew.
#[derive(Debug, Clone)]
pub(super) struct SimMachine {
    pub(super) uuid: String,
    pub(super) power: PowerState,
    /// By the platform, or by the agent in its place.
    pub(super) autostart: bool,
    pub(super) disks: Vec<Disk>,
    pub(super) networks: Vec<String>,
    pub(super) origin: Origin,
    pub(super) image: Image,
}

/// How the software in a machine behaves.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Guest {
    pub(super) ignores_shut_down: bool,
    pub(super) refuses_freeze: bool,
    /// Does not answer checks.
    pub(super) silent: bool,
}

impl Image {
    pub(super) fn of(blocks: Blocks) -> Self {
        Self { blocks, marks: BTreeMap::new() }
    }

    pub(super) fn read(&self, address: &Address) -> u64 {
        self.blocks.get(address).copied().unwrap_or(0)
    }

    pub(super) fn write(&mut self, address: Address, content: u64) {
        for counted in self.marks.values_mut() {
            counted.insert(address.clone());
        }
        self.blocks.insert(address, content);
    }

    /// The newest append that changes are counted from.
    pub(super) fn newest_mark(&self) -> Option<u64> {
        self.marks.keys().rev().find_map(|mark| match mark {
            Mark::Point(number) => Some(*number),
            Mark::Failover(_) => None,
        })
    }

    /// Counts from `number` on; without `keep` from no earlier append any more.
    pub(super) fn mark(&mut self, number: u64, keep: bool) {
        if !keep {
            self.forget_appends();
        }
        self.marks.insert(Mark::Point(number), BTreeSet::new());
    }

    pub(super) fn forget_appends(&mut self) {
        self.marks.retain(|mark, _| matches!(mark, Mark::Failover(_)));
    }

    /// Blocks that have another content in the other one.
    pub(super) fn differing(&self, other: &Blocks) -> BTreeSet<Address> {
        let content = |blocks: &Blocks, address: &Address| blocks.get(address).copied().unwrap_or(0);
        let all = self.blocks.keys().chain(other.keys());
        all.filter(|address| content(&self.blocks, address) != content(other, address)).cloned().collect()
    }
}

impl SimMachine {
    pub(super) fn describe(&self, name: &str) -> Machine {
        Machine {
            name: name.to_owned(),
            uuid: self.uuid.clone(),
            power: self.power,
            autostart: self.autostart,
            disks: self.disks.clone(),
            definition: Definition(format!("simulated machine on {}", self.networks.join(" "))),
        }
    }

    /// Whether the block lies on one of the machine's disks.
    pub(super) fn has(&self, (target, block): &Address) -> bool {
        self.disks.iter().any(|d| d.target == *target && block * BLOCK_BYTES < d.capacity_bytes)
    }

    /// Every block of every disk.
    pub(super) fn addresses(&self) -> BTreeSet<Address> {
        let of_disk = |d: &Disk| (0..d.capacity_bytes.div_ceil(BLOCK_BYTES)).map(|block| (d.target.clone(), block)).collect::<Vec<_>>();
        self.disks.iter().flat_map(of_disk).collect()
    }

    /// Ends it without warning.
    pub(super) fn lose_power(&mut self) {
        if self.power != PowerState::Off {
            self.power = PowerState::Off;
            self.image.marks.clear();
        }
    }

    /// Ends it in an orderly way: what is counted since a mark is kept.
    pub(super) fn end(&mut self) {
        self.power = PowerState::Off;
    }

    pub(super) fn is_copy(&self) -> bool {
        matches!(self.origin, Origin::Copy { .. })
    }
}

/// The networks that a simulated definition names.
pub(super) fn networks(definition: &Definition) -> Vec<String> {
    let named = definition.0.strip_prefix("simulated machine on ").unwrap_or_default();
    named.split_whitespace().map(str::to_owned).collect()
}

/// Another machine of the same kind has another identity.
pub(super) fn uuid_of(original: &str, generation: Generation, kind: u8) -> String {
    let tail = original.rsplit('-').next().unwrap_or_default();
    format!("{:08x}-{:04x}-4000-8{kind:03x}-{tail}", generation.grant_epoch, generation.era)
}

/// What disks must have in common to hold the same machine.
pub(super) fn shape(disks: &[Disk]) -> Vec<(&str, u64)> {
    disks.iter().map(|d| (d.target.as_str(), d.capacity_bytes)).collect()
}

/// Refuses what can't be protected.
pub(super) fn protectable(machine: Machine) -> Result<Machine, ProviderError> {
    if let Some(d) = machine.disks.iter().find(|d| d.format != "qcow2") {
        return Err(ProviderError::DiskNotQcow2 { machine: machine.name, disk: d.target.clone(), format: d.format.clone() });
    }
    if machine.disks.is_empty() {
        return Err(ProviderError::NotProtectable { machine: machine.name, reason: "it has no disk".to_owned() });
    }
    Ok(machine)
}
