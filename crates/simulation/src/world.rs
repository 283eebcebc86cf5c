//! A simulated world in which the plan's machines stand as the real ones do.
//!
//! Invariant: they are brought there by the product's own workflows, so that nothing is there that could not be.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use chrono::DateTime;
use engine::memory::{Faultless, MemoryStore};
use provider::{
    Site,
    sim::{Clock, SimWorld},
};
use recovery::{
    Direction, ItemName, ItemRecord, MainState, ReplicationPolicy, Side, SiteName, TestFailover,
    plan::{Extra, Plan},
};
use sdk::RunId;
use workflows::{
    CommitInput, Part, PlanInput, PlannedInput, ProtectInput, ReprotectInput, TestFailoverInput, item_workflow_id, plan_workflow_id,
};

use crate::{
    Impossible, Question, Told,
    answers::{Serves, beside_store},
    drive::{Everybody, Rules},
    places::Places,
    seen::Seen,
    supposed, told,
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

/// A world in which the machines of a plan stand as they do. What is asked about it happens in worlds that are forked from it.
pub struct World {
    from: SiteName,
    to: SiteName,
    store: MemoryStore,
    sites: SimWorld,
    seen: Seen,
    started: u64,
    /// What agents and the server carry out there.
    activities: BTreeSet<&'static str>,
}

impl World {
    /// For questions about this plan and these machines.
    ///
    /// # Errors
    /// [`Impossible::NotThere`] if the machines can't be brought where they are; [`Impossible::Engine`].
    pub fn of(question: &Question) -> Result<Self, Impossible> {
        supposed::check(question)?;
        let everybody = built(question)?;
        let activities = everybody.activities();
        supposed::check_slow(question, &activities)?;
        let Plan { from, to, .. } = question.plan.clone();
        let seen = everybody.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // How they came there is of no interest any more.
        everybody.store.forget_ended(&[]);
        Ok(Self { from, to, store: everybody.store, sites: everybody.sites, seen, started: everybody.started, activities })
    }

    /// Follows a question about the plan and the machines of this world to its end.
    ///
    /// # Errors
    /// [`Impossible`].
    pub fn told(&self, question: &Question) -> Result<Told, Impossible> {
        supposed::check(question)?;
        supposed::check_slow(question, &self.activities)?;
        let store = self.store.fork();
        let sites = self.sites.fork(clock(&store));
        let mut world = peopled([&self.from, &self.to], store, sites, self.seen.clone())?;
        world.started = self.started;
        let began_at = world.time();
        let root = world.start(question)?;
        world.suppose(question);
        world.until_ended()?;
        told::told(question, &world, root, began_at)
    }
}

/// Sites live in the time of the store.
fn clock(store: &MemoryStore) -> Clock {
    let store = store.clone();
    Clock::new(move || store.time())
}

fn built(question: &Question) -> Result<Everybody, Impossible> {
    let plan = &question.plan;
    let store = MemoryStore::new(DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default(), Arc::new(Faultless));
    let sites = SimWorld::new(clock(&store));
    sites.forget_networks();
    let sizes: BTreeMap<&ItemName, u64> = question.inventory.records.iter().filter_map(|record| Some((&record.name, record.disks.first()?.size_bytes))).collect();
    for member in plan.members() {
        let size = sizes.get(&member.item).copied().unwrap_or(1 << 20);
        sites.add_machine(&plan.from, member.item.as_str(), &[("vda", size.clamp(1 << 16, 1 << 40), "qcow2")]);
    }
    let mut everybody = peopled([&plan.from, &plan.to], store, sites, Seen::default())?;
    everybody.bring(question)?;
    Ok(everybody)
}

/// A world with its agents and its worker.
fn peopled(ends: [&SiteName; 2], store: MemoryStore, sites: SimWorld, seen: Seen) -> Result<Everybody, Impossible> {
    let seen = Arc::new(Mutex::new(seen));
    let mut registries = BTreeMap::from([("server".to_owned(), beside_store(&store, &seen))]);
    for site in ends {
        let here: Arc<dyn Site> = Arc::new(sites.site(site));
        let registry = activities::registry(here.clone(), Arc::new(Serves));
        let registry = activities::with_actions(registry, here, Arc::new(Serves), Arc::new(sites.actions(site)));
        registries.insert(format!("site:{site}"), registry);
    }
    Ok(Everybody::new(store, sites, seen, registries)?)
}

impl Everybody {
    /// Brings each machine where it stands, all at the same time.
    fn bring(&mut self, question: &Question) -> Result<(), Impossible> {
        let records: BTreeMap<&ItemName, &ItemRecord> = question.inventory.records.iter().map(|record| (&record.name, record)).collect();
        let record = |item: &ItemName| records.get(item).copied();
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
        let Question { plan, work, durations, supposed, seed, .. } = question;
        if let Some(site) = &supposed.site_down {
            self.sites.set_down(site, true);
        }
        let profiles = question.inventory.records.iter().map(|record| (record.name.clone(), record.profile)).collect();
        let extra = Extra::of(plan, *work, &profiles);
        self.rule(Rules { places: Some(Places::of(plan, *work)), extra, durations: durations.clone(), supposed: supposed.clone(), seed: *seed });
    }
}
