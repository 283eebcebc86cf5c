//! Actions of plans: what is a machine's goes to the site, the rest to what the agent does beside it.
//!
//! ```text
//!   guest ─▶ Guests::run_program          http, command, dns ─▶ Actions::carry_out
//!   check ─▶ the copy's network in tests, else the prober       ssh ─▶ the same, in tests over a link into the copy's network
//! ```
//!
//! Invariant: in a test nothing touches production unless the order says that it is meant for tests; whoever ordered it has been asked
//! the same, and is not believed.

use std::sync::Arc;

use async_trait::async_trait;
use engine::{ActivityRegistry, Fault, Job, Perform};
use provider::{ActionError, Actions, Done, GuestProgram, Order, ProviderError, Said, Site, Wanted, Whose};
use recovery::{
    Check, Generation, ItemName,
    plan::{
        Mode,
        action::{ActionContext, Guest, Performed, Reach, Ssh, reach},
    },
};
use sdk::Failure;
use serde_json::json;
use workflows::declared as d;

use crate::{Prober, fault::{fault, not_yet}};

type Answer = Result<d::ActionResult, Fault<d::SiteError>>;

/// How much of what a failed action has said stands in its error; the whole is in the agent's log.
const LAST_WORDS: usize = 2_000;

/// Adds the actions of plans to what a site can do.
#[must_use]
pub fn with_actions(registry: ActivityRegistry, site: Arc<dyn Site>, prober: Arc<dyn Prober>, actions: Arc<dyn Actions>) -> ActivityRegistry {
    let here = Beside { site, prober, actions };
    registry.with::<d::CarryOut, _>(here.clone()).with::<d::CarryOutOnce, _>(here)
}

#[derive(Clone)]
struct Beside {
    site: Arc<dyn Site>,
    prober: Arc<dyn Prober>,
    actions: Arc<dyn Actions>,
}

#[async_trait]
impl Perform<d::CarryOut> for Beside {
    async fn perform(&self, job: &Job, input: d::CarryOut) -> Answer {
        let d::CarryOut { action, context, machine, meant_for_tests } = input;
        self.carry_out(job, action, context, machine, meant_for_tests).await
    }
}

/// In doubt it is never done again: there is no probe.
#[async_trait]
impl Perform<d::CarryOutOnce> for Beside {
    async fn perform(&self, job: &Job, input: d::CarryOutOnce) -> Answer {
        let d::CarryOutOnce { action, context, machine, meant_for_tests } = input;
        self.carry_out(job, action, context, machine, meant_for_tests).await
    }
}

impl Beside {
    async fn carry_out(&self, job: &Job, action: Performed, context: ActionContext, machine: Option<Generation>, meant_for_tests: bool) -> Answer {
        allowed(&action, &context, meant_for_tests)?;
        match action {
            Performed::Guest(guest) => self.in_guest(&guest, &context, machine).await,
            Performed::Check(wait) => self.ask(&wait.check, &context, machine).await,
            Performed::Ssh(ref ssh) => {
                let link = match (confined(&action, &context), &context.item) {
                    (true, Some(item)) => Some(self.link(ssh, item, generation(machine, item)?).await?),
                    _ => None,
                };
                self.outside(job, Order { action, context, link }).await
            }
            Performed::Http(_) | Performed::Command(_) | Performed::Dns(_) => self.outside(job, Order { action, context, link: None }).await,
        }
    }

    async fn outside(&self, job: &Job, order: Order) -> Answer {
        let what = order.action.to_string();
        match self.actions.carry_out(order, &OfJob { job, what: &what }).await {
            Ok(done) => Ok(result(done)),
            Err(error) => Err(told(error)),
        }
    }

    async fn in_guest(&self, guest: &Guest, context: &ActionContext, machine: Option<Generation>) -> Answer {
        let generation = generation(machine, &guest.item)?;
        let whose = if context.mode == Mode::Test { Whose::Copy } else { Whose::Recovered };
        let program = GuestProgram {
            key: context.key(),
            program: guest.program.clone(),
            arguments: guest.arguments.clone(),
            input: guest.input.clone(),
            environment: context.environment().into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            repeatable: guest.repeatable,
            within: guest.within.duration(),
            most_output: d::MOST_OUTPUT,
        };
        let run = self.site.run_program(&guest.item, generation, whose, &program).await.map_err(|error| fault(&error))?;
        let evidence = format!("{} in the guest of {} exits with {}", guest.program, guest.item, run.exit);
        if run.exit == 0 {
            return Ok(result(Done { evidence, status: Some(0), said: run.said }));
        }
        Err(told(ActionError::Failed { detail: evidence, status: Some(run.exit), said: run.said }))
    }

    async fn ask(&self, check: &Check, context: &ActionContext, machine: Option<Generation>) -> Answer {
        let asked = match (context.mode, &context.item) {
            (Mode::Test, Some(item)) => self.site.check_test(item, generation(machine, item)?, std::slice::from_ref(check)).await,
            _ => match (check, &context.item) {
                (Check::Guest { program, arguments }, Some(item)) => self.site.run_in_guest(item, generation(machine, item)?, program, arguments).await,
                (Check::Guest { .. }, None) => return Err(refused("no-machine", format!("{check} belongs to no item"), "let the check belong to the item whose guest is meant")),
                _ => {
                    let answered = self.prober.ask(check).await;
                    answered.map_err(|detail| ProviderError::NotServing { machine: context.site.to_string(), detail })
                }
            },
        };
        match asked {
            Ok(evidence) => Ok(result(Done { evidence, status: None, said: Said::default() })),
            Err(ProviderError::NotServing { detail, .. }) => Err(not_yet("not-serving", format!("{check} does not hold: {detail}"))),
            Err(other) => Err(fault(&other)),
        }
    }

    async fn link(&self, ssh: &Ssh, item: &ItemName, generation: Generation) -> Result<provider::Link, Fault<d::SiteError>> {
        self.site.reach_copy(item, generation, &ssh.host, ssh.port).await.map_err(|error| fault(&error))
    }
}

/// Whether an action stays in the network of a copy.
fn confined(action: &Performed, context: &ActionContext) -> bool {
    reach(action, context.mode, context.item.as_ref()) == Reach::Copy
}

fn allowed(action: &Performed, context: &ActionContext, meant_for_tests: bool) -> Result<(), Fault<d::SiteError>> {
    if let Err(why) = action.check() {
        return Err(refused("invalid-action", why.to_string(), "correct the plan"));
    }
    if let Err(why) = context.check() {
        return Err(refused("invalid-action", why.to_string(), "correct the names in the plan"));
    }
    if context.mode == Mode::Test && !confined(action, context) && !meant_for_tests {
        let message = format!("{action} can't be confined to a copy and is not done in a test");
        return Err(refused("not-confined", message, "say `on: [test, …]` for this action if it is meant for tests"));
    }
    Ok(())
}

fn generation(machine: Option<Generation>, item: &ItemName) -> Result<Generation, Fault<d::SiteError>> {
    let none = || refused("no-machine", format!("there is no machine of {item} that was recovered"), "order it behind the recovery of the item");
    machine.ok_or_else(none)
}

fn refused(code: &str, message: String, advice: &str) -> Fault<d::SiteError> {
    Fault::App(d::SiteError { code: code.to_owned(), message, advice: advice.to_owned(), standing: None })
}

fn result(done: Done) -> d::ActionResult {
    d::ActionResult { evidence: done.evidence, status: done.status, truncated: done.said.left_out() > 0, output: done.said.text() }
}

/// What an error means for the engine: may it be tried again, and may it have happened.
fn told(error: ActionError) -> Fault<d::SiteError> {
    let code = code(&error);
    match error {
        ActionError::NotConfigured { detail, advice } | ActionError::Refused { detail, advice } => refused(code, detail, &advice),
        ActionError::Failed { detail, said, .. } => {
            let words = said.last_words(LAST_WORDS);
            let message = if words.is_empty() { detail } else { format!("{detail}; it said: {words}") };
            refused(code, message, "look at what it was to do; then let the plan try it again, skip it, or stop")
        }
        ActionError::Unreachable { .. } => Fault::Other(Failure::retryable(code, error.to_string()).not_applied()),
        ActionError::NotNow { detail } => Fault::Other(Failure::retryable(code, detail)),
        ActionError::Unknown { detail, said } => {
            let words = said.last_words(LAST_WORDS);
            let message = if words.is_empty() { detail } else { format!("{detail}; it said: {words}") };
            Fault::Other(Failure::retryable(code, message))
        }
        ActionError::Stopped => Fault::Other(Failure::fatal(code, error.to_string())),
    }
}

fn code(error: &ActionError) -> &'static str {
    match error {
        ActionError::NotConfigured { .. } => "action-not-configured",
        ActionError::Refused { .. } => "action-refused",
        ActionError::Unreachable { .. } => "action-unreachable",
        ActionError::Failed { .. } => "action-failed",
        ActionError::NotNow { .. } => "action-not-now",
        ActionError::Unknown { .. } => "action-outcome-unknown",
        ActionError::Stopped => "action-stopped",
    }
}

struct OfJob<'a> {
    job: &'a Job,
    what: &'a str,
}

#[async_trait]
impl Wanted for OfJob<'_> {
    async fn still(&self) -> bool {
        self.job.progress(json!({ "waiting_for": self.what })).await
    }
}
