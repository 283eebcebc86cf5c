//! The world that all simulated sites share, and the hand that moves it.

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
    site::Done,
    state::{Address, SimMachine, SiteState, State},
};
use crate::{Disk, Machine, PowerState, ProviderError};

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

    /// The site of that name, made if it is new.
    #[must_use]
    pub fn site(&self, name: &SiteName) -> SimSite {
        self.lock().sites.entry(name.clone()).or_default();
        SimSite { world: self.clone(), name: name.clone() }
    }

    /// Puts a running machine with empty disks, each `(target, capacity in bytes, format)`, at a site.
    pub fn add_machine(&self, site: &SiteName, name: &str, disks: &[(&str, u64, &str)]) {
        let disks = disks.iter().map(|(target, capacity_bytes, format)| Disk {
            target: (*target).to_owned(),
            path: format!("/{site}/{name}.{target}"),
            format: (*format).to_owned(),
            capacity_bytes: *capacity_bytes,
        });
        let mut disks: Vec<Disk> = disks.collect();
        disks.sort_by(|a, b| a.target.cmp(&b.target));
        let hex: String = name.bytes().chain(std::iter::repeat(0)).take(6).map(|b| format!("{b:02x}")).collect();
        let machine = SimMachine {
            uuid: format!("00000000-0000-4000-8000-{hex}"),
            power: PowerState::Running,
            autostart: true,
            disks,
            blocks: Default::default(),
            dirty: Default::default(),
            mark: None,
        };
        self.with_site(site, |s| s.machines.insert(name.to_owned(), machine));
    }

    /// Writes as the software in a source machine does. Returns whether the machine ran and has the block.
    pub fn write(&self, site: &SiteName, machine: &str, target: &str, block: u64, content: u64) -> bool {
        let address: Address = (target.to_owned(), block);
        self.with_site(site, |s| match s.machines.get_mut(machine) {
            Some(m) if m.power == PowerState::Running && m.has(&address) => {
                m.blocks.insert(address.clone(), content);
                m.dirty.insert(address);
                true
            }
            Some(_) | None => false,
        })
    }

    /// Writes as the software in a recovered machine does. Returns whether it ran.
    pub fn write_recovered(&self, site: &SiteName, item: &ItemName, target: &str, block: u64, content: u64) -> bool {
        let address: Address = (target.to_owned(), block);
        self.with_site(site, |s| match s.recovered.get_mut(item) {
            Some(r) if r.power == PowerState::Running => {
                r.blocks.insert(address.clone(), content);
                r.written.insert(address);
                true
            }
            Some(_) | None => false,
        })
    }

    /// What a recovered machine's disk holds; `None` if there is no such machine.
    #[must_use]
    pub fn read_recovered(&self, site: &SiteName, item: &ItemName, target: &str, block: u64) -> Option<u64> {
        let address: Address = (target.to_owned(), block);
        self.with_site(site, |s| s.recovered.get(item).map(|r| r.blocks.get(&address).copied().unwrap_or(0)))
    }

    /// Describes a machine as it is now, whether it can be protected or not.
    #[must_use]
    pub fn machine(&self, site: &SiteName, name: &str) -> Option<Machine> {
        self.with_site(site, |s| s.machines.get(name).map(|m| m.describe(name)))
    }

    /// Ends a source machine as a power failure does: the record of changes is lost.
    pub fn power_failure(&self, site: &SiteName, machine: &str) {
        self.with_site(site, |s| {
            if let Some(m) = s.machines.get_mut(machine) {
                m.power = PowerState::Off;
                m.mark = None;
                m.dirty.clear();
            }
        });
    }

    /// Starts a source machine, as a person at its site does.
    pub fn power_on(&self, site: &SiteName, machine: &str) {
        self.with_site(site, |s| {
            if let Some(m) = s.machines.get_mut(machine) {
                m.power = PowerState::Running;
            }
        });
    }

    /// Takes a whole site away, or brings it back: its ports are unreachable, its machines stop as by a power failure.
    pub fn set_down(&self, site: &SiteName, down: bool) {
        let machines: Vec<String> = self.with_site(site, |s| {
            s.down = down;
            s.machines.keys().cloned().collect()
        });
        if down {
            machines.iter().for_each(|m| self.power_failure(site, m));
        }
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
        f(self.lock().sites.entry(site.clone()).or_default())
    }

    /// Applies an effect and writes it into the ledger.
    pub(super) fn change<T>(
        &self,
        site: &SiteName,
        key: EffectKey,
        apply: impl FnOnce(&mut SiteState, DateTime<Utc>) -> Result<Done<T>, ProviderError>,
    ) -> Result<T, ProviderError> {
        let now = self.now();
        let mut state = self.lock();
        let applied = apply(state.sites.entry(site.clone()).or_default(), now);
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
