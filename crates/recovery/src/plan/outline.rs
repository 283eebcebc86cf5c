//! A plan in short: what whoever applies it for the first time wants to see of it.

use serde::{Deserialize, Serialize};

use super::{
    asks::Asks,
    spec::{Action, Does, Member, Plan},
    steps::{Stage, Work},
};

/// A plan in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// Done before everything else, as `name (kind)`.
    pub before: Vec<String>,
    /// In the order in which they are started.
    pub groups: Vec<GroupOutline>,
    /// Done when all groups are there.
    pub after: Vec<String>,
    /// Steps of a failover.
    pub steps: usize,
    /// How many of them ask people what, in words; nothing if none does.
    pub asks: Option<String>,
}

/// A group in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOutline {
    /// Its name.
    pub name: String,
    /// Its machines, with what each needs and what is done beside it.
    pub items: Vec<String>,
    /// Done before its machines are started.
    pub before: Vec<String>,
    /// Done when all its machines serve.
    pub after: Vec<String>,
}

impl Plan {
    /// What it consists of.
    #[must_use]
    pub fn outline(&self) -> Outline {
        let stages = self.stages(Work::Unplanned);
        let steps = || stages.iter().flat_map(Stage::steps);
        let groups = self.groups.iter().map(|group| GroupOutline {
            name: group.name.clone(),
            items: group.items.iter().map(member).collect(),
            before: actions(&group.before),
            after: actions(&group.after),
        });
        Outline {
            before: actions(&self.before),
            groups: groups.collect(),
            after: actions(&self.after),
            steps: steps().count(),
            asks: Asks::counted(steps().filter_map(|step| step.asks.as_ref())),
        }
    }
}

fn member(member: &Member) -> String {
    let needs: Vec<&str> = member.needs.iter().map(crate::ItemName::as_str).collect();
    let needs = if needs.is_empty() { String::new() } else { format!(" after {}", needs.join(" and ")) };
    let beside = [actions(&member.before), actions(&member.after)].concat();
    let beside = if beside.is_empty() { String::new() } else { format!(" with {}", beside.join(" and ")) };
    format!("{}{needs}{beside}", member.item)
}

fn actions(actions: &[Action]) -> Vec<String> {
    let kind = |action: &Action| match action.does() {
        Ok(Does::Performed(performed)) => performed.kind(),
        Ok(Does::Manual(_)) => "manual",
        Ok(Does::Approval(_)) => "approval",
        Err(_) => "invalid",
    };
    actions.iter().map(|action| format!("{} ({})", action.name, kind(action))).collect()
}
