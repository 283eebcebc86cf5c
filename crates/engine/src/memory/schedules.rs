//! Schedules of the store in memory.

use async_trait::async_trait;
use sdk::{Message, RunId};

use super::{MemoryStore, State};
use crate::{
    RunState, StartRun, Started, StoreError,
    schedule::{Due, Fired, Firing, FiringKind, FiringStart, NewSchedule, Overlap, Pause, Recorded, Schedule, ScheduleStore},
};

#[async_trait]
impl ScheduleStore for MemoryStore {
    async fn create_schedule(&self, new: &NewSchedule) -> Result<bool, StoreError> {
        self.atomic("create_schedule", |s| Ok(s.create_schedule(new))).await
    }
    async fn remove_schedule(&self, name: &str) -> Result<bool, StoreError> {
        self.atomic("remove_schedule", |s| Ok(s.schedules.remove(name).is_some())).await
    }
    async fn pause_schedule(&self, name: &str, by: &str, reason: &str) -> Result<bool, StoreError> {
        self.atomic("pause_schedule", |s| Ok(s.pause_schedule(name, by, reason))).await
    }
    async fn resume_schedule(&self, name: &str) -> Result<bool, StoreError> {
        self.atomic("resume_schedule", |s| Ok(s.resume_schedule(name))).await
    }
    async fn schedules(&self, name: Option<&str>) -> Result<Vec<Schedule>, StoreError> {
        self.atomic("schedules", |s| {
            let wanted = s.schedules.values().filter(|row| name.is_none_or(|name| name == row.name));
            Ok(wanted.map(|row| s.seen(row)).collect())
        })
        .await
    }
    async fn firings(&self, name: &str, limit: u32) -> Result<Vec<Recorded>, StoreError> {
        self.atomic("firings", |s| {
            let all = s.firings.iter().rev().filter(|((schedule, _), _)| schedule == name);
            Ok(all.map(|(_, row)| row.clone()).take(limit as usize).collect())
        })
        .await
    }
    async fn due_schedules(&self, limit: u32) -> Result<Vec<Due>, StoreError> {
        self.atomic("due_schedules", |s| Ok(s.due_schedules(limit))).await
    }
    async fn fire(&self, firing: &Firing) -> Result<Fired, StoreError> {
        self.atomic("fire", |s| s.known_server("fire").map(|()| s.fire(firing))).await
    }
}

impl State {
    fn create_schedule(&mut self, new: &NewSchedule) -> bool {
        if self.schedules.contains_key(&new.name) {
            return false;
        }
        self.schedule_versions += 1;
        self.changes += 1;
        let row = Schedule {
            name: new.name.clone(),
            version: self.schedule_versions,
            spec: new.spec.clone(),
            next: new.next,
            created_by: new.by.clone(),
            created_at: self.now,
            pause: None,
            open_run: None,
        };
        self.schedules.insert(new.name.clone(), row);
        true
    }

    fn pause_schedule(&mut self, name: &str, by: &str, reason: &str) -> bool {
        let Some(row) = self.schedules.get_mut(name).filter(|row| row.paused().is_none()) else { return false };
        self.schedule_versions += 1;
        self.changes += 1;
        row.version = self.schedule_versions;
        row.pause = Some(Pause { from: self.now, until: None, by: by.to_owned(), reason: reason.to_owned() });
        true
    }

    fn resume_schedule(&mut self, name: &str) -> bool {
        let Some(row) = self.schedules.get_mut(name).filter(|row| row.paused().is_some()) else { return false };
        self.schedule_versions += 1;
        self.changes += 1;
        row.version = self.schedule_versions;
        row.pause = row.pause.take().map(|pause| Pause { until: Some(self.now), ..pause });
        true
    }

    fn open_run(&self, workflow_id: &str) -> Option<RunId> {
        let open = |state: &RunState| matches!(state, RunState::Open | RunState::Suspended);
        self.runs.iter().find(|(_, run)| run.workflow_id == workflow_id && open(&run.state)).map(|(id, _)| *id)
    }

    fn seen(&self, row: &Schedule) -> Schedule {
        Schedule { open_run: self.open_run(&row.spec.workflow_id), ..row.clone() }
    }

    /// Whether nothing can be done for it before its open run has ended.
    pub(crate) fn waits(&self, row: &Schedule) -> bool {
        row.spec.overlap == Overlap::Wait && row.paused().is_none() && self.open_run(&row.spec.workflow_id).is_some()
    }

    fn due_schedules(&self, limit: u32) -> Vec<Due> {
        let due = |row: &&Schedule| row.next.due_at <= self.now && !self.waits(row);
        let mut rows: Vec<&Schedule> = self.schedules.values().filter(due).collect();
        rows.sort_by_key(|row| (row.next.due_at, row.name.clone()));
        let seen = |row: &Schedule| {
            let ended = self.runs.values().filter(|run| run.workflow_id == row.spec.workflow_id).filter_map(|run| run.closed_at);
            Due { schedule: self.seen(row), now: self.now, free_since: ended.max() }
        };
        rows.into_iter().take(limit as usize).map(seen).collect()
    }

    fn fire(&mut self, firing: &Firing) -> Fired {
        let name = &firing.schedule;
        let Some(row) = self.schedules.get(name) else { return Fired::Taken };
        if let Some(moves) = &firing.moves
            && (row.version != moves.version || row.next.at != moves.from)
        {
            return Fired::Taken;
        }
        let fired = match &firing.start {
            None => Fired::Recorded,
            Some(start) => match self.start_of_firing(name, start) {
                fired @ (Fired::Waits(_) | Fired::Taken) => return fired,
                fired @ (Fired::Started(_) | Fired::Recorded | Fired::Skipped(_)) => fired,
            },
        };
        for missed in &firing.missed {
            let row = Recorded {
                at: missed.at,
                until: missed.until,
                count: missed.count,
                kind: missed.kind,
                cause: missed.cause.clone(),
                run: None,
                recorded_at: self.now,
            };
            self.firings.entry((name.clone(), missed.at)).or_insert(row);
        }
        if let (Some(moves), Some(row)) = (&firing.moves, self.schedules.get_mut(name)) {
            row.next = moves.to;
        }
        self.changes += 1;
        fired
    }

    /// Starts the run and records it, or what came between.
    fn start_of_firing(&mut self, name: &str, start: &FiringStart) -> Fired {
        let key = (name.to_owned(), start.at);
        if self.firings.contains_key(&key) {
            return Fired::Recorded;
        }
        let recorded_at = self.now;
        let row = |kind, cause, run| Recorded { at: start.at, until: start.at, count: 1, kind, cause, run: Some(run), recorded_at };
        let Message::Start { workflow_id: about, .. } = &start.run.start else { return Fired::Recorded };
        match (self.start_run(StartRun { run: start.run.run, start: start.run.start.clone() }), start.overlap) {
            (Started::New, _) => {
                self.firings.insert(key, row(start.kind, start.cause.clone(), start.run.run));
                Fired::Started(start.run.run)
            }
            (Started::AlreadyOpen(open), Overlap::Wait) => Fired::Waits(open),
            (Started::AlreadyOpen(open), Overlap::Skip) => {
                let cause = format!("run {open} of {about} was still open");
                self.firings.insert(key, row(FiringKind::Overlap, cause, open));
                Fired::Skipped(open)
            }
        }
    }
}

/// What tests look at.
impl MemoryStore {
    /// All that schedules fired or missed, by name and time.
    #[must_use]
    pub fn fired(&self) -> Vec<(String, Recorded)> {
        self.lock().firings.iter().map(|((name, _), row)| (name.clone(), row.clone())).collect()
    }
}
