//! A whole product in one thread: two simulated sites, their agents, workers, the store in memory.
//!
//!   Scene ─▶ Simulation (engine) + SimWorld (provider) ─▶ runs ─▶ item records, ledger, inventories

pub mod capture;
pub mod collector;
pub mod disks;
pub mod drive;
pub mod fleet;
pub mod judge;
pub mod lab;
pub mod monitoring;
pub mod place;
pub mod product;
pub mod programs;
pub mod schema;
pub mod strike;
pub mod trouble;
pub mod watch;
mod work;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use activities::Prober;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use engine::{
    ActivityRegistry, Fault, Job, Perform, RunState, RunStore, StartRun, Started,
    memory::{MemoryRun, MemoryStore},
    sim::{Chaos, Intervention, Moment, Simulation, Stats, Stuck},
};
use provider::{
    Inventory, Site,
    sim::{Clock, SimWorld},
};
use recovery::{Check, ItemName, ItemRecord, MainState, SiteName};
use sdk::{Failure, Message, Outcome, RunId, TaskQueue};
use uuid::Uuid;
pub use engine::memory::now;
pub use work::{Work, drill};
use workflows::{
    ItemChange,
    declared::{LoadEvidence, LoadItem, SiteError},
};

/// Name of the machine in every scene.
pub const ITEM: &str = "db9";
/// Place of the agent at site `a` among the simulated actors.
const SOURCE_AGENT: usize = 0;
/// Enough polls for any run of the product.
pub const POLLS: u64 = 400_000;

/// A simulated product.
pub struct Scene {
    /// The engine's side.
    pub sim: Simulation,
    /// The outside world.
    pub world: SimWorld,
    /// Monitoring.
    pub watch: watch::Watch,
    started: u64,
}

/// An agent that nobody hears.
#[derive(Debug)]
pub struct Unheard;

/// How a run and its item ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The run's state.
    pub run: RunState,
    /// Code of its failure.
    pub code: Option<String>,
    /// The item's main state.
    pub item: MainState,
}

impl Scene {
    /// Two sites with an agent each, two workers, one machine at `a`.
    #[must_use]
    pub fn new(seed: u64, chaos: Chaos) -> Self {
        Self::at(seed, chaos, DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default())
    }

    /// The same, at another time.
    #[must_use]
    pub fn at(seed: u64, chaos: Chaos, start: DateTime<Utc>) -> Self {
        let mut sim = Simulation::new(seed, chaos, start);
        let clock_of = sim.store.clone();
        let world = SimWorld::new(Clock::new(move || clock_of.time()));
        world.add_machine(&site("a"), ITEM, &[("vda", 1 << 22, "qcow2")]);
        for name in ["a", "b"] {
            add_agent(&mut sim, &world, name);
        }
        let watch = watch::Watch::default();
        let (store, seen) = (sim.store.clone(), watch.clone());
        sim.agent(vec![TaskQueue::new("server")], move || {
            let evidence = watch::FromWatch(seen.clone(), store.clone());
            ActivityRegistry::default().with::<LoadItem, _>(FromProjection(store.clone())).with::<LoadEvidence, _>(evidence)
        });
        sim.worker(workflows::registry());
        sim.worker(workflows::registry());
        let (moving, watching, store) = (world.clone(), watch.clone(), sim.store.clone());
        sim.on_tick(move || {
            ["a", "b"].into_iter().for_each(|name| judge::write(&moving, &site(name)));
            moving.replicate_all();
            watching.sweep(&store);
        });
        Self { sim, world, watch, started: 0 }
    }

    /// A scene in which `work` is the next thing to do.
    ///
    /// # Errors
    /// [`Stuck`] if the way there does not end.
    pub fn ready_for(seed: u64, work: Work) -> Result<Self, Stuck> {
        let mut scene = Self::new(seed, Chaos::default());
        for earlier in work.before() {
            scene.carry_out(*earlier)?;
            if (*earlier, work) == (Work::Protect, Work::ChangePoint) {
                scene.replicates()?; // so that there is a point to change to
            }
        }
        if work == Work::FailoverUnfenced {
            scene.source_dies();
        }
        if work == Work::GiveBack {
            scene.left_fenced()?;
            scene.source_is_dark(false);
        }
        Ok(scene)
    }

    /// The source's hypervisor answers nobody any more, as after a power failure, while its agent does; or it is back.
    pub fn source_is_dark(&self, dark: bool) {
        self.world.set_down(&site("a"), dark);
    }

    /// A failover that was given up because the source went dark right after its machine was fenced, before anybody heard of that.
    ///
    /// # Errors
    /// [`Stuck`].
    pub fn left_fenced(&mut self) -> Result<RunId, Stuck> {
        let world = self.world.clone();
        self.sim.crash_switch().on_attempt(move |task, moment| {
            if task.task.activity != "fence-machine" || moment != Moment::Performed {
                return Intervention::None;
            }
            world.set_down(&site("a"), true);
            Intervention::Fail(Failure::retryable("answer-lost", "the line was cut"))
        });
        let (run, _) = self.carry_out(Work::Failover)?;
        self.sim.crash_switch().clear();
        Ok(run)
    }

    /// The source site is gone: its machine stops and its agent picks nothing up.
    pub fn source_dies(&mut self) {
        self.world.set_down(&site("a"), true);
        self.sim.remove(SOURCE_AGENT);
    }

    /// The source's agent is cut off from everybody but its own site, which lives on; whatever it believes, it does.
    pub fn source_is_not_heard(&mut self) -> Unheard {
        self.sim.remove(SOURCE_AGENT);
        Unheard
    }

    /// The agent is heard again.
    pub fn comes_back(&mut self, _: Unheard) {
        add_agent(&mut self.sim, &self.world, "a");
    }

    /// Starts `work` and runs until it has ended.
    ///
    /// # Errors
    /// [`Stuck`].
    pub fn carry_out(&mut self, work: Work) -> Result<(RunId, Stats), Stuck> {
        let run = self.start(work);
        let stats = self.finish(run)?;
        Ok((run, stats))
    }

    /// Starts `work`.
    pub fn start(&mut self, work: Work) -> RunId {
        self.start_workflow(work.workflow(), work.input(self), &work.about())
    }

    /// Starts any workflow.
    pub fn start_workflow(&mut self, workflow: &str, input: serde_json::Value, about: &str) -> RunId {
        self.started += 1;
        begun(&self.sim.store, self.started, workflow, input, about)
    }

    /// Sends a message to a run.
    pub fn send(&self, run: RunId, message: &Message) {
        until_stored(|| self.sim.store.send(run, message.clone()));
    }

    /// Runs until `run` has ended or is set aside.
    ///
    /// # Errors
    /// [`Stuck`].
    pub fn finish(&mut self, run: RunId) -> Result<Stats, Stuck> {
        let mut looked_at = None;
        self.sim.run_until(POLLS, |store| {
            // Looking copies the run; it can have ended only where the store has changed.
            let changes = Some(store.changes());
            std::mem::replace(&mut looked_at, changes) != changes && store.run_states().into_iter().any(|(id, state)| id == run && state != RunState::Open)
        })
    }

    /// How the run and the item ended.
    #[must_use]
    pub fn ending(&self, run: RunId) -> Ending {
        let ended = run_of(&self.sim.store, run);
        let record = self.record();
        Ending {
            run: ended.as_ref().map_or(RunState::Open, |run| run.state.clone()),
            code: ended.and_then(|run| run.failure).map(|failure| failure.code),
            item: record.map_or(MainState::Unprotected, |record| record.state.main),
        }
    }

    /// Why a run failed, in words.
    #[must_use]
    pub fn failure(&self, run: RunId) -> Option<String> {
        run_of(&self.sim.store, run).and_then(|run| run.failure).map(|failure| failure.to_string())
    }

    /// What a run gave; null if it has not completed.
    #[must_use]
    pub fn output(&self, run: RunId) -> serde_json::Value {
        let last = self.sim.store.history(run).ok().and_then(|history| history.events.last().map(|stored| stored.event.body.clone()));
        let Some(sdk::EventBody::Command(sdk::Command::RunCompleted { output })) = last else { return serde_json::Value::Null };
        output
    }

    /// The item's record as projected.
    #[must_use]
    pub fn record(&self) -> Option<ItemRecord> {
        projected(&self.sim.store, &item())
    }

    /// Whether a new point arrives within a minute: replication goes on.
    ///
    /// # Errors
    /// [`Stuck`].
    pub fn replicates(&mut self) -> Result<bool, Stuck> {
        let target = self.record().map_or(site("b"), |record| record.target_site().clone());
        let newest = |world: &SimWorld| {
            let replica = now(provider::ReplicaStore::replica(&world.site(&target), &item()));
            replica.ok().and_then(|replica| replica.points.last().map(|point| point.id))
        };
        let (before, until) = (newest(&self.world), self.sim.store.time() + std::time::Duration::from_secs(60));
        self.sim.run_until(POLLS, |store| store.time() > until)?;
        Ok(newest(&self.world) > before)
    }

    /// Everything of ours at both sites.
    #[must_use]
    pub fn inventories(&self) -> BTreeMap<String, Inventory> {
        let of = |name: &str| (name.to_owned(), now(provider::Compute::inventory(&self.world.site(&site(name)))).unwrap_or_default());
        BTreeMap::from([of("a"), of("b")])
    }

    /// Steps of a run as they were scheduled: position, name, whether it undoes another.
    #[must_use]
    pub fn steps(&self, run: RunId) -> Vec<ScheduledStep> {
        let Ok(history) = self.sim.store.history(run) else { return Vec::new() };
        let scheduled = history.events.into_iter().filter_map(|stored| match stored.event.body {
            sdk::EventBody::Command(sdk::Command::ActivityScheduled { activity, effect, compensation, queue, options, .. }) => {
                Some(ScheduledStep { seq: stored.event.seq, activity, effect, compensation, queue, options })
            }
            sdk::EventBody::Command(_) | sdk::EventBody::Inbound(_) => None,
        });
        scheduled.collect()
    }
}

/// An activity as it stands in a history.
#[derive(Clone, Debug)]
pub struct ScheduledStep {
    /// Its event.
    pub seq: sdk::Seq,
    /// Declared name.
    pub activity: String,
    /// Declared effect.
    pub effect: sdk::Effect,
    /// Whether it undoes another step.
    pub compensation: bool,
    /// Where it was carried out.
    pub queue: TaskQueue,
    /// Its retries and limits.
    pub options: sdk::ActivityOptions,
}

/// The one item of every scene.
#[must_use]
pub fn item() -> ItemName {
    ITEM.parse().unwrap_or_else(|_| unreachable!("a valid name"))
}

/// An item by its name.
#[must_use]
pub fn item_named(name: &str) -> ItemName {
    name.parse().unwrap_or_else(|_| unreachable!("a valid name"))
}

/// A site by its name.
#[must_use]
pub fn site(name: &str) -> SiteName {
    name.parse().unwrap_or_else(|_| unreachable!("a valid name"))
}

fn add_agent(sim: &mut Simulation, world: &SimWorld, name: &'static str) {
    let world = world.clone();
    sim.agent(vec![workflows::site_queue(&site(name))], move || {
        let here: Arc<dyn Site> = Arc::new(world.site(&site(name)));
        let registry = activities::registry(here.clone(), Arc::new(Answers));
        activities::with_actions(registry, here, Arc::new(Answers), Arc::new(world.actions(&site(name))))
    });
}

/// Starts the run of this number.
fn begun(store: &MemoryStore, number: u64, workflow: &str, input: serde_json::Value, about: &str) -> RunId {
    let run = RunId(Uuid::from_u64_pair(0x0190_0000_0000_7000 + number, 0x8000_0000_0000_0000));
    let start = Message::Start { workflow: workflow.into(), input, workflow_id: about.into(), requested_by: "ada".into(), trace: None, parent: None };
    let answer = until_stored(|| store.start_run(StartRun { run, start: start.clone() }));
    assert_eq!(answer, Started::New, "run {workflow} starts");
    run
}

fn run_of(store: &MemoryStore, run: RunId) -> Option<MemoryRun> {
    store.runs().into_iter().find(|(id, _)| *id == run).map(|(_, run)| run)
}

/// The last record that committed turns recorded for an item.
#[must_use]
pub fn projected(store: &MemoryStore, item: &ItemName) -> Option<ItemRecord> {
    store.last_fact(|row| {
        let of_item = row.projection == workflows::ITEM_PROJECTION && row.fact["item"] == item.as_str();
        of_item.then(|| serde_json::from_value::<ItemChange>(row.fact.clone()).ok()).flatten().map(|change| change.record)
    })
    .filter(ItemRecord::is_known)
}

/// Does something on all processors, to the end, even if some of it fails.
///
/// # Panics
/// Some of it has failed.
pub fn for_each<T: Copy + Send + Sync + std::fmt::Debug>(all: &[T], one: impl Fn(T) + Sync) {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(vec![]));
    let work = &|| {
        while let Some(item) = all.get(next.fetch_add(1, Ordering::SeqCst)) {
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one(*item))).is_err() {
                failed.lock().unwrap_or_else(PoisonError::into_inner).push(*item);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "failed: {failed:?}");
}

/// Asks the store until its answer arrives.
pub fn until_stored<T, E, F: Future<Output = Result<T, E>>>(mut ask: impl FnMut() -> F) -> T {
    loop {
        if let Ok(answer) = now(ask()) {
            return answer;
        }
    }
}

/// Outcome of an activity by its scheduling event.
#[must_use]
pub fn outcome_of(history: &sdk::History, of: sdk::Seq) -> Option<Outcome> {
    history.events.iter().find_map(|stored| match &stored.event.body {
        sdk::EventBody::Inbound(sdk::Inbound::ActivityFinished { of: found, outcome }) if *found == of => Some(outcome.clone()),
        sdk::EventBody::Inbound(_) | sdk::EventBody::Command(_) => None,
    })
}

struct Answers;

#[async_trait]
impl Prober for Answers {
    async fn ask(&self, check: &Check) -> Result<String, String> {
        Ok(format!("{check} answers"))
    }
}

struct FromProjection(MemoryStore);

#[async_trait]
impl Perform<LoadItem> for FromProjection {
    async fn perform(&self, _: &Job, input: LoadItem) -> Result<Option<ItemRecord>, Fault<SiteError>> {
        Ok(projected(&self.0, &input.item))
    }
}
