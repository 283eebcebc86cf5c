//! The events of all runs of a bundle in the order in which they were recorded.

use chrono::{DateTime, Utc};
use sdk::{Event, EventBody, Inbound, RunId};

use crate::{Bundle, file};

/// An event among those of all runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry<'a> {
    /// Whose.
    pub run: RunId,
    /// How many runs lie between its run and one that nobody began.
    pub depth: usize,
    /// Since the first event of all, in milliseconds.
    pub since_start_ms: i64,
    /// The event.
    pub event: &'a Event,
}

/// All events by their time. Where many bear the same time, and clocks were set back, a cause still stands before its effect: within
/// a run, from the wish for a child to its beginning, and from its end to where its parent hears of it.
#[must_use]
pub fn of(bundle: &Bundle) -> Vec<Entry<'_>> {
    let begins = begins(bundle);
    let depths: Vec<usize> = bundle.runs().iter().map(|history| depth(bundle, history.run)).collect();
    let mut told = vec![0_usize; bundle.runs().len()];
    let mut entries = Vec::new();
    loop {
        let next = |place: usize| bundle.runs().get(place).zip(told.get(place)).and_then(|(history, told)| history.events.get(*told));
        let waiting = (0..told.len()).filter_map(|place| next(place).map(|stored| (stored.event.at, place)));
        // A history that names a cause which never comes is told all the same.
        let ready = waiting.clone().filter(|(_, place)| !awaits_its_cause(bundle, &told, *place)).min();
        let Some((_, place)) = ready.or_else(|| waiting.min()) else { return entries };
        if let (Some(history), Some(stored)) = (bundle.runs().get(place), next(place)) {
            let depth = depths.get(place).copied().unwrap_or(0);
            entries.push(Entry { run: history.run, depth, since_start_ms: (stored.event.at - begins).num_milliseconds(), event: &stored.event });
        }
        told.iter_mut().skip(place).take(1).for_each(|told| *told += 1);
    }
}

/// Whether the next event of a run follows from one of another run that is not told yet.
fn awaits_its_cause(bundle: &Bundle, told: &[usize], place: usize) -> bool {
    let Some(history) = bundle.runs().get(place) else { return false };
    let at = told.get(place).copied().unwrap_or(0);
    let told_of = |run: RunId| bundle.runs().iter().zip(told).find(|(history, _)| history.run == run).map(|(history, told)| (history, *told));
    if at == 0 {
        let parent = file::parent(history).and_then(|parent| Some((parent, told_of(parent.run)?)));
        return parent.is_some_and(|(parent, (_, told))| usize::try_from(parent.seq.0).is_ok_and(|seq| told <= seq));
    }
    match history.events.get(at).map(|stored| &stored.event.body) {
        Some(EventBody::Inbound(Inbound::ChildClosed { of, .. })) => bundle.runs().iter().zip(told).any(|(child, told)| {
            let ours = file::parent(child).is_some_and(|parent| parent.run == history.run && parent.seq == *of);
            ours && *told < child.events.len()
        }),
        Some(EventBody::Inbound(_) | EventBody::Command(_)) | None => false,
    }
}

fn begins(bundle: &Bundle) -> DateTime<Utc> {
    let firsts = bundle.runs().iter().filter_map(|history| history.events.first());
    firsts.map(|first| first.event.at).min().unwrap_or(DateTime::UNIX_EPOCH)
}

/// How many runs began each other above this one; counts no further than there are runs.
fn depth(bundle: &Bundle, run: RunId) -> usize {
    let mut depth = 0;
    let mut above = bundle.run(run).and_then(file::parent);
    while let Some(history) = above.and_then(|parent| bundle.run(parent.run)) {
        depth += 1;
        if depth >= bundle.runs().len() {
            break;
        }
        above = file::parent(history);
    }
    depth
}
