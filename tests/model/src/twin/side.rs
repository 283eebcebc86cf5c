//! One of the two stores, and what it answers in words that do not depend on it.

use std::fmt::Debug;

use engine::{CommitError, Store, StoreError, schedule::Schedule};
use sdk::{Lease, WorkerId};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    ask::{Ask, Attempt},
    numbered,
};

/// No lease ever had this epoch.
const NEVER: Lease = Lease { worker: WorkerId(Uuid::from_u128(1)), epoch: 1 << 40 };
/// More than any world has.
const ALL: u32 = 1_000;

/// An answer: its kind in a word, and all of it. What follows from it for the one who asks next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) word: String,
    pub(super) said: String,
}

pub(super) struct Side<'a, S> {
    store: &'a S,
    leases: Vec<Lease>,
}

impl<'a, S: Store> Side<'a, S> {
    pub(super) fn new(store: &'a S) -> Self {
        Self { store, leases: vec![] }
    }

    fn lease(&self, number: usize) -> Lease {
        self.leases.get(number).copied().unwrap_or(NEVER)
    }

    fn number(&self, lease: Lease) -> String {
        self.leases.iter().position(|known| *known == lease).map_or_else(|| "an unknown lease".to_owned(), |number| format!("lease {number}"))
    }

    /// All rows, with leases by number, in an order of their own.
    pub(super) fn rows(&self, rows: Vec<Value>) -> Vec<String> {
        let number = |value: &Value| {
            let (worker, epoch) = (value.get("worker")?, value.get("epoch")?.as_i64()?);
            let worker = serde_json::from_value(worker.clone()).ok()?;
            Some(json!(self.number(Lease { worker, epoch })))
        };
        let mut rows: Vec<String> = rows.into_iter().map(|row| numbered(row, &number).to_string()).collect();
        rows.sort_unstable();
        rows
    }

    pub(super) async fn answer(&mut self, ask: &Ask) -> Answer {
        match self.of_ownership(ask).await {
            Some(answer) => answer,
            None => match self.of_tasks(ask).await {
                Some(answer) => answer,
                None => self.of_the_rest(ask).await.unwrap_or_else(|| plain(())),
            },
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "each of the three answers its share of the questions, and what none answers is said by the last")]
    async fn of_ownership(&mut self, ask: &Ask) -> Option<Answer> {
        let store = self.store;
        Some(match ask {
            Ask::OpenLease(worker, ttl) => match store.open_lease(*worker, *ttl).await {
                Ok(lease) => {
                    self.leases.push(lease);
                    plain(self.number(lease))
                }
                Err(error) => self.refused(&error),
            },
            Ask::RenewLease(lease, ttl) => self.of(store.renew_lease(self.lease(*lease), *ttl).await),
            Ask::CloseLease(lease) => self.of(store.close_lease(self.lease(*lease)).await),
            Ask::ExpireLeases(ours) => {
                let expired = store.expire_leases(self.lease(*ours), std::time::Duration::from_secs(10)).await;
                self.of(expired.map(|leases| sorted(leases.into_iter().map(|lease| self.number(lease)))))
            }
            Ask::ClaimRuns(lease, limit) => self.of(store.claim_runs(self.lease(*lease), *limit).await.map(|runs| sorted(runs.iter().map(|run| format!("{run:?}"))))),
            Ask::OwnedRuns(lease) => self.of(store.owned_runs(self.lease(*lease)).await.map(|runs| sorted(runs.iter().map(|run| format!("{run:?}"))))),
            Ask::ReleaseRuns(lease, runs) => self.of(store.release_runs(self.lease(*lease), runs).await),
            Ask::CommitTurns(lease, turns) => match store.commit_turns(self.lease(*lease), turns).await {
                Ok(()) => plain(()),
                Err(CommitError::Store(error)) => self.refused(&error),
                // Whoever sent several sends them one by one then, whatever the reason.
                Err(CommitError::Taken | CommitError::Stale | CommitError::Bad(_)) if turns.len() > 1 => word("none of them"),
                Err(CommitError::Taken) => word("taken"),
                Err(CommitError::Stale) => word("stale"),
                Err(CommitError::Bad(_)) => word("bad"),
            },
            Ask::WriterOf(run, seq) => {
                let writer = store.writer_of(*run, *seq).await;
                self.of(writer.map(|writer| writer.map(|writer| format!("{} turn {}", self.number(writer.lease), writer.turn))))
            }
            _ => return None,
        })
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "each of the three answers its share of the questions, and what none answers is said by the last")]
    async fn of_tasks(&self, ask: &Ask) -> Option<Answer> {
        let store = self.store;
        Some(match ask {
            Ask::ClaimTasks(lease, queues, limit) => {
                let claimed = store.claim_tasks(self.lease(*lease), queues, *limit).await;
                self.of(claimed.map(|tasks| sorted(tasks.iter().map(|task| format!("{task:?}")))))
            }
            Ask::CompleteTask(Attempt { run, seq, attempt }, outcome) => self.of(store.complete_task(*run, *seq, *attempt, outcome).await),
            Ask::RetryTask(Attempt { run, seq, attempt }, failure, delay, in_doubt) => self.of(store.retry_task(*run, *seq, *attempt, failure, *delay, *in_doubt).await),
            Ask::BuryTask(Attempt { run, seq, attempt }, problem) => self.of(store.bury_task(*run, *seq, *attempt, problem).await),
            Ask::PulseTask(Attempt { run, seq, attempt }, detail) => self.of(store.pulse_task(*run, *seq, *attempt, detail.as_ref()).await),
            Ask::Task(run, seq) => self.of(store.task(*run, *seq).await),
            Ask::FireTimers(limit) => self.of(store.fire_timers(*limit).await),
            Ask::GrantLocks(limit) => self.of(store.grant_locks(*limit).await),
            Ask::ExpireTasks(limit) => self.of(store.expire_tasks(*limit).await),
            _ => return None,
        })
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "each of the three answers its share of the questions, and what none answers is said by the last")]
    async fn of_the_rest(&self, ask: &Ask) -> Option<Answer> {
        let store = self.store;
        Some(match ask {
            Ask::StartRun(start) => self.of(store.start_run(start.clone()).await),
            Ask::Send(run, message) => self.of(store.send(*run, message.clone()).await),
            Ask::LoadHistory(run) => self.of(store.load_history(*run).await.map(|history| format!("{:?}", history.head()))),
            Ask::ReadInbox(runs) => {
                let rows = store.read_inbox(runs).await;
                // Between two runs there is no order.
                let said = |rows: Vec<engine::InboxRow>| runs.iter().map(|run| rows.iter().filter(|row| row.run == *run).map(|row| (row.key.clone(), row.message.clone())).collect::<Vec<_>>()).collect::<Vec<_>>();
                self.of(rows.map(said))
            }
            Ask::CreateSchedule(new) => self.of(store.create_schedule(new).await),
            Ask::RemoveSchedule(name) => self.of(store.remove_schedule(name).await),
            Ask::PauseSchedule(name) => self.of(store.pause_schedule(name, "somebody", "a reason").await),
            Ask::ResumeSchedule(name) => self.of(store.resume_schedule(name).await),
            Ask::Fire(firing, stale) => {
                let mut firing = firing.clone();
                let known = store.schedules(Some(&firing.schedule)).await.ok()?;
                if let (Some(moves), Some(schedule)) = (&mut firing.moves, known.first()) {
                    moves.version = if *stale { -1 } else { schedule.version };
                }
                self.of(store.fire(&firing).await)
            }
            Ask::Schedules => {
                let unversioned = |schedule: &Schedule| Schedule { version: 0, ..schedule.clone() };
                let all = store.schedules(None).await.ok()?;
                let due = store.due_schedules(ALL).await.ok()?;
                let due: Vec<_> = due.iter().map(|due| (unversioned(&due.schedule), due.now, due.free_since)).collect();
                let mut fired = vec![];
                for name in super::draw::SCHEDULES {
                    fired.push(store.firings(name, ALL).await.ok()?);
                }
                plain((all.iter().map(unversioned).collect::<Vec<_>>(), due, fired))
            }
            _ => return None,
        })
    }

    fn of<T: Debug>(&self, answer: Result<T, StoreError>) -> Answer {
        match answer {
            Ok(value) => plain(value),
            Err(error) => self.refused(&error),
        }
    }

    fn refused(&self, error: &StoreError) -> Answer {
        match error {
            StoreError::Fenced(lease) => Answer { word: "fenced".to_owned(), said: format!("fenced: {}", self.number(*lease)) },
            StoreError::Again { .. } => word("again"),
            StoreError::Refused { .. } => word("refused"),
        }
    }
}

fn sorted(said: impl Iterator<Item = String>) -> Vec<String> {
    let mut said: Vec<String> = said.collect();
    said.sort_unstable();
    said
}

fn word(word: &str) -> Answer {
    Answer { word: word.to_owned(), said: word.to_owned() }
}

fn plain(value: impl Debug) -> Answer {
    let said = format!("{value:?}");
    let empty = ["[]", "0", "None", "false", "Refused", "Gone", "Taken", "Closed", "NoSuchRun"].contains(&said.as_str());
    Answer { word: if empty { "nothing".to_owned() } else { "done".to_owned() }, said }
}
