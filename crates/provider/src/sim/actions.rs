//! Simulated actions of plans, and what was done of them, by key.
//!
//! ```text
//!   carry_out, run_program ─▶ planned fault or hook, Before ─▶ site's ledger of actions ─▶ planned fault or hook, After ─▶ answer
//! ```
//!
//! Invariant: `calls` counts what reached the outside, whatever came of it: what may be done at most once is judged by that.

use async_trait::async_trait;
use recovery::{Generation, ItemName, SiteName, plan::action::Repeats, readiness::ActionsReport};

use super::{Effect, Entry, Moment, Op, SimSite, SimWorld};
use crate::{ActionError, Actions, Done, GuestProgram, GuestRun, Guests, Link, Order, PowerState, ProviderError, Said, Wanted, Whose};

/// Which action.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActionKey {
    /// Whose agent did it.
    pub site: SiteName,
    /// Of the step: `RUN/GROUP/ITEM/STEP`.
    pub key: String,
    /// http, ssh, guest, command or dns.
    pub kind: String,
    /// Which time the plan asked for it.
    pub attempt: u32,
}

/// What is known of one action.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActionEntry {
    /// How often.
    pub counts: Entry,
    /// It may be done again without harm.
    pub repeatable: bool,
    /// In words.
    pub what: String,
}

/// The agent of a simulated site, beside its machines.
#[derive(Debug, Clone)]
pub struct SimActions {
    site: SimSite,
}

impl SimWorld {
    /// What the agent of a site does beside its machines.
    #[must_use]
    pub fn actions(&self, site: &SiteName) -> SimActions {
        SimActions { site: self.site(site) }
    }

    /// What was done of the actions of plans, by key.
    #[must_use]
    pub fn actions_done(&self) -> Vec<(ActionKey, ActionEntry)> {
        self.lock().actions.iter().map(|(key, entry)| (key.clone(), entry.clone())).collect()
    }

    /// Actions that may be done at most once and were called more often.
    #[must_use]
    pub fn actions_done_twice(&self) -> Vec<ActionKey> {
        let twice = |(key, entry): (ActionKey, ActionEntry)| (!entry.repeatable && entry.counts.calls > 1).then_some(key);
        self.actions_done().into_iter().filter_map(twice).collect()
    }

    /// Lets the agent of a site have these commands and secrets, as far as it reports.
    pub fn set_actions(&self, site: &SiteName, actions: ActionsReport) {
        self.with_site(site, |s| s.actions = actions);
    }

    /// Makes the steps of that name fail, the next `times` ones or all (`None`): they are done, and say that it did not work.
    pub fn fail_step(&self, step: &str, times: Option<u32>) {
        self.lock().failing.insert(step.to_owned(), times);
    }

    /// Writes down that it was done. `false`: it is one that is to fail.
    fn note_action(&self, key: ActionKey, repeatable: bool, what: String) -> bool {
        let mut state = self.lock();
        let step = key.key.rsplit('/').next().unwrap_or_default().to_owned();
        let fails = match state.failing.get_mut(&step) {
            Some(None) => true,
            Some(Some(0)) | None => false,
            Some(Some(left)) => {
                *left -= 1;
                true
            }
        };
        let entry = state.actions.entry(key).or_default();
        (entry.repeatable, entry.what) = (repeatable, what);
        entry.counts.calls += 1;
        match (fails, repeatable && entry.counts.applied > 0) {
            (true, _) => entry.counts.refused += 1,
            (false, true) => entry.counts.repeats += 1,
            (false, false) => entry.counts.applied += 1,
        }
        !fails
    }
}

#[async_trait]
impl Actions for SimActions {
    async fn carry_out(&self, order: Order, _: &dyn Wanted) -> Result<Done, ActionError> {
        let site = &self.site;
        let effect = |moment| Effect { site: site.name.clone(), op: Op::CarryOut, item: order.context.item.clone(), token: None, moment };
        site.pass(effect(Moment::Before)).await.map_err(|error| ActionError::Unreachable { target: site.name.to_string(), detail: error.to_string() })?;
        let (action, context) = (&order.action, &order.context);
        let key = ActionKey { site: site.name.clone(), key: context.key(), kind: action.kind().to_owned(), attempt: context.attempt };
        let worked = site.world.note_action(key, action.repeats() == Repeats::Harmless, action.to_string());
        let lost = |error: ProviderError| ActionError::Unknown { detail: error.to_string(), said: Said::default() };
        site.pass(effect(Moment::After)).await.map_err(lost)?;
        if worked {
            return Ok(Done { evidence: format!("{action}: done at the simulated site {}", site.name), status: Some(0), said: Said::default() });
        }
        Err(ActionError::Failed { detail: format!("{action}: it is told to fail"), status: Some(1), said: Said::default() })
    }

    fn report(&self) -> ActionsReport {
        self.site.world.with_site(&self.site.name, |site| site.actions.clone())
    }
}

#[async_trait]
impl Guests for SimSite {
    async fn run_program(&self, item: &ItemName, generation: Generation, whose: Whose, program: &GuestProgram) -> Result<GuestRun, ProviderError> {
        let effect = |moment| Effect { site: self.name.clone(), op: Op::RunProgram, item: Some(item.clone()), token: None, moment };
        self.pass(effect(Moment::Before)).await?;
        self.runs(item, generation, whose)?;
        let attempt = program.environment.iter().find(|(name, _)| name == "SWITCHBACK_ATTEMPT").and_then(|(_, value)| value.parse().ok());
        let key = ActionKey { site: self.name.clone(), key: program.key.clone(), kind: "guest".to_owned(), attempt: attempt.unwrap_or(1) };
        let worked = self.world.note_action(key, program.repeatable, format!("{} in the guest of {item}", program.program));
        self.pass(effect(Moment::After)).await?;
        Ok(GuestRun { exit: i32::from(!worked), said: Said::default() })
    }

    async fn reach_copy(&self, item: &ItemName, generation: Generation, _: &str, _: u16) -> Result<Link, ProviderError> {
        self.pass(Effect { site: self.name.clone(), op: Op::ReachCopy, item: Some(item.clone()), token: None, moment: Moment::Before }).await?;
        self.runs(item, generation, Whose::Copy)?;
        Ok(Link { stream: None, hangs_on: None })
    }
}

impl SimSite {
    /// Whether that machine of the item is there, runs and answers.
    fn runs(&self, item: &ItemName, generation: Generation, whose: Whose) -> Result<(), ProviderError> {
        self.world.with_site(&self.name, |site| {
            let not_recovered = || ProviderError::NotRecovered { item: item.clone(), generation };
            let (name, running) = match whose {
                Whose::Recovered => {
                    let recovered = site.recovered.get(&(item.clone(), generation)).filter(|r| r.started.is_some()).ok_or_else(not_recovered)?;
                    (recovered.name.clone(), site.made(item, generation).is_some_and(|m| m.power == PowerState::Running))
                }
                Whose::Copy => {
                    let copy = site.copies.get(item).filter(|copy| copy.generation == generation).ok_or_else(not_recovered)?;
                    (copy.name.clone(), site.machines.get(&copy.name).is_some_and(|m| m.is_copy() && m.power == PowerState::Running))
                }
            };
            match (running, site.guest(&name).silent) {
                (true, false) => Ok(()),
                (false, _) => Err(ProviderError::NotServing { machine: name, detail: "it does not run".to_owned() }),
                (true, true) => Err(ProviderError::NotServing { machine: name, detail: "its agent does not answer".to_owned() }),
            }
        })
    }
}
