//! What the workers run here: small workflows that exercise one promise each, with effects outside.
//!
//! | workflow | promise |
//! |---|---|
//! | `chaos-chain` | steps of every kind, one after the other |
//! | `chaos-split` | several at once |
//! | `chaos-family` | children, each a chain |
//! | `chaos-room` | a lock keeps others out, and a token says who is late |
//! | `chaos-words` | each signal is heard once, in its sender's order |
//! | `chaos-pulse` | timers alone: a run that always has a turn to take soon |

use std::time::Duration;

use sdk::{Activity, ActivityOptions, CallError, ClosePolicy, Context, Effect, Failure, Never, Registry, Retry, Scope, TaskQueue, Timeouts, Workflow, join::join_all};
use serde::{Deserialize, Serialize};

/// Site of the agents.
pub const SITE: &str = "outside";
/// Beat of a pulse: shorter than a takeover by far.
pub const BEAT: Duration = Duration::from_millis(250);
/// Children of a family.
pub const CHILDREN: u32 = 3;
/// Words that a run of words hears.
pub const WORDS: u32 = 3;

/// What a run is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Start of the names of all its things; nobody else has it.
    pub name: String,
    /// How many steps, beats or things.
    pub steps: u32,
    /// Number of its room.
    pub room: u32,
}

/// What an activity does something to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Key of the effect.
    pub thing: String,
    /// The room in which it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
}

macro_rules! activity {
    ($name:ident, $word:literal, $effect:ident, $says:literal) => {
        #[doc = $says]
        #[derive(Clone, Debug, Serialize, Deserialize)]
        pub struct $name(pub Target);

        impl Activity for $name {
            const NAME: &'static str = $word;
            const EFFECT: Effect = Effect::$effect;
            const SCOPE: Scope = Scope::Prod;
            type Output = ();
            type Error = Never;
            fn options() -> ActivityOptions {
                // Attempts end by strikes here, so there are more of them than strikes.
                let retry = Retry { max_attempts: 10_000, first_ms: 100, factor: 2.0, max_ms: 1_000 };
                ActivityOptions { retry, timeouts: Timeouts { start_to_close_ms: 20_000, ..Timeouts::default() } }
            }
        }
    };
}
activity!(Make, "chaos-make", Probeable, "Makes a thing; whether it is there can be asked.");
activity!(Set, "chaos-set", Idempotent, "Sets a thing; twice is once.");
activity!(Ring, "chaos-ring", AtMostOnce, "Rings a bell; nobody can tell whether it was rung.");
activity!(Enter, "chaos-enter", Idempotent, "Enters a room that has place for one run.");
activity!(Leave, "chaos-leave", Idempotent, "Leaves it.");

fn queue() -> TaskQueue {
    TaskQueue::new(format!("site:{SITE}"))
}

fn thing(name: &str, step: u32) -> Target {
    Target { thing: format!("{name}/{step}"), room: None }
}

macro_rules! program {
    ($name:ident, $word:literal, |$ctx:ident, $wanted:ident| -> $output:ty $body:block) => {
        #[doc = concat!("The workflow `", $word, "`.")]
        pub struct $name;

        impl Workflow for $name {
            const NAME: &'static str = $word;
            type Input = Wanted;
            type Output = $output;
            async fn run($ctx: Context, $wanted: Wanted) -> Result<$output, Failure> {
                $body
            }
        }
    };
}

program!(Chain, "chaos-chain", |ctx, wanted| -> u32 {
    for step in 0..wanted.steps {
        let target = thing(&wanted.name, step);
        match step % 3 {
            0 => ctx.call(queue(), &Make(target)).await?,
            1 => ctx.call(queue(), &Set(target)).await?,
            // That nobody can say whether it was rung is an honest answer.
            _ => match ctx.call(queue(), &Ring(target)).await {
                Ok(()) | Err(CallError::Unknown(_)) => {}
                Err(other) => return Err(other.into()),
            },
        }
    }
    Ok(wanted.steps)
});
program!(Split, "chaos-split", |ctx, wanted| -> u32 {
    let calls: Vec<_> = (0..wanted.steps).map(|step| ctx.call(queue(), &Make(thing(&wanted.name, step)))).collect();
    let made = join_all(calls.into_iter().map(|call| async move { call.await }), calls_at_once(wanted.steps)).await;
    made.into_iter().collect::<Result<Vec<()>, _>>()?;
    Ok(wanted.steps)
});
program!(Family, "chaos-family", |ctx, wanted| -> u32 {
    let mut children = Vec::new();
    for number in 0..CHILDREN {
        let name = format!("{}.{number}", wanted.name);
        let of_child = Wanted { name: name.clone(), steps: wanted.steps, room: 0 };
        children.push(ctx.child::<Chain>(name, &of_child, ClosePolicy::Cancel).await?);
    }
    let mut steps = 0;
    for child in children {
        steps += child.ended().await?;
    }
    Ok(steps)
});
program!(Room, "chaos-room", |ctx, wanted| -> u32 {
    let room = format!("room {}", wanted.room);
    let within = |step: u32| Target { room: Some(room.clone()), ..thing(&wanted.name, step) };
    let (ctx, _grant) = ctx.lock(&room).await?;
    ctx.call(queue(), &Enter(within(0))).await?;
    for step in 0..wanted.steps {
        ctx.call(queue(), &Make(within(step))).await?;
    }
    ctx.call(queue(), &Leave(within(0))).await?;
    Ok(wanted.steps)
});
program!(Words, "chaos-words", |ctx, wanted| -> Vec<u32> {
    let mut heard = Vec::new();
    for _ in 0..wanted.steps {
        // Longer than any chaos: a word that does not come is a word that was lost.
        let word = ctx.signal::<u32>("word", Duration::from_secs(3_600)).await?;
        heard.push(word.ok_or_else(|| Failure::fatal("no-word", "a word did not come"))?);
    }
    Ok(heard)
});
program!(Pulse, "chaos-pulse", |ctx, wanted| -> u32 {
    for _ in 0..wanted.steps {
        ctx.sleep(BEAT).await?;
    }
    Ok(wanted.steps)
});

fn calls_at_once(steps: u32) -> usize {
    usize::try_from(steps).unwrap_or(1).max(1)
}

/// All of them.
#[must_use]
pub fn programs() -> Registry {
    Registry::default().with::<Chain>().with::<Split>().with::<Family>().with::<Room>().with::<Words>().with::<Pulse>()
}
