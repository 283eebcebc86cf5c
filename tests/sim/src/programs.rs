//! Random workflows: two workers and two agents on a world that counts. With faults they must end as without.
//!
//! Also while the store comes back without its last commits: then somebody is there who lets go on what is held. Dials are left out there: a step
//! that may have happened is done again if that is harmless by itself, and turning a dial is not harmless after it was turned further.

use std::time::Duration;

use chrono::{DateTime, Utc};
use engine::{
    ActivityRegistry, RunState, RunStore, StartRun,
    sim::{Chaos, Intervention, Life, Moment, Rng, Simulation},
};
use sdk::{Command, EventBody, Failure, Message, Registry, RunId};
use serde_json::json;
use switchback_tests::until_stored;
use uuid::Uuid;

use crate::{
    case::{Case, Kind, Outcome},
    judge,
    ledger::{Enter, Leave, Ledger, Left, Make, Ring, Set, Turn, Unset},
    script::{Grower, Script, Scripted, WORD, queue},
};

/// Far more than any of these takes.
const POLLS: u64 = 3_000_000;
/// Whoever is paused comes back within this.
const LATE: Duration = Duration::from_secs(120);

/// Seconds within which a word is sent once more.
const REPEATED_WITHIN: u64 = 60;

/// What is run, and when it is cancelled, in seconds from the start.
#[derive(Debug)]
struct Wanted {
    script: Script,
    cancelled_at: Option<u64>,
}

/// How a run ended, in comparable words.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ended {
    Said(Vec<String>),
    Failed(String),
    Cancelled,
}

struct Performed {
    ends: Vec<Ended>,
    left: Left,
    outcome: Outcome,
}

pub(crate) fn carried_out(case: &Case) -> Result<Outcome, String> {
    let wanted = wanted(case);
    let calm = performed(case, false, &wanted).map_err(|why| format!("without faults: {why}"))?;
    let wild = performed(case, true, &wanted)?;
    for (number, (wanted, (calm_end, end))) in wanted.iter().zip(calm.ends.iter().zip(&wild.ends)).enumerate() {
        let name = &wanted.script.name;
        let cancelled = wanted.cancelled_at.is_some() && *end == Ended::Cancelled;
        if end != calm_end && !cancelled {
            return Err(format!("{name} (run {number}) ended as {end:?}, and without faults as {calm_end:?}"));
        }
        let of = |left: &Left| {
            let its = |thing: &&String| thing.starts_with(&format!("{name}."));
            (left.set.iter().filter(its).cloned().collect::<Vec<_>>(), left.made.iter().filter(its).cloned().collect::<Vec<_>>())
        };
        let (calm_left, wild_left) = (of(&calm.left), of(&wild.left));
        if !cancelled && calm_left != wild_left {
            return Err(format!("{name} left {wild_left:?}, and without faults {calm_left:?}"));
        }
        let own = |thing: &&String| thing.matches('.').count() == 1;
        if *end == Ended::Cancelled && wild_left.0.iter().any(|thing| own(&thing)) {
            return Err(format!("{name} was cancelled, and {:?} are still set", wild_left.0));
        }
    }
    Ok(wild.outcome)
}

fn wanted(case: &Case) -> Vec<Wanted> {
    let dials = case.kind != Kind::Tails;
    let mut rng = Rng::new(case.seed ^ 0x5C12_19B7);
    let count = 1 + rng.below(3).unwrap_or(0);
    let scripts: Vec<Script> = (0..count).map(|number| Grower::new(&mut rng, dials).script(&format!("r{number}"))).collect();
    let mut with_cancel = |script| {
        let at = rng.below(60).unwrap_or(0);
        Wanted { script, cancelled_at: rng.strikes(200).then_some(at) }
    };
    scripts.into_iter().map(&mut with_cancel).collect()
}

fn registry() -> Registry {
    Registry::default().with::<Scripted>()
}

fn stage(case: &Case, chaos: Chaos, ledger: &Ledger) -> Simulation {
    let mut sim = Simulation::new(case.seed, chaos, DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default());
    if case.kind == Kind::Tails {
        sim.witnessed();
        sim.takes_part(lets_go_on);
    }
    for _ in 0..2 {
        let world = ledger.clone();
        sim.agent(vec![queue()], move || {
            let known = ActivityRegistry::default().with::<Set, _>(world.clone()).with::<Unset, _>(world.clone()).with::<Make, _>(world.clone());
            known.with::<Ring, _>(world.clone()).with::<Turn, _>(world.clone()).with::<Enter, _>(world.clone()).with::<Leave, _>(world.clone())
        });
    }
    (0..2).for_each(|_| sim.worker(registry()));
    sim
}

/// Somebody who looks at what the store has lost, and decides that all of it goes on with what is there.
async fn lets_go_on(life: Life) {
    loop {
        for loss in life.store.losses() {
            // Without an answer it is still there the next time.
            drop(life.store.settle(loss.run).await);
        }
        life.rests().await;
    }
}

fn run_of(number: usize) -> RunId {
    RunId(Uuid::from_u64_pair(0x0190_0000_0000_7000 + number as u64, 1))
}

/// Some attempts fail before or after their effect, so that later steps meet what earlier ones have left.
fn some_attempts_fail(sim: &Simulation, seed: u64, per_mille: u64) {
    let chance = std::sync::Mutex::new(Rng::new(seed ^ 0x0FA1));
    sim.crash_switch().on_attempt(move |_, moment| {
        let strikes = moment != Moment::Reported && chance.lock().is_ok_and(|mut chance| chance.strikes(per_mille));
        let failure = || Failure::retryable("shaky", "the network is shaky");
        match moment {
            Moment::Claimed if strikes => Intervention::Fail(failure().not_applied()),
            Moment::Performed if strikes => Intervention::Fail(failure()),
            Moment::Claimed | Moment::Performed | Moment::Reported => Intervention::None,
        }
    });
}

fn performed(case: &Case, wild: bool, wanted: &[Wanted]) -> Result<Performed, String> {
    let (ledger, seed) = (Ledger::default(), case.seed);
    let mut sim = stage(case, if wild { case.chaos() } else { Chaos::default() }, &ledger);
    if wild {
        sim.double_claims(case.double_claims());
        some_attempts_fail(&sim, seed, case.attempts_fail());
    }
    let begun = sim.store.time();
    let front = sim.noting();
    let send = |run, message: &Message| until_stored(|| front.send(run, message.clone()));
    for (number, Wanted { script, .. }) in wanted.iter().enumerate() {
        let input = serde_json::to_value(script).unwrap_or_default();
        let start = Message::Start { workflow: "scripted".into(), input, workflow_id: script.name.clone(), requested_by: "ada".into(), trace: None, parent: None };
        until_stored(|| front.start_run(StartRun { run: run_of(number), start: start.clone() }));
        for word in 0..script.words() {
            // Whoever sends is not sure, and sends again.
            send(run_of(number), &said(word));
            send(run_of(number), &said(word));
        }
    }
    if wild {
        for (at, number, message) in said_later(seed, wanted) {
            until(&mut sim, &ledger, |now| now >= begun + chrono::Duration::seconds(i64::try_from(at).unwrap_or(0)))?;
            send(run_of(number), &message);
        }
    }
    until(&mut sim, &ledger, |_| false)?;
    let faults = sim.struck();
    sim.chaos(Chaos { at_most: Some(0), ..Chaos::default() });
    let until_when = sim.store.time() + LATE;
    sim.run_until(POLLS, |store| store.time() >= until_when).map_err(|stuck| stuck.to_string())?;
    if let Some(wrong) = ledger.wrong() {
        return Err(wrong);
    }
    let runs = judge::settled(&sim.store, &registry())?;
    let ends = (0..wanted.len()).map(|number| ended(&sim, run_of(number))).collect::<Result<_, _>>()?;
    let simulated_ms = u64::try_from((sim.store.time() - begun).num_milliseconds()).unwrap_or(0);
    let outcome = Outcome { stats: sim.stats(), faults, simulated_ms, runs, late_refused: ledger.refused() };
    Ok(Performed { ends, left: ledger.left(), outcome })
}

fn said(word: u64) -> Message {
    Message::Signal { name: WORD.into(), key: word.to_string(), body: json!(word), by: "ada".into() }
}

/// What comes while they run, by the second: cancels, and words that are sent once more although they have been heard.
fn said_later(seed: u64, wanted: &[Wanted]) -> Vec<(u64, usize, Message)> {
    let mut rng = Rng::new(seed ^ 0x5A1D);
    let mut later = vec![];
    for (number, Wanted { script, cancelled_at }) in wanted.iter().enumerate() {
        later.extend(cancelled_at.map(|at| (at, number, Message::Cancel { by: "ada".into(), reason: "enough".into() })));
        later.extend((0..script.words()).map(|word| (1 + rng.below(REPEATED_WITHIN).unwrap_or(0), number, said(word))));
    }
    later.sort_by_key(|(at, number, _)| (*at, *number));
    later
}

/// Runs until everybody has ended, or it is time.
fn until(sim: &mut Simulation, ledger: &Ledger, time: impl Fn(DateTime<Utc>) -> bool) -> Result<(), String> {
    let mut looked_at = None;
    let stuck = sim.run_until(POLLS, |store| {
        let changes = Some((store.changes(), store.time()));
        std::mem::replace(&mut looked_at, changes) != changes && (ledger.wrong().is_some() || store.is_known() && (time(store.time()) || store.open_runs() == (0, None)))
    });
    stuck.map_err(|stuck| stuck.to_string())?;
    ledger.wrong().map_or(Ok(()), Err)
}

fn ended(sim: &Simulation, run: RunId) -> Result<Ended, String> {
    let state = sim.store.run_states().into_iter().find(|(id, _)| *id == run).map(|(_, state)| state);
    let history = sim.store.history(run).map_err(|error| error.to_string())?;
    Ok(match (state, history.events.last().map(|stored| stored.event.body.clone())) {
        (Some(RunState::Cancelled), _) => Ended::Cancelled,
        (_, Some(EventBody::Command(Command::RunCompleted { output }))) => Ended::Said(serde_json::from_value(output).unwrap_or_default()),
        (_, Some(EventBody::Command(Command::RunFailed { failure }))) => Ended::Failed(failure.code),
        (state, other) => return Err(format!("run {run} is {state:?} and its history ends with {other:?}")),
    })
}
