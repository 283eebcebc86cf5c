//! Carries out the activities that workflows declare, on the ports of one site.
//!
//! Each file answers one part of `workflows::declared`. What a provider's error means for the engine is decided in
//! [`fault`] alone: what may pass is a failure to be retried, the rest is the site's typed answer.

mod actions;
mod fault;
mod machines;
mod replicas;
mod test_copies;

use std::sync::Arc;

use async_trait::async_trait;
use engine::{ActivityRegistry, Job};
use provider::{Call, Site};
use recovery::{Check, EffectToken};
use workflows::declared as d;

pub use actions::with_actions;

/// Asks over the network whether a machine serves.
#[async_trait]
pub trait Prober: Send + Sync {
    /// What answered, or why nothing did.
    async fn ask(&self, check: &Check) -> Result<String, String>;
}

/// One site's activities.
#[derive(Clone)]
pub struct SiteActivities {
    site: Arc<dyn Site>,
    prober: Arc<dyn Prober>,
}

/// All activities of a site, for its queue.
#[must_use]
pub fn registry(site: Arc<dyn Site>, prober: Arc<dyn Prober>) -> ActivityRegistry {
    let here = SiteActivities { site, prober };
    ActivityRegistry::default()
        .with::<d::InspectMachine, _>(here.clone())
        .with::<d::FenceMachine, _>(here.clone())
        .with::<d::StartSource, _>(here.clone())
        .with::<d::ShutDownMachine, _>(here.clone())
        .with::<d::MeasureWrites, _>(here.clone())
        .with::<d::RetireMachine, _>(here.clone())
        .with::<d::ListPoints, _>(here.clone())
        .with::<d::FinalSync, _>(here.clone())
        .with::<d::RecoverTest, _>(here.clone())
        .with::<d::StartTest, _>(here.clone())
        .with::<d::CheckTest, _>(here.clone())
        .with::<d::CleanTest, _>(here.clone())
        .with::<d::TakeInventory, _>(here.clone())
        .with::<d::LiftFence, _>(here.clone())
        .with::<d::RecoverMachine, _>(here.clone())
        .with::<d::StartMachine, _>(here.clone())
        .with::<d::DiscardMachine, _>(here.clone())
        .with::<d::CheckMachine, _>(here.clone())
        .with::<d::FlattenMachine, _>(here.clone())
        .with::<d::PrepareReplica, _>(here.clone())
        .with::<d::DropReplica, _>(here.clone())
        .with::<d::StartReplication, _>(here.clone())
        .with::<d::StopReplication, _>(here.clone())
        .with::<d::RegroupReplication, _>(here.clone())
        .with::<d::AwaitFirstPoint, _>(here.clone())
        .with::<d::SealReplica, _>(here.clone())
        .with::<d::ReopenReplica, _>(here.clone())
        .with::<d::PinPoint, _>(here.clone())
        .with::<d::UnpinPoint, _>(here.clone())
        .with::<d::KeepExtentMap, _>(here.clone())
        .with::<d::WithdrawPoints, _>(here.clone())
        .with::<d::RequestPoint, _>(here.clone())
        .with::<d::AwaitPoint, _>(here.clone())
        .with::<d::ApplyPolicy, _>(here.clone())
        .with::<d::LookAtMachines, _>(here.clone())
        .with::<d::RemovePoints, _>(here)
}

/// What the site is shown: the engine's token in the provider's words.
fn call(job: &Job) -> Call {
    let token = EffectToken {
        era: job.token.era,
        grant_epoch: job.token.grant_epoch,
        seq: i64::from(job.token.seq.0),
        run_epoch: job.token.run_epoch,
        attempt: i64::from(job.token.attempt),
    };
    Call::new(token, format!("run {} step {} {}", job.run, job.token.seq, job.activity))
}
