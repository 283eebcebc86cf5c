//! A simulated product with many machines: plans are run on it, and its world is judged.
//!
//!   Fleet ─▶ Simulation (engine) + SimWorld (provider, one machine for each name) ─▶ plan runs ─▶ records, steps, power

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use engine::{
    ActivityRegistry, Fault, Job, Perform, RunState, RunStore,
    memory::{MemoryRun, MemoryStore},
    sim::{Chaos, Simulation, Stuck},
};
use provider::{
    Fence, FenceState, Inventory, PowerState,
    sim::{Clock, SimWorld},
};
use recovery::{
    ItemName, ItemRecord, MainState, ReplicationPolicy,
    plan::{Plan, StepRun, StepState, Work},
};
use sdk::{Message, RunId, TaskQueue};
use serde_json::Value;
use workflows::{
    PLAN_PROJECTION, PlanFact, PlanInput, PlanNote, PlanOptions, ProtectInput, Question, Reply, answer_signal,
    declared::{DropDeadline, LoadItem, MakeWay, SetDeadline, SiteError, Way},
    item_workflow_id, plan_workflow_id,
};

use crate::{FromProjection, POLLS, add_agent, begun, item_named, now, projected, run_of, site, until_stored};

/// A simulated product with the machines of a plan.
pub struct Fleet {
    /// The engine's side.
    pub sim: Simulation,
    /// The outside world.
    pub world: SimWorld,
    /// What is run.
    pub plan: Plan,
    started: u64,
}

/// A question of a plan that nobody has answered yet.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The step.
    pub key: String,
    /// The run that waits.
    pub run: RunId,
    /// What is asked.
    pub question: Question,
}

/// Place of the agent at site `a` among the simulated actors.
const SOURCE_AGENT: usize = 0;

impl Fleet {
    /// The machines of a plan at `a`, protected to `b`, and nothing else.
    ///
    /// # Panics
    /// The plan is none, or its machines can't be protected.
    #[must_use]
    pub fn protected(seed: u64, yaml: &str) -> Self {
        let plan = Plan::from_yaml(yaml).unwrap_or_else(|why| panic!("{why}"));
        let mut sim = Simulation::new(seed, Chaos::default(), DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default());
        let clock_of = sim.store.clone();
        let world = SimWorld::new(Clock::new(move || clock_of.time()));
        for member in plan.members() {
            world.add_machine(&site("a"), member.item.as_str(), &[("vda", 1 << 20, "qcow2")]);
        }
        ["a", "b"].into_iter().for_each(|name| add_agent(&mut sim, &world, name));
        let store = sim.store.clone();
        sim.agent(vec![TaskQueue::new("server")], move || {
            ActivityRegistry::default().with::<LoadItem, _>(FromProjection(store.clone())).with::<MakeWay, _>(BesideStore(store.clone())).with::<SetDeadline, _>(BesideStore(store.clone())).with::<DropDeadline, _>(BesideStore(store.clone()))
        });
        sim.worker(workflows::registry());
        sim.worker(workflows::registry());
        let moving = world.clone();
        sim.on_tick(move || {
            moving.replicate_all();
        });
        let mut fleet = Self { sim, world, plan, started: 0 };
        fleet.protect_all();
        fleet
    }

    fn protect_all(&mut self) {
        let items: Vec<ItemName> = self.plan.members().map(|member| member.item.clone()).collect();
        let runs: Vec<RunId> = items
            .into_iter()
            .map(|item| {
                let input = ProtectInput {
                    machine: item.to_string(),
                    from: site("a"),
                    to: site("b"),
                    policy: ReplicationPolicy::default(),
                    checks: vec![],
                    profile: recovery::Profile::Kvm,
                    item: item.clone(),
                };
                self.begin("protect", &input, &item_workflow_id(&item))
            })
            .collect();
        for run in runs {
            self.finish(run).unwrap_or_else(|stuck| panic!("{stuck}"));
        }
        assert!(self.states().values().all(|state| *state == MainState::Protected), "{:?}", self.states());
    }

    /// Starts a run.
    pub fn begin(&mut self, workflow: &str, input: &impl serde::Serialize, about: &str) -> RunId {
        self.started += 1;
        begun(&self.sim.store, self.started, workflow, serde_json::to_value(input).unwrap_or(Value::Null), about)
    }

    /// Starts some work of the plan.
    pub fn start(&mut self, work: Work, options: PlanOptions) -> RunId {
        let input = PlanInput { plan: self.plan.clone(), version: 1, sha256: "0".repeat(64), work, options };
        let about = plan_workflow_id(&self.plan.name);
        self.begin("plan", &input, &about)
    }

    /// Starts some work of the plan and runs until it has ended; the run's state and result.
    pub fn carry_out(&mut self, work: Work) -> (RunState, Value) {
        let run = self.start(work, PlanOptions::default());
        self.finish(run).unwrap_or_else(|stuck| panic!("{work}: {stuck}"));
        self.result(run)
    }

    /// Runs until this run and all others have ended.
    ///
    /// # Errors
    /// [`Stuck`].
    pub fn finish(&mut self, run: RunId) -> Result<(), Stuck> {
        self.until(|store| {
            let states = store.run_states();
            states.iter().any(|(id, _)| *id == run) && states.iter().all(|(_, state)| *state != RunState::Open)
        })
    }

    /// Runs until this holds.
    ///
    /// # Errors
    /// [`Stuck`].
    pub fn until(&mut self, holds: impl Fn(&MemoryStore) -> bool) -> Result<(), Stuck> {
        let mut looked_at = None;
        self.sim.run_until(POLLS * 10, |store| {
            let changes = Some(store.changes());
            std::mem::replace(&mut looked_at, changes) != changes && holds(store)
        })?;
        Ok(())
    }

    /// Runs until it is that late.
    ///
    /// # Errors
    /// [`Stuck`].
    pub fn until_time(&mut self, time: DateTime<Utc>) -> Result<(), Stuck> {
        self.sim.run_until(POLLS * 10, |store| store.time() >= time).map(drop)
    }

    /// How a run ended: its state, and its result or its failure's detail.
    #[must_use]
    pub fn result(&self, run: RunId) -> (RunState, Value) {
        let state = self.run_of(run).map_or(RunState::Open, |run| run.state);
        let history = self.sim.store.history(run).ok();
        let last = history.and_then(|history| history.events.last().map(|stored| stored.event.body.clone()));
        let result = match last {
            Some(sdk::EventBody::Command(sdk::Command::RunCompleted { output })) => output,
            Some(sdk::EventBody::Command(sdk::Command::RunFailed { failure } | sdk::Command::RunCancelled { failure })) => {
                serde_json::json!({ "code": failure.code, "message": failure.message, "ended": failure.detail })
            }
            Some(sdk::EventBody::Command(_) | sdk::EventBody::Inbound(_)) | None => Value::Null,
        };
        (state, result)
    }

    /// A run as the store has it.
    #[must_use]
    pub fn run_of(&self, run: RunId) -> Option<MemoryRun> {
        run_of(&self.sim.store, run)
    }

    /// The main state of each machine.
    #[must_use]
    pub fn states(&self) -> BTreeMap<String, MainState> {
        self.plan.members().filter_map(|member| Some((member.item.to_string(), self.record(member.item.as_str())?.state.main))).collect()
    }

    /// A machine's record.
    #[must_use]
    pub fn record(&self, name: &str) -> Option<ItemRecord> {
        projected(&self.sim.store, &item_named(name))
    }

    /// The steps of a plan's run, each as it was last recorded, in the order in which they began.
    #[must_use]
    pub fn steps(&self, run: RunId) -> Vec<StepRun> {
        let mut steps: Vec<StepRun> = vec![];
        for note in self.notes(run) {
            let PlanFact::Step { step, .. } = note.1.fact else { continue };
            match steps.iter_mut().find(|known| known.key == step.key) {
                Some(known) => *known = step,
                None => steps.push(step),
            }
        }
        steps
    }

    fn notes(&self, root: RunId) -> Vec<(RunId, PlanNote)> {
        let rows = self.sim.store.projections().into_iter().filter(|(_, row)| row.projection == PLAN_PROJECTION);
        let notes = rows.filter_map(|(run, row)| Some((run, serde_json::from_value::<PlanNote>(row.fact).ok()?)));
        notes.filter(|(_, note)| note.root == root).collect()
    }

    /// What a plan's run asks people now.
    #[must_use]
    pub fn asked(&self, root: RunId) -> Vec<Asked> {
        let mut open: BTreeMap<String, Asked> = BTreeMap::new();
        for (run, note) in self.notes(root) {
            let PlanFact::Step { step, question } = note.fact else { continue };
            match question.filter(|_| step.state == StepState::Waiting) {
                Some(question) => open.insert(step.key.clone(), Asked { key: step.key, run, question }),
                None => open.remove(&step.key),
            };
        }
        open.into_values().collect()
    }

    /// Runs until a plan's run asks people something.
    ///
    /// # Errors
    /// [`Stuck`].
    pub fn until_asked(&mut self, root: RunId) -> Result<(), Stuck> {
        self.until(|store| {
            let asks = store.last_fact(|row| {
                let note = (row.projection == PLAN_PROJECTION).then(|| serde_json::from_value::<PlanNote>(row.fact.clone()).ok()).flatten();
                note.filter(|note| note.root == root && matches!(note.fact, PlanFact::Step { question: Some(_), .. }))
            });
            asks.is_some()
        })
    }

    /// Somebody answers.
    pub fn answer(&mut self, asked: &Asked, by: &str, choice: &str) {
        self.started += 1;
        let body = serde_json::to_value(Reply { choice: choice.into(), reason: None }).unwrap_or(Value::Null);
        let signal = Message::Signal { name: answer_signal(&asked.key), key: format!("{by}:{}", self.started), body, by: by.into() };
        until_stored(|| self.sim.store.send(asked.run, signal.clone()));
    }

    /// Where each machine is on, and under which name.
    #[must_use]
    pub fn powered_on(&self) -> BTreeMap<String, Vec<String>> {
        let mut on: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for member in self.plan.members() {
            for name in ["a", "b"] {
                let machine = self.world.machine(&site(name), member.item.as_str());
                if machine.is_some_and(|machine| machine.power == PowerState::Running) {
                    on.entry(member.item.to_string()).or_default().push(name.to_owned());
                }
            }
        }
        on
    }

    /// Somebody sees machines that are off where they belong although nobody has fenced them, and starts them.
    pub fn somebody_starts_what_is_off(&self) {
        for member in self.plan.members() {
            let name = member.item.as_str();
            let Some(record) = self.record(name) else { continue };
            let at = record.active_site();
            let open = matches!(now(Fence::observe_fence(&self.world.site(at), &member.item, name)), Ok(FenceState::Open { .. }));
            if open && self.world.machine(at, name).is_some_and(|machine| machine.power != PowerState::Running) {
                self.world.power_on(at, name);
            }
        }
    }

    /// Nobody runs twice.
    ///
    /// # Panics
    /// Somebody does.
    pub fn judged(&self, case: &str) {
        for (item, sites) in self.powered_on() {
            let unfenced = self.record(&item).is_some_and(|record| matches!(record.fence, Some(recovery::Fence::Unfenced { .. })));
            assert!(sites.len() < 2 || unfenced, "{case}: {item} runs at {sites:?}");
        }
        assert_eq!(self.world.actions_done_twice(), [], "{case}");
        let aside: Vec<_> = self.sim.store.runs().into_iter().filter(|(_, run)| run.state == RunState::Suspended).map(|(_, run)| run.failure).collect();
        assert!(aside.is_empty(), "{case}: a run was set aside: {aside:?}");
        assert_eq!(self.sim.store.leftovers(), 0, "{case}: tasks, timers or messages of ended runs");
    }

    /// Everything of ours at both sites.
    #[must_use]
    pub fn inventories(&self) -> BTreeMap<String, Inventory> {
        let of = |name: &str| (name.to_owned(), now(provider::Compute::inventory(&self.world.site(&site(name)))).unwrap_or_default());
        BTreeMap::from([of("a"), of("b")])
    }

    /// The source site is gone.
    pub fn source_dies(&mut self) {
        self.world.set_down(&site("a"), true);
        self.sim.remove(SOURCE_AGENT);
    }

    /// Virtual time.
    #[must_use]
    pub fn time(&self) -> DateTime<Utc> {
        self.sim.store.time()
    }
}

struct BesideStore(MemoryStore);

#[async_trait]
impl Perform<MakeWay> for BesideStore {
    async fn perform(&self, _: &Job, input: MakeWay) -> Result<Way, Fault<SiteError>> {
        let open = self.0.runs().into_iter().find(|(id, run)| *id == input.run && run.state == RunState::Open);
        let Some((run, known)) = open else { return Ok(Way::Free) };
        if !workflows::makes_way(&known.workflow) {
            return Ok(Way::Busy { workflow: known.workflow });
        }
        let cancel = Message::Cancel { by: "plan".into(), reason: input.work };
        until_stored(|| self.0.send(run, cancel.clone()));
        Ok(Way::Drill)
    }
}

#[async_trait]
impl Perform<SetDeadline> for BesideStore {
    async fn perform(&self, _: &Job, _: SetDeadline) -> Result<(), Fault<SiteError>> {
        Ok(())
    }
}

#[async_trait]
impl Perform<DropDeadline> for BesideStore {
    async fn perform(&self, _: &Job, _: DropDeadline) -> Result<(), Fault<SiteError>> {
        Ok(())
    }
}
