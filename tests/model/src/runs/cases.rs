//! The cases of this model, and the variants of which one rule is left out.

use super::{Broken, Faults, Msg, Parting, Runs, Script};
use crate::case::{Look, Protocol, Size, Variant, look};

const NO: Faults = Faults { expiries: 0, crashes: 0, losses: 0, releases: 0, resends: 0, calls: 0 };
const EXPIRY: Faults = Faults { expiries: 1, ..NO };
const LOSS: Faults = Faults { losses: 1, ..NO };
const LOSS_RELEASE: Faults = Faults { losses: 1, releases: 1, ..NO };

const fn timers(script: &'static [Script], most: usize, faults: Faults) -> Runs {
    Runs { workers: 2, scripts: script, sends: &[(0, Msg::Signal)], most, sweeps: 2, faults, broken: &[] }
}

const fn children(scripts: &'static [Script], sends: &'static [(u8, Msg)], faults: Faults) -> Runs {
    Runs { workers: 2, scripts, sends, most: 9, sweeps: 1, faults, broken: &[] }
}

const fn locks(scripts: &'static [Script], sends: &'static [(u8, Msg)], faults: Faults) -> Runs {
    Runs { workers: 1, scripts, sends, most: 9, sweeps: 2, faults, broken: &[] }
}

const RACE: &[Script] = &[Script::Race];
const FIRST: &[Script] = &[Script::FirstEnds];
const fn parent(parting: Parting, tells: bool, takes: bool) -> Script {
    Script::Parent { parting, tells, takes }
}
const fn child(at_once: bool, tells: bool) -> Script {
    Script::Child { at_once, tells }
}
const AWAITED: &[Script] = &[parent(Parting::Ended, false, false), child(true, true)];
const TAKEN_ALONG: &[Script] = &[parent(Parting::Signalled, true, true), child(false, true)];
const TOLD: &[Script] = &[parent(Parting::Ended, true, true), child(false, false)];
const LEFT: &[Script] = &[parent(Parting::Started, false, false), child(true, true)];
const PARTED: &[Script] = &[parent(Parting::Signalled, false, true), child(true, true)];
const REFUSED: &[Script] = &[parent(Parting::Ended, false, false), child(true, false), Script::Waits];
const BOTH: &[Script] = &[Script::Holds { wants: 3, frees: true }, Script::Holds { wants: 2, frees: false }];
const SAME: &[Script] = &[Script::Holds { wants: 1, frees: false }, Script::Holds { wants: 1, frees: true }];
const CROSSED: &[Script] = &[Script::Holds { wants: 2, frees: false }, Script::Holds { wants: 1, frees: false }, Script::Holds { wants: 3, frees: false }];
const SIGNAL: &[(u8, Msg)] = &[(0, Msg::Signal)];
const STOPPED: &[(u8, Msg)] = &[(0, Msg::Signal), (1, Msg::Cancel)];
const CANCEL_BOTH: &[(u8, Msg)] = &[(1, Msg::Cancel), (1, Msg::Signal), (0, Msg::Cancel)];
const CANCEL_FIRST: &[(u8, Msg)] = &[(0, Msg::Cancel), (0, Msg::Signal)];

/// The protocol in cases, with the number of states of each.
pub(crate) fn protocols() -> Vec<Protocol> {
    let cases = [
        ("timers", "a timer against a signal", Size::Each, 391, timers(RACE, 9, NO)),
        ("timers", "a timer against a signal, one message a turn, an expiry", Size::Each, 9_265, timers(RACE, 1, EXPIRY)),
        ("timers", "whichever is first ends the run; an expiry, a loss", Size::Each, 31_392, timers(FIRST, 9, Faults { losses: 1, ..EXPIRY })),
        ("timers", "whichever is first ends the run; a loss, a release", Size::Each, 5_161, timers(FIRST, 9, LOSS_RELEASE)),
        ("timers", "a timer against a signal; a crash, a release", Size::Each, 22_436, timers(RACE, 9, Faults { crashes: 1, releases: 1, ..NO })),
        ("unequal", "a timer against a signal; a loss, a release", Size::Each, 15_139, timers(RACE, 9, LOSS_RELEASE)),
        ("unequal", "a timer against a signal; two losses, a release, a signal again", Size::Usual, 415_033, timers(RACE, 9, Faults { losses: 2, resends: 1, ..LOSS_RELEASE })),
        ("children", "one that is awaited, and tells its parent; a loss", Size::Each, 4_515, children(AWAITED, &[], LOSS)),
        ("children", "one that is taken along, told words and to stop", Size::Each, 2_981, children(TAKEN_ALONG, SIGNAL, NO)),
        ("children", "one that is told words and to stop; an expiry", Size::Each, 48_437, children(TOLD, SIGNAL, EXPIRY)),
        ("children", "one that is left alone by its parent; a loss", Size::Each, 4_361, children(LEFT, &[], LOSS)),
        ("children", "both end at the same time", Size::Each, 1_435, children(PARTED, SIGNAL, NO)),
        ("children", "one whose workflow id may be taken; an expiry", Size::Each, 57_115, children(REFUSED, &[(2, Msg::Signal)], EXPIRY)),
        ("children", "one whose workflow id is taken for ever; a loss", Size::Each, 4_503, children(REFUSED, &[], LOSS)),
        ("children", "one that is taken along, and told to stop from outside", Size::Each, 11_215, children(TAKEN_ALONG, STOPPED, NO)),
        ("children", "one that is told words and to stop; a crash, a loss", Size::Usual, 954_962, children(TOLD, SIGNAL, Faults { crashes: 1, ..LOSS })),
        ("locks", "two want the same; a crash", Size::Each, 7_402, locks(SAME, &[], Faults { crashes: 1, ..NO })),
        ("locks", "two want the same; a loss", Size::Each, 3_699, locks(SAME, &[], LOSS)),
        ("locks", "two want the same; a cancel, an expiry, a late call", Size::Usual, 239_587, locks(SAME, CANCEL_FIRST, Faults { calls: 1, ..EXPIRY })),
        ("locks", "two want the same; cancels", Size::Each, 76_886, locks(SAME, CANCEL_BOTH, NO)),
        ("locks", "one wants both, the other one of them; a cancel, a late call", Size::Each, 38_281, locks(BOTH, CANCEL_FIRST, Faults { calls: 1, ..NO })),
        ("locks", "three, crosswise", Size::Each, 7_647, locks(CROSSED, &[], NO)),
    ];
    let named = |(part, name, size, states, runs): (&'static str, &str, Size, usize, Runs)| Protocol { part, name: name.to_owned(), size, states, look: look(runs) };
    cases.into_iter().map(named).collect()
}

const VARIANTS: [(&str, &str, &[Broken]); 30] = [
    ("timers", "fire-in-two", &[Broken::FireInTwo]),
    ("timers", "fire-inserts-first", &[Broken::FireInsertsFirst]),
    ("timers", "drop-uncounted", &[Broken::DropUncounted]),
    ("timers", "drops-fired", &[Broken::DropsFired]),
    ("timers", "end-keeps-timers", &[Broken::EndKeepsTimers]),
    ("timers", "inbox-before-timers", &[Broken::InboxFirst]),
    ("timers", "unowned-forgotten", &[Broken::UnownedForgotten]),
    ("timers", "stale-sent-again", &[Broken::StaleSentAgain]),
    ("children", "own-row-first", &[Broken::OwnRowFirst]),
    ("children", "family-unlocked", &[Broken::FamilyUnlocked]),
    ("children", "child-apart", &[Broken::ChildApart]),
    ("children", "conflict-raises", &[Broken::ConflictRaises]),
    ("children", "cancel-raises", &[Broken::CancelRaises]),
    ("children", "send-looks", &[Broken::SendLooks]),
    ("locks", "outside-unchecked-by-grant", &[Broken::OutsideUnchecked]),
    ("locks", "epoch-kept", &[Broken::EpochKept]),
    ("locks", "grant-unchecked", &[Broken::GrantUnchecked]),
    ("locks", "free-first", &[Broken::FreeFirst]),
    ("locks", "newest-first", &[Broken::NewestFirst]),
    ("locks", "rows-by-request", &[Broken::RowsByRequest]),
    ("locks", "end-keeps-locks", &[Broken::EndKeepsLocks]),
    ("locks", "inbox-before-locks", &[Broken::LocksLast]),
    ("unequal", "unequal-do-nothing", &[Broken::DoNothing]),
    ("unequal", "unequal-release-in-flight", &[Broken::ReleaseInFlight]),
    ("unequal", "goes-on-unanswered", &[Broken::GoesOnUnanswered]),
    ("unequal", TWO_IN_FLIGHT, &[Broken::TwoInFlight]),
    ("unequal", HEAD_UNASKED, &[Broken::HeadUnasked]),
    ("unequal", "never-asks", &[Broken::NeverAsks]),
    ("unequal", "fence-looks", &[Broken::FenceLooks]),
    ("unequal", "fence-looks+do-nothing", &[Broken::FenceLooks, Broken::DoNothing]),
];

/// The first turn to be stored wins, by its key, whichever it was.
const TWO_IN_FLIGHT: &str = "two-in-flight";
/// Whoever asks what it owns when it is unsure is never behind its runs.
const HEAD_UNASKED: &str = "head-unasked";

pub(crate) fn variants() -> Vec<Variant> {
    let variant = |(part, name, broken): (&'static str, &'static str, &'static [Broken])| {
        let looks: Vec<Look> = probes(part).into_iter().map(|runs| look(Runs { broken, ..runs })).collect();
        Variant { part, name, second_line: name == TWO_IN_FLIGHT || name == HEAD_UNASKED, looks }
    };
    VARIANTS.into_iter().map(variant).collect()
}

fn probes(part: &str) -> Vec<Runs> {
    match part {
        "timers" => vec![timers(RACE, 9, NO), timers(FIRST, 9, NO), timers(FIRST, 9, LOSS_RELEASE), timers(RACE, 9, LOSS_RELEASE)],
        "children" => vec![
            children(AWAITED, &[], LOSS),
            children(TAKEN_ALONG, SIGNAL, NO),
            children(PARTED, SIGNAL, NO),
            children(TAKEN_ALONG, STOPPED, NO),
            children(REFUSED, &[], NO),
            children(TOLD, SIGNAL, EXPIRY),
        ],
        "locks" => vec![
            locks(CROSSED, &[], NO),
            locks(SAME, CANCEL_BOTH, NO),
            locks(BOTH, CANCEL_FIRST, Faults { calls: 1, ..NO }),
        ],
        _ => vec![timers(FIRST, 9, LOSS_RELEASE), timers(RACE, 9, LOSS_RELEASE), timers(RACE, 9, EXPIRY)],
    }
}
