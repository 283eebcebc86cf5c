//! Random programs: what a workflow does, as a tree that chance grows, and the workflow that carries a tree out.
//!
//! ```text
//!   seed ─▶ Script ─▶ run ─▶ what it says it did: the same with and without crashes, but for bells that may have been rung
//! ```
//!
//! Invariant: what a script says does not depend on how long anything took.

use std::{pin::Pin, time::Duration};

use engine::sim::Rng;
use sdk::{CallError, ClosePolicy, Context, Failure, TaskQueue, Workflow, join::join_all};
use serde::{Deserialize, Serialize};

use crate::ledger::{Enter, Leave, Make, Ring, Set, Turn, Unset};

/// Queue of all agents.
#[must_use]
pub(crate) fn queue() -> TaskQueue {
    TaskQueue::new("things")
}

/// The signal that scripts wait for.
pub(crate) const WORD: &str = "word";
/// Longer than anything that chance does to a simulation.
const LONG: Duration = Duration::from_secs(100 * 86_400);
/// A word that comes twice would be heard within this.
const SILENCE: Duration = Duration::from_secs(90);

/// One thing that a script does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Op {
    /// Sets a thing, which is undone if the script fails or is cancelled.
    Set(String),
    /// Makes a thing, for good.
    Make(String),
    /// Rings a bell.
    Ring(String),
    /// Turns a dial on, position by position, up to this one.
    Turn(String, u64),
    /// Waits so many seconds.
    Sleep(u64),
    /// Waits for a word.
    Hear,
    /// Does several things beside each other, so many at a time.
    Beside(Vec<Vec<Op>>, usize),
    /// Has another run do it, and waits for that.
    Child(Box<Script>),
    /// Enters a room, which only one run may be in, does this there, and leaves it; the room is its own until it ends.
    Within(String, Vec<Op>),
    /// Fails, so that all is undone.
    Fail,
}

/// What a run does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Script {
    /// Begins the names of its things and of its children.
    pub(crate) name: String,
    /// In order.
    pub(crate) ops: Vec<Op>,
}

impl Script {
    /// How many words it waits for.
    #[must_use]
    pub(crate) fn words(&self) -> u64 {
        words(&self.ops)
    }
}

fn words(ops: &[Op]) -> u64 {
    let of = |op: &Op| match op {
        Op::Hear => 1,
        Op::Beside(branches, _) => branches.iter().map(|branch| words(branch)).sum(),
        Op::Within(_, ops) => words(ops),
        Op::Child(_) | Op::Set(_) | Op::Make(_) | Op::Ring(_) | Op::Turn(..) | Op::Sleep(_) | Op::Fail => 0,
    };
    ops.iter().map(of).sum()
}

/// Grows scripts.
#[derive(Debug)]
pub(crate) struct Grower<'a> {
    rng: &'a mut Rng,
    things: u64,
    /// A lock ends with its run: who asked for two could wait for somebody who waits for them.
    has_room: bool,
    dials: bool,
}

/// What may stand where: a run that waits for a room must not be waited for by whoever is in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Root,
    Branch,
    Child,
    Room,
}

impl<'a> Grower<'a> {
    /// From chance; with dials or without.
    pub(crate) fn new(rng: &'a mut Rng, dials: bool) -> Self {
        Self { rng, things: 0, has_room: false, dials }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.below(bound).unwrap_or(0)
    }

    /// A script of that name.
    pub(crate) fn script(&mut self, name: &str) -> Script {
        self.has_room = false;
        let count = 2 + self.below(5);
        let mut ops = self.ops(name, Where::Root, count, 2);
        if self.below(5) == 0 {
            ops.push(Op::Fail);
        }
        Script { name: name.to_owned(), ops }
    }

    fn ops(&mut self, name: &str, place: Where, count: u64, depth: u32) -> Vec<Op> {
        (0..count).map(|_| self.op(name, place, depth)).collect()
    }

    fn thing(&mut self, name: &str) -> String {
        self.things += 1;
        format!("{name}.{}", self.things)
    }

    fn op(&mut self, name: &str, place: Where, depth: u32) -> Op {
        let deep = depth > 0;
        match self.below(18) {
            // What is set within a room would have to be undone there.
            0..4 if place != Where::Room => Op::Set(self.thing(name)),
            4..7 => Op::Make(self.thing(name)),
            7 => Op::Ring(self.thing(name)),
            8 => {
                let longest = [40, 40, 40, 86_400][usize::try_from(self.below(4)).unwrap_or(0)];
                Op::Sleep(1 + self.below(longest))
            }
            9 if place != Where::Child => Op::Hear,
            10 | 11 if deep => {
                // A branch of a child is in that child: words are sent to roots alone.
                let within = if place == Where::Root { Where::Branch } else { place };
                let branches = (0..2 + self.below(3)).map(|_| self.small(name, within, depth)).collect();
                Op::Beside(branches, 1 + usize::try_from(self.below(3)).unwrap_or(0))
            }
            12 | 13 if deep && place != Where::Room => {
                let name = self.thing(name);
                let ops = self.small(&name, Where::Child, depth);
                Op::Child(Box::new(Script { name, ops }))
            }
            14 if place == Where::Root && !std::mem::replace(&mut self.has_room, true) => {
                let room = format!("room {}", self.below(2));
                Op::Within(room, self.small(name, Where::Room, 1))
            }
            15 | 16 if self.dials => Op::Turn(self.thing(name), 2 + self.below(3)),
            _ => Op::Make(self.thing(name)),
        }
    }

    fn small(&mut self, name: &str, place: Where, depth: u32) -> Vec<Op> {
        let count = 1 + self.below(3);
        self.ops(name, place, count, depth - 1)
    }
}

/// The workflow that carries a script out.
#[derive(Debug)]
pub(crate) struct Scripted;

impl Workflow for Scripted {
    const NAME: &'static str = "scripted";
    type Input = Script;
    type Output = Vec<String>;

    async fn run(ctx: Context, script: Script) -> Result<Vec<String>, Failure> {
        let mut saga = ctx.saga();
        // Registered before anything is set, since a step that failed may have happened; undone in one go.
        let things = set_by(&script.ops);
        saga.on_failure("unset", move |ctx| async move {
            for thing in things.into_iter().rev() {
                ctx.call(queue(), &Unset(thing)).await?;
            }
            Ok(())
        });
        let done = carried_out(&ctx, &script.ops).await;
        let silent = match (&done, script.words()) {
            (Ok(_), 1..) => ctx.signal::<u64>(WORD, SILENCE).await.map(|word| word.is_none()),
            _ => Ok(true),
        };
        let whole = match (done, silent) {
            (Ok(said), Ok(true)) => Ok(said),
            (Ok(_), Ok(false)) => Err(Failure::fatal("heard-twice", "a word was heard twice")),
            (Err(failure), _) | (_, Err(failure)) => Err(failure),
        };
        saga.settle(whole).await
    }
}

fn set_by(ops: &[Op]) -> Vec<String> {
    let of = |op: &Op| match op {
        Op::Set(thing) => vec![thing.clone()],
        Op::Beside(branches, _) => branches.iter().flat_map(|branch| set_by(branch)).collect(),
        Op::Within(_, ops) => set_by(ops),
        Op::Child(_) | Op::Make(_) | Op::Ring(_) | Op::Turn(..) | Op::Sleep(_) | Op::Hear | Op::Fail => vec![],
    };
    ops.iter().flat_map(of).collect()
}

type Said<'a> = Pin<Box<dyn Future<Output = Result<Vec<String>, Failure>> + 'a>>;

fn carried_out<'a>(ctx: &'a Context, ops: &'a [Op]) -> Said<'a> {
    Box::pin(async move {
        let mut said = vec![];
        for op in ops {
            said.extend(one(ctx, op).await?);
        }
        Ok(said)
    })
}

async fn one(ctx: &Context, op: &Op) -> Result<Vec<String>, Failure> {
    Ok(match op {
        Op::Set(thing) => {
            ctx.call(queue(), &Set(thing.clone())).await?;
            vec![format!("set {thing}")]
        }
        Op::Make(thing) => {
            ctx.call(queue(), &Make(thing.clone())).await?;
            vec![format!("made {thing}")]
        }
        Op::Ring(bell) => match ctx.call(queue(), &Ring(bell.clone())).await {
            // Whether it was rung is not known then, and that is what it says.
            Ok(()) | Err(CallError::Unknown(_)) => vec![format!("rang {bell}")],
            Err(other) => return Err(other.into()),
        },
        Op::Turn(dial, last) => {
            for to in 1..=*last {
                ctx.call(queue(), &Turn(dial.clone(), to)).await?;
            }
            vec![format!("turned {dial} to {last}")]
        }
        Op::Sleep(seconds) => {
            ctx.sleep(Duration::from_secs(*seconds)).await?;
            vec![]
        }
        Op::Hear => match ctx.signal::<u64>(WORD, LONG).await? {
            Some(_) => vec!["heard".to_owned()],
            None => return Err(Failure::fatal("unheard", "a word was lost")),
        },
        Op::Beside(branches, width) => {
            let all = join_all(branches.iter().map(|branch| carried_out(ctx, branch)), *width).await;
            all.into_iter().collect::<Result<Vec<_>, _>>()?.concat()
        }
        Op::Child(script) => {
            let child = ctx.child::<Scripted>(script.name.clone(), script, ClosePolicy::Cancel).await?;
            child.ended().await?
        }
        Op::Within(room, ops) => {
            let (within, _) = ctx.lock(room).await?;
            within.call(queue(), &Enter(room.clone())).await?;
            let said = carried_out(&within, ops).await;
            // Whoever fails leaves as well.
            within.shielded().call(queue(), &Leave(room.clone())).await?;
            said?
        }
        Op::Fail => return Err(Failure::fatal("told-to", "it was told to fail")),
    })
}
