//! Making a replica, opening it for a generation, and beginning it anew on what is left of the item at this site.

use provider::{Definition, Endpoint, Machine, PrepareReplica, ProviderError};
use recovery::ItemName;

use super::{
    Record, StoredBase,
    journal::Journal,
    record::State,
    store::{ItemStore, enough_space},
};
use crate::durable::{self, failed};

impl ItemStore {
    /// Whether this call begins a replica, which then may be laid on a base, or opens one that is there.
    pub(crate) fn begins(&self, wanted: &PrepareReplica) -> Result<bool, ProviderError> {
        self.lock().state.as_ref().map_or(Ok(true), |state| begins_anew(&self.item, state, wanted))
    }

    /// Makes the replica, or lets an existing one take appends of this generation. `base` counts only if it begins, or if no point
    /// lies on the base that it has: then what was received is given up.
    pub(crate) fn prepare(&self, wanted: PrepareReplica, base: Option<StoredBase>, endpoint: Endpoint) -> Result<Endpoint, ProviderError> {
        let mut inner = self.lock();
        let anew = match &inner.state {
            Some(state) => begins_anew(&self.item, state, &wanted)? || base.is_some() && state.base.is_some() && state.points.is_empty(),
            None => false,
        };
        let base = match &inner.state {
            None => {
                durable::make_dir(&self.dir).map_err(failed("make directory", &self.dir))?;
                inner.journal = Some(Journal::begin(&self.dir, self.guard.writer(), None)?);
                base.map(Box::new)
            }
            Some(_) if anew => base.map(Box::new),
            Some(state) => state.base.clone(),
        };
        enough_space(&self.dir)?;
        let PrepareReplica { item: _, generation, machine, policy, base: _ } = wanted;
        let machine = base.as_ref().map_or(machine.clone(), |base| at_home(machine, base));
        self.record(&mut inner, Record::Prepared { generation, machine, policy, anew, base })?;
        if anew {
            self.remove_unknown_maps(&inner)?;
        }
        self.sweep(inner.state.as_ref())?;
        Ok(endpoint)
    }
}

/// The machine as it will be brought up here: with the source's disks, and all else as it was here before.
fn at_home(machine: Machine, base: &StoredBase) -> Machine {
    Machine { name: base.name.clone(), uuid: base.uuid.clone(), definition: Definition(base.definition.clone()), ..machine }
}

/// Refuses what is not a continuation of the replica. Whether it begins anew.
fn begins_anew(item: &ItemName, state: &State, wanted: &PrepareReplica) -> Result<bool, ProviderError> {
    if wanted.generation < state.generation {
        return Err(ProviderError::Superseded { item: item.clone(), given: wanted.generation, newest: state.generation });
    }
    if state.withdrawn {
        let anew = state.removed && wanted.generation > state.generation;
        return if anew { Ok(true) } else { Err(ProviderError::PointsWithdrawn { item: item.clone() }) };
    }
    let shape = |m: &Machine| m.disks.iter().map(|d| format!("{} {} bytes", d.target, d.capacity_bytes)).collect::<Vec<_>>();
    let (have, want) = (shape(&state.machine), shape(&wanted.machine));
    if have != want {
        let reason = format!("it has {}, the machine {}", have.join(", "), want.join(", "));
        return Err(ProviderError::ReplicaMismatch { item: item.clone(), reason });
    }
    Ok(false)
}
