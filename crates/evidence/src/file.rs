//! The file: a JSON document that is laid out a record a line, so that a changed byte is found by its line.
//!
//! ```text
//!   [
//!   {"file":{"v":1,"product":"switchback","build":…,"about":…,"stated":…}},
//!   {"run":{"run":…,"workflow":…,"workflow_id":…,"parent":…,"events":…,"head":…}},
//!   {"event":{"seq":0,"hash":…,"text":…}},            the exact bytes that are hashed, as a string
//!   …
//!   {"report":{…}},                                    if it is a report
//!   {"signature":{"statement":…,"key":…,"value":…}}
//!   ]
//! ```
//!
//! Invariants: 1. There is one form: a line that is not, byte for byte, what writing its record again gives is refused. So there are
//! no unknown or doubled fields, no blanks, nothing behind the end. 2. A file of a newer version is refused before it is read.

use std::fmt;

use sdk::{History, Inbound, Parent, RunId, Seq};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Bundle, Report,
    bundle::started,
    signing::{Head, Signature, SigningKey, Statement, sha256},
};

const OPENS: &str = "[";
const CLOSES: &str = "]";

/// What a file is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the format.
    pub v: u32,
    /// Always `switchback`.
    pub product: String,
    /// Version of the product that wrote it.
    pub build: String,
    /// The run that was asked for; the others belong to it.
    pub about: RunId,
    /// What somebody said.
    pub stated: Stated,
}

/// What is no part of the histories, but was said by whoever asked for the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stated {
    /// How long a recovery may take.
    pub rto_target_ms: Option<u64>,
    /// How much may be lost.
    pub rpo_target_ms: Option<u64>,
    /// SHA-256 of the file of the report before this one.
    pub previous_sha256: Option<String>,
}

/// A run's line: said again from its events, for those who read the file by eye.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunLine {
    pub(crate) run: RunId,
    pub(crate) workflow: String,
    pub(crate) workflow_id: String,
    pub(crate) parent: Option<Parent>,
    pub(crate) events: usize,
    pub(crate) head: String,
}

/// An event's line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EventLine {
    pub(crate) seq: Seq,
    pub(crate) hash: String,
    pub(crate) text: String,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    File(Header),
    Run(RunLine),
    Event(EventLine),
    /// As a value, so that a report of another version of its format is read as it was written.
    Report(Value),
    Signature(Box<Signature>),
}

/// A line as it was found.
#[derive(Clone, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) place: Place,
    pub(crate) record: Record,
    pub(crate) text: &'a str,
}

/// What a line of a file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "part", rename_all = "snake_case")]
pub enum Part {
    /// A bracket, or something that is no record.
    Frame,
    /// The header.
    Header,
    /// What is said about a run before its events.
    Run {
        /// Which.
        run: Option<RunId>,
    },
    /// An event.
    Event {
        /// Of which run.
        run: Option<RunId>,
        /// Which.
        seq: Seq,
    },
    /// The report.
    Report {
        /// Which of its fields, as a path; nothing where that can't be told.
        field: String,
    },
    /// The signature.
    Signature,
    /// The page around the records, of a report in HTML.
    Page,
}

/// Where in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// What it holds.
    pub what: Part,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What does not fit, for people.
    pub why: String,
}

impl Header {
    /// The format that this build writes.
    pub const VERSION: u32 = 1;
    /// Who wrote it.
    pub const PRODUCT: &'static str = "switchback";
}

/// By whom a history says that its run was begun.
pub(crate) fn parent(history: &History) -> Option<Parent> {
    match started(history) {
        Some(Inbound::RunStarted { parent, .. }) => *parent,
        Some(_) | None => None,
    }
}

/// What is said about a run.
pub(crate) fn run_line(history: &History) -> RunLine {
    let (workflow, workflow_id) = match started(history) {
        Some(Inbound::RunStarted { workflow, workflow_id, .. }) => (workflow.clone(), workflow_id.clone()),
        Some(_) | None => (String::new(), String::new()),
    };
    RunLine { run: history.run, workflow, workflow_id, parent: parent(history), events: history.events.len(), head: history.head().to_string() }
}

/// Writes a file. `page` is the digest of the page that will carry it.
pub(crate) fn write(bundle: &Bundle, report: Option<&Report>, page: Option<String>, key: &SigningKey) -> String {
    let mut lines = vec![line(&Record::File(bundle.header.clone()))];
    let header = sha256(lines[0].as_bytes());
    let mut runs = Vec::new();
    for history in &bundle.runs {
        let said = run_line(history);
        runs.push(Head { run: said.run, events: said.events, head: said.head.clone() });
        lines.push(line(&Record::Run(said)));
        lines.extend(history.events.iter().map(|stored| {
            let text = String::from_utf8_lossy(&stored.bytes).into_owned();
            line(&Record::Event(EventLine { seq: stored.event.seq, hash: stored.hash.to_string(), text }))
        }));
    }
    let report = report.map(|report| line(&Record::Report(serde_json::to_value(report).unwrap_or_default())));
    let statement = Statement { v: Statement::VERSION, header, runs, report: report.as_ref().map(|report| sha256(report.as_bytes())), page };
    lines.extend(report);
    lines.push(line(&Record::Signature(Box::new(key.sign(statement)))));
    format!("{OPENS}\n{}\n{CLOSES}\n", lines.join(",\n"))
}

fn line(record: &Record) -> String {
    serde_json::to_string(record).unwrap_or_default()
}

/// Reads a file's lines, each in the one form that it has.
///
/// # Errors
/// The first that is not.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Found<'_>>, Fault> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return Err(not_text(bytes, error.valid_up_to())),
    };
    let frame = |line: usize, why: &str| Fault { place: Place { line, what: Part::Frame }, why: why.to_owned() };
    let mut lines: Vec<&str> = text.split('\n').collect();
    let ends = lines.pop().unwrap_or_default();
    let count = lines.len();
    if !ends.is_empty() {
        return Err(frame(count + 1, "the file does not end with the line of its last bracket"));
    }
    if lines.first() != Some(&OPENS) {
        return Err(frame(1, "here stands something else than ["));
    }
    if lines.last() != Some(&CLOSES) {
        // Empty lines at the end are what became of the bracket.
        let written = lines.iter().rposition(|line| !line.is_empty()).map_or(1, |at| at + 1);
        return Err(frame((written + 1).min(count), "here stands something else than ]"));
    }
    let mut found: Vec<Found<'_>> = Vec::new();
    for (at, written) in lines.iter().enumerate().take(count - 1).skip(1) {
        found.push(record(at + 1, written, at + 2 == count, found.last())?);
    }
    Ok(found)
}

fn not_text(bytes: &[u8], upto: usize) -> Fault {
    let before = bytes.get(..upto).unwrap_or_default();
    let begins = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let known = before.get(..begins).unwrap_or_default();
    let last = std::str::from_utf8(known).ok().and_then(|text| {
        let lines: Vec<&str> = text.lines().skip(1).collect();
        lines.iter().enumerate().try_fold(None, |last, (at, written)| record(at + 2, written, false, last.as_ref()).ok().map(Some)).flatten()
    });
    let start = String::from_utf8_lossy(before.get(begins..).unwrap_or_default());
    Fault { place: Place { line, what: part_of(&start, last.as_ref()) }, why: "there are bytes that are no text".into() }
}

/// Reads one line, which has a comma behind it unless it is the last.
fn record<'a>(number: usize, written: &'a str, last: bool, before: Option<&Found<'_>>) -> Result<Found<'a>, Fault> {
    let guessed = || Place { line: number, what: part_of(written, before) };
    let text = match (written.strip_suffix(','), last) {
        (Some(text), false) => text,
        (None, true) => written,
        (Some(_), true) | (None, false) => return Err(Fault { place: guessed(), why: "the comma between records is missing or too much".into() }),
    };
    if let Some(version) = newer(text) {
        let why = format!("the file is of format {version}, this build reads {}; use a newer switchback", Header::VERSION);
        return Err(Fault { place: guessed(), why });
    }
    let record: Record = serde_json::from_str(text).map_err(|error| Fault { place: guessed(), why: format!("the record can't be read: {error}") })?;
    if line(&record) != text {
        return Err(Fault { place: guessed(), why: "the record is not in the form in which it is written".into() });
    }
    let what = match (&record, before.and_then(|before| of_run(&before.place.what))) {
        (Record::Event(event), run) => Part::Event { run, seq: event.seq },
        (Record::Run(said), _) => Part::Run { run: Some(said.run) },
        (Record::File(_), _) => Part::Header,
        (Record::Report(_), _) => Part::Report { field: String::new() },
        (Record::Signature(_), _) => Part::Signature,
    };
    Ok(Found { place: Place { line: number, what }, record, text })
}

/// The version of a header that is newer than this build.
fn newer(text: &str) -> Option<u64> {
    if !text.starts_with("{\"file\":") {
        return None;
    }
    let read: Value = serde_json::from_str(text).ok()?;
    read["file"]["v"].as_u64().filter(|version| *version > u64::from(Header::VERSION))
}

/// What a line that can't be read was meant to hold, by how it begins and what stands before it.
fn part_of(written: &str, before: Option<&Found<'_>>) -> Part {
    let run = before.and_then(|before| of_run(&before.place.what));
    let next = match before.map(|before| &before.place.what) {
        Some(Part::Event { seq, .. }) => seq.next(),
        Some(_) | None => Seq(0),
    };
    let begins = |name: &str| written.starts_with(&format!("{{\"{name}\":"));
    match () {
        () if begins("event") => Part::Event { run, seq: next },
        () if begins("run") => Part::Run { run: None },
        () if begins("file") => Part::Header,
        () if begins("report") => Part::Report { field: String::new() },
        () if begins("signature") => Part::Signature,
        () => Part::Frame,
    }
}

fn of_run(part: &Part) -> Option<RunId> {
    match part {
        Part::Run { run } | Part::Event { run, .. } => *run,
        Part::Frame | Part::Header | Part::Report { .. } | Part::Signature | Part::Page => None,
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.what {
            Part::Frame => f.write_str("no record that is known"),
            Part::Header => f.write_str("the header"),
            Part::Run { run: Some(run) } => write!(f, "what is said about run {run}"),
            Part::Run { run: None } => f.write_str("what is said about a run"),
            Part::Event { run: Some(run), seq } => write!(f, "event {seq} of run {run}"),
            Part::Event { run: None, seq } => write!(f, "event {seq}"),
            Part::Report { field } if field.is_empty() => f.write_str("the report"),
            Part::Report { field } => write!(f, "the report's {field}"),
            Part::Signature => f.write_str("the signature"),
            Part::Page => f.write_str("the page"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}
