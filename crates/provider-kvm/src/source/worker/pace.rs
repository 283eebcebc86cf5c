//! How one copy reports how far it is, keeps its rate, learns that it should stop, and holds its guest.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};
use provider::{Phase, Progress, ProgressSink, Replicate};
use recovery::Consistency;

use super::Shared;
use crate::{
    source::freeze::Held,
    stream::{Limiter, Line, StreamError},
};

/// How often somebody is told how far a copy is.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// Who is told how far a copy is, and when that was done last.
pub(super) type Told = (Arc<dyn ProgressSink>, Mutex<Option<Instant>>);

/// How a copy reports, keeps its rate and learns that it should stop.
pub(in crate::source) struct Pace<'a> {
    pub(super) shared: &'a Shared,
    pub(super) limiter: Mutex<Limiter>,
    /// Of a copy that is made while the thread rests.
    pub(super) sink: Option<Told>,
}

impl Pace<'_> {
    /// A line was opened; it can be hung up from outside.
    pub(in crate::source) fn opened(&self, line: &Line) -> Result<(), StreamError> {
        *self.shared.socket.lock().unwrap_or_else(PoisonError::into_inner) = Some(line.socket()?);
        self.done(0)
    }

    pub(in crate::source) fn phase(&self, phase: Phase) {
        let mut control = self.shared.lock();
        if control.record.ended.is_none() {
            control.status.phase = phase;
        }
    }

    /// Whether this point is to be app-consistent: the next one would come too late.
    pub(in crate::source) fn app_due(&self, wanted: &Replicate) -> bool {
        let Some(every_s) = wanted.policy.app_consistent_interval_s() else { return false };
        let control = self.shared.lock();
        let taken = control.record.last_app_point.map(|(_, taken_at)| taken_at);
        let within = TimeDelta::seconds(i64::from(every_s) - i64::from(wanted.policy.interval_s()));
        taken.max(control.app_failed_at).is_none_or(|last| Utc::now() - last > within)
    }

    /// Lets the guest go, if it is held. Returns what the point that was begun meanwhile is.
    pub(in crate::source) fn let_go(&self, held: Option<Result<Held, String>>) -> Consistency {
        let Some(held) = held else { return Consistency::Crash };
        let Err(why) = held.and_then(Held::let_go) else { return Consistency::App };
        let mut control = self.shared.lock();
        tracing::warn!(item = %control.record.wanted.item, why, "no app-consistent point; a crash-consistent one is taken");
        (control.app_failed_at, control.status.app_error) = (Some(Utc::now()), Some(why));
        Consistency::Crash
    }

    pub(in crate::source) fn begin(&self, bytes_total: u64) {
        let mut control = self.shared.lock();
        (control.status.bytes_done, control.status.bytes_total) = (0, bytes_total);
    }

    /// So much of the work is done.
    pub(in crate::source) fn done(&self, bytes: u64) -> Result<(), StreamError> {
        let mut control = self.shared.lock();
        control.status.bytes_done += bytes;
        let Some((sink, told_at)) = &self.sink else {
            return if control.leave || control.record.ended.is_some() { Err(StreamError::Stopped) } else { Ok(()) };
        };
        let progress = Progress { bytes_done: control.status.bytes_done, bytes_total: control.status.bytes_total };
        drop(control);
        let mut told_at = told_at.lock().unwrap_or_else(PoisonError::into_inner);
        if told_at.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            return Ok(());
        }
        *told_at = Some(Instant::now());
        if sink.report(progress).is_break() { Err(StreamError::Stopped) } else { Ok(()) }
    }

    /// So much went over the line; waits as the policy's bandwidth demands.
    pub(in crate::source) fn sent(&self, bytes: u64) -> Result<(), StreamError> {
        let pause = self.limiter.lock().unwrap_or_else(PoisonError::into_inner).sent(bytes, Instant::now());
        if pause > Duration::from_millis(5) && self.sink.is_some() {
            thread::sleep(pause);
        } else if pause > Duration::from_millis(5) {
            let (wanted, asked) = {
                let control = self.shared.lock();
                (control.record.wanted.clone(), control.record.requested.as_ref().map(|requested| requested.by))
            };
            self.shared.wait(pause, &wanted, None, asked);
        }
        self.done(0)
    }
}
