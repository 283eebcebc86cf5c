//! Cases about the gentle way into a failover: the guest shuts down, the rest is sent.

use std::time::Duration;

use ::recovery::Consistency;

use super::Script;
use crate::{Call, FenceMethod, FenceState, Phase, PowerState, ProviderError};

/// Not worth waiting for a guest that does not listen.
const SHORT: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(60);

async fn observed(s: &Script<'_>) -> FenceState {
    s.source().observe_fence(&s.item, &s.lab.machine()).await.expect("the fence is observed")
}

pub(super) async fn a_guest_that_shuts_down_is_fenced_and_its_replication_stays(s: &Script<'_>) {
    s.protect().await;
    s.lab.point().await;
    s.lab.heed_shut_down(s.from(), true).await;
    s.next_generation();
    let proof = s.shut_down(LONG).await.expect("the guest goes down");
    assert_eq!((proof.method, proof.power, proof.autostart_off), (FenceMethod::ShutDown, PowerState::Off, true));
    assert!(matches!(observed(s).await, FenceState::Fenced { .. }));
    s.lab.until_phase(Phase::Paused).await;
    let again = s.shut_down(LONG).await.expect("shutting down twice is once");
    assert_eq!((again.power, again.autostart_off), (PowerState::Off, true));

    let machine = s.lab.machine();
    s.source().lift_fence(&s.call(), &s.item, &machine).await.expect("the fence is lifted");
    assert_eq!(observed(s).await, FenceState::Open { power: PowerState::Running, autostart: true });
    s.lab.write(1, 11).await;
    let point = s.lab.point().await;
    s.seal().await;
    s.run_from(point).await;
    assert_eq!(s.lab.read_recovered(1).await, 11);
}

pub(super) async fn a_guest_that_ignores_shutdown_goes_on_running(s: &Script<'_>) {
    s.protect().await;
    s.lab.point().await;
    s.lab.heed_shut_down(s.from(), false).await;
    s.next_generation();
    for _ in 0..2 {
        let refused = s.shut_down(SHORT).await.expect_err("it does not go");
        assert!(matches!(&refused, ProviderError::StillRunning { machine, .. } if *machine == s.lab.machine()), "{refused}");
    }
    assert_eq!(observed(s).await, FenceState::Open { power: PowerState::Running, autostart: true });
    s.lab.write(1, 11).await;
    let point = s.lab.point().await;
    s.seal().await;
    s.run_from(point).await;
    assert_eq!(s.lab.read_recovered(1).await, 11);
}

pub(super) async fn a_machine_that_runs_gets_no_final_sync(s: &Script<'_>) {
    s.protect().await;
    let before = s.lab.point().await;
    s.next_generation();
    let refused = s.final_sync().await.expect_err("it runs");
    assert!(matches!(refused, ProviderError::StillRunning { .. }), "{refused}");
    assert!(before < s.lab.point().await, "replication goes on");
}

pub(super) async fn a_final_sync_holds_everything_and_ends_the_loop(s: &Script<'_>) {
    s.protect().await;
    s.lab.write(1, 11).await;
    s.lab.point().await;
    s.lab.write(2, 22).await;
    s.lab.write(1, 12).await;
    s.next_generation();
    s.gone_down().await;
    let last = s.final_sync().await.expect("the rest is sent");
    let points = s.replica().await.points;
    let newest = points.last().expect("there are points");
    assert_eq!((newest.id, newest.consistency), (last, Consistency::App));
    s.lab.until_phase(Phase::Stopped).await;
    assert_eq!(s.final_sync().await, Ok(last));
    s.lab.restart_source().await;
    assert_eq!(s.final_sync().await, Ok(last));
    assert_eq!(s.replica().await.points, points);

    s.seal().await;
    s.run_from(last).await;
    for (block, content) in [(1, 12), (2, 22), (3, 0)] {
        assert_eq!(s.lab.read_recovered(block).await, content, "block {block}");
    }
}

pub(super) async fn a_final_sync_with_nothing_to_send_makes_a_point_all_the_same(s: &Script<'_>) {
    s.lab.write(1, 11).await;
    s.protect().await;
    s.lab.point().await;
    s.lab.shut_down_from_within(s.from()).await;
    s.lab.until_phase(Phase::Paused).await;
    let before = s.offered().await;
    s.next_generation();
    s.gone_down().await;
    let last = s.final_sync().await.expect("there is nothing to send");
    assert!(before.iter().all(|earlier| *earlier < last), "{before:?} {last}");
    s.seal().await;
    s.run_from(last).await;
    assert_eq!((s.lab.read_recovered(1).await, s.lab.read_recovered(2).await), (11, 0));
}

pub(super) async fn an_item_that_is_not_replicated_has_no_final_sync(s: &Script<'_>) {
    let not_replicated = Err(ProviderError::NotReplicated { item: s.item.clone() });
    assert_eq!(s.final_sync().await, not_replicated);
    s.protect().await;
    s.lab.point().await;
    s.source().stop_replication(&s.call(), &s.item).await.expect("replication stops");
    s.gone_down().await;
    assert_eq!(s.final_sync().await, not_replicated);
}

pub(super) async fn a_final_sync_without_a_line_says_so_and_is_repeated(s: &Script<'_>) {
    s.protect().await;
    s.lab.point().await;
    s.lab.cut_line().await;
    s.lab.write(1, 11).await;
    s.next_generation();
    s.gone_down().await;
    let refused = s.final_sync().await.expect_err("the target does not answer");
    assert!(matches!(refused, ProviderError::Unreachable { .. }) && refused.retryable(), "{refused}");
    s.lab.mend_line().await;
    let last = s.final_sync().await.expect("the rest is sent");
    s.seal().await;
    s.run_from(last).await;
    assert_eq!(s.lab.read_recovered(1).await, 11);
}

pub(super) async fn replication_goes_on_when_a_planned_failover_is_given_up(s: &Script<'_>) {
    s.protect().await;
    s.lab.write(1, 11).await;
    s.lab.point().await;
    s.next_generation();
    s.gone_down().await;
    let last = s.final_sync().await.expect("the rest is sent");
    s.seal().await;

    s.next_generation();
    s.protect().await;
    let machine = s.lab.machine();
    s.source().lift_fence(&s.call(), &s.item, &machine).await.expect("the fence is lifted");
    s.lab.power_on().await; // it was down before it was fenced
    s.lab.write(2, 22).await;
    let after = s.lab.point().await;
    assert!(last < after);
    s.seal().await;
    s.run_from(after).await;
    assert_eq!((s.lab.read_recovered(1).await, s.lab.read_recovered(2).await), (11, 22));
}

pub(super) async fn a_stale_token_stops_no_machine_and_syncs_nothing(s: &Script<'_>) {
    s.protect().await;
    s.lab.point().await;
    let late = s.call();
    let machine = s.lab.machine();
    let seen = s.call().token;
    s.source().lift_fence(&Call::new(seen, "contract"), &s.item, &machine).await.expect("there is nothing to lift");
    let stale = ProviderError::StaleToken { item: s.item.clone(), given: late.token, seen };
    assert_eq!(s.source().shut_down(&late, &s.item, &machine, LONG).await, Err(stale.clone()));
    assert_eq!(s.source().final_sync(&late, &s.item, std::sync::Arc::new(crate::Quiet)).await, Err(stale.clone()));
    assert_eq!(s.source().retire(&late, &s.item, s.generation()).await, Err(stale));
    assert_eq!(observed(s).await, FenceState::Open { power: PowerState::Running, autostart: true });
    s.lab.point().await;
}
