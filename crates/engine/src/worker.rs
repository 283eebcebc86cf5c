//! A worker: owns runs under a lease and takes their turns. One call of [`Worker::step`] is one round.
//!
//!   lease ─▶ sweeps ─▶ claim ─▶ load ─▶ inbox ─▶ prepare (plain threads) ─▶ commit ─▶ release
//!
//! Invariants: 1. One turn of a run is in flight. An ambiguous commit is sent again, the same turn, and until its answer
//! there is no other write. 2. A fenced worker drops all it had and starts with a new lease epoch. 3. A worker whose lease
//! has been silent for a ttl sends nothing. 4. It takes over others only after it has held a lease unbroken for a ttl.

mod in_flight;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use sdk::{Failure, History, Lease, Registry, RunId, WorkerId, replay};
use uuid::Uuid;

use self::in_flight::InFlight;
use crate::{
    ClaimedRun, Close, CommitError, InboxRow, Store, StoreError, Writer,
    adapters::Blocking,
    turns::{self, Prepared},
};

/// A run without messages for this long only waits: one in the middle of quick steps hears something more often.
const REST: chrono::Duration = chrono::Duration::seconds(1);

/// Sizes and times of a worker; each bound has its reason beside it.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Life of a lease without renewal: how long a dead worker's runs wait.
    pub ttl: Duration,
    /// Most runs owned at a time: bounds memory.
    pub runs: u32,
    /// Most runs claimed in one round: bounds a transaction.
    pub claim: u32,
    /// Most rows moved by one sweep: bounds a transaction.
    pub sweep: u32,
    /// Time between sweeps: the delay of timers and limits, and most of an idle worker's load on the store.
    pub sweep_every: Duration,
    /// A run without messages for this long is given back: takeover stays quick however many sleep.
    pub release_after: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(10), runs: 2_000, claim: 200, sweep: 500, sweep_every: Duration::from_millis(200), release_after: Duration::from_secs(60) }
    }
}

/// What the heartbeat says about the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseHealth {
    /// Renewed lately.
    Fresh,
    /// Not renewed for a ttl by our own clock: send nothing.
    Silent,
    /// Gone.
    Fenced,
}

/// The heartbeat, on a thread of its own.
pub trait Keeper: Send + Sync {
    /// Keeps this lease from now on.
    fn adopt(&self, lease: Lease);
    /// How it goes.
    fn health(&self) -> LeaseHealth;
    /// Stops keeping.
    fn forget(&self);
}

/// What a round achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something moved; look again at once.
    Busy,
    /// Nothing to do now.
    Idle,
}

struct Owned {
    claimed: ClaimedRun,
    /// Shared with the turn that is being made, and nobody's but ours when that is stored: it is not copied.
    history: Option<Arc<History>>,
    last_message: DateTime<Utc>,
}

struct Held {
    lease: Lease,
    /// Since when without a silence; unknown right after one.
    unbroken_since: Option<DateTime<Utc>>,
}

/// Takes the turns of the runs that it owns.
pub struct Worker<S> {
    id: WorkerId,
    store: Arc<S>,
    registry: Arc<Registry>,
    blocking: Arc<dyn Blocking>,
    keeper: Arc<dyn Keeper>,
    ids: Box<dyn FnMut() -> Uuid + Send>,
    tuning: Tuning,
    held: Option<Held>,
    runs: BTreeMap<RunId, Owned>,
    in_flight: InFlight,
    /// A claim or release had no answer, or a run was lost: `runs` may not be what the store says.
    unsure: bool,
    swept: Option<DateTime<Utc>>,
}

impl<S: Store> Worker<S> {
    /// A worker that owns nothing yet. `ids` gives the nonces of turns.
    pub fn new(
        id: WorkerId,
        store: Arc<S>,
        registry: Arc<Registry>,
        blocking: Arc<dyn Blocking>,
        keeper: Arc<dyn Keeper>,
        ids: Box<dyn FnMut() -> Uuid + Send>,
        tuning: Tuning,
    ) -> Self {
        Self { id, store, registry, blocking, keeper, ids, tuning, held: None, runs: BTreeMap::new(), in_flight: InFlight::default(), unsure: false, swept: None }
    }

    /// The lease under which it works now.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        self.held.as_ref().map(|held| held.lease)
    }

    /// Runs that it owns now.
    pub fn owned(&self) -> impl Iterator<Item = RunId> + '_ {
        self.runs.keys().copied()
    }

    /// One round.
    ///
    /// # Errors
    /// [`StoreError::Again`] and [`StoreError::Refused`]: wait a little and call again. Fencing is dealt with inside.
    pub async fn step(&mut self) -> Result<Step, StoreError> {
        match self.round().await {
            Err(StoreError::Fenced(lease)) => {
                tracing::warn!(worker = %lease.worker, epoch = lease.epoch, "fenced: dropping all runs and starting again");
                self.drop_all();
                Ok(Step::Busy)
            }
            other => other,
        }
    }

    /// Gives the lease back, so that others need not wait for its end.
    ///
    /// # Errors
    /// [`StoreError`]; the lease then ends by itself.
    pub async fn stop(&mut self) -> Result<(), StoreError> {
        let Some(held) = self.held.take() else { return Ok(()) };
        self.keeper.forget();
        self.runs.clear();
        self.store.close_lease(held.lease).await
    }

    fn drop_all(&mut self) {
        self.keeper.forget();
        self.held = None;
        self.runs.clear();
        self.in_flight = InFlight::default();
        self.unsure = false;
        self.swept = None;
    }

    async fn round(&mut self) -> Result<Step, StoreError> {
        match (self.keeper.health(), self.lease()) {
            (LeaseHealth::Fenced, Some(lease)) => return Err(StoreError::Fenced(lease)),
            (LeaseHealth::Silent, Some(_)) => {
                if let Some(held) = &mut self.held {
                    held.unbroken_since = None;
                }
                return Ok(Step::Idle);
            }
            _ => {}
        }
        let lease = self.ensure_lease().await?;
        if !self.in_flight.writes.is_empty() {
            let again = self.in_flight.take();
            self.commit(lease, again).await?;
            return Ok(Step::Busy);
        }
        let now = self.store.now().await?;
        let mut moved = self.sweep(lease, now).await?;
        moved |= self.claim(lease, now).await?;
        let prepared = self.prepare(lease, now).await?;
        moved |= !prepared.is_empty();
        self.commit(lease, prepared).await?;
        self.release(lease, now).await?;
        moved |= self.make_room(lease, now).await?;
        Ok(if moved { Step::Busy } else { Step::Idle })
    }

    async fn ensure_lease(&mut self) -> Result<Lease, StoreError> {
        if let Some(held) = &self.held {
            return Ok(held.lease);
        }
        let since = self.store.now().await?;
        let lease = self.store.open_lease(self.id, self.tuning.ttl).await?;
        self.keeper.adopt(lease);
        let declared = match self.registry.build() {
            Some(build) => self.store.declare_build(lease, build).await,
            None => Ok(()),
        };
        if let Err(error) = declared {
            // It ends by itself, and the next one begins with the same.
            self.keeper.forget();
            return Err(error);
        }
        self.held = Some(Held { lease, unbroken_since: Some(since) });
        Ok(lease)
    }

    async fn sweep(&mut self, lease: Lease, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let every = chrono::Duration::from_std(self.tuning.sweep_every).unwrap_or_default();
        // A clock that was set back must not put sweeping off until it has caught up.
        if self.swept.is_some_and(|at| now >= at && now - at < every) {
            return Ok(false);
        }
        self.swept = Some(now);
        let mut moved = 0;
        if self.held_for(now) >= self.tuning.ttl {
            let expired = self.store.expire_leases(lease, self.tuning.ttl).await?;
            for gone in &expired {
                tracing::info!(worker = %gone.worker, epoch = gone.epoch, "an expired lease is deleted; its runs can be claimed");
            }
            moved += expired.len();
        }
        moved += self.store.fire_timers(self.tuning.sweep).await? as usize;
        moved += self.store.grant_locks(self.tuning.sweep).await? as usize;
        moved += self.store.expire_tasks(self.tuning.sweep).await? as usize;
        Ok(moved > 0)
    }

    /// How long the lease has been held without a silence; starts anew when the clock was set back.
    fn held_for(&mut self, now: DateTime<Utc>) -> Duration {
        let Some(held) = &mut self.held else { return Duration::ZERO };
        let since = held.unbroken_since.map_or(now, |since| since.min(now));
        held.unbroken_since = Some(since);
        (now - since).to_std().unwrap_or_default()
    }

    /// Makes `runs` what the store says: a claim whose answer was lost would else be nobody's for as long as we live.
    async fn reconcile(&mut self, lease: Lease, now: DateTime<Utc>) -> Result<(), StoreError> {
        let owned = self.store.owned_runs(lease).await?;
        let epochs: BTreeMap<RunId, i64> = owned.iter().map(|run| (run.run, run.epoch)).collect();
        self.runs.retain(|run, kept| epochs.get(run) == Some(&kept.claimed.epoch));
        for run in owned {
            self.runs.entry(run.run).or_insert_with(|| Owned { claimed: run, history: None, last_message: now });
        }
        self.unsure = false;
        Ok(())
    }

    async fn claim(&mut self, lease: Lease, now: DateTime<Utc>) -> Result<bool, StoreError> {
        if self.unsure {
            self.reconcile(lease, now).await?;
        }
        let room = self.room();
        if room == 0 {
            return Ok(false);
        }
        self.unsure = true;
        let claimed = self.store.claim_runs(lease, room).await?;
        self.unsure = false;
        let any = !claimed.is_empty();
        for run in claimed {
            tracing::debug!(run = %run.run, epoch = run.epoch, "claimed a run");
            self.runs.insert(run.run, Owned { claimed: run, history: None, last_message: now });
        }
        Ok(any)
    }

    async fn prepare(&mut self, lease: Lease, now: DateTime<Utc>) -> Result<Vec<Prepared>, StoreError> {
        let ids: Vec<RunId> = self.runs.keys().copied().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut by_run: BTreeMap<RunId, Vec<InboxRow>> = BTreeMap::new();
        for row in self.store.read_inbox(&ids).await? {
            by_run.entry(row.run).or_default().push(row);
        }
        let (mut waiting, mut prepared) = (Vec::new(), Vec::new());
        for (run, inbox) in by_run {
            let nonce = (self.ids)();
            let Some(owned) = self.runs.get_mut(&run) else { continue };
            owned.last_message = now;
            let claimed = owned.claimed.clone();
            let stamp = turns::stamp(now, lease, &claimed, nonce);
            let history = match owned.history.clone() {
                Some(history) => history,
                None => match self.store.load_history(run).await {
                    Ok(history) => Arc::new(history),
                    Err(StoreError::Refused { source, .. }) => {
                        let why = Failure::fatal("unreadable-history", source.to_string());
                        prepared.push(turns::suspended(&claimed, stamp, &why));
                        continue;
                    }
                    Err(other) => return Err(other),
                },
            };
            if let Some(owned) = self.runs.get_mut(&run) {
                owned.history = Some(history.clone());
            }
            waiting.push(self.turn_on_a_thread(history, claimed, inbox, stamp));
        }
        for answer in waiting {
            let Ok(turn) = answer.await else { continue };
            if self.overtaken(&turn).await? {
                tracing::warn!(run = %turn.write.run, "lost a run: another worker has written its next event");
                self.runs.remove(&turn.write.run);
                self.unsure = true;
                continue;
            }
            prepared.push(turn);
        }
        Ok(prepared)
    }

    /// A turn without events drops messages and has no key to meet another writer's: the head is asked for instead. With a
    /// history that is behind, it would drop what the run waits for.
    async fn overtaken(&self, turn: &Prepared) -> Result<bool, StoreError> {
        let run = turn.write.run;
        let head = self.runs.get(&run).and_then(|owned| owned.history.as_ref()).map(|history| history.next_seq());
        match head {
            Some(head) if turn.write.events.is_empty() => Ok(self.store.writer_of(run, head).await?.is_some()),
            Some(_) | None => Ok(false),
        }
    }

    fn turn_on_a_thread(
        &self,
        history: Arc<History>,
        claimed: ClaimedRun,
        inbox: Vec<InboxRow>,
        stamp: replay::Stamp,
    ) -> tokio::sync::oneshot::Receiver<Prepared> {
        let (answer, receiver) = tokio::sync::oneshot::channel();
        let registry = self.registry.clone();
        self.blocking.run(Box::new(move || {
            let span = tracing::info_span!("turn", run = %claimed.run, run_epoch = claimed.epoch, messages = inbox.len());
            crate::trace::adopt(&span, turns::Origin::of(&history, &inbox).trace.as_deref());
            let _entered = span.entered();
            let turn = turns::prepare(&registry, &history, &claimed, &inbox, stamp);
            drop(history);
            drop(answer.send(turn));
        }));
        receiver
    }

    async fn commit(&mut self, lease: Lease, batch: Vec<Prepared>) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.in_flight = InFlight::of(batch);
        match self.store.commit_turns(lease, &self.in_flight.writes).await {
            Ok(()) => {
                for turn in self.in_flight.take() {
                    self.stored(turn);
                }
                Ok(())
            }
            Err(CommitError::Store(error)) => Err(error),
            Err(CommitError::Taken | CommitError::Stale | CommitError::Bad(_)) => {
                while let Some(turn) = self.in_flight.pop() {
                    self.commit_alone(lease, turn).await?;
                }
                Ok(())
            }
        }
    }

    async fn commit_alone(&mut self, lease: Lease, turn: Prepared) -> Result<(), StoreError> {
        let run = turn.write.run;
        let answer = self.store.commit_turns(lease, std::slice::from_ref(&turn.write)).await;
        let answer = match answer {
            Err(CommitError::Store(error)) => {
                self.in_flight.push(turn);
                return Err(error);
            }
            other => other,
        };
        match answer {
            Ok(()) => self.stored(turn),
            Err(CommitError::Taken) => match self.store.writer_of_turn(lease, &turn.write).await {
                Ok(Some(writer)) if writer == (Writer { lease, turn: turn.write.turn }) => self.stored(turn),
                Ok(writer) => {
                    tracing::warn!(%run, ?writer, "lost a run: another worker has written its next event");
                    self.runs.remove(&run);
                    self.unsure = true;
                }
                Err(error) => {
                    self.in_flight.push(turn);
                    return Err(error);
                }
            },
            Err(CommitError::Stale) => tracing::debug!(%run, "the inbox has changed under the turn; taking it again"),
            Err(CommitError::Bad(why)) => return self.set_aside(lease, &turn, why).await,
            Err(CommitError::Store(_)) => {}
        }
        Ok(())
    }

    async fn set_aside(&mut self, lease: Lease, turn: &Prepared, why: String) -> Result<(), StoreError> {
        let claimed = ClaimedRun { run: turn.write.run, epoch: turn.write.run_epoch };
        let stamp = turns::stamp(DateTime::UNIX_EPOCH, lease, &claimed, (self.ids)());
        let suspended = turns::suspended(&claimed, stamp, &Failure::fatal("turn-refused", why));
        match self.store.commit_turns(lease, std::slice::from_ref(&suspended.write)).await {
            Ok(()) => self.stored(suspended),
            Err(CommitError::Store(error)) => {
                self.in_flight.push(suspended);
                return Err(error);
            }
            Err(error) => {
                tracing::error!(run = %claimed.run, %error, "a run could be neither written nor set aside");
                self.runs.remove(&claimed.run);
                self.unsure = true;
            }
        }
        Ok(())
    }

    fn stored(&mut self, turn: Prepared) {
        let run = turn.write.run;
        if !turn.write.locks.is_empty() || turn.write.close.is_some() {
            // Locks are asked for or free again: grant them at once.
            self.swept = None;
        }
        if let Some(Close { state, problem, .. }) = &turn.write.close {
            tracing::info!(%run, ?state, failure = problem.as_ref().map(ToString::to_string), "a run has ended or is set aside");
            self.runs.remove(&run);
            return;
        }
        if let Some(history) = self.runs.get_mut(&run).and_then(|owned| owned.history.as_mut()) {
            Arc::make_mut(history).events.extend(turn.adds);
        }
    }

    /// How many more runs may be claimed in one round.
    fn room(&self) -> u32 {
        self.tuning.runs.saturating_sub(u32::try_from(self.runs.len()).unwrap_or(u32::MAX)).min(self.tuning.claim)
    }

    /// Gives runs back that only wait, those first that have waited longest, if the next claim finds no room: others may have something
    /// to do. It comes after the round's look into the inbox: what has a message there is not given back with it.
    async fn make_room(&mut self, lease: Lease, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let lacks = self.tuning.claim.min(self.tuning.runs) - self.room();
        let mut waiting: Vec<(DateTime<Utc>, RunId)> = self.runs.iter().map(|(run, owned)| (owned.last_message, *run)).filter(|(last, _)| now - last > REST).collect();
        waiting.sort_unstable();
        waiting.truncate(lacks as usize);
        let waits = !waiting.is_empty();
        self.give_back(lease, waiting.into_iter().map(|(_, run)| run).collect()).await?;
        Ok(waits)
    }

    async fn release(&mut self, lease: Lease, now: DateTime<Utc>) -> Result<(), StoreError> {
        let after = chrono::Duration::from_std(self.tuning.release_after).unwrap_or(chrono::Duration::MAX);
        let idle: Vec<RunId> = self.runs.iter().filter(|(_, owned)| now - owned.last_message > after).map(|(run, _)| *run).collect();
        self.give_back(lease, idle).await
    }

    async fn give_back(&mut self, lease: Lease, idle: Vec<RunId>) -> Result<(), StoreError> {
        if idle.is_empty() {
            return Ok(());
        }
        // Who was unsure before of another run still is.
        let before = std::mem::replace(&mut self.unsure, true);
        self.store.release_runs(lease, &idle).await?;
        for run in idle {
            self.runs.remove(&run);
        }
        self.unsure = before;
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use std::sync::Mutex;

    use sdk::Message;

    use super::*;
    use crate::{
        LeaseStore, RunState, RunStore, StartRun,
        adapters::Inline,
        memory::{Faults, MemoryStore},
    };

    const TTL: Duration = Duration::from_secs(10);

    /// Loses the answer of the next call of this name.
    #[derive(Default)]
    struct LosesOne(Mutex<Option<&'static str>>);

    impl Faults for LosesOne {
        fn before(&self, _: &'static str) -> bool {
            false
        }
        fn after(&self, call: &'static str) -> bool {
            self.0.lock().unwrap().take_if(|lost| *lost == call).is_some()
        }
    }

    struct Says(Mutex<LeaseHealth>);

    impl Keeper for Says {
        fn adopt(&self, _: Lease) {}
        fn health(&self) -> LeaseHealth {
            *self.0.lock().unwrap()
        }
        fn forget(&self) {}
    }

    struct Stage {
        faults: Arc<LosesOne>,
        keeper: Arc<Says>,
        store: MemoryStore,
        worker: Worker<MemoryStore>,
    }

    fn stage() -> Stage {
        let faults = Arc::new(LosesOne::default());
        let keeper = Arc::new(Says(Mutex::new(LeaseHealth::Fresh)));
        let store = MemoryStore::new(DateTime::from_timestamp(1_800_000_000, 0).unwrap(), faults.clone());
        let mut count = 0;
        let ids = Box::new(move || {
            count += 1;
            Uuid::from_u64_pair(1, count)
        });
        let tuning = Tuning { ttl: TTL, ..Tuning::default() };
        let id = WorkerId(Uuid::from_u64_pair(7, 7));
        let worker = Worker::new(id, Arc::new(store.clone()), Arc::new(Registry::default()), Arc::new(Inline), keeper.clone(), ids, tuning);
        Stage { faults, keeper, store, worker }
    }

    impl Stage {
        /// A run whose workflow nobody knows: its first turn sets it aside.
        async fn start(&self) -> RunId {
            let run = RunId(Uuid::from_u64_pair(1, 1));
            let start = Message::Start {
                workflow: "unknown".into(),
                input: serde_json::Value::Null,
                workflow_id: "a".into(),
                requested_by: "tester".into(),
                trace: None,
                parent: None,
            };
            self.store.start_run(StartRun { run, start }).await.unwrap();
            run
        }

        fn set_aside(&self) -> bool {
            self.store.runs().iter().all(|(_, run)| run.state == RunState::Suspended)
        }
    }

    #[tokio::test]
    async fn a_claim_whose_answer_is_lost_strands_no_run() {
        let mut stage = stage();
        stage.start().await;
        *stage.faults.0.lock().unwrap() = Some("claim_runs");
        assert!(stage.worker.step().await.is_err());
        for _ in 0..5 {
            stage.worker.step().await.unwrap();
        }
        assert!(stage.set_aside(), "its turn was taken");
    }

    #[tokio::test]
    async fn a_release_whose_answer_is_lost_leaves_nothing_that_is_not_ours() {
        let mut stage = stage();
        let run = stage.start().await;
        let lease = stage.worker.ensure_lease().await.unwrap();
        let now = stage.store.time();
        let claimed = stage.store.claim_runs(lease, 1).await.unwrap().remove(0);
        stage.worker.runs.insert(run, Owned { claimed, history: None, last_message: now });
        *stage.faults.0.lock().unwrap() = Some("release_runs");
        let later = now + chrono::Duration::seconds(61);
        assert!(stage.worker.release(lease, later).await.is_err());
        let other = stage.store.open_lease(WorkerId(Uuid::from_u64_pair(8, 8)), TTL).await.unwrap();
        assert_eq!(stage.store.claim_runs(other, 1).await.unwrap().len(), 1);
        stage.worker.step().await.unwrap();
        assert_eq!(stage.worker.owned().count(), 0);
        assert!(!stage.set_aside(), "its turn is the other one's to take");
    }

    #[tokio::test]
    async fn a_worker_that_is_full_gives_back_runs_that_only_wait() {
        let mut stage = stage();
        stage.start().await;
        stage.worker.tuning.runs = 3;
        let lease = stage.worker.ensure_lease().await.unwrap();
        let now = stage.store.time();
        for (low, waited) in [(2, 0), (3, 5), (4, 60)] {
            let claimed = ClaimedRun { run: RunId(Uuid::from_u64_pair(1, low)), epoch: 1 };
            let last_message = now - chrono::Duration::seconds(waited);
            stage.worker.runs.insert(claimed.run, Owned { claimed, history: None, last_message });
        }
        stage.worker.tuning.claim = 1;
        assert!(!stage.worker.claim(lease, now).await.unwrap(), "it is full");
        assert!(stage.worker.make_room(lease, now).await.unwrap() && !stage.worker.make_room(lease, now).await.unwrap(), "one is enough");
        assert!(stage.worker.claim(lease, now).await.unwrap(), "there is room for one that has something to do");
        let kept: Vec<u64> = stage.worker.owned().map(|run| run.0.as_u64_pair().1).collect();
        assert_eq!(kept, [1, 2, 3], "the one that had waited longest was given back");
    }

    #[tokio::test]
    async fn a_run_is_not_given_back_with_a_message_that_nobody_has_read() {
        let mut stage = stage();
        let run = stage.start().await;
        (stage.worker.tuning.runs, stage.worker.tuning.claim) = (1, 1);
        let lease = stage.worker.ensure_lease().await.unwrap();
        let claimed = stage.store.claim_runs(lease, 1).await.unwrap().remove(0);
        let last_message = stage.store.time() - chrono::Duration::seconds(60);
        stage.worker.runs.insert(run, Owned { claimed: claimed.clone(), history: None, last_message });
        stage.worker.step().await.unwrap();
        let of_run = stage.store.runs().into_iter().find(|(id, _)| *id == run).unwrap().1;
        assert_eq!((of_run.state, of_run.epoch), (RunState::Suspended, claimed.epoch), "who had it has taken its turn");
    }

    #[tokio::test]
    async fn a_silence_begins_the_time_before_takeover_anew() {
        let mut stage = stage();
        stage.worker.step().await.unwrap();
        let other = stage.store.open_lease(WorkerId(Uuid::from_u64_pair(8, 8)), TTL).await.unwrap();
        stage.store.advance(TTL * 2);
        *stage.keeper.0.lock().unwrap() = LeaseHealth::Silent;
        assert_eq!(stage.worker.step().await.unwrap(), Step::Idle);
        *stage.keeper.0.lock().unwrap() = LeaseHealth::Fresh;
        stage.worker.step().await.unwrap();
        assert!(stage.store.renew_lease(other, TTL).await.unwrap(), "whoever comes back from the same outage keeps its lease");
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_stops_no_sweep() {
        let mut stage = stage();
        stage.worker.step().await.unwrap();
        let lease = stage.worker.lease().unwrap();
        let before = stage.store.time() - chrono::Duration::hours(1);
        stage.worker.sweep(lease, before).await.unwrap();
        assert_eq!(stage.worker.swept, Some(before));
        assert_eq!(stage.worker.held_for(before + chrono::Duration::seconds(11)), Duration::from_secs(11));
    }
}
