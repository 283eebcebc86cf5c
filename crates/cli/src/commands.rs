//! What each command does.

mod access;
mod approve;
mod careful;
mod drill;
mod evidence;
mod explained;
mod group;
mod installation;
mod items;
mod look;
mod plan;
mod policies;
mod readiness;
mod schedule;
mod store;
mod trigger;

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    arguments::{Arguments, Command, EvidenceCommand},
    connect,
};

/// Carries a command out.
pub(crate) async fn carry_out(arguments: Arguments) -> Result<ExitCode> {
    let Arguments { global, command } = arguments;
    let output = global.output;
    let client = || connect::client(&global);
    match command {
        Command::Up(up) => installation::up(up).await,
        Command::Server(server) => installation::server(server).await,
        Command::Worker(worker) => installation::worker(worker).await,
        Command::Protect(protect) => items::protect(&client()?, output, protect).await,
        Command::Points { item } => items::points(&client()?, output, &item).await,
        Command::Failover(failover) => items::failover(&client()?, output, failover).await,
        Command::PlannedFailover(planned) => items::planned_failover(&client()?, output, planned).await,
        Command::ChangePoint(change) => items::change_point(&client()?, output, change).await,
        Command::Undo(undo) => items::undo(&client()?, output, undo).await,
        Command::Reprotect(reprotect) => items::reprotect(&client()?, output, reprotect).await,
        Command::Failback(failback) => items::failback(&client()?, output, failback).await,
        Command::TestFailover(test) => items::test_failover(&client()?, output, test).await,
        Command::CleanTestFailover(operation) => items::plain(&client()?, output, "clean-test-failover", &operation).await,
        Command::Drill(drill) => drill::drill(&client()?, output, drill).await,
        Command::Plan { command } => plan::plan(client, output, command).await,
        Command::Check { item: Some(item), all, .. } => readiness::check(&client()?, output, &format!("/v1/items/{item}/readiness"), all).await,
        Command::Check { plan: Some(plan), all, .. } => readiness::check(&client()?, output, &format!("/v1/plans/{plan}/readiness"), all).await,
        Command::Check { .. } => readiness::overview(&client()?, output).await,
        Command::Group { command } => group::carry_out(&client()?, output, command).await,
        Command::Schedule { command } => schedule::carry_out(&client()?, output, command).await,
        Command::Commit(operation) => items::plain(&client()?, output, "commit", &operation).await,
        Command::Forget(forget) => careful::forget(&client()?, output, forget).await,
        Command::Hold(hold) => careful::hold(&client()?, output, hold).await,
        Command::Release(release) => careful::release(&client()?, output, release).await,
        Command::Resync(operation) => items::plain(&client()?, output, "resync", &operation).await,
        Command::ChangePolicy(change) => careful::change_policy(&client()?, output, change).await,
        Command::Resolve(resolve) => careful::resolve(&client()?, output, resolve).await,
        Command::Profile { profile } => careful::profile(output, profile),
        Command::Unprotect(operation) => items::plain(&client()?, output, "unprotect", &operation).await,
        Command::Cancel { run, reason, waiting } => look::cancel(&client()?, output, run, reason, waiting).await,
        Command::History { run } => look::history(&client()?, output, run).await,
        Command::Export(export) => evidence::export(&client()?, output, export).await,
        Command::Report(report) => evidence::report(&client()?, output, report).await,
        Command::Evidence { command: EvidenceCommand::Key } => evidence::key(&client()?, output).await,
        Command::Evidence { command: EvidenceCommand::Verify { file, key, anchors } } => {
            evidence::verify(output, &file, key.as_deref(), anchors.as_deref())
        }
        Command::Replay(replay) => apart(move || evidence::replay(output, &replay)).await,
        Command::Why { run } => look::why(&client()?, output, run).await,
        Command::Runs { item, open } => look::runs(&client()?, output, item.as_ref(), open).await,
        Command::Queue { command } => look::queue(&client()?, output, command).await,
        Command::Get { kind, name } => look::get(&client()?, output, kind, name.as_deref()).await,
        Command::Describe { kind, name } => look::describe(&client()?, output, kind, &name).await,
        Command::Verify => access::verify(&client()?, output).await,
        Command::Resume { run, reason } => look::resume(&client()?, output, run, reason).await,
        Command::Store { command } => store::store(&client()?, output, command).await,
        Command::Agent { command } => access::agent(&client()?, output, command).await,
        Command::Build { command } => access::build(&client()?, output, command).await,
        Command::Token { command } => access::token(&client()?, output, command).await,
        Command::Approve(approve) => approve::approve(&client()?, output, approve).await,
        Command::KillSwitch { command } => policies::kill_switch(&client()?, output, command).await,
        Command::Trigger { command } => trigger::trigger(&client()?, output, command).await,
        Command::Version => access::version(&client()?, output).await,
    }
}

/// Carries out what computes and waits for nobody on a thread of its own: on one of the runtime it would be held up after so many steps,
/// since it never gives the thread back.
async fn apart<T: Send + 'static>(compute: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(compute).await?
}
