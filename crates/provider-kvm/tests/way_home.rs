//! From A to B and home again: what is sent back, what is left alone, and what may go wrong on the way.

mod lab;

use std::{fs, path::Path};

use lab::{
    circle::{Circle, Side},
    requirements,
};
use provider::Base;
use sha2::{Digest, Sha256};

fn run(case: &str, of: impl AsyncFnOnce(Circle)) {
    let Some(sites) = requirements(case) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts");
    runtime.block_on(of(Circle::new(sites, case)));
}

fn hash(path: &Path) -> String {
    hex::encode(Sha256::digest(fs::read(path).expect("the image can be read")))
}

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
