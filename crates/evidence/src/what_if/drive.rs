//! Drives the engine on: its worker takes the turns, and here is everybody else: agents, people, and time.
//!
//! ```text
//!   worker: turn ─▶ tasks ─▶ claimed here ─▶ answered when they took as long as then ─▶ nothing to do? time moves on
//! ```
//!
//! Invariants: 1. One thread, no clock, no chance: equal histories and suppositions give equal ends. 2. It ends: after so many rounds,
//! or so much virtual time, it says where everything stood.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use engine::{
    ClaimedTask, RunState, RunStore, Step, StoreError, TaskStore, Verdict, Worker,
    memory::{Faultless, MemoryStore, now},
    report,
};
use recovery::{Generation, ItemRecord};
use sdk::{Activity, Applied, EventBody, Failure, Grant, History, Inbound, Lease, Message, Outcome as Ended, Registry, RunId, Seq};
use serde::Serialize;
use serde_json::Value;
use workflows::{
    ITEM_PROJECTION, ItemChange,
    declared::{LoadItem, SiteError},
    item_workflow_id,
};

use super::{Outcome, WhatIf, answers::Answers, samples::sample};
use crate::{Bundle, report::recoveries::answers};

/// Name of the worker: its ids follow from it.
const NAME: u64 = 0x7768_6174_2d69_6600;
/// Rounds of the worker: a run of the product takes some hundred.
const MOST_ROUNDS: u32 = 200_000;
/// Virtual time that is followed: the longest limit of a step of ours is an hour, copying may take days.
const LONGEST: TimeDelta = TimeDelta::days(30);
/// How long an answer takes that nobody has recorded.
const ASSUMED: TimeDelta = TimeDelta::seconds(1);
/// How often those who hold a task say that they live: well below every limit of silence.
const BEAT: TimeDelta = TimeDelta::seconds(3);

/// An answer that nobody has recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Assumed {
    /// To which run.
    pub run: RunId,
    /// To which step.
    pub seq: Seq,
    /// Its name.
    pub step: String,
}

/// How far it came.
pub(super) struct Driven {
    pub(super) histories: Vec<History>,
    pub(super) assumed: Vec<Assumed>,
    pub(super) open: Option<String>,
}

/// A task that somebody works on.
struct Held {
    task: ClaimedTask,
    /// When it will be answered; never, if whoever has it fell silent.
    due: Option<(DateTime<Utc>, Verdict)>,
}

struct Everybody<'a> {
    store: MemoryStore,
    worker: Worker<MemoryStore>,
    lease: Lease,
    answers: Answers,
    what_if: &'a WhatIf,
    target: (RunId, Seq),
    held: BTreeMap<(RunId, Seq), Held>,
    posts: Vec<(DateTime<Utc>, RunId, Message)>,
    assumed: Vec<Assumed>,
}

/// Runs everything on from `past` until all has ended.
pub(super) fn on(bundle: &Bundle, past: &[History], registry: &Registry, what_if: &WhatIf, target: (RunId, Seq)) -> Result<Driven, StoreError> {
    let begins = past.iter().filter_map(|history| history.events.last()).map(|last| last.event.at).max().unwrap_or(DateTime::UNIX_EPOCH);
    let store = MemoryStore::new(begins, Arc::new(Faultless));
    store.restore(past, &granted_before(bundle, past));
    let (worker, lease) = store.alone(registry.clone(), NAME)?;
    let everybody = Everybody {
        worker,
        lease,
        answers: Answers::of(bundle),
        what_if,
        target,
        held: BTreeMap::new(),
        posts: posts(bundle, past),
        assumed: Vec::new(),
        store,
    };
    everybody.go_on(begins)
}

/// Grants of locks to runs that are not here: those before the first one that is recorded behind the cut, and those that records of
/// items name. Without them a generation would be older than the item's.
fn granted_before(bundle: &Bundle, past: &[History]) -> Vec<Grant> {
    let mut granted: BTreeMap<String, Grant> = BTreeMap::new();
    for history in bundle.runs() {
        let known = past.iter().find(|past| past.run == history.run).map_or(0, |past| past.events.len());
        for stored in history.events.iter().skip(known) {
            let EventBody::Inbound(Inbound::LocksGranted { grants, .. }) = &stored.event.body else { continue };
            for grant in grants {
                let before = Grant { epoch: grant.epoch - 1, ..grant.clone() };
                let lowest = granted.entry(grant.resource.clone()).or_insert_with(|| before.clone());
                lowest.epoch = lowest.epoch.min(before.epoch);
            }
        }
    }
    let loaded = bundle.runs().iter().flat_map(|history| answers(history, LoadItem::NAME));
    for record in loaded.filter_map(|answer| serde_json::from_value::<ItemRecord>(answer.clone()).ok()) {
        let Generation { era, grant_epoch } = record.state.generation;
        let resource = item_workflow_id(&record.name);
        granted.entry(resource.clone()).or_insert(Grant { resource, epoch: grant_epoch, era });
    }
    granted.into_values().collect()
}

/// What people said after the cut, and when. Relatives say again what they said.
fn posts(bundle: &Bundle, past: &[History]) -> Vec<(DateTime<Utc>, RunId, Message)> {
    let mut posts = Vec::new();
    for history in bundle.runs() {
        let known = past.iter().find(|past| past.run == history.run).map_or(0, |past| past.events.len());
        for stored in history.events.iter().skip(known) {
            let message = match stored.event.body.clone() {
                EventBody::Inbound(Inbound::SignalReceived { name, key, body, by }) if !by.starts_with("run ") => Message::Signal { name, key, body, by },
                EventBody::Inbound(Inbound::CancelRequested { by, reason }) if !by.starts_with("run ") => Message::Cancel { by, reason },
                EventBody::Inbound(_) | EventBody::Command(_) => continue,
            };
            posts.push((stored.event.at, history.run, message));
        }
    }
    posts.sort_by_key(|(at, run, _)| (*at, *run));
    posts.reverse();
    posts
}

impl Everybody<'_> {
    fn go_on(mut self, begins: DateTime<Utc>) -> Result<Driven, StoreError> {
        let mut open = Some(format!("it was followed for {MOST_ROUNDS} rounds"));
        for _ in 0..MOST_ROUNDS {
            let busy = now(self.worker.step())? == Step::Busy;
            let moved = self.post()? | self.claim()? | self.answer()?;
            if busy || moved {
                continue;
            }
            let waiting: Vec<RunId> = self.store.runs().into_iter().filter(|(_, run)| run.state == RunState::Open).map(|(run, _)| run).collect();
            if waiting.is_empty() {
                open = None;
                break;
            }
            if self.store.time() - begins > LONGEST {
                open = Some(format!("after {} days it still waits; it was not followed any further", LONGEST.num_days()));
                break;
            }
            if !self.wait()? {
                open = Some(format!("run {} waits for something that nothing in these histories brings", waiting[0]));
                break;
            }
        }
        let histories = self.store.runs().into_iter().map(|(run, _)| self.store.history(run)).collect::<Result<_, _>>()?;
        let aside = self.store.runs().into_iter().find(|(_, run)| run.state == RunState::Suspended);
        let aside = aside.map(|(run, state)| format!("run {run} would be set aside: {}", state.failure.map(|why| why.to_string()).unwrap_or_default()));
        Ok(Driven { histories, assumed: self.assumed, open: aside.or(open) })
    }

    /// What people said by now.
    fn post(&mut self) -> Result<bool, StoreError> {
        let mut moved = false;
        while let Some((_, run, message)) = self.posts.pop_if(|(at, _, _)| *at <= self.store.time()) {
            now(self.store.send(run, message))?;
            moved = true;
        }
        Ok(moved)
    }

    /// Takes up what can be taken up, but for what nobody is to pick up.
    fn claim(&mut self) -> Result<bool, StoreError> {
        let mut moved = false;
        for (run, row) in self.store.claimable() {
            let key = (run, row.seq);
            let ignored = key == self.target && self.what_if.outcome == Outcome::TimesOut && row.options.timeouts.queue_ms.is_some();
            if ignored {
                continue;
            }
            let Some(task) = self.store.claim(self.lease, run, row.seq)? else { continue };
            let due = match self.held.remove(&key) {
                Some(Held { due: Some(due), .. }) => Some(due), // it outlived an attempt's limit then as well
                Some(Held { due: None, .. }) | None => self.answer_to(&task),
            };
            self.held.insert(key, Held { task, due });
            moved = true;
        }
        Ok(moved)
    }

    /// When and how a task will be answered; nothing if whoever has it is silent.
    fn answer_to(&mut self, task: &ClaimedTask) -> Option<(DateTime<Utc>, Verdict)> {
        let (row, at) = (&task.task, self.store.time());
        let recorded = |answers: &mut Answers| answers.next(&row.activity, &row.queue, &row.input);
        if (task.run, row.seq) == self.target {
            let failure = |code: &str| supposed(code, &row.activity);
            return match &self.what_if.outcome {
                Outcome::TimesOut => None,
                Outcome::Fails { code } => {
                    let took = recorded(&mut self.answers).map_or(ASSUMED, |answer| answer.took);
                    let failed = Ended::Failed { failure: failure(code), attempts: task.token.attempt };
                    Some((at + took, Verdict::Ended(failed)))
                }
                Outcome::FailsOnce { code } if task.token.attempt == 1 => {
                    Some((at, Verdict::Failed(Failure { retryable: true, applied: Applied::No, ..failure(code) })))
                }
                Outcome::FailsOnce { .. } => Some(self.as_recorded(task)),
            };
        }
        Some(self.as_recorded(task))
    }

    fn as_recorded(&mut self, task: &ClaimedTask) -> (DateTime<Utc>, Verdict) {
        let (row, at) = (&task.task, self.store.time());
        let answer = self.answers.next(&row.activity, &row.queue, &row.input);
        let took = answer.as_ref().map_or(ASSUMED, |answer| answer.took);
        let known = if row.activity == LoadItem::NAME { self.projected(&row.input) } else { None };
        let outcome = match (known, answer) {
            (Some(record), _) => Ended::Completed { output: record },
            (None, Some(answer)) => answer.outcome,
            (None, None) => {
                self.assumed.push(Assumed { run: task.run, seq: row.seq, step: row.activity.clone() });
                match sample(&row.activity, &row.input, at + took) {
                    Some(output) => Ended::Completed { output },
                    None => Ended::Failed { failure: supposed("no-sample-answer", &row.activity), attempts: task.token.attempt },
                }
            }
        };
        (at + took, Verdict::Ended(outcome))
    }

    /// An item's record as the facts of this world leave it.
    fn projected(&self, input: &Value) -> Option<Value> {
        let changes = self.store.projections().into_iter().filter(|(_, row)| row.projection == ITEM_PROJECTION);
        let changes = changes.filter_map(|(_, row)| serde_json::from_value::<ItemChange>(row.fact).ok());
        let mut changes = changes.filter(|change| input.get("item").and_then(Value::as_str) == Some(change.item.as_str()));
        changes.next_back().and_then(|change| serde_json::to_value::<Option<ItemRecord>>(Some(change.record)).ok())
    }

    /// Answers what is due.
    fn answer(&mut self) -> Result<bool, StoreError> {
        let at = self.store.time();
        let due: Vec<(RunId, Seq)> = self.held.iter().filter(|(_, held)| held.due.as_ref().is_some_and(|(due, _)| *due <= at)).map(|(key, _)| *key).collect();
        for key in &due {
            if let Some(Held { task, due: Some((_, verdict)) }) = self.held.remove(key) {
                now(report(&self.store, &task, &verdict))?;
            }
        }
        Ok(!due.is_empty())
    }

    /// Lets time pass until something is due; false if nothing ever is.
    fn wait(&mut self) -> Result<bool, StoreError> {
        let at = self.store.time();
        let answers = self.held.values().filter_map(|held| held.due.as_ref().map(|(due, _)| *due)).min();
        let posts = self.posts.last().map(|(due, _, _)| *due);
        // The engine's limits run out behind their time, not at it.
        let limits = self.store.next_due().map(|due| due + TimeDelta::milliseconds(1));
        let Some(next) = [answers, posts, limits].into_iter().flatten().min() else { return Ok(false) };
        let beat = answers.map(|_| at + BEAT);
        let until = beat.map_or(next, |beat| next.min(beat)).max(at + TimeDelta::milliseconds(1));
        self.store.advance((until - at).to_std().unwrap_or(Duration::from_millis(1)));
        for held in self.held.values().filter(|held| held.due.is_some()) {
            now(self.store.pulse_task(held.task.run, held.task.task.seq, held.task.token.attempt, None))?;
        }
        Ok(true)
    }
}

/// As a site says that it will not do it.
fn supposed(code: &str, activity: &str) -> Failure {
    let message = format!("supposed: {activity} does not work");
    Failure::app(&SiteError { code: code.to_owned(), message, advice: "this is a what-if".into(), standing: None })
}
