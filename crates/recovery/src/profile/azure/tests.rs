//! The mapping is whole, and `STATES.md` is what it says.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

use std::{collections::BTreeSet, fmt::Write};

use super::*;
use crate::{Direction, ItemState, allowed_operations, profile::Profile, state::every_state};

/// The full list of Microsoft's newer provider, without the names that mark ranges.
const THEIRS: [&str; 37] = [
    "EnablingProtection",
    "EnablingFailed",
    "DisablingProtection",
    "MarkedForDeletion",
    "DisablingFailed",
    "InitialReplicationInProgress",
    "InitialReplicationCompletedOnPrimary",
    "InitialReplicationCompletedOnRecovery",
    "InitialReplicationFailed",
    "Protected",
    "PlannedFailoverInitiated",
    "PlannedFailoverCompleting",
    "PlannedFailoverCompleted",
    "PlannedFailoverFailed",
    "PlannedFailoverCompletionFailed",
    "UnplannedFailoverInitiated",
    "UnplannedFailoverCompleting",
    "UnplannedFailoverCompleted",
    "UnplannedFailoverFailed",
    "UnplannedFailoverCompletionFailed",
    "CommitFailoverInProgressOnPrimary",
    "CommitFailoverInProgressOnRecovery",
    "CommitFailoverCompleted",
    "CommitFailoverFailedOnPrimary",
    "CommitFailoverFailedOnRecovery",
    "CancelFailoverInProgressOnPrimary",
    "CancelFailoverInProgressOnRecovery",
    "CancelFailoverFailedOnPrimary",
    "CancelFailoverFailedOnRecovery",
    "ChangeRecoveryPointInitiated",
    "ChangeRecoveryPointCompleted",
    "ChangeRecoveryPointFailed",
    "ReprotectInitiated",
    "ReprotectFailed",
    "Primary",
    "Recovery",
    "UnprotectedStatesBegin",
];
const TESTS: [TestFailover; 5] = [TestFailover::None, TestFailover::Running, TestFailover::Ready, TestFailover::Cleaning, TestFailover::Failed];
const RESYNCS: [Resync; 3] = [Resync::None, Resync::Needed, Resync::Running];

#[test]
fn each_of_their_names_is_one_of_our_states_and_none_is_made_up() {
    let mut ours: BTreeSet<&str> = every_state().into_iter().flat_map(protection_states).copied().collect();
    ours.extend([Side::Primary, Side::Recovery].map(active_location));
    assert_eq!(ours, BTreeSet::from(THEIRS));
    let tests: BTreeSet<&str> = TESTS.into_iter().flat_map(test_failover_states).copied().collect();
    assert_eq!(tests.len(), 9);
    let resyncs: BTreeSet<&str> = RESYNCS.into_iter().flat_map(resynchronization_states).copied().collect();
    assert_eq!(resyncs, BTreeSet::from(["None", "Initiated", "Completed", "Failed"]));
}

#[test]
fn the_table_of_states_is_what_the_code_says() {
    let table = table();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/STATES.md");
    if std::env::var_os("UPDATE_STATES").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == table, "STATES.md is not what the code says; look at the difference and accept it with UPDATE_STATES=1\n{table}");
}

fn words(operations: &[Operation]) -> String {
    if operations.is_empty() { "none".to_owned() } else { operations.iter().map(|operation| operation.as_str()).collect::<Vec<_>>().join(", ") }
}

fn in_words(main: MainState) -> String {
    let MainState::FailingOver { kind, retreat: Retreat::Closed } = main else { return main.to_string() };
    format!("{} (powered on)", MainState::FailingOver { kind, retreat: Retreat::Open })
}

fn table() -> String {
    let mut text = HEAD.to_owned();
    for main in every_state() {
        writeln!(text, "| {} | {} |", in_words(main), or_none(protection_states(main))).unwrap();
    }
    text += "\n## Test failover, beside the main state\n\n| ours | theirs (`TestFailoverState`) |\n|---|---|\n";
    for test in TESTS {
        writeln!(text, "| {} | {} |", format!("{test:?}").to_lowercase(), test_failover_states(test).join(", ")).unwrap();
    }
    text += "\n## Resync, beside the main state\n\n| ours | theirs (`ResynchronizationState`) |\n|---|---|\n";
    for resync in RESYNCS {
        writeln!(text, "| {} | {} |", format!("{resync:?}").to_lowercase(), resynchronization_states(resync).join(", ")).unwrap();
    }
    for profile in Profile::ALL {
        write!(text, "\n## Allowed operations: `{profile}`\n\n| state | replicated forward | replicated in reverse |\n|---|---|---|\n").unwrap();
        for main in every_state() {
            let in_direction = |active, direction| allowed_operations(&ItemState { main, active, direction, ..ItemState::new() }, profile);
            let (forward, reverse) = (in_direction(Side::Primary, Direction::Forward), in_direction(Side::Recovery, Direction::Reverse));
            writeln!(text, "| {} | {} | {} |", in_words(main), words(&forward), words(&reverse)).unwrap();
        }
    }
    text + FOOT
}

fn or_none(names: &[&str]) -> String {
    if names.is_empty() { "none of theirs".to_owned() } else { names.join(", ") }
}

const HEAD: &str = "# States of an item

Written from the code by `UPDATE_STATES=1 cargo nextest run -p switchback-recovery`; never by hand, and a test compares.

## Main state, in the words of Azure Site Recovery

Where ours stands for several of theirs, the first is the closest.

| ours | theirs |
|---|---|
";

const FOOT: &str = "
`active` is theirs `activeLocation`: Primary or Recovery. While a test failover exists there is no second one, and it can be cleaned; while both
sides are compared there is no second comparison. Under `vmware`, `hyperv` and `physical` a comparison is allowed where one is needed. While a point
is held there is neither commit nor unprotect.
";
