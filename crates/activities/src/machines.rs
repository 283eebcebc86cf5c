//! Activities on machines.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use async_trait::async_trait;
use engine::{Fault, Job, Perform, Probed, Shown};
use provider::{FenceMethod, FenceProof, FenceState, NetworkChoice, Phase, PowerState, Progress, ProgressSink, ProviderError, RecoverMachine as Recovery, RecoveredState};
use recovery::{Check, SiteName};
use sdk::Failure;
use serde_json::json;
use workflows::declared as d;

use crate::{
    SiteActivities, call,
    fault::{fault, not_yet, passing},
};

type Answer<T> = Result<T, Fault<d::SiteError>>;

#[async_trait]
impl Perform<d::InspectMachine> for SiteActivities {
    async fn perform(&self, _: &Job, input: d::InspectMachine) -> Answer<d::Inspected> {
        if !self.site.operates(input.profile) {
            return Err(Fault::App(not_operated(self.site.name(), &input)));
        }
        let machine = self.site.inspect(&input.machine).await.map_err(|e| fault(&e))?;
        let disks = machine.disks.iter().map(|disk| recovery::Disk { name: disk.target.clone(), size_bytes: disk.capacity_bytes }).collect();
        let machine = serde_json::to_value(machine).map_err(|e| Fault::Other(Failure::fatal("unwritable-machine", e.to_string())))?;
        Ok(d::Inspected { disks, machine })
    }
}

#[async_trait]
impl Perform<d::LookAtMachines> for SiteActivities {
    async fn perform(&self, _: &Job, input: d::LookAtMachines) -> Answer<d::Looked> {
        let status = self.site.replication_status(&input.item).await.map_err(|e| fault(&e))?;
        let quarantined = status.as_ref().is_some_and(|status| status.phase == Phase::Quarantined);
        let source = match self.site.observe_fence(&input.item, &input.machine).await {
            Ok(seen) if status.is_some() => Some(power_of(&seen)),
            // Nothing is or was replicated from here: what bears the name was recovered here, or is none of ours.
            Ok(_) | Err(ProviderError::NoSuchMachine { .. }) => None,
            Err(error) => return Err(fault(&error)),
        };
        let recovered = match self.site.observe_machine(&input.item, input.generation).await {
            Ok(RecoveredState::Started { power, .. }) => Some(power != PowerState::Off),
            Ok(RecoveredState::Absent | RecoveredState::Prepared { .. }) => None,
            Err(error) => return Err(fault(&error)),
        };
        let source_runs = source.map(|(power, _)| power != PowerState::Off);
        Ok(d::Looked { source_runs, autostart: source.is_some_and(|(_, autostart)| autostart), quarantined, recovered_runs: recovered })
    }
}

fn power_of(seen: &FenceState) -> (PowerState, bool) {
    match seen {
        FenceState::Open { power, autostart } | FenceState::Broken { power, autostart, .. } => (*power, *autostart),
        FenceState::Fenced { .. } => (PowerState::Off, false),
    }
}

#[async_trait]
impl Perform<d::FenceMachine> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::FenceMachine) -> Answer<d::Fenced> {
        let proof = self.site.fence(&call(job), &input.item, &input.machine).await.map_err(|e| fault(&e))?;
        Ok(fenced(&proof))
    }
}

fn not_operated(site: &SiteName, input: &d::InspectMachine) -> d::SiteError {
    let d::InspectMachine { machine, profile } = input;
    d::SiteError {
        code: "profile-not-operated".to_owned(),
        message: format!("site {site} has no adapter for machines of profile {profile}, so {machine} can't be protected as one; nothing has changed"),
        advice: "leave --profile out for a machine under libvirt; other profiles are modelled, and only simulated sites take them".to_owned(),
        standing: None,
    }
}

fn fenced(proof: &FenceProof) -> d::Fenced {
    let how = match proof.method {
        FenceMethod::Destroyed => "was ended",
        FenceMethod::AlreadyOff => "was found off",
        FenceMethod::ShutDown => "has shut down",
    };
    let autostart = if proof.autostart_off { "off" } else { "on" };
    let evidence = format!("machine {} {how}; power {}, autostart {autostart}; {}", proof.machine, proof.power, proof.detail);
    d::Fenced { evidence, at: proof.observed_at }
}

#[async_trait]
impl Perform<d::ShutDownMachine> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::ShutDownMachine) -> Answer<d::Fenced> {
        let patience = Duration::from_millis(input.patience_ms);
        job.progress(json!({ "waiting_for": "the guest to shut down", "at_most_s": patience.as_secs() })).await;
        let proof = self.site.shut_down(&call(job), &input.item, &input.machine, patience).await.map_err(|e| fault(&e))?;
        Ok(fenced(&proof))
    }
}

#[async_trait]
impl Perform<d::MeasureWrites> for SiteActivities {
    async fn perform(&self, _: &Job, input: d::MeasureWrites) -> Answer<d::Written> {
        let written = self.site.written(&input.item, input.generation).await.map_err(|e| fault(&e))?;
        Ok(d::Written { blocks: written.blocks, bytes: written.bytes })
    }
}

#[async_trait]
impl Perform<d::RetireMachine> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::RetireMachine) -> Answer<()> {
        self.site.retire(&call(job), &input.item, input.generation).await.map_err(|e| fault(&e))
    }
}

#[async_trait]
impl Perform<d::LiftFence> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::LiftFence) -> Answer<()> {
        self.site.lift_fence(&call(job), &input.item, &input.machine).await.map_err(|e| fault(&e))
    }
}

#[async_trait]
impl Perform<d::StartSource> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::StartSource) -> Answer<()> {
        self.site.start_source(&call(job), &input.item, &input.machine).await.map_err(|e| fault(&e))
    }
}

#[async_trait]
impl Perform<d::RecoverMachine> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::RecoverMachine) -> Answer<d::Recovered> {
        let wanted = Recovery { item: input.item, generation: input.generation, point: input.point, network: NetworkChoice::AsDefined };
        let made = self.site.recover(&call(job), wanted).await.map_err(|e| fault(&e))?;
        Ok(d::Recovered { point: made.point })
    }

    async fn probe(&self, _: &Job, input: &d::RecoverMachine) -> Result<Probed<d::Recovered>, Failure> {
        let seen = self.site.observe_machine(&input.item, input.generation).await.map_err(|e| passing(&e))?;
        Ok(match seen {
            RecoveredState::Absent => Probed::NotDone,
            RecoveredState::Prepared { point, .. } | RecoveredState::Started { point, .. } if point == input.point => {
                Probed::Done(d::Recovered { point })
            }
            RecoveredState::Prepared { point, .. } | RecoveredState::Started { point, .. } => {
                Probed::Unknown(format!("a machine of this generation exists, but from point {point}"))
            }
        })
    }
}

#[async_trait]
impl Perform<d::StartMachine> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::StartMachine) -> Answer<d::StartedMachine> {
        let started = self.site.start_machine(&call(job), &input.item, input.generation).await.map_err(|e| fault(&e))?;
        Ok(d::StartedMachine { since: started.since })
    }

    async fn probe(&self, _: &Job, input: &d::StartMachine) -> Result<Probed<d::StartedMachine>, Failure> {
        let seen = self.site.observe_machine(&input.item, input.generation).await.map_err(|e| passing(&e))?;
        Ok(match seen {
            RecoveredState::Started { since, power: PowerState::Running, .. } => {
                Probed::Done(d::StartedMachine { since })
            }
            RecoveredState::Prepared { .. } | RecoveredState::Started { .. } => Probed::NotDone,
            RecoveredState::Absent => Probed::Unknown("nothing of this generation exists any more".into()),
        })
    }
}

#[async_trait]
impl Perform<d::DiscardMachine> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::DiscardMachine) -> Answer<()> {
        self.site.discard(&call(job), &input.item, input.generation).await.map_err(|e| fault(&e))
    }
}

#[async_trait]
impl Perform<d::CheckMachine> for SiteActivities {
    async fn perform(&self, _: &Job, input: d::CheckMachine) -> Answer<d::Served> {
        let seen = self.site.observe_machine(&input.item, input.generation).await.map_err(|e| fault(&e))?;
        let RecoveredState::Started { power: PowerState::Running, .. } = seen else {
            return Err(not_yet("not-running", format!("the machine of item {} does not run", input.item)));
        };
        let mut evidence = vec!["running".to_owned()];
        for check in &input.checks {
            let answered = match check {
                Check::Guest { program, arguments } => match self.site.run_in_guest(&input.item, input.generation, program, arguments).await {
                    Ok(answer) => Ok(answer),
                    Err(ProviderError::NotServing { detail, .. }) => Err(detail),
                    Err(other) => return Err(fault(&other)),
                },
                Check::Tcp { .. } | Check::Http { .. } | Check::Ssh { .. } | Check::Rdp { .. } => self.prober.ask(check).await,
            };
            evidence.push(answered.map_err(|why| not_yet("not-serving", format!("{check} does not hold: {why}")))?);
        }
        Ok(d::Served { evidence: evidence.join("; ") })
    }
}

#[async_trait]
impl Perform<d::FlattenMachine> for SiteActivities {
    async fn perform(&self, job: &Job, input: d::FlattenMachine) -> Answer<()> {
        let call = call(job);
        let progress = Arc::new(Copied(job.shown.clone()));
        self.site.flatten(&call, &input.item, input.generation, progress).await.map_err(|e| fault(&e))
    }
}

/// Shows how much is copied.
pub(crate) struct Copied(pub(crate) Shown);

impl ProgressSink for Copied {
    fn report(&self, progress: Progress) -> ControlFlow<()> {
        self.0.set(json!({ "bytes_done": progress.bytes_done, "bytes_total": progress.bytes_total }));
        ControlFlow::Continue(())
    }
}
