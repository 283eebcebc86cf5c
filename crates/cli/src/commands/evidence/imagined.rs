//! A what-if for people: both ways beside each other from the first difference, and where they end.

use evidence::{
    report::RunState,
    what_if::{Branch, End, Imagined},
};
use sdk::{Event, EventBody, Inbound, Seq};

use super::replayed::item;
use crate::{event, output::visible};

/// Width of a column: two of them and their positions fit a wide terminal.
const COLUMN: usize = 74;

pub(super) fn words(imagined: &Imagined) -> String {
    let mut lines = vec![format!("what if {} (event {} of run {})", imagined.supposed, imagined.seq, imagined.run)];
    if imagined.branches.is_empty() {
        lines.push("Nothing would have been recorded otherwise: the engine deals with that by itself.".into());
    }
    for branch in &imagined.branches {
        lines.push(String::new());
        lines.extend(beside(branch, imagined));
    }
    lines.push(String::new());
    lines.push(row("AS IT WAS", "AS IT WOULD HAVE BEEN"));
    for branch in &imagined.branches {
        lines.push(row(&ended(branch, branch.recorded_end.as_ref()), &ended(branch, branch.imagined_end.as_ref())));
    }
    for (name, both) in &imagined.items {
        let side = |record: Option<&recovery::ItemRecord>| record.map_or_else(|| "-".to_owned(), |record| format!("item {name}: {}", item(record)));
        lines.push(row(&side(both.recorded.as_ref()), &side(both.imagined.as_ref())));
    }
    if !imagined.assumed.is_empty() {
        let steps: Vec<String> = imagined.assumed.iter().map(|assumed| format!("{} (event {})", assumed.step, assumed.seq)).collect();
        lines.push(String::new());
        lines.push(visible(&format!("Assumed, because nobody has recorded an answer: {}. Marked * above.", steps.join(", "))));
    }
    if let Some(open) = &imagined.open {
        lines.push(visible(&format!("It was not followed to its end: {open}.")));
    }
    lines.join("\n")
}

fn beside(branch: &Branch, imagined: &Imagined) -> Vec<String> {
    let from = usize::try_from(branch.from.0).unwrap_or(0);
    let mut lines = vec![visible(&format!("run {} ({} of {}), from event {} on:", branch.run, branch.workflow, branch.workflow_id, branch.from))];
    lines.push(row("AS IT WAS", "AS IT WOULD HAVE BEEN"));
    let side = |events: &[Event], at: usize| events.get(at).map(|event| line(event, events)).unwrap_or_default();
    let longest = branch.recorded.len().max(branch.imagined.len());
    let assumed = |at: usize| branch.imagined.get(at).is_some_and(|event| answers_assumed(branch, event, imagined));
    let would = |at: usize| format!("{}{}", side(&branch.imagined, at), if assumed(at) { " *" } else { "" });
    lines.extend((from..longest).map(|at| row(&side(&branch.recorded, at), &would(at))));
    lines
}

/// Whether an event is an answer that nobody has recorded.
fn answers_assumed(branch: &Branch, event: &Event, imagined: &Imagined) -> bool {
    let EventBody::Inbound(Inbound::ActivityFinished { of, .. }) = &event.body else { return false };
    imagined.assumed.iter().any(|assumed| Some(assumed.run) == branch.imagined_run && assumed.seq == *of)
}

fn line(event: &Event, history: &[Event]) -> String {
    let began = history.first().map_or(event.at, |first| first.at);
    let since = (event.at - began).num_milliseconds();
    let Seq(seq) = event.seq;
    format!("{seq:>4} {:>6}.{:01}s {} {}", since.div_euclid(1000), since.rem_euclid(1000) / 100, event.body.kind().replace('_', " "), event::words(event, history))
}

fn ended(branch: &Branch, end: Option<&End>) -> String {
    let Some(end) = end else { return format!("{}: never begun", branch.workflow) };
    let state = match end.state {
        RunState::Open => "not ended",
        RunState::Completed => "completed",
        RunState::Failed => "failed",
        RunState::Cancelled => "cancelled",
    };
    let why = end.failure.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{}: {state}{why}", branch.workflow)
}

/// Two texts beside each other, each broken where its column ends.
fn row(left: &str, right: &str) -> String {
    let (left, right) = (broken(&visible(left)), broken(&visible(right)));
    let lines = (0..left.len().max(right.len())).map(|at| {
        let side = |lines: &[String]| lines.get(at).cloned().unwrap_or_default();
        format!("{:<COLUMN$} │ {}", side(&left), side(&right)).trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn broken(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(' ') {
        let fits = lines.last().is_some_and(|line| line.chars().count() + word.trim_end().chars().count() <= COLUMN);
        if fits && let Some(line) = lines.last_mut() {
            line.push_str(word);
            continue;
        }
        // A word that is longer than a column is cut.
        let cut: Vec<char> = word.chars().collect();
        lines.extend(cut.chunks(COLUMN - 4).map(|part| format!("    {}", part.iter().collect::<String>())));
    }
    lines.into_iter().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_broken_at_its_words_and_a_long_word_is_cut() {
        assert_eq!(broken("a b"), ["a b"]);
        let long = format!("{} {}", "word ".repeat(20), "x".repeat(100));
        assert!(broken(&long).iter().all(|line| line.chars().count() <= COLUMN), "{:?}", broken(&long));
        assert_eq!(row("a", "b"), format!("a{} │ b", " ".repeat(COLUMN - 1)));
    }
}
