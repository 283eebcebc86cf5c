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
use recovery::trigger::Verdict;
use sdk::{Command, Event, EventBody, Inbound, Message, RunId};
use workflows::{
    Ballot, Note, TRIGGER_PROJECTION, TriggerNote,
    trigger::APPROVAL,
};

use super::plan_questions;
use crate::{
    app::{App, Asked, parsed},
    caller::Caller,
    problem::{Answer, Refusal},
};

pub(super) async fn approve(caller: Caller, State(app): State<App>, Path(run): Path<String>, Asked(asked): Asked<GiveApproval>) -> Answer<VoteTaken> {
    caller.may(Role::Operator)?;
    let run: RunId = parsed(&run)?;
    let Some(question) = standing(&app, run).await?.question else {
        if let Some(refusal) = plan_questions::meant(&app, run).await? {
            return Err(refusal);
        }
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

/// How an evaluation stands, by its history.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// What it asks people now.
    pub(super) question: Option<Question>,
    /// What it made of its last look, in words; `None` if it has not looked.
    pub(super) words: Option<String>,
}

/// Reads it.
pub(super) async fn standing(app: &App, run: RunId) -> Result<Standing, Refusal> {
    let history = app.store.load_history(run).await?;
    Ok(read(history.events.into_iter().map(|stored| stored.event)))
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

fn read(events: impl Iterator<Item = Event>) -> Standing {
    let mut standing = Standing::default();
    for event in events {
        match event.body {
            EventBody::Command(Command::Recorded { projection, fact }) if projection == TRIGGER_PROJECTION => {
                if let Ok(TriggerNote { note, .. }) = serde_json::from_value(fact) {
                    standing.noted(note);
                }
            }
            EventBody::Inbound(Inbound::SignalReceived { name, body, by, .. }) if name == APPROVAL => {
                if let Ok(ballot) = serde_json::from_value(body) {
                    standing.voted(&ballot, by);
                }
            }
            EventBody::Command(command) if command.closes() => standing.question = None,
            EventBody::Command(_) | EventBody::Inbound(_) => {}
        }
    }
    standing
}

impl Standing {
    fn noted(&mut self, note: Note) {
        match note {
            Note::Asked { round, need, by, until } => self.question = Some(Question { round, need, by, until, agreed: vec![] }),
            Note::Noted { .. } => {}
            Note::Heard { .. } => self.question = None,
            Note::Looked { judgement, .. } => {
                self.question.take_if(|_| judgement.verdict != Verdict::Ask);
                let why = judgement.decided_by().map(|ruled| format!(": {}", ruled.why)).unwrap_or_default();
                self.words = Some(format!("{}{why}", judgement.verdict));
            }
            Note::Locked => (self.question, self.words) = (None, Some(Verdict::Flapping.to_string())),
            Note::Answered { answer, .. } => (self.question, self.words) = (None, Some(answer)),
        }
    }

    fn voted(&mut self, ballot: &Ballot, by: String) {
        let counts = |question: &&mut Question| ballot.approve && ballot.round == question.round;
        if let Some(question) = self.question.as_mut().filter(counts)
            && !question.agreed.contains(&by)
        {
            question.agreed.push(by);
        }
    }
}
