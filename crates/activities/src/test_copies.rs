//! Activities of a test failover.

use async_trait::async_trait;
use engine::{Fault, Job, Perform, Probed};
use provider::{PowerState, ProviderError, RecoverTest as Recovery, RecoveredState};
use sdk::Failure;
use workflows::declared as d;

use crate::{
    SiteActivities, call,
    fault::{fault, not_yet, passing},
};

type Answer<T> = Result<T, Fault<d::SiteError>>;

#[async_trait]
impl Perform<d::RecoverTest> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::RecoverTest) -> Answer<d::Recovered> {
        let wanted = Recovery { item: input.item, generation: input.generation, point: input.point, network: input.network };
        let made = self.site.recover_test(&call(job), wanted).await.map_err(|e| fault(&e))?;
        Ok(d::Recovered { point: made.point })
    }

    async fn probe(&self, _: &Job, input: &d::RecoverTest) -> Result<Probed<d::Recovered>, Failure> {
        let seen = self.site.observe_test(&input.item, input.generation).await.map_err(|e| passing(&e))?;
        Ok(match seen {
            RecoveredState::Absent => Probed::NotDone,
            RecoveredState::Prepared { point, .. } | RecoveredState::Started { point, .. } if point == input.point => {
                Probed::Done(d::Recovered { point })
            }
            RecoveredState::Prepared { point, .. } | RecoveredState::Started { point, .. } => {
                Probed::Unknown(format!("a copy of this generation exists, but from point {point}"))
            }
        })
    }
}

#[async_trait]
impl Perform<d::StartTest> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::StartTest) -> Answer<d::StartedTest> {
        let started = self.site.start_test(&call(job), &input.item, input.generation).await.map_err(|e| fault(&e))?;
        let isolation = format!("network {}: {}", started.isolation.network, started.isolation.detail);
        Ok(d::StartedTest { since: started.since, isolation })
    }

    /// Whether or not it runs: asked again, the site gives the proof again.
    async fn probe(&self, _: &Job, input: &d::StartTest) -> Result<Probed<d::StartedTest>, Failure> {
        let seen = self.site.observe_test(&input.item, input.generation).await.map_err(|e| passing(&e))?;
        Ok(match seen {
            RecoveredState::Prepared { .. } | RecoveredState::Started { .. } => Probed::NotDone,
            RecoveredState::Absent => Probed::Unknown("nothing of this generation exists any more".into()),
        })
    }
}

#[async_trait]
impl Perform<d::CheckTest> for SiteActivities {
    async fn perform(&self, _: &Job, input: d::CheckTest) -> Answer<d::Served> {
        let seen = self.site.observe_test(&input.item, input.generation).await.map_err(|e| fault(&e))?;
        let RecoveredState::Started { power: PowerState::Running, .. } = seen else {
            return Err(not_yet("not-running", format!("the copy of item {} does not run", input.item)));
        };
        match self.site.check_test(&input.item, input.generation, &input.checks).await {
            Ok(evidence) => Ok(d::Served { evidence }),
            Err(ProviderError::NotServing { detail, .. }) => Err(not_yet("not-serving", detail)),
            Err(other) => Err(fault(&other)),
        }
    }
}

#[async_trait]
impl Perform<d::CleanTest> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::CleanTest) -> Answer<()> {
        self.site.clean_test(&call(job), &input.item, input.generation).await.map_err(|e| fault(&e))
    }
}

#[async_trait]
impl Perform<d::TakeInventory> for SiteActivities {
    async fn perform(&self, _: &Job, input: d::TakeInventory) -> Answer<d::TakenInventory> {
        let all = self.site.inventory().await.map_err(|e| fault(&e))?;
        let ours = all.objects.into_iter().filter(|object| object.of_test && object.item.as_ref().is_none_or(|item| *item == input.item));
        let word = |kind| serde_json::to_value(kind).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default();
        let mut objects: Vec<d::TestObject> = ours.map(|object| d::TestObject { kind: word(object.kind), name: object.name }).collect();
        objects.sort();
        Ok(d::TakenInventory { objects })
    }
}
