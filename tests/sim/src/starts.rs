//! What begins by itself: random schedules and random alerts, with schedulers, receivers and wakers that die and pause.
//!
//! ```text
//!   calendars ─▶ schedulers ─▶ runs that are due                senders ─▶ wire ─▶ receivers ─▶ desk ─▶ wakers ─▶ evaluations ─▶ failovers
//! ```
//!
//! Times and plans of schedules, the proof of a delivery's sender, what it says, the judgement and the evaluation are those that ship.
//! The failover that an evaluation starts is a stand-in with a counted effect: what a failover does is for the other kinds.
//!
//! Invariants: 1. A time of a schedule has one row, started or missed, and each started one has one run. 2. An incident is answered once,
//! and a failover's look saw enough sources for long enough. 3. What nobody believed is not there. 4. All ends. 5. Where nobody sets the
//! clock or switches everything off, faults or none, the same failovers are started, and the same times of schedules that make up for all.

mod calendar;
mod desk;
mod evaluations;
mod receiving;
mod senders;
mod work;

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use engine::sim::{Chaos, Rng, Simulation};

use crate::{
    case::{Case, Outcome},
    judge,
    ledger::Ledger,
    starts::{
        calendar::{Calendar, Kept, StartedAt},
        desk::Desk,
        receiving::Wire,
        senders::Stream,
    },
};

/// Far more than any of these takes.
const POLLS: u64 = 6_000_000;
/// Whoever is paused comes back within this, and what is due then is done.
const LATE: TimeDelta = TimeDelta::minutes(10);

/// Something that people or the power do, seconds from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Doing {
    /// Nobody is there for so many seconds.
    Dark(u64),
    /// Somebody pauses the schedule of that place.
    Pause(usize),
    /// Somebody resumes it.
    Resume(usize),
}

/// What happens in a world.
struct Wanted {
    begins: DateTime<Utc>,
    calendars: Vec<Calendar>,
    streams: Vec<Stream>,
    doings: Vec<(u64, Doing)>,
    hours: u64,
}

/// What it has come to.
struct Came {
    started: BTreeSet<StartedAt>,
    failovers: Vec<usize>,
    /// Of each calendar, in the end.
    next: Vec<DateTime<Utc>>,
    outcome: Outcome,
}

pub(crate) fn carried_out(case: &Case) -> Result<Outcome, String> {
    let wanted = wanted(case.seed);
    let calm = came(case, &wanted, false).map_err(|why| format!("without faults: {why}"))?;
    let wild = came(case, &wanted, true)?;
    // One set of times for both: a world that took longer has seen more of them.
    let all = |place: &usize| wanted.calendars[*place].makes_up_for_all(&wanted.doings);
    for place in (0..wanted.calendars.len()).filter(all) {
        let (name, most) = (&wanted.calendars[place].name, calm.next[place].min(wild.next[place]));
        let of = |came: &Came| came.started.iter().filter(|(of, at)| of == name && *at < most).cloned().collect::<BTreeSet<_>>();
        let (calm, wild) = (of(&calm), of(&wild));
        if calm != wild {
            return Err(format!("{name} started {wild:?}, and without faults {calm:?}"));
        }
    }
    let dark = wanted.doings.iter().any(|(_, doing)| matches!(doing, Doing::Dark(_)));
    for (place, stream) in wanted.streams.iter().enumerate() {
        let of = |came: &Came| came.failovers.get(place).copied().unwrap_or(0);
        let due = stream.failovers();
        if !dark && of(&calm) != due {
            return Err(format!("without faults: {} started {} failovers, and {due} were due: {:?}", stream.policy.name, of(&calm), stream.episodes));
        }
        if !dark && wild.outcome.stats.jumps == 0 && of(&wild) != due {
            return Err(format!("{} started {} failovers, and {due} were due: {:?}", stream.policy.name, of(&wild), stream.episodes));
        }
    }
    Ok(wild.outcome)
}

fn wanted(seed: u64) -> Wanted {
    let mut rng = Rng::new(seed ^ 0x57A2_7ED0);
    let begins = calendar::beginning(&mut rng);
    let calendars: Vec<Calendar> = (0..1 + rng.below(3).unwrap_or(0)).map(|number| Calendar::grown(&mut rng, number)).collect();
    let streams: Vec<Stream> = (0..1 + rng.below(2).unwrap_or(0)).map(|number| Stream::grown(&mut rng, number)).collect();
    let last = streams.iter().map(Stream::lasts).max().unwrap_or(0);
    let mut doings = vec![];
    if rng.strikes(250) {
        doings.push((rng.below(last).unwrap_or(0), Doing::Dark(600 + rng.below(10_000).unwrap_or(0))));
    }
    if rng.strikes(300) {
        let (place, at) = (usize::try_from(rng.below(calendars.len() as u64).unwrap_or(0)).unwrap_or(0), rng.below(last).unwrap_or(0));
        doings.extend([(at, Doing::Pause(place)), (at + 60 + rng.below(6_000).unwrap_or(0), Doing::Resume(place))]);
    }
    doings.sort_unstable();
    Wanted { begins, calendars, streams, doings, hours: last.div_ceil(3_600) }
}

fn came(case: &Case, wanted: &Wanted, wild: bool) -> Result<Came, String> {
    let (ledger, desk, wire) = (Ledger::default(), Desk::new(&wanted.streams), Wire::default());
    let mut sim = stage(case, wanted, wild, &ledger, &desk, &wire);
    let kept: Vec<Kept> = wanted.calendars.iter().map(|calendar| calendar.kept(&sim.store)).collect::<Result<_, _>>()?;
    for (at, doing) in &wanted.doings {
        let then = wanted.begins + TimeDelta::seconds(i64::try_from(*at).unwrap_or(0));
        until(&mut sim, &ledger, |store| store.time() >= then)?;
        done(&sim, wanted, *doing);
    }
    let end = wanted.begins + TimeDelta::hours(i64::try_from(wanted.hours).unwrap_or(0)) + LATE;
    until(&mut sim, &ledger, |store| store.time() >= end)?;
    let faults = sim.struck();
    sim.chaos(Chaos { at_most: Some(0), ..Chaos::default() });
    sim.crash_switch().clear();
    let later = sim.store.time() + LATE;
    until(&mut sim, &ledger, |store| store.time() >= later)?;
    let next: Vec<DateTime<Utc>> = kept.iter().map(|kept| kept.ended(&sim.store)).collect::<Result<_, _>>()?;
    until(&mut sim, &ledger, |store| store.open_runs().0 == 0 && wire.is_empty() && desk.nobody_is_to_look(store))?;
    let runs = judge::settled(&sim.store, &work::registry())?;
    let mut started = BTreeSet::new();
    for (kept, next) in kept.iter().zip(&next) {
        started.extend(kept.judged(&sim.store, *next, sim.stats().jumps > 0)?);
    }
    calendar::each_run_has_its_time(&sim.store)?;
    let failovers = evaluations::judged(&sim.store, &desk, &wanted.streams)?;
    let simulated_ms = u64::try_from((sim.store.time() - wanted.begins).num_milliseconds()).unwrap_or(0);
    let outcome = Outcome { stats: sim.stats(), faults, simulated_ms, runs, late_refused: ledger.refused() };
    Ok(Came { started, failovers, next, outcome })
}

/// Two of everybody.
fn stage(case: &Case, wanted: &Wanted, wild: bool, ledger: &Ledger, desk: &Desk, wire: &Wire) -> Simulation {
    let mut sim = Simulation::new(case.seed, if wild { case.chaos() } else { Chaos::default() }, wanted.begins);
    if wild {
        sim.double_claims(case.double_claims());
    }
    for delivery in wanted.streams.iter().flat_map(|stream| stream.deliveries(wanted.begins)) {
        wire.sends(delivery);
    }
    let on_the_way = wire.clone();
    sim.expects(move || on_the_way.next_due());
    for _ in 0..2 {
        sim.worker(work::registry());
        let (ledger, desk, store) = (ledger.clone(), desk.clone(), sim.store.clone());
        sim.agent(work::queues(), move || work::performed_by(&ledger, &desk, &store));
        sim.scheduler();
    }
    for _ in 0..2 {
        let (wire, told) = (wire.clone(), desk.clone());
        sim.takes_part(move |life| receiving::receiver(life, wire.clone(), told.clone()));
        let looked_at = desk.clone();
        sim.takes_part(move |life| evaluations::waker(life, looked_at.clone()));
    }
    sim
}

fn done(sim: &Simulation, wanted: &Wanted, doing: Doing) {
    let name = |place: usize| wanted.calendars.get(place).map_or("", |calendar| calendar.name.as_str());
    match doing {
        Doing::Dark(seconds) => sim.store.advance(Duration::from_secs(seconds)),
        Doing::Pause(place) => calendar::paused(&sim.store, name(place)),
        Doing::Resume(place) => calendar::resumed(&sim.store, name(place)),
    }
}

/// Runs until that is so; it can have become so only where something has changed.
fn until(sim: &mut Simulation, ledger: &Ledger, so: impl Fn(&engine::memory::MemoryStore) -> bool) -> Result<(), String> {
    let mut looked_at = None;
    let stuck = sim.run_until(POLLS, |store| {
        let changes = Some((store.changes(), store.time()));
        std::mem::replace(&mut looked_at, changes) != changes && (ledger.wrong().is_some() || so(store))
    });
    stuck.map_err(|stuck| stuck.to_string())?;
    ledger.wrong().map_or(Ok(()), Err)
}
