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
    ReplicaStore, Replication,
    sim::{Clock, SimWorld, Step, Together},
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
    uuid: String,
}

impl SimLab {
    fn new() -> Self {
        let seconds = std::sync::atomic::AtomicI64::new(0);
        let tick = move || DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
        let (world, a, b): (_, SiteName, SiteName) = (SimWorld::new(Clock::new(tick)), "a".parse().unwrap(), "b".parse().unwrap());
        world.add_machine(&a, "vm", &[("vda", 16 << 20, "qcow2")]);
        world.add_machine(&a, "raw", &[("vda", 16 << 20, "raw")]);
        let uuid = world.machine(&a, "vm").unwrap().uuid;
        Self { world, a, b, uuid }
    }

    /// Every loop takes a step, then the item's group tries a moment.
    fn together(&self, item: &ItemName) -> Together {
        let status = finish(self.world.site(&self.a).replication_status(item)).unwrap().unwrap();
        for item in [self.item(), "vm2".parse().unwrap()] {
            self.world.replicate(&item);
        }
        self.world.take_moment(&status.group.unwrap().group)
    }

    fn at(&self, end: End) -> &SiteName {
        match end {
            End::First => &self.a,
            End::Second => &self.b,
        }
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

    async fn second_machine(&self) -> String {
        if self.world.machine(&self.a, "vm2").is_none() {
            self.world.add_machine(&self.a, "vm2", &[("vda", 16 << 20, "qcow2")]);
        }
        "vm2".to_owned()
    }

    async fn moment(&self, item: &ItemName) -> String {
        let taken = self.together(item).moment.unwrap();
        let status = self.world.site(&self.a).replication_status(item).await.unwrap().unwrap().group.unwrap();
        assert_eq!(status.last.map(|last| last.moment).as_ref(), Some(&taken.moment));
        taken.moment
    }

    async fn no_moment(&self, item: &ItemName, words: &[&str]) -> String {
        let why = self.together(item).moment.unwrap_err();
        assert!(words.iter().all(|word| why.contains(word)), "{why}");
        why
    }

    async fn power_second(&self, on: bool) {
        if on { self.world.power_on(&self.a, "vm2") } else { self.world.power_failure(&self.a, "vm2") }
    }

    fn route(&self, endpoint: Endpoint) -> Endpoint {
        endpoint
    }

    async fn write_in(&self, end: End, machine: &str, block: u64, content: u8) {
        assert!(self.world.write(self.at(end), machine, "vda", block, content.into()), "{machine} does not run at {end:?}");
    }

    async fn read_in(&self, end: End, machine: &str, block: u64) -> u8 {
        self.world.read(self.at(end), machine, "vda", block).unwrap().try_into().unwrap()
    }

    async fn first_disk(&self) -> String {
        let known = self.world.contents(&self.a, "vm").filter(|_| self.world.machine(&self.a, "vm").unwrap().uuid == self.uuid);
        let contents = known.or_else(|| self.world.base_contents(&self.a, &self.item()));
        format!("{:?}", contents.unwrap())
    }

    async fn point_from(&self, end: End) -> PointId {
        match self.world.replicate(&self.item()) {
            Step::Point(id) => {
                assert!(self.world.site(self.at(end.other())).replica(&self.item()).await.unwrap().points.iter().any(|p| p.id == id));
                id
            }
            other @ (Step::Paused | Step::Superseded | Step::Quarantined | Step::Failed(_) | Step::NotReplicating) => {
                panic!("no point: {other:?}")
            }
        }
    }

    async fn until_phase_at(&self, end: End, phase: Phase) {
        self.world.replicate(&self.item());
        let status = self.world.site(self.at(end)).replication_status(&self.item()).await.unwrap().unwrap();
        assert_eq!(status.phase, phase);
    }

    async fn cut_line_midway(&self) {
        self.world.tear_next_append(&self.item());
        assert!(matches!(self.world.replicate(&self.item()), Step::Failed(_)));
    }

    async fn cut_line(&self) {
        self.world.cut_line(&self.a, &self.b, true);
    }

    async fn mend_line(&self) {
        self.world.cut_line(&self.a, &self.b, false);
    }

    async fn power_failure_at(&self, end: End) {
        self.world.power_failure(self.at(end), "vm");
    }

    async fn power_on_at(&self, end: End) {
        self.world.power_on(self.at(end), "vm");
    }

    async fn shut_down_from_within(&self, end: End) {
        self.world.shut_down_from_within(self.at(end), "vm");
    }

    async fn heed_shut_down(&self, end: End, heeds: bool) {
        self.world.ignore_shut_down(self.at(end), "vm", !heeds);
    }

    async fn refuse_freeze(&self) {
        self.world.refuse_freeze(&self.a, "vm", true);
    }

    async fn stranger_on(&self, _network: &str, there: bool) {
        self.world.join_test_network(&self.b, &self.item(), there);
    }

    async fn restart_source(&self) {}

    async fn restart_target(&self) {}
}

#[test]
fn the_simulated_provider_keeps_the_contract() {
    let holds = |case: &str| std::panic::catch_unwind(|| finish(run_case(case, &SimLab::new()))).is_ok();
    let failed: Vec<&&str> = CASES.iter().filter(|case| !holds(case)).collect();
    assert!(failed.is_empty(), "these cases failed: {failed:?}");
}
