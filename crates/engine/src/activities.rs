//! How declared activities are carried out: the implementer's side.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use sdk::{Activity, AppError, Failure, RunId, Seq, Token};
use serde_json::Value;

/// Why an attempt failed.
#[derive(Debug)]
pub enum Fault<E> {
    /// The activity's own typed error; its `fatal` decides about another attempt.
    App(E),
    /// Anything else, with what is known about the effect.
    Other(Failure),
}

/// What the real world says about an effect whose outcome is unknown.
#[derive(Debug)]
pub enum Probed<T> {
    /// It happened, with this result.
    Done(T),
    /// It did not happen: doing it now is right.
    NotDone,
    /// Nobody can tell; a person must.
    Unknown(String),
}

/// Keeps an attempt alive and shows its progress.
#[async_trait]
pub trait Pulse: Send + Sync {
    /// Says that the attempt lives; `false` means: end soon in a clean state.
    async fn beat(&self, run: RunId, seq: Seq, attempt: i32, detail: Option<Value>) -> bool;
}

/// Progress of an attempt that is sent along with its next sign of life; for callers that can't await.
#[derive(Clone, Debug, Default)]
pub struct Shown(Arc<std::sync::Mutex<Option<Value>>>);

impl Shown {
    /// Replaces what is shown.
    pub fn set(&self, detail: Value) {
        if let Ok(mut shown) = self.0.lock() {
            *shown = Some(detail);
        }
    }

    /// Takes what is to be shown, once.
    #[must_use]
    pub fn take(&self) -> Option<Value> {
        self.0.lock().ok()?.take()
    }
}

/// One attempt, as its implementer sees it.
#[derive(Clone)]
pub struct Job {
    /// For which run.
    pub run: RunId,
    /// Declared name.
    pub activity: String,
    /// To be shown to the outside world.
    pub token: Token,
    /// W3C trace parent.
    pub trace: Option<String>,
    /// Keeps it alive.
    pub pulse: Arc<dyn Pulse>,
    /// Shown with its next sign of life.
    pub shown: Shown,
}

impl Job {
    /// Reports progress; `false` means that the attempt should end.
    pub async fn progress(&self, detail: Value) -> bool {
        self.pulse.beat(self.run, self.token.seq, self.token.attempt, Some(detail)).await
    }
}

/// Carries out activity `A`.
#[async_trait]
pub trait Perform<A: Activity>: Send + Sync {
    /// Does it.
    async fn perform(&self, job: &Job, input: A) -> Result<A::Output, Fault<A::Error>>;
    /// Asks the real world whether an earlier attempt did it.
    async fn probe(&self, _job: &Job, _input: &A) -> Result<Probed<A::Output>, Failure> {
        Ok(Probed::Unknown(format!("{} has no probe", A::NAME)))
    }
}

#[async_trait]
pub(crate) trait Erased: Send + Sync {
    async fn perform(&self, job: &Job, input: Value) -> Result<Value, Failure>;
    async fn probe(&self, job: &Job, input: Value) -> Result<Probed<Value>, Failure>;
    fn reads(&self, input: &Value) -> Result<(), String>;
}

struct Typed<A, P>(P, std::marker::PhantomData<fn(A)>);

/// Activities that this process can carry out, by name.
#[derive(Clone, Default)]
pub struct ActivityRegistry {
    known: BTreeMap<&'static str, Arc<dyn Erased>>,
}

impl ActivityRegistry {
    /// Adds one.
    #[must_use]
    pub fn with<A, P>(mut self, performer: P) -> Self
    where
        A: Activity + Send + Sync,
        A::Output: Send,
        A::Error: Send,
        P: Perform<A> + 'static,
    {
        self.known.insert(A::NAME, Arc::new(Typed::<A, P>(performer, std::marker::PhantomData)));
        self
    }

    /// Names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.known.keys().copied()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Arc<dyn Erased>> {
        self.known.get(name)
    }
}

#[async_trait]
impl<A, P> Erased for Typed<A, P>
where
    A: Activity + Send + Sync,
    A::Output: Send,
    A::Error: Send,
    P: Perform<A>,
{
    async fn perform(&self, job: &Job, input: Value) -> Result<Value, Failure> {
        let input: A = read(&input)?;
        let output = match self.0.perform(job, input).await {
            Ok(output) => output,
            Err(Fault::App(error)) => return Err(recorded(&error)),
            Err(Fault::Other(failure)) => return Err(failure),
        };
        serde_json::to_value(output).map_err(|e| Failure::fatal("bad-output", format!("output of {}: {e}", A::NAME)))
    }

    async fn probe(&self, job: &Job, input: Value) -> Result<Probed<Value>, Failure> {
        let input: A = read(&input)?;
        Ok(match self.0.probe(job, &input).await? {
            Probed::Done(output) => {
                Probed::Done(serde_json::to_value(output).map_err(|e| Failure::fatal("bad-output", format!("output of {}: {e}", A::NAME)))?)
            }
            Probed::NotDone => Probed::NotDone,
            Probed::Unknown(why) => Probed::Unknown(why),
        })
    }

    fn reads(&self, input: &Value) -> Result<(), String> {
        serde_json::from_value::<A>(input.clone()).map(drop).map_err(|e| e.to_string())
    }
}

fn read<A: Activity>(input: &Value) -> Result<A, Failure> {
    serde_json::from_value(input.clone()).map_err(|e| Failure::fatal("unreadable-input", format!("input of {}: {e}", A::NAME)).not_applied())
}

fn recorded<E: AppError>(error: &E) -> Failure {
    Failure::app(error)
}
