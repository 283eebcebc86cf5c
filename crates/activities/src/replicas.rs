//! Activities on replicas and replication.

use std::sync::Arc;

use async_trait::async_trait;
use engine::{Fault, Job, Perform};
use provider::{Base, Endpoint, Machine, Phase, Pin, PointRequest, PrepareReplica as Preparation, Replicate};
use recovery::PointId;
use sdk::Failure;
use serde_json::json;
use workflows::declared as d;

use crate::{
    SiteActivities, call,
    fault::{fault, not_yet},
    machines::Copied,
};

type Answer<T> = Result<T, Fault<d::SiteError>>;

#[async_trait]
impl Perform<d::PrepareReplica> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::PrepareReplica) -> Answer<d::Endpoint> {
        let unreadable = |e: serde_json::Error| Fault::Other(Failure::fatal("unreadable-machine", e.to_string()).not_applied());
        let machine: Machine = serde_json::from_value(input.machine).map_err(unreadable)?;
        let base = match input.base {
            d::Base::Empty => Base::Empty,
            d::Base::OldMachine => Base::OldMachine,
        };
        let wanted = Preparation { item: input.item, generation: input.generation, machine, policy: input.policy, base };
        let endpoint = self.site.prepare(&call(job), wanted).await.map_err(|e| fault(&e))?;
        Ok(d::Endpoint { address: endpoint.address, tls_name: endpoint.tls_name })
    }
}

#[async_trait]
impl Perform<d::DropReplica> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::DropReplica) -> Answer<()> {
        self.site.drop_replica(&call(job), &input.item).await.map_err(|e| fault(&e))
    }
}

#[async_trait]
impl Perform<d::StartReplication> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::StartReplication) -> Answer<()> {
        let wanted = Replicate {
            item: input.item,
            machine: input.machine,
            generation: input.generation,
            policy: input.policy,
            endpoint: Endpoint { address: input.endpoint.address, tls_name: input.endpoint.tls_name },
            returning: input.returning,
            group: input.group,
        };
        self.site.start_replication(&call(job), wanted).await.map_err(|e| fault(&e))
    }
}

#[async_trait]
impl Perform<d::FinalSync> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::FinalSync) -> Answer<PointId> {
        let progress = Arc::new(Copied(job.shown.clone()));
        self.site.final_sync(&call(job), &input.item, progress).await.map_err(|e| fault(&e))
    }
}

#[async_trait]
impl Perform<d::RegroupReplication> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::RegroupReplication) -> Answer<()> {
        self.site.regroup(&call(job), &input.item, input.group).await.map_err(|e| fault(&e))
    }
}

#[async_trait]
impl Perform<d::StopReplication> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::StopReplication) -> Answer<()> {
        self.site.stop_replication(&call(job), &input.item).await.map_err(|e| fault(&e))
    }
}

#[async_trait]
impl Perform<d::AwaitFirstPoint> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::AwaitFirstPoint) -> Answer<PointId> {
        let status = self.site.replication_status(&input.item).await.map_err(|e| fault(&e))?;
        let Some(status) = status.filter(|status| status.generation >= input.generation) else {
            return Err(not_yet("not-replicating", format!("item {} is not replicated from here yet", input.item)));
        };
        if let Some(point) = status.last_point {
            return Ok(point);
        }
        if matches!(status.phase, Phase::Superseded | Phase::Quarantined) {
            let message = format!("replication of item {} was superseded by a newer generation", input.item);
            return Err(Fault::App(d::SiteError { code: "superseded".into(), message, advice: "look at the item's newer runs".into(), standing: None }));
        }
        job.progress(json!({ "phase": status.phase, "bytes_done": status.bytes_done, "bytes_total": status.bytes_total })).await;
        let trouble = status.last_error.map(|why| format!("; last trouble: {why}")).unwrap_or_default();
        let off = if status.phase == Phase::Paused { "; replication is paused, as that of a machine that is off: start the machine" } else { "" };
        Err(not_yet("still-seeding", format!("{} of {} bytes of item {} are copied{off}{trouble}", status.bytes_done, status.bytes_total, input.item)))
    }
}

#[async_trait]
impl Perform<d::RequestPoint> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::RequestPoint) -> Answer<()> {
        let wanted = PointRequest { item: input.item, by: input.by, compare: input.compare };
        self.site.request_point(&call(job), wanted).await.map_err(|e| fault(&e))
    }
}

#[async_trait]
impl Perform<d::AwaitPoint> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::AwaitPoint) -> Answer<PointId> {
        let (item, status) = (&input.item, self.site.replication_status(&input.item).await.map_err(|e| fault(&e))?);
        let Some((status, requested)) = status.and_then(|status| Some((status.clone(), status.requested.filter(|asked| asked.by == input.by)?))) else {
            let message = format!("the source of item {item} knows nothing of this request for a point, or a newer one took its place");
            return Err(Fault::App(d::SiteError { code: "request-gone".into(), message, advice: "ask again".into(), standing: None }));
        };
        if let Some(point) = requested.made {
            return Ok(point);
        }
        let off = status.phase == Phase::Paused && !input.patient;
        if off || matches!(status.phase, Phase::Superseded | Phase::Quarantined | Phase::Stopped) {
            let message = format!("the machine of item {item} is off, or is not replicated from here any more");
            return Err(Fault::App(d::SiteError { code: "no-further-point".into(), message, advice: "take the points that there are".into(), standing: None }));
        }
        job.progress(json!({ "phase": status.phase, "bytes_done": status.bytes_done, "bytes_total": status.bytes_total })).await;
        let trouble = status.last_error.map(|why| format!("; last trouble: {why}")).unwrap_or_default();
        Err(not_yet("not-there-yet", format!("{} of {} bytes of item {item} are done{trouble}", status.bytes_done, status.bytes_total)))
    }
}

#[async_trait]
impl Perform<d::ApplyPolicy> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::ApplyPolicy) -> Answer<d::Opened> {
        let replica = self.site.replica(&input.item).await.map_err(|e| fault(&e))?;
        if replica.sealed {
            let message = format!("the replica of item {} takes no points now", input.item);
            let advice = "look at the item's newer runs".into();
            return Err(Fault::App(d::SiteError { code: "sealed".into(), message, advice, standing: None }));
        }
        let generation = replica.generation;
        let wanted = Preparation { item: input.item, generation, machine: replica.machine, policy: input.policy, base: Base::Empty };
        let endpoint = self.site.prepare(&call(job), wanted).await.map_err(|e| fault(&e))?;
        Ok(d::Opened { endpoint: d::Endpoint { address: endpoint.address, tls_name: endpoint.tls_name }, generation })
    }
}

#[async_trait]
impl Perform<d::SealReplica> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::SealReplica) -> Answer<d::Sealed> {
        let replica = self.site.seal(&call(job), &input.item, input.generation).await.map_err(|e| fault(&e))?;
        Ok(d::Sealed { points: replica.points.iter().map(|point| point.listed(false)).collect() })
    }
}

#[async_trait]
impl Perform<d::ListPoints> for SiteActivities {
    async fn perform(&self, _: &Job, input: d::ListPoints) -> Answer<d::Sealed> {
        let replica = self.site.replica(&input.item).await.map_err(|e| fault(&e))?;
        Ok(d::Sealed { points: replica.points.iter().map(|point| point.listed(false)).collect() })
    }
}

#[async_trait]
impl Perform<d::ReopenReplica> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::ReopenReplica) -> Answer<d::Endpoint> {
        let replica = self.site.replica(&input.item).await.map_err(|e| fault(&e))?;
        let wanted = Preparation { item: input.item, generation: input.generation, machine: replica.machine, policy: replica.policy, base: Base::Empty };
        let endpoint = self.site.prepare(&call(job), wanted).await.map_err(|e| fault(&e))?;
        Ok(d::Endpoint { address: endpoint.address, tls_name: endpoint.tls_name })
    }
}

#[async_trait]
impl Perform<d::PinPoint> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::PinPoint) -> Answer<()> {
        self.site.pin(&call(job), &input.item, input.point, Pin(input.pin)).await.map_err(|e| fault(&e))
    }
}

#[async_trait]
impl Perform<d::UnpinPoint> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::UnpinPoint) -> Answer<()> {
        self.site.unpin(&call(job), &input.item, input.point, Pin(input.pin)).await.map_err(|e| fault(&e))
    }
}

#[async_trait]
impl Perform<d::KeepExtentMap> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::KeepExtentMap) -> Answer<d::ExtentMap> {
        let replica = self.site.replica(&input.item).await.map_err(|e| fault(&e))?;
        let map = self.site.keep_extent_map(&call(job), &input.item, input.generation).await.map_err(|e| fault(&e))?;
        let newest_point = replica.points.last().map_or(PointId(0), |point| point.id);
        Ok(d::ExtentMap { hash: map.hash, blocks: map.blocks, bytes: map.bytes, newest_point })
    }
}

#[async_trait]
impl Perform<d::WithdrawPoints> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::WithdrawPoints) -> Answer<()> {
        self.site.withdraw_points(&call(job), &input.item).await.map_err(|e| fault(&e))
    }
}

#[async_trait]
impl Perform<d::RemovePoints> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::RemovePoints) -> Answer<()> {
        self.site.remove_points(&call(job), &input.item).await.map_err(|e| fault(&e))
    }
}
