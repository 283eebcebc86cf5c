//! The world that all simulated sites share: its clock, its faults, its ledger.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use recovery::{ItemName, SiteName};

use super::{
    Clock, Effect, Ledger, Moment, Op, SimSite, Verdict,
    effect::Planned,
    ledger::EffectKey,
    network::PoweredOn,
    site::Done,
    state::{SiteState, State},
};
use crate::ProviderError;

type Hook = Arc<dyn Fn(&Effect) -> Verdict + Send + Sync>;

/// A world of simulated sites. Clones are the same world.
#[derive(Clone)]
pub struct SimWorld {
    clock: Clock,
    state: Arc<Mutex<State>>,
    hook: Arc<Mutex<Option<Hook>>>,
}

impl fmt::Debug for SimWorld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimWorld").field("clock", &self.clock).finish_non_exhaustive()
    }
}

impl SimWorld {
    /// An empty world with this clock.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, state: Arc::default(), hook: Arc::default() }
    }

    /// Another world that is as this one is now, with a clock of its own; from here on each goes its own way. Nobody's hook goes along.
    #[must_use]
    pub fn fork(&self, clock: Clock) -> Self {
        Self { clock, state: Arc::new(Mutex::new(self.lock().clone())), hook: Arc::default() }
    }

    /// The site of that name, made if it is new.
    #[must_use]
    pub fn site(&self, name: &SiteName) -> SimSite {
        self.lock().sites.entry(name.clone()).or_default();
        SimSite { world: self.clone(), name: name.clone() }
    }

    /// Makes calls of `op` at `site` fail or hang, the next `times` ones or all (`None`).
    pub fn plan_fault(&self, site: &SiteName, op: Op, moment: Moment, verdict: Verdict, times: Option<u32>) {
        self.lock().planned.push(Planned { site: site.clone(), op, moment, verdict, times_left: times });
    }

    /// Makes calls of `op` at `site` do their work and lose the answer, the next `times` ones or all (`None`).
    pub fn lose_answer(&self, site: &SiteName, op: Op, times: Option<u32>) {
        let error = ProviderError::AnswerLost {
            operation: op.to_string(),
            target: site.to_string(),
            detail: "the line broke".to_owned(),
        };
        self.plan_fault(site, op, Moment::After, Verdict::Fail(error), times);
    }

    /// Forgets all planned faults.
    pub fn clear_faults(&self) {
        self.lock().planned.clear();
    }

    /// Asks `hook` before and after every effect, and before every question. It may use the world. `None` takes it away.
    pub fn on_effect(&self, hook: Option<Hook>) {
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = hook;
    }

    /// Cuts the item's next append in its middle.
    pub fn tear_next_append(&self, item: &ItemName) {
        self.lock().torn.insert(item.clone());
    }

    /// Lets the item's next append become a point of which its source does not hear.
    pub fn lose_next_acknowledgement(&self, item: &ItemName) {
        self.lock().unanswered.insert(item.clone());
    }

    /// Cuts the line between two sites, or mends it.
    pub fn cut_line(&self, one: &SiteName, other: &SiteName, cut: bool) {
        let line = State::line(one, other);
        let mut state = self.lock();
        if cut {
            state.cut.insert(line);
        } else {
            state.cut.remove(&line);
        }
    }

    /// Which machines were powered on to which networks, at every time at which that changed.
    #[must_use]
    pub fn network_log(&self) -> Vec<PoweredOn> {
        self.lock().network.changes.clone()
    }

    /// Notes no more which machines are on which networks: with thousands of them that takes most of the time.
    pub fn forget_networks(&self) {
        self.lock().network.off = true;
    }

    /// What was done so far.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.lock().ledger.clone()
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn with_site<T>(&self, site: &SiteName, f: impl FnOnce(&mut SiteState) -> T) -> T {
        let now = self.now();
        let mut state = self.lock();
        let answer = f(state.sites.entry(site.clone()).or_default());
        state.note_networks(now);
        answer
    }

    /// Applies an effect and writes it into the ledger.
    pub(super) fn change<T>(
        &self,
        key: EffectKey,
        apply: impl FnOnce(&mut State, DateTime<Utc>) -> Result<Done<T>, ProviderError>,
    ) -> Result<T, ProviderError> {
        let now = self.now();
        let mut state = self.lock();
        let applied = apply(&mut state, now);
        state.note_networks(now);
        let entry = state.ledger.entry(key);
        entry.calls += 1;
        match applied {
            Ok(Done { answer, changed: true }) => {
                entry.applied += 1;
                Ok(answer)
            }
            Ok(Done { answer, changed: false }) => {
                entry.repeats += 1;
                Ok(answer)
            }
            Err(error) => {
                entry.refused += 1;
                Err(error)
            }
        }
    }

    /// What becomes of a call at this moment: the site's state first, then the plan, then the hook.
    pub(super) fn judge(&self, effect: &Effect) -> Verdict {
        if let Some(verdict) = self.planned_for(effect) {
            return verdict;
        }
        let hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner).clone();
        hook.map_or(Verdict::Proceed, |hook| hook(effect))
    }

    fn planned_for(&self, effect: &Effect) -> Option<Verdict> {
        let mut state = self.lock();
        if state.sites.get(&effect.site).is_some_and(|s| s.down) {
            let site = effect.site.to_string();
            return Some(Verdict::Fail(match effect.moment {
                Moment::Before => ProviderError::Unreachable { site, detail: "the site is down".to_owned() },
                Moment::After => ProviderError::AnswerLost {
                    operation: effect.op.to_string(),
                    target: site,
                    detail: "the site went down".to_owned(),
                },
            }));
        }
        let hit = |p: &Planned| p.site == effect.site && p.op == effect.op && p.moment == effect.moment;
        let position = state.planned.iter().position(hit)?;
        let planned = &mut state.planned[position];
        let verdict = planned.verdict.clone();
        if let Some(left) = &mut planned.times_left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                state.planned.remove(position);
            }
        }
        Some(verdict)
    }
}
