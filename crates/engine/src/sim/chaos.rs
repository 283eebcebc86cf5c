//! Chance from a seed, and the faults it decides.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{ClaimedTask, memory::Faults};

/// How often things go wrong, each in a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chaos {
    /// Crashes for each poll.
    pub crash_per_mille: u64,
    /// Pauses for each poll.
    pub pause_per_mille: u64,
    /// Lost answers for each call of the store, before or after the write.
    pub lose_per_mille: u64,
    /// Batches of turns that lose their answer and land later.
    pub late_per_mille: u64,
    /// Moves of the store's clock, back or far ahead, for each time that it moves.
    pub jump_per_mille: u64,
    /// Failovers of the store itself, to a copy that lacks its last commits, for each hundred thousand polls; needs witnesses.
    pub tails_per_100_000: u64,
    /// Most faults of all these together; `None`: no limit.
    pub at_most: Option<u64>,
}

/// Longest that a batch without a sender lasts: the store's own limit for a statement, and beyond the life of a lease.
const LATE_MS: u64 = 15_000;

/// How many faults may still strike.
#[derive(Debug, Default)]
pub(super) struct Budget {
    spent: AtomicU64,
    most: AtomicU64,
}

impl Budget {
    pub(super) fn allows(&self, most: Option<u64>) {
        self.most.store(most.map_or(u64::MAX, |most| most.saturating_add(self.spent.load(Ordering::SeqCst))), Ordering::SeqCst);
    }

    /// Whether a fault that chance wants may strike. Chance is asked first, so that a smaller budget leaves all before it as it was.
    pub(super) fn grants(&self, wanted: bool) -> bool {
        wanted && self.spent.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |spent| (spent < self.most.load(Ordering::SeqCst)).then_some(spent + 1)).is_ok()
    }

    /// How many have struck.
    pub(super) fn spent(&self) -> u64 {
        self.spent.load(Ordering::SeqCst)
    }
}

/// SplitMix64: small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66_D1CE_4E5B)
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; none if there is none.
    pub fn below(&mut self, bound: u64) -> Option<u64> {
        let drawn = self.draw();
        drawn.checked_rem(bound)
    }

    /// True `per_mille` times in a thousand.
    pub fn strikes(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.draw() % 1000 < per_mille
    }
}

/// Where in an attempt of an activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Claimed; nothing is done yet.
    Claimed,
    /// Done; nothing is reported yet.
    Performed,
    /// Reported.
    Reported,
}

/// What happens to an attempt at such a moment.
#[derive(Clone, Debug)]
pub enum Intervention {
    /// Nothing.
    None,
    /// Its process dies.
    Crash,
    /// It does not go on; asked again when something has changed.
    Wait,
    /// It hangs for ever, while its process lives, tells so and goes on with other tasks: its time limit takes it away from there.
    Hang,
    /// It fails in this way instead of what it would have done, or instead of what it did.
    Fail(sdk::Failure),
}

type Intervene = Box<dyn Fn(&ClaimedTask, Moment) -> Intervention + Send + Sync>;
type Strike = Box<dyn Fn(&'static str, bool) -> bool + Send + Sync>;

/// Crashes the actor that is being polled.
#[derive(Clone, Default)]
pub struct CrashSwitch {
    thrown: Arc<AtomicBool>,
    polled: Arc<AtomicUsize>,
    strike: Arc<Mutex<Option<Strike>>>,
    intervene: Arc<Mutex<Option<Intervene>>>,
}

impl CrashSwitch {
    /// Drops the polled actor at its next await; its caller should wait for ever.
    pub fn throw(&self) {
        self.thrown.store(true, Ordering::SeqCst);
    }

    /// Place of the actor that is being polled.
    #[must_use]
    pub fn polled(&self) -> usize {
        self.polled.load(Ordering::SeqCst)
    }

    /// Asked at each call of the store, before (`false`) and after (`true`) its write; crashes the caller where it says so.
    pub fn on_store_call(&self, strike: impl Fn(&'static str, bool) -> bool + Send + Sync + 'static) {
        if let Ok(mut slot) = self.strike.lock() {
            *slot = Some(Box::new(strike));
        }
    }

    /// Asked at each moment of each attempt of every agent.
    pub fn on_attempt(&self, intervene: impl Fn(&ClaimedTask, Moment) -> Intervention + Send + Sync + 'static) {
        if let Ok(mut slot) = self.intervene.lock() {
            *slot = Some(Box::new(intervene));
        }
    }

    /// Takes all interventions away.
    pub fn clear(&self) {
        if let (Ok(mut strike), Ok(mut intervene)) = (self.strike.lock(), self.intervene.lock()) {
            *strike = None;
            *intervene = None;
        }
    }

    pub(super) fn intervenes(&self, task: &ClaimedTask, moment: Moment) -> Intervention {
        self.intervene.lock().map_or(Intervention::None, |slot| slot.as_ref().map_or(Intervention::None, |ask| ask(task, moment)))
    }

    pub(super) fn begin(&self, place: usize) {
        self.polled.store(place, Ordering::SeqCst);
    }

    pub(super) fn take(&self) -> bool {
        self.thrown.swap(false, Ordering::SeqCst)
    }

    fn strikes(&self, call: &'static str, after: bool) -> bool {
        let struck = self.strike.lock().is_ok_and(|strike| strike.as_ref().is_some_and(|strike| strike(call, after)));
        if struck {
            self.throw();
        }
        struck
    }
}

pub(super) struct SeededFaults {
    rng: Mutex<Rng>,
    lose_per_mille: AtomicU64,
    late_per_mille: AtomicU64,
    double_per_mille: AtomicU64,
    budget: Arc<Budget>,
    switch: CrashSwitch,
    lost: AtomicU64,
    doubled: AtomicU64,
}

impl SeededFaults {
    pub(super) fn new(seed: u64, chaos: Chaos, budget: Arc<Budget>, switch: CrashSwitch) -> Self {
        let rng = Mutex::new(Rng::new(seed ^ 0xFA17));
        let (lose_per_mille, late_per_mille, double_per_mille) = Default::default();
        let faults = Self { rng, lose_per_mille, late_per_mille, double_per_mille, budget, switch, lost: AtomicU64::new(0), doubled: AtomicU64::new(0) };
        faults.chaos(chaos);
        faults
    }

    pub(super) fn chaos(&self, chaos: Chaos) {
        self.lose_per_mille.store(chaos.lose_per_mille, Ordering::SeqCst);
        self.late_per_mille.store(chaos.late_per_mille, Ordering::SeqCst);
    }

    pub(super) fn double_claims(&self, per_mille: u64) {
        self.double_per_mille.store(per_mille, Ordering::SeqCst);
    }

    pub(super) fn doubled(&self) -> u64 {
        self.doubled.load(Ordering::SeqCst)
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::SeqCst)
    }

    fn loses(&self) -> bool {
        let wanted = self.rng.lock().is_ok_and(|mut rng| rng.strikes(self.lose_per_mille.load(Ordering::SeqCst)));
        let lost = self.budget.grants(wanted);
        if lost {
            self.lost.fetch_add(1, Ordering::SeqCst);
        }
        lost
    }
}

impl Faults for SeededFaults {
    fn before(&self, call: &'static str) -> bool {
        self.switch.strikes(call, false) || self.loses()
    }
    fn after(&self, call: &'static str) -> bool {
        self.switch.strikes(call, true) || self.loses()
    }
    fn late(&self) -> Option<Duration> {
        let mut rng = self.rng.lock().ok()?;
        let wanted = rng.strikes(self.late_per_mille.load(Ordering::SeqCst));
        let after = Duration::from_millis(if wanted { rng.below(LATE_MS)? } else { 0 });
        self.budget.grants(wanted).then_some(after)
    }
    fn doubles(&self) -> bool {
        let wanted = self.rng.lock().is_ok_and(|mut rng| rng.strikes(self.double_per_mille.load(Ordering::SeqCst)));
        let doubles = self.budget.grants(wanted);
        self.doubled.fetch_add(u64::from(doubles), Ordering::SeqCst);
        doubles
    }
}
