//! What plans do in recovered machines and in copies for tests: run a program in the guest, or reach it over its network.
//!
//! Invariants: 1. These calls carry no token: they belong to no operation on the item, and whoever orders them sees to it that they
//! happen at most once. 2. A copy is reached within its isolated network alone; the host gets no address there.

use std::{fmt, net::TcpStream, time::Duration};

use async_trait::async_trait;
use recovery::{Generation, ItemName};

use crate::{ProviderError, Said};

/// Which machine of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The one that its recovery made.
    Recovered,
    /// The copy of its test failover.
    Copy,
}

/// A program for a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestProgram {
    /// Which step asks for it; the same each time that the same step asks.
    pub key: String,
    /// Path in the guest, or a name that the guest finds.
    pub program: String,
    /// As they stand.
    pub arguments: Vec<String>,
    /// Standard input.
    pub input: Option<String>,
    /// Beside what the guest's agent has.
    pub environment: Vec<(String, String)>,
    /// Doing it again is harmless.
    pub repeatable: bool,
    /// How long it may run.
    pub within: Duration,
    /// How much is kept of what it says, in bytes.
    pub most_output: usize,
}

/// How a program in a guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestRun {
    /// Its exit code; that of a program which a signal ended is 128 and the signal.
    pub exit: i32,
    /// Standard output, then standard error.
    pub said: Said,
}

/// A connection to a port of a copy, and what it hangs on; both end when it is dropped.
pub struct Link {
    /// None at a simulated site.
    pub stream: Option<TcpStream>,
    /// Taken down behind the stream.
    pub hangs_on: Option<Box<dyn Send + Sync>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// Machines from within.
#[async_trait]
pub trait Guests: Send + Sync {
    /// Lets the agent in a guest run a program, and waits for its end.
    ///
    /// # Errors
    /// `NotRecovered`, `NotServing`: certainly nothing was begun. `AnswerLost`: it was begun, or may have been, and its end is unknown.
    async fn run_program(&self, item: &ItemName, generation: Generation, whose: Whose, program: &GuestProgram) -> Result<GuestRun, ProviderError>;

    /// Connects to a port of the running copy, from within its network. Waits while another link is open.
    ///
    /// # Errors
    /// `NotRecovered`, `NotServing` (nobody accepts connections there, or the host is no address), `Platform`.
    async fn reach_copy(&self, item: &ItemName, generation: Generation, host: &str, port: u16) -> Result<Link, ProviderError>;
}
