//! Networks that the copies of a plan share on this host: who is on one, who asks on it under which address, who takes it away.
//!
//! ```text
//!   ITEM/test/copy.TOKEN.json says "on the network of plan P" ── and is not barred ─▶ the item is on it
//!   clean:  bar ─▶ machine ─▶ │ nobody is on it ─▶ network, bridge │ ─▶ files
//!   start:                    │ network ─▶ proof ─▶ create paused ─▶ proof │ ─▶ resume
//!                             └──────────── one at a time ────────────┘
//! ```
//!
//! Invariants: 1. Whoever cleans has barred its copies before it looks who is left: of two that clean at the same time the later one
//! sees nobody. 2. A copy is on its network from before the network is made until it is barred, so nobody takes the network from it.
//! 3. A network that nobody is on, left by an agent that was killed or came late, goes with the next cleaning of any copy.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use provider::{ObjectKind, OwnedObject, ProviderError};
use recovery::{ItemName, TestNetwork};

use super::{
    isolation::{self, Names, Whose},
    kept_copies,
};
use crate::{
    durable::{self, failed},
    guard::Guard,
    hypervisor::Hypervisor,
};

/// What one agent knows of the networks of its host.
#[derive(Debug, Default)]
pub(crate) struct Networks {
    changing: Mutex<()>,
    addresses: Known,
}

/// By libvirt's name of the network.
type Known = Arc<Mutex<BTreeMap<String, Addresses>>>;

/// Addresses on a network that are somebody's.
#[derive(Debug, Default)]
struct Addresses {
    /// Of copies, since somebody asked them there.
    of_copies: BTreeSet<IpAddr>,
    /// Of those who ask now.
    of_askers: BTreeSet<IpAddr>,
}

/// An address that nobody else asks under, as long as this lives.
#[derive(Debug)]
pub(super) struct Reserved {
    addresses: Known,
    network: String,
    address: IpAddr,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(known) = locked(&self.addresses).get_mut(&self.network) {
            known.of_askers.remove(&self.address);
        }
    }
}

fn locked(addresses: &Known) -> MutexGuard<'_, BTreeMap<String, Addresses>> {
    addresses.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Networks {
    /// Held while a shared network comes or goes, or gets a port.
    pub(super) fn alone(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Addresses>> {
        locked(&self.addresses)
    }

    /// Remembers that a copy is asked at this address.
    pub(super) fn asked_at(&self, network: &str, target: IpAddr) {
        self.known().entry(network.to_owned()).or_default().of_copies.insert(target);
    }

    /// Reserves an address, unless a copy was asked there or somebody asks from there.
    pub(super) fn reserve(&self, network: &str, address: IpAddr) -> Option<Reserved> {
        let mut all = self.known();
        let known = all.entry(network.to_owned()).or_default();
        let free = !known.of_copies.contains(&address) && known.of_askers.insert(address);
        free.then(|| Reserved { addresses: self.addresses.clone(), network: network.to_owned(), address })
    }

    /// Removes the shared networks that nobody is on.
    pub(super) fn sweep(&self, hypervisor: &Hypervisor, guard: &Guard, storage_dir: &Path) -> Result<(), ProviderError> {
        let _alone = self.alone();
        let left = isolation::left(hypervisor)?.into_iter().filter_map(|whose| match whose {
            Whose::Copies(shared) => Some(shared),
            Whose::Copy(..) => None,
        });
        let mut left = left.peekable();
        if left.peek().is_none() {
            return Ok(());
        }
        let used = users(guard, storage_dir)?;
        for unused in left.filter(|shared| !used.contains_key(shared)) {
            let network = isolation::name_of(&unused);
            // A newer agent may have copies on it by now.
            guard.still_writer()?;
            isolation::remove(hypervisor, &network)?;
            self.known().remove(&network);
        }
        Ok(())
    }
}

/// The ends that copies may have on a shared network: also those whose machine has died while somebody asked it.
pub(super) fn ends_on(network: &TestNetwork, guard: &Guard, storage_dir: &Path) -> Result<BTreeSet<String>, ProviderError> {
    let mut ends = BTreeSet::new();
    for item in items(storage_dir)? {
        let on_it = kept_copies::networks_used(&storage_dir.join(item.as_str()), guard, &item)?.into_iter().filter(|(_, used)| used == network);
        for (generation, _) in on_it {
            let Names { port, link, .. } = Names::of(&item, generation, Some(network));
            ends.extend([port, link]);
        }
    }
    Ok(ends)
}

fn items(storage_dir: &Path) -> Result<Vec<ItemName>, ProviderError> {
    let names = durable::names(storage_dir).map_err(failed("list", storage_dir))?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// The items that have a copy on each shared network of this host.
pub(super) fn users(guard: &Guard, storage_dir: &Path) -> Result<BTreeMap<TestNetwork, BTreeSet<ItemName>>, ProviderError> {
    let mut users: BTreeMap<TestNetwork, BTreeSet<ItemName>> = BTreeMap::new();
    for item in items(storage_dir)? {
        for (_, network) in kept_copies::networks_used(&storage_dir.join(item.as_str()), guard, &item)? {
            users.entry(network).or_default().insert(item.clone());
        }
    }
    Ok(users)
}

/// Networks, bridges and probes of copies on this host; a shared one once for each item that is on it.
pub(crate) fn networks_of_copies(hypervisor: &Hypervisor, guard: &Guard, storage_dir: &Path) -> Result<Vec<OwnedObject>, ProviderError> {
    let users = users(guard, storage_dir)?;
    let owners = |network: Option<&str>| match network.and_then(isolation::whose) {
        Some(Whose::Copy(item, _)) => vec![Some(item)],
        Some(Whose::Copies(shared)) if users.contains_key(&shared) => users[&shared].iter().cloned().map(Some).collect(),
        Some(Whose::Copies(_)) | None => vec![None],
    };
    let of = |network: Option<&str>, name: &str| {
        let object = |item| OwnedObject { kind: ObjectKind::Network, item, name: name.to_owned(), bytes: 0, of_test: true };
        owners(network).into_iter().map(object).collect::<Vec<_>>()
    };
    let mut objects: Vec<OwnedObject> = isolation::networks(hypervisor)?.iter().flat_map(|name| of(Some(name), name)).collect();
    objects.extend(isolation::ours()?.iter().flat_map(|found| of(found.ifalias.as_deref(), &found.ifname)));
    Ok(objects)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn nobody_asks_from_where_a_copy_is_or_somebody_else_asks() {
        let networks = Networks::default();
        let (copy, free): (IpAddr, IpAddr) = ("10.1.0.6".parse().unwrap(), "10.1.0.2".parse().unwrap());
        networks.asked_at("n", copy);
        assert!(networks.reserve("n", copy).is_none());
        let mine = networks.reserve("n", free).unwrap();
        assert!(networks.reserve("n", free).is_none());
        assert!(networks.reserve("other", free).is_some());
        drop(mine);
        assert!(networks.reserve("n", free).is_some());
    }
}
