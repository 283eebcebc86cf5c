//! The simulator: real workers and real task runners on the store in memory, one thread, one seed.
//!
//!   pick an actor ─▶ poll once ─▶ crash? pause? lose an answer? ─▶ nobody can move? advance the clock
//!
//! Invariants: 1. Equal seeds give equal runs: nothing here reads a clock, a random source or a hash order. 2. A crash is
//! the dropping of a future at one of its awaits; the actor comes back later as somebody else. 3. A paused actor goes on
//! afterwards with what it believed: that is a zombie. 4. Witnesses are never away: what one of them does not tell in time is not found in time.

mod actors;
mod chaos;
mod tails;
mod witnesses;

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task,
    time::Duration,
};

use chrono::{DateTime, Utc};
use sdk::{Registry, TaskQueue};

use crate::{ActivityRegistry, memory::MemoryStore};
pub use actors::Life;
pub use chaos::{Chaos, CrashSwitch, Intervention, Moment, Rng};
use chaos::{Budget, SeededFaults};
pub use witnesses::Notes;

/// Life of a lease in the simulator.
pub const TTL: Duration = Duration::from_secs(10);

/// Longest single step through a sleep.
const STRIDE: Duration = Duration::from_secs(3_600);

/// How long a process is away that an intervention let die.
const RESTART: Duration = Duration::from_secs(2);

/// Longest that chance stops a process that then goes on: four times the life of its lease.
const LONGEST_PAUSE_MS: u64 = 40_000;
/// The same.
pub const LONGEST_PAUSE: Duration = Duration::from_millis(LONGEST_PAUSE_MS);

/// Most polls without the clock moving: a hundred times what the largest fleet needs, so that somebody who turns in circles is found soon.
const MOST_OF_ONE_TIME: u64 = 200_000;

type Main = Pin<Box<dyn Future<Output = ()>>>;
type Birth = Box<dyn Fn(u64, Arc<Mutex<Idle>>) -> Main>;
type Expected = Box<dyn Fn() -> Option<DateTime<Utc>>>;

/// When an actor last found nothing to do.
#[derive(Default)]
pub(crate) struct Idle {
    pub(crate) at_change: Option<(u64, DateTime<Utc>)>,
}

struct Actor {
    birth: Birth,
    main: Option<Main>,
    idle: Arc<Mutex<Idle>>,
    back_at: Option<DateTime<Utc>>,
    lives: u64,
    /// Chance leaves it alone.
    steady: bool,
}

/// What happened in a simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Polls of actors.
    pub polls: u64,
    /// Actors dropped at an await.
    pub crashes: u64,
    /// Actors stopped and continued later.
    pub pauses: u64,
    /// Answers of the store that did not arrive.
    pub lost_answers: u64,
    /// Batches that landed after their sender had given up.
    pub late: u64,
    /// Moves of the clock, back or far ahead.
    pub jumps: u64,
    /// Claims that were also given runs of the living.
    pub doubles: u64,
    /// Runs that were taken over from somebody whose lease had gone.
    pub takeovers: u64,
    /// Servers of the store that were started anew, most of them without their last commits.
    pub tails: u64,
    /// What happened in which order: equal for equal seeds.
    pub digest: u64,
}

/// The simulation did not reach its end.
#[derive(Debug, thiserror::Error)]
#[error("seed {seed}: stuck after {polls} polls at {at}; open is:{open}")]
pub struct Stuck {
    /// To repeat it.
    pub seed: u64,
    /// Polls of actors until then.
    pub polls: u64,
    /// Virtual time.
    pub at: DateTime<Utc>,
    /// What is open, in words.
    pub open: String,
}

/// One simulated world.
pub struct Simulation {
    /// The store that all actors share.
    pub store: MemoryStore,
    seed: u64,
    rng: Rng,
    chaos: Chaos,
    switch: CrashSwitch,
    faults: Arc<SeededFaults>,
    budget: Arc<Budget>,
    actors: Vec<Actor>,
    tick: Box<dyn FnMut()>,
    expected: Vec<Expected>,
    stats: Stats,
    witnesses: Option<usize>,
    copy: Option<tails::Copy>,
}

impl Simulation {
    /// An empty world.
    #[must_use]
    pub fn new(seed: u64, chaos: Chaos, start: DateTime<Utc>) -> Self {
        let switch = CrashSwitch::default();
        let budget = Arc::new(Budget::default());
        budget.allows(chaos.at_most);
        let faults = Arc::new(SeededFaults::new(seed, chaos, budget.clone(), switch.clone()));
        let store = MemoryStore::new(start, faults.clone());
        Self { store, seed, rng: Rng::new(seed), chaos, switch, faults, budget, actors: Vec::new(), tick: Box::new(|| {}), expected: Vec::new(), stats: Stats::default(), witnesses: None, copy: None }
    }

    /// Lets outside code crash the actor that is being polled, and strike at calls of the store.
    #[must_use]
    pub fn crash_switch(&self) -> CrashSwitch {
        self.switch.clone()
    }

    /// From now on other things go wrong.
    pub fn chaos(&mut self, chaos: Chaos) {
        self.chaos = chaos;
        self.copy = None;
        self.faults.chaos(chaos);
        self.budget.allows(chaos.at_most);
    }

    /// From now on so many claims in a thousand are also given what a living worker owns: two then believe that a run is theirs, as two
    /// transactions that claim at the same moment may where the store's claim is wrong. The keys of what they write must tell them apart.
    pub fn double_claims(&mut self, per_mille: u64) {
        self.faults.double_claims(per_mille);
    }

    /// How many faults have struck until now.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.budget.spent()
    }

    /// What has happened until now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (late, takeovers) = self.store.late_and_taken();
        Stats { lost_answers: self.faults.lost(), doubles: self.faults.doubled(), late, takeovers, ..self.stats }
    }

    /// Called each time the clock moves: what the outside world does by itself.
    pub fn on_tick(&mut self, tick: impl FnMut() + 'static) {
        self.tick = Box::new(tick);
    }

    /// Adds a worker that takes turns.
    pub fn worker(&mut self, registry: Registry) {
        let notes = self.notes_of_next();
        let (store, seed) = (self.store_of(notes.as_ref()), self.seed);
        let place = self.actors.len() as u64;
        let registry = Arc::new(registry);
        self.add(Box::new(move |life, idle| Box::pin(actors::worker(store.clone(), registry.clone(), seed, place, life, idle))));
    }

    /// Adds an agent that carries out tasks of these queues.
    pub fn agent(&mut self, queues: Vec<TaskQueue>, registry: impl Fn() -> ActivityRegistry + 'static) {
        let notes = self.notes_of_next();
        let (store, switch, seed) = (self.store.clone(), self.switch.clone(), self.seed);
        let place = self.actors.len() as u64;
        self.add(Box::new(move |life, idle| {
            let agent = actors::Agent { store: store.clone(), queues: queues.clone(), registry: registry(), switch: switch.clone(), idle, notes: notes.clone() };
            Box::pin(agent.main(actors::identity(seed, place, life)))
        }));
    }

    /// Adds a process that fires schedules.
    pub fn scheduler(&mut self) {
        let (store, seed) = (self.store.clone(), self.seed);
        let place = self.actors.len() as u64;
        self.add(Box::new(move |life, idle| Box::pin(actors::scheduler(store.clone(), actors::identity(seed, place, life), idle))));
    }

    /// Adds a process of another kind: `main` is begun anew for each of its lives, and never ends by itself.
    pub fn takes_part<M: Future<Output = ()> + 'static>(&mut self, main: impl Fn(Life) -> M + 'static) {
        let (store, seed) = (self.store.clone(), self.seed);
        let place = self.actors.len() as u64;
        self.add(Box::new(move |life, idle| Box::pin(main(Life { id: actors::identity(seed, place, life), store: store.clone(), idle }))));
    }

    /// Something outside the store is due then: time is not passed over it.
    pub fn expects(&mut self, due: impl Fn() -> Option<DateTime<Utc>> + 'static) {
        self.expected.push(Box::new(due));
    }

    fn add(&mut self, birth: Birth) {
        self.actors.push(Actor { birth, main: None, idle: Arc::default(), back_at: None, lives: 0, steady: false });
    }

    /// Runs until `done`.
    ///
    /// # Errors
    /// [`Stuck`] after `polls` polls, or when everybody is so busy that time stands still.
    pub fn run_until(&mut self, polls: u64, mut done: impl FnMut(&MemoryStore) -> bool) -> Result<Stats, Stuck> {
        let (mut at, mut of_one_time) = (self.store.time(), 0);
        for _ in 0..polls {
            if done(&self.store) {
                return Ok(self.stats());
            }
            let now = self.store.time();
            of_one_time = if now == at { of_one_time + 1 } else { 0 };
            at = now;
            match self.pick() {
                Some(_) if of_one_time > MOST_OF_ONE_TIME => break,
                Some(place) => self.poll(place),
                None => self.advance(),
            }
        }
        Err(Stuck { seed: self.seed, polls: self.stats.polls, at: self.store.time(), open: self.store.open_work() })
    }

    /// An actor that may move, chosen by the seed.
    fn pick(&mut self) -> Option<usize> {
        let (now, changes) = (self.store.time(), self.store.changes());
        let may_move = |actor: &Actor| {
            let back = actor.back_at.is_none_or(|at| at <= now);
            let idle = actor.idle.lock().map_or(None, |idle| idle.at_change);
            back && idle != Some((changes, now))
        };
        let ready: Vec<usize> = self.actors.iter().enumerate().filter(|(_, a)| may_move(a)).map(|(place, _)| place).collect();
        let choice = self.rng.below(ready.len() as u64)?;
        ready.get(usize::try_from(choice).unwrap_or(0)).copied()
    }

    fn poll(&mut self, place: usize) {
        self.stats.polls += 1;
        let now = self.store.time();
        let Some(actor) = self.actors.get_mut(place) else { return };
        actor.back_at = None;
        if actor.main.is_none() {
            actor.lives += 1;
            if let Ok(mut idle) = actor.idle.lock() {
                idle.at_change = None;
            }
            actor.main = Some((actor.birth)(actor.lives, actor.idle.clone()));
        }
        self.switch.begin(place);
        if let Some(main) = actor.main.as_mut() {
            let ended = main.as_mut().poll(&mut task::Context::from_waker(task::Waker::noop())).is_ready();
            debug_assert!(!ended, "actors never end by themselves");
        }
        let asked = self.switch.take();
        let (crash, pause) = (self.rng.strikes(self.chaos.crash_per_mille), self.rng.strikes(self.chaos.pause_per_mille));
        self.note(place);
        self.a_server_may_end();
        let Some(actor) = self.actors.get_mut(place) else { return };
        let (crash, pause) = (crash && !actor.steady, pause && !actor.steady);
        if asked || self.budget.grants(crash) {
            self.stats.crashes += 1;
            actor.main = None;
            // One that was asked for is over when a supervisor would have started it again; chance may take longer than a lease.
            let away = if asked { RESTART } else { Duration::from_millis(self.rng.below(15_000).unwrap_or(0)) };
            actor.back_at = Some(now + away);
        } else if self.budget.grants(pause) {
            self.stats.pauses += 1;
            actor.back_at = Some(now + Duration::from_millis(self.rng.below(LONGEST_PAUSE_MS).unwrap_or(0)));
        }
    }

    /// Notes who moved when, and what it changed.
    fn note(&mut self, place: usize) {
        let at = self.store.time().timestamp_millis().cast_unsigned();
        for word in [place as u64, self.store.changes(), at] {
            self.stats.digest = (self.stats.digest ^ word).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(17);
        }
    }

    /// The clock does what clocks do when somebody sets them, or when a host was asleep.
    fn jump(&mut self) {
        let (wanted, by) = (self.rng.strikes(self.chaos.jump_per_mille), self.rng.below(120_000).unwrap_or(0));
        if !self.budget.grants(wanted) {
            return;
        }
        self.stats.jumps += 1;
        match by % 2 {
            0 => self.store.set_back(Duration::from_millis(by / 2)),
            _ => self.store.advance(Duration::from_millis(by)),
        }
    }

    /// Nobody can move: time passes to the next due moment. While one is near, in steps that let leases be renewed; through
    /// long sleeps, in which nobody has anything to do, in strides, over which leases run out as they do when a machine is suspended.
    fn advance(&mut self) {
        let now = self.store.time();
        let back = self.actors.iter().filter_map(|actor| actor.back_at).filter(|at| *at > now && *at < DateTime::<Utc>::MAX_UTC).min();
        let outside = self.expected.iter().filter_map(|due| due());
        let due = outside.chain(self.store.next_due()).filter(|at| *at > now).chain(back).min();
        let far = due.is_some_and(|at| at > now + TTL * 6) && self.store.sleeps();
        let most = now + if far { STRIDE } else { TTL / 3 };
        let step = (due.unwrap_or(most).min(most) - now).to_std().unwrap_or(TTL / 3) + Duration::from_millis(1);
        self.store.advance(step);
        self.jump();
        (self.tick)();
    }

    /// Takes an actor away for good: the machine it runs on is gone.
    pub fn remove(&mut self, place: usize) {
        if let Some(actor) = self.actors.get_mut(place) {
            actor.main = None;
            actor.back_at = Some(DateTime::<Utc>::MAX_UTC);
        }
    }

    /// Lets every actor crash and come back at once: nothing but the store is remembered.
    pub fn everybody_restarts(&mut self) {
        for actor in &mut self.actors {
            actor.main = None;
        }
    }

    /// How often each actor was born, by its place.
    #[must_use]
    pub fn lives(&self) -> BTreeMap<usize, u64> {
        self.actors.iter().enumerate().map(|(place, actor)| (place, actor.lives)).collect()
    }
}
