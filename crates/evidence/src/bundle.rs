//! Histories that belong together: a run with those that it began and those that it was begun by.
//!
//! Invariants: 1. Each history is whole: from its start, its chain checked. 2. Their order is that of a tree, a run before what it
//! began, and of equal histories it is equal.

use std::collections::BTreeMap;

use sdk::{EventBody, History, Inbound, RunId};

use crate::{
    file::{self, Header, Stated},
    report::{self, Report},
    signing::{SigningKey, sha256},
};

/// Most events in one file: some hundred bytes to some kilobytes each, and they are all held in memory on both sides.
pub const MOST_EVENTS: usize = 200_000;

/// Histories, and what was said when they were put together.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    pub(crate) header: Header,
    pub(crate) runs: Vec<History>,
}

/// Why histories can't be put together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBundle {
    /// There is none.
    #[error("there is no history of run {0}")]
    Missing(RunId),
    /// A history says nothing yet.
    #[error("run {0} has recorded nothing yet; its first turn is still to be taken")]
    Empty(RunId),
    /// A run is there twice.
    #[error("run {0} is given twice")]
    Twice(RunId),
    /// More than a file may hold.
    #[error("these runs have {events} events, a file holds at most {MOST_EVENTS}; take a part of them")]
    TooMany {
        /// How many there are.
        events: usize,
    },
}

impl Bundle {
    /// Puts the histories around run `about` together; they come in any order. `build` is the version of the product.
    ///
    /// # Errors
    /// [`InvalidBundle`].
    pub fn new(build: &str, about: RunId, stated: Stated, histories: Vec<History>) -> Result<Self, InvalidBundle> {
        let events = histories.iter().map(|history| history.events.len()).sum();
        if events > MOST_EVENTS {
            return Err(InvalidBundle::TooMany { events });
        }
        let mut by_run = BTreeMap::new();
        for history in histories {
            let run = history.run;
            if started(&history).is_none() {
                return Err(InvalidBundle::Empty(run));
            }
            if by_run.insert(run, history).is_some() {
                return Err(InvalidBundle::Twice(run));
            }
        }
        if !by_run.contains_key(&about) {
            return Err(InvalidBundle::Missing(about));
        }
        let header = Header { v: Header::VERSION, product: Header::PRODUCT.into(), build: build.into(), about, stated };
        Ok(Self { header, runs: in_order(by_run) })
    }

    /// The run that was asked for.
    #[must_use]
    pub fn about(&self) -> RunId {
        self.header.about
    }

    /// Version of the product that wrote it.
    #[must_use]
    pub fn build(&self) -> &str {
        &self.header.build
    }

    /// What somebody said beside the histories.
    #[must_use]
    pub fn stated(&self) -> &Stated {
        &self.header.stated
    }

    /// The histories, in their order.
    #[must_use]
    pub fn runs(&self) -> &[History] {
        &self.runs
    }

    /// One history.
    #[must_use]
    pub fn run(&self, run: RunId) -> Option<&History> {
        self.runs.iter().find(|history| history.run == run)
    }

    /// What these histories show.
    #[must_use]
    pub fn report(&self) -> Report {
        report::of(self)
    }

    /// The file: histories alone, signed.
    #[must_use]
    pub fn exported(&self, key: &SigningKey) -> String {
        file::write(self, None, None, key)
    }

    /// The file: histories with the report on them, signed.
    #[must_use]
    pub fn reported(&self, key: &SigningKey) -> String {
        self.reported_as(&self.report(), key)
    }

    /// The same with a report of the caller's; whoever verifies it derives his own.
    #[must_use]
    pub fn reported_as(&self, report: &Report, key: &SigningKey) -> String {
        file::write(self, Some(report), None, key)
    }

    /// The same as one HTML page, which carries the file.
    #[must_use]
    pub fn reported_as_page(&self, key: &SigningKey) -> String {
        let report = self.report();
        let frame = report::html::frame(&report, key.public());
        let file = file::write(self, Some(&report), Some(sha256(frame.as_bytes())), key);
        report::html::page(&frame, &file)
    }
}

/// What a run was started with.
pub(crate) fn started(history: &History) -> Option<&Inbound> {
    match history.events.first().map(|first| &first.event.body) {
        Some(EventBody::Inbound(inbound @ Inbound::RunStarted { .. })) => Some(inbound),
        Some(EventBody::Inbound(_) | EventBody::Command(_)) | None => None,
    }
}

/// A run before what it began; those that nobody here began by time.
fn in_order(mut by_run: BTreeMap<RunId, History>) -> Vec<History> {
    let mut begun: BTreeMap<Option<RunId>, Vec<(i64, RunId)>> = BTreeMap::new();
    for (run, history) in &by_run {
        let parent = file::parent(history).filter(|parent| by_run.contains_key(&parent.run));
        let place = match parent {
            Some(parent) => i64::from(parent.seq.0),
            None => history.events.first().map_or(0, |first| first.event.at.timestamp_micros()),
        };
        begun.entry(parent.map(|parent| parent.run)).or_default().push((place, *run));
    }
    begun.values_mut().for_each(|children| children.sort_unstable_by(|a, b| b.cmp(a)));
    let mut waiting = begun.remove(&None).unwrap_or_default();
    let mut ordered = Vec::new();
    while let Some((_, run)) = waiting.pop() {
        ordered.extend(by_run.remove(&run));
        waiting.extend(begun.remove(&Some(run)).unwrap_or_default());
    }
    // Runs that began each other in a circle are no tree; nobody's engine makes them, and none is dropped.
    ordered.extend(by_run.into_values());
    ordered
}
