//! Replays histories through the workflows' code: the same commands, or the first one that differs, told so that a person sees it.

use sdk::{Command, EventBody, Registry, RunId, Seq, replay, replay::ReplayError};
use serde::Serialize;
use serde_json::Value;

use crate::{Bundle, bundle::started, difference};

/// What replaying a run showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Which.
    pub run: RunId,
    /// Name of its code.
    pub workflow: String,
    /// What it is about.
    pub workflow_id: String,
    /// Its events.
    pub events: usize,
    /// Commands among them: what was compared.
    pub commands: usize,
    /// Where the code wants something else, if it does.
    pub differs: Option<Divergence>,
}

/// The first event that the code would not have written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// Which event; nothing if the code could not be run at all.
    pub seq: Option<Seq>,
    /// The command that is recorded, in words.
    pub recorded: String,
    /// What the code wants there, in words.
    pub replayed: String,
    /// The first field that differs, if both are commands of one kind.
    pub field: Option<String>,
    /// What it is in the history.
    pub field_recorded: Option<String>,
    /// What the code makes of it.
    pub field_replayed: Option<String>,
}

/// Replays every run of a bundle.
#[must_use]
pub fn all(bundle: &Bundle, registry: &Registry) -> Vec<Replayed> {
    bundle.runs().iter().map(|history| {
        let (workflow, workflow_id) = match started(history) {
            Some(sdk::Inbound::RunStarted { workflow, workflow_id, .. }) => (workflow.clone(), workflow_id.clone()),
            Some(_) | None => (String::new(), String::new()),
        };
        let commands = history.events.iter().filter(|stored| matches!(stored.event.body, EventBody::Command(_))).count();
        let differs = replay::verify(registry, history).err().map(diverged);
        Replayed { run: history.run, workflow, workflow_id, events: history.events.len(), commands, differs }
    }).collect()
}

fn diverged(error: ReplayError) -> Divergence {
    let whole = |replayed: String| Divergence {
        seq: None,
        recorded: "a run".into(),
        replayed,
        field: None,
        field_recorded: None,
        field_replayed: None,
    };
    match error {
        ReplayError::Differs { seq, recorded, replayed } => compared(seq, &recorded, &replayed),
        other @ (ReplayError::Panicked(_) | ReplayError::UnknownWorkflow(_) | ReplayError::NoStart) => whole(other.to_string()),
    }
}

/// Both as JSON, or `nothing`.
fn compared(seq: Seq, recorded: &str, replayed: &str) -> Divergence {
    let value = |text: &str| serde_json::from_str::<Value>(text).ok();
    let (left, right) = (value(recorded), value(replayed));
    let found = left.as_ref().zip(right.as_ref()).filter(|(left, right)| left["kind"] == right["kind"]);
    let found = found.and_then(|(left, right)| difference::first(left, right));
    Divergence {
        seq: Some(seq),
        recorded: words(left.as_ref()),
        replayed: words(right.as_ref()),
        field_recorded: found.as_ref().map(|found| difference::shown(found.left.as_ref())),
        field_replayed: found.as_ref().map(|found| difference::shown(found.right.as_ref())),
        field: found.map(|found| found.path),
    }
}

/// A command by its kind and by what tells it from others of that kind.
fn words(command: Option<&Value>) -> String {
    let Some(value) = command else { return "nothing more".into() };
    let kind = value["kind"].as_str().unwrap_or("a command").replace('_', " ");
    let said = match serde_json::from_value::<Command>(value.clone()) {
        Ok(Command::ActivityScheduled { activity, queue, .. }) => format!("{activity} on {queue}"),
        Ok(Command::Recorded { projection, fact }) => format!("{} in {projection}", fact["fact"]["fact"].as_str().unwrap_or("a fact").replace('_', " ")),
        Ok(Command::LocksRequested { resources }) => resources.join(", "),
        Ok(Command::TimerStarted { label, .. }) => label,
        Ok(Command::ChildRequested { workflow, workflow_id, .. }) => format!("{workflow} of {workflow_id}"),
        Ok(Command::PointOfNoReturn { reason } | Command::CancelRefused { reason }) => reason,
        Ok(Command::RunFailed { failure } | Command::RunCancelled { failure }) => failure.to_string(),
        Ok(
            Command::ActivityCancelRequested { of }
            | Command::TimerCancelled { of }
            | Command::LocksReleased { of }
            | Command::ChildCancelRequested { of, .. },
        ) => format!("of event {of}"),
        Ok(Command::SignalSent { name, .. }) => name,
        Ok(Command::RunCompleted { .. }) | Err(_) => String::new(),
    };
    format!("{kind} {said}").trim_end().to_owned()
}

impl std::fmt::Display for Divergence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.seq {
            Some(seq) => writeln!(f, "the code differs from the history at event {seq}")?,
            None => writeln!(f, "the code can't be run against the history")?,
        }
        writeln!(f, "  recorded  {}", self.recorded)?;
        write!(f, "  replayed  {}", self.replayed)?;
        if let Some(field) = &self.field {
            let side = |value: &Option<String>| value.clone().unwrap_or_default();
            write!(f, "\n  field     {field}: recorded {}, replayed {}", side(&self.field_recorded), side(&self.field_replayed))?;
        }
        Ok(())
    }
}
