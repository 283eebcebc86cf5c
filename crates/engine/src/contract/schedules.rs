//! Schedules: due, fired once, missed with a cause.
#![expect(clippy::unwrap_used, reason = "a case panics where its sentence does not hold")]

use std::time::Duration;

use chrono::{DateTime, Utc};
use sdk::RunId;
use serde_json::json;
use uuid::Uuid;

use super::{StoreLab, scenes::*};
use crate::{
    LeaseStore, RunStore, StartRun, Step, Store,
    schedule::{
        CatchUp, ClockChange, Due, Fired, Firing, FiringKind, FiringStart, Missed, Moves, NewSchedule, NextFire, Overlap, Recorded, Schedule, ScheduleSpec,
        ScheduleStore, Scheduler,
    },
};

const HOUR: Duration = Duration::from_secs(3600);

fn spec(overlap: Overlap) -> ScheduleSpec {
    ScheduleSpec {
        v: ScheduleSpec::FORM,
        cron: "0 * * * *".into(),
        zone: "Europe/Berlin".into(),
        jitter_ms: 0,
        overlap,
        catch_up: CatchUp::default(),
        clock_change: ClockChange::default(),
        workflow: "case".into(),
        workflow_id: "about:a".into(),
        input: json!({"n": 1}),
    }
}

/// The full hour that comes `hours` after the store's time.
async fn hour(store: &impl Store, hours: i64) -> NextFire {
    let seconds = (store.now().await.unwrap().timestamp() / 3600 + hours) * 3600;
    let at = DateTime::from_timestamp(seconds, 0).unwrap();
    NextFire { at, due_at: at }
}

/// A schedule whose first time has come.
async fn due(lab: &impl StoreLab, overlap: Overlap) -> Due {
    let store = lab.store();
    let new = NewSchedule { name: "nightly".into(), spec: spec(overlap), by: "tester".into(), next: hour(store.as_ref(), 1).await };
    assert!(store.create_schedule(&new).await.unwrap());
    lab.advance(HOUR).await;
    only(store.due_schedules(9).await.unwrap())
}

fn only<T>(mut all: Vec<T>) -> T {
    assert_eq!(all.len(), 1);
    all.pop().unwrap()
}

fn start(schedule: &Schedule, at: DateTime<Utc>, kind: FiringKind, overlap: Overlap) -> FiringStart {
    let start = schedule.start_message("schedule:nightly".into(), None);
    FiringStart { at, kind, cause: String::new(), overlap, run: StartRun { run: new_run(), start } }
}

async fn firing(store: &impl Store, due: &Due) -> Firing {
    let schedule = &due.schedule;
    let moves = Moves { version: schedule.version, from: schedule.next.at, to: hour(store, 1).await };
    let start = start(schedule, schedule.next.at, FiringKind::OnTime, schedule.spec.overlap);
    Firing { schedule: schedule.name.clone(), moves: Some(moves), missed: vec![], start: Some(start) }
}

fn kinds(recorded: &[Recorded]) -> Vec<(FiringKind, Option<RunId>)> {
    recorded.iter().map(|row| (row.kind, row.run)).collect()
}

pub(super) async fn a_name_is_kept_once_and_forgotten_without_what_it_fired(lab: &impl StoreLab) {
    let store = lab.store();
    let due = due(lab, Overlap::Skip).await;
    let again = NewSchedule { name: "nightly".into(), spec: spec(Overlap::Wait), by: "other".into(), next: due.schedule.next };
    assert!(!store.create_schedule(&again).await.unwrap());
    let kept = only(store.schedules(None).await.unwrap());
    assert_eq!((&kept.spec, kept.created_by.as_str(), kept.pause.clone(), kept.open_run), (&spec(Overlap::Skip), "tester", None, None));
    assert_eq!(store.schedules(Some("nightly")).await.unwrap(), std::slice::from_ref(&kept));
    assert_eq!(store.schedules(Some("other")).await.unwrap(), []);
    store.fire(&firing(store.as_ref(), &due).await).await.unwrap();
    assert!(store.remove_schedule("nightly").await.unwrap());
    assert!(!store.remove_schedule("nightly").await.unwrap());
    assert_eq!(store.schedules(None).await.unwrap(), []);
    assert_eq!(store.firings("nightly", 9).await.unwrap().len(), 1);
    assert!(store.create_schedule(&again).await.unwrap());
    assert!(only(store.schedules(None).await.unwrap()).version > kept.version, "no two schedules ever have the same version");
}

pub(super) async fn a_firing_starts_one_run_and_moves_on(lab: &impl StoreLab) {
    let store = lab.store();
    let due = due(lab, Overlap::Skip).await;
    let firing = firing(store.as_ref(), &due).await;
    let run = firing.start.as_ref().unwrap().run.run;
    assert_eq!(store.fire(&firing).await.unwrap(), Fired::Started(run));
    assert_eq!(store.fire(&firing).await.unwrap(), Fired::Taken);
    assert_eq!(inbox_keys(store.as_ref(), run).await, ["start"]);
    assert_eq!(store.due_schedules(9).await.unwrap(), []);
    let kept = only(store.schedules(None).await.unwrap());
    assert_eq!((kept.next, kept.open_run), (firing.moves.unwrap().to, Some(run)));
    let expected = Recorded {
        at: due.schedule.next.at,
        until: due.schedule.next.at,
        count: 1,
        kind: FiringKind::OnTime,
        cause: String::new(),
        run: Some(run),
        recorded_at: store.firings("nightly", 9).await.unwrap()[0].recorded_at,
    };
    assert_eq!(store.firings("nightly", 9).await.unwrap(), [expected]);
}

pub(super) async fn a_firing_of_a_stale_belief_changes_nothing(lab: &impl StoreLab) {
    let store = lab.store();
    let due = due(lab, Overlap::Skip).await;
    let firing = firing(store.as_ref(), &due).await;
    let mut other_time = firing.clone();
    other_time.moves.as_mut().unwrap().from += HOUR;
    assert_eq!(store.fire(&other_time).await.unwrap(), Fired::Taken);
    assert!(store.pause_schedule("nightly", "tester", "holidays").await.unwrap());
    assert_eq!(store.fire(&firing).await.unwrap(), Fired::Taken, "it was paused in between");
    store.remove_schedule("nightly").await.unwrap();
    assert_eq!(store.fire(&firing).await.unwrap(), Fired::Taken, "it is gone");
    assert_eq!(store.firings("nightly", 9).await.unwrap(), []);
    let lease = store.open_lease(worker(), TTL).await.unwrap();
    assert_eq!(store.claim_runs(lease, 9).await.unwrap().len(), 0, "no run was started");
}

/// A worker that has the run of the first firing, and the next firing.
async fn open_run(lab: &impl StoreLab, overlap: Overlap) -> (Hand, Firing) {
    let store = lab.store();
    let first = due(lab, overlap).await;
    let firing = firing(store.as_ref(), &first).await;
    store.fire(&firing).await.unwrap();
    let lease = store.open_lease(worker(), HOUR * 9).await.unwrap();
    let hand = Hand::new(lease, only(store.claim_runs(lease, 9).await.unwrap()));
    lab.advance(HOUR).await;
    let moves = Moves { version: first.schedule.version, from: firing.moves.unwrap().to.at, to: hour(store.as_ref(), 1).await };
    let start = start(&first.schedule, moves.from, FiringKind::OnTime, overlap);
    (hand, Firing { schedule: "nightly".into(), moves: Some(moves), missed: vec![], start: Some(start) })
}

pub(super) async fn a_time_is_missed_while_the_run_before_is_open(lab: &impl StoreLab) {
    let store = lab.store();
    let (hand, second) = open_run(lab, Overlap::Skip).await;
    let open = hand.claimed.run;
    assert_eq!(only(store.due_schedules(9).await.unwrap()).schedule.open_run, Some(open));
    assert_eq!(store.fire(&second).await.unwrap(), Fired::Skipped(open));
    let recorded = store.firings("nightly", 9).await.unwrap();
    assert_eq!(kinds(&recorded), [(FiringKind::Overlap, Some(open)), (FiringKind::OnTime, Some(open))]);
    assert_eq!(recorded[0].cause, format!("run {open} of about:a was still open"));
    assert_eq!(store.due_schedules(9).await.unwrap(), []);
}

pub(super) async fn a_time_that_waits_is_due_when_the_run_before_has_ended(lab: &impl StoreLab) {
    let store = lab.store();
    let (mut hand, second) = open_run(lab, Overlap::Wait).await;
    assert_eq!(store.due_schedules(9).await.unwrap(), []);
    assert_eq!(store.fire(&second).await.unwrap(), Fired::Waits(hand.claimed.run));
    assert_eq!(store.firings("nightly", 9).await.unwrap().len(), 1);
    lab.advance(Duration::from_secs(600)).await;
    let mut write = hand.turn(start_message("about:a"), vec![]);
    write.close = completed();
    store.commit_turns(hand.lease, &[write]).await.unwrap();
    let due = only(store.due_schedules(9).await.unwrap());
    assert!(due.now - due.free_since.unwrap() < chrono::TimeDelta::seconds(60), "it could not have been started earlier");
    assert_eq!(store.fire(&second).await.unwrap(), Fired::Started(second.start.unwrap().run.run));
}

pub(super) async fn what_was_missed_is_recorded_with_its_cause(lab: &impl StoreLab) {
    let store = lab.store();
    let due = due(lab, Overlap::Skip).await;
    let at = due.schedule.next.at;
    let missed = vec![
        Missed { at, until: at + HOUR * 2, count: 3, kind: FiringKind::TooLate, cause: "nobody was there".into() },
        Missed { at: at + HOUR * 3, until: at + HOUR * 3, count: 1, kind: FiringKind::Replaced, cause: "a later time".into() },
    ];
    let firing = Firing { missed: missed.clone(), start: None, ..firing(store.as_ref(), &due).await };
    assert_eq!(store.fire(&firing).await.unwrap(), Fired::Recorded);
    let recorded = store.firings("nightly", 9).await.unwrap();
    let seen: Vec<Missed> =
        recorded.iter().rev().map(|row| Missed { at: row.at, until: row.until, count: row.count, kind: row.kind, cause: row.cause.clone() }).collect();
    assert_eq!(seen, missed);
    assert_eq!(store.firings("nightly", 1).await.unwrap(), recorded[..1]);
}

pub(super) async fn a_pause_is_kept_with_who_and_why(lab: &impl StoreLab) {
    let store = lab.store();
    let before = due(lab, Overlap::Skip).await.schedule;
    assert!(!store.resume_schedule("nightly").await.unwrap(), "it is not paused");
    assert!(store.pause_schedule("nightly", "tester", "holidays").await.unwrap());
    assert!(!store.pause_schedule("nightly", "other", "again").await.unwrap());
    assert!(!store.pause_schedule("weekly", "tester", "holidays").await.unwrap());
    let paused = only(store.due_schedules(9).await.unwrap()).schedule;
    let pause = paused.paused().unwrap().clone();
    assert_eq!((pause.by.as_str(), pause.reason.as_str(), pause.until), ("tester", "holidays", None));
    assert!(paused.version > before.version);
    lab.advance(HOUR).await;
    assert!(store.resume_schedule("nightly").await.unwrap());
    assert!(!store.resume_schedule("nightly").await.unwrap());
    let resumed = only(store.schedules(None).await.unwrap());
    let over = resumed.pause.clone().unwrap();
    assert_eq!((over.by, over.from), (pause.by, pause.from));
    assert!(over.until.unwrap() - over.from >= chrono::TimeDelta::hours(1));
    assert!(resumed.paused().is_none() && resumed.version > paused.version);
}

pub(super) async fn a_start_by_hand_moves_nothing(lab: &impl StoreLab) {
    let store = lab.store();
    let due = due(lab, Overlap::Skip).await;
    let at = store.now().await.unwrap();
    let start = start(&due.schedule, at, FiringKind::ByHand, Overlap::Wait);
    let run = start.run.run;
    let by_hand = Firing { schedule: "nightly".into(), moves: None, missed: vec![], start: Some(start) };
    assert_eq!(store.fire(&by_hand).await.unwrap(), Fired::Started(run));
    assert_eq!(only(store.schedules(None).await.unwrap()).next, due.schedule.next);
    assert_eq!(kinds(&store.firings("nightly", 9).await.unwrap()), [(FiringKind::ByHand, Some(run))]);
    let nobody = Firing { schedule: "weekly".into(), ..by_hand };
    assert_eq!(store.fire(&nobody).await.unwrap(), Fired::Taken);
}

pub(super) async fn a_scheduler_starts_each_time_once(lab: &impl StoreLab) {
    let store = lab.store();
    let new = NewSchedule { name: "nightly".into(), spec: spec(Overlap::Skip), by: "tester".into(), next: hour(store.as_ref(), 1).await };
    store.create_schedule(&new).await.unwrap();
    let (mut one, mut other) = (Scheduler::new(store.clone(), Box::new(Uuid::now_v7)), Scheduler::new(store.clone(), Box::new(Uuid::now_v7)));
    assert_eq!(one.step().await.unwrap(), Step::Idle);
    lab.advance(HOUR).await;
    let steps = (one.step().await.unwrap(), other.step().await.unwrap());
    assert_eq!(steps, (Step::Busy, Step::Idle));
    lab.advance(HOUR).await;
    assert_eq!(other.step().await.unwrap(), Step::Busy);
    let recorded = store.firings("nightly", 9).await.unwrap();
    assert_eq!((recorded.len(), recorded[0].kind), (2, FiringKind::Overlap));
    assert!(recorded[1].kind.started(), "on time, or late by the part of an hour that passed at once");
}
