//! The hand that moves a simulated world: people at their sites, the software in machines, power, the network.

use std::collections::BTreeMap;

use recovery::{ItemName, SiteName};

use super::{
    SimWorld, boot,
    machine::{Address, Guest, Image, Origin, PRODUCTION, SimMachine},
    state::SiteState,
};
use crate::{Disk, Machine, PowerState};

/// What disks hold, by disk and block; zero blocks are left out.
pub type Contents = BTreeMap<(String, u64), u64>;

impl SimWorld {
    /// Puts a running machine with empty disks, each `(target, capacity in bytes, format)`, at a site.
    pub fn add_machine(&self, site: &SiteName, name: &str, disks: &[(&str, u64, &str)]) {
        let disks = disks.iter().map(|(target, capacity_bytes, format)| Disk {
            target: (*target).to_owned(),
            path: format!("/{site}/{name}.{target}"),
            format: (*format).to_owned(),
            capacity_bytes: *capacity_bytes,
        });
        let mut disks: Vec<Disk> = disks.collect();
        disks.sort_by(|a, b| a.target.cmp(&b.target));
        let hex: String = name.bytes().chain(std::iter::repeat(0)).take(6).map(|b| format!("{b:02x}")).collect();
        let machine = SimMachine {
            uuid: format!("00000000-0000-4000-8000-{hex}"),
            power: PowerState::Running,
            autostart: true,
            disks,
            networks: vec![PRODUCTION.to_owned()],
            origin: Origin::Original,
            image: Image::default(),
        };
        self.with_site(site, |s| s.machines.insert(name.to_owned(), machine));
    }

    /// Writes as the software in a machine does. Returns whether it ran and has the block.
    pub fn write(&self, site: &SiteName, machine: &str, target: &str, block: u64, content: u64) -> bool {
        let address: Address = (target.to_owned(), block);
        self.with_site(site, |s| match s.machines.get_mut(machine) {
            Some(m) if m.power == PowerState::Running && m.has(&address) => {
                m.image.write(address, content);
                true
            }
            Some(_) | None => false,
        })
    }

    /// What a block holds of a machine that a hypervisor knows; `None` if there is no such machine.
    #[must_use]
    pub fn read(&self, site: &SiteName, machine: &str, target: &str, block: u64) -> Option<u64> {
        let address: Address = (target.to_owned(), block);
        self.with_site(site, |s| s.machines.get(machine).map(|m| m.image.read(&address)))
    }

    /// What all disks of a machine hold; `None` if there is no such machine.
    #[must_use]
    pub fn contents(&self, site: &SiteName, machine: &str) -> Option<Contents> {
        self.with_site(site, |s| s.machines.get(machine).map(|m| contents(&m.image)))
    }

    /// What the disks of an item's old machine hold, while they are the base of its replica at this site.
    #[must_use]
    pub fn base_contents(&self, site: &SiteName, item: &ItemName) -> Option<Contents> {
        self.with_site(site, |s| Some(contents(&s.replicas.get(item)?.base.as_ref()?.machine.image)))
    }

    /// What the newest point of an item holds at a site.
    #[must_use]
    pub fn newest_point(&self, site: &SiteName, item: &ItemName) -> Option<Contents> {
        self.with_site(site, |s| Some(contents(&Image::of(s.replicas.get(item)?.points.last()?.blocks.clone()))))
    }

    /// Spoils a block of the newest point of an item at a site, as storage does that loses a write. Nobody notices.
    pub fn spoil_newest_point(&self, site: &SiteName, item: &ItemName, target: &str, block: u64, content: u64) {
        self.with_site(site, |s| {
            if let Some(newest) = s.replicas.get_mut(item).and_then(|r| r.points.last_mut()) {
                newest.blocks.insert((target.to_owned(), block), content);
            }
        });
    }

    /// Writes as the software in the newest recovered machine of an item does. Returns whether it ran.
    pub fn write_recovered(&self, site: &SiteName, item: &ItemName, target: &str, block: u64, content: u64) -> bool {
        let name = self.with_site(site, |s| s.started(item).map(|(_, r)| r.name.clone()));
        name.is_some_and(|name| self.write(site, &name, target, block, content))
    }

    /// What the newest recovered machine's disk holds; `None` if there is no such machine.
    #[must_use]
    pub fn read_recovered(&self, site: &SiteName, item: &ItemName, target: &str, block: u64) -> Option<u64> {
        let address: Address = (target.to_owned(), block);
        self.with_site(site, |s| {
            let (newest, _) = s.all_recovered(item).next_back()?;
            s.made(item, newest).map(|m| m.image.read(&address))
        })
    }

    /// Describes a machine as it is now, whether it can be protected or not.
    #[must_use]
    pub fn machine(&self, site: &SiteName, name: &str) -> Option<Machine> {
        self.with_site(site, |s| s.machines.get(name).map(|m| m.describe(name)))
    }

    /// Ends a machine as a power failure does: the record of changes is lost.
    pub fn power_failure(&self, site: &SiteName, machine: &str) {
        self.with_site(site, |s| s.machines.get_mut(machine).map(SimMachine::lose_power));
    }

    /// Starts a machine, as a person at its site does.
    pub fn power_on(&self, site: &SiteName, machine: &str) {
        self.with_site(site, |s| {
            if let Some(m) = s.machines.get_mut(machine) {
                m.power = PowerState::Running;
            }
        });
    }

    /// Ends a machine as its own guest does when somebody in it asks for that.
    pub fn shut_down_from_within(&self, site: &SiteName, machine: &str) {
        self.with_site(site, |s| s.machines.get_mut(machine).map(SimMachine::end));
    }

    /// Makes the guest of a machine of that name ignore requests to shut down, whoever made the machine.
    pub fn ignore_shut_down(&self, site: &SiteName, machine: &str, ignores: bool) {
        self.guest(site, machine, |guest| guest.ignores_shut_down = ignores);
    }

    /// Makes it refuse to freeze its file systems.
    pub fn refuse_freeze(&self, site: &SiteName, machine: &str, refuses: bool) {
        self.guest(site, machine, |guest| guest.refuses_freeze = refuses);
    }

    /// Makes it answer no check.
    pub fn refuse_service(&self, site: &SiteName, machine: &str, silent: bool) {
        self.guest(site, machine, |guest| guest.silent = silent);
    }

    /// Puts something else on the isolated network of an item's copies, or takes it away.
    pub fn join_test_network(&self, site: &SiteName, item: &ItemName, joined: bool) {
        self.with_site(site, |s| if joined { s.leaks.insert(item.clone()) } else { s.leaks.remove(item) });
    }

    /// Lets the host of a site have so much.
    pub fn set_capacity(&self, site: &SiteName, capacity: recovery::readiness::Capacity) {
        self.with_site(site, |s| s.capacity = Some(capacity));
    }

    /// Takes a whole site away: its ports are unreachable, its machines stop as by a power failure. Or brings it back: its host
    /// boots, and machines that start with it do, unless they may run elsewhere.
    pub fn set_down(&self, site: &SiteName, down: bool) {
        let now = self.now();
        self.with_site(site, |s: &mut SiteState| {
            let was_down = std::mem::replace(&mut s.down, down);
            if down {
                s.machines.values_mut().for_each(SimMachine::lose_power);
            } else if was_down {
                boot::host(s, now);
            }
        });
    }

    fn guest(&self, site: &SiteName, machine: &str, change: impl FnOnce(&mut Guest)) {
        self.with_site(site, |s| change(s.guests.entry(machine.to_owned()).or_default()));
    }
}

fn contents(image: &Image) -> Contents {
    image.blocks.iter().filter(|(_, content)| **content != 0).map(|(address, content)| (address.clone(), *content)).collect()
}
