//! The notes of one witness, in order: the newest about each thing, for a day, and at most so many.
//!
//!   note ─▶ kept, in the place of an older one about the same ─▶ testimony, in slices, attempts first

use std::collections::{BTreeMap, VecDeque};

use sdk::{RunId, Seq};

use super::{EffectNote, MessageNote, Note, RunNote, SLICE, Testimony};

/// Life of a note, in seconds.
pub const LIFE_S: u64 = 24 * 3600;
/// Most notes: some ten megabytes.
const MOST: usize = 100_000;

/// What a note is about; a newer one about the same takes its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Run(RunId),
    Message(RunId, String),
    /// An attempt at another step that stood at the same place before the store lost it is another thing.
    Effect(RunId, Seq, String, String),
}

/// Notes, with the seconds since 1970 at which they were made.
#[derive(Clone, Debug, Default)]
pub struct Book {
    kept: BTreeMap<About, (u64, Note)>,
    /// In the order of their first line, for dropping the oldest and for the order of messages.
    order: VecDeque<(u64, About)>,
    testimonies: u64,
}

impl Book {
    /// How often it was told.
    #[must_use]
    pub fn testimonies(&self) -> u64 {
        self.testimonies
    }

    /// How many notes it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// All notes with their times, in order.
    pub fn notes(&self) -> impl Iterator<Item = (u64, &Note)> {
        self.order.iter().filter_map(|(_, about)| self.kept.get(about)).map(|(at, note)| (*at, note))
    }

    /// Keeps a note.
    pub fn keep(&mut self, at: u64, note: Note) {
        let about = about(&note);
        let merged = match (self.kept.remove(&about), note) {
            // Who accepted a run and took its turns as well knows both.
            (Some((_, Note::Run(before))), Note::Run(now)) => {
                let (start, child_of) = (now.start.clone().or(before.start.clone()), now.child_of.clone().or(before.child_of.clone()));
                // The last head that was told counts, also if it lies before one that the store has lost since.
                let newest = if now.seq >= 0 { now } else { before };
                Note::Run(RunNote { start, child_of, ..newest })
            }
            (None, note) => {
                self.order.push_back((at, about.clone()));
                note
            }
            (Some(_), note) => note,
        };
        self.kept.insert(about, (at, merged));
    }

    /// Those that are older than a day, and the oldest of too many.
    pub fn forget(&mut self, now: u64) {
        while let Some((first, about)) = self.order.pop_front() {
            let newest = self.kept.get(&about).map_or(first, |(at, _)| *at);
            match (self.order.len() >= MOST, first + LIFE_S >= now, newest + LIFE_S >= now) {
                (false, true, _) => return self.order.push_front((first, about)),
                // It was renewed since: its place is among those of that time.
                (false, false, true) => self.order.push_back((newest, about)),
                (true, _, _) | (false, false, false) => drop(self.kept.remove(&about)),
            }
        }
    }

    /// All of it, and it counts as told; never empty, so that a witness without notes testifies too.
    pub fn tell(&mut self) -> Vec<Testimony> {
        self.testimonies += 1;
        let mut slices = vec![Testimony::default()];
        // Attempts first: whoever puts a run back must know which tokens were shown.
        let (effects, others): (Vec<Note>, Vec<Note>) = self.notes().map(|(_, note)| note.clone()).partition(|note| matches!(note, Note::Effect(_)));
        for note in effects.into_iter().chain(others) {
            if slices.last().is_none_or(|slice| slice.len() >= SLICE) {
                slices.push(Testimony::default());
            }
            let Some(slice) = slices.last_mut() else { continue };
            match note {
                Note::Run(note) => slice.runs.push(note),
                Note::Message(note) => slice.messages.push(note),
                Note::Effect(note) => slice.effects.push(note),
            }
        }
        slices
    }
}

fn about(note: &Note) -> About {
    match note {
        Note::Run(RunNote { run, .. }) => About::Run(*run),
        Note::Message(MessageNote { run, key, .. }) => About::Message(*run, key.clone()),
        Note::Effect(EffectNote { run, seq, activity, input_sha256, .. }) => About::Effect(*run, *seq, activity.clone(), input_sha256.clone()),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn head(run: u64, seq: i32) -> Note {
        Note::Run(RunNote { run: RunId(Uuid::from_u64_pair(1, run)), seq, hash: Some(format!("{seq:02x}")), start: None, child_of: None })
    }

    #[test]
    fn notes_older_than_a_day_are_forgotten_and_renewed_ones_are_not() {
        let mut book = Book::default();
        for (at, note) in [(0, head(1, 0)), (0, head(2, 0)), (LIFE_S, head(1, 1))] {
            book.keep(at, note);
        }
        book.forget(LIFE_S + 1);
        assert_eq!(book.notes().collect::<Vec<_>>(), [(LIFE_S, &head(1, 1))]);
    }

    #[test]
    fn of_a_run_the_head_that_was_told_last_is_kept_and_of_a_place_each_step_that_stood_there() {
        let mut book = Book::default();
        let effect = |input: &str| {
            let (run, activity, input_sha256) = (RunId(Uuid::nil()), "a".into(), input.into());
            Note::Effect(EffectNote { run, seq: Seq(1), activity, input_sha256, attempt: 1, run_epoch: 1, era: 1, outcome: None, accepted: false })
        };
        for note in [head(1, 5), head(1, 3), head(1, -1), effect("x"), effect("y")] {
            book.keep(0, note);
        }
        assert_eq!(book.notes().map(|(_, note)| note.clone()).collect::<Vec<_>>(), [head(1, 3), effect("x"), effect("y")]);
    }

    #[test]
    fn much_is_told_in_slices_and_attempts_come_first() {
        let mut book = Book::default();
        (0..SLICE as u64).for_each(|run| book.keep(0, head(run, 0)));
        let effect = EffectNote { run: RunId(Uuid::nil()), seq: Seq(1), activity: "a".into(), input_sha256: String::new(), attempt: 1, run_epoch: 1, era: 1, outcome: None, accepted: false };
        book.keep(0, Note::Effect(effect));
        let slices: Vec<(usize, usize)> = book.tell().iter().map(|slice| (slice.effects.len(), slice.runs.len())).collect();
        assert_eq!((slices, book.testimonies()), (vec![(1, SLICE - 1), (0, 1)], 1));
    }
}
