//! Extra processing of a plan's machines, predicted: a step of its own behind the preparation of each machine that needs it, so that an
//! estimate of the time counts it in.
//!
//!   fence, choose, recover ─▶ extra processing, 8m to 10m ─▶ power on
//!
//! Invariant: runs do not record it; it belongs to the preparation of its machine and is over when that is.

use std::collections::BTreeMap;

use super::{
    spec::Plan,
    steps::{EXTRA, PREPARE, Stage, Step, StepKind, Work, place},
};
use crate::{
    ItemName,
    profile::{
        Profile,
        extra::{ExtraStep, Guest, step},
    },
};

/// Machines that are named together; the others are counted.
const MOST_NAMED: usize = 10;

/// What is predicted, by machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extra(BTreeMap<ItemName, ExtraStep>);

impl Extra {
    /// Of a work with a plan whose machines have these profiles; those that are not known are taken to be of the default one. Of a guest
    /// nothing is known here, which is said.
    #[must_use]
    pub fn of(plan: &Plan, work: Work, profiles: &BTreeMap<ItemName, Profile>) -> Self {
        let Some(mode) = work.mode() else { return Self::default() };
        let needs = |item: &ItemName| step(profiles.get(item).copied().unwrap_or_default(), mode, &Guest::default());
        Self(plan.members().filter_map(|member| Some((member.item.clone(), needs(&member.item)?))).collect())
    }

    /// What a machine needs.
    #[must_use]
    pub fn needed(&self, item: &ItemName) -> Option<&ExtraStep> {
        self.0.get(item)
    }

    /// In words, once for all machines that need the same.
    #[must_use]
    pub fn told(&self) -> Vec<String> {
        let mut alike: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        self.0.iter().for_each(|(item, step)| alike.entry(step.to_string()).or_default().push(item.as_str()));
        let told = |(says, items): (String, Vec<&str>)| {
            let more = items.len().saturating_sub(MOST_NAMED);
            let named = items.into_iter().take(MOST_NAMED).collect::<Vec<_>>().join(", ");
            if more > 0 { format!("{named} and {more} more: {says}") } else { format!("{named}: {says}") }
        };
        alike.into_iter().map(told).collect()
    }

    /// Its steps put behind the preparations that they belong to, but for those that are over: whose preparation `ended`.
    #[must_use]
    pub fn put_into(&self, mut stages: Vec<Stage>, ended: impl Fn(&str) -> bool) -> Vec<Stage> {
        if self.0.is_empty() {
            return stages;
        }
        for unit in stages.iter_mut().flat_map(|stage| &mut stage.lanes).flat_map(|lane| &mut lane.units) {
            let prepared = unit.steps.iter().position(|step| step.kind == StepKind::Prepare && !ended(&step.key));
            let added = prepared.and_then(|place| Some((place + 1, self.behind(&unit.steps[place])?)));
            if let Some((place, step)) = added {
                unit.steps.insert(place, step);
            }
        }
        stages
    }

    fn behind(&self, prepare: &Step) -> Option<Step> {
        let extra = self.needed(prepare.item.as_ref()?)?;
        let key = place(prepare.group.as_deref(), prepare.item.as_ref(), EXTRA);
        Some(Step { key, kind: StepKind::Extra, does: extra.to_string(), ..prepare.clone() })
    }

    /// The longest that one of its steps takes, milliseconds: what is not known is not taken for well. Nothing for steps of a run.
    #[must_use]
    pub fn longest_ms(&self, step: &Step) -> Option<u64> {
        let item = step.item.as_ref().filter(|_| step.kind == StepKind::Extra)?;
        self.needed(item).map(|extra| extra.longest.ms())
    }

    /// What is left of that while its preparation runs, of which it is a part; `ran` says for how long a step has run, milliseconds.
    #[must_use]
    pub fn left_ms(&self, step: &Step, ran: impl Fn(&str) -> u64) -> Option<u64> {
        let preparation = place(step.group.as_deref(), step.item.as_ref(), PREPARE);
        self.longest_ms(step).map(|longest_ms| longest_ms.saturating_sub(ran(&preparation)))
    }
}
