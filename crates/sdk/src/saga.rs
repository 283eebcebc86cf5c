//! Steps with their undoing. An undo is registered before its step, because a step that failed may have happened.
//!
//! Invariants: 1. Undos run last first, each to its end, behind a shield from cancellation. 2. An undo that fails does not
//! stop the ones before it; the run then says what was left behind.

use std::{future::Future, pin::Pin};

use crate::{Activity, Call, CallError, Context, Failure};

type Undo = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = Result<(), Failure>>>>>;

/// A scope of steps that are undone together.
pub struct Saga {
    ctx: Context,
    undos: Vec<(&'static str, Undo)>,
}

impl Saga {
    pub(crate) fn new(ctx: &Context) -> Self {
        Self { ctx: ctx.clone(), undos: Vec::new() }
    }

    /// Carries out `step`; `undo` will be carried out if the scope fails from here on, this step included.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn step<A: Activity, U: Activity>(&mut self, step: Call<A>, undo: Call<U>) -> Result<A::Output, CallError<A::Error>> {
        if self.ctx.cancelled() {
            return Err(CallError::Cancelled);
        }
        self.on_failure(U::NAME, move |_| async move { undo.compensating().await.map(drop).map_err(Failure::from) });
        step.await
    }

    /// Registers an undoing made of several calls; it gets a context that cancellation does not reach.
    pub fn on_failure<F: Future<Output = Result<(), Failure>> + 'static>(&mut self, name: &'static str, undo: impl FnOnce(Context) -> F + 'static) {
        let ctx = self.ctx.compensating();
        self.undos.push((name, Box::new(move || Box::pin(undo(ctx)))));
    }

    /// Gives up the right to undo: the scope is past its point of no return.
    pub fn keep(&mut self) {
        self.undos.clear();
    }

    /// Ends the scope: undoes everything if `result` is a failure.
    ///
    /// # Errors
    /// The failure itself, with what could not be undone in its detail under `left_behind`.
    pub async fn settle<T>(mut self, result: Result<T, Failure>) -> Result<T, Failure> {
        let Err(mut failure) = result else { return result };
        let (mut left_behind, mut said) = (Vec::new(), Vec::new());
        while let Some((name, undo)) = self.undos.pop() {
            if let Err(why) = undo().await {
                said.push(format!("{name} failed ({})", why.message));
                left_behind.push(serde_json::json!({ "undo": name, "failure": why }));
            }
        }
        if !left_behind.is_empty() {
            failure.message = format!("{}; left behind: {}", failure.message, said.join("; "));
            failure.detail = serde_json::json!({ "left_behind": left_behind, "detail": failure.detail });
        }
        Err(failure)
    }
}
