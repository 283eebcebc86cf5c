//! An event in words: one line for people, with the epoch that wrote it.

use sdk::{ChildEnd, Command, Event, EventBody, Inbound, Kin, Outcome, Seq};
use serde_json::Value;

use crate::output::visible;

/// The line. `history` is what came before, so that an end can name what ended.
pub(crate) fn line(event: &Event, history: &[Event]) -> String {
    let time = event.at.format("%Y-%m-%d %H:%M:%S%.3fZ");
    let worker = event.worker.to_string();
    let short = worker.rsplit('-').next().unwrap_or(&worker);
    format!(
        "{:>4}  {time}  run epoch {}  {short}/{}  {:<24} {}",
        event.seq,
        event.run_epoch,
        event.lease_epoch,
        event.body.kind(),
        words(event, history)
    )
    .trim_end()
    .to_owned()
}

/// What it says beside its kind.
pub(crate) fn words(event: &Event, history: &[Event]) -> String {
    visible(&match &event.body {
        EventBody::Inbound(inbound) => of_inbound(inbound, history),
        EventBody::Command(command) => of_command(command, history),
    })
}

fn of_inbound(inbound: &Inbound, history: &[Event]) -> String {
    match inbound {
        Inbound::RunStarted { workflow, workflow_id, requested_by, .. } => format!("{workflow} of {workflow_id}, asked for by {requested_by}"),
        Inbound::ActivityFinished { of, outcome } => format!("{} {}", activity(*of, history), of_outcome(outcome)),
        Inbound::TimerFired { of } => format!("timer {of}"),
        Inbound::SignalReceived { name, by, .. } => format!("{name} from {by}"),
        Inbound::LocksGranted { grants, .. } => {
            let each: Vec<String> = grants.iter().map(|grant| format!("{} at grant epoch {}", grant.resource, grant.epoch)).collect();
            each.join(", ")
        }
        Inbound::ChildStarted { of } => child(*of, history),
        Inbound::ChildRefused { of, open } => format!("{}: run {open} is about the same", child(*of, history)),
        Inbound::ChildClosed { of, end } => format!("{} {}", child(*of, history), of_end(end)),
        Inbound::CancelRequested { by, reason } => format!("by {by}: {reason}"),
    }
}

fn of_command(command: &Command, history: &[Event]) -> String {
    match command {
        Command::ActivityScheduled { activity, queue, compensation, .. } => {
            format!("{activity} on {queue}{}", if *compensation { ", to undo an earlier step" } else { "" })
        }
        Command::ActivityCancelRequested { of } => activity(*of, history),
        Command::TimerStarted { due_at, label } => format!("{label}, due {}", due_at.format("%H:%M:%SZ")),
        Command::TimerCancelled { of } | Command::LocksReleased { of } => format!("of event {of}"),
        Command::LocksRequested { resources } => resources.join(", "),
        Command::ChildRequested { child, workflow, workflow_id, .. } => format!("{workflow} of {workflow_id} as run {child}"),
        Command::ChildCancelRequested { of, reason } => format!("{}: {reason}", child(*of, history)),
        Command::SignalSent { to: Kin::Parent, name, body } => format!("{name} to the run that asked for this one {}", compact(body)),
        Command::SignalSent { to: Kin::Child { of }, name, body } => format!("{name} to {} {}", child(*of, history), compact(body)),
        Command::Recorded { fact, .. } => of_fact(fact),
        Command::PointOfNoReturn { reason } | Command::CancelRefused { reason } => reason.clone(),
        Command::RunCompleted { output } => compact(output),
        Command::RunFailed { failure } | Command::RunCancelled { failure } => failure.to_string(),
    }
}

fn activity(of: Seq, history: &[Event]) -> String {
    let scheduled = history.iter().find(|event| event.seq == of).map(|event| &event.body);
    match scheduled {
        Some(EventBody::Command(Command::ActivityScheduled { activity, .. })) => activity.clone(),
        Some(EventBody::Command(_) | EventBody::Inbound(_)) | None => format!("task {of}"),
    }
}

fn child(of: Seq, history: &[Event]) -> String {
    let asked = history.iter().find(|event| event.seq == of).map(|event| &event.body);
    match asked {
        Some(EventBody::Command(Command::ChildRequested { workflow, child, .. })) => format!("{workflow}, run {child}"),
        Some(EventBody::Command(_) | EventBody::Inbound(_)) | None => format!("child of event {of}"),
    }
}

fn of_end(end: &ChildEnd) -> String {
    match end {
        ChildEnd::Completed { output } => format!("is completed: {}", compact(output)),
        ChildEnd::Failed { failure } => format!("has failed: {failure}"),
        ChildEnd::Cancelled { failure } => format!("was cancelled: {failure}"),
    }
}

fn of_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Completed { .. } => "is done".to_owned(),
        Outcome::Failed { failure, attempts } => format!("failed after {attempts} attempt(s): {failure}"),
        Outcome::TimedOut { kind, attempts } => format!("ran into its {kind:?} limit after {attempts} attempt(s)").to_lowercase(),
        Outcome::Cancelled => "was cancelled before it began".to_owned(),
        Outcome::Unknown { failure, .. } => format!("may have happened: {failure}"),
    }
}

/// A change of an item by its fact, with what people look for in it.
fn of_fact(change: &Value) -> String {
    let fact = &change["fact"];
    let Some(name) = fact["fact"].as_str() else { return compact(change) };
    let others = fact.as_object().into_iter().flatten().filter(|(key, value)| key.as_str() != "fact" && !says_nothing(value));
    let rest: Vec<String> = others.map(|(key, value)| if key == "move" { plain(value) } else { format!("{key} {}", plain(value)) }).collect();
    format!("{} {}", name.replace('_', " "), rest.join(", ")).trim_end().to_owned()
}

fn says_nothing(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// Nested values shrink to their words; a number keeps its name.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let said = fields.iter().filter(|(_, value)| !says_nothing(value));
            said.map(|(key, value)| if value.is_number() { format!("{key} {value}") } else { plain(value) }).collect::<Vec<_>>().join(" ")
        }
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(" "),
        Value::Null => "-".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn compact(value: &Value) -> String {
    if value.is_null() { String::new() } else { value.to_string() }
}
