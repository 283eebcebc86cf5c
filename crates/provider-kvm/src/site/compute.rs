//! The port for machines.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use provider::{
    Call, Compute, Inventory, Machine, ObjectKind, OwnedObject, ProgressSink, ProviderError, RecoverMachine, Recovered,
    RecoveredState, Started, Written,
};
use recovery::{Generation, ItemName};

use super::{Host, KvmSite, extents, old_machine};
use crate::{
    definition,
    durable::{self, failed},
    inspect::inspect,
    machines,
    replica::is_point_file,
    source::MARK_PREFIX,
};

#[async_trait]
impl Compute for KvmSite {
    async fn inspect(&self, machine: &str) -> Result<Machine, ProviderError> {
        let machine = machine.to_owned();
        self.blocking("inspect", move |site| {
            let found = inspect(&site.inner.host.hypervisor, &machine)?;
            let autostart = found.autostart || site.starts(&machine)?;
            Ok(Machine { autostart, ..found })
        })
        .await
    }

    async fn recover(&self, call: &Call, wanted: RecoverMachine) -> Result<Recovered, ProviderError> {
        let name = wanted.item.clone();
        self.effect("recover", call, &name, move |site, item, right| machines::recover(&site.inner.host.hypervisor, &item.store, right, &wanted))
        .await
    }

    async fn start_machine(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<Started, ProviderError> {
        self.effect("start machine", call, item, move |site, item, right| {
            let fenced = old_machine::fenced(site, right.item)?;
            machines::start(&site.inner.host.hypervisor, right, item.store.dir(), fenced.as_deref(), generation)
        })
        .await
    }

    async fn discard(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<(), ProviderError> {
        self.effect("discard", call, item, move |site, item, right| {
            let original = item.store.describe().map(|r| r.machine.uuid);
            machines::discard(&site.inner.host.hypervisor, right, item.store.dir(), original.as_deref(), generation)
        })
        .await
    }

    async fn written(&self, item: &ItemName, generation: Generation) -> Result<Written, ProviderError> {
        let name = item.clone();
        self.blocking("written", move |site| {
            let item = site.inner.host.item(&name)?;
            extents::written(site, &item, &name, generation)
        })
        .await
    }

    async fn retire(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<(), ProviderError> {
        self.effect("retire", call, item, move |site, item, right| {
            machines::retire(&site.inner.host.hypervisor, right, item.store.dir(), generation)
        })
        .await
    }

    async fn observe_machine(&self, item: &ItemName, generation: Generation) -> Result<RecoveredState, ProviderError> {
        let name = item.clone();
        self.blocking("observe machine", move |site| {
            let host = &site.inner.host;
            machines::observe(&host.hypervisor, host.item(&name)?.store.dir(), generation)
        })
        .await
    }

    async fn run_in_guest(&self, item: &ItemName, generation: Generation, program: &str, arguments: &[String]) -> Result<String, ProviderError> {
        let (name, program, arguments) = (item.clone(), program.to_owned(), arguments.to_vec());
        self.blocking("run in guest", move |site| {
            let host = &site.inner.host;
            let vm = machines::started(&host.hypervisor, host.item(&name)?.store.dir(), &name, generation)?;
            vm.run_in_guest(&program, &arguments)
        })
        .await
    }

    async fn flatten(
        &self,
        call: &Call,
        item: &ItemName,
        generation: Generation,
        progress: Arc<dyn ProgressSink>,
    ) -> Result<(), ProviderError> {
        self.effect("flatten", call, item, move |site, item, right| {
            let autostart = item.store.describe().is_some_and(|replica| replica.machine.autostart);
            machines::flatten(&site.inner.host.hypervisor, right, item.store.dir(), generation, autostart, &*progress)
        })
        .await
    }

    async fn inventory(&self) -> Result<Inventory, ProviderError> {
        self.blocking("inventory", |site| inventory(&site.inner.host)).await
    }
}

fn inventory(host: &Host) -> Result<Inventory, ProviderError> {
    let mut objects = vec![];
    for item in host.known_items()? {
        let dir = host.config.storage_dir.join(item.as_str());
        for name in durable::names(&dir).map_err(failed("list", &dir))? {
            if name != "test" {
                objects.push(file(Some(item.clone()), &dir, &name));
            }
        }
        objects.extend(machines::files_of_copies(&dir, &item)?);
    }
    let scratch = host.config.storage_dir.join(".scratch");
    for name in durable::names(&scratch).map_err(failed("list", &scratch))? {
        objects.push(OwnedObject { kind: ObjectKind::Temporary, ..file(None, &scratch, &name) });
    }
    objects.extend(machines::networks_of_copies(&host.hypervisor, &host.guard, &host.config.storage_dir)?);
    for vm in host.hypervisor.all()? {
        let owner = definition::owner(&vm.definition()?);
        let item = owner.as_deref().and_then(|o| o.split_once(' ')).and_then(|(item, _)| item.parse::<ItemName>().ok());
        if owner.is_some() {
            let of_test = owner.as_deref().is_some_and(machines::owns_copy);
            objects.push(OwnedObject { kind: ObjectKind::Machine, item: item.clone(), name: format!("{} {}", vm.name, vm.uuid), bytes: 0, of_test });
        }
        for mark in vm.checkpoints()?.into_iter().filter(|m| m.starts_with(MARK_PREFIX) || m.starts_with("fo-")) {
            let item = item.clone().or_else(|| vm.name.parse().ok());
            objects.push(OwnedObject { kind: ObjectKind::Checkpoint, item, name: format!("{} {mark}", vm.name), bytes: 0, of_test: false });
        }
    }
    objects.sort();
    Ok(Inventory { objects })
}

fn file(item: Option<ItemName>, dir: &Path, name: &str) -> OwnedObject {
    use std::os::unix::fs::MetadataExt;
    let kind = match name {
        n if n.ends_with(".part") || n.ends_with(".new") => ObjectKind::Temporary,
        n if is_point_file(n) => ObjectKind::PointFile,
        n if n.starts_with("run.") => ObjectKind::MachineDisk,
        _ => ObjectKind::Record,
    };
    let path = dir.join(name);
    // One that goes while we look has no size.
    let bytes = std::fs::metadata(&path).map_or(0, |m| m.blocks() * 512);
    OwnedObject { kind, item, name: path.display().to_string(), bytes, of_test: false }
}
