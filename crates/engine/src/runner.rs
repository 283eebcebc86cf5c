//! Carries out tasks: on a worker beside the store, or on an agent that knows the store only by HTTPS.
//!
//!   claimed ─▶ known? readable? ─▶ in doubt? probe ─▶ perform ─▶ verdict ─▶ complete | retry | bury
//!
//! Invariants: 1. An attempt in doubt is never repeated before its probe said that it did not happen, unless repeating is
//! harmless by declaration. 2. A refused report ends the matter.

use std::{panic::AssertUnwindSafe, pin::Pin, sync::Arc, task::Poll};

use async_trait::async_trait;
use sdk::{Applied, Effect, Failure, Lease, Outcome, RunId, Seq, TaskQueue};
use serde_json::Value;

use crate::{
    ActivityRegistry, ClaimedTask, Job, Pulse, Reported, StoreError, TaskPulse, TaskStore,
    activities::{Erased, Probed, Shown},
};

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It ended.
    Ended(Outcome),
    /// It failed; the retry policy decides.
    Failed(Failure),
    /// Nobody here can run it.
    Buried(Failure),
}

/// Where tasks come from and where reports go.
#[async_trait]
pub trait TaskSource: Send + Sync {
    /// Claims up to `limit` tasks.
    async fn claim(&self, queues: &[TaskQueue], limit: u32) -> Result<Vec<ClaimedTask>, StoreError>;
    /// Reports what came of one.
    async fn report(&self, task: &ClaimedTask, verdict: &Verdict) -> Result<Reported, StoreError>;
    /// Says that an attempt lives.
    async fn pulse(&self, run: RunId, seq: Seq, attempt: i32, detail: Option<&Value>) -> Result<TaskPulse, StoreError>;
}

/// Tasks straight from the store.
pub struct StoreTasks<S> {
    /// Where they are.
    pub store: Arc<S>,
    /// Claims happen under this lease.
    pub lease: Lease,
}

#[async_trait]
impl<S: TaskStore> TaskSource for StoreTasks<S> {
    async fn claim(&self, queues: &[TaskQueue], limit: u32) -> Result<Vec<ClaimedTask>, StoreError> {
        self.store.claim_tasks(self.lease, queues, limit).await
    }
    async fn report(&self, task: &ClaimedTask, verdict: &Verdict) -> Result<Reported, StoreError> {
        report(self.store.as_ref(), task, verdict).await
    }
    async fn pulse(&self, run: RunId, seq: Seq, attempt: i32, detail: Option<&Value>) -> Result<TaskPulse, StoreError> {
        self.store.pulse_task(run, seq, attempt, detail).await
    }
}

/// Writes a verdict: ends the task, queues it again, or sets it aside. `task` must be as it was claimed.
///
/// # Errors
/// [`StoreError`]; the same report may be sent again.
pub async fn report<S: TaskStore + ?Sized>(store: &S, task: &ClaimedTask, verdict: &Verdict) -> Result<Reported, StoreError> {
    let (run, seq, attempt) = (task.run, task.task.seq, task.token.attempt);
    let failure = match verdict {
        Verdict::Ended(outcome) => return store.complete_task(run, seq, attempt, outcome).await,
        Verdict::Buried(problem) => return store.bury_task(run, seq, attempt, problem).await,
        Verdict::Failed(failure) => failure,
    };
    let retry = task.task.options.retry;
    let unknown = failure.applied == Applied::Unknown;
    if task.task.effect == Effect::AtMostOnce && unknown && failure.retryable {
        let outcome = Outcome::Unknown { failure: failure.clone(), attempts: attempt };
        return store.complete_task(run, seq, attempt, &outcome).await;
    }
    if !failure.retryable || attempt >= retry.max_attempts {
        let outcome = Outcome::Failed { failure: of_all_attempts(task, failure), attempts: attempt };
        return store.complete_task(run, seq, attempt, &outcome).await;
    }
    let jitter = f64::from(run.0.as_bytes()[15]) / 255.0;
    store.retry_task(run, seq, attempt, failure, retry.delay(attempt, jitter), unknown).await
}

/// What the last attempt knows of itself is not what is known of the effect: an earlier one may have come through. Where there is a probe,
/// it was asked about that.
fn of_all_attempts(task: &ClaimedTask, last: &Failure) -> Failure {
    let doubtful = task.in_doubt && task.task.effect == Effect::Idempotent;
    Failure { applied: if doubtful { Applied::Unknown } else { last.applied }, ..last.clone() }
}

/// Carries out tasks of some queues.
#[derive(Clone)]
pub struct TaskRunner {
    /// What it can do.
    pub registry: ActivityRegistry,
    /// Where tasks come from.
    pub source: Arc<dyn TaskSource>,
}

struct SourcePulse(Arc<dyn TaskSource>);

#[async_trait]
impl Pulse for SourcePulse {
    async fn beat(&self, run: RunId, seq: Seq, attempt: i32, detail: Option<Value>) -> bool {
        match self.0.pulse(run, seq, attempt, detail.as_ref()).await {
            Ok(TaskPulse::Alive) => true,
            Ok(TaskPulse::CancelRequested | TaskPulse::Gone) => false,
            Err(error) => {
                tracing::debug!(%run, %seq, %error, "a sign of life did not arrive; the attempt goes on");
                true
            }
        }
    }
}

impl TaskRunner {
    /// Carries out one claimed task; does not report. What it shows goes out with the caller's signs of life.
    pub async fn attempt(&self, task: &ClaimedTask, shown: &Shown) -> Verdict {
        let name = &task.task.activity;
        let Some(performer) = self.registry.find(name) else {
            return Verdict::Buried(Failure::fatal("unknown-activity", format!("no activity is called {name} here")).not_applied());
        };
        if let Err(why) = performer.reads(&task.task.input) {
            return Verdict::Buried(Failure::fatal("unreadable-input", format!("input of {name}: {why}")).not_applied());
        }
        let job = Job {
            run: task.run,
            activity: name.clone(),
            token: task.token,
            trace: task.task.trace.clone(),
            pulse: Arc::new(SourcePulse(self.source.clone())),
            shown: shown.clone(),
        };
        if task.in_doubt
            && let Some(verdict) = self.ask_the_world(performer.as_ref(), &job, task).await
        {
            return verdict;
        }
        match caught(performer.perform(&job, task.task.input.clone())).await {
            Ok(Ok(output)) => Verdict::Ended(Outcome::Completed { output }),
            Ok(Err(failure)) => Verdict::Failed(failure),
            Err(panic) => Verdict::Failed(Failure::retryable("panicked", format!("{name} panicked: {panic}"))),
        }
    }

    /// `None`: carry it out.
    async fn ask_the_world(&self, performer: &dyn Erased, job: &Job, task: &ClaimedTask) -> Option<Verdict> {
        if task.task.effect == Effect::Idempotent {
            return None;
        }
        let asked = caught(performer.probe(job, task.task.input.clone())).await;
        let asked = asked.unwrap_or_else(|panic| Err(Failure::retryable("panicked", format!("the probe of {} panicked: {panic}", job.activity))));
        match asked {
            Ok(Probed::Done(output)) => Some(Verdict::Ended(Outcome::Completed { output })),
            Ok(Probed::NotDone) => None,
            Ok(Probed::Unknown(why)) => {
                let failure = Failure::fatal("outcome-unknown", format!("whether {} happened is unknown: {why}", job.activity));
                Some(Verdict::Ended(Outcome::Unknown { failure, attempts: task.token.attempt }))
            }
            Err(failure) => Some(Verdict::Failed(failure)),
        }
    }
}

/// Awaits a future, turning a panic into its text.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = Box::pin(future);
    std::future::poll_fn(move |cx| {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| Pin::new(&mut future).poll(cx)));
        match polled {
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
                Poll::Ready(Err(text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()))
            }
        }
    })
    .await
}
