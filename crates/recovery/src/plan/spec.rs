//! A recovery plan as it is written: groups of machines in order, what they wait for, and what is done before and after.
//!
//! ```yaml
//! version: 1
//! name: shop
//! from: a                       # where its machines run normally
//! to: b                         # where they are recovered
//! rto-target: 15m
//! groups:
//!   - name: data
//!     items:
//!       - item: db1
//!       - { item: db2, needs: [db1] }
//!   - name: app
//!     before:
//!       - { name: ask, on: [planned, unplanned], approval: { need: 1, of: [dba], within: 15m } }
//!     items: [{ item: app1 }, { item: app2 }]
//!   - name: web
//!     items: [{ item: web, checks: ["http://10.0.0.7:80/"] }]
//!     after:
//!       - { name: point, on: [planned, unplanned], dns: { server: 10.0.0.53, zone: example.org, name: shop.example.org, type: A, values: [10.0.0.7], ttl: 60 } }
//! roles: { dba: [ada, bob] }
//! failback: { order: [web, app, data] }
//! ```
//!
//! Invariants: 1. A plan that was read holds together: names are unique, orders and dependencies have an end, limits hold. 2. What is
//! left out is careful: it stops at the first error and asks before it discards. 3. An unknown key is refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Mode, OnError,
    action::{self, Performed},
};
use crate::{Check, ItemName, PlanName, PointChoice, SiteName, span::Span};

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Plan {
    /// Of this format: 1.
    pub version: u32,
    /// Its name.
    #[schemars(with = "String")]
    pub name: PlanName,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where all its machines run normally.
    #[schemars(with = "String")]
    pub from: SiteName,
    /// Where they are recovered.
    #[schemars(with = "String")]
    pub to: SiteName,
    /// Longest time from the request until everything serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub rto_target: Option<Span>,
    /// Greatest loss of each machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub rpo_target: Option<Span>,
    /// From which points, if nothing else is asked for.
    #[serde(default = "latest_processed")]
    #[schemars(with = "String")]
    pub point: PointChoice,
    /// What becomes of the plan when a step fails, where the step says nothing else.
    #[serde(default)]
    pub on_error: OnError,
    /// How many machines of a group are prepared at once; groups are prepared at the same time where the order allows.
    #[serde(default = "sixteen")]
    pub parallel: usize,
    /// What happens to a failover that nobody has judged after a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitPolicy>,
    /// Who plays which role, by the names of their tokens.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, BTreeSet<String>>,
    /// Done before everything else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Action>,
    /// Done when all groups are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Action>,
    /// In the order in which they are started at the recovery site.
    pub groups: Vec<Group>,
    /// In which order groups are shut down; the reverse of their start if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shut_down: Option<Order>,
    /// In which order groups are started at the primary site again; as at the recovery site if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failback: Option<Order>,
}

/// Names of all groups, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Order {
    /// Each group once.
    pub order: Vec<String>,
}

/// Machines that are started together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Group {
    /// Its name, unique in the plan.
    pub name: String,
    /// How many of its machines are started at once; all if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<usize>,
    /// What becomes of the plan when a step of the group fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
    /// Done before its machines are started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Action>,
    /// Done when all its machines serve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Action>,
    /// Its machines.
    pub items: Vec<Member>,
}

/// A machine of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Member {
    /// Which.
    #[schemars(with = "String")]
    pub item: ItemName,
    /// Started after these of the same group serve.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "BTreeSet<String>")]
    pub needs: BTreeSet<ItemName>,
    /// Whether the plan is worth nothing without it.
    #[serde(default = "yes")]
    pub critical: bool,
    /// Asked beside the item's own checks: it serves when all of them hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub checks: Vec<Check>,
    /// Longest time from its start until it serves: its budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub budget: Option<Span>,
    /// What becomes of the plan when it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
    /// Tries after the first.
    #[serde(default)]
    pub retries: u32,
    /// Done before it is started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Action>,
    /// Done when it serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Action>,
}

/// Something that is done beside the machines; exactly one of the kinds is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Action {
    /// Its name, unique where it stands.
    pub name: String,
    /// In which modes. If nothing is said: in all, but in tests only what touches nothing but copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<BTreeSet<Mode>>,
    /// At which site's agent.
    #[serde(default)]
    pub at: At,
    /// What becomes of the plan when it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
    /// Tries after the first.
    #[serde(default)]
    pub retries: u32,
    /// A request to a web service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<action::Http>,
    /// A script on a machine that is reached by SSH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<action::Ssh>,
    /// A program in a recovered machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<action::Guest>,
    /// A program beside the agent that its configuration allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<action::Command>,
    /// A record set in a zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<action::Dns>,
    /// Waiting until a check holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<action::WaitFor>,
    /// Something that a person does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual: Option<Manual>,
    /// Something that people agree to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
}

/// At which end of the move an action is carried out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum At {
    /// Where the machines will run.
    #[default]
    Target,
    /// Where they ran: a site that may be dead.
    Source,
}

/// Something that a person does by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manual {
    /// What is to be done.
    pub instructions: String,
    /// Which roles may say that it is done; everybody who may operate, if none is named.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub of: BTreeSet<String>,
    /// How long it may take.
    #[serde(default = "half_an_hour")]
    #[schemars(with = "String")]
    pub within: Span,
    /// What happens if nobody says anything.
    #[serde(default)]
    pub on_silence: Silence,
}

/// Something that people agree to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Approval {
    /// How many different people must agree.
    pub need: usize,
    /// Of which roles.
    pub of: BTreeSet<String>,
    /// What they are asked; a text of ours if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// How long they may take.
    #[serde(default = "half_an_hour")]
    #[schemars(with = "String")]
    pub within: Span,
    /// What happens if too few say anything.
    #[serde(default)]
    pub on_silence: Silence,
}

/// What no answer means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Silence {
    /// The step has failed.
    #[default]
    Fail,
    /// The step is done.
    GoOn,
}

/// What happens to a failover that nobody has judged after a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CommitPolicy {
    /// So long after the plan has ended.
    #[schemars(with = "String")]
    pub after: Span,
    /// What.
    pub then: Then,
}

/// What becomes of a failover without a person's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// It is accepted; points go.
    Commit,
    /// It is given up, with what was written since; the source runs again.
    Undo,
}

/// What an action does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Does {
    /// An agent carries it out.
    Performed(Performed),
    /// A person does it.
    Manual(Manual),
    /// People agree to it.
    Approval(Approval),
}

fn latest_processed() -> PointChoice {
    PointChoice::LatestProcessed
}
fn sixteen() -> usize {
    16
}
fn yes() -> bool {
    true
}
fn half_an_hour() -> Span {
    Span::seconds(1_800)
}

impl Action {
    /// What it does, if exactly one kind is given; else how many are.
    ///
    /// # Errors
    /// How many kinds are given.
    pub fn does(&self) -> Result<Does, usize> {
        let Self { name: _, on: _, at: _, on_error: _, retries: _, http, ssh, guest, command, dns, check, manual, approval } = self;
        let performed = [
            http.clone().map(Performed::Http),
            ssh.clone().map(Performed::Ssh),
            guest.clone().map(Performed::Guest),
            command.clone().map(Performed::Command),
            dns.clone().map(Performed::Dns),
            check.clone().map(Performed::Check),
        ];
        let people = [manual.clone().map(Does::Manual), approval.clone().map(Does::Approval)];
        let mut given: Vec<Does> = performed.into_iter().flatten().map(Does::Performed).chain(people.into_iter().flatten()).collect();
        let count = given.len();
        given.pop().filter(|_| count == 1).ok_or(count)
    }

    /// Whether it is carried out in that mode, at a machine or beside all of them.
    #[must_use]
    pub fn runs_in(&self, mode: Mode, item: Option<&ItemName>) -> bool {
        match self.does() {
            Ok(Does::Performed(performed)) => action::may_run(&performed, mode, self.on.as_ref(), item),
            Ok(Does::Manual(_) | Does::Approval(_)) => self.on.as_ref().map_or(mode != Mode::Test, |on| on.contains(&mode)),
            Err(_) => false,
        }
    }

    /// Whether the plan says that it is meant for tests.
    #[must_use]
    pub fn meant_for_tests(&self) -> bool {
        self.on.as_ref().is_some_and(|on| on.contains(&Mode::Test))
    }
}

/// In few words, for tables and histories.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.does() {
            Ok(Does::Performed(performed)) => performed.fmt(f),
            Ok(Does::Manual(manual)) => f.write_str(manual.instructions.lines().next().unwrap_or_default()),
            Ok(Does::Approval(approval)) => {
                let roles: Vec<&str> = approval.of.iter().map(String::as_str).collect();
                write!(f, "{} of {} agree", approval.need, roles.join(", "))
            }
            Err(kinds) => write!(f, "{kinds} kinds of action"),
        }
    }
}

impl Group {
    /// Its machines in an order in which each comes after those that it needs.
    #[must_use]
    pub fn in_order(&self) -> Vec<&Member> {
        let (mut waiting, mut ordered): (Vec<&Member>, Vec<&Member>) = (self.items.iter().collect(), vec![]);
        while !waiting.is_empty() {
            let (free, held): (Vec<&Member>, Vec<&Member>) =
                waiting.iter().partition(|member| member.needs.iter().all(|needed| ordered.iter().any(|done| done.item == *needed)));
            ordered.extend(if free.is_empty() { &held } else { &free });
            waiting = if free.is_empty() { vec![] } else { held };
        }
        ordered
    }
}

impl Plan {
    /// Its groups in the order in which they are started.
    #[must_use]
    pub fn start_order(&self, mode: Mode) -> Vec<&Group> {
        match (&self.failback, mode) {
            (Some(order), Mode::Failback) => self.named(&order.order),
            (None, Mode::Failback) | (_, Mode::Test | Mode::Planned | Mode::Unplanned) => self.groups.iter().collect(),
        }
    }

    /// Its groups in the order in which they are shut down.
    #[must_use]
    pub fn shut_down_order(&self, mode: Mode) -> Vec<&Group> {
        match &self.shut_down {
            Some(order) => self.named(&order.order),
            None => self.start_order(mode).into_iter().rev().collect(),
        }
    }

    fn named(&self, names: &[String]) -> Vec<&Group> {
        names.iter().filter_map(|name| self.groups.iter().find(|group| group.name == *name)).collect()
    }

    /// All its machines.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.groups.iter().flat_map(|group| &group.items)
    }

    /// Where a mode starts machines, and where they ran.
    #[must_use]
    pub fn ends(&self, mode: Mode) -> (&SiteName, &SiteName) {
        match mode {
            Mode::Test | Mode::Planned | Mode::Unplanned => (&self.to, &self.from),
            Mode::Failback => (&self.from, &self.to),
        }
    }
}

/// The people of these roles; nobody named means everybody who may operate.
#[must_use]
pub fn people(plays: &BTreeMap<String, BTreeSet<String>>, roles: &BTreeSet<String>) -> BTreeSet<String> {
    roles.iter().filter_map(|role| plays.get(role)).flatten().cloned().collect()
}
