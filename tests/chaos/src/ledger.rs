//! The outsider's book: what was asked, in order, with what was shown; and what it says when it is read from the start.
//!
//! ```text
//!   call ─▶ token below one that was shown for this resource? late ─▶ else done ─▶ a line
//!   lines ─▶ Audit: made, set, rung, in a room, and whatever should never have been accepted
//! ```
//!
//! Invariants: 1. The ledger refuses nothing but late callers: a second making is made and counted. 2. An audit trusts no answer: it
//! compares tokens itself.

use std::collections::{BTreeMap, BTreeSet};

use sdk::{RunId, Token};

use crate::call::{Act, Answer, Call, Line};

/// What the ledger must know to answer.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    shown: BTreeMap<String, Token>,
    made: BTreeSet<String>,
}

/// What a ledger says, read from the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// How often each thing was made.
    pub made: BTreeMap<String, u32>,
    /// How often each thing was set; any number is right.
    pub set: BTreeMap<String, u32>,
    /// How often each bell was rung.
    pub rung: BTreeMap<String, u32>,
    /// The run that each thing was done for.
    pub owners: BTreeMap<String, RunId>,
    /// Calls that were refused.
    pub refused: u64,
    /// Calls that were accepted although a greater token had been shown before.
    pub stale_accepted: Vec<String>,
    /// What nobody may find: two in a room, or a thing done for two runs.
    pub wrong: Vec<String>,
}

impl Ledger {
    /// As it was when these lines had been written.
    #[must_use]
    pub fn after(lines: &[Line]) -> Self {
        let mut ledger = Self::default();
        for line in lines {
            ledger.answer(&line.call);
        }
        ledger
    }

    /// Answers a call.
    pub fn answer(&mut self, call: &Call) -> Answer {
        let shown = self.shown.get(call.resource());
        if shown.is_some_and(|shown| call.token < *shown) {
            return Answer::Late;
        }
        self.shown.insert(call.resource().to_owned(), call.token);
        match call.act {
            Act::Make => {
                self.made.insert(call.thing.clone());
                Answer::Done
            }
            Act::Ask if self.made.contains(&call.thing) => Answer::There,
            Act::Ask => Answer::NotThere,
            Act::Set | Act::Ring | Act::Enter | Act::Leave => Answer::Done,
        }
    }
}

impl Audit {
    /// Reads lines from the first to the last.
    #[must_use]
    pub fn of(lines: &[Line]) -> Self {
        let mut audit = Self::default();
        let mut shown: BTreeMap<&str, Token> = BTreeMap::new();
        let mut inside: BTreeMap<&str, RunId> = BTreeMap::new();
        for Line { call, answer, .. } in lines {
            if *answer == Answer::Late {
                audit.refused += 1;
                continue;
            }
            let greatest = shown.entry(call.resource()).or_insert(call.token);
            if call.token < *greatest {
                audit.stale_accepted.push(format!("{:?} {} with {}, after {greatest}", call.act, call.thing, call.token));
            }
            *greatest = call.token.max(*greatest);
            audit.count(call);
            let Some(room) = call.room.as_deref() else { continue };
            if let Some(other) = inside.get(room).filter(|other| **other != call.run) {
                audit.wrong.push(format!("{other} and {} were in {room} at the same time", call.run));
            }
            match call.act {
                Act::Leave => drop(inside.remove(room)),
                Act::Make | Act::Set | Act::Ring | Act::Enter | Act::Ask => drop(inside.insert(room, call.run)),
            }
        }
        audit
    }

    fn count(&mut self, call: &Call) {
        let counts = match call.act {
            Act::Make => &mut self.made,
            Act::Set => &mut self.set,
            Act::Ring => &mut self.rung,
            Act::Enter | Act::Leave | Act::Ask => return,
        };
        *counts.entry(call.thing.clone()).or_default() += 1;
        let owner = *self.owners.entry(call.thing.clone()).or_insert(call.run);
        if !same(owner, call.run) {
            self.wrong.push(format!("{} was done for {owner} and for {}", call.thing, call.run));
        }
    }

    /// How many effects were applied, each thing once.
    #[must_use]
    pub fn effects(&self) -> usize {
        self.made.len() + self.set.len() + self.rung.len()
    }

    /// Runs for which something was made or rung more than once.
    #[must_use]
    pub fn doubling(&self) -> BTreeSet<RunId> {
        let twice = self.made.iter().chain(&self.rung).filter(|(_, times)| **times > 1);
        twice.filter_map(|(thing, _)| self.owners.get(thing).copied()).collect()
    }

    /// Things made or rung more than once.
    #[must_use]
    pub fn doubled(&self) -> Vec<String> {
        let more = |what: &str, counts: &BTreeMap<String, u32>| -> Vec<String> {
            let twice = counts.iter().filter(|(_, times)| **times > 1);
            twice.map(|(thing, times)| format!("{thing} was {what} {times} times, for run {}", self.owners.get(thing).map(ToString::to_string).unwrap_or_default())).collect()
        };
        [more("made", &self.made), more("rung", &self.rung)].concat()
    }
}

/// A child that is asked for again, because its parent has lost the end of its history, has another time in its id and the same rest, which follows
/// from its parent and its place there.
fn same(one: RunId, other: RunId) -> bool {
    const TIME_BITS: u32 = 48;
    one.0.as_u128() << TIME_BITS == other.0.as_u128() << TIME_BITS
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use sdk::Seq;
    use uuid::Uuid;

    use super::*;
    use crate::call::VERSION;

    fn run(number: u64) -> RunId {
        RunId(Uuid::from_u64_pair(1, number))
    }

    fn token(grant_epoch: i64, seq: i32, attempt: i32) -> Token {
        Token { era: 1, grant_epoch, seq: Seq(seq), run_epoch: 1, attempt }
    }

    fn call(act: Act, thing: &str, token: Token) -> Call {
        Call { v: VERSION, act, thing: thing.into(), room: None, run: run(1), token }
    }

    fn line(call: Call, answer: Answer) -> Line {
        Line { at_ms: 0, call, answer }
    }

    #[test]
    fn an_effect_that_is_applied_twice_is_told() {
        let mut ledger = Ledger::default();
        let calls = [call(Act::Make, "disk", token(0, 3, 1)), call(Act::Make, "disk", token(0, 3, 2)), call(Act::Ring, "bell", token(0, 5, 1))];
        let lines = calls.map(|call| line(call.clone(), ledger.answer(&call)));
        assert_eq!(Audit::of(&lines).doubled(), [format!("disk was made 2 times, for run {}", run(1))]);
        assert_eq!(Audit::of(&lines).doubling(), [run(1)].into());
        assert_eq!(Audit::of(&lines[1..]).doubled(), Vec::<String>::new());
        let rung = Audit::of(&[lines[2].clone(), lines[2].clone()]);
        assert_eq!(rung.doubled(), [format!("bell was rung 2 times, for run {}", run(1))]);
    }

    #[test]
    fn a_late_caller_is_refused_and_changes_nothing() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.answer(&call(Act::Ask, "disk", token(0, 3, 2))), Answer::NotThere);
        assert_eq!(ledger.answer(&call(Act::Make, "disk", token(0, 3, 1))), Answer::Late);
        assert_eq!(ledger.answer(&call(Act::Ask, "disk", token(0, 3, 3))), Answer::NotThere);
        assert_eq!(ledger.answer(&call(Act::Make, "disk", token(0, 3, 3))), Answer::Done);
        assert_eq!(ledger.answer(&call(Act::Ask, "disk", token(0, 3, 4))), Answer::There);
    }

    #[test]
    fn a_stale_token_that_somebody_accepted_is_found_whatever_the_answer_said() {
        let lines = [line(call(Act::Make, "disk", token(2, 3, 1)), Answer::Done), line(call(Act::Set, "disk", token(1, 9, 9)), Answer::Done)];
        assert_eq!(Audit::of(&lines).stale_accepted, ["Set disk with e1-g1-s9-r1-a9, after e1-g2-s3-r1-a1"]);
    }

    #[test]
    fn two_in_a_room_are_found() {
        let within = |act: Act, of: u64, grant: i64| {
            let mut call = call(act, "desk", token(grant, 3, 1));
            (call.room, call.run, call.thing) = (Some("office".into()), run(of), format!("desk {of}"));
            line(call, Answer::Done)
        };
        let well = [within(Act::Enter, 1, 1), within(Act::Leave, 1, 1), within(Act::Enter, 2, 2)];
        assert_eq!(Audit::of(&well).wrong, Vec::<String>::new());
        let wrong = Audit::of(&[within(Act::Enter, 1, 1), within(Act::Make, 2, 2)]).wrong;
        assert_eq!(wrong, [format!("{} and {} were in office at the same time", run(1), run(2))]);
    }

    #[test]
    fn a_ledger_that_starts_again_knows_what_it_knew() {
        let calls = [call(Act::Make, "disk", token(0, 3, 2)), call(Act::Ask, "tape", token(0, 4, 2))];
        let mut ledger = Ledger::default();
        let lines = calls.map(|call| line(call.clone(), ledger.answer(&call)));
        let text = serde_json::to_string(&lines.to_vec()).unwrap();
        let mut again = Ledger::after(&serde_json::from_str::<Vec<Line>>(&text).unwrap());
        assert_eq!(again.answer(&call(Act::Make, "tape", token(0, 4, 1))), Answer::Late);
        assert_eq!(again.answer(&call(Act::Ask, "disk", token(0, 3, 3))), Answer::There);
    }
}
