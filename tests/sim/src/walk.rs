//! One machine at two sites: whatever its state allows, in any order, while processes die and sites, lines and guests fail.
//!
//! The outside judges: its ledger of effects, what the machine's software wrote to its disks, and who was on which network when.

use engine::sim::{Chaos, LONGEST_PAUSE, Rng};
use recovery::MainState;
use switchback_tests::{
    POLLS, Scene, Work,
    trouble::{TROUBLES, Trouble, allowed, troubled},
};

use crate::{
    case::{Case, Outcome},
    judge,
};

/// Works of a walk, before the way out.
const STEPS: u64 = 5;
/// Unprotecting takes at most a commit and a release before it; under faults some are tried again.
const WAYS_OUT: u32 = 12;

pub(crate) fn carried_out(case: &Case) -> Result<Outcome, String> {
    let mut rng = Rng::new(case.seed ^ 0x0A1C);
    let mut scene = Scene::new(case.seed, case.chaos());
    let begun = scene.sim.store.time();
    let mut pick = |count: usize| usize::try_from(rng.below(count as u64).unwrap_or(0)).unwrap_or(0);
    let mut told = vec![];
    for _ in 0..STEPS {
        let possible = allowed(&scene);
        let others: Vec<Work> = possible.iter().copied().filter(|work| *work != Work::Unprotect).collect();
        let possible = if others.is_empty() { possible } else { others };
        let (work, trouble, seconds) = (possible[pick(possible.len())], TROUBLES[pick(TROUBLES.len())], 5 + pick(115) as u64);
        // By whose record a trouble would be put right again, that is gone.
        let trouble = if work == Work::Forget { Trouble::Nothing } else { trouble };
        told.push(format!("{work:?} while {trouble:?}"));
        troubled(&mut scene, work, trouble, seconds, &told.join(", "));
    }
    let faults = scene.sim.struck();
    // The way out: there must be one, also for whoever has seen all that.
    scene.sim.chaos(Chaos { at_most: Some(0), ..Chaos::default() });
    // Who is paused comes back first: an unprotect leaves a source alone that nobody answers for, and says so.
    let all_back = scene.sim.store.time() + LONGEST_PAUSE;
    scene.sim.run_until(POLLS, |store| store.time() > all_back).map_err(|stuck| format!("{told:?}: {stuck}"))?;
    for _ in 0..WAYS_OUT {
        if scene.record().is_none_or(|record| record.state.main == MainState::Unprotected) {
            break;
        }
        let possible = allowed(&scene);
        let out = [Work::Unprotect, Work::Commit, Work::Release].into_iter().find(|work| possible.contains(work));
        let Some(work) = out.or(possible.first().copied()) else { return Err(format!("{told:?}: nothing is allowed")) };
        troubled(&mut scene, work, Trouble::Nothing, 1, &format!("{}, then out by {work:?}", told.join(", ")));
    }
    let state = scene.record().map(|record| record.state.main);
    // Where nothing was ever protected there is no record.
    if state.is_some_and(|state| state != MainState::Unprotected) {
        return Err(format!("{told:?}: there is no way out of {state:?}"));
    }
    let runs_at = scene.runs_at();
    if runs_at.len() != 1 {
        return Err(format!("{told:?}: in the end the machine runs at {runs_at:?}"));
    }
    scene.nothing_is_left(&told.join(", "));
    let runs = judge::settled(&scene.sim.store, &workflows::registry()).map_err(|why| format!("{told:?}: {why}"))?;
    judge::projected_as_recorded(&scene.sim.store).map_err(|why| format!("{told:?}: {why}"))?;
    let simulated_ms = u64::try_from((scene.sim.store.time() - begun).num_milliseconds()).unwrap_or(0);
    Ok(Outcome { stats: scene.sim.stats(), faults, simulated_ms, runs, late_refused: 0 })
}
