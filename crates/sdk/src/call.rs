//! A call of an activity: configured, scheduled when first polled, answered by its recorded outcome.
//!
//! Cancellation never abandons an attempt that may be running: the call asks for it to stop and waits for its outcome,
//! so what was begun is always known before it is undone.

use std::{
    future::{Future, IntoFuture, poll_fn},
    marker::PhantomData,
    pin::Pin,
    task::Poll,
    time::Duration,
};

use serde_json::Value;

use crate::{Activity, ActivityOptions, AppError, Command, Context, Failure, Outcome, Retry, Seq, TaskQueue, TimeoutKind};

/// Why a call gave no result.
#[derive(Debug)]
pub enum CallError<E> {
    /// The activity said so; no attempt can help.
    App(E),
    /// A time limit ran out.
    Timeout(TimeoutKind),
    /// The run is being cancelled, and the activity has not been carried out.
    Cancelled,
    /// No attempt is left.
    Exhausted {
        /// The last failure.
        last: Failure,
        /// Attempts made.
        attempts: i32,
    },
    /// Whether it happened is unknown, and nobody may repeat it.
    Unknown(Failure),
    /// The outcome can't be read as the declared type.
    Unreadable(String),
}

/// Longest time that anything waits, about 100 years: a longer one would run over the end of the store's calendar.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

fn limit_ms(time: Duration) -> u64 {
    u64::try_from(time.min(LONGEST).as_millis()).unwrap_or(u64::MAX)
}

/// A call being prepared; `.await` schedules it.
pub struct Call<A: Activity> {
    ctx: Context,
    queue: TaskQueue,
    input: Result<Value, String>,
    options: ActivityOptions,
    grace: Option<Duration>,
    declared: PhantomData<A>,
}

impl<A: Activity> Call<A> {
    pub(crate) fn new(ctx: Context, queue: TaskQueue, activity: &A) -> Self {
        let input = serde_json::to_value(activity).map_err(|e| e.to_string());
        Self { ctx, queue, input, options: A::options(), grace: None, declared: PhantomData }
    }

    /// Longest wait until somebody claims it: how a dead site is noticed.
    #[must_use]
    pub fn queue_timeout(mut self, time: Duration) -> Self {
        self.options.timeouts.queue_ms = Some(limit_ms(time));
        self
    }

    /// Longest time for all attempts together.
    #[must_use]
    pub fn total_timeout(mut self, time: Duration) -> Self {
        self.options.timeouts.total_ms = Some(limit_ms(time));
        self
    }

    /// When failed attempts are repeated.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.options.retry = retry;
        self
    }

    /// The same call as an undoing: it goes on although the run is being cancelled, and histories say what it is.
    #[must_use]
    pub fn compensating(mut self) -> Self {
        self.ctx = self.ctx.compensating();
        self
    }

    /// When the run is cancelled the call goes on for so long, and is only then asked to stop: for what is short if anybody answers.
    #[must_use]
    pub fn grace(mut self, time: Duration) -> Self {
        self.grace = Some(time.min(LONGEST));
        self
    }

    async fn carried_out(self) -> Result<A::Output, CallError<A::Error>> {
        let Self { ctx, queue, input, options, grace, .. } = self;
        if ctx.cancelled() {
            return Err(CallError::Cancelled);
        }
        let input = input.map_err(CallError::Unreadable)?;
        let of = ctx.machine.borrow_mut().command(Command::ActivityScheduled {
            activity: A::NAME.into(),
            queue,
            input,
            options,
            effect: A::EFFECT,
            scope: A::SCOPE,
            grant: ctx.grant.clone(),
            compensation: ctx.compensating,
        });
        read::<A>(outcome(&ctx, of, grace).await)
    }
}

/// How far a cancellation has come to a call.
enum Asked {
    NotYet,
    /// It is asked to stop when this timer fires.
    After(Seq),
    ToStop,
}

async fn outcome(ctx: &Context, of: Seq, grace: Option<Duration>) -> Outcome {
    let mut asked = Asked::NotYet;
    poll_fn(move |_| {
        let mut machine = ctx.machine.borrow_mut();
        if let Some(outcome) = machine.take_finished(of) {
            if let Asked::After(timer) = asked
                && !machine.take_fired(timer)
            {
                machine.command(Command::TimerCancelled { of: timer });
            }
            return Poll::Ready(outcome);
        }
        drop(machine);
        if !ctx.cancelled() {
            return Poll::Pending;
        }
        let mut machine = ctx.machine.borrow_mut();
        let now = match (&asked, grace) {
            (Asked::NotYet, Some(grace)) => {
                let due_at = machine.now + grace;
                asked = Asked::After(machine.command(Command::TimerStarted { due_at, label: "until a cancelled call is asked to stop".into() }));
                false
            }
            (Asked::NotYet, None) => true,
            (Asked::After(timer), _) => machine.take_fired(*timer),
            (Asked::ToStop, _) => false,
        };
        if now {
            asked = Asked::ToStop;
            machine.command(Command::ActivityCancelRequested { of });
        }
        Poll::Pending
    })
    .await
}

fn read<A: Activity>(outcome: Outcome) -> Result<A::Output, CallError<A::Error>> {
    match outcome {
        Outcome::Completed { output } => serde_json::from_value(output).map_err(|e| CallError::Unreadable(e.to_string())),
        Outcome::Failed { failure, attempts } => match failure.detail.get("error").cloned().map(serde_json::from_value) {
            Some(Ok(error)) if !failure.retryable => Err(CallError::App(error)),
            _ => Err(CallError::Exhausted { last: failure, attempts }),
        },
        Outcome::TimedOut { kind, .. } => Err(CallError::Timeout(kind)),
        Outcome::Cancelled => Err(CallError::Cancelled),
        Outcome::Unknown { failure, .. } => Err(CallError::Unknown(failure)),
    }
}

impl<A: Activity> IntoFuture for Call<A> {
    type Output = Result<A::Output, CallError<A::Error>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.carried_out())
    }
}

impl<E: AppError> From<CallError<E>> for Failure {
    fn from(error: CallError<E>) -> Self {
        match error {
            CallError::App(error) => Self::app(&error),
            CallError::Timeout(kind) => Self::fatal("timed-out", format!("no result in time ({kind:?} limit)")),
            CallError::Cancelled => crate::Cancelled.into(),
            CallError::Exhausted { last, attempts } => {
                Self { retryable: false, message: format!("{} (after {attempts} attempts)", last.message), ..last }
            }
            CallError::Unknown(failure) => Self { retryable: false, ..failure },
            CallError::Unreadable(why) => Self::fatal("unreadable-result", why),
        }
    }
}
