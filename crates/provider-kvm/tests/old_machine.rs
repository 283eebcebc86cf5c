//! The old machine, while its disks are the base of the way home: given back, put aside, kept off, retired.

mod lab;

use lab::circle::{Side, hash, run};
use provider::{Base, Compute, ReplicaStore, Replication};

#[test]
fn dropping_the_replica_gives_the_old_machine_back_off() {
    run("dropping_the_replica_gives_the_old_machine_back_off", async |c| {
        c.machine(Side::A).write(1, 11);
        c.protect(Side::A, Base::Empty).await;
        c.point(Side::A);
        c.unplanned(Side::A).await;
        let (home, before) = (c.disk(Side::A), hash(&c.disk(Side::A)));
        c.commit(Side::B).await;
        c.reprotect(Side::B).await;
        c.machine(Side::B).write(2, 22);
        c.point(Side::B);
        c.next_run();
        c.site(Side::B).stop_replication(&c.call(), &c.item()).await.expect("replication stops");
        for _ in 0..2 {
            c.site(Side::A).drop_replica(&c.call(), &c.item()).await.expect("the replica is dropped");
            assert_eq!((c.machine(Side::A).state().as_str(), c.machine(Side::A).autostarts()), ("shut off", false));
        }
        assert_eq!((c.disk(Side::A), hash(&home)), (home.clone(), before));
        assert_eq!(c.files(Side::A, "p"), [""; 0]);
        // The way home is open again.
        c.reprotect(Side::B).await;
        c.point(Side::B);
        assert!(!c.machine(Side::A).is_known());
    });
}

#[test]
fn nothing_is_built_on_a_machine_that_may_write() {
    run("nothing_is_built_on_a_machine_that_may_write", async |c| {
        c.protect(Side::A, Base::Empty).await;
        c.point(Side::A);
        c.unplanned(Side::A).await;
        c.commit(Side::B).await;
        c.next_run();
        c.machine(Side::A).start();
        let refused = c.prepare(Side::B, Base::OldMachine).await;
        assert!(matches!(refused, Err(provider::ProviderError::NotFenced { .. })), "{refused:?}");
        c.fence(Side::A).await;
        c.protect(Side::B, Base::OldMachine).await;
        c.point(Side::B);
        let sync = c.site(Side::B).final_sync(&c.call(), &c.item(), std::sync::Arc::new(provider::Quiet)).await;
        assert!(matches!(sync, Err(provider::ProviderError::StillRunning { .. })), "{sync:?}");
        let twice = c.prepare(Side::B, Base::OldMachine).await;
        assert!(twice.is_ok(), "{twice:?}");
    });
}

#[test]
fn a_whole_copy_home_puts_the_old_machine_aside_until_it_is_discarded() {
    run("a_whole_copy_home_puts_the_old_machine_aside_until_it_is_discarded", async |c| {
        c.machine(Side::A).write(1, 11);
        c.protect(Side::A, Base::Empty).await;
        c.point(Side::A);
        c.unplanned(Side::A).await;
        let (home, before) = (c.disk(Side::A), hash(&c.disk(Side::A)));
        c.commit(Side::B).await;
        c.next_run();
        c.protect(Side::B, Base::Empty).await;
        c.machine(Side::B).write(2, 22);
        let point = c.point(Side::B);
        c.unplanned(Side::B).await;
        assert_eq!([1, 2].map(|block| c.machine(Side::A).read(block)), [11, 22]);
        assert_ne!(c.disk(Side::A), home);
        let generation = c.generation();
        c.next_run();
        for _ in 0..2 {
            c.site(Side::A).discard(&c.call(), &c.item(), generation).await.expect("what came home is discarded");
            assert_eq!((c.disk(Side::A), c.machine(Side::A).state().as_str()), (home.clone(), "shut off"));
        }
        assert!(!c.machine(Side::A).autostarts());
        c.bring_up(Side::A, point).await;
        c.commit(Side::A).await;
        assert_eq!(c.files(Side::A, "aside."), [""; 0]);
        assert_eq!(hash(&home), before, "the old disk is not written");
    });
}

#[test]
fn a_machine_that_was_retired_is_neither_started_nor_discarded() {
    run("a_machine_that_was_retired_is_neither_started_nor_discarded", async |c| {
        c.machine(Side::A).write(1, 11);
        c.protect(Side::A, Base::Empty).await;
        c.point(Side::A);
        c.unplanned(Side::A).await;
        let generation = c.generation();
        let (site, item) = (c.site(Side::B), c.item());
        let runs = site.retire(&c.call(), &item, generation).await;
        assert!(matches!(runs, Err(provider::ProviderError::StillRunning { .. })), "{runs:?}");
        c.commit(Side::B).await;
        c.machine(Side::B).stop();
        site.retire(&c.call(), &item, generation).await.expect("it is retired");
        let started = site.start_machine(&c.call(), &item, generation).await.map(drop);
        assert_eq!(started, Err(provider::ProviderError::NotRecovered { item: item.clone(), generation }));
        let discarded = site.discard(&c.call(), &item, generation).await;
        assert!(matches!(discarded, Err(provider::ProviderError::Platform { .. })), "{discarded:?}");
        assert_eq!(c.files(Side::B, "run.").len(), 1);
        site.drop_replica(&c.call(), &item).await.expect("the replica is dropped");
        assert_eq!(c.files(Side::B, "run."), [""; 0], "with the replica goes what was kept for it");
    });
}
