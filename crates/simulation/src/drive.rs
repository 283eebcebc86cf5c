//! Drives the engine: its worker takes the turns, and here is everybody else: agents that take their time, people, and time itself.
//!
//! Invariants: 1. An activity is carried out on the simulated site when its time is over, so that what others do meanwhile comes first.
//! 2. It ends: after so much virtual time, or when nothing will ever happen any more, it says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use engine::{
    ActivityRegistry, ClaimedTask, LeaseStore, RunState, RunStore, Shown, StartRun, Step, StoreError, StoreTasks, TaskRunner, TaskStore, Tuning, Verdict, Worker,
    adapters::Inline,
    memory::MemoryStore,
    report,
    worker::{Keeper, LeaseHealth},
};
use provider::sim::SimWorld;
use recovery::plan::StepState;
use sdk::{Applied, Failure, Lease, Message, RunId, Seq, WorkerId};
use uuid::Uuid;
use workflows::{PLAN_PROJECTION, PlanFact, PlanNote, Reply, answer_signal};

use crate::{Durations, Impossible, Supposed, durations};

/// Longest virtual time that is followed.
const LONGEST: TimeDelta = TimeDelta::days(30);
/// How often those who hold a task say that they live: well below every limit of silence.
const BEAT: TimeDelta = TimeDelta::seconds(5);
/// Leases that never run out while we look.
const LEASE: Duration = Duration::from_secs(10 * 366 * 86_400);
/// How often points are taken while time passes.
const POINTS: TimeDelta = TimeDelta::seconds(5);

/// Whoever keeps the lease of a worker that nobody can take it from.
struct Unchallenged;

impl Keeper for Unchallenged {
    fn adopt(&self, _: Lease) {}
    fn health(&self) -> LeaseHealth {
        LeaseHealth::Fresh
    }
    fn forget(&self) {}
}

/// A task that somebody works on.
struct Held {
    task: ClaimedTask,
    /// When it will have been carried out; never, if whoever has it is silent.
    due: DateTime<Utc>,
    fails: bool,
    /// Nobody answers yet: it is asked again.
    not_yet: bool,
}

/// Everybody but the worker's code.
pub(crate) struct Everybody {
    pub(crate) store: MemoryStore,
    pub(crate) sites: SimWorld,
    worker: Worker<MemoryStore>,
    lease: Lease,
    registries: BTreeMap<String, TaskRunner>,
    held: BTreeMap<(RunId, Seq), Held>,
    beaten_at: DateTime<Utc>,
    points_at: DateTime<Utc>,
    first_asked: BTreeMap<(RunId, Seq), DateTime<Utc>>,
    looked_at: usize,
    open: Vec<(RunId, String, workflows::Question)>,
    waiting: BTreeMap<String, DateTime<Utc>>,
    started: u64,
    rules: Rules,
}

/// What is asked.
#[derive(Default)]
pub(crate) struct Rules {
    pub(crate) plan: Option<recovery::plan::Plan>,
    pub(crate) durations: Durations,
    pub(crate) supposed: Supposed,
    pub(crate) seed: u64,
}

impl Everybody {
    pub(crate) fn new(store: MemoryStore, sites: SimWorld, registries: BTreeMap<String, ActivityRegistry>) -> Result<Self, StoreError> {
        let mut turns = 0_u64;
        let nonces = Box::new(move || {
            turns += 1;
            Uuid::from_u64_pair(0x7369_6d75_6c61_7465, turns)
        });
        let id = |which| WorkerId(Uuid::from_u64_pair(0x7369_6d75_6c61_7465, which));
        let tuning = Tuning { ttl: LEASE, sweep_every: Duration::ZERO, release_after: LEASE, ..Tuning::default() };
        let registry = Arc::new(workflows::registry());
        let worker = Worker::new(id(u64::MAX), Arc::new(store.clone()), registry, Arc::new(Inline), Arc::new(Unchallenged), nonces, tuning);
        let lease = now(store.open_lease(id(u64::MAX - 1), LEASE))?;
        let source = Arc::new(StoreTasks { store: Arc::new(store.clone()), lease });
        let registries = registries.into_iter().map(|(queue, registry)| (queue, TaskRunner { registry, source: source.clone() })).collect();
        let at = store.time();
        Ok(Self {
            sites,
            worker,
            lease,
            registries,
            held: BTreeMap::new(),
            beaten_at: at,
            points_at: at,
            first_asked: BTreeMap::new(),
            looked_at: 0,
            open: vec![],
            waiting: BTreeMap::new(),
            started: 0,
            rules: Rules::default(),
            store,
        })
    }

    pub(crate) fn rule(&mut self, rules: Rules) {
        self.rules = rules;
    }

    pub(crate) fn time(&self) -> DateTime<Utc> {
        self.store.time()
    }

    /// Starts a run.
    pub(crate) fn begin(&mut self, workflow: &str, input: &impl serde::Serialize, about: &str) -> Result<RunId, StoreError> {
        self.started += 1;
        let run = RunId(Uuid::from_u64_pair(0x0190_0000_0000_7000 + self.started, 0x8000_0000_0000_0000));
        let input = serde_json::to_value(input).unwrap_or_default();
        let start =
            Message::Start { workflow: workflow.into(), input, workflow_id: about.into(), requested_by: "somebody".into(), trace: None, parent: None };
        now(self.store.start_run(StartRun { run, start }))?;
        Ok(run)
    }

    /// Runs on until every run has ended.
    pub(crate) fn until_ended(&mut self) -> Result<(), Impossible> {
        let begins = self.store.time();
        loop {
            let busy = now(self.worker.step())? == Step::Busy;
            let moved = self.people() | self.claim()? | self.carry_out()?;
            if busy || moved {
                continue;
            }
            let states = self.store.run_states();
            if let Some((run, _)) = states.iter().find(|(_, state)| *state == RunState::Suspended) {
                return Err(Impossible::Endless(format!("run {run} would be set aside")));
            }
            if states.iter().all(|(_, state)| *state != RunState::Open) {
                return Ok(());
            }
            if self.store.time() - begins > LONGEST {
                return Err(Impossible::Endless(format!("after {} days it still waits", LONGEST.num_days())));
            }
            if !self.wait()? {
                return Err(Impossible::Endless("it waits for something that never comes".to_owned()));
            }
        }
    }

    fn claim(&mut self) -> Result<bool, StoreError> {
        let mut moved = false;
        let down = self.rules.supposed.site_down.as_ref().map(|site| format!("site:{site}"));
        for (run, row) in self.store.claimable() {
            if down.as_deref() == Some(row.queue.0.as_str()) {
                continue; // nobody is there
            }
            let Some(task) = self.store.claim(self.lease, run, row.seq)? else { continue };
            let (takes, not_yet) = self.takes(&task);
            let due = self.store.time() + takes;
            let fails = self.rules.supposed.fails(&row.activity, &row.input);
            self.held.insert((run, row.seq), Held { task, due, fails, not_yet });
            moved = true;
        }
        Ok(moved)
    }

    /// How long this attempt takes, and whether another is needed: one that would outlive its limit is asked again, as a check is that
    /// nobody answers yet.
    fn takes(&mut self, task: &ClaimedTask) -> (TimeDelta, bool) {
        let at = self.store.time();
        let takes = TimeDelta::milliseconds(i64::try_from(self.takes_ms(task)).unwrap_or(i64::MAX / 2));
        let first = *self.first_asked.entry((task.run, task.task.seq)).or_insert(at);
        let left = (first + takes - at).max(TimeDelta::zero());
        let limit = i64::try_from(task.task.options.timeouts.start_to_close_ms).unwrap_or(i64::MAX / 2);
        let most = TimeDelta::milliseconds((limit - 1_000).max(limit / 2));
        (left.min(most), left > most)
    }

    /// Nothing takes time while the machines are brought where they are.
    fn takes_ms(&self, task: &ClaimedTask) -> u64 {
        let Some(plan) = &self.rules.plan else { return 0 };
        let row = &task.task;
        let draw = if self.rules.seed == 0 { 0.0 } else { draw(self.rules.seed, task) };
        let key = durations::step_of(plan, &row.activity, &row.input);
        let times = self.rules.supposed.times(&row.activity, &row.queue.0, &row.input, key.as_deref());
        self.rules.durations.of(plan, &row.activity, &row.input, draw).saturating_mul(times)
    }

    /// Carries out what is due.
    fn carry_out(&mut self) -> Result<bool, StoreError> {
        let at = self.store.time();
        let due: Vec<(RunId, Seq)> = self.held.iter().filter(|(_, held)| held.due <= at).map(|(key, _)| *key).collect();
        for key in &due {
            let Some(Held { task, fails, not_yet, .. }) = self.held.remove(key) else { continue };
            let runner = self.registries.get(task.task.queue.0.as_str());
            let verdict = match runner {
                Some(_) if not_yet => Verdict::Failed(Failure { applied: Applied::No, ..Failure::retryable("not-yet", "it takes longer") }),
                Some(_) if fails => Verdict::Ended(sdk::Outcome::Failed { failure: supposed(&task), attempts: task.token.attempt }),
                Some(runner) => now(runner.attempt(&task, &Shown::default())),
                None => Verdict::Buried(Failure::fatal("no-such-queue", format!("nobody serves {}", task.task.queue))),
            };
            now(report(&self.store, &task, &verdict))?;
        }
        Ok(!due.is_empty())
    }

    /// People say yes, and that it is done, after a while; about a failed step they say to stop.
    fn people(&mut self) -> bool {
        let notes = self.notes();
        let at = self.store.time();
        let mut moved = false;
        for (run, step, question) in notes {
            let since = *self.waiting.entry(format!("{run} {} {}", step, question.until)).or_insert(at);
            if at < since + self.rules.durations.people().delta() {
                continue;
            }
            let refuses = self.rules.supposed.fail_at.as_ref() == Some(&step);
            let said = |choice: &&String| if refuses { ["deny", "failed", "stop"] } else { ["approve", "done", "stop"] }.contains(&choice.as_str());
            let choice = question.choices.iter().find(said).cloned().unwrap_or_default();
            let people: BTreeSet<String> = if question.by.is_empty() { (0..question.need).map(|n| format!("person-{n}")).collect() } else { question.by.clone() };
            for by in people.into_iter().take(question.need) {
                let body = serde_json::to_value(Reply { choice: choice.clone(), reason: None }).unwrap_or_default();
                let key = format!("{}:{by}", question.until.timestamp_millis());
                let signal = Message::Signal { name: answer_signal(&step), key, body, by };
                moved |= now(self.store.send(run, signal)).is_ok();
            }
        }
        moved
    }

    /// Questions that are open, by the newest notes.
    fn notes(&mut self) -> Vec<(RunId, String, workflows::Question)> {
        let rows = self.store.projections_from(self.looked_at);
        self.looked_at += rows.len();
        let mut open = std::mem::take(&mut self.open);
        for (run, row) in rows.into_iter().filter(|(_, row)| row.projection == PLAN_PROJECTION) {
            let Ok(PlanNote { fact: PlanFact::Step { step, question }, .. }) = serde_json::from_value(row.fact) else { continue };
            open.retain(|(_, key, _)| *key != step.key);
            if let Some(question) = question.filter(|_| step.state == StepState::Waiting) {
                open.push((run, step.key, question));
            }
        }
        self.open = open.clone();
        open
    }

    /// Lets time pass until something is due; false if nothing ever is.
    fn wait(&mut self) -> Result<bool, StoreError> {
        let at = self.store.time();
        let tasks = self.held.values().map(|held| held.due).min();
        let people = self.waiting.values().map(|since| *since + self.rules.durations.people().delta()).filter(|due| *due > at).min();
        // The engine's limits run out behind their time, not at it.
        let limits = self.store.next_due().map(|due| due + TimeDelta::milliseconds(1));
        let Some(next) = [tasks, people, limits].into_iter().flatten().min() else { return Ok(false) };
        let beat = self.beaten_at + BEAT;
        let until = if self.held.is_empty() { next } else { next.min(beat) }.max(at + TimeDelta::milliseconds(1));
        self.store.advance((until - at).to_std().unwrap_or(Duration::from_millis(1)));
        if until >= beat {
            self.beaten_at = until;
            for held in self.held.values() {
                now(self.store.pulse_task(held.task.run, held.task.task.seq, held.task.token.attempt, None))?;
            }
        }
        if until >= self.points_at + POINTS {
            self.points_at = until;
            self.sites.replicate_all();
        }
        Ok(true)
    }
}

/// As a site says that it does not work.
fn supposed(task: &ClaimedTask) -> Failure {
    let name = &task.task.activity;
    Failure { applied: Applied::No, ..Failure::fatal("supposed", format!("it is supposed that {name} does not work")) }
}

/// Between 0 and 1, towards 0: of the seed, the activity and its place in the run.
#[expect(clippy::cast_precision_loss, reason = "53 bits are enough for a draw")]
fn draw(seed: u64, task: &ClaimedTask) -> f64 {
    let text = format!("{seed} {} {} {}", task.task.activity, task.task.input, task.token.attempt);
    let (high, low) = Uuid::new_v5(&Uuid::nil(), text.as_bytes()).as_u64_pair();
    let uniform = ((high ^ low) >> 11) as f64 / (1_u64 << 53) as f64;
    uniform * uniform
}

/// Polls a future of the store in memory to its end: it yields, but waits for nobody.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut task::Context::from_waker(task::Waker::noop())) {
            return value;
        }
    }
}
