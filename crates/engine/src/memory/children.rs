//! Children in the store in memory: how they are started, and what their parents hear.

use sdk::{ClosePolicy, Kin, Message, Parent, RunId};

use super::{MemoryRun, State};
use crate::{ChildCancel, ChildRow, Close, RunState, StartRun, Started, Told};

impl State {
    pub(super) fn start_child(&mut self, parent: RunId, row: &ChildRow) {
        let started = self.start_run(StartRun { run: row.child, start: row.start.clone() });
        let answer = match started {
            Started::New => {
                self.children.insert((parent, row.seq), row.child);
                if let Some(run) = self.runs.get_mut(&row.child) {
                    run.parent = Some((Parent { run: parent, seq: row.seq }, row.close));
                }
                Message::ChildStarted { of: row.seq }
            }
            Started::AlreadyOpen(open) => Message::ChildRefused { of: row.seq, open },
        };
        self.tell(parent, answer);
    }

    pub(super) fn cancel_child(&mut self, parent: RunId, row: &ChildCancel) {
        if let Some(child) = self.kin(parent, Kin::Child { of: row.of }) {
            self.tell(child, row.cancel.clone());
        }
    }

    pub(super) fn tell_kin(&mut self, run: RunId, told: &Told) {
        if let Some(relative) = self.kin(run, told.to) {
            self.tell(relative, told.signal.clone());
        }
    }

    pub(super) fn kin(&self, run: RunId, kin: Kin) -> Option<RunId> {
        match kin {
            Kin::Parent => self.runs.get(&run).and_then(|run| run.parent).map(|(parent, _)| parent.run),
            Kin::Child { of } => self.children.get(&(run, of)).copied(),
        }
    }

    /// Tells the parent of a run that has ended, and asks those of its children to stop that end with it.
    pub(super) fn ended(&mut self, run: RunId, close: &Close) {
        let Some(end) = &close.end else { return };
        if let Some((parent, _)) = self.runs.get(&run).and_then(|ended| ended.parent) {
            self.tell(parent.run, Message::ChildClosed { of: parent.seq, end: end.clone() });
        }
        let with_it = |child: &MemoryRun| child.parent.is_some_and(|(_, close)| close == ClosePolicy::Cancel);
        let children = Self::of_run(&self.children, run, sdk::Seq(0)).into_iter().filter_map(|place| self.children.get(&place).copied());
        let children: Vec<RunId> = children.filter(|child| self.runs.get(child).is_some_and(with_it)).collect();
        for child in children {
            let reason = "the run that asked for it has ended".to_owned();
            self.tell(child, Message::Cancel { by: format!("run {run}"), reason });
        }
    }

    /// A message to a run that is open; others hear nothing any more.
    fn tell(&mut self, run: RunId, message: Message) {
        let open = self.runs.get(&run).is_some_and(|run| matches!(run.state, RunState::Open | RunState::Suspended));
        if open {
            self.post(run, message);
        }
    }
}
