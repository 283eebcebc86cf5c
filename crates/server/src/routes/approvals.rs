//! Approvals: what an evaluation asks people, and what they say.
//!
//! Invariants: 1. What is asked stands in the run's history, nowhere else. 2. Who votes is who asks the server; whether the vote counts
//! is decided by the run.

use api::{
    Code,
    access::Role,
    policies::{GiveApproval, Question, VoteTaken},
};
use axum::{
    Json,
    extract::{Path, State},
};
use engine::{RunStore, Sent};
use recovery::trigger::{Judgement, Verdict};
use sdk::{Command, Event, EventBody, Inbound, Message, RunId};
use workflows::{
    Ballot, Note, TRIGGER_PROJECTION, TriggerNote,
    trigger::APPROVAL,
};

use crate::{
    app::{App, Asked, parsed},
    caller::Caller,
    problem::{Answer, Refusal},
};

pub(super) async fn approve(caller: Caller, State(app): State<App>, Path(run): Path<String>, Asked(asked): Asked<GiveApproval>) -> Answer<VoteTaken> {
    caller.may(Role::Operator)?;
    let run: RunId = parsed(&run)?;
    let Some(question) = question(&app, run).await? else {
        return Err(Refusal::new(Code::NotNow, format!("run {run} asks nobody for approval now; see `switchback why {run}`")));
    };
    if !question.by.is_empty() && !question.by.contains(&caller.name) {
        let detail = format!("{} is none of those whom run {run} asks: {}", caller.name, question.by.join(", "));
        return Err(Refusal::new(Code::Forbidden, detail));
    }
    let GiveApproval { approve, reason, round } = asked;
    if round.is_some_and(|round| round != question.round) {
        let detail = format!("run {run} asks for time {} now: the policy or the alerts have changed; look again with `switchback trigger explain {run}`", question.round);
        return Err(Refusal::new(Code::NotNow, detail));
    }
    let body = serde_json::to_value(Ballot { round: question.round, approve, reason });
    let body = body.map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    let key = format!("{}:{}:{}", question.round, caller.name, if approve { "yes" } else { "no" });
    match app.store.send(run, Message::Signal { name: APPROVAL.to_owned(), key, body, by: caller.name.clone() }).await? {
        Sent::Accepted => tracing::info!(%run, by = caller.name, approve, "somebody has voted"),
        Sent::Closed => return Err(Refusal::new(Code::RunEnded, format!("run {run} has ended"))),
        Sent::NoSuchRun => return Err(Refusal::new(Code::UnknownRun, format!("there is no run {run}"))),
    }
    Ok(Json(VoteTaken { run, by: caller.name, approve, question }))
}

/// What an open evaluation asks now.
pub(super) async fn question(app: &App, run: RunId) -> Result<Option<Question>, Refusal> {
    let history = app.store.load_history(run).await?;
    Ok(asked(history.events.into_iter().map(|stored| stored.event)))
}

/// What an evaluation waits for if it asks people, in words.
pub(super) fn waits_for(question: &Question, run: RunId) -> String {
    let who = if question.by.is_empty() { "all operators".to_owned() } else { question.by.join(", ") };
    let agreed = if question.agreed.is_empty() { "nobody has yet".to_owned() } else { format!("{} have", question.agreed.join(", ")) };
    format!(
        "waits until {} for {} of {who} to agree to the failover ({agreed}): `switchback approve {run}`, or `--deny`; `switchback trigger explain {run}` says why",
        question.until.format("%Y-%m-%d %H:%M:%SZ"),
        question.need
    )
}

/// What an evaluation made of its last look, in words; `None` if it has not looked.
pub(super) async fn standing(app: &App, run: RunId) -> Result<Option<String>, Refusal> {
    let history = app.store.load_history(run).await?;
    let notes = history.events.into_iter().rev().filter_map(|stored| match stored.event.body {
        EventBody::Command(Command::Recorded { projection, fact }) if projection == TRIGGER_PROJECTION => serde_json::from_value(fact).ok(),
        EventBody::Command(_) | EventBody::Inbound(_) => None,
    });
    for TriggerNote { note, .. } in notes {
        return Ok(Some(match note {
            Note::Answered { answer, .. } => answer,
            Note::Looked { judgement, .. } => stands(&judgement),
            Note::Locked => "alerts came and went: locked until somebody unlocks it".to_owned(),
            Note::Noted { .. } | Note::Asked { .. } | Note::Heard { .. } => continue,
        }));
    }
    Ok(None)
}

fn stands(judgement: &Judgement) -> String {
    let why = judgement.rules.iter().find(|ruled| !ruled.holds).map(|ruled| ruled.why.as_str()).unwrap_or_default();
    match &judgement.verdict {
        Verdict::Wait { until } => format!("holds down until {}: {why}", until.format("%H:%M:%SZ")),
        Verdict::Blocked { rule, until: Some(until) } => format!("blocked by {rule} until {}: {why}", until.format("%Y-%m-%d %H:%M:%SZ")),
        Verdict::Blocked { rule, until: None } => format!("blocked by {rule}: {why}"),
        Verdict::Flapping => "alerts came and went: locked until somebody unlocks it".to_owned(),
        Verdict::Ask => "people are asked".to_owned(),
        Verdict::Quiet | Verdict::Would | Verdict::Act => why.to_owned(),
    }
}

/// What the last question of a history is, unless it was withdrawn or answered.
fn asked(events: impl Iterator<Item = Event>) -> Option<Question> {
    let mut question: Option<Question> = None;
    for event in events {
        match event.body {
            EventBody::Command(Command::Recorded { projection, fact }) if projection == TRIGGER_PROJECTION => {
                let Ok(TriggerNote { note, .. }) = serde_json::from_value(fact) else { continue };
                question = match note {
                    Note::Asked { round, need, by, until } => Some(Question { round, need, by, until, agreed: vec![] }),
                    Note::Looked { judgement, .. } if judgement.verdict == Verdict::Ask => question,
                    Note::Noted { .. } => question,
                    Note::Looked { .. } | Note::Heard { .. } | Note::Locked | Note::Answered { .. } => None,
                };
            }
            EventBody::Inbound(Inbound::SignalReceived { name, body, by, .. }) if name == APPROVAL => {
                let ballot: Option<Ballot> = serde_json::from_value(body).ok();
                let counts = |question: &&mut Question| ballot.as_ref().is_some_and(|b| b.approve && b.round == question.round);
                if let Some(question) = question.as_mut().filter(counts)
                    && !question.agreed.contains(&by)
                {
                    question.agreed.push(by);
                }
            }
            EventBody::Command(command) if command.closes() => question = None,
            EventBody::Command(_) | EventBody::Inbound(_) => {}
        }
    }
    question
}
