//! Children in the store in memory: how they are started, and what their parents hear.

use sdk::{ChildEnd, ClosePolicy, Kin, Message, Parent, RunId};

use super::{MemoryRun, State};
use crate::{ChildRow, RunState, StartRun, Started, TurnWrite};

impl State {
    pub(super) fn start_child(&mut self, parent: RunId, row: &ChildRow) {
        let started = self.start_run(StartRun { run: row.child, start: row.start.clone() });
        let answer = match started {
            Started::New => {
                self.children.insert((parent, row.seq), row.child);
                if let Message::Start { workflow_id, .. } = &row.start {
                    self.follow_lost_child(parent, workflow_id, row.child);
                }
                if let Some(run) = self.runs.get_mut(&row.child) {
                    run.parent = Some((Parent { run: parent, seq: row.seq }, row.close));
                }
                Message::ChildStarted { of: row.seq }
            }
            Started::AlreadyOpen(open) => Message::ChildRefused { of: row.seq, open },
        };
        self.tell(parent, answer);
    }

    /// The words of a batch, by whom they are for and in the order in which they were told, as Postgres inserts them.
    pub(super) fn tell_all_kin(&mut self, turns: &[TurnWrite]) {
        let words = turns.iter().flat_map(|turn| turn.told.iter().map(|told| (turn.run, told)));
        let mut words: Vec<(RunId, Message)> = words.filter_map(|(run, told)| Some((self.kin(run, told.to)?, told.message.clone()))).collect();
        words.sort_by_key(|(relative, _)| *relative);
        words.into_iter().for_each(|(relative, message)| self.tell(relative, message));
    }

    pub(super) fn kin(&self, run: RunId, kin: Kin) -> Option<RunId> {
        match kin {
            Kin::Parent => self.runs.get(&run).and_then(|run| run.parent).map(|(parent, _)| parent.run),
            Kin::Child { of } => self.children.get(&(run, of)).copied(),
        }
    }

    /// What the turns of a batch that end their runs leave behind: nothing of the run, a message to its parent, and to those of its
    /// children that end with it that they are to stop.
    pub(super) fn end_all(&mut self, turns: &[TurnWrite]) {
        let ends: Vec<(RunId, &ChildEnd)> = turns.iter().filter_map(|turn| Some((turn.run, turn.close.as_ref()?.end.as_ref()?))).collect();
        ends.iter().for_each(|(run, _)| self.clear(*run));
        let parent = |(run, end): &(RunId, &ChildEnd)| Some((self.runs.get(run)?.parent?.0, (*end).clone()));
        let mut closed: Vec<(Parent, ChildEnd)> = ends.iter().filter_map(parent).collect();
        closed.sort_by_key(|(parent, _)| (parent.run, parent.seq));
        closed.into_iter().for_each(|(parent, end)| self.tell(parent.run, Message::ChildClosed { of: parent.seq, end }));
        ends.iter().for_each(|(run, _)| self.stop_children(*run));
    }

    fn stop_children(&mut self, run: RunId) {
        let with_it = |child: &MemoryRun| child.parent.is_some_and(|(_, close)| close == ClosePolicy::Cancel);
        let children = Self::of_run(&self.children, run, sdk::Seq(0)).into_iter().filter_map(|place| self.children.get(&place).copied());
        let children: Vec<RunId> = children.filter(|child| self.runs.get(child).is_some_and(with_it)).collect();
        for child in children {
            let reason = "the run that asked for it has ended".to_owned();
            self.tell(child, Message::Cancel { by: format!("run {run}"), reason });
        }
    }

    /// A message to a run that is open; others hear nothing any more.
    pub(super) fn tell(&mut self, run: RunId, message: Message) {
        let open = self.runs.get(&run).is_some_and(|run| matches!(run.state, RunState::Open | RunState::Suspended));
        if open {
            self.post(run, message);
        }
    }
}
