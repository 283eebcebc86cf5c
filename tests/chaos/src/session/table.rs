//! What a session comes to: a table for people, JSON for programs.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use super::{Counts, Failover, Options};
use crate::{
    installation::Replicated,
    judge::Verdict,
    takeover::{Measured, bar, percentile},
};

/// Of each kind of failure so many are shown; all are in the JSON.
const SHOWN: usize = 10;

/// What came of a session.
#[derive(Clone, Debug)]
pub struct Summary {
    /// What was asked for.
    pub options: Options,
    /// From start to end.
    pub took: Duration,
    /// Strikes.
    pub counts: Counts,
    /// Runs whose id was told to whoever asked.
    pub accepted: usize,
    /// How often something was asked again because there was no answer.
    pub again: u64,
    /// Starts of a postmaster.
    pub starts: u64,
    /// What the judge says.
    pub verdict: Verdict,
    /// Times of takeover.
    pub takeover: Measured,
    /// Failovers of the database.
    pub failovers: Vec<Failover>,
    /// From the death of the database's server to where the next one was known, in milliseconds, sorted.
    pub checks: Vec<u64>,
}

impl Summary {
    /// Whether everything holds: nothing lost, nothing doubled, nobody late let in, takeover in time. If the database has lost commits that it
    /// had answered for: every run that lacks something was found, and when it was settled, the same holds. One that waits for its standby loses
    /// nothing, and nothing is found.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.verdict.holds() && self.in_time() && self.failovers.iter().all(|failover| failover.missed.is_empty() && (self.may_lose() || failover.lost_nothing()))
    }

    fn may_lose(&self) -> bool {
        self.options.failovers.is_some_and(|(_, replicated)| replicated == Replicated::Async)
    }

    fn in_time(&self) -> bool {
        percentile(&self.takeover.at_once, 99).is_none_or(|ms| u128::from(ms) <= bar(self.options.lease).as_millis())
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let Verdict { runs, events, effects, unknown, refused, lost, doubled, stale, differs, wrong } = &self.verdict;
        let strikes: Vec<Value> = self.counts.strikes.iter().map(|(strike, count)| json!({ "strike": format!("{strike:?}"), "count": count })).collect();
        let of = |sorted: &[u64]| json!({ "count": sorted.len(), "p50_ms": percentile(sorted, 50), "p99_ms": percentile(sorted, 99), "max_ms": sorted.last() });
        let lost_events = |failover: &Failover| failover.tail.shorter.iter().map(|(_, events)| events).sum::<i64>();
        let failovers: Vec<Value> = self.failovers.iter().map(|failover| json!({
            "took_ms": failover.took.as_millis() as u64, "lost_runs": failover.tail.runs, "shortened_runs": failover.tail.shorter, "lost_events": lost_events(failover), "stand": failover.stand,
            "known_after_ms": failover.checked.as_millis() as u64, "found": failover.found, "missed": failover.missed, "seen_by_nobody": failover.unseen,
        })).collect();
        json!({
            "v": 1, "store_failovers": failovers, "server_known_again": of(&self.checks), "takeover_too_slow": self.takeover.slow, "holds": self.holds(), "seed": self.options.seed, "lease_s": self.options.lease.as_secs(), "took_s": self.took.as_secs(),
            "kills": self.counts.kills(), "strikes": strikes, "postgres_starts": self.starts, "accepted": self.accepted, "asked_again": self.again,
            "runs": runs, "events": events, "effects": effects, "unknown": unknown, "late_refused": refused,
            "lost": lost, "doubled": doubled, "stale_accepted": stale, "differs": differs, "wrong": wrong,
            "takeover": { "kills": self.takeover.kills, "bar_ms": bar(self.options.lease).as_millis() as u64, "at_once": of(&self.takeover.at_once),
                          "waiting": of(&self.takeover.waiting), "disturbed": of(&self.takeover.disturbed) },
        })
    }
}

fn times(sorted: &[u64]) -> String {
    let shown = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.2} s", ms as f64 / 1_000.0));
    format!("p50 {}, p99 {}, longest {} ({} runs)", shown(percentile(sorted, 50)), shown(percentile(sorted, 99)), shown(sorted.last().copied()), sorted.len())
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = &self.verdict;
        writeln!(f, "\nseed {}, {} in {:.0} s; Postgres was started {} times", self.options.seed, self.counts, self.took.as_secs_f64(), self.starts)?;
        for (strike, count) in &self.counts.strikes {
            writeln!(f, "  {:<32} {count:>6}", format!("{strike:?}"))?;
        }
        if self.counts.missed > 0 {
            writeln!(f, "  {:<32} {:>6}", "kills that found nobody well", self.counts.missed)?;
        }
        writeln!(f, "accepted runs                    {:>8}  (asked again {} times)", self.accepted, self.again)?;
        writeln!(f, "judged runs, with children       {:>8}  {} events, all replayed", verdict.runs, verdict.events)?;
        writeln!(f, "effects outside                  {:>8}  ({} that nobody can know of)", verdict.effects, verdict.unknown)?;
        writeln!(f, "late callers refused             {:>8}", verdict.refused)?;
        let kinds = [
            ("lost", &verdict.lost),
            ("applied twice", &verdict.doubled),
            ("stale tokens accepted", &verdict.stale),
            ("histories that differ", &verdict.differs),
            ("otherwise wrong", &verdict.wrong),
        ];
        for (what, found) in kinds {
            writeln!(f, "{what:<32} {:>8}", found.len())?;
            for one in found.iter().take(SHOWN) {
                writeln!(f, "    {one}")?;
            }
        }
        let bar = bar(self.options.lease).as_secs_f64();
        writeln!(f, "takeover of {:>3} killed workers    {}; bar {bar:.0} s {}", self.takeover.kills, times(&self.takeover.at_once), if self.in_time() { "holds" } else { "BROKEN" })?;
        writeln!(f, "  runs that waited for others    {}", times(&self.takeover.waiting))?;
        writeln!(f, "  nobody could take over at once {}", times(&self.takeover.disturbed))?;
        for slow in self.takeover.slow.iter().take(SHOWN) {
            writeln!(f, "    {slow}")?;
        }
        if !self.checks.is_empty() {
            writeln!(f, "database killed to server known  {}", times(&self.checks))?;
        }
        for (number, Failover { took, checked, tail, found, missed, unseen, stand }) in self.failovers.iter().enumerate() {
            let events: i64 = tail.shorter.iter().map(|(_, events)| events).sum();
            writeln!(f, "failover {} of the store took {:.2} s, its server was known {:.2} s later; the old one alone had {} runs, and {events} events of {} others; they stand: {stand:?}", number + 1, took.as_secs_f64(), checked.as_secs_f64(), tail.runs.len(), tail.shorter.len())?;
            let found: Vec<String> = found.iter().map(|(became, runs)| format!("{} {became}", runs.len())).collect();
            writeln!(f, "  found: {}; NOT FOUND {}; lack a turn of which nobody was told: {}", if found.is_empty() { "nothing".to_owned() } else { found.join(", ") }, missed.len(), unseen.len())?;
            for run in missed.iter().take(SHOWN) {
                writeln!(f, "    {run}")?;
            }
        }
        write!(f, "{}", if self.holds() { "all of it holds" } else { "IT DOES NOT HOLD" })
    }
}
