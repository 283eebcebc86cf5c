//! The store itself: what it has lost, and what becomes of it.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use api::{
    Client, ClientError,
    store::{LossView, Settle, SettleHow, StoreState, StoreView},
};

use crate::{
    arguments::{Output, SettleRun, StoreCommand},
    exit, output,
    output::{facts, or_dash, table},
};

/// Between two looks at a check that goes on.
const LOOK: Duration = Duration::from_millis(500);

pub(super) async fn store(client: &Client, output: Output, command: StoreCommand) -> Result<ExitCode> {
    match command {
        StoreCommand::Check { all } => shown(output, &client.get(&format!("/v1/store?all={all}")).await?),
        StoreCommand::Reconcile { wait: false, .. } => shown(output, &client.get("/v1/store?all=true").await?),
        StoreCommand::Reconcile { wait: true, timeout } => match tokio::time::timeout(timeout, known(client)).await {
            Ok(view) => shown(output, &view?),
            Err(_) => {
                eprintln!("the check goes on; nobody writes meanwhile. `switchback store check` shows who is waited for");
                Ok(exit::WAITED_IN_VAIN.into())
            }
        },
        StoreCommand::Settle(SettleRun { run, go_on, cancel, accept_loss: _, reason }) => {
            let how = if go_on {
                SettleHow::GoOn
            } else if cancel {
                SettleHow::Cancel
            } else {
                SettleHow::AcceptLoss
            };
            let view: StoreView = client.post(&format!("/v1/store/settle/{run}"), &Settle { how, reason }).await?;
            output::answer(output, &view, |view| format!("run {run} is settled\n{}", losses(&view.losses)))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Waits until the server is known; a database that is away is waited for.
async fn known(client: &Client) -> Result<StoreView, ClientError> {
    let mut told = String::new();
    loop {
        let now = match client.get::<StoreView>("/v1/store?all=true").await {
            Ok(view) if view.state == StoreState::Known => return Ok(view),
            Ok(view) => format!("checking: waiting for {}", awaited(&view)),
            Err(error) if error.problem().is_some_and(|problem| problem.status >= 500) => format!("waiting for an answer: {error}"),
            Err(error) => return Err(error),
        };
        if now != told {
            eprintln!("{}", output::visible(&now));
            told = now;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn awaited(view: &StoreView) -> String {
    if view.asked_since.is_none() {
        return "whoever finds it out first; witnesses are asked within a second or two".to_owned();
    }
    let names: Vec<String> = view.witnesses.iter().filter(|witness| witness.awaited).map(|witness| format!("{} {}", witness.kind, witness.name)).collect();
    if names.is_empty() { "nobody; it ends at once".to_owned() } else { names.join(", ") }
}

fn shown(output: Output, view: &StoreView) -> Result<ExitCode> {
    output::answer(output, view, words)?;
    Ok(if view.is_well() { ExitCode::SUCCESS } else { exit::DEGRADED.into() })
}

fn words(view: &StoreView) -> String {
    let StoreView { state, era, system_identifier, timeline, started_at, known_at, asked_since, witnesses, losses: found } = view;
    let state = match state {
        StoreState::Known => format!("known since {}", known_at.format("%Y-%m-%d %H:%M:%S")),
        StoreState::Checking => format!("being checked since {}: nobody writes; waiting for {}", or_dash(asked_since.map(|at| at.format("%H:%M:%S"))), awaited(view)),
    };
    let life = facts(&[
        ("server", state),
        ("started", started_at.format("%Y-%m-%d %H:%M:%S").to_string()),
        ("cluster", format!("{system_identifier}, timeline {timeline}")),
        ("era", era.to_string()),
    ]);
    let rows = witnesses.iter().map(|witness| {
        let says = match (witness.testified, witness.awaited, witness.silent_at) {
            (true, _, _) => "has testified".to_owned(),
            (false, true, _) => "is waited for".to_owned(),
            (false, false, Some(at)) => format!("SILENT since {}: what it alone has seen is not found before it comes back", at.format("%Y-%m-%d %H:%M:%S")),
            (false, false, None) => "was away before".to_owned(),
        };
        [format!("{} {}", witness.kind, witness.name), witness.seen_at.format("%Y-%m-%d %H:%M:%S").to_string(), says]
    });
    let who = table(["WITNESS", "SEEN AT (UTC)", "OF THIS SERVER"], rows, "nobody can say what was committed");
    format!("{life}\n{who}\n\n{}", losses(found))
}

fn losses(found: &[LossView]) -> String {
    let rows = found.iter().map(|loss| {
        let lacks = match loss.what.as_str() {
            "run" => "all of it".to_owned(),
            "shorter" => format!("its history up to event {}", loss.seq),
            "differs" => format!("event {} as it was seen", loss.seq),
            "message" => "a message".to_owned(),
            "effect" => format!("an attempt at event {}", loss.seq),
            other => other.to_owned(),
        };
        [loss.run.to_string(), or_dash(loss.about.as_ref()), lacks, became(loss), loss.witness.clone()]
    });
    let shown = table(["RUN", "ABOUT", "LACKS", "BECAME", "SEEN BY"], rows, "nothing is missing that needs anybody");
    if found.iter().any(LossView::waits) {
        return format!("{shown}\n\nEach run of these waits for `switchback store settle RUN --go-on | --cancel | --accept-loss --reason WHY`.");
    }
    shown
}

fn became(loss: &LossView) -> String {
    if let Some(settled) = &loss.settled {
        return format!("{} by {}", settled.how.replace('_', " "), settled.by);
    }
    match loss.became.as_str() {
        "held" => "held: nobody carries it on".to_owned(),
        "lost" if loss.run_state.is_some() => "lost, and asked for again".to_owned(),
        "lost" => "lost".to_owned(),
        "ended" => "ended otherwise".to_owned(),
        other => other.to_owned(),
    }
}
