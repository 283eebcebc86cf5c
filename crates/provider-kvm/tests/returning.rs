//! A site that comes back after it was dead or cut off: its machine starts, waits, or is quarantined.
//!
//! The host's boot is another process of this binary, an agent for which `SWITCHBACK_BOOT_ID` says that the host has booted.

mod lab;

use std::time::Duration;

use lab::{End, GuestLab, Other, call, generation, other, runtime, wait_until};
use provider::{FenceState, NetworkChoice, Phase, PowerState, RecoverMachine, SourceMachine};
use recovery::PointId;
use switchback_provider_kvm::KvmConfig;

#[test]
fn the_agent_of_a_host_that_has_booted() {
    other::agent_until_killed();
}

/// The host of the lab's source has booted, and its agent runs until this goes.
fn booted(lab: &GuestLab, boot: &str, patience: Duration) -> Other {
    let config = KvmConfig { autostart_patience: patience, ..lab.config(End::Source) };
    Other::spawn("the_agent_of_a_host_that_has_booted", config, (), ("SWITCHBACK_BOOT_ID", boot))
}

/// The host dies with its machine and its agent, and boots.
fn booted_after_death(lab: &GuestLab, boot: &str, patience: Duration) -> Other {
    lab.close(End::Source);
    if lab.state(End::Source, &lab.name) != "shut off" {
        lab.virsh(End::Source, &["destroy", &lab.name]);
    }
    booted(lab, boot, patience)
}

const LONG: Duration = Duration::from_secs(600);

async fn seal(lab: &GuestLab, grant_epoch: i64) -> PointId {
    let replica = lab.target().seal(&call(grant_epoch, 1, 1), &lab.item(), generation(grant_epoch)).await.expect("it is sealed");
    replica.points.last().expect("there is a point").id
}

/// An unfenced failover that somebody has accepted.
async fn start_at_target(lab: &GuestLab, grant_epoch: i64, point: PointId) {
    let (item, generation) = (lab.item(), generation(grant_epoch));
    let wanted = RecoverMachine { item: item.clone(), generation, point, network: NetworkChoice::AsDefined };
    lab.target().recover(&call(grant_epoch, 2, 1), wanted).await.expect("the point is recovered");
    lab.target().start_machine(&call(grant_epoch, 3, 1), &item, generation).await.expect("the machine starts");
}

/// The source's agent says that its machine is quarantined, and it is.
async fn quarantined(lab: &GuestLab) {
    lab.until_phase(Phase::Quarantined).await;
    let fence = lab.source().observe_fence(&lab.item(), &lab.name).await.expect("the fence is observed");
    assert!(matches!(fence, FenceState::Fenced { .. }), "{fence:?}");
    assert_eq!((lab.state(End::Source, &lab.name).as_str(), lab.flag()), ("shut off", false));
}

#[test]
fn a_machine_whose_host_boots_is_started_when_the_target_takes_its_points() {
    runtime().block_on(async {
        let Some(lab) = GuestLab::new("a_machine_whose_host_boots_is_started", "") else { return };
        lab.protect(1, None).await;
        let agent = booted_after_death(&lab, "second boot", LONG);
        lab.until_state(End::Source, &lab.name, "running");
        drop(agent);
        assert!(!lab.flag(), "the agent goes on to decide");
        let again = booted_after_death(&lab, "third boot", LONG);
        lab.until_state(End::Source, &lab.name, "running");
        drop(again);
        assert_eq!(lab.ask(End::Source, "verify")["bad"], 0);
    });
}

#[test]
fn a_machine_that_a_person_shut_down_stays_off_when_the_agent_is_started_again() {
    runtime().block_on(async {
        let Some(lab) = GuestLab::new("a_machine_that_a_person_shut_down_stays_off", "") else { return };
        lab.protect(1, None).await;
        lab.virsh(End::Source, &["destroy", &lab.name]);
        lab.close(End::Source);
        lab.open(End::Source);
        lab.until_phase(Phase::Paused).await;
        let seen = lab.until_report(End::Source, "a report that it is off", |r| r.source.as_ref().is_some_and(|m| m.power == PowerState::Off));
        assert_eq!(seen.source, Some(SourceMachine { machine: lab.name.clone(), power: PowerState::Off, autostart: true }));
        assert_eq!(lab.state(End::Source, &lab.name), "shut off");
    });
}

#[test]
fn a_machine_that_was_started_elsewhere_is_quarantined_when_its_host_boots() {
    runtime().block_on(async {
        let Some(lab) = GuestLab::new("a_machine_that_was_started_elsewhere_is_quarantined", "") else { return };
        lab.protect(1, None).await;
        lab.close(End::Source);
        lab.virsh(End::Source, &["destroy", &lab.name]);
        let point = seal(&lab, 2).await;
        start_at_target(&lab, 2, point).await;
        let seen = lab.until_report(End::Target, "a report that it runs", |r| r.recovered == Some(PowerState::Running));
        assert!(seen.replica.is_some());
        let agent = booted(&lab, "second boot", Duration::from_millis(1));
        let record = lab.dir(End::Source, "agent").join("fence").join(&lab.name);
        wait_until("the quarantine", || {
            let fences = std::fs::read_dir(&record).ok()?.filter_map(|e| std::fs::read_to_string(e.ok()?.path()).ok());
            fences.into_iter().any(|text| text.contains("quarantined by")).then_some(())
        });
        drop(agent);
        lab.open(End::Source);
        quarantined(&lab).await;

        lab.virsh(End::Source, &["start", &lab.name]);
        let running = |r: &provider::ItemReport| r.source.as_ref().is_some_and(|m| m.power == PowerState::Running);
        let told = lab.until_report(End::Source, "a report that somebody started it", running);
        assert_eq!(told.replication.map(|r| r.phase), Some(Phase::Quarantined));
        let fence = lab.source().observe_fence(&lab.item(), &lab.name).await.expect("the fence is observed");
        assert!(matches!(fence, FenceState::Broken { .. }), "{fence:?}");
    });
}

#[test]
fn a_machine_whose_target_is_silent_is_started_when_the_patience_ends() {
    runtime().block_on(async {
        let Some(lab) = GuestLab::new("a_machine_whose_target_is_silent_is_started", "") else { return };
        lab.protect(1, None).await;
        lab.close(End::Target);
        let patient = booted_after_death(&lab, "second boot", LONG);
        let loops = lab.dir(End::Source, "agent").join("source").join(&lab.name);
        wait_until("the agent to take over", || {
            let names = std::fs::read_dir(&loops).ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok());
            names.into_iter().any(|name| name == "loop-w2.json").then_some(())
        });
        assert_eq!(lab.state(End::Source, &lab.name), "shut off", "it waits");
        drop(patient);
        let _impatient = booted(&lab, "third boot", Duration::from_secs(2));
        lab.until_state(End::Source, &lab.name, "running");
    });
}

#[test]
fn a_machine_that_is_being_failed_over_waits_however_silent_the_target_becomes_and_is_quarantined_in_the_end() {
    runtime().block_on(async {
        let Some(lab) = GuestLab::new("a_machine_that_is_being_failed_over_waits", "") else { return };
        lab.protect(1, None).await;
        lab.close(End::Source);
        let point = seal(&lab, 2).await;
        let agent = booted_after_death(&lab, "second boot", Duration::from_secs(1));
        let loops = lab.dir(End::Source, "agent").join("source").join(&lab.name);
        let says = |what: &str| {
            let texts = std::fs::read_dir(&loops).ok()?.filter_map(|e| std::fs::read_to_string(e.ok()?.path()).ok());
            texts.into_iter().any(|text| text.contains(what)).then_some(())
        };
        wait_until("the loop to know of the failover", || says("superseded"));
        lab.close(End::Target);
        drop(agent);
        let agent = booted(&lab, "third boot", Duration::from_millis(1));
        wait_until("another agent's record", || std::fs::metadata(loops.join("loop-w3.json")).ok());
        assert_eq!(lab.state(End::Source, &lab.name), "shut off");
        lab.open(End::Target);
        start_at_target(&lab, 2, point).await;
        wait_until("the loop to know of the machine", || says("quarantined"));
        drop(agent);
        lab.open(End::Source);
        quarantined(&lab).await;
    });
}

#[test]
fn a_machine_that_runs_while_another_was_started_is_ended_and_can_be_given_back() {
    runtime().block_on(async {
        let Some(lab) = GuestLab::new("a_machine_that_runs_while_another_was_started_is_ended", "") else { return };
        lab.protect(1, None).await;
        let point = seal(&lab, 2).await;
        lab.until_phase(Phase::Superseded).await;
        assert_eq!(lab.state(End::Source, &lab.name), "running");
        start_at_target(&lab, 2, point).await;
        quarantined(&lab).await;

        // The failover is undone: what runs there is discarded, and the fence is lifted.
        lab.target().discard(&call(2, 4, 1), &lab.item(), generation(2)).await.expect("it is discarded");
        lab.source().lift_fence(&call(2, 5, 1), &lab.item(), &lab.name).await.expect("the fence is lifted");
        assert_eq!((lab.state(End::Source, &lab.name).as_str(), lab.flag()), ("running", true));
        assert_eq!(lab.ask(End::Source, "verify")["bad"], 0);
    });
}
