//! Cases about making the source unable to write.

use super::Script;
use crate::{FenceMethod, FenceState, Phase, PowerState, ProviderError};

async fn observed(s: &Script<'_>) -> FenceState {
    s.source().observe_fence(&s.item, &s.lab.machine()).await.expect("the fence is observed")
}

pub(super) async fn a_fence_proves_that_the_machine_is_off(s: &Script<'_>) {
    s.protect().await;
    s.lab.point().await;
    assert_eq!(observed(s).await, FenceState::Open { power: PowerState::Running, autostart: true });

    s.next_generation();
    let machine = s.lab.machine();
    let proof = s.source().fence(&s.call(), &s.item, &machine).await.expect("the machine is fenced");
    assert_eq!((proof.method, proof.power, proof.autostart_off), (FenceMethod::Destroyed, PowerState::Off, true));
    let seen = s.source().inspect(&machine).await.expect("the machine is inspected");
    assert_eq!((seen.power, seen.autostart), (PowerState::Off, false));
    s.lab.until_phase(Phase::Stopped).await;

    let again = s.source().fence(&s.call(), &s.item, &machine).await.expect("fencing twice is once");
    assert_eq!((again.power, again.autostart_off), (PowerState::Off, true));
    s.lab.restart_source().await;
    assert!(matches!(observed(s).await, FenceState::Fenced { .. }));
}

pub(super) async fn a_fence_on_an_unknown_machine_is_no_proof(s: &Script<'_>) {
    let refused = s.source().fence(&s.call(), &s.item, "no-such-machine").await;
    assert_eq!(refused, Err(ProviderError::NoSuchMachine { machine: "no-such-machine".to_owned() }));
}

pub(super) async fn a_machine_that_somebody_starts_again_breaks_the_fence(s: &Script<'_>) {
    let machine = s.lab.machine();
    s.source().fence(&s.call(), &s.item, &machine).await.expect("the machine is fenced");
    s.lab.power_on().await;
    assert!(matches!(observed(s).await, FenceState::Broken { power: PowerState::Running, .. }));
    s.source().fence(&s.call(), &s.item, &machine).await.expect("it is fenced again");
    assert!(matches!(observed(s).await, FenceState::Fenced { .. }));
}

pub(super) async fn a_lifted_fence_brings_the_machine_back(s: &Script<'_>) {
    s.protect().await;
    s.lab.write(1, 11).await;
    s.lab.point().await;
    let machine = s.lab.machine();
    s.next_generation();
    s.source().fence(&s.call(), &s.item, &machine).await.expect("the machine is fenced");
    for _ in 0..2 {
        s.source().lift_fence(&s.call(), &s.item, &machine).await.expect("the fence is lifted");
    }
    assert_eq!(observed(s).await, FenceState::Open { power: PowerState::Running, autostart: true });

    s.protect().await;
    s.lab.write(2, 22).await;
    let point = s.lab.point().await;
    s.seal().await;
    s.run_from(point).await;
    assert_eq!((s.lab.read_recovered(1).await, s.lab.read_recovered(2).await), (11, 22));
}

async fn quarantined(s: &Script<'_>) {
    s.lab.until_phase(Phase::Quarantined).await;
    let seen = s.source().inspect(&s.lab.machine()).await.expect("the machine is inspected");
    assert_eq!((seen.power, seen.autostart), (PowerState::Off, false));
    s.lab.restart_source().await;
    s.lab.until_phase(Phase::Quarantined).await;
    let source = s.source().reports().into_iter().find(|r| r.item == s.item).and_then(|r| r.source);
    assert!(source.is_none_or(|m| m.power == PowerState::Off && !m.autostart));
    assert_eq!(s.lab.read_recovered(1).await, 11);
}

pub(super) async fn a_source_that_was_cut_off_is_quarantined(s: &Script<'_>) {
    s.protect().await;
    s.lab.write(1, 11).await;
    let point = s.lab.point().await;
    s.lab.cut_line().await;
    s.seal().await;
    s.run_from(point).await;
    s.lab.write(1, 99).await;
    s.lab.mend_line().await;
    quarantined(s).await;
}

pub(super) async fn a_superseded_source_is_quarantined_once_the_machine_starts(s: &Script<'_>) {
    s.protect().await;
    s.lab.write(1, 11).await;
    let point = s.lab.point().await;
    s.seal().await;
    s.lab.until_phase(Phase::Superseded).await;
    let seen = s.source().inspect(&s.lab.machine()).await.expect("the machine is inspected");
    assert_eq!(seen.power, PowerState::Running, "as long as nothing runs elsewhere");
    s.run_from(point).await;
    quarantined(s).await;
}
