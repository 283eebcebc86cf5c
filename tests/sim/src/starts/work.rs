//! What is begun: work of schedules and failovers of policies, each with an effect that the outside counts.

use std::time::Duration;

use async_trait::async_trait;
use engine::{ActivityRegistry, Fault, Job, Perform, memory::MemoryStore};
use recovery::PointId;
use sdk::{Context, Failure, Registry, TaskQueue, Workflow};
use serde::{Deserialize, Serialize};
use workflows::{
    FailedOver, Failover, FailoverInput, Trigger,
    declared::{LoadEvidence, Look, SiteError},
};

use super::desk::Desk;
use crate::{
    ledger::{Ledger, Make},
    script::queue,
};

/// Everything that a worker of these worlds knows.
pub(super) fn registry() -> Registry {
    Registry::default().with::<Due>().with::<Trigger>().with::<StandIn>()
}

/// Queues of their agents.
pub(super) fn queues() -> Vec<TaskQueue> {
    vec![queue(), TaskQueue::new("server")]
}

/// What their agents can do.
pub(super) fn performed_by(ledger: &Ledger, desk: &Desk, store: &MemoryStore) -> ActivityRegistry {
    ActivityRegistry::default().with::<Make, _>(ledger.clone()).with::<LoadEvidence, _>(FromDesk(desk.clone(), store.clone()))
}

/// What a schedule starts.
pub(super) struct Due;

/// How long it takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct DueInput {
    pub(super) seconds: u64,
}

impl Workflow for Due {
    const NAME: &'static str = "due";
    type Input = DueInput;
    type Output = ();

    async fn run(ctx: Context, input: DueInput) -> Result<(), Failure> {
        ctx.call(queue(), &Make(format!("due {}", ctx.run_id()))).await?;
        ctx.sleep(Duration::from_secs(input.seconds)).await?;
        Ok(())
    }
}

/// Takes the place of the failover of a machine.
pub(super) struct StandIn;

impl Workflow for StandIn {
    const NAME: &'static str = Failover::NAME;
    type Input = FailoverInput;
    type Output = FailedOver;

    async fn run(ctx: Context, input: FailoverInput) -> Result<FailedOver, Failure> {
        ctx.call(queue(), &Make(format!("failover of {} {}", input.item, ctx.run_id()))).await?;
        Ok(FailedOver {
            site: switchback_tests::site("b"),
            point: PointId(1),
            point_taken_at: ctx.now(),
            fenced: true,
            serves: true,
            evidence: String::new(),
            rto_actual_ms: 0,
            rpo_actual_ms: 0,
        })
    }
}

/// Reads the evidence as the product does, from the desk.
struct FromDesk(Desk, MemoryStore);

#[async_trait]
impl Perform<LoadEvidence> for FromDesk {
    async fn perform(&self, _: &Job, LoadEvidence { policy }: LoadEvidence) -> Result<Option<Look>, Fault<SiteError>> {
        Ok(self.0.look(&policy, &self.1))
    }
}
