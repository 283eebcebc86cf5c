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

use std::{
    fs,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use lab::{End, KvmLab, requirements, wait_until};
use provider::{
    Call, FenceState, NetworkChoice, PowerState, PrepareReplica, RecoverMachine, Replicate, Site, contract::Lab,
};
use recovery::{EffectToken, Generation, PointId, ReplicationPolicy};
use serde::{Deserialize, Serialize};
use switchback_provider_kvm::{KvmConfig, KvmSite, TlsIdentity};

const ORDER: &str = "SWITCHBACK_TEST_LATE_CALL";

/// What the other process is to do.
#[derive(Serialize, Deserialize)]
struct Order {
    site: String,
    libvirt_uri: String,
    storage_dir: String,
    state_dir: String,
    identity: [String; 4],
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

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts")
}

/// The other process: it does what its order says, whatever comes of it.
#[test]
fn the_process_that_is_stopped() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let order: Order = serde_json::from_str(&order).expect("the order can be read");
    let [ca_pem, cert_pem, key_pem, name] = order.identity;
    let site = KvmSite::open(KvmConfig {
        site: order.site.parse().expect("the site has a name"),
        libvirt_uri: order.libvirt_uri,
        storage_dir: order.storage_dir.into(),
        state_dir: order.state_dir.into(),
        data_listen: ([127, 0, 0, 1], 0).into(),
        tls: TlsIdentity { ca_pem, cert_pem, key_pem, name },
        autostart_patience: provider::AUTOSTART_PATIENCE,
    });
    let site: Arc<dyn Site> = Arc::new(site.expect("the site opens"));
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

/// The other process, stopped.
struct Stopped(Child);

impl Stopped {
    fn before(step: &str, config: &KvmConfig, order: (What, EffectToken, Option<PointId>), item: &str) -> Self {
        let (what, token, point) = order;
        let TlsIdentity { ca_pem, cert_pem, key_pem, name } = config.tls.clone();
        let order = Order {
            site: config.site.to_string(),
            libvirt_uri: config.libvirt_uri.clone(),
            storage_dir: config.storage_dir.display().to_string(),
            state_dir: config.state_dir.display().to_string(),
            identity: [ca_pem, cert_pem, key_pem, name],
            item: item.to_owned(),
            token,
            point,
            what,
        };
        let mut command = Command::new(std::env::current_exe().expect("this test has a program"));
        command.args(["--exact", "the_process_that_is_stopped", "--nocapture"]);
        command.env(ORDER, serde_json::to_string(&order).expect("the order is written"));
        command.env("SWITCHBACK_PAUSE_BEFORE", step).stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.spawn().expect("the other process starts");
        let stat = format!("/proc/{}/stat", child.id());
        wait_until(&format!("the other process to stop before {step}"), || {
            let line = fs::read_to_string(&stat).ok()?;
            let state = line.rsplit_once(") ")?.1.chars().next()?;
            assert_ne!(state, 'Z', "the other process ended without coming to {step}");
            (state == 'T').then_some(())
        });
        Self(child)
    }

    /// Lets it go on to its end.
    fn go_on(self) {
        let pid = self.0.id().to_string();
        let continued = Command::new("kill").args(["-CONT", &pid]).status().expect("kill can be started");
        assert!(continued.success());
        let output = self.0.wait_with_output().expect("the other process ends");
        println!("{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success());
    }
}

fn token(grant_epoch: i64, seq: i64, attempt: i64) -> EffectToken {
    EffectToken { era: 1, grant_epoch, seq, run_epoch: 1, attempt }
}

fn call(grant_epoch: i64, seq: i64, attempt: i64) -> Call {
    Call::new(token(grant_epoch, seq, attempt), "late-calls")
}

fn generation(grant_epoch: i64) -> Generation {
    Generation { era: 1, grant_epoch }
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
    let replicate = Replicate { item: item.clone(), machine, generation: generation(1), policy, endpoint, returning: None };
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
fn overtaken(lab: &KvmLab, step: &str, order: (What, EffectToken, Option<PointId>)) -> Stopped {
    lab.close(End::Target);
    let stopped = Stopped::before(step, &lab.target_config(), order, &lab.machine());
    lab.open(End::Target);
    stopped
}

/// Lets the stopped process go on; what exists is the same afterwards, once the agent has been restarted.
async fn nothing_changes(lab: &KvmLab, stopped: Stopped, blocks: &[(u64, u8)]) {
    let before = lab.target().inventory().await.expect("there is an inventory");
    let names = |inventory: provider::Inventory| {
        let ours = inventory.objects.into_iter().filter(|o| o.item == Some(lab.item()));
        // A journal is named by its writer, which is another one after each restart.
        ours.map(|o| (o.kind, o.name)).filter(|(_, name)| !name.contains("journal-w")).collect::<Vec<_>>()
    };
    stopped.go_on();
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
        let stopped = Stopped::before("destroy", &lab.source_config(), (What::Fence, token(2, 1, 1), None), &lab.machine());
        lab.open(End::Source);
        lab.source().fence(&call(2, 1, 2), &lab.item(), &lab.machine()).await.expect("the machine is fenced");
        lab.source().lift_fence(&call(2, 2, 1), &lab.item(), &lab.machine()).await.expect("the fence is lifted");
        stopped.go_on();
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
        let stopped = Stopped::before("create", &lab.source_config(), (What::Lift, token(2, 2, 1), None), &lab.machine());
        lab.open(End::Source);
        lab.source().lift_fence(&call(2, 2, 2), &lab.item(), &lab.machine()).await.expect("the fence is lifted");
        lab.source().fence(&call(3, 1, 1), &lab.item(), &lab.machine()).await.expect("the machine is fenced again");
        stopped.go_on();
        assert_eq!(lab.source_state(), "shut off");
        assert!(matches!(fence_state(&lab).await, FenceState::Fenced { .. }));
    });
}
