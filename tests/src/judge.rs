//! What must hold of a scene's world whatever has happened: read from the world, never from the product.
//!
//! The software in the item's machine keeps a ledger on its disk: it reads the newest number, and writes the next one into the next
//! slot, with the site where it runs. A disk that was put together from parts of different times shows a gap.

use std::collections::BTreeMap;

use provider::{
    ObjectKind,
    sim::{Contents, SimWorld},
};
use recovery::SiteName;

use crate::{ITEM, Scene, item, site};

/// How many of its last records a ledger keeps.
const SLOTS: u64 = 50;
/// A record is its number and the site where it was written.
const SITES: u64 = 10;

/// Appends a record to the ledger of the item's machine there, and scribbles into a copy of it.
pub(crate) fn write(world: &SimWorld, site: &SiteName) {
    let Some(contents) = world.contents(site, ITEM) else { return };
    let number = newest(&contents) + 1;
    let here = if site.as_str() == "a" { 1 } else { 2 };
    world.write(site, ITEM, "vda", number % SLOTS, number * SITES + here);
    world.write(site, &format!("{ITEM}-test"), "vda", 7, u64::MAX);
}

/// Number of a ledger's newest record; 0 if it has none.
#[must_use]
pub fn newest(ledger: &Contents) -> u64 {
    ledger.values().map(|record| record / SITES).max().unwrap_or(0)
}

/// Whether every record that a ledger should still have is there.
///
/// # Errors
/// One is not.
pub fn whole(ledger: &Contents) -> Result<(), String> {
    let newest = newest(ledger);
    for number in newest.saturating_sub(SLOTS - 1).max(1)..=newest {
        let found = ledger.get(&("vda".to_owned(), number % SLOTS)).map(|record| record / SITES);
        if found != Some(number) {
            return Err(format!("record {number} of {newest} is not there, but {found:?}"));
        }
    }
    Ok(())
}

/// Whether a ledger goes on from where another ended.
///
/// # Errors
/// It has lost a record of that, or has another in its place.
pub fn goes_on(before: &Contents, after: &Contents) -> Result<(), String> {
    let last = newest(before);
    if newest(after) < last {
        return Err(format!("records {} to {last} are lost", newest(after) + 1));
    }
    let changed = after.iter().find(|(slot, record)| *record / SITES <= last && before.get(*slot) != Some(record));
    changed.map_or(Ok(()), |(slot, record)| Err(format!("slot {slot:?} has {record}, not {:?}", before.get(slot))))
}

impl Scene {
    /// What holds whatever happened: nothing was done twice, nothing is left in the store, it never ran twice, its ledgers are whole.
    ///
    /// # Panics
    /// One of these does not hold.
    pub fn judged(&self, case: &str) {
        assert_eq!(self.world.ledger().applied_more_than_once(), vec![], "{case}");
        assert_eq!(self.sim.store.leftovers(), 0, "{case}");
        self.never_ran_twice(case);
        self.ledgers_are_whole(case);
    }

    /// Nothing of ours is anywhere but the item's own machine, if a recovery made that: at most one at a site, known to its
    /// hypervisor.
    ///
    /// # Panics
    /// Something is.
    pub fn nothing_is_left(&self, case: &str) {
        for (name, inventory) in self.inventories() {
            let known = self.world.machine(&site(&name), ITEM).is_some();
            let (own, left): (Vec<_>, Vec<_>) =
                inventory.objects.into_iter().partition(|o| known && matches!(o.kind, ObjectKind::Machine | ObjectKind::MachineDisk));
            assert!(left.is_empty() && own.len() <= 2, "{case}: left behind at {name}: {left:?} beside {own:?}");
        }
    }

    /// Every ledger that anybody could come to run on is whole.
    ///
    /// # Panics
    /// One is not.
    pub fn ledgers_are_whole(&self, case: &str) {
        for site in [site("a"), site("b")] {
            let of_machine = self.world.contents(&site, ITEM).map(|ledger| ("machine", ledger));
            let of_base = self.world.base_contents(&site, &item()).map(|ledger| ("base", ledger));
            let of_point = self.world.newest_point(&site, &item()).map(|ledger| ("newest point", ledger));
            for (what, ledger) in [of_machine, of_base, of_point].into_iter().flatten() {
                whole(&ledger).unwrap_or_else(|why| panic!("{case}: {what} at {site}: {why}"));
            }
        }
    }

    /// What the disks of the item's machines hold that a hypervisor knows.
    #[must_use]
    pub fn ledgers(&self) -> BTreeMap<SiteName, Contents> {
        [site("a"), site("b")].into_iter().filter_map(|site| Some((site.clone(), self.world.contents(&site, ITEM)?))).collect()
    }

    /// At no time were two machines of the item on a network that others can reach.
    ///
    /// # Panics
    /// They were.
    pub fn never_ran_twice(&self, case: &str) {
        for then in self.world.network_log() {
            let running = then.machines.iter().filter(|on| on.production && on.machine == ITEM).count();
            assert!(running < 2, "{case}: it ran twice, {then:?}");
        }
    }

    /// Sites where the item's machine runs.
    #[must_use]
    pub fn runs_at(&self) -> Vec<SiteName> {
        let running = |site: &SiteName| self.world.machine(site, ITEM).is_some_and(|m| m.power == provider::PowerState::Running);
        [site("a"), site("b")].into_iter().filter(running).collect()
    }

    /// What of ours at a site does not come and go with points.
    #[must_use]
    pub fn lasting(&self, name: &str) -> Vec<(ObjectKind, String)> {
        let inventory = self.inventories().remove(name).unwrap_or_default();
        let passing = [ObjectKind::PointFile, ObjectKind::Checkpoint, ObjectKind::Temporary];
        let lasting = inventory.objects.into_iter().filter(|object| !passing.contains(&object.kind));
        lasting.map(|object| (object.kind, object.name)).collect()
    }
}
