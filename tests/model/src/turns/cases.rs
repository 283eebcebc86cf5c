//! The cases of this model, and the variants of which one rule is left out.

use super::{Broken, Faults, Turns};
use crate::case::{Protocol, Size, Variant, look};

const fn faults([crashes, expiries, losses, timeouts]: [u8; 4]) -> Faults {
    Faults { crashes, expiries, losses, timeouts }
}

const fn turns(runs: u8, activities: u8, counts: [u8; 4], broken: &'static [Broken]) -> Turns {
    Turns { workers: 2, runs, activities, local: false, faults: faults(counts), broken }
}

fn named(turns: &Turns) -> String {
    let Faults { crashes, expiries, losses, timeouts } = turns.faults;
    let kind = if turns.local { "local steps" } else { "activities" };
    let Turns { workers, runs, activities, .. } = turns;
    format!("{workers} workers, {runs} runs, {activities} {kind}; {crashes} crashes, {expiries} expiries, {losses} losses, {timeouts} timeouts")
}

/// The protocol in cases, with the number of states of each: another checker has counted the same.
pub(crate) fn protocols() -> Vec<Protocol> {
    let local = |activities, counts| Turns { local: true, ..turns(1, activities, counts, &[]) };
    let cases = [
        (Size::Each, 2_793, turns(1, 2, [1, 0, 0, 0], &[])),
        (Size::Each, 18_649, turns(2, 1, [0, 0, 1, 0], &[])),
        (Size::Each, 23_686, local(2, [0, 1, 1, 0])),
        (Size::Each, 47_030, turns(1, 2, [0, 1, 1, 0], &[])),
        (Size::Each, 109_985, Turns { workers: 3, ..turns(1, 1, [0, 1, 1, 0], &[]) }),
        (Size::Each, 212_618, local(1, [1, 1, 1, 0])),
        (Size::Each, 219_814, turns(1, 2, [0, 1, 1, 1], &[])),
        (Size::Each, 308_289, turns(1, 1, [0, 2, 1, 0], &[])),
        (Size::Each, 540_636, turns(1, 1, [1, 1, 1, 0], &[])),
        (Size::Usual, 659_358, turns(2, 1, [0, 1, 0, 0], &[])),
        (Size::Usual, 1_768_464, turns(1, 2, [1, 1, 1, 0], &[])),
        (Size::Full, 2_115_544, turns(1, 1, [1, 1, 1, 1], &[])),
        (Size::Full, 13_456_818, turns(2, 1, [0, 1, 1, 0], &[])),
    ];
    cases.into_iter().map(|(size, states, turns)| Protocol { part: "turns", name: named(&turns), size, states, look: look(turns) }).collect()
}

const VARIANTS: [(&str, &[Broken]); 20] = [
    ("no-share-lock", &[Broken::NoShareLock]),
    ("key-share-stale", &[Broken::KeyShareStale]),
    ("fence-by-time", &[Broken::FenceByTime]),
    ("no-delete", &[Broken::NoDelete]),
    ("claim-before-delete", &[Broken::ClaimBeforeDelete]),
    ("no-key", &[Broken::NoKey]),
    ("no-nonce", &[Broken::NoNonce]),
    (DO_NOTHING, &[Broken::DoNothing]),
    ("do-nothing+no-share-lock", &[Broken::DoNothing, Broken::NoShareLock]),
    ("ungated-completion", &[Broken::UngatedCompletion]),
    ("completion-in-two", &[Broken::CompletionInTwo]),
    ("notify-only", &[Broken::NotifyOnly]),
    ("keeps-cache", &[Broken::KeepsCache]),
    ("release-in-flight", &[Broken::ReleaseInFlight]),
    ("only-taker-claims", &[Broken::OnlyTakerClaims]),
    ("interactive-transaction", &[Broken::InteractiveTransaction]),
    ("token-without-place", &[Broken::TokenWithoutPlace]),
    ("outside-unchecked", &[Broken::OutsideUnchecked]),
    ("expiry-refuses", &[Broken::ExpiryRefuses]),
    (LOCAL_TOKEN, &[Broken::LocalTokenWithoutEpoch]),
];
const LOCAL_TOKEN: &str = "local-token-without-epoch";
/// While the fence holds, the key never meets another writer's turn; with turns of unequal length it would tear one.
const DO_NOTHING: &str = "do-nothing";

pub(crate) fn variants() -> Vec<Variant> {
    VARIANTS.iter().map(|(name, broken)| variant(name, broken)).collect()
}

fn variant(name: &'static str, broken: &'static [Broken]) -> Variant {
    let probes = [(1, 2, [1, 0, 0, 0]), (1, 2, [0, 1, 1, 0]), (1, 2, [0, 1, 1, 1]), (1, 1, [1, 1, 1, 0]), (2, 1, [0, 1, 0, 0]), (2, 1, [0, 0, 1, 0])];
    let local = name == LOCAL_TOKEN;
    let looks = probes.into_iter().map(|(runs, activities, counts)| look(Turns { local, ..turns(runs, activities, counts, broken) })).collect();
    Variant { part: "turns", name, second_line: name == DO_NOTHING, looks }
}
