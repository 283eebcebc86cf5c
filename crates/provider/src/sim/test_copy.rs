//! Simulated copies for tests.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use recovery::{Check, Generation, ItemName};

use super::{
    Op, SimSite,
    compute::{moved, refused},
    machine::{Image, Origin, SimMachine, uuid_of},
    site::{Asked, Done},
    state::{SimCopy, SiteState},
};
use crate::{
    Call, Isolation, PowerState, ProviderError, RecoverTest, Recovered, RecoveredState, TestCopies, TestStarted,
};

#[async_trait]
impl TestCopies for SimSite {
    async fn recover_test(&self, call: &Call, wanted: RecoverTest) -> Result<Recovered, ProviderError> {
        let item = wanted.item.clone();
        let asked = Asked::of(Op::RecoverTest, call, &item, wanted.generation).at(wanted.point);
        self.effect(asked, |site, _now| recover(site, call, wanted)).await
    }

    async fn start_test(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<TestStarted, ProviderError> {
        self.effect(Asked::of(Op::StartTest, call, item, generation), |site, now| start(site, item, generation, now)).await
    }

    async fn check_test(&self, item: &ItemName, generation: Generation, checks: &[Check]) -> Result<String, ProviderError> {
        self.look(Op::CheckTest, Some(item), |site| {
            let name = of_generation(site, item, generation)?.name.clone();
            let runs = site.machines.get(&name).is_some_and(|m| m.is_copy() && m.power == PowerState::Running);
            if !runs || site.guest(&name).silent {
                let detail = if runs { "nothing answers" } else { "it does not run" };
                return Err(ProviderError::NotServing { machine: name, detail: detail.to_owned() });
            }
            let answers: Vec<String> = checks.iter().map(|check| format!("{check} answers")).collect();
            Ok([vec!["running".to_owned()], answers].concat().join("; "))
        })
        .await
    }

    async fn clean_test(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<(), ProviderError> {
        self.effect(Asked::of(Op::CleanTest, call, item, generation), |site, _now| {
            if site.copies.get(item).is_none_or(|copy| copy.generation > generation) {
                return Done::repeated(());
            }
            let Some(copy) = site.copies.remove(item) else { return Done::repeated(()) };
            site.take(&copy.name, &Origin::Copy { item: item.clone(), generation: copy.generation });
            Done::changed(())
        })
        .await
    }

    async fn observe_test(&self, item: &ItemName, generation: Generation) -> Result<RecoveredState, ProviderError> {
        self.look(Op::ObserveTest, Some(item), |site| {
            let Some(copy) = site.copies.get(item).filter(|copy| copy.generation == generation) else {
                return Ok(RecoveredState::Absent);
            };
            let (token, point) = (copy.token, copy.point);
            let power = site.machines.get(&copy.name).filter(|m| m.is_copy()).map_or(PowerState::Off, |m| m.power);
            Ok(match &copy.started {
                None => RecoveredState::Prepared { token, point },
                Some(started) => RecoveredState::Started { token, point, since: started.since, power, standalone: false },
            })
        })
        .await
    }
}

fn of_generation<'a>(site: &'a SiteState, item: &ItemName, generation: Generation) -> Result<&'a SimCopy, ProviderError> {
    let found = site.copies.get(item).filter(|copy| copy.generation == generation);
    found.ok_or_else(|| ProviderError::NotRecovered { item: item.clone(), generation })
}

fn recover(site: &mut SiteState, call: &Call, wanted: RecoverTest) -> Result<Done<Recovered>, ProviderError> {
    let RecoverTest { item, generation, point, network } = wanted;
    if let Some(copy) = site.copies.get(&item) {
        if copy.generation > generation {
            return Err(ProviderError::Superseded { item, given: generation, newest: copy.generation });
        }
        if copy.generation < generation {
            return Err(ProviderError::TestCopyExists { item, existing: copy.generation });
        }
        if copy.point != point {
            let detail = format!("generation {generation} already has a copy, of point {}", copy.point);
            return Err(refused("recover_test", item.as_str(), detail));
        }
        return Done::repeated(Recovered { token: copy.token, point, machine: copy.name.clone() });
    }
    let replica = site.replica(&item)?;
    let blocks = replica.offered(point)?.blocks.clone();
    let of = replica.machine.clone();
    let network = network.map_or_else(|| format!("test-{item}-{generation}"), |shared| format!("test-plan-{shared}"));
    let name = format!("{}-test", of.name);
    let machine = SimMachine {
        uuid: uuid_of(&of.uuid, generation, 1),
        power: PowerState::Off,
        autostart: false,
        disks: moved(&of.disks, &format!("{item}/test/run.{}", call.token)),
        networks: vec![network.clone()],
        origin: Origin::Copy { item: item.clone(), generation },
        image: Image::of(blocks),
    };
    let answer = Recovered { token: call.token, point, machine: name.clone() };
    let copy = SimCopy { token: call.token, generation, point, name, network, started: None, held: Some(machine) };
    site.copies.insert(item, copy);
    Done::changed(answer)
}

fn start(site: &mut SiteState, item: &ItemName, generation: Generation, now: DateTime<Utc>) -> Result<Done<TestStarted>, ProviderError> {
    let copy = of_generation(site, item, generation)?;
    let (name, network) = (copy.name.clone(), copy.network.clone());
    let others = site.copies.iter().filter(|(of, other)| *of != item && other.network == network).map(|(of, _)| of.clone()).collect::<Vec<_>>();
    if site.leaks.contains(item) || others.iter().any(|item| site.leaks.contains(item)) {
        let detail = "its bridge has a port that is not a copy's".to_owned();
        return Err(ProviderError::NotIsolated { network, detail });
    }
    if let Some(started) = copy.started.clone() {
        site.machine(&name)?.power = PowerState::Running;
        return Done::repeated(started);
    }
    if site.machines.contains_key(&name) {
        return Err(refused("start_test", &name, "another machine of that name exists at this site".to_owned()));
    }
    let others = others.iter().map(|other| format!(" and {other}'s")).collect::<String>();
    let isolation = Isolation { network, detail: format!("no uplink, no address, no port but the copy's own{others}"), observed_at: now };
    let Some(copy) = site.copies.get_mut(item) else {
        return Err(ProviderError::NotRecovered { item: item.clone(), generation });
    };
    let started = TestStarted { point: copy.point, machine: name.clone(), since: now, isolation };
    copy.started = Some(started.clone());
    if let Some(machine) = copy.held.take() {
        site.machines.insert(name, SimMachine { power: PowerState::Running, ..machine });
    }
    Done::changed(started)
}
