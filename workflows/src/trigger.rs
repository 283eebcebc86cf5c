//! The evaluation of a trigger policy: from the first alert to a failover, or to the reason why there is none.
//!
//!   look ─▶ judge ─┬▶ quiet: the end            ┌▶ enough agree ─▶ look again ─▶ failover (a child) ─▶ its end
//!     ▲            ├▶ wait, blocked: until then, or until something changes
//!     └────────────┴▶ ask ──────────────────────┴▶ somebody denies, or nobody answers: the end
//!
//! Invariants: 1. Everything that is decided is decided from a look that stands in the history, so it can be judged again. 2. What
//! was looked at is taken off the list in the transaction that records the look: an alert is never lost between two evaluations.
//! 3. An alert is answered once: a failover is started, refused by a person, or only watched. 4. A kill switch is looked at before
//! each decision and while the failover runs; it cancels it as long as it can be cancelled, and so does who cancels the evaluation.
//! 5. Whoever can't look looks again later: an evaluation that gave up would leave its alert to nobody. Who cancels one has answered
//! what fires then.

use std::{future::Future, pin::Pin, time::Duration};

use recovery::trigger::{Judgement, KillSwitch, Silence, TriggerName, TriggerPolicy, Verdict, judge};
use sdk::{
    Child, ChildError, ClosePolicy, Context, Decided, Failure, Quorum, RunId, Signal, Vote, Workflow,
    join::{First, race},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Acceptance, Failover, FailoverInput, Part,
    declared::{LoadEvidence, Look},
    item_workflow_id,
    tracked::server_queue,
};

/// Name of the projection of what evaluations decide.
pub const TRIGGER_PROJECTION: &str = "recovery.trigger";
/// Signal that says that something has changed.
pub const WAKE: &str = "wake";
/// Signal with which a person agrees or denies.
pub const APPROVAL: &str = "approval";

/// After a word, before the next look: senders speak in bursts.
const BREATH: Duration = Duration::from_secs(1);
/// Looks of one evaluation; a successor goes on from there. Bounds the length of a history.
const MOST_LOOKS: u32 = 300;
/// Longest wait for a word, when nothing but a word can change anything.
const LONG: Duration = Duration::from_secs(86_400);
/// Between two looks at what passes without a word, such as another run that has the item; twice as long each time …
const AGAIN: Duration = Duration::from_secs(5);
/// … up to this.
const AGAIN_AT_MOST: Duration = Duration::from_secs(600);

/// Which policy to evaluate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerInput {
    /// Its name.
    pub policy: TriggerName,
}

/// What a person says to a proposed failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// Which time of asking is meant.
    pub round: u32,
    /// Yes or no.
    pub approve: bool,
    /// Why.
    pub reason: Option<String>,
}

/// Something that an evaluation records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TriggerNote {
    /// Of which policy.
    pub policy: TriggerName,
    /// What.
    #[serde(rename = "of")]
    pub note: Note,
}

/// What there is to record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// The evidence was looked at and judged.
    Looked {
        /// Version of the policy.
        version: i64,
        /// SHA-256 of the policy's text.
        sha256: String,
        /// What is off the list.
        wakes: Vec<i64>,
        /// What was made of it.
        judgement: Judgement,
    },
    /// The list was emptied while the failover runs.
    Noted {
        /// What is off the list.
        wakes: Vec<i64>,
        /// The kill switch that was seen and told to the failover.
        switch: Option<KillSwitch>,
    },
    /// People are asked.
    Asked {
        /// Which time of asking.
        round: u32,
        /// So many must agree.
        need: usize,
        /// Who may; everybody who may operate, if nobody is named.
        by: Vec<String>,
        /// Until when.
        until: chrono::DateTime<chrono::Utc>,
    },
    /// People have answered, or time was up.
    Heard {
        /// How it ended.
        decided: Decided,
        /// Who said what.
        votes: Vec<Signal<Ballot>>,
    },
    /// From now on a person decides.
    Locked,
    /// These alerts start nothing any more.
    Answered {
        /// Their numbers.
        alerts: Vec<i64>,
        /// What was decided, in words.
        answer: String,
    },
}

/// How an evaluation ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ended", rename_all = "snake_case")]
pub enum Evaluated {
    /// Nothing fires that was not answered.
    Quiet {
        /// What was seen.
        why: String,
    },
    /// A failover was started and has ended.
    Started {
        /// Its run.
        run: RunId,
        /// Who agreed; empty if nobody was asked.
        approved_by: Vec<String>,
        /// Why it failed or was cancelled; `None`: it did what it should.
        problem: Option<Failure>,
    },
    /// Somebody denied it.
    Denied {
        /// Who.
        by: String,
        /// Why.
        reason: Option<String>,
    },
    /// Nobody answered in time.
    Unanswered,
    /// The policy only watches.
    Watched,
    /// It has become long; a successor goes on.
    Continued {
        /// Which.
        run: RunId,
    },
    /// There is no such policy any more.
    PolicyRemoved,
}

/// The workflow.
pub struct Trigger;

/// Workflow id of the evaluation of a policy: one at a time.
#[must_use]
pub fn trigger_workflow_id(policy: &TriggerName) -> String {
    format!("trigger:{policy}")
}

impl Workflow for Trigger {
    const NAME: &'static str = "trigger";
    type Input = TriggerInput;
    type Output = Evaluated;

    async fn run(ctx: Context, input: TriggerInput) -> Result<Evaluated, Failure> {
        let mut evaluation = Evaluation { ctx: ctx.clone(), policy: input.policy.clone(), asking: None, rounds: 0, agreed: None, version: 0, about: Vec::new(), blocked: Default::default() };
        let ended = evaluation.evaluated().await;
        if ended.as_ref().is_err_and(|failure| failure.code == "cancelled") {
            evaluation.cancelled().await?;
        }
        ended
    }
}

type Asking = Pin<Box<dyn Future<Output = Result<Quorum<Ballot>, Failure>>>>;

struct Evaluation {
    ctx: Context,
    policy: TriggerName,
    /// People are being asked.
    asking: Option<Asking>,
    rounds: u32,
    /// Who has agreed since the alerts fire.
    agreed: Option<Vec<String>>,
    /// Of the policy at the last look: who agreed to one version has not agreed to another.
    version: i64,
    /// The alerts of the last look.
    about: Vec<i64>,
    /// What blocked the last looks, and how long was waited because of it.
    blocked: (String, Duration),
}

impl Evaluation {
    async fn evaluated(&mut self) -> Result<Evaluated, Failure> {
        let mut looks = 0_u32;
        // Who is asked is asked to the end: a successor would ask again.
        while looks < MOST_LOOKS || self.asking.is_some() || self.agreed.is_some() {
            looks += 1;
            let (look, judgement) = match self.look().await {
                Ok(Some(looked)) => looked,
                Ok(None) => return Ok(Evaluated::PolicyRemoved),
                Err(cancelled) if cancelled.code == "cancelled" => return Err(cancelled),
                // What fires was noted at an earlier look; whoever gives up here loses it until it is told again.
                Err(failure) => {
                    if let Some(ended) = self.woken_or_again(failure.code).await? {
                        return Ok(ended);
                    }
                    continue;
                }
            };
            match &judgement.verdict {
                Verdict::Ask | Verdict::Act => {}
                // Who agreed need not agree again because another run was in the way.
                Verdict::Blocked { rule, .. } if rule == "one-at-a-time" => self.asking = None,
                Verdict::Quiet | Verdict::Wait { .. } | Verdict::Blocked { .. } | Verdict::Flapping | Verdict::Would => {
                    (self.asking, self.agreed) = (None, None);
                }
            }
            let ended = match judgement.verdict {
                Verdict::Quiet => {
                    let why = judgement.decided_by().map(|ruled| ruled.why.clone()).unwrap_or_default();
                    Some(Evaluated::Quiet { why })
                }
                Verdict::Wait { until } => self.woken(Some(until)).await?,
                Verdict::Blocked { until: Some(until), .. } => self.woken(Some(until)).await?,
                Verdict::Blocked { until: None, rule } => self.woken_or_again(rule).await?,
                Verdict::Flapping => {
                    self.note(Note::Locked);
                    None
                }
                Verdict::Would => {
                    self.answered("only watched: a failover would have been proposed".to_owned());
                    Some(Evaluated::Watched)
                }
                Verdict::Ask => self.ask(&look).await?,
                Verdict::Act => self.act(&look).await?,
            };
            if let Some(ended) = ended {
                return Ok(ended);
            }
        }
        let run = self.ctx.succeeded_by::<Trigger>(&TriggerInput { policy: self.policy.clone() })?;
        Ok(Evaluated::Continued { run })
    }

    fn note(&self, note: Note) {
        self.ctx.record(TRIGGER_PROJECTION, &TriggerNote { policy: self.policy.clone(), note });
    }

    /// What was said so far is in what is looked at.
    async fn read(&self) -> Result<Option<Look>, Failure> {
        self.ctx.forget_signals(WAKE);
        Ok(self.ctx.call(server_queue(), &LoadEvidence { policy: self.policy.clone() }).await?)
    }

    async fn look(&mut self) -> Result<Option<(Look, Judgement)>, Failure> {
        let Some(look) = self.read().await? else { return Ok(None) };
        if self.version != look.version {
            (self.asking, self.agreed, self.version) = (None, None, look.version);
        }
        let judgement = judge(&look.policy, &look.evidence, self.agreed.is_some());
        self.about = judgement.alerts.iter().map(|alert| alert.id).collect();
        let (version, sha256, wakes) = (look.version, look.sha256.clone(), look.wakes.clone());
        self.note(Note::Looked { version, sha256, wakes, judgement: judgement.clone() });
        Ok(Some((look, judgement)))
    }

    /// Whoever cancels means what fires now, even if nothing was looked at yet: else the next evaluation would begin at once.
    async fn cancelled(&mut self) -> Result<(), Failure> {
        if self.about.is_empty() {
            self.ctx = self.ctx.shielded();
            let Some(look) = self.read().await? else { return Ok(()) };
            self.about = judge(&look.policy, &look.evidence, false).alerts.into_iter().map(|alert| alert.id).collect();
        }
        if !self.about.is_empty() {
            self.answered(format!("the evaluation was cancelled, run {}", self.ctx.run_id()));
        }
        Ok(())
    }

    fn answered(&mut self, answer: String) {
        let alerts = std::mem::take(&mut self.about);
        self.note(Note::Answered { alerts, answer });
    }

    /// Waits until something changes, or until then.
    async fn woken(&self, until: Option<chrono::DateTime<chrono::Utc>>) -> Result<Option<Evaluated>, Failure> {
        let left = until.map_or(LONG, |until| (until - self.ctx.now()).to_std().unwrap_or_default());
        self.heard(left).await?;
        Ok(None)
    }

    /// Waits until something changes, or long enough that it may have changed without a word.
    async fn woken_or_again(&mut self, rule: String) -> Result<Option<Evaluated>, Failure> {
        let pause = if self.blocked.0 == rule { (self.blocked.1 * 2).min(AGAIN_AT_MOST) } else { AGAIN };
        self.blocked = (rule, pause);
        self.heard(pause).await?;
        Ok(None)
    }

    /// Waits for a word, and then for those that come along with it.
    async fn heard(&self, longest: Duration) -> Result<(), Failure> {
        if self.ctx.signal::<Value>(WAKE, longest).await?.is_some() {
            self.ctx.sleep(BREATH).await?;
        }
        Ok(())
    }

    /// Asks people, or goes on asking, until they have answered or something changes.
    async fn ask(&mut self, look: &Look) -> Result<Option<Evaluated>, Failure> {
        let asking = match self.asking.take() {
            Some(asking) => asking,
            None => self.asked(&look.policy),
        };
        let quorum = match race(asking, Box::pin(self.ctx.signal::<Value>(WAKE, LONG))).await {
            First::Left(quorum, _) => quorum?,
            First::Right(woken, asking) => {
                woken?;
                self.asking = Some(asking);
                self.ctx.sleep(BREATH).await?;
                return Ok(None);
            }
        };
        let Quorum { decided, votes } = quorum;
        self.note(Note::Heard { decided, votes: votes.clone() });
        Ok(match decided {
            Decided::Reached => {
                self.agreed = Some(votes.into_iter().map(|vote| vote.by).collect());
                None
            }
            Decided::TimedOut if look.policy.approval.on_silence == Silence::Act => {
                self.agreed = Some(vec![]);
                None
            }
            Decided::TimedOut => {
                self.answered(format!("nobody answered within {}", look.policy.approval.within));
                Some(Evaluated::Unanswered)
            }
            Decided::Refused => {
                let against = votes.into_iter().next_back();
                let (by, reason) = against.map(|vote| (vote.by, vote.body.reason)).unwrap_or_default();
                self.answered(format!("denied by {by}"));
                Some(Evaluated::Denied { by, reason })
            }
        })
    }

    fn asked(&mut self, policy: &TriggerPolicy) -> Asking {
        self.rounds += 1;
        let (ctx, round, approval) = (self.ctx.clone(), self.rounds, policy.approval.clone());
        let until = ctx.now() + approval.within.delta();
        self.note(Note::Asked { round, need: approval.need, by: approval.by.iter().cloned().collect(), until });
        Box::pin(async move {
            let judge = |vote: &Signal<Ballot>| match () {
                () if vote.body.round != round || !approval.by.is_empty() && !approval.by.contains(&vote.by) => Vote::Ignored,
                () if vote.body.approve => Vote::For,
                () => Vote::Against,
            };
            ctx.quorum(APPROVAL, approval.need, approval.within.duration(), judge).await
        })
    }

    /// Starts the failover and stays with it; `None` if somebody else has the item.
    async fn act(&mut self, look: &Look) -> Result<Option<Evaluated>, Failure> {
        let approved_by = self.agreed.clone().unwrap_or_default();
        let input = failover(look, &approved_by);
        let child = match self.ctx.child::<Failover>(item_workflow_id(&look.policy.item), &input, ClosePolicy::Cancel).await {
            Ok(child) => child,
            Err(ChildError::AlreadyOpen(_)) => {
                return self.woken_or_again("one-at-a-time".to_owned()).await;
            }
            Err(other) => return Err(other.into()),
        };
        self.answered(format!("failover run {}", child.run()));
        let run = child.run();
        let problem = match self.stayed(&child).await {
            Ok(()) => None,
            Err(ChildError::Left) => return Err(sdk::Cancelled.into()),
            Err(other) => Some(Failure::from(other)),
        };
        Ok(Some(Evaluated::Started { run, approved_by, problem }))
    }

    /// Until the failover has ended; a kill switch that is turned on meanwhile is handed on to it, once.
    async fn stayed(&self, child: &Child<Failover>) -> Result<(), ChildError> {
        let mut ended = Box::pin(child.ended());
        let (mut told, mut until_next) = (false, LONG);
        loop {
            ended = match race(ended, Box::pin(self.ctx.signal::<Value>(WAKE, until_next))).await {
                First::Left(result, _) => return result.map(drop),
                First::Right(_, ended) => ended,
            };
            if self.ctx.cancelled() {
                return ended.await.map(drop);
            }
            let Ok(Some(look)) = self.read().await else {
                until_next = AGAIN; // what was to be seen is not told once more
                continue;
            };
            until_next = LONG;
            let switch = look.evidence.kill_switch(&self.policy).filter(|_| !told);
            if let Some(KillSwitch { by, reason, .. }) = switch {
                child.cancel(&format!("{by} turned the kill switch on: {reason}"));
                told = true;
            }
            self.note(Note::Noted { wakes: look.wakes.clone(), switch: switch.cloned() });
        }
    }
}

fn failover(look: &Look, approved_by: &[String]) -> FailoverInput {
    let policy = &look.policy;
    let who = match approved_by {
        [] => format!("trigger policy {} version {}", policy.name, look.version),
        people => format!("trigger policy {} version {}, approved by {}", policy.name, look.version, people.join(", ")),
    };
    FailoverInput {
        part: Part::default(),
        shut_down_ms: None,
        item: policy.item.clone(),
        choice: policy.failover.point,
        accept_unfenced: policy.failover.accept_unfenced.clone().map(|reason| Acceptance { by: who, reason }),
        fence_timeout_ms: policy.failover.fence_timeout.ms(),
    }
}
