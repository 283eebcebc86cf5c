//! What should be known of a plan before the night comes.
//!
//! Invariant: each thing is said once, of the place where it stands, with what to do about it.

use super::{
    action,
    spec::{Action, Does, Plan},
    steps::{Stage, Work, action_key, place},
};
use crate::ItemName;

/// What people read before a night; a plan of ten thousand machines repeats itself.
const MOST: usize = 50;

impl Plan {
    /// What in the plan may fail a failover or its tests, in words, by place.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut found = self.at_the_source();
        found.extend(self.of_actions("before", &self.before, None, None));
        found.extend(self.of_actions("after", &self.after, None, None));
        for group in &self.groups {
            let name = Some(group.name.as_str());
            found.extend(self.of_actions("before", &group.before, name, None));
            for member in &group.items {
                found.extend(self.of_actions("before", &member.before, name, Some(&member.item)));
                found.extend(self.of_actions("after", &member.after, name, Some(&member.item)));
            }
            found.extend(self.of_actions("after", &group.after, name, None));
        }
        if found.len() > MOST {
            let more = found.len() - MOST;
            found.truncate(MOST);
            found.push(format!("{more} more of this kind"));
        }
        found
    }

    /// A failover is for the day on which the source is dead.
    fn at_the_source(&self) -> Vec<String> {
        let stages = self.stages(Work::Unplanned);
        let steps = stages.iter().flat_map(Stage::steps);
        let there = steps.filter(|step| step.site == self.from);
        there.map(|step| format!("{} is done at site {}, which may be dead in a failover: {}", step.key, step.site, step.does)).collect()
    }

    fn of_actions(&self, when: &str, actions: &[Action], group: Option<&str>, item: Option<&ItemName>) -> Vec<String> {
        let place = place(group, item, when);
        let performed = actions.iter().filter_map(|action| if let Ok(Does::Performed(performed)) = action.does() { Some((action, performed)) } else { None });
        let warnings = performed.flat_map(|(action, performed)| {
            let key = action_key(&place, action);
            action::warnings(&performed, action.on.as_ref(), item).into_iter().map(move |warning| format!("{key}: {}. {} {}", warning.what, warning.means, warning.next))
        });
        warnings.collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_said_once_of_members_groups_and_the_plan() {
        let action = |name: &str, rest: &str| format!("{{ name: {name}, {rest} http: {{ method: GET, url: 'http://10.0.0.9/x' }} }}");
        let text = format!(
            "{{ version: 1, name: shop, from: a, to: b, before: [{}], groups: [{{ name: web, items: [{{ item: w1, after: [{}] }}], after: [{}] }}] }}",
            action("first", "on: [planned, unplanned], at: source,"),
            action("told", ""),
            action("page", "on: [test],"),
        );
        let plan = Plan::from_yaml(&text).unwrap();
        let places: Vec<String> = plan.warnings().iter().map(|warning| warning.split(&[':', ' ']).next().unwrap().to_owned()).collect();
        assert_eq!(places, ["before/first", "web/w1/after/told", "web/after/page"], "{:#?}", plan.warnings());
        assert_eq!(plan.warnings()[0], "before/first is done at site a, which may be dead in a failover: GET http://10.0.0.9/x");
    }

    #[test]
    fn what_is_said_of_a_large_plan_can_still_be_read() {
        let items: Vec<String> = (0..100).map(|n| format!("{{ item: w{n}, after: [{{ name: told, http: {{ method: GET, url: 'http://10.0.0.9/x' }} }}] }}")).collect();
        let text = format!("{{ version: 1, name: shop, from: a, to: b, groups: [{{ name: web, items: [{}] }}] }}", items.join(", "));
        let said = Plan::from_yaml(&text).unwrap().warnings();
        assert_eq!((said.len(), said.last().unwrap().as_str()), (MOST + 1, "50 more of this kind"));
    }
}
