//! What is open in a store, in words: for whoever has to find out why nobody goes on.

use sdk::{RunId, Seq};

use super::{MemoryRun, MemoryStore, MemoryTask, State};
use crate::RunState;

impl MemoryStore {
    /// Each open run with what it waits for, a line each.
    #[must_use]
    pub fn open_work(&self) -> String {
        let state = self.lock();
        let open = state.runs.iter().filter(|(_, run)| matches!(run.state, RunState::Open | RunState::Suspended));
        open.flat_map(|(id, run)| state.told_of(*id, run)).map(|line| format!("\n{line}")).collect()
    }
}

impl State {
    fn told_of(&self, id: RunId, run: &MemoryRun) -> Vec<String> {
        let owner = match run.owner {
            Some(owner) if self.leases.contains_key(&owner) => "owned",
            Some(_) => "orphaned",
            None => "nobody's",
        };
        let messages = Self::of_run(&self.inbox, id, 0).len();
        let mut lines = vec![format!("{id} {} ({}, {owner}, {} events, {messages} messages)", run.workflow_id, run.workflow, run.events.len())];
        let tasks = self.tasks.range((id, Seq(0))..).take_while(|((of, _), _)| *of == id);
        lines.extend(tasks.map(|((_, seq), task)| self.told_of_task(*seq, task)));
        let timers = self.timers.range((id, Seq(0))..).take_while(|((of, _), _)| *of == id);
        lines.extend(timers.map(|((_, seq), due)| format!("  timer {} due {due}", seq.0)));
        let locks = self.lock_requests.values().filter(|(of, ..)| *of == id);
        lines.extend(locks.map(|(_, seq, resources)| format!("  lock {} on {resources:?}", seq.0)));
        lines
    }

    fn told_of_task(&self, seq: Seq, task: &MemoryTask) -> String {
        let held = task.holder.map_or("waits", |holder| if self.leases.contains_key(&holder) { "held" } else { "lost" });
        let why = task.dead.as_ref().or(task.last_failure.as_ref()).map_or_else(String::new, |failure| format!(", last {failure}"));
        let (activity, queue, attempt, at) = (&task.row.activity, &task.row.queue, task.attempt, task.not_before);
        format!("  task {} {activity} at {queue}: attempt {attempt}, {held}, not before {at}{why}", seq.0)
    }
}
