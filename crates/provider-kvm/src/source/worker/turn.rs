//! When a loop's next turn is: at its own interval, at a common moment of its group, or when it is told something new.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use provider::Replicate;
use recovery::Generation;

use super::{Control, Shared};
use crate::source::record::Ended;

/// How often a member of a group looks whether the next common moment was brought forward.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Shared {
    /// Says to the others of its group whether they may wait for this loop.
    pub(super) fn take_seat(&self, wanted: &Replicate) {
        let seeded = self.lock().record.last_point.is_some();
        let why = (!seeded).then(|| "its first copy is under way".to_owned());
        self.tools.groups.take_seat(&wanted.item, wanted.group.as_ref(), why);
    }

    /// Waits until the next point, or the next moment of its group, which others may bring forward.
    pub(super) fn until_next(&self, wanted: &Replicate, begun: Instant, asked: Option<Generation>) {
        let interval = Duration::from_secs(wanted.policy.interval_s().into());
        loop {
            let own = interval.saturating_sub(begun.elapsed());
            let left = wanted.group.as_ref().map_or(own, |group| own.min(self.tools.groups.due_in(group)));
            if left.is_zero() || !self.lock().nothing_new(wanted, None, asked) {
                return;
            }
            self.wait(if wanted.group.is_some() { left.min(LOOK_AGAIN) } else { left }, wanted, None, asked);
        }
    }

    /// Waits, unless there is something new to do.
    pub(super) fn wait(&self, pause: Duration, wanted: &Replicate, ended: Option<Ended>, asked: Option<Generation>) {
        let control = self.lock();
        let nothing_new = |c: &mut Control| c.nothing_new(wanted, ended, asked);
        drop(self.changed.wait_timeout_while(control, pause, nothing_new).unwrap_or_else(PoisonError::into_inner));
    }
}
