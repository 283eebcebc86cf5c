//! What goes wrong outside while something is done to an item, and passes.
#![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

use engine::RunState;
use provider::{Fence, FenceState};
use recovery::allowed_operations;

use crate::{ITEM, POLLS, Scene, Work, item, now, site};

/// Something that goes wrong outside while a run is on its way, and is put right before it ends.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    /// Nothing goes wrong.
    Nothing,
    /// The line between the sites is cut.
    LineIsCut,
    /// A write of a point is torn.
    AnAppendIsTorn,
    /// The answer to a point is lost.
    AnAcknowledgementIsLost,
    /// Guests do not shut down.
    GuestsIgnoreShutDown,
    /// Test copies do not answer.
    CopiesDoNotServe,
    /// The network for tests reaches something.
    TestNetworkIsNotIsolated,
    /// The machine loses its power.
    MachineLosesPower,
    /// The site that the item runs at is away.
    SourceSiteIsDown,
    /// The other one is.
    TargetSiteIsDown,
}

/// All of it, and nothing.
pub const TROUBLES: [Trouble; 10] = [
    Trouble::Nothing,
    Trouble::LineIsCut,
    Trouble::AnAppendIsTorn,
    Trouble::AnAcknowledgementIsLost,
    Trouble::GuestsIgnoreShutDown,
    Trouble::CopiesDoNotServe,
    Trouble::TestNetworkIsNotIsolated,
    Trouble::MachineLosesPower,
    Trouble::SourceSiteIsDown,
    Trouble::TargetSiteIsDown,
];

impl Trouble {
    /// Begins, or passes.
    pub fn is(self, scene: &Scene, on: bool) {
        let world = &scene.world;
        let (a, b) = (site("a"), site("b"));
        let Some(record) = scene.record() else { return };
        match self {
            Trouble::Nothing => {}
            Trouble::LineIsCut => world.cut_line(&a, &b, on),
            Trouble::AnAppendIsTorn if on => world.tear_next_append(&item()),
            Trouble::AnAcknowledgementIsLost if on => world.lose_next_acknowledgement(&item()),
            Trouble::MachineLosesPower if on => scene.runs_at().iter().for_each(|at| world.power_failure(at, ITEM)),
            Trouble::AnAppendIsTorn | Trouble::AnAcknowledgementIsLost | Trouble::MachineLosesPower => {}
            Trouble::GuestsIgnoreShutDown => [a, b].iter().for_each(|at| world.ignore_shut_down(at, ITEM, on)),
            Trouble::CopiesDoNotServe => [a, b].iter().for_each(|at| world.refuse_service(at, &format!("{ITEM}-test"), on)),
            Trouble::TestNetworkIsNotIsolated => [a, b].iter().for_each(|at| world.join_test_network(at, &item(), on)),
            Trouble::SourceSiteIsDown => world.set_down(record.source_site(), on),
            Trouble::TargetSiteIsDown => world.set_down(record.target_site(), on),
        }
    }
}

/// Somebody sees that the item's machine is off although nobody has fenced it, and starts it.
fn somebody_starts_it(scene: &Scene) {
    let Some(record) = scene.record() else { return };
    let at = scene.world.site(record.active_site());
    let fence = now(at.observe_fence(&item(), ITEM));
    if scene.runs_at().is_empty() && matches!(fence, Ok(FenceState::Open { .. })) {
        scene.world.power_on(record.active_site(), ITEM);
    }
}

/// Carries out one work, with a trouble that passes while it runs.
/// # Panics
/// It ends as it must not, or leaves what it must not.
pub fn troubled(scene: &mut Scene, work: Work, trouble: Trouble, seconds: u64, case: &str) {
    trouble.is(scene, true);
    let run = scene.start(work);
    let until = scene.sim.store.time() + std::time::Duration::from_secs(seconds);
    scene.sim.run_until(POLLS, |store| store.time() > until).unwrap_or_else(|stuck| panic!("{case}: {stuck}"));
    // What was down belongs to the record as it was then.
    for at in ["a", "b"] {
        scene.world.set_down(&site(at), false);
    }
    trouble.is(scene, false);
    somebody_starts_it(scene);
    scene.finish(run).unwrap_or_else(|stuck| panic!("{case}: {stuck}"));
    // An agent may hear that its report counts only after the run has ended.
    let until = scene.sim.store.time() + std::time::Duration::from_secs(20);
    scene.sim.run_until(POLLS, |store| store.time() > until).unwrap();
    let (ending, why) = (scene.ending(run), scene.failure(run));
    assert!(matches!(ending.run, RunState::Completed | RunState::Failed), "{case}: {ending:?} {why:?}");
    assert_eq!(ending.item.busy_with(), None, "{case}: {ending:?} {why:?}");
    somebody_starts_it(scene);
    scene.judged(case);
}

/// What the item's state allows, as work.
#[must_use]
pub fn allowed(scene: &Scene) -> Vec<Work> {
    let Some(record) = scene.record() else { return vec![Work::Protect] };
    allowed_operations(&record.state, record.profile).into_iter().filter_map(|operation| Work::of(operation, &record)).collect()
}
