//! What an action touches, and in which ways of running a plan it may be carried out.
//!
//! Invariant: in a test nothing touches production unless the plan says for that very action that it is meant for tests.

use std::collections::BTreeSet;

use super::{Performed, Repeats};
use crate::{Check, ItemName, plan::Mode};

/// What an action touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// What users rely on.
    Production,
    /// The copy of an item, on its isolated network.
    Copy,
}

/// Something about an action that a person should know before the plan is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionWarning {
    /// What is so.
    pub what: String,
    /// What it means for production or for the plan.
    pub means: String,
    /// What to do.
    pub next: String,
}

/// What an action that belongs to `item` touches in a mode.
///
/// In a test the guest of a copy, and a script or a check that belongs to an item, stay in the network of that item's copy. The rest
/// can't be confined.
#[must_use]
pub fn reach(action: &Performed, mode: Mode, item: Option<&ItemName>) -> Reach {
    let confined = match action {
        Performed::Guest(_) => true,
        Performed::Ssh(_) | Performed::Check(_) => item.is_some(),
        Performed::Http(_) | Performed::Command(_) | Performed::Dns(_) => false,
    };
    if mode == Mode::Test && confined { Reach::Copy } else { Reach::Production }
}

/// Whether an action may be carried out in a mode. `on` is what the plan says for it; `None` says nothing and means every mode,
/// but for tests only what touches nothing but copies.
#[must_use]
pub fn may_run(action: &Performed, mode: Mode, on: Option<&BTreeSet<Mode>>, item: Option<&ItemName>) -> bool {
    match on {
        Some(on) => on.contains(&mode),
        None => mode != Mode::Test || reach(action, mode, item) == Reach::Copy,
    }
}

/// What a person should know about an action of a plan.
#[must_use]
pub fn warnings(action: &Performed, on: Option<&BTreeSet<Mode>>, item: Option<&ItemName>) -> Vec<ActionWarning> {
    let mut found = vec![];
    let in_production = reach(action, Mode::Test, item) == Reach::Production;
    match on {
        Some(on) if in_production && on.contains(&Mode::Test) => found.push(ActionWarning {
            what: format!("{} ({action}) is carried out in tests and can't be confined to a copy", action.kind()),
            means: "Each test of this plan touches production by it.".to_owned(),
            next: "Take `test` out of its `on`, unless it is meant for tests alone.".to_owned(),
        }),
        None if in_production => found.push(ActionWarning {
            what: format!("{} ({action}) is left out of tests: it can't be confined to a copy", action.kind()),
            means: "Tests of this plan do not show whether it works.".to_owned(),
            next: "Say `on: [planned, unplanned, failback]` to make that plain, or `on: [test, …]` if it harms nothing in a test.".to_owned(),
        }),
        Some(_) | None => {}
    }
    if on.is_some_and(BTreeSet::is_empty) {
        found.push(ActionWarning {
            what: format!("{} ({action}) is carried out in no mode", action.kind()),
            means: "It never happens.".to_owned(),
            next: "Name modes in `on`, or remove the action.".to_owned(),
        });
    }
    if item.is_none() && matches!(action, Performed::Check(wait) if matches!(wait.check, Check::Guest { .. })) {
        found.push(ActionWarning {
            what: format!("{action} is asked in no machine: the check belongs to no item"),
            means: "It fails each time.".to_owned(),
            next: "Let it belong to the item whose guest is meant.".to_owned(),
        });
    }
    if action.repeats() == Repeats::Never {
        found.push(ActionWarning {
            what: format!("{} ({action}) is done at most once", action.kind()),
            means: "If an agent dies in the middle of it, its outcome is unknown and the plan treats it as failed.".to_owned(),
            next: "Say `repeatable: true` if doing it again is harmless.".to_owned(),
        });
    }
    found
}
