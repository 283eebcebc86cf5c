//! What the runs of a world have recorded so far: taken from the store as it comes, so that it is kept once and looked through once.

use std::collections::BTreeMap;

use engine::memory::MemoryStore;
use recovery::{
    ItemRecord,
    plan::{StepRun, StepState},
};
use sdk::RunId;
use workflows::{ITEM_PROJECTION, ItemChange, PLAN_PROJECTION, PlanFact, PlanNote, Question};

/// A question that is open.
#[derive(Clone)]
pub(crate) struct Open {
    /// Who waits for the answer.
    pub(crate) run: RunId,
    /// Key of the step.
    pub(crate) step: String,
    pub(crate) question: Question,
}

/// The last that was recorded of each machine and each step.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    pub(crate) records: BTreeMap<String, ItemRecord>,
    pub(crate) steps: BTreeMap<String, StepRun>,
    pub(crate) open: Vec<Open>,
}

impl Seen {
    /// Takes what is new.
    pub(crate) fn look(&mut self, store: &MemoryStore) {
        for (run, row) in store.take_projections() {
            match row.projection.as_str() {
                ITEM_PROJECTION => {
                    if let Ok(ItemChange { item, record, .. }) = serde_json::from_value(row.fact) {
                        self.records.insert(item.to_string(), record);
                    }
                }
                PLAN_PROJECTION => {
                    if let Ok(PlanNote { fact: PlanFact::Step { step, question }, .. }) = serde_json::from_value(row.fact) {
                        self.stands(run, step, question);
                    }
                }
                _ => {}
            }
        }
    }

    fn stands(&mut self, run: RunId, step: StepRun, question: Option<Question>) {
        self.open.retain(|open| open.step != step.key);
        if let Some(question) = question.filter(|_| step.state == StepState::Waiting) {
            self.open.push(Open { run, step: step.key.clone(), question });
        }
        self.steps.insert(step.key.clone(), step);
    }
}
