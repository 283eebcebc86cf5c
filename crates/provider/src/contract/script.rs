//! The words in which cases are written.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use ::recovery::{EffectToken, Generation, ItemName, PointId, ReplicationPolicy};

use super::Lab;
use crate::{
    Call, NetworkChoice, ObjectKind, PrepareReplica, ProviderError, Quiet, RecoverMachine, Recovered, Replica, Replicate,
    Site, Started,
};

/// A lab, and the token that the next call carries.
pub(super) struct Script<'a> {
    pub(super) lab: &'a dyn Lab,
    pub(super) item: ItemName,
    grant_epoch: AtomicI64,
    seq: AtomicI64,
}

impl<'a> Script<'a> {
    pub(super) fn new(lab: &'a dyn Lab) -> Self {
        Self { lab, item: lab.item(), grant_epoch: AtomicI64::new(1), seq: AtomicI64::new(0) }
    }

    pub(super) fn source(&self) -> Arc<dyn Site> {
        self.lab.source()
    }

    pub(super) fn target(&self) -> Arc<dyn Site> {
        self.lab.target()
    }

    pub(super) fn generation(&self) -> Generation {
        Generation { era: 1, grant_epoch: self.grant_epoch.load(Ordering::SeqCst) }
    }

    /// Another run gets the item.
    pub(super) fn next_generation(&self) -> Generation {
        self.grant_epoch.fetch_add(1, Ordering::SeqCst);
        self.generation()
    }

    /// The next step's call.
    pub(super) fn call(&self) -> Call {
        let Generation { era, grant_epoch } = self.generation();
        let seq = self.seq.fetch_add(1, Ordering::SeqCst) + 1;
        Call::new(EffectToken { era, grant_epoch, seq, run_epoch: 1, attempt: 1 }, "contract")
    }

    /// Replication of the item every second under these numbers.
    pub(super) async fn protect_keeping(&self, retention_points: u32) {
        let policy = ReplicationPolicy::new(1, retention_points, 3600, None).expect("the case's policy is within its limits");
        self.protect_with(policy).await;
    }

    pub(super) async fn protect(&self) {
        self.protect_keeping(24).await;
    }

    pub(super) async fn protect_with(&self, policy: ReplicationPolicy) {
        let machine = self.source().inspect(&self.lab.machine()).await.expect("the machine is inspected");
        let generation = self.generation();
        let prepare = PrepareReplica { item: self.item.clone(), generation, machine, policy: policy.clone(), base: crate::Base::Empty };
        let endpoint = self.target().prepare(&self.call(), prepare).await.expect("the replica is prepared");
        let replicate = Replicate {
            item: self.item.clone(),
            machine: self.lab.machine(),
            generation,
            policy,
            endpoint: self.lab.route(endpoint),
            returning: None,
        };
        self.source().start_replication(&self.call(), replicate).await.expect("replication starts");
    }

    pub(super) async fn replica(&self) -> Replica {
        self.target().replica(&self.item).await.expect("there is a replica")
    }

    /// Numbers of the points that are offered.
    pub(super) async fn offered(&self) -> Vec<PointId> {
        self.replica().await.points.iter().map(|p| p.id).collect()
    }

    /// Another run gets the item and seals its replica.
    pub(super) async fn seal(&self) -> Replica {
        let generation = self.next_generation();
        self.target().seal(&self.call(), &self.item, generation).await.expect("the replica is sealed")
    }

    pub(super) fn wanted(&self, point: PointId) -> RecoverMachine {
        RecoverMachine { item: self.item.clone(), generation: self.generation(), point, network: NetworkChoice::AsDefined }
    }

    pub(super) async fn try_recover(&self, point: PointId) -> Result<Recovered, ProviderError> {
        self.target().recover(&self.call(), self.wanted(point)).await
    }

    pub(super) async fn try_start(&self) -> Result<Started, ProviderError> {
        self.target().start_machine(&self.call(), &self.item, self.generation()).await
    }

    /// Recovers a point and starts the machine.
    pub(super) async fn run_from(&self, point: PointId) -> Started {
        self.try_recover(point).await.expect("the point is recovered");
        self.try_start().await.expect("the machine starts")
    }

    pub(super) async fn discard(&self) {
        self.target().discard(&self.call(), &self.item, self.generation()).await.expect("the machine is discarded");
    }

    pub(super) async fn flatten(&self) {
        let flattened = self.target().flatten(&self.call(), &self.item, self.generation(), Arc::new(Quiet)).await;
        flattened.expect("the machine is flattened");
    }

    /// Objects of these kinds at a site, by name.
    pub(super) async fn objects(&self, site: &Arc<dyn Site>, kinds: &[ObjectKind]) -> Vec<String> {
        let inventory = site.inventory().await.expect("there is an inventory");
        let of_kind = inventory.objects.into_iter().filter(|o| kinds.contains(&o.kind));
        of_kind.filter(|o| o.item.as_ref().is_none_or(|item| *item == self.item)).map(|o| o.name).collect()
    }
}
