//! `up`, `server`, `worker`: the commands that run something.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use server::{ServerOptions, StateDir, UpOptions, WorkerOptions};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    arguments::{Server, StateDirArgument, Up, Worker},
    connect, output,
};

pub(super) async fn up(arguments: Up) -> Result<ExitCode> {
    let _telemetry = telemetry::start("switchback-up");
    let options = UpOptions {
        state_dir: open(&arguments.state)?,
        database_url: arguments.database_url,
        listen: arguments.listen,
        tls_names: arguments.tls_name,
        workers: arguments.workers,
        lease: Duration::from_secs(arguments.lease_seconds),
        program: std::env::current_exe().context("finding this program")?,
    };
    server::up(options, told_to_stop()?, output::line).await?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn server(arguments: Server) -> Result<ExitCode> {
    let _telemetry = telemetry::start("switchback-server");
    let options = ServerOptions {
        state_dir: open(&arguments.state)?,
        database_url: arguments.database_url,
        listen: arguments.listen,
        tls_names: arguments.tls_name,
    };
    server::serve(options, told_to_stop()?).await?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn worker(arguments: Worker) -> Result<ExitCode> {
    let _telemetry = telemetry::start("switchback-worker");
    let options = WorkerOptions {
        state_dir: open(&arguments.state)?,
        database_url: arguments.database_url,
        lease: Duration::from_secs(arguments.lease_seconds),
        name: arguments.name.unwrap_or_else(|| format!("worker-{}", std::process::id())),
    };
    server::work(options, told_to_stop()?).await?;
    Ok(ExitCode::SUCCESS)
}

fn open(argument: &StateDirArgument) -> Result<StateDir> {
    Ok(StateDir::open(&connect::state_dir(argument.state_dir.as_deref())?)?)
}

/// True as soon as a signal says stop, or the one who started us is gone.
fn told_to_stop() -> Result<watch::Receiver<bool>> {
    let (stop, stopped) = watch::channel(false);
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let with_stdin = std::env::var_os("SWITCHBACK_ENDS_WITH_STDIN").is_some();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            () = end_of_stdin(), if with_stdin => tracing::warn!("whoever started this is gone; stopping"),
        }
        stop.send_replace(true);
        stop.closed().await;
    });
    Ok(stopped)
}

/// A thread of its own, because reading standard input can't be given up.
async fn end_of_stdin() {
    let (told, ended) = tokio::sync::oneshot::channel();
    let reader = std::thread::Builder::new().name("stdin".into()).spawn(move || {
        let ended = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(told.send(ended.map(drop)));
    });
    match reader {
        Ok(_) => drop(ended.await),
        Err(error) => {
            tracing::warn!(%error, "standard input is not watched");
            std::future::pending::<()>().await;
        }
    }
}
