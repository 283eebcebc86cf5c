//! The contract holds for the simulated sites.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use ::recovery::SiteName;
use chrono::{DateTime, TimeDelta};

use super::*;
use crate::{
    Replication,
    sim::{Clock, SimWorld, Step},
};

/// Finishes a future that never waits.
fn finish<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a simulated call waits"),
    }
}

struct SimLab {
    world: SimWorld,
    a: SiteName,
    b: SiteName,
}

impl SimLab {
    fn new() -> Self {
        let seconds = std::sync::atomic::AtomicI64::new(0);
        let tick = move || DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
        let lab = Self { world: SimWorld::new(Clock::new(tick)), a: "a".parse().unwrap(), b: "b".parse().unwrap() };
        lab.world.add_machine(&lab.a, "vm", &[("vda", 16 << 20, "qcow2")]);
        lab.world.add_machine(&lab.a, "raw", &[("vda", 16 << 20, "raw")]);
        lab
    }
}

#[async_trait]
impl Lab for SimLab {
    fn source(&self) -> Arc<dyn Site> {
        Arc::new(self.world.site(&self.a))
    }

    fn target(&self) -> Arc<dyn Site> {
        Arc::new(self.world.site(&self.b))
    }

    fn item(&self) -> ItemName {
        "vm".parse().unwrap()
    }

    fn machine(&self) -> String {
        "vm".to_owned()
    }

    fn raw_machine(&self) -> String {
        "raw".to_owned()
    }

    fn route(&self, endpoint: Endpoint) -> Endpoint {
        endpoint
    }

    async fn write(&self, block: u64, content: u8) {
        assert!(self.world.write(&self.a, "vm", "vda", block, content.into()));
    }

    async fn write_recovered(&self, block: u64, content: u8) {
        assert!(self.world.write_recovered(&self.b, &self.item(), "vda", block, content.into()));
    }

    async fn read_recovered(&self, block: u64) -> u8 {
        self.world.read_recovered(&self.b, &self.item(), "vda", block).unwrap().try_into().unwrap()
    }

    async fn point(&self) -> PointId {
        match self.world.replicate(&self.item()) {
            Step::Point(id) => id,
            other @ (Step::Paused | Step::Superseded | Step::Quarantined | Step::Failed(_) | Step::NotReplicating) => panic!("no point: {other:?}"),
        }
    }

    async fn until_phase(&self, phase: Phase) {
        self.world.replicate(&self.item());
        let status = self.world.site(&self.a).replication_status(&self.item()).await.unwrap().unwrap();
        assert_eq!(status.phase, phase);
    }

    async fn cut_line_midway(&self) {
        self.world.tear_next_append(&self.item());
        assert!(matches!(self.world.replicate(&self.item()), Step::Failed(_)));
    }

    async fn mend_line(&self) {}

    async fn power_failure(&self) {
        self.world.power_failure(&self.a, "vm");
    }

    async fn power_on(&self) {
        self.world.power_on(&self.a, "vm");
    }

    async fn restart_source(&self) {}

    async fn restart_target(&self) {}
}

#[test]
fn the_simulated_provider_keeps_the_contract() {
    for case in CASES {
        let outcome = std::panic::catch_unwind(|| finish(run_case(case, &SimLab::new())));
        assert!(outcome.is_ok(), "case {case} failed");
    }
}
