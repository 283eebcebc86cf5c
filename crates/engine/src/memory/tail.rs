//! The store in memory that loses its last commits: a server that is started anew, on what it had or on an older copy of it.
//!
//! ```text
//!   started anew ─▶ whoever writes is refused ─▶ witnesses testify, at most 20 s ─▶ compared (`comparing`) ─▶ known: leases end, the era grows
//!   lacks something ─▶ held: nobody claims the run or its tasks ─▶ settled by somebody
//! ```
//!
//! Invariant: what is found, held, put back and adopted is what the migrations `V21` and `V22` do in Postgres.

mod comparing;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use sdk::{Lease, RunId, Seq};
use uuid::Uuid;

use super::{MemoryStore, State};
use crate::{
    StoreError,
    witness::{EffectNote, NotNoted, Note, Testimony, Witness},
};

/// How long witnesses are waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Whoever has shown a sign of life within so much of the last one was alive when the server went away.
const ALIVE_WITHIN: Duration = Duration::from_secs(60);

/// What of a run is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// The run.
    Run,
    /// The end of its history.
    Shorter,
    /// Its history; another one is.
    Differs,
    /// A message.
    Message,
    /// An attempt.
    Effect,
}

/// What became of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// The run is held.
    Held,
    /// Nobody can put it back.
    Lost,
    /// The run has ended another way.
    Ended,
    /// It was put back, or taken over.
    Adopted,
}

/// Something that a witness saw and the store lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Of which run.
    pub run: RunId,
    /// What.
    pub lack: Lack,
    /// What became of it.
    pub became: Became,
    /// Whether the run is there.
    pub there: bool,
}

/// Somebody who can say what was committed.
#[derive(Clone, Debug)]
struct Heard {
    seen_at: DateTime<Utc>,
    testified_to: Option<u64>,
    awaited: bool,
}

/// Which run, what of it, at which event, and the hash, key or attempt that was seen there.
type LossKey = (RunId, Lack, i32, String);

/// The run that an attempt counts for, the one that it was made for, where, which activity, of which input.
type EffectKey = (RunId, RunId, Seq, String, String);

/// What is known of this server, and of those before it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail {
    /// Which server runs.
    server: u64,
    /// Which one was found to hold what witnesses have seen.
    known: u64,
    /// The one that witnesses are asked about, and since when.
    asked: Option<(u64, DateTime<Utc>)>,
    /// Whether it is another copy of the store.
    promoted: bool,
    era_seen: i64,
    witnesses: BTreeMap<Uuid, Heard>,
    losses: BTreeMap<LossKey, (Became, bool)>,
    found_since_asked: bool,
    held: BTreeSet<RunId>,
    /// Attempts whose tasks are not there, by the run that they count for, and whether a step has taken them over.
    effects: BTreeMap<EffectKey, (EffectNote, bool)>,
    /// Children that are gone with the wish for them: of whom, and about what.
    children: BTreeMap<RunId, (RunId, String)>,
}

impl MemoryStore {
    /// The same store for somebody who notes what it answers him.
    #[must_use]
    pub fn seen_by(&self, witness: Arc<dyn Witness>) -> Self {
        Self { witness: Some(witness), ..self.clone() }
    }

    /// The server ends and another one starts: on the same state, or on `copy`, an older one, of which whatever was written since is gone.
    /// `promoted`: that copy was a standby of its own, and says so. Batches in flight are gone with the server. Time goes on.
    pub fn starts_anew(&self, copy: Option<&Self>, promoted: bool) {
        let copy = copy.map(|copy| copy.lock().clone());
        let mut state = self.lock();
        let (now, changes, server, counts) = (state.now, state.changes, state.tail.server, (state.landed, state.takeovers));
        if let Some(copy) = copy {
            *state = copy;
        }
        (state.now, state.changes, (state.landed, state.takeovers)) = (now, changes + 1, counts);
        state.tail.server = server + 1;
        state.tail.promoted |= promoted;
        state.limbo.clear();
    }

    /// A sign of life of a witness, and its testimony if one is asked for; gives whether the server is known.
    ///
    /// # Errors
    /// No answer.
    pub async fn testify_if_asked(&self, witness: &dyn Witness) -> Result<bool, StoreError> {
        let id = witness.id();
        if self.atomic("hear_witness", |s| Ok::<_, StoreError>(s.hear_witness(id))).await? {
            let slices = witness.testimony();
            for (place, slice) in slices.iter().enumerate() {
                self.atomic("testify", |s| Ok::<_, StoreError>(s.testify(id, slice, place + 1 == slices.len()))).await?;
            }
        }
        self.atomic("conclude_check", |s| Ok(s.conclude_check())).await
    }

    /// Whether the server holds what witnesses have seen, or what it lacks is held.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.lock().known_server("").is_ok()
    }

    /// How many witnesses have shown a sign of life.
    #[must_use]
    pub fn witnesses(&self) -> usize {
        self.lock().tail.witnesses.len()
    }

    /// What the store lacks and nobody has settled.
    #[must_use]
    pub fn losses(&self) -> Vec<Loss> {
        let state = self.lock();
        let open = state.tail.losses.iter().filter(|(_, (became, settled))| !settled && matches!(became, Became::Held | Became::Lost));
        open.map(|((run, lack, ..), (became, _))| Loss { run: *run, lack: *lack, became: *became, there: state.runs.contains_key(run) }).collect()
    }

    /// Somebody decides that a run goes on with what is there of it, or that it is gone.
    ///
    /// # Errors
    /// No answer, or the server is not known.
    pub async fn settle(&self, run: RunId) -> Result<(), StoreError> {
        self.atomic("settle", |s| {
            s.known_server("settle")?;
            s.changes += u64::from(s.tail.held.remove(&run));
            s.tail.losses.iter_mut().filter(|((of, ..), _)| *of == run).for_each(|(_, (_, settled))| *settled = true);
            Ok(())
        })
        .await
    }

    /// Taken before the store is asked for what is to be noted.
    pub(crate) fn asked(&self) -> u64 {
        self.witness.as_ref().map_or(0, |witness| witness.testimonies())
    }

    /// Notes what the store has answered for. An answer that came late is none.
    pub(crate) fn noted(&self, asked: u64, attempted: &'static str, notes: impl FnOnce() -> Vec<Note>) -> Result<(), StoreError> {
        let Some(witness) = &self.witness else { return Ok(()) };
        match witness.note(asked, &notes()) {
            Err(late @ NotNoted::Late) => Err(StoreError::Again { attempted, source: Box::new(late) }),
            Ok(()) | Err(NotNoted::Disk(_)) => Ok(()),
        }
    }
}

impl State {
    /// Nobody writes for the engine under a server that is not known.
    pub(crate) fn known_server(&self, attempted: &'static str) -> Result<(), StoreError> {
        if self.tail.server == self.tail.known {
            return Ok(());
        }
        Err(StoreError::Again { attempted, source: "the server was started anew, and what it holds is being found out".into() })
    }

    pub(super) fn is_held(&self, run: RunId) -> bool {
        self.tail.held.contains(&run)
    }

    fn look_into_start(&mut self) {
        let server = self.tail.server;
        if server == self.tail.known || self.tail.asked.is_some_and(|(asked, _)| asked == server) {
            return;
        }
        self.tail.asked = Some((server, self.now));
        self.tail.found_since_asked = false;
        let last = self.tail.witnesses.values().map(|heard| heard.seen_at).max();
        for heard in self.tail.witnesses.values_mut() {
            heard.awaited = last.is_some_and(|last| heard.seen_at > last - ALIVE_WITHIN);
        }
    }

    fn hear_witness(&mut self, witness: Uuid) -> bool {
        self.look_into_start();
        let (now, server) = (self.now, self.tail.server);
        let heard = self.tail.witnesses.entry(witness).or_insert(Heard { seen_at: now, testified_to: None, awaited: false });
        heard.seen_at = now;
        heard.testified_to != Some(server)
    }

    fn testify(&mut self, witness: Uuid, slice: &Testimony, last: bool) -> usize {
        self.look_into_start();
        let found = self.compare_runs(&slice.runs) + self.compare_messages(&slice.messages) + self.compare_effects(&slice.effects);
        let shown = slice.effects.iter().map(|effect| effect.era).max().unwrap_or(0);
        self.tail.era_seen = self.tail.era_seen.max(shown);
        self.tail.found_since_asked |= found > 0;
        // Somebody who comes late: what went on meanwhile did so under tokens that are old from now on.
        if self.known_server("").is_ok() && (found > 0 || self.tail.era_seen > self.era) {
            self.begin_era();
        }
        if last
            && let Some(heard) = self.tail.witnesses.get_mut(&witness)
        {
            heard.testified_to = Some(self.tail.server);
            heard.awaited = false;
        }
        self.changes += 1;
        found
    }

    fn begin_era(&mut self) {
        self.era = self.era.max(self.tail.era_seen) + 1;
    }

    fn conclude_check(&mut self) -> bool {
        if self.known_server("").is_ok() {
            return true;
        }
        self.look_into_start();
        let silent = self.tail.witnesses.values().any(|heard| heard.awaited);
        if silent && self.tail.asked.is_some_and(|(_, since)| self.now < since + PATIENCE) {
            return false;
        }
        let (witnesses, server) = (&self.tail.witnesses, self.tail.server);
        // An agent goes on under its lease: what it holds is compared.
        self.leases.retain(|lease: &Lease, _| witnesses.get(&lease.worker.0).is_some_and(|heard| heard.testified_to == Some(server)));
        let leases = &self.leases;
        self.builds_of.retain(|lease, _| leases.contains_key(lease));
        self.tail.witnesses.values_mut().for_each(|heard| heard.awaited = false);
        if silent || self.tail.promoted || self.tail.found_since_asked || self.tail.era_seen > self.era {
            self.begin_era();
        }
        (self.tail.known, self.tail.asked, self.tail.promoted) = (server, None, false);
        self.changes += 1;
        true
    }
}
