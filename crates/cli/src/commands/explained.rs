//! An evaluation of a trigger policy in words: what was seen each time, what was decided, who said what.

use api::runs::RunView;
use chrono::{DateTime, Utc};
use recovery::trigger::Judgement;
use sdk::{Command, Decided, Event, EventBody, RunId};
use serde::Serialize;
use serde_json::Value;
use workflows::{Note, TRIGGER_PROJECTION, TriggerNote};

use crate::output::visible;

/// What an evaluation recorded.
#[derive(Debug, Serialize)]
pub(crate) struct Evaluation {
    /// Its run.
    pub(crate) run: RunId,
    /// What it is about.
    pub(crate) about: String,
    /// How it stands.
    pub(crate) state: &'static str,
    /// What it gave.
    pub(crate) outcome: Option<Value>,
    /// What it recorded, in order.
    pub(crate) notes: Vec<Noted>,
}

/// Something that was recorded.
#[derive(Debug, Serialize)]
pub(crate) struct Noted {
    /// When.
    pub(crate) at: DateTime<Utc>,
    /// What.
    pub(crate) note: Note,
}

/// Picks out of a history what explains it.
pub(crate) fn evaluation(run: RunView, events: &[Event]) -> Evaluation {
    let mut outcome = None;
    let mut notes = Vec::new();
    for event in events {
        match &event.body {
            EventBody::Command(Command::Recorded { projection, fact }) if projection == TRIGGER_PROJECTION => {
                let read: Option<TriggerNote> = serde_json::from_value(fact.clone()).ok();
                notes.extend(read.map(|read| Noted { at: event.at, note: read.note }));
            }
            EventBody::Command(Command::RunCompleted { output }) => outcome = Some(output.clone()),
            EventBody::Command(Command::RunFailed { failure } | Command::RunCancelled { failure }) => {
                outcome = serde_json::to_value(failure).ok();
            }
            EventBody::Command(_) | EventBody::Inbound(_) => {}
        }
    }
    Evaluation { run: run.run, about: run.workflow_id, state: run.state.as_str(), outcome, notes }
}

/// For people. Of looks that saw the same only the first is shown.
pub(crate) fn text(evaluation: &Evaluation) -> String {
    let mut lines = vec![format!("{}, run {}: {}", evaluation.about, evaluation.run, ended(evaluation))];
    let mut shown: Option<Vec<(String, Option<String>)>> = None;
    let mut same = 0_u32;
    for Noted { at, note } in &evaluation.notes {
        let time = at.format("%Y-%m-%d %H:%M:%SZ");
        if let Note::Looked { version, judgement, .. } = note {
            // Why a rule holds may change without a difference; why one does not, never.
            let outline = judgement.rules.iter().map(|ruled| (ruled.rule.clone(), (!ruled.holds).then(|| ruled.why.clone()))).collect();
            if shown.as_ref() == Some(&outline) {
                same += 1;
                continue;
            }
            again(&mut lines, &mut same);
            lines.push(format!("{time}  looked, by version {version} of the policy"));
            lines.extend(rules(judgement));
            shown = Some(outline);
        } else if let Some(words) = words(note) {
            again(&mut lines, &mut same);
            lines.push(visible(&format!("{time}  {words}")));
        }
    }
    again(&mut lines, &mut same);
    lines.join("\n")
}

fn again(lines: &mut Vec<String>, same: &mut u32) {
    if *same > 0 {
        lines.push(format!("                      looked {same} time(s) more and saw the same"));
        *same = 0;
    }
}

/// The rules of a judgement, one a line, and what follows.
pub(crate) fn rules(judgement: &Judgement) -> Vec<String> {
    let rule = |ruled: &recovery::trigger::Ruled| visible(&format!("  {} {:<18} {}", if ruled.holds { "yes" } else { "NO " }, ruled.rule, ruled.why));
    let mut lines: Vec<String> = judgement.rules.iter().map(rule).collect();
    lines.push(format!("  => {}", judgement.verdict));
    lines
}

fn words(note: &Note) -> Option<String> {
    Some(match note {
        Note::Looked { .. } | Note::Noted { switch: None, .. } => return None,
        Note::Noted { switch: Some(switch), .. } => format!("{} turned the kill switch on ({}); the failover is told to stop", switch.by, switch.reason),
        Note::Asked { need, by, until, .. } if by.is_empty() => format!("asks {need} of all operators until {}", until.format("%H:%M:%SZ")),
        Note::Asked { need, by, until, .. } => format!("asks {need} of {} until {}", by.join(", "), until.format("%H:%M:%SZ")),
        Note::Heard { decided, votes } => {
            let vote = |vote: &sdk::Signal<workflows::Ballot>| {
                let why = vote.body.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
                format!("{} {}{why}", vote.by, if vote.body.approve { "agreed" } else { "denied" })
            };
            let votes: Vec<String> = votes.iter().map(vote).collect();
            let end = match decided {
                Decided::Reached => "enough have agreed",
                Decided::Refused => "denied",
                Decided::TimedOut => "time is up",
            };
            if votes.is_empty() { end.to_owned() } else { format!("{}: {end}", votes.join(", ")) }
        }
        Note::Locked => "the policy is locked until somebody unlocks it".to_owned(),
        Note::Answered { answer, .. } => answer.clone(),
    })
}

fn ended(evaluation: &Evaluation) -> String {
    let Some(outcome) = &evaluation.outcome else { return "is being looked at".to_owned() };
    let text = |name: &str| outcome.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    visible(&match text("ended").as_str() {
        "quiet" => format!("started nothing: {}", text("why")),
        "started" => {
            let problem = outcome.get("problem").and_then(|problem| problem.get("message")).and_then(Value::as_str);
            let end = problem.map_or_else(|| "did what it should".to_owned(), |why| format!("did not: {why}"));
            format!("started failover run {}, which {end}", text("run"))
        }
        "denied" => format!("started nothing: denied by {}", text("by")),
        "unanswered" => "started nothing: nobody answered in time".to_owned(),
        "watched" => "started nothing: the policy only watches".to_owned(),
        "continued" => format!("goes on as run {}", text("run")),
        "policy_removed" => "ended: the policy was removed".to_owned(),
        _ => format!("{}: {outcome}", evaluation.state),
    })
}
