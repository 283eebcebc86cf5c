//! Drives workers and task runners on tokio until told to stop.

#![expect(clippy::disallowed_methods, reason = "this is an adapter")]

use std::{sync::Arc, time::Duration};

use sdk::{Failure, Outcome, TaskQueue, join::JOIN_LIMIT};
use tokio::{sync::Notify, sync::watch, task::JoinSet};

use crate::{
    ClaimedTask, Reported, Step, Store, StoreError, TaskRunner, Verdict, Worker,
    schedule::{ScheduleStore, Scheduler},
};

/// How often to look for work.
#[derive(Clone, Copy, Debug)]
pub struct DriveTuning {
    /// Longest time between looks when nothing wakes us: bounds the delay of work that no hint announced.
    pub poll: Duration,
    /// Most tasks carried out at the same time by one runner: bounds memory. The load on the platform is bounded by those who ask; as
    /// many as a run may ask for at once must not wait for each other.
    pub tasks: usize,
}

impl Default for DriveTuning {
    fn default() -> Self {
        Self { poll: Duration::from_millis(100), tasks: JOIN_LIMIT }
    }
}

/// Runs a worker until `stop` turns true; gives its lease back at the end.
pub async fn run_worker<S: Store>(mut worker: Worker<S>, wake: Arc<Notify>, mut stop: watch::Receiver<bool>, tuning: DriveTuning, on_lease: impl Fn(Option<sdk::Lease>)) {
    let mut failures = 0_u32;
    let mut lease = None;
    while !*stop.borrow() {
        let pause = match worker.step().await {
            Ok(Step::Busy) => {
                failures = 0;
                Duration::ZERO
            }
            Ok(Step::Idle) => {
                failures = 0;
                tuning.poll
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::warn!(error = &error as &dyn std::error::Error, failures, "a round of the worker failed; trying again");
                backoff(failures)
            }
        };
        if lease != worker.lease() {
            lease = worker.lease();
            on_lease(lease);
        }
        if pause.is_zero() {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = wake.notified() => {}
            _ = stop.changed() => {}
        }
    }
    if let Err(error) = worker.stop().await {
        tracing::warn!(%error, "the lease was not given back; it ends by itself");
    }
}

/// Between two looks at schedules: they fire at minutes, so a second is soon.
const LOOK: Duration = Duration::from_secs(1);

/// Fires schedules until `stop` turns true.
pub async fn run_scheduler<S: ScheduleStore>(mut scheduler: Scheduler<S>, mut stop: watch::Receiver<bool>) {
    let mut failures = 0_u32;
    while !*stop.borrow() {
        let pause = match scheduler.step().await {
            Ok(Step::Busy) => Duration::ZERO,
            Ok(Step::Idle) => LOOK,
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::warn!(error = &error as &dyn std::error::Error, failures, "schedules could not be looked at; trying again");
                LOOK + backoff(failures)
            }
        };
        if pause <= LOOK {
            failures = 0;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.changed() => {}
        }
    }
}

/// Claims and carries out tasks of `queues` until `stop` turns true, then waits for those that run.
pub async fn run_tasks(runner: TaskRunner, queues: Vec<TaskQueue>, done: Arc<Notify>, mut stop: watch::Receiver<bool>, tuning: DriveTuning) {
    let mut running = JoinSet::new();
    let mut failures = 0_u32;
    while !*stop.borrow() {
        // All that have ended leave: one for each look would end in one claim for each task.
        while running.try_join_next().is_some() {}
        let room = u32::try_from(tuning.tasks.saturating_sub(running.len())).unwrap_or(0).min(32);
        let claimed = if room == 0 { Ok(Vec::new()) } else { runner.source.claim(&queues, room).await };
        let pause = match claimed {
            Ok(tasks) if tasks.is_empty() => {
                failures = 0;
                tuning.poll
            }
            Ok(tasks) => {
                failures = 0;
                for task in tasks {
                    let (runner, done) = (runner.clone(), done.clone());
                    running.spawn(async move {
                        carry_out(&runner, &task).await;
                        done.notify_one();
                    });
                }
                Duration::ZERO
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::warn!(error = &error as &dyn std::error::Error, failures, "no tasks could be claimed; trying again");
                backoff(failures)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            Some(_) = running.join_next(), if !running.is_empty() => {}
            _ = stop.changed() => {}
        }
    }
    while running.join_next().await.is_some() {}
}

/// One attempt and its report; beats in between if the task asks for signs of life.
async fn carry_out(runner: &TaskRunner, task: &ClaimedTask) {
    use tracing::Instrument;
    let span = tracing::info_span!(
        "activity", run = %task.run, seq = %task.task.seq, activity = task.task.activity, token = %task.token, attempt = task.token.attempt
    );
    crate::trace::adopt(&span, task.task.trace.as_deref());
    let verdict = {
        let shown = crate::Shown::default();
        let attempt = runner.attempt(task, &shown).instrument(span.clone());
        let beats = beats(runner, task, &shown);
        tokio::select! {
            verdict = attempt => verdict,
            () = beats => return,
        }
    };
    span.in_scope(|| tracing::info!(verdict = ?short(&verdict), "an attempt has ended"));
    deliver(runner, task, verdict).await;
}

/// Reports until somebody has heard it. A verdict that can't be stored is replaced by one that says so; if that is refused too,
/// the attempt's limits end it.
async fn deliver(runner: &TaskRunner, task: &ClaimedTask, mut verdict: Verdict) {
    let mut tries = 0;
    let mut replaced = false;
    loop {
        match runner.source.report(task, &verdict).await {
            Ok(Reported::Accepted) => return,
            Ok(Reported::Refused) => {
                tracing::warn!(run = %task.run, seq = %task.task.seq, ?verdict, "a result came too late and is not accepted");
                return;
            }
            Err(error @ StoreError::Refused { .. }) => {
                tracing::error!(error = &error as &dyn std::error::Error, run = %task.run, seq = %task.task.seq, "a result is refused");
                if std::mem::replace(&mut replaced, true) {
                    return;
                }
                let failure = Failure::fatal("result-refused", format!("the result of {} can't be stored: {error}", task.task.activity));
                verdict = Verdict::Ended(Outcome::Failed { failure, attempts: task.token.attempt });
            }
            Err(error) => {
                tries += 1;
                tracing::warn!(error = &error as &dyn std::error::Error, tries, "a result could not be delivered; trying again");
                tokio::time::sleep(backoff(tries)).await;
            }
        }
    }
}

/// Signs of life while the attempt runs. Never ends for a task without a heartbeat limit, or before the task is gone.
async fn beats(runner: &TaskRunner, task: &ClaimedTask, shown: &crate::Shown) {
    let Some(limit_ms) = task.task.options.timeouts.heartbeat_ms else { return std::future::pending().await };
    loop {
        tokio::time::sleep(Duration::from_millis((limit_ms / 3).max(50))).await;
        match runner.source.pulse(task.run, task.task.seq, task.token.attempt, shown.take().as_ref()).await {
            Ok(crate::TaskPulse::Alive | crate::TaskPulse::CancelRequested) | Err(StoreError::Again { .. } | StoreError::Refused { .. } | StoreError::Fenced(_)) => {}
            Ok(crate::TaskPulse::Gone) => {
                tracing::warn!(run = %task.run, seq = %task.task.seq, "the attempt is no longer ours; it is dropped");
                return;
            }
        }
    }
}

fn short(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Ended(sdk::Outcome::Completed { .. }) => "completed".into(),
        Verdict::Ended(other) => format!("{other:?}"),
        Verdict::Failed(failure) => format!("failed: {failure}"),
        Verdict::Buried(failure) => format!("dead letter: {failure}"),
    }
}

fn backoff(failures: u32) -> Duration {
    Duration::from_millis(100 * 2_u64.pow(failures.min(5)))
}
