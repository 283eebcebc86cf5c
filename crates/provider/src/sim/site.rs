//! A simulated site: every port method goes through [`SimSite::effect`] or [`SimSite::look`].

use std::{collections::BTreeSet, future::pending};

use chrono::{DateTime, Utc};
use recovery::{Generation, ItemName, PointId, Profile, ReplicationPolicy, SiteName, readiness::{Capacity, MachineNeeds}};

use super::{
    SimWorld,
    effect::{Effect, Moment, Op, Verdict},
    ledger::EffectKey,
    state::{SiteState, State},
};
use crate::{Call, ItemReport, Pin, ProviderError, Reports, Site, SourceMachine};

/// One site of a [`SimWorld`]; cheap to make again, since the world holds everything.
#[derive(Debug, Clone)]
pub struct SimSite {
    pub(super) world: SimWorld,
    pub(super) name: SiteName,
}

/// What applying an effect came to.
pub(super) struct Done<T> {
    pub(super) answer: T,
    /// The world is another one now.
    pub(super) changed: bool,
}

impl<T> Done<T> {
    pub(super) fn changed(answer: T) -> Result<Self, ProviderError> {
        Ok(Self { answer, changed: true })
    }

    pub(super) fn repeated(answer: T) -> Result<Self, ProviderError> {
        Ok(Self { answer, changed: false })
    }
}

/// Which effect a call asks for.
pub(super) struct Asked<'a> {
    pub(super) op: Op,
    pub(super) call: &'a Call,
    pub(super) item: &'a ItemName,
    pub(super) generation: Generation,
    pub(super) point: Option<PointId>,
    pub(super) pin: Option<Pin>,
}

impl<'a> Asked<'a> {
    /// An effect on objects of `generation`.
    pub(super) fn of(op: Op, call: &'a Call, item: &'a ItemName, generation: Generation) -> Self {
        Self { op, call, item, generation, point: None, pin: None }
    }

    /// An effect on the item as such; its key takes the generation of the caller.
    pub(super) fn on(op: Op, call: &'a Call, item: &'a ItemName) -> Self {
        Self::of(op, call, item, call.token.generation())
    }

    pub(super) fn at(self, point: PointId) -> Self {
        Self { point: Some(point), ..self }
    }

    /// A change of policy of what an older generation has made: another effect than making it, and another one for each policy.
    pub(super) fn under(self, policy: &ReplicationPolicy) -> Self {
        let of_its_own = self.generation == self.call.token.generation();
        let label = serde_json::to_string(policy).unwrap_or_default();
        let pin = (!of_its_own).then(|| Pin(format!("{label} for grant {}", self.call.token.grant_epoch)));
        Self { pin, ..self }
    }

    pub(super) fn pinned(self, pin: &Pin) -> Self {
        Self { pin: Some(pin.clone()), ..self }
    }
}

impl SimSite {
    /// Runs one mutating call with all its faults.
    pub(super) async fn effect<T: Send>(
        &self,
        asked: Asked<'_>,
        apply: impl FnOnce(&mut SiteState, DateTime<Utc>) -> Result<Done<T>, ProviderError> + Send,
    ) -> Result<T, ProviderError> {
        self.effect_in_world(asked, |state, here, now| apply(state.sites.entry(here.clone()).or_default(), now)).await
    }

    /// The same for a call that reaches the other site.
    pub(super) async fn effect_in_world<T: Send>(
        &self,
        asked: Asked<'_>,
        apply: impl FnOnce(&mut State, &SiteName, DateTime<Utc>) -> Result<Done<T>, ProviderError> + Send,
    ) -> Result<T, ProviderError> {
        let Asked { op, call, item, generation, point, pin } = asked;
        let effect = |moment| Effect { site: self.name.clone(), op, item: Some(item.clone()), token: Some(call.token), moment };
        self.pass(effect(Moment::Before)).await?;

        let key = EffectKey { site: self.name.clone(), item: item.clone(), op, generation, point, pin };
        let applied = self.world.change(key, |state, now| {
            state.sites.entry(self.name.clone()).or_default().show(item, call.token)?;
            apply(state, &self.name, now)
        });
        let answer = applied?;
        self.pass(effect(Moment::After)).await?;
        Ok(answer)
    }

    /// Runs one question with all its faults.
    pub(super) async fn look<T: Send>(
        &self,
        op: Op,
        item: Option<&ItemName>,
        read: impl FnOnce(&mut SiteState) -> Result<T, ProviderError> + Send,
    ) -> Result<T, ProviderError> {
        self.pass(Effect { site: self.name.clone(), op, item: item.cloned(), token: None, moment: Moment::Before }).await?;
        self.world.with_site(&self.name, |site| read(site))
    }

    pub(super) async fn pass(&self, effect: Effect) -> Result<(), ProviderError> {
        match self.world.judge(&effect) {
            Verdict::Proceed => Ok(()),
            Verdict::Fail(error) => Err(error),
            Verdict::Hang => pending().await,
        }
    }
}

impl Site for SimSite {
    fn name(&self) -> &SiteName {
        &self.name
    }

    /// Simulated machines follow whatever rules somebody wants to see.
    fn operates(&self, _: Profile) -> bool {
        true
    }
}

impl Reports for SimSite {
    fn reports(&self) -> Vec<ItemReport> {
        self.world.with_site(&self.name, |site| {
            let recovered = site.recovered.keys().map(|(item, _)| item);
            let known = site.replicas.keys().chain(site.loops.keys()).chain(recovered).chain(site.reported.keys());
            let items: BTreeSet<ItemName> = known.cloned().collect();
            let mut news = vec![];
            for item in items {
                let report = ItemReport {
                    replica: site.replicas.get(&item).map(|r| r.describe()),
                    replication: site.status(&item),
                    source: site.loops.get(&item).and_then(|l| source(site, &l.wanted.machine)),
                    recovered: site.started(&item).and_then(|(generation, _)| site.made(&item, generation)).map(|m| m.power),
                    item,
                };
                if site.reported.get(&report.item) != Some(&report) {
                    site.reported.insert(report.item.clone(), report.clone());
                    news.push(report);
                }
            }
            news
        })
    }

    fn capacity(&self) -> Result<Capacity, ProviderError> {
        self.world.with_site(&self.name, |site| {
            if site.down {
                return Err(ProviderError::Unreachable { site: self.name.to_string(), detail: "the site is down".to_owned() });
            }
            let items = site.replicas.keys().chain(site.loops.keys()).cloned();
            let needs = items.map(|item| (item, MachineNeeds { memory_bytes: 1 << 30, vcpus: 1 })).collect();
            Ok(Capacity { needs, ..site.capacity.clone().unwrap_or_else(plenty) })
        })
    }

    fn report_all_again(&self) {
        self.world.with_site(&self.name, |site| site.reported.clear());
    }
}

/// Of a host that is large enough for everything.
fn plenty() -> Capacity {
    let (memory_bytes, storage_bytes) = (64 << 30, 1 << 40);
    Capacity { memory_bytes, free_memory_bytes: memory_bytes, vcpus: 64, storage_bytes, free_storage_bytes: storage_bytes, ..Capacity::default() }
}

fn source(site: &SiteState, machine: &str) -> Option<SourceMachine> {
    let m = site.machines.get(machine)?;
    Some(SourceMachine { machine: machine.to_owned(), power: m.power, autostart: m.autostart })
}
