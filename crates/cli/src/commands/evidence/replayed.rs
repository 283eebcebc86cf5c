//! Replaying a file: the same commands? The timeline; how everything stood at an event; event by event by hand.

use std::{collections::BTreeMap, io::BufRead, process::ExitCode};

use anyhow::{Result, bail};
use evidence::{
    Bundle,
    moment::{self, Moment, Progress},
    replay::{self, Replayed},
    timeline::{self, Entry},
    what_if,
};
use recovery::ItemRecord;
use sdk::{Event, RunId};
use serde::Serialize;

use super::{imagined, opened, read};
use crate::{
    arguments::{Output, Place, Replay},
    event, exit, output,
    output::visible,
};

/// What is told to programs.
#[derive(Serialize)]
struct Answer {
    identical: bool,
    runs: Vec<Replayed>,
}

pub(in crate::commands) fn replay(output: Output, replay: &Replay) -> Result<ExitCode> {
    let bundle = opened(&replay.file.display().to_string(), &read(&replay.file)?)?.bundle;
    if let Some(place) = replay.at {
        return at(output, &bundle, place);
    }
    if replay.step {
        return by_hand(output, &bundle);
    }
    if let Some(supposed) = &replay.what_if {
        let imagined = what_if::imagine(&bundle, &workflows::registry(), supposed)?;
        output::answer(output, &imagined, imagined::words)?;
        return Ok(ExitCode::SUCCESS);
    }
    let runs = replay::all(&bundle, &workflows::registry());
    let answer = Answer { identical: runs.iter().all(|run| run.differs.is_none()), runs };
    output::answer(output, &answer, |answer| format!("{}\n\n{}", told(&bundle), outcome(&bundle, answer)))?;
    Ok(if answer.identical { ExitCode::SUCCESS } else { exit::FAILED.into() })
}

/// The timeline of all runs.
fn told(bundle: &Bundle) -> String {
    let histories = Histories::of(bundle);
    let lines: Vec<String> = timeline::of(bundle).iter().map(|entry| histories.line(entry)).collect();
    lines.join("\n")
}

fn outcome(bundle: &Bundle, answer: &Answer) -> String {
    let mut lines = Vec::new();
    for run in &answer.runs {
        let name = visible(&format!("{} of {}", run.workflow, run.workflow_id));
        match &run.differs {
            None => lines.push(format!("run {} ({name}): {} events, {} commands compared: identical", run.run, run.events, run.commands)),
            Some(differs) => {
                let differs: Vec<String> = differs.to_string().lines().map(|line| format!("  {}", visible(line))).collect();
                lines.push(format!("run {} ({name}): DIFFERS\n{}", run.run, differs.join("\n")));
            }
        }
    }
    if answer.identical {
        lines.push("The workflows of this build want what is recorded: the histories replay identically.".into());
    } else {
        let (theirs, ours) = (bundle.build(), env!("CARGO_PKG_VERSION"));
        let theirs = visible(theirs);
        lines.push(format!("The histories are whole; the workflows of this build ({ours}) are other ones than those that wrote them ({theirs})."));
    }
    lines.join("\n")
}

fn at(output: Output, bundle: &Bundle, place: Place) -> Result<ExitCode> {
    let run = place.run.unwrap_or_else(|| bundle.about());
    let Some(moment) = moment::at(bundle, run, place.seq) else {
        let known: Vec<String> = bundle.runs().iter().map(|history| format!("{} with events 0 to {}", history.run, history.events.len().saturating_sub(1))).collect();
        bail!("there is no event {} of run {run} in this file; it holds {}", place.seq, known.join(", "));
    };
    let line = timeline::of(bundle).into_iter().find(|entry| (entry.run, entry.event.seq) == (run, place.seq)).map(|entry| Histories::of(bundle).line(&entry));
    output::answer(output, &moment, |moment| format!("{}\n{}", line.unwrap_or_default(), stood(moment)))?;
    Ok(ExitCode::SUCCESS)
}

/// One event after the other: Enter for the next, b for the one before, a number to go there, q to end.
fn by_hand(output: Output, bundle: &Bundle) -> Result<ExitCode> {
    let entries = timeline::of(bundle);
    let histories = Histories::of(bundle);
    let mut place = 0;
    let mut lines = std::io::stdin().lock().lines();
    while let Some(entry) = entries.get(place) {
        let Some(moment) = moment::at(bundle, entry.run, entry.event.seq) else { break };
        let line = format!("[{} of {}] {}", place + 1, entries.len(), histories.line(entry));
        output::answer(output, &moment, |moment| format!("{line}\n{}", stood(moment)))?;
        if output == Output::Table {
            eprintln!("Enter: next   b: back   a number: go there   q: end");
        }
        place = loop {
            let Some(asked) = lines.next() else { return Ok(ExitCode::SUCCESS) };
            match next_place(asked?.trim(), place, entries.len()) {
                Ok(Some(next)) => break next,
                Ok(None) => return Ok(ExitCode::SUCCESS),
                Err(why) => eprintln!("{why}"),
            }
        };
    }
    Ok(ExitCode::SUCCESS)
}

/// Where to go on; `None` to end.
fn next_place(asked: &str, place: usize, count: usize) -> Result<Option<usize>, String> {
    match asked {
        "" | "n" => Ok(Some(place + 1)),
        "b" => Ok(Some(place.saturating_sub(1))),
        "q" => Ok(None),
        number => match number.parse::<usize>() {
            Ok(number) if (1..=count).contains(&number) => Ok(Some(number - 1)),
            Ok(_) | Err(_) => Err(format!("{} is none of 1 to {count}, nor Enter, b or q", visible(number))),
        },
    }
}

/// How everything stood, a line each.
fn stood(moment: &Moment) -> String {
    let mut lines = Vec::new();
    for run in &moment.runs {
        let locks: Vec<&str> = run.locks.values().flatten().map(String::as_str).collect();
        let locks = if locks.is_empty() { String::new() } else { format!(", holds {}", locks.join(", ")) };
        let past = if run.past_return { ", past its point of no return" } else { "" };
        lines.push(format!("  run   {} {}: {}{past}{locks}", run.run, run.workflow, run.state));
    }
    for (name, record) in &moment.items {
        lines.push(format!("  item  {name}: {}", item(record)));
    }
    for step in &moment.steps {
        let attempts = step.attempts.map(|attempts| format!(", {attempts} attempts")).unwrap_or_default();
        let why = step.failure.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        lines.push(format!("  step  {:>4} {} at {}: {}{attempts}{why}", step.seq, step.name, step.queue, progress(step.state)));
    }
    lines.iter().map(|line| visible(line)).collect::<Vec<_>>().join("\n")
}

/// An item in a line.
pub(super) fn item(record: &ItemRecord) -> String {
    let chosen = record.chosen.as_ref().map(|chosen| format!(", point {}", chosen.point)).unwrap_or_default();
    let fence = match &record.fence {
        Some(recovery::Fence::Proven { .. }) => ", source fenced",
        Some(recovery::Fence::Unfenced { .. }) => ", source not proven off",
        None => "",
    };
    let test = match record.state.test_failover {
        recovery::TestFailover::None => "",
        recovery::TestFailover::Running => ", test copy being made",
        recovery::TestFailover::Ready => ", test copy there",
        recovery::TestFailover::Cleaning => ", test copy being removed",
        recovery::TestFailover::Failed => ", test copy failed",
    };
    format!("{}, runs at {}{chosen}{fence}{test}", record.state.main, record.active_site())
}

fn progress(progress: Progress) -> &'static str {
    match progress {
        Progress::Open => "open",
        Progress::Stopping => "asked to stop",
        Progress::Done => "done",
        Progress::Failed => "FAILED",
        Progress::TimedOut => "TIMED OUT",
        Progress::Cancelled => "cancelled",
        Progress::Unknown => "UNKNOWN",
    }
}

/// Every run's events, so that an end can name what ended.
struct Histories {
    events: BTreeMap<RunId, Vec<Event>>,
    /// Which run a line is of, where there are several.
    names: BTreeMap<RunId, String>,
}

impl Histories {
    fn of(bundle: &Bundle) -> Self {
        let events = bundle.runs().iter().map(|history| (history.run, history.events.iter().map(|stored| stored.event.clone()).collect()));
        let many = bundle.runs().len() > 1;
        let names = bundle.runs().iter().enumerate().filter(|_| many).map(|(at, history)| (history.run, format!("run {} ", at + 1)));
        Self { events: events.collect(), names: names.collect() }
    }

    fn line(&self, entry: &Entry<'_>) -> String {
        let history = self.events.get(&entry.run).map_or(&[][..], Vec::as_slice);
        let since = entry.since_start_ms;
        let name = self.names.get(&entry.run).map_or("", String::as_str);
        let indent = "  ".repeat(entry.depth);
        let (seconds, ms) = (since.div_euclid(1000), since.rem_euclid(1000));
        let said = event::words(entry.event, history);
        format!("{seconds:>6}.{ms:03}s  {name}{indent}{:>4} {:<24} {said}", entry.event.seq, entry.event.body.kind()).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_goes_forth_and_back_and_anywhere() {
        assert_eq!(next_place("", 3, 9), Ok(Some(4)));
        assert_eq!(next_place("b", 0, 9), Ok(Some(0)));
        assert_eq!(next_place("9", 0, 9), Ok(Some(8)));
        assert_eq!(next_place("q", 0, 9), Ok(None));
        assert!(next_place("10", 0, 9).is_err() && next_place("0", 0, 9).is_err() && next_place("x", 0, 9).is_err());
    }
}
