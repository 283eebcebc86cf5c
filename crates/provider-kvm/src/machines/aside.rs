//! The user's own machine of an item, when it is in the way: fenced, off, and of the name that the recovered machine has.
//!
//! libvirt has one machine of a name. So its definition is kept in `aside.UUID.json` beside the recovered machine's records, and
//! libvirt forgets it; when the recovered machine is discarded, it is known again, off and without autostart. Its disks are not
//! touched.

use std::{fs, path::{Path, PathBuf}};

use provider::ProviderError;
use serde::{Deserialize, Serialize};

use crate::{
    durable::{self, failed},
    guard::Right,
    hypervisor::{Hypervisor, Vm},
};

#[derive(Serialize, Deserialize)]
struct Aside {
    version: u32,
    name: String,
    uuid: String,
    definition: String,
}

/// Takes a machine that is off out of the way. The caller holds the item and knows that the machine is the item's.
pub(super) fn put(right: &Right<'_>, dir: &Path, vm: &Vm) -> Result<(), ProviderError> {
    let path = dir.join(format!("aside.{}.json", vm.uuid));
    let aside = Aside { version: 1, name: vm.name.clone(), uuid: vm.uuid.clone(), definition: vm.definition()? };
    let json = serde_json::to_vec(&aside).map_err(|e| failed("write", &path)(e.into()))?;
    durable::write(&path, &json).map_err(failed("write", &path))?;
    right.before("undefine")?;
    vm.undefine()
}

/// Lets libvirt know again what was taken out of the way.
pub(crate) fn back(hypervisor: &Hypervisor, right: &Right<'_>, dir: &Path) -> Result<(), ProviderError> {
    for path in kept(dir)? {
        let content = fs::read(&path).map_err(failed("read", &path))?;
        let aside: Aside = serde_json::from_slice(&content).map_err(|e| failed("read", &path)(e.into()))?;
        if hypervisor.by_uuid(&aside.uuid)?.is_none() {
            right.before("define")?;
            hypervisor.define(&aside.name, &aside.definition)?;
        }
        durable::remove(&path).map_err(failed("remove", &path))?;
    }
    durable::sync_dir(dir).map_err(failed("sync", dir))
}

/// Forgets what was taken out of the way: the recovered machine was accepted in its place.
pub(crate) fn forget(dir: &Path) -> Result<(), ProviderError> {
    for path in kept(dir)? {
        tracing::info!(definition = %path.display(), "the machine before the recovery is not needed any more; its disks stay");
        durable::remove(&path).map_err(failed("remove", &path))?;
    }
    Ok(())
}

fn kept(dir: &Path) -> Result<Vec<PathBuf>, ProviderError> {
    let names = durable::names(dir).map_err(failed("list", dir))?;
    Ok(names.iter().filter(|n| n.starts_with("aside.") && n.ends_with(".json")).map(|n| dir.join(n)).collect())
}
