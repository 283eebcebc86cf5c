//! `switchback`: the command line. It asks the server for everything; only `up`, `server` and `worker` run it.
//!
//! Invariants: 1. Standard output carries the answer and nothing else; progress and errors go to standard error. 2. Every
//! command ends with one of the documented exit codes. 3. Waiting can be given up at any time; the work goes on.

mod arguments;
mod connect;
mod ending;
mod items;
mod operate;
mod print;
mod runs;
mod serve;
mod waiting;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use arguments::{Arguments, Command, Kind, One, Queue};
use ending::Ending;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runs_it = matches!(arguments.command, Command::Up(_) | Command::Server(_) | Command::Worker(_));
    let done = if runs_it { serve::serve(arguments) } else { asked(arguments) };
    match done {
        Ok(ending) => ending.code(),
        Err(error) => ending::failed(&error),
    }
}

fn asked(arguments: Arguments) -> Result<Ending> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(ask(arguments))
}

async fn ask(arguments: Arguments) -> Result<Ending> {
    let form = arguments.output;
    let client = connect::client(&arguments);
    if let Command::Version = arguments.command {
        return operate::version(client, form).await;
    }
    let client = client?;
    match arguments.command {
        Command::Protect(wanted) => items::protect(&client, wanted, form).await,
        Command::Points { item } => items::points(&client, &item, form).await,
        Command::Failover(wanted) => items::failover(&client, wanted, form).await,
        Command::Commit(wanted) => items::commit(&client, wanted, form).await,
        Command::Unprotect(wanted) => items::unprotect(&client, wanted, form).await,
        Command::Cancel { run, reason, waiting } => runs::cancel(&client, run, reason, waiting, form).await,
        Command::Resume { run, reason } => runs::resume(&client, run, reason).await,
        Command::History { run } => runs::history(&client, run, form).await,
        Command::Why { run } => runs::why(&client, run, form).await,
        Command::Wait { run, timeout } => waiting::wait(&client, run, timeout, form).await,
        Command::Runs(wanted) => runs::list(&client, wanted, form).await,
        Command::Queue { command } => operate::queue(&client, command.unwrap_or(Queue::List), form).await,
        Command::Get { kind, name } => get(&client, kind, name.as_deref(), form).await,
        Command::Describe { kind: One::Item, name } => items::describe(&client, &name, form).await,
        Command::Describe { kind: One::Run, name } => runs::describe(&client, &name, form).await,
        Command::Verify => operate::verify(&client, form).await,
        Command::Agent { command } => operate::agent(&client, command, form).await,
        Command::Token { command } => operate::token(&client, command, form).await,
        Command::Version | Command::Up(_) | Command::Server(_) | Command::Worker(_) => Ok(Ending::Well),
    }
}

async fn get(client: &api::Client, kind: Kind, name: Option<&str>, form: arguments::Form) -> Result<Ending> {
    match (kind, name) {
        (Kind::Items, None) => items::list(client, form).await,
        (Kind::Items, Some(name)) => items::describe(client, name, form).await,
        (Kind::Runs, None) => runs::list(client, arguments::Runs { item: None, open: false, limit: 50 }, form).await,
        (Kind::Runs, Some(name)) => runs::describe(client, name, form).await,
        (Kind::Sites, name) => operate::sites(client, name, form).await,
        (Kind::Agents, name) => operate::agents(client, name, form).await,
    }
}
