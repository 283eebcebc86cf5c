//! `switchback-agent`: beside each hypervisor, claims its site's activities over HTTPS and carries them out.
//!
//!   check      a host, read-only, before anything else
//!   enroll ─▶ identity on disk ─▶ run: lease ─▶ claim ─▶ perform ─▶ report
//!                                    └ reports of journals   └ replication: the agents' own, needs no server
//!                                    └ anchors: heads of ended runs, noted outside the database
//!
//! A library beside the program, so that suites have agents for sites of their own: [`work`].
//!
//! Invariants: 1. It holds no database credentials. 2. Replication goes on while the server is away. 3. Nothing is printed on
//! standard output but what was asked for; logs go to standard error.

mod actions_check;
mod anchors;
mod arguments;
mod describing;
mod checking;
mod enrol;
mod hypervisor;
mod identity;
mod probing;
mod reports;
mod serve;
mod served;
mod session;
mod simulated;
mod source;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};

/// Exit code of an agent whose host another one has taken over: not to be started again by itself.
const REPLACED: u8 = 3;

pub use serve::work;

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Check(check) => checking::check(&check),
        Command::Actions(arguments::ActionsCommand::Check(check)) => actions_check::check(&check),
        Command::Enroll(enroll) => in_runtime(async move { enrol::enrol(&enroll).await }),
        Command::Anchors { state_dir } => printed(anchors::print(&state_dir, std::io::stdout().lock())),
        Command::Run(run) => in_runtime(serve::run(run)),
    }
}

fn in_runtime(work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::anyhow!(error).context("no runtime could be started")),
    };
    let done = runtime.block_on(async {
        let _telemetry = telemetry::start("switchback-agent");
        engine::trace::on_span(telemetry::adopt);
        work.await
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn printed(done: anyhow::Result<()>) -> ExitCode {
    done.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("switchback-agent: {error:#}");
    if let Some(problem) = error.chain().find_map(|cause| cause.downcast_ref::<api::ClientError>()).and_then(api::ClientError::problem) {
        eprintln!("  data:      {}", problem.data);
        eprintln!("  next step: {}", problem.next_step);
    }
    if error.is::<serve::Replaced>() { ExitCode::from(REPLACED) } else { ExitCode::FAILURE }
}
