//! What to ask next: mostly what a worker, an agent or an operator would, sometimes what one would who has slept for too long.

use std::time::Duration;

use chrono::{DateTime, Utc};
use engine::{
    StartRun,
    memory::MemoryStore,
    schedule::{CatchUp, ClockChange, Firing, FiringKind, FiringStart, Missed, Moves, NewSchedule, NextFire, Overlap, ScheduleSpec},
};
use sdk::{Failure, Message, Outcome, RunId, Seq, TaskQueue, WorkerId};
use serde_json::json;
use uuid::Uuid;

use super::{
    ask::{Ask, Attempt},
    book::Book,
    dice::Dice,
    turn,
};

const TTL: Duration = Duration::from_secs(10);
/// What runs are about: few, so that they meet.
pub(super) const ABOUT: [&str; 5] = ["item:a", "item:b", "item:c", "plan:p", "schedule:s"];
pub(super) const QUEUES: [&str; 3] = ["site:a", "site:b", "server"];
pub(super) const SCHEDULES: [&str; 2] = ["nightly", "weekly"];
const WORKERS: usize = 3;

pub(super) async fn ask(dice: &mut Dice, book: &mut Book, memory: &MemoryStore) -> Ask {
    if book.leases == 0 {
        return Ask::OpenLease(WorkerId(Uuid::from_u128(100)), TTL);
    }
    match dice.below(100) {
        0..2 => Ask::OpenLease(WorkerId(Uuid::from_u128(100 + dice.below(WORKERS) as u128)), TTL),
        2..8 => Ask::RenewLease(lease(dice, book), TTL),
        8..9 => Ask::CloseLease(lease(dice, book)),
        9..13 => Ask::ExpireLeases(lease(dice, book)),
        13..18 => Ask::StartRun(start(dice, book)),
        18..24 => Ask::Send(run(dice, book), message(dice)),
        24..34 => Ask::ClaimRuns(lease(dice, book), limit(dice)),
        34..35 => Ask::OwnedRuns(lease(dice, book)),
        35..37 => Ask::ReleaseRuns(lease(dice, book), (0..3).map(|_| run(dice, book)).collect()),
        37..62 => turn::batch(dice, book, memory).await,
        62..63 => Ask::WriterOf(run(dice, book), Seq(dice.below(6) as i32)),
        63..64 => Ask::LoadHistory(run(dice, book)),
        64..66 => Ask::ReadInbox(distinct((0..3).map(|_| run(dice, book)).collect())),
        66..72 => Ask::ClaimTasks(lease(dice, book), QUEUES[..=dice.below(3)].iter().map(|name| TaskQueue::new(*name)).collect(), limit(dice)),
        72..82 => of_task(dice, book, memory),
        82..84 => Ask::FireTimers(limit(dice)),
        84..87 => Ask::GrantLocks(limit(dice)),
        87..89 => Ask::ExpireTasks(limit(dice)),
        89..93 => of_schedule(dice, book, memory).await,
        _ => Ask::Advance(Duration::from_millis(dice.of([250, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 10_001]))),
    }
}

fn distinct(mut runs: Vec<RunId>) -> Vec<RunId> {
    runs.sort_unstable();
    runs.dedup();
    runs
}

fn limit(dice: &mut Dice) -> u32 {
    dice.of([1, 2, 3, 100])
}

/// Mostly the newest one, then those shortly before; now and then one that was never opened.
pub(super) fn lease(dice: &mut Dice, book: &Book) -> usize {
    let before = if dice.percent(60) { 0 } else { dice.below(book.leases.min(4)) };
    if dice.percent(2) { usize::MAX } else { book.leases - 1 - before }
}

pub(super) fn run(dice: &mut Dice, book: &Book) -> RunId {
    let newest = book.runs.len().saturating_sub(6);
    dice.one(&book.runs[newest..]).filter(|_| dice.percent(97)).unwrap_or(RunId(Uuid::from_u128(7)))
}

pub(super) fn start_message(about: &str) -> Message {
    Message::Start { workflow: "case".into(), input: json!({"n": 1}), workflow_id: about.into(), requested_by: "tester".into(), trace: None, parent: None }
}

fn start(dice: &mut Dice, book: &mut Book) -> StartRun {
    let again = dice.one(&book.runs).filter(|_| dice.percent(15));
    let run = again.unwrap_or_else(|| RunId(book.id()));
    StartRun { run, start: start_message(dice.of(ABOUT)) }
}

fn message(dice: &mut Dice) -> Message {
    if dice.percent(20) {
        return Message::Cancel { by: "tester".into(), reason: "a reason".into() };
    }
    Message::Signal { name: "go".into(), key: format!("{}", dice.below(4)), body: json!([dice.below(3)]), by: "tester".into() }
}

pub(super) fn failure(dice: &mut Dice) -> Failure {
    Failure::retryable("broken", format!("failure {}", dice.below(9)))
}

fn of_task(dice: &mut Dice, book: &Book, memory: &MemoryStore) -> Ask {
    let known: Vec<Attempt> = memory.contents().iter().filter_map(attempt).collect();
    let some = Attempt { run: run(dice, book), seq: Seq(1), attempt: 1 };
    let mut of = dice.one(&known).unwrap_or(some);
    if dice.percent(15) {
        of.attempt += dice.of([-1, 1]);
    }
    let output = json!(format!("result {}", dice.below(9)));
    match dice.below(10) {
        0..4 => Ask::CompleteTask(of, Outcome::Completed { output }),
        4..6 => Ask::RetryTask(of, failure(dice), Duration::from_millis(dice.of([0, 500, 1_000, 3_000])), dice.percent(50)),
        6..7 => Ask::BuryTask(of, failure(dice)),
        7..9 => Ask::PulseTask(of, dice.percent(50).then_some(output)),
        _ => Ask::Task(of.run, of.seq),
    }
}

fn attempt(row: &serde_json::Value) -> Option<Attempt> {
    if row.get("row")? != "task" {
        return None;
    }
    let number = |name| row.get(name).and_then(serde_json::Value::as_i64).and_then(|number| i32::try_from(number).ok());
    Some(Attempt { run: serde_json::from_value(row.get("run")?.clone()).ok()?, seq: Seq(number("seq")?), attempt: number("attempt")? })
}

async fn of_schedule(dice: &mut Dice, book: &mut Book, memory: &MemoryStore) -> Ask {
    let name = dice.of(SCHEDULES).to_owned();
    let now = memory.time();
    match dice.below(12) {
        0..2 => Ask::CreateSchedule(new_schedule(dice, name, now)),
        2..3 => Ask::RemoveSchedule(name),
        3..4 => Ask::PauseSchedule(name),
        4..5 => Ask::ResumeSchedule(name),
        5..7 => Ask::Schedules,
        _ => fire(dice, book, memory, name, now).await,
    }
}

fn second(at: DateTime<Utc>, later: i64) -> NextFire {
    let at = DateTime::from_timestamp(at.timestamp() + later, 0).unwrap_or(at);
    NextFire { at, due_at: at }
}

fn new_schedule(dice: &mut Dice, name: String, now: DateTime<Utc>) -> NewSchedule {
    let spec = ScheduleSpec {
        v: ScheduleSpec::FORM,
        cron: "0 * * * *".into(),
        zone: "UTC".into(),
        jitter_ms: 0,
        overlap: dice.of([Overlap::Skip, Overlap::Wait]),
        catch_up: CatchUp::default(),
        clock_change: ClockChange::default(),
        workflow: "case".into(),
        workflow_id: dice.of(ABOUT).into(),
        input: json!(null),
    };
    NewSchedule { name, spec, by: "tester".into(), next: second(now, 3) }
}

async fn fire(dice: &mut Dice, book: &mut Book, memory: &MemoryStore, name: String, now: DateTime<Utc>) -> Ask {
    use engine::schedule::ScheduleStore;
    let known = memory.schedules(Some(&name)).await.unwrap_or_default();
    let next = known.first().map_or(second(now, 0), |schedule| schedule.next);
    let by_hand = dice.percent(20);
    let from = if dice.percent(90) { next.at } else { next.at - chrono::Duration::seconds(1) };
    let moves = (!by_hand).then(|| Moves { version: 0, from, to: second(next.at, dice.of([1, 5, 30])) });
    let overlap = known.first().map_or(Overlap::Skip, |schedule| schedule.spec.overlap);
    let about = known.first().map_or("item:a".to_owned(), |schedule| schedule.spec.workflow_id.clone());
    let begins = dice.percent(80);
    let run = StartRun { run: RunId(book.id()), start: start_message(&about) };
    let start = begins.then(|| FiringStart { at: if by_hand { now } else { next.at }, kind: FiringKind::OnTime, cause: String::new(), overlap, run });
    let missed = Missed { at: next.at - chrono::Duration::seconds(9), until: next.at - chrono::Duration::seconds(2), count: 3, kind: FiringKind::TooLate, cause: "nobody was there".into() };
    let firing = Firing { schedule: name, moves, missed: if dice.percent(30) { vec![missed] } else { vec![] }, start };
    Ask::Fire(firing, dice.percent(10))
}
