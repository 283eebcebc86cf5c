//! A simulated world in which the plan's machines stand as the real ones do.
//!
//! Invariant: they are brought there by the product's own workflows, so that nothing is there that could not be.

use std::{collections::BTreeMap, sync::Arc};

use chrono::DateTime;
use engine::memory::{Faultless, MemoryStore};
use provider::{
    Site,
    sim::{Clock, SimWorld},
};
use recovery::{
    Direction, ItemName, ItemRecord, MainState, ReplicationPolicy, Side, TestFailover,
    plan::Plan,
};
use sdk::RunId;
use workflows::{
    CommitInput, Part, PlanInput, PlannedInput, ProtectInput, ReprotectInput, TestFailoverInput, item_workflow_id, plan_workflow_id,
};

use crate::{
    Impossible, Question,
    answers::{Serves, beside_store},
    drive::{Everybody, Rules},
};

/// The machines as they stand.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// What is known of them; machines that are left out are taken to be protected.
    pub records: Vec<ItemRecord>,
}

/// A step on a machine's way to where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Protect,
    Planned,
    Commit,
    Reprotect,
    Failback,
    Test,
}

/// How a machine comes to where it stands, by the product's own operations.
fn way(record: Option<&ItemRecord>) -> Vec<Way> {
    const AWAY: [Way; 2] = [Way::Protect, Way::Planned];
    let Some(record) = record else { return vec![Way::Protect] };
    let state = &record.state;
    let at_rest = match state.main {
        MainState::Failed { before: Some(rest), .. } => rest.state(),
        MainState::FailingOver { .. } | MainState::Failed { before: None, .. } | MainState::Seeding => MainState::Protected,
        MainState::ChangingPoint | MainState::Committing | MainState::Undoing => MainState::CommitPending,
        MainState::Reprotecting => MainState::Committed,
        rest @ (MainState::Unprotected | MainState::Protected | MainState::CommitPending | MainState::Committed | MainState::Unprotecting | MainState::Reconcile) => rest,
    };
    let mut way = match (at_rest, state.active, state.direction) {
        (MainState::Unprotected | MainState::Unprotecting | MainState::Reconcile, ..) => vec![],
        (MainState::CommitPending, Side::Recovery, _) => AWAY.to_vec(),
        (MainState::Committed, Side::Recovery, _) => [&AWAY[..], &[Way::Commit]].concat(),
        (MainState::Protected, Side::Recovery, _) => [&AWAY[..], &[Way::Commit, Way::Reprotect]].concat(),
        (MainState::CommitPending, Side::Primary, _) => [&AWAY[..], &[Way::Commit, Way::Reprotect, Way::Failback]].concat(),
        (MainState::Committed, Side::Primary, _) => [&AWAY[..], &[Way::Commit, Way::Reprotect, Way::Failback, Way::Commit]].concat(),
        (_, Side::Primary, Direction::Forward | Direction::Reverse) | (_, Side::Recovery, _) => vec![Way::Protect],
    };
    if state.test_failover != TestFailover::None && at_rest == MainState::Protected {
        way.push(Way::Test);
    }
    way
}

/// A world in which the machines of the plan stand as they do.
pub(crate) fn built(question: &Question) -> Result<Everybody, Impossible> {
    let plan = &question.plan;
    let store = MemoryStore::new(DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default(), Arc::new(Faultless));
    let clock_of = store.clone();
    let sites = SimWorld::new(Clock::new(move || clock_of.time()));
    sites.forget_networks();
    for member in plan.members() {
        let size = question.inventory.records.iter().find(|record| record.name == member.item).and_then(|record| record.disks.first()).map_or(1 << 20, |disk| disk.size_bytes);
        sites.add_machine(&plan.from, member.item.as_str(), &[("vda", size.clamp(1 << 16, 1 << 40), "qcow2")]);
    }
    let mut registries = BTreeMap::from([("server".to_owned(), beside_store(&store))]);
    for site in [&plan.from, &plan.to] {
        let here: Arc<dyn Site> = Arc::new(sites.site(site));
        let registry = activities::registry(here.clone(), Arc::new(Serves));
        let registry = activities::with_actions(registry, here, Arc::new(Serves), Arc::new(sites.actions(site)));
        registries.insert(format!("site:{site}"), registry);
    }
    let mut everybody = Everybody::new(store, sites, registries)?;
    everybody.bring(question)?;
    Ok(everybody)
}

impl Everybody {
    /// Brings each machine where it stands, all at the same time.
    fn bring(&mut self, question: &Question) -> Result<(), Impossible> {
        let record = |item: &ItemName| question.inventory.records.iter().find(|record| record.name == *item);
        let ways: Vec<(ItemName, Vec<Way>)> = question.plan.members().map(|member| (member.item.clone(), way(record(&member.item)))).collect();
        let longest = ways.iter().map(|(_, way)| way.len()).max().unwrap_or(0);
        for place in 0..longest {
            for (item, way) in &ways {
                if let Some(step) = way.get(place) {
                    self.take(&question.plan, item, *step, record(item))?;
                }
            }
            self.until_ended()?;
        }
        Ok(())
    }

    fn take(&mut self, plan: &Plan, item: &ItemName, step: Way, record: Option<&ItemRecord>) -> Result<(), Impossible> {
        let about = item_workflow_id(item);
        let item = item.clone();
        let planned = || PlannedInput { item: item.clone(), shut_down_ms: 60_000, sync: recovery::Sync::default(), choice: None, accept_loss: None, part: Part::default() };
        match step {
            Way::Protect => {
                let policy = record.map_or_else(ReplicationPolicy::default, |record| record.policy.clone());
                let profile = record.map_or_else(recovery::Profile::default, |record| record.profile);
                let (from, to) = (plan.from.clone(), plan.to.clone());
                let input = ProtectInput { machine: item.to_string(), item, from, to, policy, profile, checks: vec![] };
                self.begin("protect", &input, &about)?
            }
            Way::Planned => self.begin("planned-failover", &planned(), &about)?,
            Way::Failback => self.begin("failback", &planned(), &about)?,
            Way::Commit => self.begin("commit", &CommitInput { item }, &about)?,
            Way::Reprotect => self.begin("reprotect", &ReprotectInput { item, location: recovery::Location::default() }, &about)?,
            Way::Test => {
                let input = TestFailoverInput { item, choice: recovery::PointChoice::LatestProcessed, checks: vec![], ttl_ms: None, part: Part::default() };
                self.begin("test-failover", &input, &about)?
            }
        };
        Ok(())
    }

    /// Begins the plan's work.
    pub(crate) fn start(&mut self, question: &Question) -> Result<RunId, Impossible> {
        let Question { plan, work, options, .. } = question;
        let input = PlanInput { plan: plan.clone(), version: 1, sha256: String::new(), work: *work, options: options.clone() };
        Ok(self.begin("plan", &input, &plan_workflow_id(&plan.name))?)
    }

    /// From now on time passes, and things go wrong.
    pub(crate) fn suppose(&mut self, question: &Question) {
        let Question { plan, durations, supposed, seed, .. } = question;
        if let Some(site) = &supposed.site_down {
            self.sites.set_down(site, true);
        }
        self.rule(Rules { plan: Some(plan.clone()), durations: durations.clone(), supposed: supposed.clone(), seed: *seed });
    }
}
