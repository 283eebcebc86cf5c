//! The steps of a plan in a mode, in the order in which they can happen: what a run does, what is predicted, what is shown.
//!
//! ```text
//!   before ─▶ prepare (all machines; without loss: group by group, last one first) ─▶ group 1: before ─▶ machines ─▶ after ─▶ group 2 … ─▶ after
//! ```
//!
//! Invariants: 1. Stages follow each other; the lanes of one run at the same time; in a lane up to so many units, and the steps of a unit
//! follow each other. 2. A step's key is unique in its run and the same in each run of the plan.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    Mode,
    asks::Asks,
    spec::{Action, At, Group, Member, Plan},
};
use crate::{ItemName, SiteName};

/// What is done with a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Copies on an isolated network.
    Test,
    /// To the recovery site without loss.
    Planned,
    /// To the recovery site from points.
    Unplanned,
    /// Back to the primary site.
    Failback,
    /// The copies of a test go.
    CleanTest,
    /// Accept what was failed over.
    Commit,
    /// Give up what was failed over.
    Undo,
    /// Replicate in the other direction.
    Reprotect,
}

impl Work {
    /// All of it.
    pub const ALL: [Work; 8] =
        [Work::Test, Work::Planned, Work::Unplanned, Work::Failback, Work::CleanTest, Work::Commit, Work::Undo, Work::Reprotect];

    /// The word used in paths and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Work::Test => "test-failover",
            Work::Planned => "planned-failover",
            Work::Unplanned => "failover",
            Work::Failback => "failback",
            Work::CleanTest => "clean-test-failover",
            Work::Commit => "commit",
            Work::Undo => "undo",
            Work::Reprotect => "reprotect",
        }
    }

    /// The word used in facts, in the tables that are made of them, and in answers of the API.
    #[must_use]
    pub fn recorded(self) -> &'static str {
        match self {
            Work::Test => "test",
            Work::Planned => "planned",
            Work::Unplanned => "unplanned",
            Work::CleanTest => "clean-test",
            Work::Failback | Work::Commit | Work::Undo | Work::Reprotect => self.as_str(),
        }
    }

    /// The work of which such a word was recorded.
    #[must_use]
    pub fn of_recorded(word: &str) -> Option<Self> {
        Work::ALL.into_iter().find(|work| work.recorded() == word)
    }

    /// The mode in which groups are started one after the other; nothing for what is done to all machines alike.
    #[must_use]
    pub fn mode(self) -> Option<Mode> {
        match self {
            Work::Test => Some(Mode::Test),
            Work::Planned => Some(Mode::Planned),
            Work::Unplanned => Some(Mode::Unplanned),
            Work::Failback => Some(Mode::Failback),
            Work::CleanTest | Work::Commit | Work::Undo | Work::Reprotect => None,
        }
    }
}

impl From<Mode> for Work {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Test => Work::Test,
            Mode::Planned => Work::Planned,
            Mode::Unplanned => Work::Unplanned,
            Mode::Failback => Work::Failback,
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names nothing that is done with a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is nothing that is done with a plan; there are {}", Work::ALL.map(Work::as_str).join(", "))]
pub struct InvalidWork {
    /// What was given.
    pub text: String,
}

impl FromStr for Work {
    type Err = InvalidWork;
    fn from_str(text: &str) -> Result<Self, InvalidWork> {
        // Whoever asks for what a plan's view allows has its word from there.
        Work::ALL.into_iter().find(|work| work.as_str() == text).or_else(|| Work::of_recorded(text)).ok_or_else(|| InvalidWork { text: text.to_owned() })
    }
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// Fence or shut down, choose, pin, make a machine; nothing runs yet.
    Prepare,
    /// Power on, until it serves.
    Start,
    /// The whole of an operation on a machine.
    Operate,
    /// Something beside the machines.
    Action,
    /// What a platform does between the preparation and the start of some machines; predicted, and recorded as part of the preparation.
    Extra,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Unique in the run.
    pub key: String,
    /// What it does.
    pub kind: StepKind,
    /// Of which group.
    pub group: Option<String>,
    /// Of which machine.
    pub item: Option<ItemName>,
    /// Where its agent is.
    pub site: SiteName,
    /// In few words.
    pub does: String,
    /// What it asks people, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<Asks>,
}

/// Steps that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// In order; there may be none.
    pub steps: Vec<Step>,
    /// Units of the same lane that end before this one begins, by their places, which are lower than its own.
    pub needs: Vec<usize>,
}

/// Units that are begun one after the other, up to so many at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// In the order in which they are begun.
    pub units: Vec<Unit>,
    /// So many at once.
    pub limit: usize,
}

/// Lanes that run at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// One of each group that takes part.
    pub lanes: Vec<Lane>,
}

impl Stage {
    /// All its steps, lane by lane.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.lanes.iter().flat_map(|lane| &lane.units).flat_map(|unit| &unit.steps)
    }
}

/// Where a group's or a machine's actions stand.
#[must_use]
pub fn place(group: Option<&str>, item: Option<&ItemName>, when: &str) -> String {
    let parts = [group.map(str::to_owned), item.map(ToString::to_string), Some(when.to_owned())];
    parts.into_iter().flatten().collect::<Vec<_>>().join("/")
}

/// Last word of the keys of preparations.
pub(super) const PREPARE: &str = "prepare";
/// Last word of the keys of extra processing.
pub(super) const EXTRA: &str = "extra-processing";

/// The key of an action.
#[must_use]
pub fn action_key(place: &str, action: &Action) -> String {
    format!("{place}/{}", action.name)
}

/// The key of what is done with a machine.
#[must_use]
pub fn member_key(group: &Group, member: &Member, kind: StepKind, work: Work) -> String {
    let word = match kind {
        StepKind::Prepare => PREPARE,
        StepKind::Extra => EXTRA,
        StepKind::Start => "start",
        StepKind::Operate | StepKind::Action => work.as_str(),
    };
    place(Some(&group.name), Some(&member.item), word)
}

impl Plan {
    /// What this work consists of, stage by stage.
    #[must_use]
    pub fn stages(&self, work: Work) -> Vec<Stage> {
        let Some(mode) = work.mode() else {
            let units = |group: &Group| group.items.iter().map(|member| self.operated(group, member, work)).collect();
            return vec![Stage { lanes: self.groups.iter().map(|group| Lane { units: units(group), limit: self.parallel }).collect() }];
        };
        let mut stages = vec![self.chain(None, None, "before", &self.before, mode)];
        match mode {
            Mode::Test | Mode::Unplanned => stages.push(self.prepared(&self.start_order(mode), work)),
            Mode::Planned | Mode::Failback => stages.extend(self.shut_down_order(mode).into_iter().map(|group| self.prepared(&[group], work))),
        }
        for group in self.start_order(mode) {
            stages.push(self.chain(Some(&group.name), None, "before", &group.before, mode));
            stages.push(self.started(group, work, mode));
            stages.push(self.chain(Some(&group.name), None, "after", &group.after, mode));
        }
        stages.push(self.chain(None, None, "after", &self.after, mode));
        stages.retain(|stage| stage.steps().next().is_some());
        stages
    }

    fn operated(&self, group: &Group, member: &Member, work: Work) -> Unit {
        let site = if work == Work::CleanTest { &self.to } else { &self.from };
        Unit { steps: vec![step(member_key(group, member, StepKind::Operate, work), StepKind::Operate, group, member, site.clone(), work.as_str())], needs: vec![] }
    }

    fn prepared(&self, groups: &[&Group], work: Work) -> Stage {
        let site = |mode| self.ends(mode).0.clone();
        let unit = |group: &Group, member: &Member| {
            let key = member_key(group, member, StepKind::Prepare, work);
            let site = site(work.mode().unwrap_or(Mode::Unplanned));
            let does = match work {
                Work::Unplanned => "fence, choose, recover",
                Work::Test => "choose, make a copy",
                Work::Planned | Work::Failback | Work::CleanTest | Work::Commit | Work::Undo | Work::Reprotect => "shut down, send the rest, recover",
            };
            Unit { steps: vec![step(key, StepKind::Prepare, group, member, site, does)], needs: vec![] }
        };
        let lane = |group: &&Group| Lane { units: group.in_order().into_iter().map(|member| unit(group, member)).collect(), limit: self.parallel };
        Stage { lanes: groups.iter().map(lane).collect() }
    }

    fn started(&self, group: &Group, work: Work, mode: Mode) -> Stage {
        let members = group.in_order();
        let site = self.ends(mode).0;
        let unit = |member: &&Member| {
            let chain = |when: &str, actions: &[Action]| self.actions_of(Some(&group.name), Some(&member.item), when, actions, mode);
            let kind = StepKind::Start;
            let does = if mode == Mode::Test { "power the copy on, until it serves" } else { "power on, until it serves" };
            let own = step(member_key(group, member, kind, work), kind, group, member, site.clone(), does);
            let steps = [chain("before", &member.before), vec![own], chain("after", &member.after)].concat();
            let needs = members.iter().enumerate().filter(|(_, other)| member.needs.contains(&other.item)).map(|(place, _)| place).collect();
            Unit { steps, needs }
        };
        let limit = group.parallel.unwrap_or(members.len()).max(1);
        Stage { lanes: vec![Lane { units: members.iter().map(unit).collect(), limit }] }
    }

    fn chain(&self, group: Option<&str>, item: Option<&ItemName>, when: &str, actions: &[Action], mode: Mode) -> Stage {
        let unit = Unit { steps: self.actions_of(group, item, when, actions, mode), needs: vec![] };
        Stage { lanes: vec![Lane { units: vec![unit], limit: 1 }] }
    }

    fn actions_of(&self, group: Option<&str>, item: Option<&ItemName>, when: &str, actions: &[Action], mode: Mode) -> Vec<Step> {
        let place = place(group, item, when);
        let (target, source) = self.ends(mode);
        let one = |action: &Action| Step {
            key: action_key(&place, action),
            kind: StepKind::Action,
            group: group.map(str::to_owned),
            item: item.cloned(),
            site: if action.at == At::Target { target.clone() } else { source.clone() },
            does: action.to_string(),
            asks: Asks::of(action),
        };
        actions.iter().filter(|action| action.runs_in(mode, item)).map(one).collect()
    }
}

fn step(key: String, kind: StepKind, group: &Group, member: &Member, site: SiteName, does: &str) -> Step {
    Step { key, kind, group: Some(group.name.clone()), item: Some(member.item.clone()), site, does: does.to_owned(), asks: None }
}
