//! Random streams of alerts: episodes long and short, told by one source or two, twice, late, in any order, cut, and by strangers.

use chrono::{DateTime, TimeDelta, Utc};
use engine::sim::Rng;
use recovery::trigger::{Mode, TriggerPolicy};
use serde_json::json;

use super::receiving::{Delivery, SECRET};

const SOURCES: [&str; 2] = ["a", "b"];
/// How long sources must have told of it. Faults and the wire together delay a word by far less, and an episode is either over long before
/// or goes on long after.
const HOLD_DOWN_S: u64 = 600;
/// Between two repetitions of what goes on.
const REPEATED_EVERY_S: u64 = 420;
/// Longest that a delivery is late.
const LATE_S: u64 = 60;
/// What strangers say fires.
pub(super) const STRANGERS: &str = "told by strangers";

/// A policy, and what is said to it.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) policy: TriggerPolicy,
    pub(super) episodes: Vec<Episode>,
    seed: u64,
}

/// Something fires, and is over.
#[derive(Clone, Debug)]
pub(super) struct Episode {
    from: u64,
    to: u64,
    sources: Vec<&'static str>,
}

impl Stream {
    pub(super) fn grown(rng: &mut Rng, number: u64) -> Self {
        let mut below = |bound: u64| rng.below(bound).unwrap_or(0);
        let (mode, require) = (if below(4) == 0 { "shadow" } else { "armed" }, 1 + below(2));
        let yaml = format!(
            "version: 1\nname: p{number}\nitem: m{number}\nmode: {mode}\nsources: [a, b]\nmatch: [alertname = Down{number}]\nrequire: {require}\n\
             hold-down: {HOLD_DOWN_S}s\nfreshness: 1d\nflap: {{ changes: 100, within: 5m }}\ncool-down: 1m\napproval: {{ need: 0 }}\n"
        );
        let policy = TriggerPolicy::from_yaml(&yaml).unwrap_or_else(|error| unreachable!("a policy within its limits: {error}\n{yaml}"));
        let (mut episodes, mut at) = (vec![], 60);
        for _ in 0..1 + below(4) {
            at += below(3_000);
            let lasts = if below(2) == 0 { 60 + below(120) } else { 4 * HOLD_DOWN_S + below(1_200) };
            let sources = [&SOURCES[..1], &SOURCES[1..], &SOURCES, &SOURCES][usize::try_from(below(4)).unwrap_or(0)].to_vec();
            episodes.push(Episode { from: at, to: at + lasts, sources });
            at += lasts + 1_800;
        }
        Self { policy, episodes, seed: rng.draw() }
    }

    /// How many failovers it has to come to.
    pub(super) fn failovers(&self) -> usize {
        let due = |episode: &&Episode| episode.to - episode.from > HOLD_DOWN_S && episode.sources.len() >= self.policy.require;
        if self.policy.mode == Mode::Armed { self.episodes.iter().filter(due).count() } else { 0 }
    }

    /// Seconds from the start until its last episode is over.
    pub(super) fn lasts(&self) -> u64 {
        self.episodes.iter().map(|episode| episode.to).max().unwrap_or(0)
    }

    /// All that is sent, of which some comes twice, late or cut.
    pub(super) fn deliveries(&self, begins: DateTime<Utc>) -> Vec<Delivery> {
        let mut rng = Rng::new(self.seed);
        let at = |seconds: u64| begins + TimeDelta::seconds(i64::try_from(seconds).unwrap_or(0));
        let mut all = vec![];
        for Episode { from, to, sources } in &self.episodes {
            for source in sources {
                let starts = from + rng.below(30).unwrap_or(0);
                let firing = (starts..*to).step_by(usize::try_from(REPEATED_EVERY_S).unwrap_or(1)).map(|when| (when, "firing"));
                for (when, status) in firing.chain([(*to, "resolved")]) {
                    let body = self.body(self.policy.item.as_str(), status, at(starts));
                    for _ in 0..1 + rng.below(3).unwrap_or(0) {
                        let cut = rng.strikes(150).then(|| usize::try_from(rng.below(body.len() as u64).unwrap_or(0)).unwrap_or(0));
                        let due_at = at(when + rng.below(LATE_S).unwrap_or(0));
                        all.push(Delivery { source, secret: SECRET, body: body.clone(), cut, due_at });
                    }
                }
            }
            if rng.strikes(400) {
                for source in SOURCES {
                    let body = self.body(STRANGERS, "firing", at(*from));
                    all.push(Delivery { source, secret: "a-guess-of-thirty-two-characters-", body, cut: None, due_at: at(*from) });
                }
            }
        }
        all
    }

    fn body(&self, fingerprint: &str, status: &str, starts_at: DateTime<Utc>) -> Vec<u8> {
        let name = self.policy.item.as_str().replace('m', "Down");
        let alert = json!({"status": status, "labels": {"alertname": name}, "annotations": {"summary": "down"}, "startsAt": starts_at, "fingerprint": fingerprint});
        json!({"version": "4", "alerts": [alert]}).to_string().into_bytes()
    }
}
