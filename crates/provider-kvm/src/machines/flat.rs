//! Making a machine's disks independent of points, while it runs or while it is off.

use std::{path::Path, thread, time::Duration};

use provider::{Progress, ProgressSink, ProviderError};
use recovery::Generation;

use super::{bring_up::of_generation, records::MachineRecord};
use crate::{
    durable::{self, failed},
    guard::Right,
    hypervisor::{Hypervisor, Vm},
    qemu,
};

const POLL: Duration = Duration::from_millis(100);

/// Copies what the machine's disks read from points into them, and lets it start with its host. The caller holds the item.
pub(crate) fn flatten(
    hypervisor: &Hypervisor,
    right: &Right<'_>,
    dir: &Path,
    generation: Generation,
    autostart: bool,
    progress: &dyn ProgressSink,
) -> Result<(), ProviderError> {
    let record = of_generation(dir, right.item, generation)?;
    if record.started(dir)?.is_none() {
        return Err(ProviderError::NotRecovered { item: right.item.clone(), generation });
    }
    let vm = hypervisor.by_uuid(&record.uuid)?;
    if let Some(vm) = vm.as_ref().filter(|_| autostart)
        && vm.persistent()?
        && !vm.autostart()?
    {
        right.before("autostart")?;
        vm.set_autostart(true)?;
    }
    if record.standalone(dir) {
        return Ok(());
    }
    for (target, file) in &record.disks {
        let path = dir.join(file);
        if qemu::backing(&path)?.is_none() {
            continue;
        }
        right.before("blockpull")?;
        match &vm {
            Some(vm) if vm.active()? => pull(vm, target, &path, progress)?,
            Some(_) | None => qemu::pull_offline(&path)?,
        }
        durable::sync_file(&path).map_err(failed("sync", &path))?;
    }
    ensure_standalone(&record, dir)?;
    record.store_standalone(dir)
}

/// Believes the files, not the job's end.
fn ensure_standalone(record: &MachineRecord, dir: &Path) -> Result<(), ProviderError> {
    for file in record.disks.values() {
        if let Some(backing) = qemu::backing(&dir.join(file))? {
            return Err(ProviderError::Platform {
                operation: "flatten".to_owned(),
                target: record.name.clone(),
                detail: format!("{file} still reads from {backing}"),
                applied: provider::Applied::Unknown,
            });
        }
    }
    Ok(())
}

fn pull(vm: &Vm, target: &str, path: &Path, progress: &dyn ProgressSink) -> Result<(), ProviderError> {
    if vm.block_job(target)?.is_none() {
        vm.block_pull(target)?;
    }
    while let Some(job) = vm.block_job(target)? {
        if progress.report(Progress { bytes_done: job.done, bytes_total: job.total }).is_break() {
            vm.end_block_job(target)?;
            return Err(ProviderError::Stopped { operation: "flatten".to_owned(), target: path.display().to_string() });
        }
        thread::sleep(POLL);
    }
    Ok(())
}
