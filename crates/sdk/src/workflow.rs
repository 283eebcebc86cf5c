//! What a workflow is, and the list of those that a worker knows.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Context, Failure};

/// Code of a durable execution. Deterministic: see [`crate::replay`].
pub trait Workflow: 'static {
    /// Name under which it is recorded; never changes.
    const NAME: &'static str;
    /// What it is started with.
    type Input: DeserializeOwned + 'static;
    /// What it gives.
    type Output: Serialize + 'static;
    /// Its code.
    fn run(ctx: Context, input: Self::Input) -> impl Future<Output = Result<Self::Output, Failure>>;
}

pub(crate) type RunFuture = Pin<Box<dyn Future<Output = Result<Value, Failure>>>>;
type Starter = Arc<dyn Fn(Context, Value) -> RunFuture + Send + Sync>;

/// Workflows by name, and the build that they are.
#[derive(Clone, Default)]
pub struct Registry {
    build: Option<&'static str>,
    starters: BTreeMap<&'static str, Starter>,
}

impl Registry {
    /// None yet, of a build with this name: at most 100 bytes.
    #[must_use]
    pub fn of_build(build: &'static str) -> Self {
        Self { build: Some(build), ..Self::default() }
    }

    /// Its name; `None` where nobody tells builds apart.
    #[must_use]
    pub fn build(&self) -> Option<&'static str> {
        self.build
    }

    /// Adds a workflow.
    #[must_use]
    pub fn with<W: Workflow>(mut self) -> Self {
        let starter: Starter = Arc::new(|ctx, input| Box::pin(started::<W>(ctx, input)));
        self.starters.insert(W::NAME, starter);
        self
    }

    /// Names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.starters.keys().copied()
    }

    pub(crate) fn start(&self, name: &str, ctx: Context, input: Value) -> Option<RunFuture> {
        self.starters.get(name).map(|starter| starter(ctx, input))
    }
}

async fn started<W: Workflow>(ctx: Context, input: Value) -> Result<Value, Failure> {
    let input = serde_json::from_value(input).map_err(|e| Failure::fatal("bad-input", format!("input of {}: {e}", W::NAME)))?;
    let output = W::run(ctx, input).await?;
    serde_json::to_value(output).map_err(|e| Failure::fatal("bad-output", format!("output of {}: {e}", W::NAME)))
}
