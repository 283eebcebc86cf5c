//! Guests that are asked: to shut down, and to hold still for an app-consistent point. Real guests, with and without an agent.

mod lab;

use std::{fs, process::Command, time::Duration};

use lab::{End, GuestLab, Other, call, other, runtime, wait_until};
use provider::{FenceMethod, FenceState, Phase, PowerState, ProviderError};
use recovery::Consistency;

const PATIENT: Duration = Duration::from_secs(60);

async fn fence_state(lab: &GuestLab) -> FenceState {
    lab.source().observe_fence(&lab.item(), &lab.name).await.expect("the fence is observed")
}

async fn shut_down(lab: &GuestLab, seq: i64, patience: Duration) -> Result<provider::FenceProof, ProviderError> {
    lab.source().shut_down(&call(2, seq, 1), &lab.item(), &lab.name, patience).await
}

#[test]
fn a_guest_that_shuts_down_is_fenced_while_its_replication_goes_on_and_a_lift_brings_it_back() {
    runtime().block_on(async {
        let Some(lab) = GuestLab::new("a_guest_that_shuts_down_is_fenced", "") else { return };
        lab.protect(1, None).await;
        assert!(!lab.flag(), "the agent starts it with the host");
        let proof = shut_down(&lab, 1, PATIENT).await.expect("the guest shuts down");
        assert_eq!((proof.method, proof.power, proof.autostart_off), (FenceMethod::ShutDown, PowerState::Off, true));
        let again = lab.source().shut_down(&call(2, 1, 2), &lab.item(), &lab.name, PATIENT).await.expect("twice is once");
        assert_eq!(again.method, FenceMethod::ShutDown);
        assert!(matches!(fence_state(&lab).await, FenceState::Fenced { .. }));
        lab.until_phase(Phase::Paused).await;
        lab.source().lift_fence(&call(2, 2, 1), &lab.item(), &lab.name).await.expect("the fence is lifted");
        assert_eq!(fence_state(&lab).await, FenceState::Open { power: PowerState::Running, autostart: true });
        lab.until_phase(Phase::Replicating).await;
        assert_eq!(lab.ask(End::Source, "verify")["bad"], 0);
        lab.source().stop_replication(&call(3, 1, 1), &lab.item()).await.expect("replication stops");
        assert!(lab.flag(), "libvirt starts it with the host again");
    });
}

#[test]
fn a_guest_without_an_agent_is_shut_down_by_its_power_button() {
    runtime().block_on(async {
        let Some(lab) = GuestLab::new("a_guest_without_an_agent_is_shut_down_by_its_power_button", "agent=no") else { return };
        let proof = shut_down(&lab, 1, PATIENT).await.expect("the guest shuts down");
        assert_eq!(proof.method, FenceMethod::ShutDown);
        assert!(!lab.flag());
        lab.source().lift_fence(&call(2, 2, 1), &lab.item(), &lab.name).await.expect("the fence is lifted");
        assert_eq!((lab.state(End::Source, &lab.name).as_str(), lab.flag()), ("running", true));
    });
}

#[test]
fn a_guest_that_ignores_shutdown_goes_on_running_with_autostart_and_replication_as_before() {
    runtime().block_on(async {
        let Some(lab) = GuestLab::new("a_guest_that_ignores_shutdown_goes_on_running", "down=never") else { return };
        lab.protect(1, None).await;
        let before = fence_state(&lab).await;
        assert_eq!(before, FenceState::Open { power: PowerState::Running, autostart: true });
        let refused = shut_down(&lab, 1, Duration::from_secs(5)).await;
        assert!(matches!(refused, Err(ProviderError::StillRunning { .. })), "{refused:?}");
        assert_eq!(fence_state(&lab).await, before);
        let status = lab.source().replication_status(&lab.item()).await.expect("there is a status").expect("it is replicated");
        lab.until("the next point", |now| (now.last_point > status.last_point).then_some(())).await;
    });
}

#[test]
fn a_guest_that_goes_down_too_late_is_not_fenced_and_a_lift_starts_it_again() {
    runtime().block_on(async {
        let Some(lab) = GuestLab::new("a_guest_that_goes_down_too_late_is_not_fenced", "down=6") else { return };
        let refused = shut_down(&lab, 1, Duration::from_secs(2)).await;
        assert!(matches!(refused, Err(ProviderError::StillRunning { .. })), "{refused:?}");
        lab.until_state(End::Source, &lab.name, "shut off");
        assert_eq!(fence_state(&lab).await, FenceState::Open { power: PowerState::Off, autostart: true });
        lab.source().lift_fence(&call(2, 2, 1), &lab.item(), &lab.name).await.expect("what was asked is taken back");
        assert_eq!(fence_state(&lab).await, FenceState::Open { power: PowerState::Running, autostart: true });
    });
}

#[test]
fn an_agent_that_dies_while_it_waits_finds_the_guest_off_and_what_it_was_like() {
    runtime().block_on(async {
        let Some(lab) = GuestLab::new("an_agent_that_dies_while_it_waits", "down=4") else { return };
        let refused = shut_down(&lab, 1, Duration::from_secs(1)).await;
        assert!(matches!(refused, Err(ProviderError::StillRunning { .. })), "{refused:?}");
        lab.close(End::Source);
        lab.until_state(End::Source, &lab.name, "shut off");
        lab.open(End::Source);
        let proof = shut_down(&lab, 2, PATIENT).await.expect("it is off");
        assert_eq!(proof.method, FenceMethod::ShutDown);
        lab.source().lift_fence(&call(2, 3, 1), &lab.item(), &lab.name).await.expect("the fence is lifted");
        assert_eq!(fence_state(&lab).await, FenceState::Open { power: PowerState::Running, autostart: true });
    });
}

#[test]
fn a_paused_guest_and_one_that_would_be_started_again_are_refused_in_words() {
    runtime().block_on(async {
        let Some(lab) = GuestLab::new("a_paused_guest_is_refused", "") else { return };
        lab.virsh(End::Source, &["suspend", &lab.name]);
        let refused = shut_down(&lab, 1, PATIENT).await.expect_err("a paused guest can't hear");
        assert!(refused.to_string().contains("paused") && refused.not_applied(), "{refused}");
        lab.virsh(End::Source, &["resume", &lab.name]);
        lab.virsh(End::Source, &["set-lifecycle-action", &lab.name, "poweroff", "restart", "--live"]);
        let refused = shut_down(&lab, 2, PATIENT).await.expect_err("it would start again");
        assert!(refused.to_string().contains("on_poweroff=restart") && refused.not_applied(), "{refused}");
        assert_eq!(fence_state(&lab).await, FenceState::Open { power: PowerState::Running, autostart: true });
    });
}

/// What the guest's agent says of its file systems; `None` while it does not answer.
fn frozen(lab: &GuestLab) -> Option<String> {
    let asked = ["-q", "-c", &lab.sites.a.uri, "qemu-agent-command", &lab.name, r#"{"execute":"guest-fsfreeze-status"}"#];
    let answer = Command::new("virsh").args(asked).output().expect("virsh can be started");
    let answer: serde_json::Value = serde_json::from_slice(&answer.stdout).ok()?;
    answer["return"].as_str().map(str::to_owned)
}

#[test]
fn an_app_consistent_point_is_taken_when_it_is_due_and_the_guest_goes_on() {
    runtime().block_on(async {
        let Some(lab) = GuestLab::new("an_app_consistent_point_is_taken_when_it_is_due", "") else { return };
        lab.protect(1, Some(1)).await;
        let first = lab.until("an app-consistent point", |s| s.last_app_point).await;
        lab.until("the next one", |s| s.last_app_point.filter(|next| *next > first)).await;
        lab.source().stop_replication(&call(1, 3, 1), &lab.item()).await.expect("replication stops");
        assert_eq!(frozen(&lab).as_deref(), Some("thawed"));
        let replica = lab.target().replica(&lab.item()).await.expect("there is a replica");
        assert!(replica.points.iter().any(|p| p.id == first && p.consistency == Consistency::App), "{:?}", replica.points);
        assert_eq!(lab.ask(End::Source, "append?n=1")["ok"], true);
        let journaled = fs::read_dir(lab.dir(End::Source, "agent").join("frozen")).expect("it can be listed").count();
        assert_eq!(journaled, 0);
    });
}

#[test]
fn a_guest_that_can_not_be_frozen_gets_crash_consistent_points_and_the_reason_is_told() {
    runtime().block_on(async {
        let Some(lab) = GuestLab::new("a_guest_that_can_not_be_frozen", "agent=no") else { return };
        lab.protect(1, Some(600)).await;
        let told = lab.until("the reason", |s| s.app_error.clone()).await;
        assert!(told.contains("agent"), "{told}");
        let first = lab.until("a point", |s| s.last_point).await;
        let status = lab.until("more points", |s| (s.last_point > Some(first)).then(|| s.clone())).await;
        assert_eq!((status.last_app_point, status.app_error), (None, Some(told)), "it is not tried at each point");
    });
}

#[test]
fn the_agent_that_is_killed() {
    other::agent_until_killed();
}

/// Another agent for the lab's source, which stops itself before a step.
fn agent_that_stops_before(step: &str, lab: &GuestLab) -> Other {
    Other::stopped_before(step, "the_agent_that_is_killed", lab.config(End::Source), ())
}

#[test]
fn an_agent_that_is_killed_before_the_thaw_leaves_a_guest_that_the_next_one_thaws() {
    runtime().block_on(async {
        let Some(lab) = GuestLab::new("an_agent_that_is_killed_before_the_thaw", "") else { return };
        lab.protect(1, Some(1)).await;
        lab.close(End::Source);
        let killed = agent_that_stops_before("thaw", &lab);
        assert_eq!(frozen(&lab).as_deref(), Some("frozen"));
        killed.kill();
        assert_eq!(frozen(&lab).as_deref(), Some("frozen"), "nothing in the guest ends it");
        lab.open(End::Source);
        wait_until("the guest to be thawed", || frozen(&lab).filter(|state| state == "thawed"));
        assert_eq!(lab.ask(End::Source, "append?n=1")["ok"], true);
        lab.until("the next app-consistent point", |s| s.last_app_point).await;
    });
}

#[test]
fn an_agent_that_was_stopped_before_the_freeze_and_comes_late_leaves_no_frozen_guest() {
    runtime().block_on(async {
        let Some(lab) = GuestLab::new("an_agent_that_was_stopped_before_the_freeze", "") else { return };
        lab.protect(1, Some(1)).await;
        lab.close(End::Source);
        let late = agent_that_stops_before("freeze", &lab);
        lab.open(End::Source);
        lab.source().stop_replication(&call(2, 1, 1), &lab.item()).await.expect("replication stops");
        late.go_on();
        late.kill();
        wait_until("nothing to be owed", || {
            let owed = fs::read_dir(lab.dir(End::Source, "agent").join("frozen")).expect("it can be listed").count();
            (owed == 0).then_some(())
        });
        assert_eq!(frozen(&lab).as_deref(), Some("thawed"));
    });
}
