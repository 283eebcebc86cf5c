//! Verifies a file without asking anybody: its form, its signature, every chain, and that its report is what its histories say.
//!
//! ```text
//!   lines ─▶ order ─▶ signature over the statement ─▶ header, runs, chains, report against it ─▶ report derived again
//! ```
//!
//! Invariants: 1. Whatever byte was changed, there is a fault, and the first one names its line (but for the page above the file in
//! HTML that another build wrote: there it is found, but not where). 2. That a signature holds says who
//! signed; whether that one can be trusted says only somebody who has the key from elsewhere. 3. Whoever owns the database and
//! the key can write another history: only what was noted elsewhere before, an anchor, finds that.

use sdk::{Hash, History, Seq};
use serde::Serialize;
use serde_json::Value;

use crate::{
    Bundle, Fault, Header, Part, Place, PublicKey, Report, difference,
    file::{self, EventLine, Found, Record, RunLine},
    report,
    signing::{Head, Signature, sha256},
};

/// Version of this build: reports of others may be derived in other words.
const BUILD: &str = env!("CARGO_PKG_VERSION");

/// A file that holds together.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// Its histories.
    pub bundle: Bundle,
    /// Its report, if it holds one.
    pub report: Option<Value>,
    /// Its signature; it holds.
    pub signature: Signature,
}

/// What is to be said of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What is not as it was written, the most telling first; empty if all of it is.
    pub faults: Vec<Fault>,
    /// Who signed it, if the signature holds.
    pub signed_by: Option<PublicKey>,
    /// Whether that is a key that the verifier knows; nothing if he named none.
    pub key_known: Option<bool>,
    /// Its runs.
    pub runs: Vec<Head>,
    /// Its report, if it holds one.
    pub report: Option<ReportCheck>,
    /// How many of the runs were found among the anchors with the same head; nothing if none were given.
    pub anchored: Option<usize>,
}

/// What is to be said of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum ReportCheck {
    /// Derived again from the histories: the same.
    Derived,
    /// It is as it was signed, but this build derives another one from the histories.
    DerivedOtherwise {
        /// The build that wrote it.
        build: String,
    },
    /// Not what was signed.
    Faulty,
}

impl Verdict {
    /// Whether all that could be checked holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.faults.is_empty() && self.key_known != Some(false)
    }
}

/// Reads a file that holds together: form, chains and signature. The key is not asked after.
///
/// # Errors
/// What does not hold.
pub fn open(bytes: &[u8]) -> Result<Opened, Vec<Fault>> {
    let (opened, faults) = examined(bytes);
    match opened {
        Some(opened) if faults.is_empty() => Ok(opened),
        Some(_) | None => Err(faults),
    }
}

/// Checks a file. `keys` are those that the verifier trusts, `anchors` are heads that were noted elsewhere.
#[must_use]
pub fn verify(bytes: &[u8], keys: Option<&[PublicKey]>, anchors: Option<&[Head]>) -> Verdict {
    let (opened, mut faults) = examined(bytes);
    let Some(opened) = opened else {
        return Verdict { faults, signed_by: None, key_known: None, runs: vec![], report: None, anchored: None };
    };
    let signed_by = opened.signature.holds().then_some(opened.signature.key);
    let runs = opened.bundle.runs.iter();
    let runs = runs.map(|history| Head { run: history.run, events: history.events.len(), head: history.head().to_string() }).collect();
    let anchored = anchors.map(|anchors| against_anchors(&opened.bundle, anchors, &mut faults));
    let key_known = keys.map(|keys| signed_by.is_some_and(|key| keys.contains(&key)));
    let report = opened.report.as_ref().map(|report| match () {
        () if !faults.is_empty() => ReportCheck::Faulty,
        () if opened.bundle.build() == BUILD || serde_json::to_value(opened.bundle.report()).is_ok_and(|derived| derived == *report) => ReportCheck::Derived,
        () => ReportCheck::DerivedOtherwise { build: opened.bundle.build().to_owned() },
    });
    Verdict { faults, signed_by, key_known, runs, report, anchored }
}

/// What could be read, and what does not hold in it.
fn examined(bytes: &[u8]) -> (Option<Opened>, Vec<Fault>) {
    if report::html::is_page(bytes) {
        return of_page(bytes);
    }
    match file::read(bytes) {
        Ok(found) => of_records(&found),
        Err(fault) => (None, vec![fault]),
    }
}

/// A report in HTML carries its file, and its digest is signed with it.
fn of_page(bytes: &[u8]) -> (Option<Opened>, Vec<Fault>) {
    let page = |line: usize, why: &str| Fault { place: Place { line, what: Part::Page }, why: why.to_owned() };
    let carried = match report::html::carried(bytes) {
        Ok(carried) => carried,
        Err((line, why)) => return (None, vec![page(line, why)]),
    };
    let (opened, mut faults) = match file::read(carried.file.as_bytes()) {
        Ok(found) => of_records(&found),
        Err(fault) => (None, vec![fault]),
    };
    for fault in &mut faults {
        fault.place.line += carried.line - 1;
    }
    if let Some(opened) = opened.as_ref().filter(|_| faults.is_empty()) {
        let signed = opened.signature.statement.page == Some(sha256(carried.frame.as_bytes()));
        let report = opened.report.clone().and_then(|report| serde_json::from_value::<Report>(report).ok());
        let written = report.map(|report| report::html::frame(&report, opened.signature.key));
        let same = written.as_deref() == Some(carried.frame);
        if !signed || !same && opened.bundle.build() == BUILD {
            let differs = written.map_or(0, |written| written.bytes().zip(carried.frame.bytes()).take_while(|(a, b)| a == b).count());
            let line = carried.frame.bytes().take(differs).filter(|byte| *byte == b'\n').count() + 1;
            faults.push(page(line, "the page is not what was signed, or does not say what its report says"));
        }
    }
    (opened, faults)
}

fn of_records(found: &[Found<'_>]) -> (Option<Opened>, Vec<Fault>) {
    let sorted = match sorted(found) {
        Ok(sorted) => sorted,
        Err(fault) => return (None, vec![fault]),
    };
    let Sorted { header, runs, report, signature } = &sorted;
    let mut faults = Vec::new();
    let holds = signature.1.holds();
    let statement = holds.then_some(&signature.1.statement);
    if !holds {
        faults.push(fault(signature.0, "it is not this key's over what is stated here"));
    }
    if statement.is_some_and(|statement| statement.header != sha256(header.0.text.as_bytes())) {
        faults.push(fault(header.0, "it is not what was signed"));
    }
    let mut histories = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        let stated = statement.map(|statement| statement.runs.get(at));
        match chained(run, stated) {
            Ok(history) => histories.push(history),
            Err(fault) => faults.push(fault),
        }
    }
    if let Some(missing) = statement.and_then(|statement| statement.runs.get(runs.len())) {
        faults.push(fault(signature.0, &format!("run {} was signed and is missing", missing.run)));
    }
    let unsigned = statement.is_some_and(|statement| statement.report.is_some() != report.is_some());
    if unsigned {
        faults.push(fault(signature.0, "the report was removed, or was not there when the file was signed"));
    }
    let bundle = Bundle { header: header.1.clone(), runs: histories };
    if faults.iter().all(|fault| fault.place.what == Part::Signature)
        && let Some((place, told)) = report
    {
        let signed = statement.and_then(|statement| statement.report.as_ref()).is_some_and(|digest| *digest == sha256(place.text.as_bytes()));
        let differs = derived_again(&bundle, place, told);
        // What another build has derived and signed is left as it is; whoever shows it says so.
        let others = signed && bundle.build() != BUILD;
        match differs {
            Some(differs) if !others => faults.push(differs),
            None if !signed && holds => faults.push(fault(place, "it is not the one that was signed")),
            Some(_) | None => {}
        }
    }
    let report = report.as_ref().map(|(_, report)| (*report).clone());
    (Some(Opened { bundle, report, signature: signature.1.clone() }), faults)
}

/// The records by what they are.
struct Sorted<'a> {
    header: (&'a Found<'a>, &'a Header),
    runs: Vec<Run<'a>>,
    report: Option<(&'a Found<'a>, &'a Value)>,
    signature: (&'a Found<'a>, &'a Signature),
}

struct Run<'a> {
    place: &'a Found<'a>,
    said: &'a RunLine,
    events: Vec<(&'a Found<'a>, &'a EventLine)>,
}

/// One header, runs with their events, at most one report, one signature, in this order.
fn sorted<'a>(found: &'a [Found<'a>]) -> Result<Sorted<'a>, Fault> {
    let (mut header, mut runs, mut report, mut signature) = (None, Vec::<Run<'a>>::new(), None, None);
    for place in found {
        let closed = report.is_some() || signature.is_some();
        let fits = match &place.record {
            Record::File(said) => header.is_none() && header.replace((place, said)).is_none(),
            Record::Run(said) if header.is_some() && !closed => {
                runs.push(Run { place, said, events: vec![] });
                true
            }
            Record::Event(event) if !closed => match runs.last_mut() {
                Some(run) => {
                    run.events.push((place, event));
                    true
                }
                None => false,
            },
            Record::Report(said) if !closed && !runs.is_empty() => report.replace((place, said)).is_none(),
            Record::Signature(said) if signature.is_none() && !runs.is_empty() => signature.replace((place, said.as_ref())).is_none(),
            Record::Run(_) | Record::Event(_) | Record::Report(_) | Record::Signature(_) => false,
        };
        if !fits {
            return Err(fault(place, "it does not belong here: a header, runs with their events, a report, a signature is the order"));
        }
    }
    let end = found.last().map_or(1, |last| last.place.line + 1);
    let missing = |what: &str| Fault { place: Place { line: end, what: Part::Frame }, why: format!("the file ends without {what}") };
    let header = header.ok_or_else(|| missing("a header"))?;
    if header.1.product != Header::PRODUCT {
        return Err(fault(header.0, "it is not a file of switchback"));
    }
    Ok(Sorted { header, runs, report, signature: signature.ok_or_else(|| missing("a signature"))? })
}

/// The history of one run, if its chain holds and ends as it was signed. `stated` is nothing where no signature holds.
fn chained(run: &Run<'_>, stated: Option<Option<&Head>>) -> Result<History, Fault> {
    let said = run.said;
    if let Some(stated) = stated {
        match stated {
            Some(stated) if stated.run == said.run => {}
            Some(stated) => return Err(fault(run.place, &format!("here run {} was signed", stated.run))),
            None => return Err(fault(run.place, "it was not there when the file was signed")),
        }
    }
    let mut history = History::new(said.run);
    for (at, (place, event)) in run.events.iter().enumerate() {
        let seq = Seq(i32::try_from(at).unwrap_or(i32::MAX));
        let broken = |why: &str| Fault { place: Place { line: place.place.line, what: Part::Event { run: Some(said.run), seq } }, why: why.to_owned() };
        if event.seq != seq {
            return Err(broken(&format!("here stands an event {}; one is missing, too much or in another's place", event.seq)));
        }
        let hash = hash(&event.hash).ok_or_else(|| broken("its hash is none"))?;
        history.push_stored(seq, event.text.clone().into_bytes(), hash).map_err(|error| broken(&error.to_string()))?;
    }
    let fitting = file::run_line(&history);
    if fitting != *said {
        let (left, right) = (serde_json::to_value(said).unwrap_or_default(), serde_json::to_value(&fitting).unwrap_or_default());
        let field = difference::first(&left, &right).map(|found| found.path).unwrap_or_default();
        return Err(fault(run.place, &format!("its {field} is not what its events say")));
    }
    match stated.flatten() {
        Some(stated) if stated.head != said.head || stated.events != said.events => {
            let why = format!("its chain holds, but it is not the one that was signed, which had {} events and ended in {}", stated.events, stated.head);
            Err(fault(run.place, &why))
        }
        Some(_) | None => Ok(history),
    }
}

fn derived_again(bundle: &Bundle, place: &Found<'_>, told: &Value) -> Option<Fault> {
    let derived = serde_json::to_value(bundle.report()).unwrap_or_default();
    let found = difference::first(told, &derived)?;
    let why = format!("it says {}, the histories say {}", difference::shown(found.left.as_ref()), difference::shown(found.right.as_ref()));
    Some(Fault { place: Place { line: place.place.line, what: Part::Report { field: found.path } }, why })
}

/// How many runs were noted elsewhere as they are here. One that was noted otherwise was written anew.
fn against_anchors(bundle: &Bundle, anchors: &[Head], faults: &mut Vec<Fault>) -> usize {
    let mut held = 0;
    let mut line = 3; // below the bracket and the header
    for history in &bundle.runs {
        let noted: Vec<&Head> = anchors.iter().filter(|anchor| anchor.run == history.run).collect();
        let other = noted.iter().find(|anchor| head_at(history, anchor.events).map(|head| head.to_string()) != Some(anchor.head.clone()));
        if let Some(other) = other {
            let why = format!(
                "an anchor has it with {} events ending in {}; this chain was written anew after that was noted",
                other.events, other.head
            );
            faults.push(Fault { place: Place { line, what: Part::Run { run: Some(history.run) } }, why });
        } else if !noted.is_empty() {
            held += 1;
        }
        line += 1 + history.events.len();
    }
    held
}

/// The link behind the first `events` events.
fn head_at(history: &History, events: usize) -> Option<Hash> {
    events.checked_sub(1).and_then(|last| history.events.get(last)).map(|stored| stored.hash)
}

fn hash(text: &str) -> Option<Hash> {
    let bytes = hex::decode(text).ok().filter(|bytes| hex::encode(bytes) == text)?;
    bytes.try_into().ok().map(Hash)
}

fn fault(at: &Found<'_>, why: &str) -> Fault {
    Fault { place: at.place.clone(), why: why.to_owned() }
}
