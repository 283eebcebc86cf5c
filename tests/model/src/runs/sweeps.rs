//! What anybody does for everybody: due timers are fired, locks are granted, messages are sent; and the world outside, which takes tokens.

use super::{
    Broken, DOUBLE_FIRE, Runs, STALE_CALL, State, UNFAIR,
    base::{Base, Epochs, Key, Lock, Msg, Nr, Row, Waits},
    script::Script,
    turn::Went,
};

const NONE: Row = Row::Message { epochs: [0, 0] };

/// Work of a session that is no turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sweep {
    /// Timers that are locked; `half` when the first of two transactions is behind it.
    Fire { timers: Vec<Key>, half: bool },
    /// Runs whose requests are locked, the oldest first, and what was granted.
    Grant { left: Vec<Nr>, granted: Vec<Nr>, unfair: bool },
    Send { run: Nr, message: Msg },
}

/// A call to the world outside, which may arrive long after it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Call {
    pub(super) run: Nr,
    pub(super) epochs: Epochs,
}

/// The epoch of a grant, and which in order it was: nobody in the protocol knows the second.
pub(super) fn grant(packed: u8) -> (u8, u8) {
    (packed & 15, packed >> 4)
}

impl Runs {
    /// Due timers that nobody else has locked.
    pub(super) fn begin_fire(base: &mut Base, me: usize) -> Option<Sweep> {
        let due: Vec<Key> = base.rows.iter().filter(|(_, row)| **row == Row::Timer { due: true }).map(|(key, _)| *key).collect();
        let timers: Vec<Key> = due.into_iter().filter(|key| base.lock(me, *key, Lock::Update).is_ok()).collect();
        (!timers.is_empty()).then_some(Sweep::Fire { timers, half: false })
    }

    /// Requests of which no resource is held, and that nobody else has locked.
    pub(super) fn begin_grant(&self, base: &mut Base, me: usize) -> Option<Sweep> {
        let held = |wants: u8| (0..2).any(|resource| wants >> resource & 1 == 1 && matches!(base.rows.get(&Key::Lock(resource)), Some(Row::Lock { holder: Some(_), .. })));
        let mut free: Vec<(u8, Nr)> = base.rows.iter().filter_map(|(key, row)| match (key, row) {
            (Key::Request(run), Row::Request { place, wants, .. }) if !held(*wants) => Some((*place, *run)),
            _ => None,
        }).collect();
        free.sort_unstable();
        if self.breaks(Broken::NewestFirst) {
            free.reverse();
        }
        let left: Vec<Nr> = free.into_iter().map(|(_, run)| run).filter(|run| base.lock(me, Key::Request(*run), Lock::Update).is_ok()).collect();
        (!left.is_empty()).then_some(Sweep::Grant { left, granted: vec![], unfair: false })
    }

    pub(super) fn begin_send(&self, base: &mut Base, me: usize, run: Nr, message: Msg) -> Result<Option<Sweep>, Waits> {
        let row = if self.breaks(Broken::SendLooks) { base.read(me, Key::Run(run)) } else { base.lock(me, Key::Run(run), Lock::Share)? };
        Ok(matches!(row, Some(Row::Run { open: true, .. })).then_some(Sweep::Send { run, message }))
    }

    /// The next statement of a sweep. `Through` commits it.
    pub(super) fn sweep(&self, base: &mut Base, me: usize, sweep: &mut Sweep) -> Went {
        match sweep {
            Sweep::Fire { timers, half } => {
                let inserts = if *half { self.breaks(Broken::FireInTwo) } else { !self.breaks(Broken::FireInTwo) };
                let deletes = if *half { self.breaks(Broken::FireInsertsFirst) } else { !self.breaks(Broken::FireInsertsFirst) };
                for key in timers.iter() {
                    let Key::Timer(run, seq) = *key else { continue };
                    if deletes && let Err(waits) = base.delete(me, *key) {
                        return waits.into();
                    }
                    if inserts && let Err(waits) = base.insert(me, Key::Inbox(run, Msg::Due(seq)), NONE) {
                        return waits.into();
                    }
                }
                let in_two = self.breaks(Broken::FireInTwo) || self.breaks(Broken::FireInsertsFirst);
                if in_two && !std::mem::replace(half, true) { Went::On } else { Went::Through }
            }
            Sweep::Grant { left, granted, unfair } => {
                let before = granted.len();
                let went = self.grant_next(base, me, left, granted).unwrap_or_else(Went::from);
                *unfair |= granted.len() > before && Self::passed_over(base, me, left, granted[before]);
                went
            }
            Sweep::Send { run, message } => match base.insert(me, Key::Inbox(*run, *message), NONE) {
                Ok(_) => Went::Through,
                Err(waits) => waits.into(),
            },
        }
    }

    /// Locks the next row of all that its requests want, in the order of their names; or grants the oldest request, if what it wants is
    /// still free.
    fn grant_next(&self, base: &mut Base, me: usize, left: &mut Vec<Nr>, granted: &mut Vec<Nr>) -> Result<Went, Waits> {
        let run = left[0];
        let Some(Row::Request { seq, wants, .. }) = base.read(me, Key::Request(run)) else { return Ok(Went::Through) };
        let of = |wants: u8| (0..2).filter(move |resource| wants >> resource & 1 == 1).map(Key::Lock);
        let wanted: Vec<Key> = of(wants).collect();
        let checked = !self.breaks(Broken::GrantUnchecked);
        let all = left.iter().fold(0, |all, run| if let Some(Row::Request { wants, .. }) = base.read(me, Key::Request(*run)) { all | wants } else { all });
        let first: Vec<Key> = if self.breaks(Broken::RowsByRequest) { wanted.clone() } else { of(all).collect() };
        if let Some(next) = first.iter().find(|key| !base.open[me].holds(**key, Lock::Update)) {
            base.insert(me, *next, Row::Lock { epoch: 0, holder: None })?;
            base.lock(me, *next, Lock::Update)?;
            if first.iter().any(|key| !base.open[me].holds(*key, Lock::Update)) {
                return Ok(Went::On);
            }
        }
        let is_held = wanted.iter().any(|key| matches!(base.read(me, *key), Some(Row::Lock { holder: Some(_), .. })));
        if !(checked && is_held) {
            let mut epochs = [0, 0];
            for key in &wanted {
                let (Key::Lock(resource), Some(Row::Lock { epoch, .. })) = (*key, base.read(me, *key)) else { continue };
                let next = if self.breaks(Broken::EpochKept) { epoch.max(1) } else { epoch + 1 };
                epochs[usize::from(resource)] = next;
                base.put(me, *key, Some(Row::Lock { epoch: next, holder: Some(run) }), Lock::Update);
            }
            base.delete(me, Key::Request(run))?;
            base.insert(me, Key::Inbox(run, Msg::Granted(seq)), Row::Message { epochs })?;
            granted.push(run);
        }
        left.remove(0);
        Ok(if left.is_empty() { Went::Through } else { Went::On })
    }

    /// Whether an older request that is locked as well had wanted what was granted, and could have had all it wants.
    fn passed_over(base: &Base, me: usize, left: &[Nr], granted: Nr) -> bool {
        let asked = |run: Nr| match base.rows.get(&Key::Request(run)) {
            Some(Row::Request { place, wants, .. }) => Some((*place, *wants)),
            _ => None,
        };
        let others = |wants: u8| (0..2).any(|resource| wants >> resource & 1 == 1 && matches!(base.read(me, Key::Lock(resource)), Some(Row::Lock { holder: Some(holder), .. }) if holder != granted));
        let Some((place, wants)) = asked(granted) else { return false };
        left.iter().filter_map(|run| asked(*run)).any(|(older, wanted)| older < place && wanted & wants != 0 && !others(wanted))
    }

    /// What only the model knows, when a sweep has committed: who fired, and which grant was which.
    pub(super) fn swept(state: &mut State, sweep: &Sweep) {
        match sweep {
            Sweep::Fire { timers, .. } => {
                for key in timers {
                    if state.fired.contains(key) {
                        state.bad |= DOUBLE_FIRE;
                    }
                    state.fired.push(*key);
                }
                state.fired.sort_unstable();
            }
            Sweep::Grant { granted, unfair, .. } => {
                state.bad |= if *unfair { UNFAIR } else { 0 };
                for run in granted {
                    let messages = state.base.rows.iter_mut().filter(|(key, _)| matches!(key, Key::Inbox(to, Msg::Granted(_)) if to == run));
                    for (_, row) in messages {
                        let Row::Message { epochs } = row else { continue };
                        for (epoch, count) in epochs.iter_mut().zip(&mut state.granted).filter(|(epoch, _)| **epoch > 0 && **epoch < 16) {
                            *count += 1;
                            *epoch |= *count << 4;
                        }
                    }
                }
            }
            Sweep::Send { .. } => {}
        }
    }

    /// A call arrives: refused if a newer grant was shown before. Its result is a message, if the run is still there.
    pub(super) fn arrive(&self, state: &mut State, place: usize) -> Option<()> {
        let call = state.calls[place];
        let run = state.base.rows.get(&Key::Run(call.run)).copied();
        if state.base.barred(None, Key::Run(call.run), Lock::Share).is_some() {
            return None;
        }
        state.calls.remove(place);
        let old = (0..2).any(|resource| grant(call.epochs[resource]).0 < state.bar[resource] && call.epochs[resource] > 0);
        let stale = (0..2).any(|resource| grant(call.epochs[resource]).1 < state.applied[resource] && call.epochs[resource] > 0);
        if old && !self.breaks(Broken::OutsideUnchecked) {
            // Nobody has shown a newer one: whoever refuses this one refuses the holder.
            if !stale {
                state.bad |= STALE_CALL;
            }
            return Some(());
        }
        if stale {
            state.bad |= STALE_CALL;
        }
        for resource in 0..2 {
            let (epoch, ordinal) = grant(call.epochs[resource]);
            state.bar[resource] = state.bar[resource].max(epoch);
            state.applied[resource] = state.applied[resource].max(ordinal);
        }
        let heard = self.history(state, call.run).iter().any(|kind| matches!(kind, super::base::Kind::Heard(Msg::Word) | super::base::Kind::LocksFreed));
        if matches!(run, Some(Row::Run { open: true, .. })) && !heard {
            state.base.rows.entry(Key::Inbox(call.run, Msg::Word)).or_insert(NONE);
        }
        Some(())
    }

    /// The timers or locks of the scripts: statements about what none of them has are left out.
    pub(super) fn timers(&self) -> bool {
        self.scripts.iter().any(|script| matches!(script, Script::Race | Script::FirstEnds))
    }

    pub(super) fn locks(&self) -> bool {
        self.scripts.iter().any(|script| matches!(script, Script::Holds { .. }))
    }

    pub(super) fn kin(&self) -> bool {
        self.scripts.iter().any(|script| matches!(script, Script::Parent { .. }))
    }
}
