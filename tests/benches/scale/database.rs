//! The same plan on a real database, with worker processes and agents that take their time.
//!
//! ```text
//!   worker processes (the product's) ──▶ Postgres ◀── agents of two simulated sites: each attempt takes as long as such a step takes
//! ```

use std::{
    collections::BTreeMap,
    io::Read,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use activities::Prober;
use async_trait::async_trait;
use engine::{
    ClaimedTask, LeaseStore, Reported, RunStore, StartRun, StoreError, StoreTasks, TaskPulse, TaskRunner, TaskSource, Verdict,
    adapters::{DriveTuning, ThreadKeeper, run_tasks},
    worker::Keeper,
};
use provider::{
    Site,
    sim::{Clock, SimWorld},
};
use recovery::{
    Check, ReplicationPolicy, SiteName,
    plan::{Plan, StepKind, Work, forecast},
};
use sdk::{Command as Recorded, EventBody, Lease, Message, RunId, Seq, TaskQueue, WorkerId};
use serde_json::Value;
use server::{StateDir, WorkerOptions, work};
use store::{Limits, PgStore, migrate, pool::Target, testing::TestDatabase};
use tokio::sync::{Notify, watch};
use uuid::Uuid;
use workflows::{PlanEnded, PlanInput, PlanOptions, ProtectInput, item_workflow_id, plan_workflow_id};

use super::peak_kib;

/// The most that the way of a plan may take beside its steps.
const BAR: f64 = 1.05;
/// Life of leases, as the product has it.
const LEASE: Duration = Duration::from_secs(10);
/// Worker processes.
const WORKERS: usize = 2;
/// Longest that a run of the bench is waited for.
const PATIENCE: Duration = Duration::from_secs(1_500);

/// What parts of steps take, milliseconds: those of KVM on plain disks, shortened where only waiting is meant.
const TAKES: [(&str, u64); 7] =
    [("fence-machine", 1_500), ("seal-replica", 100), ("list-points", 50), ("pin-point", 50), ("recover-machine", 1_500), ("start-machine", 1_500), ("check-machine", 4_000)];

/// Of a part for a machine: up to a half more, by the machine.
fn takes_ms(activity: &str, item: &str) -> u64 {
    let usual = TAKES.iter().find(|(name, _)| *name == activity).map_or(0, |(_, ms)| *ms);
    let drawn = Uuid::new_v5(&Uuid::nil(), format!("{activity} {item}").as_bytes()).as_u128() % 500;
    usual + usual * u64::try_from(drawn).unwrap_or(0) / 1_000
}

/// Tasks straight from the store, whose reports come when such a step would be over.
struct Timely {
    tasks: StoreTasks<PgStore>,
    /// Whether anything takes time.
    timed: Arc<AtomicBool>,
    /// How many times as quick everybody is.
    quick: u64,
}

#[async_trait]
impl TaskSource for Timely {
    async fn claim(&self, queues: &[TaskQueue], limit: u32) -> Result<Vec<ClaimedTask>, StoreError> {
        self.tasks.claim(queues, limit).await
    }
    async fn report(&self, task: &ClaimedTask, verdict: &Verdict) -> Result<Reported, StoreError> {
        if self.timed.load(Ordering::Relaxed) {
            let item = task.task.input["item"].as_str().unwrap_or_default();
            tokio::time::sleep(Duration::from_millis(takes_ms(&task.task.activity, item) / self.quick)).await;
        }
        self.tasks.report(task, verdict).await
    }
    async fn pulse(&self, run: RunId, seq: Seq, attempt: i32, detail: Option<&Value>) -> Result<TaskPulse, StoreError> {
        self.tasks.pulse(run, seq, attempt, detail).await
    }
}

struct Serves;

#[async_trait]
impl Prober for Serves {
    async fn ask(&self, check: &Check) -> Result<String, String> {
        Ok(format!("{check} answers"))
    }
}

/// A worker process, until its standard input ends.
pub(crate) fn worker(url: &str, name: &str) {
    let dir = std::env::temp_dir().join(format!("sb-scale-{name}-{}", std::process::id()));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        std::thread::spawn(move || {
            std::io::stdin().read_to_end(&mut vec![]).ok();
            stop.send_replace(true);
        });
        let state_dir = StateDir::open(&dir).expect("a state directory can be made");
        let options = WorkerOptions { state_dir, database_url: url.to_owned(), lease: LEASE, name: name.to_owned() };
        work(options, stopped).await.expect("a worker works");
    });
    std::fs::remove_dir_all(&dir).ok();
    println!("  {name}: peak memory {} MiB, {:.1} s of processor", peak_kib() / 1024, processor_s());
}

/// Processor time of this process so far.
fn processor_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // State is no number, so user and system time are the 11th and 12th that are.
    fields.get(10).zip(fields.get(11)).map_or(0.0, |(user, system)| (user + system) as f64 / 100.0)
}

fn workers(url: &str) -> Vec<Child> {
    let program = std::env::current_exe().expect("this program has a path");
    let start = |number: usize| Command::new(&program).args(["worker", url, &format!("worker-{number}")]).stdin(Stdio::piped()).spawn().expect("a worker can be started");
    (1..=WORKERS).map(start).collect()
}

async fn agents(store: &Arc<PgStore>, world: &SimWorld, timed: &Arc<AtomicBool>, quick: u64, stop: &watch::Receiver<bool>) {
    for name in ["a", "b"] {
        let site: SiteName = name.parse().expect("a valid name");
        let lease: Lease = store.open_lease(WorkerId(Uuid::now_v7()), LEASE).await.expect("a lease is given");
        let keeper = ThreadKeeper::start(store.clone(), LEASE).expect("a thread is given");
        keeper.adopt(lease);
        std::mem::forget(keeper);
        let here: Arc<dyn Site> = Arc::new(world.site(&site));
        let registry = activities::registry(here.clone(), Arc::new(Serves));
        let registry = activities::with_actions(registry, here, Arc::new(Serves), Arc::new(world.actions(&site)));
        let source = Arc::new(Timely { tasks: StoreTasks { store: store.clone(), lease }, timed: timed.clone(), quick });
        let tuning = DriveTuning { poll: Duration::from_millis(20), ..DriveTuning::default() };
        tokio::spawn(run_tasks(TaskRunner { registry, source }, vec![workflows::site_queue(&site)], Arc::new(Notify::new()), stop.clone(), tuning));
    }
}

async fn begin(store: &PgStore, workflow: &str, input: &impl serde::Serialize, about: String) -> RunId {
    let run = RunId(Uuid::now_v7());
    let input = serde_json::to_value(input).expect("an input is JSON");
    let start = Message::Start { workflow: workflow.into(), input, workflow_id: about, requested_by: "bench".into(), trace: None, parent: None };
    store.start_run(StartRun { run, start }).await.expect("a run starts");
    run
}

/// Waits until every run has ended; how many there were.
async fn all_ended(database: &TestDatabase, what: &str) -> i64 {
    let deadline = Instant::now() + PATIENCE;
    let mut said = Instant::now();
    loop {
        let (all, open, bad) = database.counted().await;
        assert!(bad == 0, "{what}: {bad} runs have failed or are set aside");
        if open == 0 {
            return all;
        }
        assert!(Instant::now() < deadline, "{what}: {open} of {all} runs are still open");
        if said.elapsed() > Duration::from_secs(20) {
            said = Instant::now();
            println!("  {what}: {open} of {all} runs are open");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The whole bench. Where everybody is `quick`, the ratio says little: that is for seeing so many machines through.
pub(crate) fn run(text: &str, quick: u64) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    runtime.block_on(carried_out(Plan::from_yaml(text).unwrap_or_else(|error| panic!("{error}")), quick));
}

async fn carried_out(plan: Plan, quick: u64) {
    let database = TestDatabase::empty().await;
    let target = Target::new(&database.url, Duration::from_secs(30)).expect("the address can be read");
    migrate::run(&target).await.expect("the database is migrated");
    let store = Arc::new(PgStore::open(&database.url, Limits { lease: LEASE, connections: 8 }).await.expect("the database can be used"));
    let world = SimWorld::new(Clock::new(chrono::Utc::now));
    world.forget_networks();
    plan.members().for_each(|member| world.add_machine(&plan.from, member.item.as_str(), &[("vda", 1 << 20, "qcow2")]));
    let (timed, (stop, stopped)) = (Arc::new(AtomicBool::new(false)), watch::channel(false));
    agents(&store, &world, &timed, quick, &stopped).await;
    let moving = world.clone();
    let replication = tokio::task::spawn_blocking(move || {
        while !*stopped.borrow() {
            moving.replicate_all();
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    let mut children = workers(&database.url);

    let began = Instant::now();
    for member in plan.members() {
        let (from, to, item) = (plan.from.clone(), plan.to.clone(), member.item.clone());
        let input = ProtectInput { machine: item.to_string(), from, to, policy: ReplicationPolicy::default(), profile: recovery::Profile::Kvm, checks: vec![], item };
        begin(&store, "protect", &input, item_workflow_id(&input.item)).await;
    }
    let protected = all_ended(&database, "protect").await;
    println!("{protected} machines are protected after {:.1} s", began.elapsed().as_secs_f64());

    timed.store(true, Ordering::Relaxed);
    let (events_before, turns_before) = database.written().await;
    let input = PlanInput { plan: plan.clone(), version: 1, sha256: "0".repeat(64), work: Work::Unplanned, options: PlanOptions::default() };
    let began = Instant::now();
    let root = begin(&store, "plan", &input, plan_workflow_id(&plan.name)).await;
    let runs = all_ended(&database, "plan").await - protected;
    let wall = began.elapsed();
    let (events, turns) = database.written().await;
    stop.send_replace(true);
    tell(&plan, quick, &ended(&store, root).await, wall, (runs, events - events_before, turns - turns_before));
    replication.await.expect("replication ends");
    for child in &mut children {
        drop(child.stdin.take());
        child.wait().expect("a worker ends");
    }
    println!("  agents, sites and this bench: peak memory {} MiB, {:.1} s of processor", peak_kib() / 1024, processor_s());
}

async fn ended(store: &PgStore, root: RunId) -> PlanEnded {
    let history = store.load_history(root).await.expect("a history can be read");
    match history.events.last().map(|last| last.event.body.clone()) {
        Some(EventBody::Command(Recorded::RunCompleted { output })) => serde_json::from_value(output).expect("a plan's result can be read"),
        other => panic!("the plan has not ended well: {other:?}"),
    }
}

fn tell(plan: &Plan, quick: u64, ended: &PlanEnded, wall: Duration, (runs, events, turns): (i64, i64, i64)) {
    let machines = plan.members().count();
    assert_eq!((ended.whole, ended.counts.done), (true, machines * 2), "every machine is prepared and started: {:?}", ended.counts);
    let sums: BTreeMap<StepKind, &[&str]> = BTreeMap::from([
        (StepKind::Prepare, &["fence-machine", "seal-replica", "list-points", "pin-point", "recover-machine"][..]),
        (StepKind::Start, &["start-machine", "check-machine"][..]),
    ]);
    let bare = forecast(&plan.stages(Work::Unplanned), |step| {
        let item = step.item.as_ref().map(ToString::to_string).unwrap_or_default();
        sums.get(&step.kind).map_or(0, |parts| parts.iter().map(|part| takes_ms(part, &item) / quick).sum())
    });
    let wall_ms = wall.as_millis() as f64;
    let ratio = wall_ms / ended.critical_path_ms as f64;
    println!("{machines} machines, {} groups, {runs} runs: {events} events, {turns} turns, {:.0} turns/s", plan.groups.len(), turns as f64 / wall.as_secs_f64());
    println!("  wall {:.2} s, critical path of its own steps {:.2} s: ratio {ratio:.4} (bar {BAR})", wall_ms / 1e3, ended.critical_path_ms as f64 / 1e3);
    println!("  what the sites alone took, in the plan's order: {:.2} s: ratio {:.4}", bare.total_ms as f64 / 1e3, wall_ms / bare.total_ms as f64);
    println!("{}", if quick > 1 { "complete" } else if ratio <= BAR { "ok" } else { "MISSED" });
}
