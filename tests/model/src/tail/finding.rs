//! Testimonies, what they find, and when a server is known.
//!
//! ```text
//!   testify: heads ▶ (owner's lease) ▶ held; signals ▶ sent again; attempts ▶ in doubt, ended, or kept for the step that comes again
//!   all have testified, or are not waited for ▶ leases end ▶ known; era
//! ```

use super::{
    Broken, EFFECT_UNFOUND, MESSAGE_LOST, RUN_LOST, State, Tail, UNFOUND,
    agent::Asked,
    db::{Db, EffectNote, Kind, Loss, Msg, Nr, Run, Task, at},
};

/// A transaction that has compared histories, and may have to wait before it holds the run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Testimony {
    witness: Nr,
    found: Option<Loss>,
    effects: Vec<EffectNote>,
}

impl Tail {
    pub(super) fn testify(&self, state: &mut State, witness: Nr) -> Option<()> {
        if state.testimony.is_some() || state.db.testified[at(witness)] == Some(state.server) {
            return None;
        }
        let noted = state.workers.get(at(witness)).and_then(|worker| worker.note.clone());
        let started = witness == self.front() && state.front.run == Asked::Told;
        let head = noted.or_else(|| started.then(Vec::new));
        let lengths = |note: &[Kind]| state.db.run.is_some() && state.db.history().len() >= note.len();
        let is_here = |note: &[Kind]| if self.breaks(Broken::LengthsOnly) { lengths(note) } else { state.db.holds(note) };
        let loss = head.filter(|note| !is_here(note)).map(|note| if note.is_empty() { Loss::Run } else { Loss::Head(note) });
        let found = loss.filter(|loss| !state.db.losses.contains(loss));
        let effects = if witness == self.agent() { state.agent.notes.clone() } else { vec![] };
        state.testimony = Some(Testimony { witness, found, effects });
        state.heard[at(witness)] = state.server;
        Some(())
    }

    /// The rest of a testimony, once nobody is past the fence under the lease of the run's owner.
    pub(super) fn hold(&self, state: &mut State) -> Option<()> {
        let owner = state.db.run.as_ref().and_then(|run| run.owner);
        if owner.is_some_and(|(worker, epoch)| state.db.has_lease(worker, epoch) && Self::shares_lease(state, worker)) {
            return None;
        }
        let Testimony { witness, found, effects } = state.testimony.take()?;
        let db = &mut state.db;
        let before = db.losses.len();
        if let Some(loss) = found {
            self.compare_head(db, loss);
        }
        if witness == self.front() && state.front.signal == Asked::Told && !self.breaks(Broken::MessagesForgotten) {
            Self::compare_signal(db);
        }
        if !self.breaks(Broken::EffectsForgotten) {
            for note in effects {
                self.compare_effect(db, note);
                db.era_seen = db.era_seen.max(note.token[0]);
            }
        }
        db.losses.sort_unstable();
        db.lost |= db.losses.len() > before;
        db.testified[at(witness)] = Some(state.server);
        // Somebody who comes late: what went on meanwhile did so under tokens that are old from now on.
        if db.known == state.server && db.losses.len() > before {
            self.next_era(db);
        }
        Some(())
    }

    fn compare_head(&self, db: &mut Db, loss: Loss) {
        db.losses.push(loss);
        if db.run.is_none() {
            if self.breaks(Broken::RunsForgotten) {
                return;
            }
            let shown = db.lost_effects.iter().map(|note| note.token[2]).max();
            db.run = Some(Run { owner: None, epoch: shown.unwrap_or(0), history: vec![] });
            db.add(Msg::Start);
        }
        self.hold_run(db);
    }

    /// Nobody's until a person lets it go on.
    fn hold_run(&self, db: &mut Db) {
        let Some(run) = db.run.as_mut().filter(|run| run.is_open()) else { return };
        db.held = true;
        if self.breaks(Broken::OwnerKept) {
            return;
        }
        if let Some((worker, epoch)) = run.owner.take()
            && db.leases[at(worker)] == epoch
        {
            db.leases[at(worker)] = 0;
        }
    }

    /// Of a run that is not there a person is told.
    fn compare_signal(db: &mut Db) {
        let over = db.run.is_some() && !db.is_open();
        if over || db.inbox.contains(&Msg::Signal) || db.history().contains(&Kind::Signal) || db.losses.contains(&Loss::Signal) {
            return;
        }
        db.losses.push(Loss::Signal);
        if db.run.is_some() {
            db.add(Msg::Signal);
        }
    }

    fn compare_effect(&self, db: &mut Db, note: EffectNote) {
        let [_, seq, run_epoch, attempt] = note.token;
        let task = db.task.filter(|task| task.seq == seq);
        let asked = if self.breaks(Broken::PlacesOnly) { db.history().len() > usize::from(seq) } else { db.asked(note) };
        let behind = task.is_some_and(|task| task.attempt < attempt || task.attempt == attempt && note.accepted);
        if asked && !behind || db.losses.contains(&Loss::Effect(note)) {
            return;
        }
        db.losses.push(Loss::Effect(note));
        if task.is_some() {
            return Self::adopt(db, note);
        }
        let newer = |other: &EffectNote| other.token[1] == seq && other.token[2..] > note.token[2..];
        if !db.lost_effects.iter().any(newer) {
            db.lost_effects.retain(|other| other.token[1] != seq);
            db.lost_effects.push(note);
            db.lost_effects.sort_unstable();
        }
        if let Some(run) = &mut db.run
            && !self.breaks(Broken::EpochBelow)
        {
            run.epoch = run.epoch.max(run_epoch);
        }
        self.hold_run(db);
    }

    /// A task of which an attempt was made that is not known here: ended with what was accepted once, else in doubt.
    fn adopt(db: &mut Db, note: EffectNote) {
        let Some(task) = &mut db.task else { return };
        if note.accepted {
            db.task = None;
            return db.add(Msg::Finished);
        }
        if task.attempt < note.token[3] {
            *task = Task { attempt: note.token[3], claimed: false, in_doubt: true, ..*task };
        }
    }

    /// The run has come to the step again.
    pub(super) fn adopt_at_insert(&self, db: &mut Db) {
        let Some(task) = db.task.filter(|_| !self.breaks(Broken::EffectsForgotten)) else { return };
        let Some(place) = db.lost_effects.iter().position(|note| note.token[1] == task.seq && note.way == task.way) else { return };
        let note = db.lost_effects.remove(place);
        Self::adopt(db, note);
    }

    fn next_era(&self, db: &mut Db) {
        if !self.breaks(Broken::EraKept) {
            db.era = if self.breaks(Broken::EraUnheard) { db.era } else { db.era.max(db.era_seen) } + 1;
        }
    }

    /// From now on the server is known.
    pub(super) fn conclude(&self, state: &mut State) -> Option<()> {
        let db = &mut state.db;
        if db.known == state.server || state.testimony.is_some() || self.breaks(Broken::ServerUnasked) {
            return None;
        }
        let silent: Vec<usize> = (0..db.testified.len()).filter(|place| db.testified[*place] != Some(state.server)).collect();
        if !self.breaks(Broken::EraFirst) {
            state.faults.silences = state.faults.silences.checked_sub(u8::try_from(silent.len()).unwrap_or(u8::MAX))?;
            silent.iter().for_each(|place| db.testified[*place] = None);
        }
        if !self.breaks(Broken::LeasesKept) {
            db.leases.fill(0);
        }
        if db.timeline != state.timeline || !silent.is_empty() || db.lost || db.era_seen > db.era {
            self.next_era(db);
        }
        (db.known, db.timeline) = (state.server, state.timeline);
        Some(())
    }

    pub(super) fn settle(state: &mut State) -> Option<()> {
        (state.db.known == state.server && std::mem::take(&mut state.db.held)).then_some(())
    }

    pub(super) fn all_have_testified(&self, state: &State) -> bool {
        state.db.testified.iter().all(|to| to.is_none_or(|to| to == state.server))
    }

    /// Somebody who was waited for saw what is not here, and no person has let the run go on.
    pub(super) fn lacks(&self, state: &State) -> bool {
        let db = &state.db;
        let settled = |loss: &Loss| db.losses.contains(loss) && !db.held;
        let heard = |witness: usize| db.testified[witness].is_some();
        let notes = state.workers.iter().enumerate().filter(|(place, _)| heard(*place)).filter_map(|(_, worker)| worker.note.as_ref());
        let behind = notes.filter(|note| !db.holds(note)).any(|note| !settled(&Loss::Head(note.clone())));
        let agent = heard(at(self.agent()));
        behind || agent && state.agent.notes.iter().filter(|note| !db.asked(**note)).any(|note| !self.listed(db, *note) || db.held)
    }

    /// Whether it was found that an attempt is not known here. Its result may have been accepted since.
    fn listed(&self, db: &Db, note: EffectNote) -> bool {
        db.losses.iter().any(|loss| matches!(loss, Loss::Effect(found) if found.token == note.token && found.way == note.way))
    }

    pub(super) fn judge(&self, state: &mut State) {
        let db = &state.db;
        if db.known != state.server {
            return;
        }
        let heard = |witness: Nr| db.testified[at(witness)] == Some(state.server);
        let told = |place: Nr| state.workers[at(place)].note.as_ref().filter(|_| heard(place));
        let unfound = (0..self.workers).filter_map(told).any(|note| !db.holds(note) && !db.losses.contains(&Loss::Head(note.clone())));
        let front = heard(self.front());
        let run_lost = front && state.front.run == Asked::Told && db.run.is_none();
        let signal = db.inbox.contains(&Msg::Signal) || db.history().contains(&Kind::Signal) || db.losses.contains(&Loss::Signal);
        let message_lost = front && state.front.signal == Asked::Told && db.is_open() && !signal;
        let begun = heard(self.agent()) && state.agent.notes.iter().any(|note| !db.asked(*note) && !self.listed(db, *note));
        let all = [(unfound, UNFOUND), (run_lost, RUN_LOST), (message_lost, MESSAGE_LOST), (begun, EFFECT_UNFOUND)];
        state.bad |= all.into_iter().filter(|(wrong, _)| *wrong).fold(0, |bad, (_, bit)| bad | bit);
    }
}
