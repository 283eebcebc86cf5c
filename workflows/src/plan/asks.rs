//! What a plan asks people: to do something, to agree, or what to do about a step that failed.
//!
//! Invariants: 1. Only those are heard who play a role that is asked. 2. Silence has an outcome, after a time that is known before.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, Utc};
use recovery::plan::{Approval, Manual, Silence, StepRun, StepState};
use sdk::{Context, Decided, Failure, Vote};
use serde::{Deserialize, Serialize};

use super::book::Book;

/// How long a plan waits for somebody who says what to do about a failed step: a day, since nobody is there at night.
const ASK_WITHIN: Duration = Duration::from_secs(86_400);
/// Words of a reply.
const DONE: &str = "done";
const FAILED: &str = "failed";
const APPROVE: &str = "approve";
const DENY: &str = "deny";
const RETRY: &str = "retry";
const SKIP: &str = "skip";
const STOP: &str = "stop";

/// What people are asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// In words.
    pub text: String,
    /// What may be answered.
    pub choices: Vec<String>,
    /// Who may; everybody who may operate, if nobody is named.
    pub by: BTreeSet<String>,
    /// So many different people.
    pub need: usize,
    /// Until when.
    pub until: DateTime<Utc>,
}

/// What somebody answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// One of the choices.
    pub choice: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What is to become of a failed step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Retry,
    Skip,
    Stop,
}

/// Signal with which a question of that step is answered.
#[must_use]
pub fn answer_signal(key: &str) -> String {
    format!("answer:{key}")
}

/// Asks people, who are named in words that the others understand.
struct Ask<'a> {
    ctx: &'a Context,
    book: &'a Book,
    step: &'a StepRun,
    people: BTreeSet<String>,
    need: usize,
    within: Duration,
}

impl Ask<'_> {
    /// The choice that was made, with what was said; nothing if the time is up.
    async fn answered(&self, text: String, choices: &[&str], no: &str) -> Result<Option<(String, String)>, Failure> {
        let until = self.ctx.now() + self.within;
        let choices: Vec<String> = choices.iter().map(|choice| (*choice).to_owned()).collect();
        let question = Question { text, choices: choices.clone(), by: self.people.clone(), need: self.need, until };
        let signal = answer_signal(&self.step.key);
        // What was said before the question is no answer to it.
        self.ctx.forget_signals(&signal);
        self.book.stands(&StepRun { state: StepState::Waiting, ..self.step.clone() }, Some(question));
        let quorum = self.ctx.quorum::<Reply>(&signal, self.need, self.within, |vote| {
            let heard = self.people.is_empty() || self.people.contains(&vote.by);
            match (heard && choices.contains(&vote.body.choice), vote.body.choice == no) {
                (false, _) => Vote::Ignored,
                (true, true) => Vote::Against,
                (true, false) => Vote::For,
            }
        });
        let quorum = quorum.await?;
        self.book.stands(self.step, None);
        let last = quorum.votes.last().map(|vote| vote.body.choice.clone()).unwrap_or_default();
        let said: Vec<String> = quorum.votes.iter().map(|vote| {
            let reason = vote.body.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            format!("{} said {}{reason}", vote.by, vote.body.choice)
        }).collect();
        Ok(match quorum.decided {
            Decided::Reached | Decided::Refused => Some((last, said.join(", "))),
            Decided::TimedOut => None,
        })
    }
}

/// Waits for a person to do something.
pub(crate) async fn manual(ctx: &Context, book: &Book, step: &StepRun, people: BTreeSet<String>, manual: &Manual) -> Result<String, Failure> {
    let ask = Ask { ctx, book, step, people, need: 1, within: manual.within.duration() };
    match ask.answered(manual.instructions.clone(), &[DONE, FAILED], FAILED).await? {
        Some((choice, said)) if choice == DONE => Ok(said),
        Some((_, said)) => Err(Failure::fatal("manual-step-failed", format!("a person could not do it: {said}"))),
        None => silence(manual.on_silence, &format!("nobody said within {} that it is done", manual.within)),
    }
}

/// Waits for people to agree.
pub(crate) async fn approval(ctx: &Context, book: &Book, step: &StepRun, people: BTreeSet<String>, approval: &Approval) -> Result<String, Failure> {
    let ask = Ask { ctx, book, step, people, need: approval.need, within: approval.within.duration() };
    let roles: Vec<&str> = approval.of.iter().map(String::as_str).collect();
    let text = approval.question.clone().unwrap_or_else(|| format!("{} of {} must agree before the plan goes on", approval.need, roles.join(", ")));
    match ask.answered(text, &[APPROVE, DENY], DENY).await? {
        Some((choice, said)) if choice == APPROVE => Ok(said),
        Some((_, said)) => Err(Failure::fatal("not-approved", format!("it was refused: {said}"))),
        None => silence(approval.on_silence, &format!("fewer than {} agreed within {}", approval.need, approval.within)),
    }
}

fn silence(on_silence: Silence, what: &str) -> Result<String, Failure> {
    match on_silence {
        Silence::GoOn => Ok(format!("{what}; the plan says to go on then")),
        Silence::Fail => Err(Failure::fatal("no-answer", what)),
    }
}

/// Asks what to do about a step that failed; nobody's word means to stop.
pub(crate) async fn about_failure(ctx: &Context, book: &Book, step: &StepRun, failure: &Failure) -> Result<(Decision, String), Failure> {
    let ask = Ask { ctx, book, step, people: BTreeSet::new(), need: 1, within: ASK_WITHIN };
    let text = format!("{} has failed: {}", step.key, failure.message);
    Ok(match ask.answered(text, &[RETRY, SKIP, STOP], STOP).await? {
        Some((choice, said)) if choice == RETRY => (Decision::Retry, said),
        Some((choice, said)) if choice == SKIP => (Decision::Skip, said),
        Some((_, said)) => (Decision::Stop, said),
        None => (Decision::Stop, "nobody said within a day what to do about it".to_owned()),
    })
}
