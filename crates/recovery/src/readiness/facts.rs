//! What is known, from records, reports and histories.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Verification;
use crate::{
    ItemName, ItemRecord, PlanName, PointChoice, RecoveryPoint, SiteName,
    plan::{
        Action, At, Does, Mode, Plan, Silence,
        action::Needs,
        people,
    },
    span::Span,
};

/// Everything about the installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// By the database's clock.
    pub now: DateTime<Utc>,
    /// Version of the server.
    pub build: String,
    /// Until when the certificate authority holds, by which agents and server know each other; absent where nobody can read it.
    pub authority_expires_at: Option<DateTime<Utc>>,
    /// All enrolled agents.
    pub agents: Vec<AgentFacts>,
    /// How people that plans name can answer; who can't is not there.
    pub people: BTreeMap<String, Access>,
}

/// How somebody gets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// With a token that lets operate.
    Operates,
    /// With a token that only lets look.
    Looks,
    /// As a user of the server's own host.
    Host,
}

/// An enrolled agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFacts {
    /// Its name.
    pub name: String,
    /// Its site.
    pub site: SiteName,
    /// Whether it holds a lease.
    pub connected: bool,
    /// When it was last heard of.
    pub seen_at: Option<DateTime<Utc>>,
    /// What it says of itself and its host.
    pub report: Option<AgentReport>,
    /// When it said so.
    pub reported_at: Option<DateTime<Utc>>,
}

/// What an agent says of itself and its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentReport {
    /// Form of this text, 1.
    pub v: u32,
    /// Its version.
    pub build: String,
    /// Until when its certificate holds; absent if it can't be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expires_at: Option<DateTime<Utc>>,
    /// What its host has; absent if the hypervisor does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// What it can do beside its machines.
    #[serde(default)]
    pub actions: ActionsReport,
}

/// What a host has, in all and left, and what machines there would need.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// Of the host, in bytes.
    pub memory_bytes: u64,
    /// Not used now.
    pub free_memory_bytes: u64,
    /// Processors of the host.
    pub vcpus: u32,
    /// Of the file system in which points and recovered disks are kept.
    pub storage_bytes: u64,
    /// Not used now.
    pub free_storage_bytes: u64,
    /// What each item's machine takes, whose replica or source is there.
    pub needs: BTreeMap<ItemName, MachineNeeds>,
    /// Why no isolated network can be made there; absent if one can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_isolable: Option<String>,
    /// Networks that machines would be connected to here, but for those that are there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<ItemName, Networks>,
}

/// What the host lacks for the network cards of a machine, in words such as `bridge br0`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Networks {
    /// Not there, or not running: the machine can't be started.
    pub missing: BTreeSet<String>,
    /// Of these it can't be said.
    pub unseen: BTreeSet<String>,
}

/// What a machine takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineNeeds {
    /// In bytes.
    pub memory_bytes: u64,
    /// Processors.
    pub vcpus: u32,
}

/// What an agent can do beside its machines; names alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionsReport {
    /// There is a client of OpenSSH.
    pub ssh: bool,
    /// Secrets that can be used.
    pub secrets: BTreeSet<String>,
    /// Commands that can be run.
    pub commands: BTreeSet<String>,
    /// What is wrong, in words.
    pub faults: Vec<String>,
}

/// How replication goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicationFacts {
    /// `seeding`, `replicating`, `resyncing`, `paused`, `broken`, `superseded`, `stopped` or `quarantined`.
    pub phase: String,
    /// Why the last point did not come.
    pub last_error: Option<String>,
    /// Why the last point that was to be app-consistent is not.
    pub app_error: Option<String>,
}

/// Everything about one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemFacts {
    /// Its record.
    pub record: ItemRecord,
    /// What can be chosen at its target.
    pub points: Vec<RecoveryPoint>,
    /// As its source last said.
    pub replication: Option<ReplicationFacts>,
    /// What somebody has to do something about at once.
    pub alarms: Vec<String>,
    /// The last drill that passed, and with what.
    pub verified: Option<Verification>,
}

/// What has to be known of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanFacts {
    /// Its name.
    pub name: PlanName,
    /// Of its text.
    pub sha256: String,
    /// Where its machines run normally.
    pub from: SiteName,
    /// Where they are recovered.
    pub to: SiteName,
    /// Greatest loss of each machine.
    pub rpo_target: Option<Span>,
    /// From which points.
    pub point: PointChoice,
    /// Its machines.
    pub items: BTreeSet<ItemName>,
    /// Its actions.
    pub steps: Vec<StepFacts>,
    /// What it asks people of its roles.
    pub asks: Vec<AskFacts>,
    /// The last test of it that passed, and with what.
    pub verified: Option<Verification>,
}

/// An action of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepFacts {
    /// Its name, with the group and the item that it belongs to.
    pub name: String,
    /// What it does, in few words.
    pub does: String,
    /// In which modes it is carried out.
    pub modes: BTreeSet<Mode>,
    /// At which end of the move.
    pub at: At,
    /// What the agent there must have.
    pub needs: Needs,
}

/// A step that waits for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskFacts {
    /// Its name, with the group and the item that it belongs to.
    pub name: String,
    /// How many different people have to say something.
    pub need: usize,
    /// Of these roles.
    pub roles: BTreeSet<String>,
    /// Who plays them, by the names of their tokens.
    pub people: BTreeSet<String>,
    /// How long it waits.
    pub within: Span,
    /// What no answer means.
    pub silence: Silence,
}

impl PlanFacts {
    /// What has to be known of a plan, whose text has this SHA-256.
    #[must_use]
    pub fn of(plan: &Plan, sha256: &str, verified: Option<Verification>) -> Self {
        let (mut steps, mut asks) = (vec![], vec![]);
        let mut add = |place: &str, item: Option<&ItemName>, actions: &[Action]| {
            steps.extend(actions.iter().filter_map(|action| step(place, item, action)));
            asks.extend(actions.iter().filter_map(|action| ask(place, action, plan)));
        };
        add("", None, &plan.before);
        add("", None, &plan.after);
        for group in &plan.groups {
            let place = format!("{}/", group.name);
            add(&place, None, &group.before);
            add(&place, None, &group.after);
            for member in &group.items {
                let place = format!("{}/{}/", group.name, member.item);
                add(&place, Some(&member.item), &member.before);
                add(&place, Some(&member.item), &member.after);
            }
        }
        let items = plan.groups.iter().flat_map(|group| group.items.iter().map(|member| member.item.clone())).collect();
        Self {
            name: plan.name.clone(),
            sha256: sha256.to_owned(),
            from: plan.from.clone(),
            to: plan.to.clone(),
            rpo_target: plan.rpo_target,
            point: plan.point,
            items,
            steps,
            asks,
            verified,
        }
    }
}

/// A step that names no role can be answered by whoever operates it.
fn ask(place: &str, action: &Action, plan: &Plan) -> Option<AskFacts> {
    let (need, roles, within, silence) = match action.does() {
        Ok(Does::Manual(manual)) if !manual.of.is_empty() => (1, manual.of, manual.within, manual.on_silence),
        Ok(Does::Approval(approval)) => (approval.need, approval.of, approval.within, approval.on_silence),
        Ok(Does::Manual(_) | Does::Performed(_)) | Err(_) => return None,
    };
    let people = people(&plan.roles, &roles);
    Some(AskFacts { name: format!("{place}{}", action.name), need, roles, people, within, silence })
}

fn step(place: &str, item: Option<&ItemName>, action: &Action) -> Option<StepFacts> {
    let Ok(Does::Performed(performed)) = action.does() else { return None };
    let modes = Mode::ALL.into_iter().filter(|mode| action.runs_in(*mode, item)).collect();
    Some(StepFacts { name: format!("{place}{}", action.name), does: performed.to_string(), modes, at: action.at, needs: performed.needs() })
}
