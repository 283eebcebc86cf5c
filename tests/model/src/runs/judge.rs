//! What must hold in each state, of what is committed.

use super::{
    DOUBLE_FIRE, HISTORY, KIN_UNHEARD, LEFT_OVER, LOST_TIMER, DROPPED_FIRES, NOT_OWNER, Runs, STALE_CALL, State, TWO_HOLDERS, UNFAIR,
    base::{Key, Kind, Msg, Nr, Row},
};

pub(super) const INVARIANTS: [(u16, &str); 10] = [
    (HISTORY, "turns are whole, and histories are what their code gives"),
    (NOT_OWNER, "only a run's owner writes its events, under a lease that holds"),
    (LEFT_OVER, "of an ended run nothing is left"),
    (DOUBLE_FIRE, "a timer fires once"),
    (LOST_TIMER, "a timer waits, or its message does, until it is heard or dropped"),
    (DROPPED_FIRES, "a timer that was dropped does not fire"),
    (TWO_HOLDERS, "a resource has one holder, and who was told so is the one"),
    (UNFAIR, "of two requests that could be granted the older one is"),
    (STALE_CALL, "no effect under an old grant is accepted, none under the newest refused"),
    (KIN_UNHEARD, "relatives hear of starts, words and ends, once each"),
];

impl Runs {
    /// The committed history of a run.
    pub(super) fn history(&self, state: &State, run: Nr) -> Vec<Kind> {
        let of = state.base.rows.range(Key::Event(run, 0)..=Key::Event(run, Nr::MAX));
        of.filter_map(|(_, row)| if let Row::Event { kind, .. } = row { Some(*kind) } else { None }).collect()
    }

    pub(super) fn judge(&self, state: &mut State) {
        let mut bad = 0;
        let histories: Vec<Vec<Kind>> = (0..self.runs()).map(|run| self.history(state, run)).collect();
        let open = |run: Nr| matches!(state.base.rows.get(&Key::Run(run)), Some(Row::Run { open: true, .. }));
        let waits = |run: Nr, message: Msg| state.base.rows.contains_key(&Key::Inbox(run, message));
        for (run, history) in (0..).zip(&histories) {
            bad |= self.judge_history(state, run, history);
            if self.timers() && open(run) {
                for (seq, _) in (0..).zip(history).filter(|(_, kind)| **kind == Kind::TimerStarted) {
                    let dropped = history.contains(&Kind::TimerCancelled(seq));
                    let heard = history.contains(&Kind::Heard(Msg::Due(seq)));
                    let kept = state.base.rows.contains_key(&Key::Timer(run, seq)) || waits(run, Msg::Due(seq));
                    bad |= if !dropped && !heard && !kept { LOST_TIMER } else { 0 };
                    bad |= if dropped && (heard || kept && self.most > 1) { DROPPED_FIRES } else { 0 };
                }
            }
        }
        for (key, row) in &state.base.rows {
            let of = match (key, row) {
                (Key::Inbox(run, _) | Key::Timer(run, _) | Key::Request(run), _) => Some(*run),
                (_, Row::Lock { holder, .. }) => *holder,
                _ => None,
            };
            bad |= if of.is_some_and(|run| !open(run)) { LEFT_OVER } else { 0 };
        }
        if self.locks() {
            bad |= self.judge_locks(state, &histories);
        }
        if self.kin() {
            bad |= self.judge_kin(state, &histories);
        }
        state.bad |= bad;
    }

    fn judge_history(&self, state: &State, run: Nr, history: &[Kind]) -> u16 {
        let script = self.scripts[usize::from(run)];
        let rows: Vec<[u8; 4]> = (0_u8..).zip(history).filter_map(|(seq, _)| match state.base.rows.get(&Key::Event(run, seq)) {
            Some(Row::Event { nonce, .. }) => Some(*nonce),
            _ => None,
        }).collect();
        let whole = |nonce: &[u8; 4]| rows.iter().filter(|other| *other == nonce).count() == usize::from(nonce[3]);
        let once = (0..history.len()).all(|at| !matches!(history[at], Kind::Heard(_)) || !history[..at].contains(&history[at]));
        let closed = !matches!(state.base.rows.get(&Key::Run(run)), Some(Row::Run { open: true, .. }) | None);
        let right = rows.len() == history.len() && rows.iter().all(whole) && once && script.gives(history) && closed == history.contains(&Kind::Ended);
        if right { 0 } else { HISTORY }
    }

    /// Who was told that it has a lock has it, and nobody else.
    fn judge_locks(&self, state: &State, histories: &[Vec<Kind>]) -> u16 {
        for (run, history) in (0..).zip(histories) {
            let told = history.iter().any(|kind| matches!(kind, Kind::Heard(Msg::Granted(_)))) || state.base.rows.keys().any(|key| matches!(key, Key::Inbox(to, Msg::Granted(_)) if *to == run));
            let over = history.contains(&Kind::LocksFreed) || history.contains(&Kind::Ended);
            let wants = history.iter().find_map(|kind| if let Kind::LocksAsked(wants) = kind { Some(*wants) } else { None });
            let Some(wants) = wants.filter(|_| told && !over) else { continue };
            let has = |resource: u8| matches!(state.base.rows.get(&Key::Lock(resource)), Some(Row::Lock { holder: Some(holder), .. }) if *holder == run);
            if (0..2).any(|resource| wants >> resource & 1 == 1 && !has(resource)) {
                return TWO_HOLDERS;
            }
        }
        0
    }

    /// Whoever is still there hears it; the parent is run 0, its child run 1.
    fn judge_kin(&self, state: &State, histories: &[Vec<Kind>]) -> u16 {
        let row = |run: Nr| state.base.rows.get(&Key::Run(run)).copied();
        let open = |run: Nr| matches!(row(run), Some(Row::Run { open: true, .. }));
        let hears = |run: Nr, message: Msg| state.base.rows.contains_key(&Key::Inbox(run, message)) || histories[usize::from(run)].contains(&Kind::Heard(message));
        let asked = histories[0].contains(&Kind::ChildAsked);
        let child = matches!(row(1), Some(Row::Run { parent: Some(0), .. }));
        let with_parent = matches!(row(1), Some(Row::Run { with_parent: true, .. }));
        let told = |run: usize, kind: Kind| histories[run].contains(&kind);
        let wrong = [
            asked && open(0) && hears(0, Msg::ChildStarted) == hears(0, Msg::ChildRefused),
            asked && open(0) && child != hears(0, Msg::ChildStarted),
            child && open(1) && !hears(1, Msg::Start),
            child && open(0) && open(1) == hears(0, Msg::ChildEnded),
            child && !open(0) && open(1) && with_parent && !hears(1, Msg::Cancel),
            child && open(1) && told(0, Kind::ToldChild(Msg::Word)) && !hears(1, Msg::Word),
            child && open(1) && told(0, Kind::ToldChild(Msg::Cancel)) && !hears(1, Msg::Cancel),
            child && open(0) && told(1, Kind::ToldParent) && !hears(0, Msg::Word),
        ];
        if wrong.contains(&true) { KIN_UNHEARD } else { 0 }
    }
}
