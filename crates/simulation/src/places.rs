//! Where the activities of a run belong: which step of the plan one is a part of, looked up and not searched for each time.

use std::collections::BTreeMap;

use recovery::plan::{Plan, Stage, StepKind, Work};
use serde_json::Value;

/// Steps of a plan by what activities say of themselves.
pub(crate) struct Places {
    /// The group of each machine.
    groups: BTreeMap<String, String>,
    /// Keys of actions: by group, machine and name.
    actions: BTreeMap<(Option<String>, Option<String>, String), String>,
}

impl Places {
    pub(crate) fn of(plan: &Plan, work: Work) -> Self {
        let of_group = |group: &recovery::plan::Group| group.items.iter().map(|member| (member.item.to_string(), group.name.clone())).collect::<Vec<_>>();
        let groups = plan.groups.iter().flat_map(of_group).collect();
        let stages = plan.stages(work);
        let steps = stages.iter().flat_map(Stage::steps);
        let mut actions = BTreeMap::new();
        for step in steps.filter(|step| step.kind == StepKind::Action) {
            let name = step.key.rsplit_once('/').map_or(step.key.as_str(), |(_, name)| name).to_owned();
            actions.entry((step.group.clone(), step.item.as_ref().map(ToString::to_string), name)).or_insert_with(|| step.key.clone());
        }
        Self { groups, actions }
    }

    /// The key of the action that an activity with this input carries out, if it carries one out.
    pub(crate) fn action(&self, input: &Value) -> Option<&str> {
        let context = &input["context"];
        let text = |name: &str| context[name].as_str().map(str::to_owned);
        self.actions.get(&(text("group"), text("item"), text("step")?)).map(String::as_str)
    }

    /// The key of what is done with a machine, by its last word.
    pub(crate) fn member(&self, input: &Value, word: &str) -> Option<String> {
        let item = input["item"].as_str()?;
        self.groups.get(item).map(|group| format!("{group}/{item}/{word}"))
    }
}
