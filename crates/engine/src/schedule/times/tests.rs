//! Calendars around changes of the clock, by hand and against every minute of the days around them.

#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

use chrono::{NaiveDate, Offset};
use proptest::prelude::*;

use super::*;
use crate::schedule::{CatchUp, Overlap};

const ZONES: [&str; 8] =
    ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kolkata", "Africa/Casablanca", "Antarctica/Troll", "America/Santiago"];

fn spec(cron: &str, zone: &str, clock_change: ClockChange) -> ScheduleSpec {
    ScheduleSpec {
        v: 1,
        cron: cron.to_owned(),
        zone: zone.to_owned(),
        jitter_ms: 0,
        overlap: Overlap::Skip,
        catch_up: CatchUp::default(),
        clock_change,
        workflow: "w".to_owned(),
        workflow_id: "w:1".to_owned(),
        input: serde_json::Value::Null,
    }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn next(cron: &str, zone: &str, after: &str, count: usize, clock_change: ClockChange) -> Vec<String> {
    let times = fire_times("s", &spec(cron, zone, clock_change), at(after), count).unwrap();
    times.into_iter().map(|time| format!("{} {}", time.at.format("%m-%dT%H:%MZ"), time.local)).collect()
}

const RUN_FIRST: ClockChange = ClockChange { missing: Missing::RunAfter, repeated: Repeated::First };
const SKIP_SECOND: ClockChange = ClockChange { missing: Missing::Skip, repeated: Repeated::Second };
const SKIP_BOTH: ClockChange = ClockChange { missing: Missing::Skip, repeated: Repeated::Both };

#[test]
fn a_time_that_berlin_leaves_out_fires_at_the_change_or_not_on_that_day() {
    let after = "2027-03-26T12:00:00Z";
    let moved = ["03-27T01:30Z Sat 2027-03-27 02:30 +01:00", "03-28T01:00Z Sun 2027-03-28 03:00 +02:00", "03-29T00:30Z Mon 2027-03-29 02:30 +02:00"];
    assert_eq!(next("30 2 * * *", "Europe/Berlin", after, 3, RUN_FIRST), moved);
    let skipped = ["03-27T01:30Z Sat 2027-03-27 02:30 +01:00", "03-29T00:30Z Mon 2027-03-29 02:30 +02:00"];
    assert_eq!(next("30 2 * * *", "Europe/Berlin", after, 2, SKIP_SECOND), skipped);
}

#[test]
fn a_time_that_berlin_has_twice_fires_at_the_first_the_second_or_both() {
    let after = "2027-10-30T12:00:00Z";
    let first = ["10-31T00:30Z Sun 2027-10-31 02:30 +02:00", "11-01T01:30Z Mon 2027-11-01 02:30 +01:00"];
    assert_eq!(next("30 2 * * *", "Europe/Berlin", after, 2, RUN_FIRST), first);
    let second = ["10-31T01:30Z Sun 2027-10-31 02:30 +01:00", "11-01T01:30Z Mon 2027-11-01 02:30 +01:00"];
    assert_eq!(next("30 2 * * *", "Europe/Berlin", after, 2, SKIP_SECOND), second);
    assert_eq!(next("30 2 * * *", "Europe/Berlin", after, 2, SKIP_BOTH), [first[0], second[0]]);
}

#[test]
fn new_york_changes_at_other_days_and_hours() {
    let moved = ["03-13T07:30Z Sat 2027-03-13 02:30 -05:00", "03-14T07:00Z Sun 2027-03-14 03:00 -04:00", "03-15T06:30Z Mon 2027-03-15 02:30 -04:00"];
    assert_eq!(next("30 2 * * *", "America/New_York", "2027-03-12T12:00:00Z", 3, RUN_FIRST), moved);
    let both = ["11-07T05:30Z Sun 2027-11-07 01:30 -04:00", "11-07T06:30Z Sun 2027-11-07 01:30 -05:00", "11-08T06:30Z Mon 2027-11-08 01:30 -05:00"];
    assert_eq!(next("30 1 * * *", "America/New_York", "2027-11-06T12:00:00Z", 3, SKIP_BOTH), both);
    assert_eq!(next("30 1 * * *", "America/New_York", "2027-11-06T12:00:00Z", 2, SKIP_SECOND), both[1..]);
    assert_eq!(next("30 1 * * *", "America/New_York", "2027-11-06T12:00:00Z", 2, RUN_FIRST), [both[0], both[2]]);
}

#[test]
fn lord_howe_moves_its_clock_by_half_an_hour() {
    let moved = ["10-02T15:30Z Sun 2027-10-03 02:30 +11:00", "10-03T15:15Z Mon 2027-10-04 02:15 +11:00"];
    assert_eq!(next("15 2 * * *", "Australia/Lord_Howe", "2027-10-02T00:00:00Z", 2, RUN_FIRST), moved);
    assert_eq!(next("15 2 * * *", "Australia/Lord_Howe", "2027-10-02T00:00:00Z", 1, SKIP_SECOND), moved[1..]);
    let both = ["04-03T14:45Z Sun 2027-04-04 01:45 +11:00", "04-03T15:15Z Sun 2027-04-04 01:45 +10:30", "04-04T15:15Z Mon 2027-04-05 01:45 +10:30"];
    assert_eq!(next("45 1 * * *", "Australia/Lord_Howe", "2027-04-03T00:00:00Z", 3, SKIP_BOTH), both);
    assert_eq!(next("45 1 * * *", "Australia/Lord_Howe", "2027-04-03T00:00:00Z", 2, RUN_FIRST), [both[0], both[2]]);
    assert_eq!(next("45 1 * * *", "Australia/Lord_Howe", "2027-04-03T00:00:00Z", 2, SKIP_SECOND), both[1..]);
}

#[test]
fn quarters_of_a_repeated_hour_come_in_order_of_time() {
    let times = next("*/30 2 * * *", "Europe/Berlin", "2027-10-30T12:00:00Z", 5, SKIP_BOTH);
    let expected = [
        "10-31T00:00Z Sun 2027-10-31 02:00 +02:00",
        "10-31T00:30Z Sun 2027-10-31 02:30 +02:00",
        "10-31T01:00Z Sun 2027-10-31 02:00 +01:00",
        "10-31T01:30Z Sun 2027-10-31 02:30 +01:00",
        "11-01T01:00Z Mon 2027-11-01 02:00 +01:00",
    ];
    assert_eq!(times, expected);
    assert_eq!(next("*/30 2 * * *", "Europe/Berlin", "2027-10-31T00:30:00Z", 1, SKIP_BOTH), [expected[2]], "from between the two");
}

#[test]
fn what_is_moved_to_the_change_and_what_is_due_then_fire_once() {
    let times = next("0 * * * *", "Europe/Berlin", "2027-03-28T00:00:00Z", 2, RUN_FIRST);
    assert_eq!(times, ["03-28T01:00Z Sun 2027-03-28 03:00 +02:00", "03-28T02:00Z Sun 2027-03-28 04:00 +02:00"]);
    let plain = fire_times("s", &spec("0 * * * *", "Europe/Berlin", RUN_FIRST), at("2027-03-28T00:00:00Z"), 1).unwrap();
    assert_eq!(plain[0].note(), None);
}

#[test]
fn a_time_says_what_the_clock_did_to_it() {
    let note = |cron: &str, after: &str| fire_times("s", &spec(cron, "Europe/Berlin", RUN_FIRST), at(after), 1).unwrap()[0].note();
    assert_eq!(note("30 2 * * *", "2027-03-27T12:00:00Z").unwrap(), "the clock leaves out 02:30 on that day; this is the moment of the change");
    assert_eq!(note("30 2 * * *", "2027-10-30T12:00:00Z").unwrap(), "the clock shows this time twice on that day; this is the first");
}

#[test]
fn a_schedule_that_can_not_be_kept_is_refused_with_the_reason() {
    let refused = |cron: &str, zone: &str| fire_times("s", &spec(cron, zone, RUN_FIRST), at("2027-01-01T00:00:00Z"), 1).unwrap_err().to_string();
    assert_eq!(refused("0 0 30 2 *", "UTC"), "\"0 0 30 2 *\" never fires: no year has such a day");
    assert_eq!(refused("0 0 * * *", "Europe/Berlinn"), "\"Europe/Berlinn\" is no time zone of the IANA database, such as Europe/Berlin");
    for cron in ["", "daily", "0 0 * *", "61 0 * * *", "0 0 0 * * *", "TZ=UTC 0 0 * * *", "0 0 * * * 2027 *"] {
        assert!(refused(cron, "UTC").contains("is not five fields"), "{cron}: {}", refused(cron, "UTC"));
    }
    let with = |change: fn(&mut ScheduleSpec)| {
        let mut spec = spec("0 0 * * *", "UTC", RUN_FIRST);
        change(&mut spec);
        spec.timetable("s").unwrap_err().to_string()
    };
    assert_eq!(with(|spec| spec.jitter_ms = 86_400_001), "a jitter of 86400001 ms is more than a day");
    assert_eq!(with(|spec| spec.catch_up.within_ms = 604_800_001), "a catch-up window of 604800001 ms is more than seven days");
    assert_eq!(with(|spec| spec.v = 2), "the schedule is written in form 2; this build reads form 1");
    let all = with(|spec| spec.catch_up.which = crate::schedule::CatchUpRuns::All);
    assert_eq!(all, "catching up on all runs needs the overlap `wait`: with `skip` the second would be missed because the first is open");
}

#[test]
fn jitter_is_the_same_everywhere_and_never_reaches_the_next_time() {
    let mut with_jitter = spec("*/5 * * * *", "UTC", RUN_FIRST);
    with_jitter.jitter_ms = 3_600_000;
    let times = |name: &str| fire_times(name, &with_jitter, at("2027-01-01T00:00:00Z"), 50).unwrap();
    assert_eq!(times("a"), times("a"));
    assert_ne!(times("a"), times("b"), "another schedule has another jitter");
    let late: Vec<i64> = times("a").iter().map(|time| (time.due_at - time.at).num_seconds()).collect();
    assert!(late.iter().all(|seconds| (0..300).contains(seconds)), "{late:?}");
    assert!(late.iter().any(|seconds| *seconds > 150) && late.iter().any(|seconds| *seconds < 150), "{late:?}");
}

#[test]
fn a_leap_day_is_found_from_far_away() {
    assert_eq!(next("0 12 29 2 *", "UTC", "2097-01-01T00:00:00Z", 1, RUN_FIRST), ["02-29T12:00Z Fri 2104-02-29 12:00 +00:00"]);
}

fn changes() -> impl Strategy<Value = ClockChange> {
    let missing = prop_oneof![Just(Missing::RunAfter), Just(Missing::Skip)];
    let repeated = prop_oneof![Just(Repeated::First), Just(Repeated::Second), Just(Repeated::Both)];
    (missing, repeated).prop_map(|(missing, repeated)| ClockChange { missing, repeated })
}

fn crons() -> impl Strategy<Value = String> {
    let hour = prop_oneof![Just("*".to_owned()), (0..5_u8).prop_map(|hour| hour.to_string()), Just("1-3".to_owned())];
    let minute = prop_oneof![(0..60_u8).prop_map(|minute| minute.to_string()), Just("*/15".to_owned()), Just("0,30".to_owned())];
    (minute, hour).prop_map(|(minute, hour)| format!("{minute} {hour} * * *"))
}

proptest! {
    /// Against the minutes of the window themselves, each shown by the zone's clock.
    #[test]
    fn every_time_of_day_that_exists_once_fires_exactly_once(cron in crons(), zone in 0..ZONES.len(), clock_change in changes(), day in 0..730_i64) {
        let zone_name = ZONES[zone];
        let from = NaiveDate::from_ymd_opt(2027, 1, 1).unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc() + TimeDelta::days(day);
        let until = from + TimeDelta::days(3);
        let spec = spec(&cron, zone_name, clock_change);
        let table = spec.timetable("s").unwrap();
        let fired: Vec<FireTime> = table.after(from).take_while(|time| time.at <= until).collect();
        prop_assert!(fired.windows(2).all(|pair| pair[0].at < pair[1].at), "{fired:?}");
        let tz: Tz = zone_name.parse().unwrap();
        for minute in 1..=(until - from).num_minutes() {
            let at = from + TimeDelta::minutes(minute);
            let wall = at.with_timezone(&tz).naive_local();
            let matches = table.cron.is_time_matching(&wall).unwrap();
            let here = fired.iter().find(|time| time.at == at);
            let expected = match tz.from_local_datetime(&wall) {
                LocalResult::Ambiguous(one, other) => match clock_change.repeated {
                    Repeated::First => matches && at == one.min(other),
                    Repeated::Second => matches && at == one.max(other),
                    Repeated::Both => matches,
                },
                LocalResult::Single(_) | LocalResult::None => matches,
            };
            let moved = here.is_some_and(|time| matches!(time.clock, Clock::Missing { .. }));
            prop_assert!(here.is_some() == (expected || moved), "{cron} {zone_name} {clock_change:?} at {at} ({wall}): {here:?}");
            let offset = |at: DateTime<Utc>| tz.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc();
            let forward = offset(at - TimeDelta::minutes(1)) < offset(at);
            prop_assert!(!moved || clock_change.missing == Missing::RunAfter && forward, "{cron} {zone_name} at {at}");
        }
        prop_assert_eq!(fired.iter().filter(|time| time.at.timestamp() % 60 != 0).count(), 0);
    }

    /// Resuming from any of its own answers gives the rest of them.
    #[test]
    fn it_goes_on_from_each_time_as_if_it_had_never_stopped(cron in crons(), zone in 0..ZONES.len(), clock_change in changes(), day in 0..730_i64) {
        let from = NaiveDate::from_ymd_opt(2027, 1, 1).unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc() + TimeDelta::days(day);
        let table = spec(&cron, ZONES[zone], clock_change).timetable("s").unwrap();
        let all: Vec<FireTime> = table.after(from).take(12).collect();
        for (place, time) in all.iter().enumerate() {
            let rest: Vec<FireTime> = table.after(time.at).take(11 - place).collect();
            prop_assert_eq!(&rest, &all[place + 1..]);
        }
    }
}
