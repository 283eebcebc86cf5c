//! From A to B and home again: what is sent back, what is left alone, and what may go wrong on the way.

mod lab;

use lab::circle::{Circle, Side, hash, run};
use provider::{Base, Compute, Replication};

#[test]
fn after_an_unplanned_failover_what_differs_is_sent_home() {
    run("after_an_unplanned_failover_what_differs_is_sent_home", async |c| {
        for block in 1..=8 {
            c.machine(Side::A).write(block, 11);
        }
        c.protect(Side::A, Base::Empty).await;
        c.point(Side::A);
        println!("  first copy: {} bytes", c.sent(Side::A));
        c.unplanned(Side::A).await;
        let (home, before) = (c.disk(Side::A), hash(&c.disk(Side::A)));
        c.machine(Side::B).write(2, 22);
        c.machine(Side::B).write(9, 33);
        c.commit(Side::B).await;
        c.machine(Side::B).write(10, 44);
        c.reprotect(Side::B).await;
        c.point(Side::B);
        println!("  way home: {:?}", c.costs(Side::A).await);
        assert!(!c.machine(Side::A).is_known(), "nobody may start the machine whose disks are the base");
        c.machine(Side::B).write(11, 55);
        c.point(Side::B);
        assert_eq!(hash(&home), before, "the old disk is not written");

        c.unplanned(Side::B).await;
        for (block, content) in [(1, 11), (2, 22), (9, 33), (10, 44), (11, 55), (12, 0)] {
            assert_eq!(c.machine(Side::A).read(block), content, "block {block}");
        }
        c.machine(Side::A).stop();
        c.same(&c.disk(Side::A), &c.disk(Side::B));
        assert_eq!(hash(&home), before, "the old disk is not written");
    });
}

/// How much of the disk the newest copy from a site had to look at.
fn looked_at(c: &Circle, from: Side) -> u64 {
    c.status_now(from).expect("it is replicated from there").bytes_total
}

/// How much the first point at a site has cost.
async fn first_cost(c: &Circle, side: Side) -> u64 {
    c.costs(side).await.first().expect("there is a point").1
}

#[test]
fn a_planned_circle_both_ways_ends_with_identical_disks() {
    run("a_planned_circle_both_ways_ends_with_identical_disks", async |c| {
        for block in 1..=40 {
            c.machine(Side::A).write(block, 11);
        }
        c.protect(Side::A, Base::Empty).await;
        c.point(Side::A);
        c.machine(Side::A).write(41, 12);
        c.planned(Side::A).await;
        assert_eq!(c.machine(Side::B).read(41), 12);
        c.commit(Side::B).await;
        c.machine(Side::B).write(1, 22);

        c.reprotect(Side::B).await;
        c.point(Side::B);
        println!("  home: {:?}", c.costs(Side::A).await);
        assert!(first_cost(&c, Side::A).await < 3 * 65_536, "one block was written at B");
        c.machine(Side::B).write(2, 23);
        c.point(Side::B);
        c.machine(Side::B).write(3, 24);
        c.planned(Side::B).await;
        c.same(&c.disk(Side::B), &running_disk_after_stop(&c, Side::A));
        c.machine(Side::A).start();
        c.commit(Side::A).await;
        assert_eq!([1, 2, 3, 4, 41].map(|block| c.machine(Side::A).read(block)), [22, 23, 24, 11, 12]);

        c.site(Side::B).retire(&c.call(), &c.item(), c.first_recovered()).await.expect("the machine at B is retired");
        c.site(Side::B).retire(&c.call(), &c.item(), c.first_recovered()).await.expect("twice is once");
        assert!(!c.machine(Side::B).is_known());
        c.machine(Side::A).write(5, 33);
        c.reprotect(Side::A).await;
        c.point(Side::A);
        println!("  and out again: {:?}", c.costs(Side::B).await);
        assert!(first_cost(&c, Side::B).await < 3 * 65_536, "one block was written at A");
        c.planned(Side::A).await;
        assert_eq!([1, 2, 3, 4, 5, 41].map(|block| c.machine(Side::B).read(block)), [22, 23, 24, 11, 33, 12]);
        c.machine(Side::B).stop();
        c.same(&c.disk(Side::A), &c.disk(Side::B));
        c.machine(Side::B).start();
        c.commit(Side::B).await;
        let left = c.files(Side::B, "run.");
        assert_eq!(left.len(), 1, "the base that a recovery had made is gone: {left:?}");
    });
}

/// The disk of a machine that was just brought up, which is ended for it.
fn running_disk_after_stop(c: &Circle, side: Side) -> std::path::PathBuf {
    c.machine(side).stop();
    c.disk(side)
}

#[test]
fn after_a_power_failure_of_the_primary_both_sides_are_compared() {
    run("after_a_power_failure_of_the_primary_both_sides_are_compared", async |c| {
        c.protect(Side::A, Base::Empty).await;
        c.point(Side::A);
        c.close(Side::A);
        c.machine(Side::A).stop();
        c.machine(Side::A).start();
        // Written after the last point, and lost with the record of it.
        c.machine(Side::A).write(7, 77);
        c.machine(Side::A).kill();
        c.open(Side::A);
        c.unplanned(Side::A).await;
        c.machine(Side::B).write(8, 88);
        c.commit(Side::B).await;
        c.points_every(600);
        c.reprotect(Side::B).await;
        c.point(Side::B);
        assert_eq!(looked_at(&c, Side::B), 16 << 20, "everything is compared");
        println!("  home: {:?}", c.costs(Side::A).await);
        c.planned(Side::B).await;
        assert_eq!([7, 8].map(|block| c.machine(Side::A).read(block)), [0, 88], "what A wrote alone is gone, what B wrote is there");
        c.same(&c.disk(Side::B), &running_disk_after_stop(&c, Side::A));
    });
}

#[test]
fn what_the_primary_wrote_after_its_last_point_is_undone_on_the_way_home() {
    run("what_the_primary_wrote_after_its_last_point_is_undone_on_the_way_home", async |c| {
        for block in 1..=40 {
            c.machine(Side::A).write(block, 11);
        }
        c.protect(Side::A, Base::Empty).await;
        c.point(Side::A);
        c.close(Side::A);
        c.machine(Side::A).write(7, 77);
        c.machine(Side::A).stop();
        c.open(Side::A);
        c.unplanned(Side::A).await;
        c.commit(Side::B).await;
        c.points_every(600);
        c.reprotect(Side::B).await;
        c.point(Side::B);
        assert_eq!(looked_at(&c, Side::B), 65_536, "only what A has written is compared");
        println!("  home: {:?}", c.costs(Side::A).await);
        assert!(first_cost(&c, Side::A).await < 2 * 65_536);
        c.planned(Side::B).await;
        assert_eq!([6, 7].map(|block| c.machine(Side::A).read(block)), [11, 11]);
        c.same(&c.disk(Side::B), &running_disk_after_stop(&c, Side::A));
    });
}

#[test]
fn a_circle_without_a_write_sends_nothing() {
    run("a_circle_without_a_write_sends_nothing", async |c| {
        for block in 1..=40 {
            c.machine(Side::A).write(block, 11);
        }
        c.protect(Side::A, Base::Empty).await;
        c.point(Side::A);
        let out = c.sent(Side::A);
        c.planned(Side::A).await;
        c.commit(Side::B).await;
        c.points_every(600);
        c.reprotect(Side::B).await;
        c.point(Side::B);
        assert_eq!(looked_at(&c, Side::B), 0, "all that may differ is known: nothing");
        c.planned(Side::B).await;
        let home = c.sent(Side::B);
        println!("  out {out} bytes, home {home} bytes");
        assert!(out > 40 * 65_536 && home == 0);
        c.same(&c.disk(Side::B), &running_disk_after_stop(&c, Side::A));
    });
}

#[test]
fn a_circle_in_which_every_block_is_written_sends_every_block_and_ends_identical() {
    run("a_circle_in_which_every_block_is_written_sends_every_block_and_ends_identical", async |c| {
        c.machine(Side::A).write(1, 11);
        c.protect(Side::A, Base::Empty).await;
        c.point(Side::A);
        c.planned(Side::A).await;
        c.commit(Side::B).await;
        let blocks = lab::DISK_BYTES / 65_536;
        for block in 0..blocks {
            c.machine(Side::B).write(block, 22);
        }
        c.points_every(600);
        c.reprotect(Side::B).await;
        c.point(Side::B);
        c.planned(Side::B).await;
        let home = c.sent(Side::B);
        println!("  {blocks} blocks written, home {home} bytes");
        assert!(home >= blocks * 65_536, "every block differs and was sent");
        c.same(&c.disk(Side::B), &running_disk_after_stop(&c, Side::A));
    });
}

#[test]
fn flattening_neither_loses_nor_invents_what_was_written() {
    run("flattening_neither_loses_nor_invents_what_was_written", async |c| {
        for block in 1..=40 {
            c.machine(Side::A).write(block, 11);
        }
        c.protect(Side::A, Base::Empty).await;
        c.point(Side::A);
        c.unplanned(Side::A).await;
        let (item, generation) = (c.item(), c.generation());
        let written = async || c.site(Side::B).written(&item, generation).await.expect("what was written is known").blocks;
        assert_eq!(written().await, 0);
        c.machine(Side::B).write(3, 33);
        c.machine(Side::B).write(50, 55);
        assert_eq!(written().await, 2);
        c.commit(Side::B).await;
        assert_eq!(written().await, 2);
        c.machine(Side::B).stop();
        assert_eq!(written().await, 2, "its disks know it too");
        c.machine(Side::B).start();
        c.machine(Side::B).write(51, 56);
        assert_eq!(written().await, 3);
        c.machine(Side::B).kill();
        let lost = c.site(Side::B).written(&item, generation).await;
        assert!(matches!(lost, Err(provider::ProviderError::Platform { .. })), "{lost:?}");
    });
}

#[test]
fn a_first_copy_home_that_is_interrupted_again_and_again_ends_right() {
    run("a_first_copy_home_that_is_interrupted_again_and_again_ends_right", async |c| {
        for block in 1..=20 {
            c.machine(Side::A).write(block, 11);
        }
        c.protect(Side::A, Base::Empty).await;
        c.point(Side::A);
        c.unplanned(Side::A).await;
        let home = c.disk(Side::A);
        c.commit(Side::B).await;
        for block in 1..=200 {
            c.machine(Side::B).write(block, 22);
        }
        // The agent at home dies when it knows of the base, before the hypervisor has let the machine go.
        c.next_run();
        let definition = c.machine(Side::A).definition();
        c.prepare(Side::B, Base::OldMachine).await.expect("the replica is prepared");
        c.machine(Side::A).define(&definition);
        c.close(Side::A);
        c.open(Side::A);
        c.machine(Side::A).start();
        let refused = c.prepare(Side::B, Base::OldMachine).await;
        assert!(matches!(refused, Err(provider::ProviderError::NotFenced { .. })), "{refused:?}");
        c.machine(Side::A).write(250, 99);
        c.machine(Side::A).stop();
        let before = hash(&home);
        let endpoint = c.prepare(Side::B, Base::OldMachine).await.expect("a repeat completes it");
        assert!(!c.machine(Side::A).is_known());
        c.fence(Side::A).await; // what libvirt does not know can't write either
        c.replicate(Side::B, endpoint).await;
        // Then agents and the machine die at moments that nobody has chosen.
        for round in 0..6_u8 {
            lab::wait_until("something to be sent", || (c.parts(Side::A) > 0 || c.points_now(Side::A) > 0).then_some(()));
            match round % 3 {
                0 => {
                    c.close(Side::B);
                    c.machine(Side::B).write(u64::from(round) + 220, 33);
                    c.open(Side::B);
                }
                1 => {
                    let address = c.site(Side::A).data_address();
                    c.close(Side::A);
                    c.open_at(Side::A, address);
                }
                _ => {
                    c.machine(Side::B).kill();
                    c.machine(Side::B).start();
                }
            }
            c.machine(Side::B).write(u64::from(round) + 230, 40 + round);
        }
        c.point(Side::B);
        println!("  home: {:?}", c.costs(Side::A).await);
        assert_eq!(hash(&home), before, "the old disk is not written");
        c.planned(Side::B).await;
        c.same(&c.disk(Side::B), &running_disk_after_stop(&c, Side::A));
    });
}

#[test]
fn a_last_point_that_could_not_be_sent_leaves_the_loop_as_it_was() {
    run("a_last_point_that_could_not_be_sent_leaves_the_loop_as_it_was", async |c| {
        c.machine(Side::A).write(1, 11);
        c.protect(Side::A, Base::Empty).await;
        let before = c.point(Side::A);
        c.machine(Side::A).stop();
        let address = c.site(Side::B).data_address();
        c.close(Side::B);
        let sync = || async { c.site(Side::A).final_sync(&c.call(), &c.item(), std::sync::Arc::new(provider::Quiet)).await };
        let cut = sync().await;
        assert!(matches!(cut, Err(provider::ProviderError::Unreachable { .. })), "{cut:?}");
        c.open_at(Side::B, address);
        c.machine(Side::A).start();
        c.machine(Side::A).write(2, 22);
        assert!(c.point(Side::A) > before, "the loop goes on");

        c.machine(Side::A).stop();
        let last = sync().await.expect("the rest is sent");
        assert_eq!(sync().await, Ok(last), "the same point again");
        // Somebody uses the machine after all: the point is not the last state any more.
        c.machine(Side::A).start();
        c.machine(Side::A).write(3, 33);
        c.machine(Side::A).stop();
        let later = sync().await.expect("the rest is sent");
        assert!(later > last);
        c.next_run();
        c.bring_up(Side::B, later).await;
        assert_eq!([1, 2, 3].map(|block| c.machine(Side::B).read(block)), [11, 22, 33]);
    });
}

#[test]
fn two_disks_go_there_and_back_to_their_last_odd_sector() {
    run("two_disks_go_there_and_back_to_their_last_odd_sector", async |c| {
        c.machine(Side::A).stop();
        c.machine(Side::A).add_disk();
        c.machine(Side::A).start();
        c.machine(Side::A).write(1, 11);
        c.machine(Side::A).write_end_of_second(12);
        c.protect(Side::A, Base::Empty).await;
        c.point(Side::A);
        c.machine(Side::A).write_end_of_second(13);
        c.planned(Side::A).await;
        c.commit(Side::B).await;
        c.machine(Side::B).write_end_of_second(22);
        c.points_every(600);
        c.reprotect(Side::B).await;
        c.point(Side::B);
        println!("  home: {:?}", c.costs(Side::A).await);
        assert_eq!(looked_at(&c, Side::B), 64_512, "only the part that was written");
        c.machine(Side::B).write_end_of_second(23);
        c.planned(Side::B).await;
        c.machine(Side::A).stop();
        for target in ["vda", "vdb"] {
            c.same(&c.machine(Side::B).disk_at(target), &c.machine(Side::A).disk_at(target));
        }
    });
}

#[test]
fn an_older_point_at_home_can_be_recovered_and_the_failback_undone() {
    run("an_older_point_at_home_can_be_recovered_and_the_failback_undone", async |c| {
        c.machine(Side::A).write(1, 11);
        c.protect(Side::A, Base::Empty).await;
        c.point(Side::A);
        c.unplanned(Side::A).await;
        c.commit(Side::B).await;
        c.machine(Side::B).write(1, 22);
        c.reprotect(Side::B).await;
        let older = c.point(Side::B);
        c.machine(Side::B).write(1, 33);
        let newer = c.point(Side::B);
        c.next_run();
        c.fence(Side::B).await;
        let away = c.recovered();
        c.bring_up(Side::A, older).await;
        assert_eq!(c.machine(Side::A).read(1), 22);
        let generation = c.generation();
        c.next_run();
        c.site(Side::A).discard(&c.call(), &c.item(), generation).await.expect("what came home is discarded");
        assert!(!c.machine(Side::A).is_known());
        c.bring_up(Side::A, newer).await;
        assert_eq!(c.machine(Side::A).read(1), 33);
        // What was written at home from the older point on, and then given up, is not in the map of the newer one.
        c.commit(Side::A).await;
        c.site(Side::B).retire(&c.call(), &c.item(), away.expect("it ran away from home")).await.expect("it is retired");
        c.machine(Side::A).write(2, 44);
        c.points_every(600);
        c.reprotect(Side::A).await;
        c.point(Side::A);
        assert!(looked_at(&c, Side::A) < 16 << 20, "all that may differ is known");
        c.planned(Side::A).await;
        c.same(&c.disk(Side::A), &running_disk_after_stop(&c, Side::B));
    });
}
