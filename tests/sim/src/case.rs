//! A case as a line of text, and what became of it.
//!
//!   programs 4711              all faults that chance wants
//!   programs 4711 faults 17    the first 17 of them

use std::{fmt, panic, str::FromStr};

use engine::sim::{Chaos, Stats};

use crate::{plans, programs, starts, walk};

/// What is done in a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Random workflows.
    Programs,
    /// One machine, whatever is allowed.
    Walk,
    /// A random recovery plan.
    Plans,
    /// Random schedules and alerts.
    Starts,
    /// Random workflows, while the store comes back without its last commits.
    Tails,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Programs, Self::Walk, Self::Plans, Self::Starts, Self::Tails];

    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Programs => "programs",
            Self::Walk => "walk",
            Self::Plans => "plans",
            Self::Starts => "starts",
            Self::Tails => "tails",
        }
    }

    /// What a seed does when nobody says: mostly what is cheap, so that many seeds are tried.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        match seed % 20 {
            0 => Self::Plans,
            1..4 => Self::Walk,
            4 => Self::Starts,
            _ => Self::Programs,
        }
    }
}

/// Some of these in each case, far enough from each other that work is done between them.
const TAILS_PER_100_000: u64 = 60;

/// All that an outcome depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// What is done.
    pub kind: Kind,
    /// Decides everything else.
    pub seed: u64,
    /// Most faults that strike; `None`: as many as chance wants.
    pub faults: Option<u64>,
}

impl Case {
    /// What a seed does when nobody says.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        Self { kind: Kind::of_seed(seed), seed, faults: None }
    }

    /// How often things go wrong: some seeds have quiet worlds, some have wild ones.
    pub(crate) fn chaos(&self) -> Chaos {
        let (level, at_most) = (self.seed / 20 % 4, self.faults);
        let tails_per_100_000 = if self.kind == Kind::Tails { TAILS_PER_100_000 } else { 0 };
        let with = |crash_per_mille, pause_per_mille, lose_per_mille, late_per_mille, jump_per_mille| {
            Chaos { crash_per_mille, pause_per_mille, lose_per_mille, late_per_mille, jump_per_mille, tails_per_100_000, at_most }
        };
        match level {
            0 => with(2, 1, 3, 10, 0),
            1 => with(8, 4, 15, 20, 5),
            2 => with(25, 2, 5, 5, 20),
            _ => with(4, 15, 30, 60, 0),
        }
    }
}

impl Case {
    /// How many claims in a thousand are also given what a living worker has: in the quietest worlds and in those that pause most.
    pub(crate) fn double_claims(&self) -> u64 {
        match self.seed / 20 % 4 {
            0 => 20,
            3 => 40,
            _ => 0,
        }
    }

    /// How many attempts at steps in a thousand fail, before or after their effect.
    pub(crate) fn attempts_fail(&self) -> u64 {
        [0, 20, 80, 200][usize::try_from(self.seed / 7 % 4).unwrap_or(0)]
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.word(), self.seed)?;
        self.faults.map_or(Ok(()), |faults| write!(f, " faults {faults}"))
    }
}

/// A line that is no case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseError(String);

impl fmt::Display for CaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no case; one is `programs 4711`, `walk 4711`, `plans 4711`, `starts 4711` or `tails 4711`, with ` faults 17` for the first 17 faults only", self.0)
    }
}

impl std::error::Error for CaseError {}

impl FromStr for Case {
    type Err = CaseError;

    fn from_str(line: &str) -> Result<Self, CaseError> {
        let no_case = || CaseError(line.to_owned());
        let number = |word: &str| word.parse::<u64>().map_err(|_digits| no_case());
        let words: Vec<&str> = line.split_whitespace().collect();
        let (kind, seed, faults) = match words.as_slice() {
            [kind, seed] => (kind, number(seed)?, None),
            [kind, seed, "faults", faults] => (kind, number(seed)?, Some(number(faults)?)),
            _ => return Err(no_case()),
        };
        let kind = Kind::ALL.into_iter().find(|known| known.word() == *kind).ok_or_else(no_case)?;
        Ok(Self { kind, seed, faults })
    }
}

/// What happened in a case that ended as it should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Of the engine's world.
    pub stats: Stats,
    /// Faults of all kinds that struck.
    pub faults: u64,
    /// Virtual time that passed, ms.
    pub simulated_ms: u64,
    /// Runs that ended.
    pub runs: u64,
    /// Effects of late callers that the outside refused.
    pub late_refused: u64,
}

impl Outcome {
    /// Adds another one's numbers; a sum has no digest.
    pub fn add(&mut self, other: &Self) {
        let (stats, of) = (&mut self.stats, &other.stats);
        stats.polls += of.polls;
        stats.crashes += of.crashes;
        stats.pauses += of.pauses;
        stats.lost_answers += of.lost_answers;
        stats.late += of.late;
        stats.jumps += of.jumps;
        stats.doubles += of.doubles;
        stats.takeovers += of.takeovers;
        stats.tails += of.tails;
        self.faults += other.faults;
        self.simulated_ms += other.simulated_ms;
        self.runs += other.runs;
        self.late_refused += other.late_refused;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stats, faults, simulated_ms, runs, late_refused } = self;
        let days = simulated_ms / 86_400_000;
        writeln!(f, "{runs} runs in {days} days of simulated time, {} steps of processes, {faults} faults struck by chance:", stats.polls)?;
        writeln!(f, "{} crashes, {} pauses past which others went on, {} lost answers, {} commits that landed late,", stats.crashes, stats.pauses, stats.lost_answers, stats.late)?;
        write!(f, "{} jumps of the clock, {} claims of what the living have, {} takeovers, {} databases that came back older; {late_refused} late effects refused outside", stats.jumps, stats.doubles, stats.takeovers, stats.tails)
    }
}

/// Carries a case out.
///
/// # Errors
/// What should not have happened, in words.
pub fn carried_out(case: &Case) -> Result<Outcome, String> {
    let told = panic::catch_unwind(|| match case.kind {
        Kind::Programs | Kind::Tails => programs::carried_out(case),
        Kind::Walk => walk::carried_out(case),
        Kind::Plans => plans::carried_out(case),
        Kind::Starts => starts::carried_out(case),
    });
    told.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(text.unwrap_or_else(|| "a panic without words".to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_what_its_line_says() {
        for line in ["programs 4711", "walk 1", "plans 20 faults 0", "starts 4 faults 7", "tails 5"] {
            assert_eq!(line.parse::<Case>().map(|case| case.to_string()), Ok(line.to_owned()));
        }
        for line in ["", "programs", "dance 3", "walk -1", "walk 1 faults", "walk 1 faults x", "walk 1 2"] {
            assert_eq!(line.parse::<Case>(), Err(CaseError(line.to_owned())));
        }
    }
}
