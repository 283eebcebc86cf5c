//! An agent is stopped exactly between its check and the hypervisor call, another takes over and goes on, and then the stopped
//! one continues. Nothing that the other one made may be harmed.
//!
//! ```text
//!   this test            another process of this binary
//!     │ ──── spawn ────────▶ opens the site, makes a call, stops itself before STEP
//!     │ opens the same site: takes it over, and does what a newer call would do
//!     │ ──── SIGCONT ──────▶ makes the hypervisor call now: too late
//!     │ looks
//! ```

mod lab;

use std::sync::Arc;

use lab::{End, KvmLab, Other, call, generation, other, requirements, runtime, token};
use provider::{
    Call, FenceState, NetworkChoice, PowerState, PrepareReplica, RecoverMachine, Replicate, Site, contract::Lab,
};
use recovery::{EffectToken, PointId, ReplicationPolicy};
use serde::{Deserialize, Serialize};
use switchback_provider_kvm::KvmConfig;

/// What the other process is to do.
#[derive(Serialize, Deserialize)]
struct Order {
    item: String,
    token: EffectToken,
    point: Option<PointId>,
    what: What,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum What {
    Recover,
    Start,
    Discard,
    Fence,
    Lift,
}

/// The other process: it does what its order says, whatever comes of it.
#[test]
fn the_process_that_is_stopped() {
    let Some((site, order)) = other::ordered::<Order>() else { return };
    let site: Arc<dyn Site> = Arc::new(site);
    let item = order.item.parse().expect("the item has a name");
    let (call, generation) = (Call::new(order.token, "late"), order.token.generation());
    let outcome = runtime().block_on(async {
        match order.what {
            What::Recover => {
                let point = order.point.expect("a point is ordered");
                let wanted = RecoverMachine { item, generation, point, network: NetworkChoice::AsDefined };
                site.recover(&call, wanted).await.map(|done| format!("{done:?}"))
            }
            What::Start => site.start_machine(&call, &item, generation).await.map(|done| format!("{done:?}")),
            What::Discard => site.discard(&call, &item, generation).await.map(|()| String::new()),
            What::Fence => site.fence(&call, &item, &order.item).await.map(|done| format!("{done:?}")),
            What::Lift => site.lift_fence(&call, &item, &order.item).await.map(|()| String::new()),
        }
    });
    println!("the late call gave {outcome:?}");
}

/// Another process that has stopped before a step.
fn stopped_before(step: &str, config: KvmConfig, order: (What, EffectToken, Option<PointId>), item: &str) -> Other {
    let (what, token, point) = order;
    Other::stopped_before(step, "the_process_that_is_stopped", config, Order { item: item.to_owned(), token, point, what })
}

/// Lets it go on to its end.
fn go_on(stopped: Other) {
    stopped.go_on();
    assert!(stopped.end().success());
}

/// A lab with one point in which block 1 holds 11, sealed for generation 2.
async fn sealed(case: &str) -> Option<(KvmLab, PointId)> {
    let lab = KvmLab::new(requirements(case)?, case);
    let (item, machine) = (lab.item(), lab.machine());
    lab.write(1, 11).await;
    let inspected = lab.source().inspect(&machine).await.expect("the machine is inspected");
    let policy = ReplicationPolicy::new(1, 16, 3600, None).expect("the policy is within its limits");
    let prepare = PrepareReplica { item: item.clone(), generation: generation(1), machine: inspected, policy: policy.clone(), base: provider::Base::Empty };
    let endpoint = lab.target().prepare(&call(1, 1, 1), prepare).await.expect("the replica is prepared");
    let replicate = Replicate { item: item.clone(), machine, generation: generation(1), policy, endpoint, returning: None, group: None };
    lab.source().start_replication(&call(1, 2, 1), replicate).await.expect("replication starts");
    let point = lab.point().await;
    lab.target().seal(&call(2, 1, 1), &item, generation(2)).await.expect("the replica is sealed");
    Some((lab, point))
}

async fn recover(lab: &KvmLab, call: &Call, point: PointId) {
    let wanted = RecoverMachine { item: lab.item(), generation: call.token.generation(), point, network: NetworkChoice::AsDefined };
    lab.target().recover(call, wanted).await.expect("the point is recovered");
}

async fn start(lab: &KvmLab, call: &Call) {
    lab.target().start_machine(call, &lab.item(), call.token.generation()).await.expect("the machine starts");
}

async fn discard(lab: &KvmLab, call: &Call, grant_epoch: i64) {
    lab.target().discard(call, &lab.item(), generation(grant_epoch)).await.expect("the machine is discarded");
}

/// Stops a target's process before a step, takes over, and hands both back.
fn overtaken(lab: &KvmLab, step: &str, order: (What, EffectToken, Option<PointId>)) -> Other {
    lab.close(End::Target);
    let stopped = stopped_before(step, lab.target_config(), order, &lab.machine());
    lab.open(End::Target);
    stopped
}

/// Lets the stopped process go on; what exists is the same afterwards, once the agent has been restarted.
async fn nothing_changes(lab: &KvmLab, stopped: Other, blocks: &[(u64, u8)]) {
    let before = lab.target().inventory().await.expect("there is an inventory");
    let names = |inventory: provider::Inventory| {
        let ours = inventory.objects.into_iter().filter(|o| o.item == Some(lab.item()));
        // A journal is named by its writer, which is another one after each restart.
        ours.map(|o| (o.kind, o.name)).filter(|(_, name)| !name.contains("journal-w")).collect::<Vec<_>>()
    };
    go_on(stopped);
    for (block, content) in blocks {
        assert_eq!(lab.read_recovered(*block).await, *content, "block {block}");
    }
    lab.restart_target().await;
    let after = lab.target().inventory().await.expect("there is an inventory");
    assert_eq!(names(after), names(before));
}

#[test]
fn a_recover_that_comes_late_makes_garbage_and_nothing_else() {
    runtime().block_on(async {
        let Some((lab, point)) = sealed("a_recover_that_comes_late_makes_garbage_and_nothing_else").await else { return };
        let stopped = overtaken(&lab, "recover", (What::Recover, token(2, 2, 1), Some(point)));
        recover(&lab, &call(2, 2, 2), point).await;
        start(&lab, &call(2, 3, 1)).await;
        lab.write_recovered(2, 22).await;
        nothing_changes(&lab, stopped, &[(1, 11), (2, 22)]).await;
    });
}

#[test]
fn a_start_that_comes_late_starts_nothing_beside_a_newer_machine() {
    runtime().block_on(async {
        let Some((lab, point)) = sealed("a_start_that_comes_late_starts_nothing_beside_a_newer_machine").await else { return };
        recover(&lab, &call(2, 2, 1), point).await;
        let stopped = overtaken(&lab, "create", (What::Start, token(2, 3, 1), None));
        discard(&lab, &call(3, 1, 1), 2).await;
        recover(&lab, &call(3, 2, 1), point).await;
        start(&lab, &call(3, 3, 1)).await;
        lab.write_recovered(2, 22).await;
        nothing_changes(&lab, stopped, &[(1, 11), (2, 22)]).await;
    });
}

#[test]
fn a_start_that_comes_late_after_a_discard_leaves_no_machine() {
    runtime().block_on(async {
        let Some((lab, point)) = sealed("a_start_that_comes_late_after_a_discard_leaves_no_machine").await else { return };
        recover(&lab, &call(2, 2, 1), point).await;
        let stopped = overtaken(&lab, "create", (What::Start, token(2, 3, 1), None));
        discard(&lab, &call(2, 4, 1), 2).await;
        nothing_changes(&lab, stopped, &[]).await;
    });
}

#[test]
fn a_definition_that_comes_late_changes_no_newer_machine() {
    runtime().block_on(async {
        let Some((lab, point)) = sealed("a_definition_that_comes_late_changes_no_newer_machine").await else { return };
        recover(&lab, &call(2, 2, 1), point).await;
        let stopped = overtaken(&lab, "define", (What::Start, token(2, 3, 1), None));
        discard(&lab, &call(3, 1, 1), 2).await;
        recover(&lab, &call(3, 2, 1), point).await;
        start(&lab, &call(3, 3, 1)).await;
        lab.write_recovered(2, 22).await;
        nothing_changes(&lab, stopped, &[(1, 11), (2, 22)]).await;
    });
}

#[test]
fn a_discard_that_comes_late_ends_no_newer_machine() {
    runtime().block_on(async {
        let Some((lab, point)) = sealed("a_discard_that_comes_late_ends_no_newer_machine").await else { return };
        recover(&lab, &call(2, 2, 1), point).await;
        start(&lab, &call(2, 3, 1)).await;
        let stopped = overtaken(&lab, "destroy", (What::Discard, token(2, 4, 1), None));
        discard(&lab, &call(3, 1, 1), 2).await;
        recover(&lab, &call(3, 2, 1), point).await;
        start(&lab, &call(3, 3, 1)).await;
        lab.write_recovered(2, 22).await;
        nothing_changes(&lab, stopped, &[(1, 11), (2, 22)]).await;
    });
}

/// A lab whose source was left by its agent.
fn source_left(case: &str) -> Option<KvmLab> {
    let lab = KvmLab::new(requirements(case)?, case);
    lab.close(End::Source);
    Some(lab)
}

async fn fence_state(lab: &KvmLab) -> FenceState {
    lab.source().observe_fence(&lab.item(), &lab.machine()).await.expect("the fence is observed")
}

#[test]
fn a_fence_that_comes_late_does_not_end_a_machine_that_was_let_go_since() {
    runtime().block_on(async {
        let Some(lab) = source_left("a_fence_that_comes_late_does_not_end_a_machine_that_was_let_go_since") else { return };
        let stopped = stopped_before("destroy", lab.source_config(), (What::Fence, token(2, 1, 1), None), &lab.machine());
        lab.open(End::Source);
        lab.source().fence(&call(2, 1, 2), &lab.item(), &lab.machine()).await.expect("the machine is fenced");
        lab.source().lift_fence(&call(2, 2, 1), &lab.item(), &lab.machine()).await.expect("the fence is lifted");
        go_on(stopped);
        assert_eq!(lab.source_state(), "running");
        assert_eq!(fence_state(&lab).await, FenceState::Open { power: PowerState::Running, autostart: true });
    });
}

#[test]
fn a_lift_that_comes_late_starts_nothing_that_was_fenced_again() {
    runtime().block_on(async {
        let Some(lab) = source_left("a_lift_that_comes_late_starts_nothing_that_was_fenced_again") else { return };
        lab.open(End::Source);
        lab.source().fence(&call(2, 1, 1), &lab.item(), &lab.machine()).await.expect("the machine is fenced");
        lab.close(End::Source);
        let stopped = stopped_before("create", lab.source_config(), (What::Lift, token(2, 2, 1), None), &lab.machine());
        lab.open(End::Source);
        lab.source().lift_fence(&call(2, 2, 2), &lab.item(), &lab.machine()).await.expect("the fence is lifted");
        lab.source().fence(&call(3, 1, 1), &lab.item(), &lab.machine()).await.expect("the machine is fenced again");
        go_on(stopped);
        assert_eq!(lab.source_state(), "shut off");
        assert!(matches!(fence_state(&lab).await, FenceState::Fenced { .. }));
    });
}
