//! Simulated common moments: what each member's machine holds at one instant of the world.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use recovery::{Consistency, Group, GroupMoment, GroupName, ItemName, SiteName};

use super::{
    SimWorld, Step,
    replication::refused_by_target,
    state::{SimLoop, SiteState, State},
    stream::{self, Ending, Said},
};
use crate::{
    Phase, PowerState, ReplicationStatus,
    group::{GroupLog, NewMoment},
};

/// No machine of a simulated world takes any time to be paused.
const PAUSE_MS: u32 = 1;

/// What a group's try at a common moment came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Together {
    /// The moment, or why there is none.
    pub moment: Result<GroupMoment, String>,
    /// What each member's own step came to; none if there was no moment.
    pub steps: Vec<(ItemName, Step)>,
}

impl SiteState {
    /// How replication of an item goes from here, and its group.
    pub(super) fn status(&self, item: &ItemName) -> Option<ReplicationStatus> {
        let l = self.loops.get(item)?;
        let group = l.wanted.group.as_ref().filter(|_| !l.ended()).map(|group| match self.groups.get(group.name()) {
            Some(log) => log.status(),
            None => GroupLog::new(group.clone()).status(),
        });
        Some(ReplicationStatus { group, ..l.status.clone() })
    }

    /// The loops here that go on and know a group of that name.
    fn seats<'a>(&'a self, group: &'a GroupName) -> impl Iterator<Item = (&'a ItemName, &'a SimLoop, &'a Group)> {
        let of = move |l: &'a SimLoop| l.wanted.group.as_ref().filter(|known| known.name() == group && !l.ended());
        self.loops.iter().filter_map(move |(item, l)| Some((item, l, of(l)?)))
    }

    /// Why the members can't stand still together, if so.
    fn unable(&self, group: &Group) -> Option<String> {
        group.members().iter().find_map(|item| {
            let Some((_, l, known)) = self.seats(group.name()).find(|(seated, ..)| *seated == item) else {
                return Some(format!("{item} is not replicated from here as a member of the group"));
            };
            if known != group {
                return Some(format!("{item} knows another definition of the group"));
            }
            match (self.machines.get(&l.wanted.machine).map(|m| m.power), l.status.phase) {
                (Some(PowerState::Running), _) if l.booted_at.is_some() => Some(format!("{item} waits for its target's word after its host has booted")),
                (Some(PowerState::Running), Phase::Replicating | Phase::Paused | Phase::Broken) => None,
                (Some(PowerState::Running), Phase::Seeding) => Some(format!("the first copy of {item} is under way")),
                (Some(PowerState::Running), phase) => Some(format!("{item} is {phase:?}")),
                (Some(PowerState::Paused), _) => Some(format!("the machine of {item} is paused")),
                (Some(PowerState::Off) | None, _) => Some(format!("the machine of {item} is off")),
            }
        })
    }
}

impl SimWorld {
    /// Groups whose next moment is due at the site that any of their members is replicated from.
    pub(super) fn due_groups(&self) -> BTreeSet<GroupName> {
        let now = self.now();
        let state = self.lock();
        let of_site = |site: &SiteState| -> Vec<GroupName> {
            let known = site.loops.values().filter(|l| !l.ended()).filter_map(|l| l.wanted.group.as_ref());
            let due = known.filter(|group| site.groups.get(group.name()).is_none_or(|log| log.due_in(now).is_zero()));
            due.map(|group| group.name().clone()).collect()
        };
        state.sites.values().filter(|site| !site.down).flat_map(of_site).collect()
    }

    /// Lets a group try a common moment now, whether or not it is due.
    pub fn take_moment(&self, group: &GroupName) -> Together {
        let now = self.now();
        let mut state = self.lock();
        let here = |site: &&SiteName| !state.sites[*site].down && state.sites[*site].seats(group).next().is_some();
        let sites: Vec<SiteName> = state.sites.keys().filter(here).cloned().collect();
        let mut last = Together { moment: Err("no site replicates a member of the group".to_owned()), steps: vec![] };
        for site in sites {
            last = together(&mut state, &site, group, now);
        }
        state.note_networks(now);
        last
    }
}

/// Machines of a site can stand still together; whoever is elsewhere keeps the others from it.
fn together(state: &mut State, here: &SiteName, name: &GroupName, now: DateTime<Utc>) -> Together {
    let number = state.moments + 1;
    let site = state.sites.entry(here.clone()).or_default();
    let told: Vec<Group> = site.seats(name).map(|(_, _, group)| group.clone()).collect();
    let Some(group) = told.first().cloned() else { return Together { moment: Err("nobody is here".to_owned()), steps: vec![] } };
    let log = site.groups.entry(name.clone()).or_insert_with(|| GroupLog::new(group.clone()));
    log.redefine(&group);
    let app_due = log.app_due(now);
    let mut why = site.unable(&group);
    let members: Vec<_> = site.seats(name).map(|(item, l, _)| (item.clone(), l.wanted.clone())).collect();
    let deaf = members.iter().find(|(_, wanted)| app_due && site.guest(&wanted.machine).refuses_freeze).map(|(item, _)| item.clone());
    for (item, wanted) in &members {
        // Who can't be reached would make a moment that is not common.
        if why.is_none() && stream::greet(state, here, wanted).is_err() {
            why = Some(format!("{item} does not reach its target"));
        }
    }
    let site = state.sites.entry(here.clone()).or_default();
    let log = site.groups.entry(name.clone()).or_insert_with(|| GroupLog::new(group));
    if let Some(why) = why {
        log.failed(why.clone(), now);
        return Together { moment: Err(why), steps: vec![] };
    }
    let consistency = if app_due && deaf.is_none() { Consistency::App } else { Consistency::Crash };
    let not_app = deaf.map(|item| format!("{item}: the guest refused to freeze its file systems"));
    let new = NewMoment { moment: format!("{here}-{number}"), taken_at: now, consistency, pause_ms: PAUSE_MS };
    let moment = log.taken(new, app_due, not_app);
    state.moments = number;
    let mut steps = vec![];
    for (item, wanted) in members {
        let said = Said { consistency, group: Some(moment.clone()) };
        let appended = match stream::greet(state, here, &wanted) {
            Ok(welcome) => stream::append(state, here, &wanted, &welcome, said, Ending::GoesOn, now),
            Err(refusal) => Err(refusal),
        };
        let step = match appended {
            Ok(id) => Step::Point(id),
            Err(refusal) => refused_by_target(state, here, &item, refusal),
        };
        let site = state.sites.entry(here.clone()).or_default();
        if let (Step::Point(_), Some(log)) = (&step, site.groups.get_mut(name)) {
            log.acknowledged(&item, &moment.moment);
        }
        if let Some(l) = site.loops.get_mut(&item) {
            l.record(&step, now);
        }
        steps.push((item, step));
    }
    Together { moment: Ok(moment), steps }
}
