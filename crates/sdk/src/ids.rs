//! Names and numbers that identify what the engine handles; each is a type of its own, so that they can't be mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One attempt at an execution; a version 7 UUID, so runs sort by their start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

/// A process that holds leases: a worker or an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub Uuid);

/// Position of an event in its run's history, from 0 without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub i32);

/// Name of the queue on which an activity waits to be claimed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskQueue(pub String);

/// A worker's right to write, valid while the row (worker, epoch) exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// Who holds it.
    pub worker: WorkerId,
    /// Lease epoch: new with each lease of this worker.
    pub epoch: i64,
}

/// What an effect shows to the outside world so that the world can refuse a late caller. Compared from the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Token {
    /// Life of the database.
    pub era: i64,
    /// Grows with each grant of the lock under which the effect happens; 0 without a lock.
    pub grant_epoch: i64,
    /// The scheduling event.
    pub seq: Seq,
    /// Epoch of the run when the effect was scheduled.
    pub run_epoch: i64,
    /// Attempt of the task, from 1.
    pub attempt: i32,
}

impl Seq {
    /// The position behind this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl TaskQueue {
    /// A queue by its name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

macro_rules! shown {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
shown!(RunId, WorkerId, Seq, TaskQueue);

impl std::str::FromStr for RunId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}-g{}-s{}-r{}-a{}", self.era, self.grant_epoch, self.seq, self.run_epoch, self.attempt)
    }
}
