//! A random recovery plan, there and back: what stops is put back, what is asked again goes on, and in the end all of it is done.
//!
//! ```text
//!   protect all ─▶ work under faults ─▶ ended somehow, judged ─▶ the same work without faults ─▶ whole ─▶ next work
//! ```

use engine::{
    RunState,
    sim::{Chaos, Intervention, Moment, Rng},
};
use recovery::{MainState, plan::Work};
use sdk::Failure;
use switchback_tests::{fleet::Fleet, site};
use workflows::PlanOptions;

use crate::{
    case::{Case, Outcome},
    judge,
};

/// Ways through a plan's works, each with the state of all machines behind it.
const WAYS: [&[(Work, MainState)]; 3] = [
    &[(Work::Unplanned, MainState::CommitPending), (Work::Commit, MainState::Committed), (Work::Reprotect, MainState::Protected)],
    &[(Work::Planned, MainState::CommitPending), (Work::Undo, MainState::Protected), (Work::Unplanned, MainState::CommitPending)],
    &[
        (Work::Planned, MainState::CommitPending),
        (Work::Commit, MainState::Committed),
        (Work::Reprotect, MainState::Protected),
        (Work::Failback, MainState::CommitPending),
        (Work::Commit, MainState::Committed),
    ],
];
/// A work that is asked for again without faults ends at the first try; what was put back late may need one more.
const AGAIN: u32 = 3;

pub(crate) fn carried_out(case: &Case) -> Result<Outcome, String> {
    let mut rng = Rng::new(case.seed ^ 0x91A7);
    let yaml = grown(&mut rng);
    let mut fleet = Fleet::protected(case.seed, &yaml);
    let begun = fleet.time();
    let way = WAYS[usize::try_from(rng.below(WAYS.len() as u64).unwrap_or(0)).unwrap_or(0)];
    let mut faults = 0;
    for (work, state) in way {
        let told = format!("{yaml}{work}");
        fleet.sim.chaos(Chaos { at_most: case.faults.map(|most| most.saturating_sub(faults)), ..case.chaos() });
        let struck = fleet.sim.struck();
        some_attempts_fail(&fleet, &mut rng);
        let run = fleet.start(*work, PlanOptions::default());
        if rng.strikes(300) {
            outage(&mut fleet, &mut rng)?;
        }
        fleet.finish(run).map_err(|stuck| format!("{told}: {stuck}"))?;
        faults += fleet.sim.struck() - struck;
        fleet.sim.crash_switch().clear();
        fleet.sim.chaos(Chaos { at_most: Some(0), ..Chaos::default() });
        fleet.somebody_starts_what_is_off();
        fleet.judged(&told);
        let (ended, result) = fleet.result(run);
        for (item, state) in fleet.states() {
            if let Some(busy) = state.busy_with() {
                return Err(format!("{told}: {item} is left {state}, busy with {busy:?}: {result}"));
            }
        }
        let done = |fleet: &Fleet| fleet.states().values().all(|found| found == state);
        let mut said = format!("{ended:?} {result}");
        for _ in 0..AGAIN {
            if done(&fleet) {
                break;
            }
            let (ended, result) = fleet.carry_out(*work);
            fleet.judged(&told);
            said = format!("{said}; again: {ended:?} {result}");
        }
        if !done(&fleet) {
            return Err(format!("{told}: it never got done, machines are {:?}: {said}", fleet.states()));
        }
    }
    if fleet.sim.store.run_states().iter().any(|(_, state)| *state == RunState::Suspended) {
        return Err("a run was set aside".to_owned());
    }
    let runs = judge::settled(&fleet.sim.store, &workflows::registry())?;
    judge::projected_as_recorded(&fleet.sim.store)?;
    let simulated_ms = u64::try_from((fleet.time() - begun).num_milliseconds()).unwrap_or(0);
    Ok(Outcome { stats: fleet.sim.stats(), faults, simulated_ms, runs, late_refused: 0 })
}

/// Some attempts at steps fail, before or after they were carried out; few enough that tries are left.
fn some_attempts_fail(fleet: &Fleet, rng: &mut Rng) {
    let per_mille = [0, 0, 20, 80][usize::try_from(rng.below(4).unwrap_or(0)).unwrap_or(0)];
    let chance = std::sync::Mutex::new(Rng::new(rng.draw()));
    fleet.sim.crash_switch().on_attempt(move |_, moment| {
        let strikes = moment != Moment::Reported && chance.lock().is_ok_and(|mut chance| chance.strikes(per_mille));
        if strikes { Intervention::Fail(Failure::retryable("shaky", "the network is shaky")) } else { Intervention::None }
    });
}

/// A site or the line between them is away for some time, and comes back.
fn outage(fleet: &mut Fleet, rng: &mut Rng) -> Result<(), String> {
    let (a, b) = (site("a"), site("b"));
    let which = rng.below(3).unwrap_or(0);
    let mut pass = |fleet: &mut Fleet| {
        let until = fleet.time() + chrono::Duration::seconds(i64::try_from(1 + rng.below(90).unwrap_or(0)).unwrap_or(1));
        fleet.until_time(until).map_err(|stuck| stuck.to_string())
    };
    let set = |fleet: &Fleet, on: bool| match which {
        0 => fleet.world.set_down(&a, on),
        1 => fleet.world.set_down(&b, on),
        _ => fleet.world.cut_line(&a, &b, on),
    };
    pass(fleet)?;
    set(fleet, true);
    pass(fleet)?;
    set(fleet, false);
    fleet.somebody_starts_what_is_off();
    Ok(())
}

/// One to three groups of one to three machines, some of which need others, some of which may be missing; with actions here and there.
fn grown(rng: &mut Rng) -> String {
    let mut below = |bound: u64| rng.below(bound).unwrap_or(0);
    let mut yaml = "version: 1\nname: grown\nfrom: a\nto: b\n".to_owned();
    if below(3) == 0 {
        yaml.push_str("on-error: continue\n");
    }
    yaml.push_str("groups:\n");
    let mut machine = 0;
    for group in 0..1 + below(3) {
        yaml.push_str(&format!("  - name: g{group}\n"));
        if below(3) == 0 {
            yaml.push_str("    before: [{ name: tell, on: [planned, unplanned, failback], http: { method: PUT, url: \"https://chat.example/hook\", body: \"{}\" } }]\n");
        }
        yaml.push_str("    items:\n");
        let first = machine;
        for _ in 0..1 + below(3) {
            let needs = if machine > first && below(2) == 0 { format!(", needs: [m{}]", first + below(machine - first)) } else { String::new() };
            let optional = if below(6) == 0 { ", critical: false" } else { "" };
            yaml.push_str(&format!("      - {{ item: m{machine}{needs}{optional} }}\n"));
            machine += 1;
        }
    }
    yaml
}
