//! The agent that does what the run asks for, the world outside, which takes tokens, and the front, which takes requests.
//!
//! Invariants: 1. No effect begins before its attempt is noted. 2. An attempt in doubt is asked about first, and the question raises the bar.
//! 3. What was accepted is noted when it was answered.

use super::{
    Broken, REFUSED, State, TWICE, Tail, WENT_ON,
    db::{EffectNote, Msg, Run, Token, Way},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Doing {
    Claimed,
    /// Noted; the effect is next, or the question.
    Noted,
    Asked,
    /// Done, and to be told.
    Done,
    /// The result was accepted, and is to be noted.
    Told,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    way: Way,
    token: Token,
    /// By which server it was given.
    server: u8,
    in_doubt: bool,
    doing: Doing,
}

impl Attempt {
    fn is_before_effect(self) -> bool {
        self.doing == if self.in_doubt { Doing::Asked } else { Doing::Noted }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Agent {
    pub(super) attempt: Option<Attempt>,
    /// One that hangs before its effect, and that nobody waits for.
    pub(super) late: Option<Attempt>,
    /// On its disk.
    pub(super) notes: Vec<EffectNote>,
}

/// What the outside has done, and the greatest token that it was shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Outside {
    bar: Token,
    done: [u8; 2],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Asked {
    #[default]
    No,
    /// Committed by this server, and the answer is on its way.
    Stored(u8),
    /// Noted.
    Told,
}

/// Takes requests: whoever had no answer asks again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Front {
    pub(super) run: Asked,
    pub(super) signal: Asked,
}

impl Front {
    pub(super) fn is_idle(&self) -> bool {
        self.run == Asked::Told && !matches!(self.signal, Asked::Stored(_))
    }
}

impl Tail {
    pub(super) fn accept_run(&self, state: &mut State) -> Option<()> {
        if state.front.run != Asked::No || !self.is_known(state) {
            return None;
        }
        if state.db.run.is_none() {
            state.db.run = Some(Run::default());
            state.db.add(Msg::Start);
        }
        state.front.run = Asked::Stored(state.server);
        Some(())
    }

    pub(super) fn accept_signal(&self, state: &mut State) -> Option<()> {
        if !self.signal || state.front.signal != Asked::No || !self.is_known(state) || !state.db.is_open() {
            return None;
        }
        state.db.add(Msg::Signal);
        state.front.signal = Asked::Stored(state.server);
        Some(())
    }

    /// Whoever asked is told, and that is noted; what comes late is no answer, and is asked for again.
    pub(super) fn tell_front(&self, state: &mut State) -> Option<()> {
        let front = self.front();
        let late = [state.front.run, state.front.signal].map(|asked| matches!(asked, Asked::Stored(server) if self.comes_late(state, front, server)));
        let both = [&mut state.front.run, &mut state.front.signal];
        let (asked, late) = both.into_iter().zip(late).find(|(asked, _)| matches!(asked, Asked::Stored(_)))?;
        *asked = if late { Asked::No } else { Asked::Told };
        Some(())
    }

    /// A task whose attempt nobody is at is free again, and in doubt.
    pub(super) fn time_out(&self, state: &mut State) -> Option<()> {
        if !self.is_known(state) {
            return None;
        }
        let task = state.db.task.as_mut().filter(|task| task.claimed)?;
        let at_it = state.agent.attempt.is_some_and(|attempt| attempt.token[1..] == [task.seq, task.run_epoch, task.attempt]);
        (task.claimed, task.in_doubt) = (false, true);
        if at_it {
            state.faults.timeouts = state.faults.timeouts.checked_sub(1)?;
        }
        Some(())
    }

    /// What it was at before may still have its effect.
    pub(super) fn claim_task(&self, state: &mut State) -> Option<()> {
        if !self.is_known(state) || state.db.held && !self.breaks(Broken::HeldTasksClaimed) {
            return None;
        }
        let testified = state.db.testified[usize::from(self.agent())] == Some(state.server);
        if !testified && !self.breaks(Broken::UntestifiedClaims) && !self.breaks(Broken::ServerUnasked) && !self.breaks(Broken::EraFirst) {
            return None;
        }
        let lacks = self.lacks(state);
        let era = state.db.era;
        let task = state.db.task.as_mut().filter(|task| !task.claimed)?;
        if let Some(before) = state.agent.attempt.take_if(|before| before.is_before_effect()) {
            state.agent.late = Some(before);
        }
        (task.claimed, task.attempt) = (true, task.attempt + 1);
        let token = [era, task.seq, task.run_epoch, task.attempt];
        state.agent.attempt = Some(Attempt { way: task.way, token, server: state.server, in_doubt: task.in_doubt, doing: Doing::Claimed });
        state.bad |= if lacks { WENT_ON } else { 0 };
        Some(())
    }

    pub(super) fn note(&self, state: &mut State) -> Option<()> {
        let late = self.breaks(Broken::NotedLate);
        let Attempt { way, token, server, doing, .. } = state.agent.attempt?;
        if doing == Doing::Claimed && self.comes_late(state, self.agent(), server) {
            // Nobody would be told of it: it does not begin.
            state.agent.attempt = None;
            return Some(());
        }
        let attempt = state.agent.attempt.as_mut()?;
        let note = EffectNote { way, token, accepted: false };
        let noted = state.agent.notes.iter().any(|other| other.token == token);
        if attempt.doing == Doing::Claimed {
            attempt.doing = Doing::Noted;
        } else if noted || !late || attempt.doing != Doing::Done {
            return None;
        }
        if !late || attempt.doing == Doing::Done {
            state.agent.notes.push(note);
            state.agent.notes.sort_unstable();
        }
        Some(())
    }

    /// Whether the outside takes this token.
    fn shown(outside: &mut Outside, token: Token) -> bool {
        let taken = token >= outside.bar;
        outside.bar = outside.bar.max(token);
        taken
    }

    /// Asks whether it was done before.
    pub(super) fn probe(&self, state: &mut State) -> Option<()> {
        let attempt = state.agent.attempt.as_mut().filter(|attempt| attempt.in_doubt && attempt.doing == Doing::Noted)?;
        if !self.breaks(Broken::ProbeShowsNothing) && !Self::shown(&mut state.outside, attempt.token) {
            Self::refused(state);
            return Some(());
        }
        let done = state.outside.done[usize::from(attempt.way)] > 0;
        attempt.doing = if done { Doing::Done } else { Doing::Asked };
        Some(())
    }

    pub(super) fn effect(state: &mut State) -> Option<()> {
        let attempt = state.agent.attempt.as_mut().filter(|attempt| attempt.is_before_effect())?;
        if Self::happens(&mut state.outside, &mut state.bad, *attempt) {
            attempt.doing = Doing::Done;
        } else {
            Self::refused(state);
        }
        Some(())
    }

    /// It stops. An old attempt must be refused, the one that the store waits for never.
    fn refused(state: &mut State) {
        let Some(Attempt { token, .. }) = state.agent.attempt.take() else { return };
        let newest = state.db.task.is_some_and(|task| task.claimed && [state.db.era, task.seq, task.run_epoch, task.attempt] == token);
        state.bad |= if newest && state.db.known == state.server { REFUSED } else { 0 };
    }

    pub(super) fn late_effect(state: &mut State) -> Option<()> {
        let late = state.agent.late.take()?;
        Self::happens(&mut state.outside, &mut state.bad, late);
        Some(())
    }

    fn happens(outside: &mut Outside, bad: &mut u16, attempt: Attempt) -> bool {
        let taken = Self::shown(outside, attempt.token);
        if taken {
            let done = &mut outside.done[usize::from(attempt.way)];
            *done += 1;
            *bad |= if *done > 1 { TWICE } else { 0 };
        }
        taken
    }

    /// Accepted if the task is there with its attempt; else it came too late, and the agent stops.
    pub(super) fn complete(&self, state: &mut State) -> Option<()> {
        let attempt = state.agent.attempt.as_mut().filter(|attempt| attempt.doing == Doing::Done)?;
        if state.db.known != state.server && !self.breaks(Broken::ServerUnasked) {
            return None;
        }
        if self.breaks(Broken::NotedLate) && !state.agent.notes.iter().any(|note| note.token == attempt.token) {
            return None;
        }
        let [_, seq, run_epoch, number] = attempt.token;
        if state.db.task.is_some_and(|task| (task.seq, task.run_epoch, task.attempt) == (seq, run_epoch, number)) {
            state.db.task = None;
            state.db.add(Msg::Finished);
            attempt.doing = Doing::Told;
        } else {
            state.agent.attempt = None;
        }
        Some(())
    }

    pub(super) fn note_outcome(state: &mut State) -> Option<()> {
        let attempt = state.agent.attempt.take_if(|attempt| attempt.doing == Doing::Told)?;
        state.agent.notes.iter_mut().filter(|note| note.token == attempt.token).for_each(|note| note.accepted = true);
        Some(())
    }

    pub(super) fn crash_agent(state: &mut State) -> Option<()> {
        if state.agent.attempt.take().is_none() & state.agent.late.take().is_none() {
            return None;
        }
        state.faults.crashes = state.faults.crashes.checked_sub(1)?;
        Some(())
    }
}
