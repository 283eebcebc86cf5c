//! Drives the engine: its worker takes the turns, and here is everybody else: agents that take their time, people, and time itself.
//!
//! Invariants: 1. An activity is carried out on the simulated site when its time is over, so that what others do meanwhile comes first.
//! 2. It ends: after so much virtual time, or when nothing will ever happen any more, it says so.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use engine::{
    ActivityRegistry, ClaimedTask, RunStore, Shown, StartRun, Step, StoreError, StoreTasks, TaskRow, TaskRunner, TaskStore, Verdict, Worker,
    memory::{MemoryStore, now},
    report,
};
use provider::sim::SimWorld;
use recovery::{
    ItemName,
    plan::Extra,
};
use sdk::{Applied, Failure, Lease, Message, RunId, Seq};
use uuid::Uuid;
use workflows::{Question as Asked, Reply, answer_signal};

use crate::{
    Durations, Impossible, Supposed, durations,
    places::Places,
    seen::{Open, Seen},
};

/// Name of the worker: its ids follow from it.
const NAME: u64 = 0x7369_6d75_6c61_7465;
/// Longest virtual time that is followed.
const LONGEST: TimeDelta = TimeDelta::days(30);
/// How often those who hold a task say that they live: well below every limit of silence.
const BEAT: TimeDelta = TimeDelta::seconds(5);
/// How often points are taken while time passes.
const POINTS: TimeDelta = TimeDelta::seconds(5);

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
    /// What is held, by when it is due.
    due: BTreeSet<(DateTime<Utc>, RunId, Seq)>,
    beaten_at: DateTime<Utc>,
    points_at: DateTime<Utc>,
    first_asked: BTreeMap<(RunId, Seq), DateTime<Utc>>,
    /// Until when recoveries wait for what their platform does first.
    extra_until: BTreeMap<(RunId, Seq), DateTime<Utc>>,
    /// How long that is, milliseconds.
    pub(crate) extra_ms: BTreeMap<ItemName, u64>,
    /// What the runs have recorded.
    pub(crate) seen: Arc<Mutex<Seen>>,
    /// When each question will have been answered, by its run, its step and its time.
    answers_due: BTreeMap<String, DateTime<Utc>>,
    pub(crate) started: u64,
    pub(crate) rules: Rules,
}

/// What is asked.
#[derive(Default)]
pub(crate) struct Rules {
    /// Nothing takes time without them.
    pub(crate) places: Option<Places>,
    /// What platforms do beside recovering machines.
    pub(crate) extra: Extra,
    pub(crate) durations: Durations,
    pub(crate) supposed: Supposed,
    pub(crate) seed: u64,
}

impl Everybody {
    pub(crate) fn new(store: MemoryStore, sites: SimWorld, seen: Arc<Mutex<Seen>>, registries: BTreeMap<String, ActivityRegistry>) -> Result<Self, StoreError> {
        let (worker, lease) = store.alone(workflows::registry(), NAME)?;
        let source = Arc::new(StoreTasks { store: Arc::new(store.clone()), lease });
        let registries = registries.into_iter().map(|(queue, registry)| (queue, TaskRunner { registry, source: source.clone() })).collect();
        let at = store.time();
        Ok(Self {
            sites,
            worker,
            lease,
            registries,
            held: BTreeMap::new(),
            due: BTreeSet::new(),
            beaten_at: at,
            points_at: at,
            first_asked: BTreeMap::new(),
            extra_until: BTreeMap::new(),
            extra_ms: BTreeMap::new(),
            seen,
            answers_due: BTreeMap::new(),
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

    /// What somebody here can carry out.
    pub(crate) fn activities(&self) -> BTreeSet<&'static str> {
        self.registries.values().flat_map(|runner| runner.registry.names()).collect()
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
            let (open, aside) = self.store.open_runs();
            if let Some(run) = aside {
                return Err(Impossible::Endless(format!("run {run} would be set aside")));
            }
            if open == 0 {
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
            if self.extra_until(run, &row).is_some_and(|until| until > self.store.time()) {
                continue;
            }
            let Some(task) = self.store.claim(self.lease, run, row.seq)? else { continue };
            let (takes, not_yet) = self.takes(&task);
            let due = self.store.time() + takes;
            let fails = self.rules.supposed.fails(&row.activity, &row.input);
            if let Some(before) = self.held.insert((run, row.seq), Held { task, due, fails, not_yet }) {
                self.due.remove(&(before.due, run, row.seq)); // it outlived its limit, and is tried again
            }
            self.due.insert((due, run, row.seq));
            moved = true;
        }
        Ok(moved)
    }

    /// What a site does beside recovering a machine comes before its agent can; nothing where there is no such thing.
    fn extra_until(&mut self, run: RunId, row: &TaskRow) -> Option<DateTime<Utc>> {
        if !durations::is_recovery(&row.activity) {
            return None;
        }
        let at = self.store.time();
        if let Some(until) = self.extra_until.get(&(run, row.seq)) {
            return Some(*until);
        }
        let item = row.input["item"].as_str()?.parse().ok()?;
        let needed = self.rules.extra.needed(&item)?;
        // A preparation that was measured has it in it.
        let key = self.rules.places.as_ref().and_then(|places| durations::step_of(places, &row.activity, &row.input));
        if key.is_some_and(|key| self.rules.durations.knows(&key)) {
            return None;
        }
        let (least, most) = (needed.shortest.ms(), needed.longest.ms());
        let ms = if self.rules.seed == 0 { most } else { least + durations::scaled(most - least, drawn(self.rules.seed, &format!("extra {item}"))) };
        let until = at + TimeDelta::milliseconds(i64::try_from(ms).unwrap_or(0));
        self.extra_until.insert((run, row.seq), until);
        self.extra_ms.insert(item, ms);
        Some(until)
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
        let Some(places) = &self.rules.places else { return 0 };
        let row = &task.task;
        let draw = if self.rules.seed == 0 { 0.0 } else { drawn(self.rules.seed, &format!("{} {} {}", row.activity, row.input, task.token.attempt)) };
        let key = durations::step_of(places, &row.activity, &row.input);
        let times = self.rules.supposed.times(&row.activity, &row.queue.0, &row.input, key.as_deref());
        self.rules.durations.of(places, &row.activity, &row.input, draw).saturating_mul(times)
    }

    /// Carries out what is due.
    fn carry_out(&mut self) -> Result<bool, StoreError> {
        let at = self.store.time();
        let mut due: Vec<(RunId, Seq)> = self.due.iter().take_while(|(due, ..)| *due <= at).map(|(_, run, seq)| (*run, *seq)).collect();
        due.sort_unstable();
        for key in &due {
            let Some(Held { task, fails, not_yet, due }) = self.held.remove(key) else { continue };
            self.due.remove(&(due, key.0, key.1));
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
        let at = self.store.time();
        let mut moved = false;
        let open = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.look(&self.store);
            seen.open.clone()
        };
        for Open { run, step, question } in open {
            let due = match self.answers_due.entry(format!("{run} {step} {}", question.until)) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => *new.insert(at + answered_after(&self.rules, &step, &question)),
            };
            if at < due {
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

    /// Lets time pass until something is due; false if nothing ever is.
    fn wait(&mut self) -> Result<bool, StoreError> {
        let at = self.store.time();
        let tasks = self.due.first().map(|(due, ..)| *due);
        let people = self.answers_due.values().copied().filter(|due| *due > at).min();
        // The engine's limits run out behind their time, not at it.
        let limits = self.store.next_due().map(|due| due + TimeDelta::milliseconds(1));
        let extra = self.extra_until.values().copied().filter(|until| *until > at).min();
        let Some(next) = [tasks, people, limits, extra].into_iter().flatten().min() else { return Ok(false) };
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

/// How long people take to answer: what is asked about a failed step was not asked when the step took what is known of it.
fn answered_after(rules: &Rules, step: &str, question: &Asked) -> TimeDelta {
    let of_failure = question.choices.iter().any(|choice| choice == "retry");
    let draw = if rules.seed == 0 { 0.0 } else { drawn(rules.seed, &format!("answer {step}")) };
    let ms = rules.durations.answer_ms(Some(step).filter(|_| !of_failure), draw);
    TimeDelta::milliseconds(i64::try_from(ms).unwrap_or(i64::MAX / 2))
}

/// As a site says that it does not work.
fn supposed(task: &ClaimedTask) -> Failure {
    let name = &task.task.activity;
    Failure { applied: Applied::No, ..Failure::fatal("supposed", format!("it is supposed that {name} does not work")) }
}

/// Between 0 and 1, towards 0: of the seed and of what it is drawn for.
#[expect(clippy::cast_precision_loss, reason = "53 bits are enough for a draw")]
fn drawn(seed: u64, what: &str) -> f64 {
    let text = format!("{seed} {what}");
    let (high, low) = Uuid::new_v5(&Uuid::nil(), text.as_bytes()).as_u64_pair();
    let uniform = ((high ^ low) >> 11) as f64 / (1_u64 << 53) as f64;
    uniform * uniform
}
