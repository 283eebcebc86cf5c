//! What witnesses have seen, against what the store in memory holds; and what becomes of the difference.

use sdk::{Command, Event, EventBody, Message, Outcome, Parent, RunId, Seq};

use super::{Became, EffectKey, Lack, State};
use crate::{
    RunState, StartRun, Started, TaskRow,
    witness::{EffectNote, MessageNote, RunNote, input_sha256},
};

impl State {
    fn is_open(&self, run: RunId) -> bool {
        self.runs.get(&run).is_some_and(|run| matches!(run.state, RunState::Open | RunState::Suspended))
    }

    /// Nobody's until it is settled.
    fn hold(&mut self, run: RunId) {
        if !self.is_open(run) {
            return;
        }
        self.tail.held.insert(run);
        if let Some(run) = self.runs.get_mut(&run)
            && let Some(owner) = run.owner.take()
        {
            self.leases.remove(&owner);
            self.builds_of.remove(&owner);
        }
    }

    /// Notes a loss; false if it is known.
    fn find_lost(&mut self, run: RunId, lack: Lack, seq: i32, mark: String, became: Became) {
        self.tail.losses.entry((run, lack, seq, mark)).or_insert((became, false));
    }

    fn held_or_ended(&self, run: RunId) -> Became {
        if self.is_open(run) { Became::Held } else { Became::Ended }
    }

    pub(super) fn compare_runs(&mut self, notes: &[RunNote]) -> usize {
        let mut notes: Vec<&RunNote> = notes.iter().collect();
        notes.sort_by_key(|note| note.run);
        let mut found = 0;
        for note in notes {
            let mark = note.hash.clone().unwrap_or_default();
            let at_its_place = usize::try_from(note.seq).ok().map(|place| self.runs.get(&note.run).and_then(|run| run.events.get(place)).map(|(_, hash, _)| hex::encode(hash.0)));
            let there = self.runs.contains_key(&note.run);
            let whole = there && at_its_place.as_ref().is_none_or(|hash| hash.as_deref() == Some(mark.as_str()));
            let heard = [Lack::Run, Lack::Shorter, Lack::Differs].into_iter().any(|lack| self.tail.losses.contains_key(&(note.run, lack, note.seq, mark.clone())));
            if whole || heard {
                continue;
            }
            let lack = match (there, at_its_place.flatten()) {
                (false, _) => Lack::Run,
                (true, Some(_)) => Lack::Differs,
                (true, None) => Lack::Shorter,
            };
            let became = if there { self.held_or_ended(note.run) } else { self.missing(note) };
            if became == Became::Held {
                self.hold(note.run);
            }
            self.find_lost(note.run, lack, note.seq, mark, became);
            found += 1;
        }
        found
    }

    /// A child is asked for again by its parent; others are put back as they were asked for.
    fn missing(&mut self, RunNote { run, start, child_of, .. }: &RunNote) -> Became {
        let run = *run;
        let asked_for = if let Some(Message::Start { parent: Some(Parent { run: parent, .. }), workflow_id, .. }) = start {
            Some((*parent, workflow_id.clone()))
        } else {
            child_of.as_ref().map(|child| (child.parent, child.about.clone()))
        };
        if let Some(asked_for) = asked_for {
            self.tail.children.insert(run, asked_for);
            return Became::Lost;
        }
        let Some(start) = start.clone() else { return Became::Lost };
        if !matches!(self.start_run(StartRun { run, start }), Started::New) {
            return Became::Lost;
        }
        let shown = self.tail.effects.values().filter(|(effect, _)| effect.run == run).map(|(effect, _)| effect.run_epoch).max();
        if let Some(put_back) = self.runs.get_mut(&run) {
            put_back.epoch = shown.unwrap_or(0);
        }
        Became::Held
    }

    /// A message that was accepted and is neither waiting nor in the history is sent again: it counts once.
    pub(super) fn compare_messages(&mut self, notes: &[MessageNote]) -> usize {
        let mut found = 0;
        for MessageNote { run, key, body } in notes {
            let there = self.runs.get(run);
            let heard = there.is_some_and(|run| run.msg_keys.contains(key)) || self.inbox_keys.contains(&(*run, key.clone()));
            let told = self.tail.losses.contains_key(&(*run, Lack::Message, -1, key.clone()));
            if there.is_some() && !self.is_open(*run) || heard || told {
                continue;
            }
            let became = if there.is_some() { Became::Adopted } else { Became::Lost };
            if became == Became::Adopted {
                self.post(*run, body.clone());
            }
            self.find_lost(*run, Lack::Message, -1, key.clone(), became);
            found += 1;
        }
        found
    }

    /// The claim of the run that asked for this activity with this input at this place.
    fn asked_by(&self, note: &EffectNote) -> Option<i64> {
        let (bytes, ..) = self.runs.get(&note.run)?.events.get(usize::try_from(note.seq.0).ok()?)?;
        let event: Event = serde_json::from_slice(bytes).ok()?;
        match event.body {
            EventBody::Command(Command::ActivityScheduled { activity, input, .. }) if activity == note.activity && input_sha256(&input) == note.input_sha256 => {
                Some(event.run_epoch)
            }
            EventBody::Command(_) | EventBody::Inbound(_) => None,
        }
    }

    pub(super) fn compare_effects(&mut self, notes: &[EffectNote]) -> usize {
        let mut notes: Vec<&EffectNote> = notes.iter().collect();
        notes.sort_by_key(|note| (note.run, note.seq, note.attempt));
        let mut found = 0;
        for note in notes {
            let (by, task) = (self.asked_by(note), self.tasks.get(&(note.run, note.seq)).map(|task| task.attempt));
            let (ours, mark) = (by == Some(note.run_epoch), format!("{} {} {} {}", note.era, note.run_epoch, note.attempt, note.input_sha256));
            let result = note.outcome.clone().filter(|_| note.accepted);
            let behind = task.is_some_and(|attempt| attempt < note.attempt);
            let unheard = behind || task == Some(note.attempt) && result.is_some();
            if ours && !unheard || self.tail.losses.contains_key(&(note.run, Lack::Effect, note.seq.0, mark.clone())) {
                continue;
            }
            let waits = by.is_some() && task.is_some() && (ours || behind);
            let became = if waits {
                self.adopt_attempt((note.run, note.seq), note.attempt, result);
                Became::Adopted
            } else {
                self.lost_effect(note, result)
            };
            self.find_lost(note.run, Lack::Effect, note.seq.0, mark, became);
            found += 1;
        }
        found
    }

    fn lost_effect(&mut self, note: &EffectNote, result: Option<Outcome>) -> Became {
        let became = if self.runs.contains_key(&note.run) { self.held_or_ended(note.run) } else { Became::Lost };
        let known = EffectNote { outcome: result, ..note.clone() };
        let newer = |(before, _): &(EffectNote, bool)| (known.run_epoch, known.attempt) > (before.run_epoch, before.attempt);
        let key = (note.run, note.run, note.seq, note.activity.clone(), note.input_sha256.clone());
        if self.tail.effects.get(&key).is_none_or(newer) {
            self.tail.effects.insert(key, (known, false));
        }
        // The next claim's tokens are to be greater than those that were shown.
        if let Some(run) = self.runs.get_mut(&note.run) {
            run.epoch = run.epoch.max(note.run_epoch);
        }
        if became == Became::Held {
            self.hold(note.run);
        }
        became
    }

    /// A task of which somebody has made an attempt that is not known here: ended with the result that was accepted once, else in doubt.
    fn adopt_attempt(&mut self, place: (RunId, Seq), attempt: i32, result: Option<Outcome>) {
        if let Some(outcome) = result {
            self.tasks.remove(&place);
            self.post(place.0, Message::Finished { of: place.1, outcome });
            return;
        }
        let Some(task) = self.tasks.get_mut(&place).filter(|task| task.attempt < attempt && task.dead.is_none()) else { return };
        let most = &mut task.row.options.retry.max_attempts;
        *most = (*most).max(attempt + 1);
        (task.attempt, task.in_doubt, task.holder) = (attempt, true, None);
        (task.attempt_deadline, task.beat_deadline) = (None, None);
    }

    /// A task that was just queued, of a run that may have come to a step again.
    pub(in crate::memory) fn adopt_effect(&mut self, run: RunId, row: &TaskRow) {
        let input = input_sha256(&row.input);
        let same = |effect: &EffectNote| effect.activity == row.activity && effect.input_sha256 == input;
        let of_run = || self.tail.effects.iter().filter(|((of, ..), _)| *of == run);
        // The same thing, at its place if it was asked for there, else the first of them; of each run that it was done for before.
        let mut again: Vec<(&EffectKey, &EffectNote)> = of_run().filter(|(_, (effect, adopted))| !adopted && same(effect)).map(|(key, (effect, _))| (key, effect)).collect();
        again.sort_by_key(|((_, origin, seq, ..), _)| (*origin, *seq != row.seq, *seq));
        again.dedup_by_key(|((_, origin, ..), _)| *origin);
        let result = again.iter().find_map(|(_, effect)| effect.outcome.clone());
        let begun = again.iter().map(|(_, effect)| effect.attempt).max();
        // What is asked for with a time or an id of its own differs each time, and its place must do.
        let alike = of_run().filter(|(_, (effect, adopted))| !adopted && effect.seq == row.seq && effect.activity == row.activity && !same(effect));
        let alike = alike.map(|(_, (effect, _))| effect.attempt).max();
        // Whoever still works on another step that stood here is late: his number is not the task's.
        let shown = of_run().filter(|((_, origin, ..), (effect, _))| *origin == run && effect.seq == row.seq && !same(effect));
        let shown = shown.map(|(_, (effect, _))| effect.attempt).max();
        let taken: Vec<EffectKey> = again.into_iter().map(|(key, _)| key.clone()).collect();
        for key in taken {
            self.tail.effects.entry(key).and_modify(|(_, adopted)| *adopted = true);
        }
        if let Some(attempt) = begun.or(alike) {
            self.adopt_attempt((run, row.seq), attempt, result);
        }
        if let (Some(shown), Some(task)) = (shown, self.tasks.get_mut(&(run, row.seq))) {
            task.row.options.retry.max_attempts += shown + 1;
            task.attempt += shown + 1;
        }
    }

    /// A child that was asked for where one was that is gone: what was done for that was done for this, and its children are this one's.
    pub(in crate::memory) fn follow_lost_child(&mut self, parent: RunId, about: &str, child: RunId) {
        let is_it = |(_, (of, what)): &(&RunId, &(RunId, String))| *of == parent && what == about;
        let gone: Vec<RunId> = self.tail.children.iter().filter(is_it).map(|(gone, _)| *gone).collect();
        for lost in gone {
            self.tail.children.remove(&lost);
            self.tail.children.values_mut().filter(|(of, _)| *of == lost).for_each(|(of, _)| *of = child);
            let keys: Vec<EffectKey> = self.tail.effects.keys().filter(|(run, ..)| *run == lost).cloned().collect();
            for key in keys {
                let Some(effect) = self.tail.effects.remove(&key) else { continue };
                let (_, origin, seq, activity, input) = key;
                self.tail.effects.insert((child, origin, seq, activity, input), effect);
            }
            self.tail.losses.iter_mut().filter(|((run, ..), (_, settled))| *run == lost && !settled).for_each(|(_, (became, _))| *became = Became::Adopted);
        }
    }
}
