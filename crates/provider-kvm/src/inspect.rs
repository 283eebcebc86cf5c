//! A machine of this host, described so that it can be protected.

use provider::{Definition, Disk, Machine, ProviderError};

use crate::{definition, hypervisor::Hypervisor};

/// Describes a machine, or says why it can't be protected.
pub(crate) fn inspect(hypervisor: &Hypervisor, name: &str) -> Result<Machine, ProviderError> {
    let vm = hypervisor.by_name(name)?;
    let definition = vm.definition()?;
    let mut disks = vec![];
    for disk in definition::disks(name, &definition)? {
        let capacity_bytes = vm.capacity_bytes(&disk.target)?;
        if capacity_bytes == 0 || !capacity_bytes.is_multiple_of(512) {
            let reason = format!("disk {} has {capacity_bytes} bytes, which is no number of sectors", disk.target);
            return Err(ProviderError::NotProtectable { machine: name.to_owned(), reason });
        }
        disks.push(Disk { target: disk.target, path: disk.path, format: disk.format, capacity_bytes });
    }
    Ok(Machine {
        name: vm.name.clone(),
        uuid: vm.uuid.clone(),
        power: vm.power()?,
        autostart: vm.autostart()?,
        disks,
        definition: Definition(definition),
    })
}
