//! Looks at every state that a system can come to, nearest first.
//!
//! ```text
//!   first ─▶ breadth first: each state once ─┬─▶ one that is wrong: the shortest way to it
//!                                            └─▶ all of them, with the edges between ─▶ backwards from the ends: whoever is not met is stuck
//! ```
//!
//! Invariants: 1. A state is known by 128 bits of two hashes; of 10^8 states two are confused with a chance of 10^-22. 2. The way that is told
//! is a shortest one. 3. A search that reaches its limit says so, and is no proof.

use std::{
    collections::{BTreeSet, HashMap, VecDeque, hash_map::Entry},
    hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use crate::system::System;

/// Said of states from which no way leads to the end of all work.
pub const STUCK: &str = "from each state a way leads to the end of all work";
/// The largest case has 13 million states; one that is much larger would not fit into the memory of a small machine.
const MOST_STATES: usize = 40_000_000;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Every state is as it should be, and nobody is stuck.
    Holds,
    /// These invariants are broken, at the end of this way.
    Wrong { broken: Vec<&'static str>, way: Vec<String> },
    /// So many states have no way out; this leads to the nearest.
    Stuck { states: usize, way: Vec<String> },
    /// There are too many states to tell.
    TooMany,
}

/// How it was found.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// States that were seen.
    pub states: usize,
    /// Steps of the longest of all shortest ways.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// What was found.
    pub found: Found,
}

/// States by their key: the keys are hashes already, so they are not hashed again.
type Known = HashMap<u128, u32, BuildHasherDefault<KeyHasher>>;

#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }
    fn write_u128(&mut self, key: u128) {
        self.0 = (key >> 64) as u64;
    }
}

fn key<S: Hash>(state: &S) -> u128 {
    let (mut left, mut right) = (DefaultHasher::new(), DefaultHasher::new());
    state.hash(&mut left);
    0x9e37_79b9_u64.hash(&mut right);
    state.hash(&mut right);
    u128::from(left.finish()) << 64 | u128::from(right.finish())
}

/// What is kept of a search: the tree of shortest ways, the edges, and the states in which work has ended.
#[derive(Default)]
struct Seen {
    known: Known,
    /// From which state each was reached first, and by which of its steps.
    from: Vec<(u32, u16)>,
    depth: Vec<u16>,
    edges: Vec<(u32, u32)>,
    ends: Vec<u32>,
}

impl Seen {
    /// The number of a state, and whether it is new.
    fn note<S: Hash>(&mut self, state: &S, from: u32, step: u16) -> (u32, bool) {
        let next = u32::try_from(self.from.len()).unwrap_or(u32::MAX);
        match self.known.entry(key(state)) {
            Entry::Occupied(old) => (*old.get(), false),
            Entry::Vacant(new) => {
                new.insert(next);
                self.from.push((from, step));
                self.depth.push(self.depth.get(from as usize).map_or(0, |depth| depth + 1));
                (next, true)
            }
        }
    }

    /// States from which no end is reached, by walking all edges backwards from the ends.
    fn stuck(&self) -> BTreeSet<u32> {
        let count = self.from.len();
        let mut first = vec![0_u32; count + 1];
        self.edges.iter().for_each(|(_, to)| first[*to as usize + 1] += 1);
        (0..count).for_each(|at| first[at + 1] += first[at]);
        let (mut place, mut before) = (first.clone(), vec![0_u32; self.edges.len()]);
        for (from, to) in &self.edges {
            before[place[*to as usize] as usize] = *from;
            place[*to as usize] += 1;
        }
        let mut met = vec![false; count];
        let mut open = self.ends.clone();
        open.iter().for_each(|end| met[*end as usize] = true);
        while let Some(at) = open.pop() {
            for from in &before[first[at as usize] as usize..first[at as usize + 1] as usize] {
                if !std::mem::replace(&mut met[*from as usize], true) {
                    open.push(*from);
                }
            }
        }
        (0_u32..).zip(met).filter(|(_, met)| !met).map(|(at, _)| at).collect()
    }

    /// The steps that led to a state, said again.
    fn way<M: System>(&self, system: &M, to: u32) -> Vec<String> {
        let (mut places, mut at) = (vec![], to);
        while at != 0 {
            let (from, step) = self.from[at as usize];
            places.push(step);
            at = from;
        }
        let mut state = system.first();
        let mut said = Vec::new();
        for place in places.into_iter().rev() {
            let steps = system.steps(&state);
            let Some(step) = steps.get(usize::from(place)) else { break };
            said.push(format!("{step:?}"));
            state = system.after(&state, step).unwrap_or(state);
        }
        said
    }
}

/// Looks at all states, or at those up to the first that is wrong.
#[must_use]
pub fn search<M: System>(system: &M) -> Verdict {
    let began = Instant::now();
    let mut seen = Seen::default();
    let found = walk(system, &mut seen).unwrap_or_else(|| match seen.stuck() {
        stuck if stuck.is_empty() => Found::Holds,
        stuck => {
            let nearest = stuck.iter().min_by_key(|at| seen.depth[**at as usize]).copied().unwrap_or(0);
            Found::Stuck { states: stuck.len(), way: seen.way(system, nearest) }
        }
    });
    let depth = seen.depth.iter().max().map_or(0, |depth| usize::from(*depth));
    Verdict { states: seen.from.len(), depth, took: began.elapsed(), found }
}

fn walk<M: System>(system: &M, seen: &mut Seen) -> Option<Found> {
    let mut open = VecDeque::from([(0_u32, system.first())]);
    seen.note(&open[0].1, 0, 0);
    seen.depth[0] = 0;
    while let Some((at, state)) = open.pop_front() {
        let broken = system.wrong(&state);
        if !broken.is_empty() {
            return Some(Found::Wrong { broken, way: seen.way(system, at) });
        }
        if system.ended(&state) {
            seen.ends.push(at);
        }
        for (place, step) in (0_u16..).zip(system.steps(&state)) {
            let Some(next) = system.after(&state, &step) else { continue };
            let (to, new) = seen.note(&next, at, place);
            seen.edges.push((at, to));
            if new {
                open.push_back((to, next));
            }
        }
        if seen.from.len() > MOST_STATES {
            return Some(Found::TooMany);
        }
    }
    None
}
