//! Failovers under seeded chaos: crashes, zombies and lost answers at any await.
#![expect(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

use engine::{RunState, sim::Chaos};
use recovery::MainState;
use switchback_tests::{Scene, Work, item};

#[test]
fn a_clean_cycle_ends_committed() {
    let mut scene = Scene::new(1, Chaos::default());
    for (work, state) in [(Work::Protect, MainState::Protected), (Work::Failover, MainState::CommitPending), (Work::Commit, MainState::Committed)] {
        let (run, _) = scene.carry_out(work).unwrap();
        let ending = scene.ending(run);
        println!("{work:?} {ending:?}");
        assert_eq!((ending.run, ending.item), (RunState::Completed, state));
    }
    assert_eq!(scene.world.ledger().applied_more_than_once(), vec![]);
    assert_eq!(scene.sim.store.leftovers(), 0);
    assert!(scene.record().unwrap().name == item());
}
