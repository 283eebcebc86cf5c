//! Where the loops of a group's members meet, and what this site remembers of the group.
//!
//! ```text
//!   loop of db1 ──meet──┐
//!   loop of db2 ──meet──┼─▶ all there: a `Round` ─▶ acknowledged by each target ─▶ common
//!   loop of db3 ── off ─┘   one can't come, or does not within PATIENCE: nobody waits on, each takes its own point
//! ```
//!
//! Invariants: 1. Nobody waits for a member that is known to be unable, and for no other longer than [`PATIENCE`]. 2. Members whose
//! definitions of the group differ do not meet. 3. A moment's name is given once: it has the site, this writer, a count and the time.
//! 4. What is remembered lies in a synced file before the first point of a moment is sent.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use provider::{ProviderError, group::{GroupLog, KeptMoments, NewMoment}};
use recovery::{Consistency, Group, GroupMoment, GroupName, GroupStatus, ItemName};

use super::round::Round;
use crate::{
    durable::{self, failed},
    guard::Guard,
};

/// Longest wait for the others: a few points of a quiet machine. Who is still sending then comes to the next moment.
const PATIENCE: Duration = Duration::from_secs(5);

/// A member's loop.
#[derive(Debug)]
struct Seat {
    group: Group,
    /// Why it can't come now.
    unable: Option<String>,
}

#[derive(Debug)]
struct Meeting {
    log: GroupLog,
    seats: BTreeMap<ItemName, Seat>,
    /// Of those who wait for the others.
    gathering: Option<Arc<Round>>,
}

/// All groups with members that are replicated from here.
#[derive(Debug)]
pub(crate) struct Groups {
    dir: PathBuf,
    site: String,
    guard: Arc<Guard>,
    meetings: Mutex<BTreeMap<GroupName, Meeting>>,
    count: AtomicU64,
}

impl Meeting {
    /// Why the members can't meet, if so.
    fn unable(&self, group: &Group) -> Option<String> {
        group.members().iter().find_map(|item| match self.seats.get(item) {
            None => Some(format!("{item} is not replicated from here as a member of the group")),
            Some(seat) if seat.group != *group => Some(format!("{item} knows another definition of the group")),
            Some(seat) => seat.unable.as_ref().map(|why| format!("{item}: {why}")),
        })
    }

    /// Sends everybody home who waits.
    fn give_up(&mut self, why: &str) {
        if let Some(round) = self.gathering.take() {
            round.give_up(why);
            self.log.failed(why.to_owned(), Utc::now());
        }
    }
}

impl Groups {
    pub(crate) fn open(dir: PathBuf, site: &str, guard: Arc<Guard>) -> Result<Self, ProviderError> {
        durable::make_dir(&dir).map_err(failed("make directory", &dir))?;
        Ok(Self { dir, site: site.to_owned(), guard, meetings: Mutex::default(), count: AtomicU64::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<GroupName, Meeting>> {
        self.meetings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says in which group an item's loop is, and why it can't come to a common moment, if so.
    pub(super) fn sit(&self, item: &ItemName, group: Option<&Group>, unable: Option<String>) {
        let mut meetings = self.lock();
        for (_, meeting) in meetings.iter_mut().filter(|(name, _)| group.map(Group::name) != Some(*name)) {
            if meeting.seats.remove(item).is_some() {
                meeting.give_up(&format!("{item} has left the group"));
            }
        }
        let Some(group) = group else { return };
        let meeting = meetings.entry(group.name().clone()).or_insert_with(|| Meeting {
            log: self.read(group),
            seats: BTreeMap::new(),
            gathering: None,
        });
        if let Some(why) = &unable {
            meeting.give_up(&format!("{item}: {why}"));
        }
        let able = unable.is_none();
        let before = meeting.seats.insert(item.clone(), Seat { group: group.clone(), unable });
        if meeting.seats.values().all(|seat| seat.group == *group) {
            meeting.log.redefine(group);
        }
        let came = able && before.is_none_or(|seat| seat.unable.is_some() || seat.group != *group);
        if came && meeting.unable(group).is_none() {
            meeting.log.try_again();
        }
    }

    /// As [`Groups::sit`], for a loop that begins or was told of another group: whether one that was there can come stays as it was.
    pub(super) fn take_seat(&self, item: &ItemName, group: Option<&Group>, unable: Option<String>) {
        let seated = group.is_some_and(|group| {
            let meetings = self.lock();
            meetings.get(group.name()).and_then(|meeting| meeting.seats.get(item)).is_some_and(|seat| seat.group == *group)
        });
        if !seated {
            self.sit(item, group, unable);
        }
    }

    /// The item's loop has ended, or rests.
    pub(super) fn rise(&self, item: &ItemName) {
        for meeting in self.lock().values_mut() {
            if meeting.seats.remove(item).is_some() {
                meeting.give_up(&format!("the loop of {item} has ended"));
            }
        }
    }

    /// How long until the loops are to meet.
    pub(super) fn due_in(&self, group: &Group) -> Duration {
        self.lock().get(group.name()).map_or(Duration::ZERO, |meeting| meeting.log.due_in(Utc::now()))
    }

    /// Waits for the other members, if a moment is due and they can come. Without a round the point is taken alone.
    pub(super) fn meet(&self, item: &ItemName, group: &Group) -> Option<Arc<Round>> {
        self.sit(item, Some(group), None);
        let round = self.come(item, group)?;
        let Err(why) = round.gathered(PATIENCE) else { return Some(round) };
        let mut meetings = self.lock();
        let meeting = meetings.get_mut(group.name())?;
        if meeting.gathering.take_if(|gathering| Arc::ptr_eq(gathering, &round)).is_some() {
            tracing::info!(group = %group.name(), why, "no common moment");
            meeting.log.failed(why, Utc::now());
        }
        None
    }

    fn come(&self, item: &ItemName, group: &Group) -> Option<Arc<Round>> {
        let now = Utc::now();
        let mut meetings = self.lock();
        let meeting = meetings.get_mut(group.name())?;
        if !meeting.log.due_in(now).is_zero() {
            return None;
        }
        if let Some(why) = meeting.unable(group) {
            tracing::info!(group = %group.name(), why, "no common moment");
            meeting.give_up(&why);
            meeting.log.failed(why, now);
            return None;
        }
        let app_due = meeting.log.app_due(now);
        let round = meeting.gathering.get_or_insert_with(|| Arc::new(Round::new(group.clone(), app_due))).clone();
        match round.arrive(item) {
            Ok(false) => {}
            Ok(true) => meeting.gathering = None,
            Err(_too_late) => {
                meeting.gathering = None;
                return None;
            }
        }
        Some(round)
    }

    /// A round has come to a moment; all its members are given the same.
    pub(super) fn taken(&self, round: &Round, consistency: Consistency) -> Option<GroupMoment> {
        let mut meetings = self.lock();
        let meeting = meetings.get_mut(round.group().name())?;
        round.named(|taken_at, pause, not_app| {
            let count = self.count.fetch_add(1, Ordering::SeqCst);
            let moment = format!("{}-w{}.{count}-{}", self.site, self.guard.writer(), taken_at.timestamp_millis());
            let pause_ms = u32::try_from(pause.as_millis()).unwrap_or(u32::MAX);
            let new = NewMoment { moment, taken_at, consistency, pause_ms };
            let moment = meeting.log.taken(new, round.app_due(), not_app);
            tracing::info!(group = %moment.group, moment = moment.moment, pause_ms, ?consistency, "a common moment");
            self.store(&meeting.log);
            moment
        })
    }

    /// A round has come to no moment.
    pub(super) fn failed(&self, round: &Round, why: &str) {
        if let Some(meeting) = self.lock().get_mut(round.group().name()).filter(|_| round.first_to_tell()) {
            tracing::warn!(group = %round.group().name(), why, "no common moment");
            meeting.log.failed(why.to_owned(), Utc::now());
        }
    }

    /// A member's target has the point of a moment.
    pub(super) fn acknowledged(&self, item: &ItemName, at: &GroupMoment) {
        let mut meetings = self.lock();
        let Some(meeting) = meetings.get_mut(&at.group) else { return };
        if meeting.log.acknowledged(item, &at.moment) {
            self.store(&meeting.log);
        }
    }

    /// What a target is to be told of the moments.
    pub(super) fn kept(&self, group: Option<&Group>) -> Option<KeptMoments> {
        let name = group?.name();
        self.lock().get(name).map(|meeting| meeting.log.kept())
    }

    /// How the group goes.
    pub(super) fn status(&self, group: &Group) -> GroupStatus {
        let known = self.lock().get(group.name()).map(|meeting| meeting.log.status());
        known.unwrap_or_else(|| GroupLog::new(group.clone()).status())
    }

    fn path(&self, group: &GroupName) -> PathBuf {
        self.dir.join(format!("{group}.json"))
    }

    /// What is remembered. What can't be read is forgotten: then only moments to come are common.
    fn read(&self, group: &Group) -> GroupLog {
        let path = self.path(group.name());
        match read(&path) {
            Ok(Some(log)) => log,
            Ok(None) => GroupLog::new(group.clone()),
            Err(error) => {
                tracing::error!(group = %group.name(), path = %path.display(), %error, "the moments of the group are not known any more");
                GroupLog::new(group.clone())
            }
        }
    }

    /// If it fails, earlier moments are kept after a restart, and the next one is remembered again.
    fn store(&self, log: &GroupLog) {
        let path = self.path(log.group().name());
        let written = self.guard.still_writer().and_then(|()| {
            let json = serde_json::to_vec(log).map_err(|e| failed("write", &path)(e.into()))?;
            durable::write(&path, &json).map_err(failed("write", &path))
        });
        if let Err(error) = written {
            tracing::warn!(group = %log.group().name(), %error, "a moment of the group could not be remembered");
        }
    }
}

fn read(path: &Path) -> Result<Option<GroupLog>, String> {
    let content = match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|e| e.to_string())?,
    };
    let log: GroupLog = serde_json::from_slice(&content).map_err(|e| e.to_string())?;
    if log.known_version() { Ok(Some(log)) } else { Err("a newer build has written it".to_owned()) }
}
