//! Plans of schedules that were left alone for a while.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

use chrono::TimeDelta;

use super::*;
use crate::schedule::{CatchUp, ClockChange, Overlap, Pause, Schedule, ScheduleSpec};

fn at(text: &str) -> DateTime<Utc> {
    format!("2027-{text}:00Z").parse().unwrap()
}

/// A schedule at the hours of the day that was due at `next`, found at `now`.
fn found(now: &str, next: &str, change: impl FnOnce(&mut Schedule)) -> Due {
    let spec = ScheduleSpec {
        v: 1,
        cron: "0 * * * *".to_owned(),
        zone: "UTC".to_owned(),
        jitter_ms: 0,
        overlap: Overlap::Wait,
        catch_up: CatchUp { within_ms: 2 * 3_600_000, which: CatchUpRuns::Last },
        clock_change: ClockChange::default(),
        workflow: "w".to_owned(),
        workflow_id: "w:1".to_owned(),
        input: serde_json::Value::Null,
    };
    let next = NextFire { at: at(next), due_at: at(next) };
    let mut schedule =
        Schedule { name: "s".to_owned(), version: 1, spec, next, created_by: "me".to_owned(), created_at: next.at, pause: None, open_run: None };
    change(&mut schedule);
    Due { schedule, now: at(now), free_since: None }
}

/// Missed with cause, started with cause, and where it goes on.
fn told(due: &Due) -> Vec<String> {
    let plan = due.plan().unwrap();
    let clock = |at: DateTime<Utc>| at.format("%dT%H:%M").to_string();
    let mut lines: Vec<String> = plan.missed.iter().map(|row| format!("{} x{} {:?}: {}", clock(row.at), row.count, row.kind, row.cause)).collect();
    lines.extend(plan.start.map(|(time, why)| format!("{} starts: {}", clock(time.at), why.unwrap_or_default())));
    lines.push(format!("next {}", clock(plan.next.at)));
    lines
}

#[test]
fn a_time_that_is_found_within_a_minute_is_on_time() {
    for which in [CatchUpRuns::Last, CatchUpRuns::All, CatchUpRuns::None] {
        let mut due = found("03-01T10:00", "03-01T10:00", |schedule| schedule.spec.catch_up.which = which);
        due.now += TimeDelta::seconds(59);
        assert_eq!(told(&due), ["01T10:00 starts: ", "next 01T11:00"]);
    }
}

#[test]
fn after_an_outage_the_last_time_within_the_window_is_made_up_for() {
    let expected = [
        "01T06:00 x1 TooLate: nobody was there to start it within 2h; found at 2027-03-01 10:30 UTC",
        "01T07:00 x1 TooLate: nobody was there to start it within 2h; found at 2027-03-01 10:30 UTC",
        "01T08:00 x1 TooLate: nobody was there to start it within 2h; found at 2027-03-01 10:30 UTC",
        "01T09:00 x1 Replaced: a later time took its place: 2027-03-01 10:00 UTC",
        "01T10:00 starts: started 30m late: nobody was there at its time",
        "next 01T11:00",
    ];
    assert_eq!(told(&found("03-01T10:30", "03-01T06:00", |_| {})), expected);
}

#[test]
fn all_times_within_the_window_are_made_up_for_one_after_the_other() {
    let all = |schedule: &mut Schedule| schedule.spec.catch_up.which = CatchUpRuns::All;
    let first = [
        "01T08:00 x1 TooLate: nobody was there to start it within 2h; found at 2027-03-01 10:30 UTC",
        "01T09:00 starts: started 1h 30m late: nobody was there at its time",
        "next 01T10:00",
    ];
    assert_eq!(told(&found("03-01T10:30", "03-01T08:00", all)), first);
    assert_eq!(told(&found("03-01T10:30", "03-01T10:00", all)), ["01T10:00 starts: started 30m late: nobody was there at its time", "next 01T11:00"]);
}

#[test]
fn without_catching_up_what_is_late_is_missed() {
    let due = found("03-01T10:30", "03-01T10:00", |schedule| schedule.spec.catch_up.which = CatchUpRuns::None);
    assert_eq!(told(&due), ["01T10:00 x1 TooLate: nobody was there to start it within 1m; found at 2027-03-01 10:30 UTC", "next 01T11:00"]);
}

#[test]
fn a_time_that_waited_for_the_run_before_is_not_late_because_of_it() {
    let mut due = found("03-01T20:30", "03-01T10:00", |_| {});
    due.free_since = Some(due.now);
    let lines = told(&due);
    assert_eq!(lines[0], "01T10:00 x1 Replaced: a later time took its place: 2027-03-01 20:00 UTC");
    assert_eq!(lines[lines.len() - 2..], ["01T20:00 starts: ", "next 01T21:00"]);
    due.schedule.spec.overlap = Overlap::Skip;
    assert!(told(&due)[0].contains("TooLate"), "who does not wait was not there");
}

#[test]
fn what_comes_in_a_pause_is_missed_because_of_it() {
    let pause = |until| Pause { from: at("03-01T07:30"), until, by: "ann".to_owned(), reason: "storage move".to_owned() };
    let expected = ["01T08:00 x1 Paused: ann paused the schedule at 2027-03-01 07:30 UTC: storage move", "next 01T09:00"];
    assert_eq!(told(&found("03-01T08:00", "03-01T08:00", |schedule| schedule.pause = Some(pause(None)))), expected);
    let over = found("03-01T10:30", "03-01T08:00", |schedule| schedule.pause = Some(pause(Some(at("03-01T09:30")))));
    let expected = [
        "01T08:00 x1 Paused: ann paused the schedule at 2027-03-01 07:30 UTC: storage move",
        "01T09:00 x1 Paused: ann paused the schedule at 2027-03-01 07:30 UTC: storage move",
        "01T10:00 starts: started 30m late: nobody was there at its time",
        "next 01T11:00",
    ];
    assert_eq!(told(&over), expected);
    let open = found("03-01T08:00", "03-01T07:00", |schedule| schedule.pause = Some(pause(None)));
    assert_eq!(open.plan().unwrap().start, None, "nothing starts in a pause, not even what was due before it");
}

#[test]
fn a_long_outage_is_a_bounded_plan() {
    let minutes = |schedule: &mut Schedule| {
        schedule.spec.cron = "* * * * *".to_owned();
        schedule.spec.catch_up.within_ms = 7 * 86_400_000;
    };
    let first = found("12-01T00:00", "03-01T00:00", minutes);
    let expected = ["01T00:00 x20000 TooLate: nobody was there to start it within 7d; found at 2027-12-01 00:00 UTC", "next 14T21:20"];
    assert_eq!(told(&first), expected);
    let last = told(&found("03-14T21:20", "03-01T00:00", minutes));
    let expected = [
        "01T00:00 x9920 TooLate: nobody was there to start it within 7d; found at 2027-03-14 21:20 UTC",
        "07T21:20 x10080 Replaced: a later time took its place: 2027-03-14 21:20 UTC",
        "next 14T21:20",
    ];
    assert_eq!(last, expected);
    assert_eq!(told(&found("03-14T21:20", "03-14T21:20", minutes)), ["14T21:20 starts: ", "next 14T21:21"]);
}

#[test]
fn a_time_that_is_no_longer_in_the_calendar_is_left_behind() {
    let due = found("03-01T10:20", "03-01T10:15", |_| {});
    assert_eq!(told(&due), ["next 01T11:00"], "zones change their minds");
}

#[test]
fn jitter_puts_the_start_off_and_not_the_time() {
    let due = found("03-01T10:00", "03-01T09:00", |schedule| {
        schedule.spec.cron = "0 9 * * *".to_owned();
        schedule.spec.jitter_ms = 3_600_000;
    });
    let (time, _) = due.plan().unwrap().start.unwrap();
    assert_eq!(time.at, at("03-01T09:00"));
    assert!(time.due_at > time.at);
}
