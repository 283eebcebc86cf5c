//! The store in memory against the one on Postgres, which are asked the same: some dozen worlds, and each in which they once differed.
//!
//! 60 worlds of 150 questions take about 15 s of two processors; `cargo xtask model --against-postgres --seeds 2000` looks at more.

use switchback_model::compare_all;

const SEEDS: u64 = 60;
/// What must have happened at least once, or the comparison would prove less than it says.
const ANSWERS: [&str; 22] = [
    "BuryTask done",
    "ClaimRuns done",
    "ClaimRuns fenced",
    "ClaimTasks done",
    "CloseLease done",
    "CommitTurns done",
    "CommitTurns fenced",
    "CommitTurns none of them",
    "CommitTurns stale",
    "CommitTurns taken",
    "CommitTurns bad",
    "CompleteTask done",
    "CompleteTask nothing",
    "ExpireLeases done",
    "ExpireTasks done",
    "Fire done",
    "FireTimers done",
    "GrantLocks done",
    "OwnedRuns done",
    "PulseTask done",
    "RetryTask done",
    "Send nothing",
];

#[test]
fn memory_and_postgres_answer_and_keep_the_same() {
    let compared = compare_all(1..SEEDS + 1, |difference| println!("{difference}")).expect("there is a runtime and a cluster");
    assert_eq!(compared.differences.len(), 0, "the two stores differ; what was asked is above");
    let missing: Vec<&str> = ANSWERS.into_iter().filter(|kind| !compared.answers.contains_key(*kind)).collect();
    assert_eq!(missing, Vec::<&str>::new(), "never happened");
}
