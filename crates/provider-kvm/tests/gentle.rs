//! Guests that are asked: to shut down, and to hold still for an app-consistent point. Real guests, with and without an agent.

mod lab;

use std::time::Duration;

use lab::{End, GuestLab, call, runtime};
use provider::{FenceMethod, FenceState, Phase, PowerState, ProviderError};

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
