//! The cases of this model, and the variants of which one rule is left out.

use super::{Broken, Faults, Tail};
use crate::case::{Look, Protocol, Size, Variant, look};

const NO: Faults = Faults { restarts: 0, promotions: 0, restores: 0, copies: 0, silences: 0, crashes: 0, expiries: 0, timeouts: 0 };
const COPIED: Faults = Faults { copies: 1, ..NO };
const PROMOTED: Faults = Faults { promotions: 1, ..COPIED };

/// A copy is taken at any moment.
const fn tail(workers: u8, signal: bool, faults: Faults) -> Tail {
    Tail { workers, begun: false, signal, faults, broken: &[] }
}

/// There is a copy that knows of the run, and of nothing else.
const fn begun(workers: u8, signal: bool, faults: Faults) -> Tail {
    Tail { workers, begun: true, signal, faults, broken: &[] }
}

const SILENT: Tail = begun(1, true, Faults { promotions: 1, silences: 1, ..NO });
const TWICE: Tail = begun(1, true, Faults { promotions: 2, ..NO });
const TWO_WORKERS: Tail = begun(2, false, Faults { promotions: 1, ..NO });

/// The protocol in cases, with the number of states of each.
pub(crate) fn protocols() -> Vec<Protocol> {
    let cases = [
        ("a restart; a crash, an expiry", Size::Each, 118_427, tail(1, false, Faults { restarts: 1, crashes: 1, expiries: 1, ..NO })),
        ("a promotion; a crash, a late attempt", Size::Each, 68_060, begun(1, false, Faults { promotions: 1, crashes: 1, timeouts: 1, ..NO })),
        ("a promotion; two workers", Size::Each, 34_194, TWO_WORKERS),
        ("a promotion; a signal, somebody silent", Size::Each, 240_030, SILENT),
        ("a restored copy; a crash", Size::Each, 12_541, begun(1, false, Faults { restores: 1, crashes: 1, ..NO })),
        ("two promotions of one copy; a signal", Size::Each, 508_022, TWICE),
        ("a promotion at any moment; a late attempt", Size::Usual, 195_313, tail(1, false, Faults { timeouts: 1, ..PROMOTED })),
        ("a promotion at any moment; a crash", Size::Usual, 394_655, tail(1, false, Faults { crashes: 1, ..PROMOTED })),
        ("a promotion at any moment; a signal", Size::Usual, 563_974, tail(1, true, PROMOTED)),
        ("a promotion at any moment; two workers", Size::Usual, 998_180, tail(2, false, PROMOTED)),
        ("a copy restored after its promotion", Size::Usual, 1_185_340, tail(1, false, Faults { restores: 1, ..PROMOTED })),
        ("a promotion at any moment; a signal, somebody silent", Size::Full, 4_190_087, tail(1, true, Faults { silences: 1, ..PROMOTED })),
    ];
    cases.into_iter().map(|(name, size, states, tail)| Protocol { part: "tail", name: name.to_owned(), size, states, look: look(tail) }).collect()
}

const VARIANTS: [(&str, &[Broken]); 18] = [
    ("server-unasked", &[Broken::ServerUnasked]),
    ("era-first", &[Broken::EraFirst]),
    ("era-kept", &[Broken::EraKept]),
    ("era-unheard", &[Broken::EraUnheard]),
    ("leases-kept", &[Broken::LeasesKept]),
    ("held-claimed", &[Broken::HeldClaimed]),
    ("held-tasks-claimed", &[Broken::HeldTasksClaimed]),
    ("owner-kept", &[Broken::OwnerKept]),
    ("untestified-claims", &[Broken::UntestifiedClaims]),
    ("late-answers", &[Broken::LateAnswers]),
    ("noted-late", &[Broken::NotedLate]),
    ("lengths-only", &[Broken::LengthsOnly]),
    ("places-only", &[Broken::PlacesOnly]),
    ("probe-shows-nothing", &[Broken::ProbeShowsNothing]),
    ("effects-forgotten", &[Broken::EffectsForgotten]),
    (EPOCH_BELOW, &[Broken::EpochBelow]),
    ("messages-forgotten", &[Broken::MessagesForgotten]),
    ("runs-forgotten", &[Broken::RunsForgotten]),
];

/// Wherever an attempt is found that is not known, the era grows, which is compared before.
const EPOCH_BELOW: &str = "epoch-below";

pub(crate) fn variants() -> Vec<Variant> {
    let variant = |(name, broken): (&'static str, &'static [Broken])| {
        let looks: Vec<Look> = probes().into_iter().map(|tail| look(Tail { broken, ..tail })).collect();
        Variant { part: "tail", name, second_line: name == EPOCH_BELOW, looks }
    };
    VARIANTS.into_iter().map(variant).collect()
}

fn probes() -> Vec<Tail> {
    vec![begun(1, false, Faults { promotions: 1, crashes: 1, ..NO }), tail(1, false, PROMOTED), TWO_WORKERS, SILENT, TWICE]
}
