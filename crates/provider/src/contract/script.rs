//! The words in which cases are written.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicI64, Ordering},
};
use std::time::Duration;

use ::recovery::{EffectToken, Generation, Group, ItemName, PointId, ReplicationPolicy};

use super::{End, Lab};
use crate::{
    Base, Call, Endpoint, FenceProof, NetworkChoice, ObjectKind, Pin, PrepareReplica, ProviderError, Quiet, RecoverMachine, Recovered,
    Replica, Replicate, Site, Started,
};

/// Long enough for any guest that goes at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// A lab, and the token that the next call carries.
pub(super) struct Script<'a> {
    pub(super) lab: &'a dyn Lab,
    pub(super) item: ItemName,
    machine: String,
    group: Mutex<Option<Group>>,
    grant_epoch: AtomicI64,
    seq: AtomicI64,
    turned: AtomicBool,
}

impl<'a> Script<'a> {
    pub(super) fn new(lab: &'a dyn Lab) -> Self {
        Self::of(lab, lab.item(), lab.machine())
    }

    fn of(lab: &'a dyn Lab, item: ItemName, machine: String) -> Self {
        let (grant_epoch, seq, turned) = (AtomicI64::new(1), AtomicI64::new(0), AtomicBool::new(false));
        Self { lab, item, machine, group: Mutex::default(), grant_epoch, seq, turned }
    }

    /// The lab's second machine, as an item of its own.
    pub(super) async fn second(&self) -> Self {
        let machine = self.lab.second_machine().await;
        Self::of(self.lab, machine.parse().expect("the machine's name is an item's"), machine)
    }

    /// What replication is told of the item's group from now on.
    pub(super) fn in_group(&self, group: &Group) {
        *self.group.lock().expect("no case panicked here") = Some(group.clone());
    }

    /// Where data is replicated from now.
    pub(super) fn from(&self) -> End {
        if self.turned.load(Ordering::SeqCst) { End::Second } else { End::First }
    }

    pub(super) fn source(&self) -> Arc<dyn Site> {
        self.lab.site(self.from())
    }

    pub(super) fn target(&self) -> Arc<dyn Site> {
        self.lab.site(self.from().other())
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
        self.protect_keeping(12).await;
    }

    pub(super) async fn protect_with(&self, policy: ReplicationPolicy) {
        let endpoint = self.prepare(Base::Empty, &policy).await.expect("the replica is prepared");
        self.replicate(endpoint, policy, None).await;
    }

    /// Prepares the target for what the source has.
    pub(super) async fn prepare(&self, base: Base, policy: &ReplicationPolicy) -> Result<Endpoint, ProviderError> {
        let machine = self.source().inspect(&self.machine).await.expect("the machine is inspected");
        let wanted = PrepareReplica { item: self.item.clone(), generation: self.generation(), machine, policy: policy.clone(), base };
        self.target().prepare(&self.call(), wanted).await
    }

    pub(super) async fn replicate(&self, endpoint: Endpoint, policy: ReplicationPolicy, returning: Option<Generation>) {
        let replicate = Replicate {
            item: self.item.clone(),
            machine: self.machine.clone(),
            generation: self.generation(),
            policy,
            endpoint: if self.from() == End::First { self.lab.route(endpoint) } else { endpoint },
            returning,
            group: self.group.lock().expect("no case panicked here").clone(),
        };
        self.source().start_replication(&self.call(), replicate).await.expect("replication starts");
    }

    /// Asks the guest at the source to go.
    pub(super) async fn shut_down(&self, patience: Duration) -> Result<FenceProof, ProviderError> {
        self.source().shut_down(&self.call(), &self.item, &self.machine, patience).await
    }

    pub(super) async fn final_sync(&self) -> Result<PointId, ProviderError> {
        self.source().final_sync(&self.call(), &self.item, Arc::new(Quiet)).await
    }

    /// Lets the machine go down and be known to be down.
    pub(super) async fn gone_down(&self) {
        self.lab.shut_down_from_within(self.from()).await;
        self.shut_down(PATIENCE).await.expect("the machine is down");
    }

    /// Lets the machine go down, sends the rest, and runs it at the target. Returns the generation of what runs.
    pub(super) async fn planned_failover(&self) -> Generation {
        let generation = self.next_generation();
        self.gone_down().await;
        let point = self.final_sync().await.expect("the rest is sent");
        self.target().seal(&self.call(), &self.item, generation).await.expect("the replica is sealed");
        self.target().pin(&self.call(), &self.item, point, Pin("planned".to_owned())).await.expect("the point is pinned");
        self.run_from(point).await;
        generation
    }

    /// Accepts the failover of that generation.
    pub(super) async fn commit(&self, generation: Generation) {
        self.next_generation();
        let (target, item) = (self.target(), &self.item);
        target.keep_extent_map(&self.call(), item, generation).await.expect("the map is kept");
        target.withdraw_points(&self.call(), item).await.expect("the points are withdrawn");
        target.flatten(&self.call(), item, generation, Arc::new(Quiet)).await.expect("the machine is flattened");
        target.remove_points(&self.call(), item).await.expect("the points are removed");
    }

    /// Makes the site where it runs the source, and the other one the target.
    pub(super) fn turn(&self) {
        self.turned.fetch_xor(true, Ordering::SeqCst);
    }

    /// Fences the old machine, wherever it is not taken from its hypervisor already, and replicates onto its disks what was
    /// recovered under `returning`.
    pub(super) async fn reprotect(&self, returning: Generation) {
        self.turn();
        self.next_generation();
        let fenced = self.target().fence(&self.call(), &self.item, &self.machine).await;
        assert!(matches!(fenced, Ok(_) | Err(ProviderError::NoSuchMachine { .. })), "{fenced:?}");
        let policy = ReplicationPolicy::new(1, 16, 3600, None).expect("the policy is within its limits");
        let endpoint = self.prepare(Base::OldMachine, &policy).await.expect("the old machine is the base");
        self.replicate(endpoint, policy, Some(returning)).await;
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
