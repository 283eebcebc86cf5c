//! Asks for work all the time, and remembers what it was told.
//!
//! Invariants: 1. A run counts as accepted when its id was told, and from then on it must end. 2. What had no answer is asked again, the
//! same, until there is one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, bail};
use engine::{RunStore, Sent, StartRun, Started, StoreError};
use sdk::{Message, RunId, Workflow};
use serde_json::Value;
use store::PgStore;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    installation::Postgres,
    programs::{Chain, Family, Pulse, Room, Split, WORDS, Wanted, Words},
    strikes::Dice,
};

/// Between two looks at what is open.
const LOOK: Duration = Duration::from_millis(200);
/// Before something is asked again.
const AGAIN: Duration = Duration::from_millis(200);
/// Beats of a pulse: with some seconds each, every worker has some at any time.
const BEATS: u32 = 30;
/// Rooms: few, so that runs wait for each other.
const ROOMS: u64 = 3;

/// How much is open at a time. Two processors carry it, and each kill hits some runs.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Runs of timers.
    pub pulses: usize,
    /// Other runs.
    pub others: usize,
}

/// An accepted run.
#[derive(Clone, Debug)]
pub struct Told {
    /// Name of its workflow.
    pub workflow: &'static str,
    /// Its input.
    pub wanted: Wanted,
}

/// Who asks.
pub struct Submitter {
    store: Arc<PgStore>,
    postgres: Arc<Postgres>,
    told: Mutex<BTreeMap<RunId, Told>>,
    wrong: Mutex<Vec<String>>,
    again: AtomicU64,
    stopped: AtomicBool,
}

impl Submitter {
    /// One that has not begun. It asks through `store`, and looks at what is open through no proxy.
    #[must_use]
    pub fn new(store: Arc<PgStore>, postgres: Arc<Postgres>) -> Arc<Self> {
        let (told, wrong) = (Mutex::default(), Mutex::default());
        Arc::new(Self { store, postgres, told, wrong, again: AtomicU64::new(0), stopped: AtomicBool::new(false) })
    }

    /// No new work from now on.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// What was accepted.
    #[must_use]
    pub fn told(&self) -> BTreeMap<RunId, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers that should never have come.
    #[must_use]
    pub fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often something was asked again.
    #[must_use]
    pub fn again(&self) -> u64 {
        self.again.load(Ordering::SeqCst)
    }

    fn is_wrong(&self, what: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// Keeps so much open until it is stopped; then waits until all words are said.
    pub async fn work(self: Arc<Self>, load: Load, mut dice: Dice) {
        let (mut open, mut speaking) = (BTreeMap::<RunId, bool>::new(), JoinSet::new());
        while !self.stopped.load(Ordering::SeqCst) {
            let pulses = open.values().filter(|pulse| **pulse).count();
            let (room_pulse, room_other) = (pulses < load.pulses, open.len() - pulses < load.others);
            if !room_pulse && !room_other {
                tokio::time::sleep(LOOK).await;
                if let Ok(ended) = ended(&self.postgres, open.keys().copied().collect()).await {
                    open.retain(|run, _| !ended.contains(run));
                }
                while speaking.try_join_next().is_some() {}
                continue;
            }
            let (run, told) = (RunId(Uuid::now_v7()), drawn(&mut dice, room_pulse));
            self.clone().submit(run, &told).await;
            open.insert(run, room_pulse);
            if told.workflow == Words::NAME {
                speaking.spawn(self.clone().speak(run, told.wanted.name, dice.roll()));
            }
        }
        while speaking.join_next().await.is_some() {}
    }

    async fn submit(self: Arc<Self>, run: RunId, told: &Told) {
        let input = serde_json::to_value(&told.wanted).unwrap_or(Value::Null);
        let (workflow, workflow_id) = (told.workflow.to_owned(), told.wanted.name.clone());
        let start = Message::Start { workflow, input, workflow_id, requested_by: "chaos".into(), trace: None, parent: None };
        loop {
            match self.store.start_run(StartRun { run, start: start.clone() }).await {
                Ok(Started::New) => break,
                Ok(Started::AlreadyOpen(other)) => return self.is_wrong(format!("{} was refused to {run}, because {other} is open", told.wanted.name)),
                Err(StoreError::Again { .. } | StoreError::Refused { .. } | StoreError::Fenced(_)) => self.once_more().await,
            }
        }
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(run, told.clone());
    }

    async fn once_more(&self) {
        self.again.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(AGAIN).await;
    }

    /// Each word is said until it is heard, and sometimes once more.
    async fn speak(self: Arc<Self>, run: RunId, name: String, chance: u64) {
        let mut dice = Dice::new(chance);
        for number in 0..WORDS {
            tokio::time::sleep(Duration::from_millis(dice.below(600))).await;
            let word = Message::Signal { name: "word".into(), key: format!("{name}/{number}"), body: number.into(), by: "chaos".into() };
            let mut times = 1 + dice.below(2);
            let mut first = true;
            while times > 0 {
                match self.store.send(run, word.clone()).await {
                    Ok(Sent::Accepted) => times -= 1,
                    // The last word ends the run; what is said again then is heard by nobody.
                    Ok(Sent::Closed) if !first || self.again() > 0 => times -= 1,
                    Ok(answer) => return self.is_wrong(format!("word {number} to {run}: {answer:?}")),
                    Err(_) => {
                        self.once_more().await;
                        continue;
                    }
                }
                first = false;
            }
        }
    }
}

fn drawn(dice: &mut Dice, pulse: bool) -> Told {
    let name = format!("{:016x}", dice.roll());
    let room = u32::try_from(dice.below(ROOMS)).unwrap_or(0);
    let few = u32::try_from(2 + dice.below(7)).unwrap_or(2);
    let (workflow, steps) = match dice.below(10) {
        _ if pulse => (Pulse::NAME, BEATS),
        0..4 => (Chain::NAME, few),
        4..6 => (Split::NAME, few),
        6 => (Family::NAME, few.min(5)),
        7 => (Room::NAME, few.min(3)),
        _ => (Words::NAME, WORDS),
    };
    Told { workflow, wanted: Wanted { name, steps, room } }
}

/// Which of these runs have ended or are set aside.
///
/// # Errors
/// The database does not answer.
pub async fn ended(postgres: &Postgres, runs: Vec<RunId>) -> Result<BTreeSet<RunId>> {
    let client = postgres.connect().await?;
    let ids: Vec<Uuid> = runs.iter().map(|run| run.0).collect();
    let rows = client.query("select run_id from engine.runs where run_id = any($1) and state <> 'open'", &[&ids]).await?;
    Ok(rows.iter().map(|row| RunId(row.get(0))).collect())
}

/// Waits until all of these have ended or are set aside.
///
/// # Errors
/// Some have not, when the time is up: which.
pub async fn until_ended(postgres: &Postgres, runs: &BTreeMap<RunId, Told>, limit: Duration) -> Result<()> {
    let deadline = tokio::time::Instant::now() + limit;
    let mut open: Vec<RunId> = runs.keys().copied().collect();
    loop {
        if let Ok(ended) = ended(postgres, open.clone()).await {
            open.retain(|run| !ended.contains(run));
        }
        if open.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            let named: Vec<String> = open.iter().map(ToString::to_string).collect();
            bail!("{} runs have not ended within {limit:?}: {}", named.len(), named.join(", "));
        }
        tokio::time::sleep(LOOK).await;
    }
}
