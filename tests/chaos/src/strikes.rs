//! What goes wrong, and when: drawn from a seed before anything runs.
//!
//! Invariants: 1. The same seed gives the same plan. 2. Kills are counted; whatever else goes wrong comes on top, dealt from a shuffled
//! deck, so that even a short plan has some of each.

use std::time::Duration;

/// A source of chance that stays as it is (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

/// Whom a strike hits; which of them is a number that is taken modulo how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whom {
    /// A worker.
    Worker,
    /// A server.
    Server,
    /// An agent.
    Agent,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strike {
    /// SIGKILL; started again after a while.
    Kill(Whom),
    /// SIGSTOP until after its lease has ended, then SIGCONT: it goes on with what it believed.
    Pause(Whom),
    /// Postgres ends one connection, or all.
    EndConnections {
        /// All of them.
        all: bool,
    },
    /// SIGKILL of one backend: Postgres ends all others and recovers.
    KillBackend,
    /// SIGKILL of the postmaster; started again at once.
    KillPostgres,
    /// All connections to Postgres are cut in the middle.
    Cut,
    /// All connections to Postgres stand still for a while, and then go on.
    Stall,
    /// Postgres' disk is full for a while.
    FillDisk,
    /// A transaction that does nothing keeps all dead rows alive.
    PinHorizon,
}

/// A strike of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// So long after the one before.
    pub after: Duration,
    /// Which of those that it may hit.
    pub which: usize,
    /// How long it lasts, between nothing and everything that is usual for it, in thousandths.
    pub lasts: u64,
    /// What.
    pub strike: Strike,
}

/// What a plan may hold beside kills.
pub const OTHERS: [Strike; 11] = [
    Strike::KillPostgres,
    Strike::Pause(Whom::Agent),
    Strike::Cut,
    Strike::Pause(Whom::Worker),
    Strike::EndConnections { all: true },
    Strike::Stall,
    Strike::EndConnections { all: false },
    Strike::FillDisk,
    Strike::KillBackend,
    Strike::PinHorizon,
    Strike::Pause(Whom::Server),
];
/// Of a hundred strikes, so many are no kills.
const NO_KILLS: u64 = 28;

impl Dice {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit.max(1)
    }

    /// A place in a list of that length.
    pub fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }
}

/// The plan of a seed, with so many kills.
#[must_use]
pub fn plan(seed: u64, kills: usize) -> Vec<Planned> {
    let mut dice = Dice::new(seed);
    let (mut plan, mut deck, mut killed) = (Vec::new(), Vec::new(), 0);
    while killed < kills {
        if deck.is_empty() {
            deck = OTHERS.to_vec();
            for place in (1..deck.len()).rev() {
                deck.swap(place, dice.place(place + 1));
            }
        }
        let other = if dice.below(100) < NO_KILLS { deck.pop() } else { None };
        let strike = other.unwrap_or_else(|| {
            killed += 1;
            Strike::Kill(match dice.below(10) {
                0..5 => Whom::Worker,
                5..7 => Whom::Server,
                _ => Whom::Agent,
            })
        });
        let after = match dice.below(4) {
            // Two at once are another case than one after the other.
            0 => 50 + dice.below(400),
            _ => 1_200 + dice.below(2_800),
        };
        plan.push(Planned { after: Duration::from_millis(after), which: dice.place(64), lasts: dice.below(1_000), strike });
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_plan_with_as_many_kills_as_were_asked_for() {
        for seed in 0..50 {
            let first = plan(seed, 40);
            assert_eq!(first, plan(seed, 40));
            assert_eq!(first.iter().filter(|planned| matches!(planned.strike, Strike::Kill(_))).count(), 40);
        }
        assert_ne!(plan(1, 40), plan(2, 40));
    }

    #[test]
    fn a_long_plan_has_some_of_each() {
        let plan = plan(7, 200);
        for other in OTHERS {
            let count = plan.iter().filter(|planned| planned.strike == other).count();
            assert!(count >= 3, "{other:?} comes {count} times");
        }
        for whom in [Whom::Worker, Whom::Server, Whom::Agent] {
            assert!(plan.iter().filter(|planned| planned.strike == Strike::Kill(whom)).count() > 20);
        }
    }
}
