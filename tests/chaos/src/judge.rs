//! What must hold when everything is well again: told by histories, by what was accepted, and by the ledger, which know nothing of each other.
//!
//! Invariants: 1. A run that was accepted is there, has ended, and well. 2. What its history says was done, the ledger has once; what the
//! ledger has, a history asked for. 3. Every history replays with the code that wrote it. 4. Of ended runs nothing is left in the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result};
use engine::{RunStore, StoreError};
use sdk::{Command, EventBody, History, Inbound, Outcome, Registry, RunId, Seq, Workflow, replay};
use serde_json::{Value, json};
use store::PgStore;
use tokio_postgres::Client;

use crate::{
    ledger::Audit,
    programs::{CHILDREN, Chain, Family, Make, Pulse, Ring, Room, Set, Split, Target, WORDS, Words, programs},
    submitter::Told,
};

/// Tables in which an ended run has nothing.
const LEFTOVERS: &str = "
    select (select count(*) from engine.inbox) + (select count(*) from engine.tasks) + (select count(*) from engine.timers)
         + (select count(*) from engine.lock_requests) + (select count(*) from engine.locks where holder_run is not null)";

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Runs that were judged, children included.
    pub runs: usize,
    /// Their events.
    pub events: usize,
    /// Effects that the ledger has.
    pub effects: usize,
    /// Bells of which nobody can say whether they were rung.
    pub unknown: usize,
    /// Late callers that the ledger refused.
    pub refused: u64,
    /// Runs or effects that are not there or have not ended well.
    pub lost: Vec<String>,
    /// Effects that happened more than once.
    pub doubled: Vec<String>,
    /// Late callers that were let in.
    pub stale: Vec<String>,
    /// Histories that do not replay, or say something else than the ledger.
    pub differs: Vec<String>,
    /// Whatever else is wrong.
    pub wrong: Vec<String>,
}

impl Verdict {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn holds(&self) -> bool {
        [&self.lost, &self.doubled, &self.stale, &self.differs, &self.wrong].into_iter().all(Vec::is_empty)
    }
}

/// What histories say of effects.
#[derive(Default)]
struct Asked {
    /// Things by the name of their activity, with whether they were certainly done.
    things: BTreeMap<(String, String), bool>,
}

/// Judges all runs that were accepted. Histories that are wrong are written to `failed`.
///
/// # Errors
/// The database does not answer, or a file can't be written.
pub async fn judged(store: &PgStore, client: &Client, told: &BTreeMap<RunId, Told>, audit: &Audit, failed: &Path) -> Result<Verdict> {
    let mut verdict = Verdict { effects: audit.effects(), refused: audit.refused, doubled: audit.doubled(), stale: audit.stale_accepted.clone(), ..Verdict::default() };
    verdict.wrong.clone_from(&audit.wrong);
    let (registry, mut asked, doubling) = (programs(), Asked::default(), audit.doubling());
    let mut left: Vec<(RunId, Option<Told>)> = told.iter().map(|(run, told)| (*run, Some(told.clone()))).collect();
    while let Some((run, told)) = left.pop() {
        let history = match store.load_history(run).await {
            Ok(history) => history,
            Err(StoreError::Refused { source, .. }) => {
                verdict.differs.push(format!("run {run} can't be read: {source}"));
                continue;
            }
            Err(error) => return Err(error).with_context(|| format!("reading run {run}")),
        };
        let before = (verdict.lost.len(), verdict.differs.len());
        one(&registry, &history, told.as_ref(), &mut verdict, &mut asked);
        left.extend(children(&history).into_iter().map(|child| (child, None)));
        if before != (verdict.lost.len(), verdict.differs.len()) || doubling.contains(&run) {
            write_down(&history, failed)?;
        }
    }
    compare(&asked, audit, &mut verdict);
    let leftovers: i64 = client.query_one(LEFTOVERS, &[]).await?.get(0);
    if leftovers != 0 {
        verdict.wrong.push(format!("{leftovers} messages, tasks, timers or locks of ended runs are left"));
    }
    Ok(verdict)
}

fn one(registry: &Registry, history: &History, told: Option<&Told>, verdict: &mut Verdict, asked: &mut Asked) {
    let run = history.run;
    (verdict.runs, verdict.events) = (verdict.runs + 1, verdict.events + history.events.len());
    if let Err(why) = replay::verify(registry, history) {
        verdict.differs.push(format!("run {run} does not replay: {why}"));
    }
    match (history.events.last().map(|stored| &stored.event.body), told) {
        (None, _) => verdict.lost.push(format!("run {run} was accepted and has no history")),
        (Some(EventBody::Command(Command::RunCompleted { output })), Some(told)) if *output != expected(told) => {
            verdict.differs.push(format!("{} {run} ended with {output}, not {}", told.workflow, expected(told)));
        }
        (Some(EventBody::Command(Command::RunCompleted { .. })), _) => {}
        (Some(other), _) => verdict.lost.push(format!("run {run} has not ended well, but with {}", json!(other))),
    }
    for (of, name, target) in scheduled(history) {
        let done = match outcome(history, of) {
            Some(Outcome::Completed { .. }) => true,
            Some(Outcome::Unknown { .. }) => {
                verdict.unknown += 1;
                false
            }
            Some(Outcome::Failed { .. } | Outcome::TimedOut { .. } | Outcome::Cancelled) | None => false,
        };
        if asked.things.insert((name.clone(), target.thing.clone()), done).is_some() && !name.ends_with("enter") {
            verdict.differs.push(format!("{name} {} was asked for twice", target.thing));
        }
    }
}

/// What a run gives whose steps were all done.
fn expected(told: &Told) -> Value {
    let steps = told.wanted.steps;
    match told.workflow {
        Family::NAME => json!(CHILDREN * steps),
        Words::NAME => json!((0..WORDS).collect::<Vec<_>>()),
        Chain::NAME | Split::NAME | Room::NAME | Pulse::NAME => json!(steps),
        other => json!(format!("{other} is none of ours")),
    }
}

fn scheduled(history: &History) -> Vec<(Seq, String, Target)> {
    let scheduled = history.events.iter().filter_map(|stored| match &stored.event.body {
        EventBody::Command(Command::ActivityScheduled { activity, input, .. }) => {
            Some((stored.event.seq, activity.clone(), serde_json::from_value(input.clone()).ok()?))
        }
        EventBody::Command(_) | EventBody::Inbound(_) => None,
    });
    scheduled.collect()
}

fn outcome(history: &History, scheduled: Seq) -> Option<&Outcome> {
    history.events.iter().find_map(|stored| match &stored.event.body {
        EventBody::Inbound(Inbound::ActivityFinished { of, outcome }) if *of == scheduled => Some(outcome),
        EventBody::Inbound(_) | EventBody::Command(_) => None,
    })
}

fn children(history: &History) -> Vec<RunId> {
    let children = history.events.iter().filter_map(|stored| match &stored.event.body {
        EventBody::Command(Command::ChildRequested { child, .. }) => Some(*child),
        EventBody::Command(_) | EventBody::Inbound(_) => None,
    });
    children.collect()
}

/// Histories and ledger, both ways.
fn compare(asked: &Asked, audit: &Audit, verdict: &mut Verdict) {
    use sdk::Activity;
    let books = [(Make::NAME, &audit.made), (Set::NAME, &audit.set), (Ring::NAME, &audit.rung)];
    for (name, book) in books {
        let of_kind: BTreeMap<&str, bool> =
            asked.things.iter().filter(|((activity, _), _)| activity == name).map(|((_, thing), done)| (thing.as_str(), *done)).collect();
        let missing = of_kind.iter().filter(|(thing, done)| **done && !book.contains_key(**thing));
        verdict.lost.extend(missing.map(|(thing, _)| format!("{name} {thing} is in a history as done, and nobody outside has seen it")));
        let known: BTreeSet<&str> = of_kind.keys().copied().collect();
        let nobodys = book.keys().filter(|thing| !known.contains(thing.as_str()));
        let whose = |thing: &String| audit.owners.get(thing).map(ToString::to_string).unwrap_or_default();
        verdict.differs.extend(nobodys.map(|thing| format!("{name} {thing} was done outside for run {}, whose history has not asked for it", whose(thing))));
    }
}

fn write_down(history: &History, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    let path = dir.join(format!("{}.jsonl", history.run));
    let lines: Vec<String> = history.events.iter().map(|stored| String::from_utf8_lossy(&stored.bytes).into_owned()).collect();
    fs::write(&path, lines.join("\n")).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(things: &[(&str, &str, bool)]) -> Asked {
        Asked { things: things.iter().map(|(name, thing, done)| (((*name).to_owned(), (*thing).to_owned()), *done)).collect() }
    }

    fn counts(things: &[(&str, u32)]) -> BTreeMap<String, u32> {
        things.iter().map(|(thing, times)| ((*thing).to_owned(), *times)).collect()
    }

    #[test]
    fn what_a_history_says_and_nobody_has_seen_is_lost_and_what_it_does_not_say_is_nobodys() {
        let asked = asked(&[("chaos-make", "a", true), ("chaos-make", "b", true), ("chaos-ring", "c", false), ("chaos-ring", "d", false)]);
        let audit = Audit { made: counts(&[("a", 1), ("x", 1)]), rung: counts(&[("d", 1)]), ..Audit::default() };
        let mut verdict = Verdict::default();
        compare(&asked, &audit, &mut verdict);
        assert_eq!(verdict.lost, ["chaos-make b is in a history as done, and nobody outside has seen it"]);
        assert_eq!(verdict.differs, ["chaos-make x was done outside for run , whose history has not asked for it"]);
        assert!(!verdict.holds() && Verdict::default().holds());
    }

    #[test]
    fn a_run_without_a_history_is_lost() {
        let mut verdict = Verdict::default();
        one(&programs(), &History::new(RunId(uuid::Uuid::nil())), None, &mut verdict, &mut Asked::default());
        assert_eq!(verdict.lost, ["run 00000000-0000-0000-0000-000000000000 was accepted and has no history"]);
    }
}
