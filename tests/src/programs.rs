//! Small workflows and activities that exercise one promise of the engine each, with a world that counts.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::DateTime;
use engine::{
    ActivityRegistry, Fault, Job, Perform, Probed,
    sim::{Chaos, Simulation},
};
use sdk::{
    Activity, ActivityOptions, AppError, CallError, ChildError, ClosePolicy, Context, Effect, Failure, Quorum, Registry, Retry, RunId, Scope, Signal,
    TaskQueue, Timeouts, Vote, Workflow,
    join::{First, join_all, race},
};
use serde::{Deserialize, Serialize};

/// Queue of all programs.
#[must_use]
pub fn queue() -> TaskQueue {
    TaskQueue::new("programs")
}

/// What was done outside: calls by key, in order.
#[derive(Clone, Default)]
pub struct World {
    calls: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn note(&self, what: &str) {
        if let Ok(mut calls) = self.calls.lock() {
            calls.push(what.into());
        }
    }

    /// All calls in order.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().map(|calls| calls.clone()).unwrap_or_default()
    }

    /// How often each thing was called.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for call in self.calls() {
            *counts.entry(call).or_default() += 1;
        }
        counts
    }
}

/// The typed error of the programs' activities.
#[derive(Debug, Serialize, Deserialize)]
pub struct Broken {
    /// Whether trying again is useless.
    pub fatal: bool,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it is broken")
    }
}

impl AppError for Broken {
    fn code(&self) -> String {
        "broken".into()
    }
    fn fatal(&self) -> bool {
        self.fatal
    }
}

macro_rules! activity {
    ($name:ident, $word:literal, $effect:ident) => {
        #[doc = concat!("Does `", $word, "` to the thing it names.")]
        #[derive(Debug, Serialize, Deserialize)]
        pub struct $name(pub String);

        impl Activity for $name {
            const NAME: &'static str = $word;
            const EFFECT: Effect = Effect::$effect;
            const SCOPE: Scope = Scope::Prod;
            type Output = String;
            type Error = Broken;
            fn options() -> ActivityOptions {
                let retry = Retry { max_attempts: 4, first_ms: 100, factor: 2.0, max_ms: 1_000 };
                ActivityOptions { retry, timeouts: Timeouts { start_to_close_ms: 20_000, ..Timeouts::default() } }
            }
        }
    };
}
activity!(Set, "set", Idempotent);
activity!(Unset, "unset", Idempotent);
activity!(Ring, "ring", AtMostOnce);
activity!(Make, "make", Probeable);

#[async_trait]
impl Perform<Set> for World {
    async fn perform(&self, _: &Job, input: Set) -> Result<String, Fault<Broken>> {
        self.note(&format!("set {}", input.0));
        match input.0.as_str() {
            "fatal" => Err(Fault::App(Broken { fatal: true })),
            "flaky" => Err(Fault::App(Broken { fatal: false })),
            "panics" => panic!("the driver is confused"),
            other => Ok(other.to_uppercase()),
        }
    }
}

#[async_trait]
impl Perform<Unset> for World {
    async fn perform(&self, _: &Job, input: Unset) -> Result<String, Fault<Broken>> {
        self.note(&format!("unset {}", input.0));
        if input.0 == "sticky" { Err(Fault::App(Broken { fatal: true })) } else { Ok(input.0) }
    }
}

#[async_trait]
impl Perform<Ring> for World {
    async fn perform(&self, _: &Job, input: Ring) -> Result<String, Fault<Broken>> {
        self.note(&format!("ring {}", input.0));
        Ok(input.0)
    }
}

#[async_trait]
impl Perform<Make> for World {
    async fn perform(&self, _: &Job, input: Make) -> Result<String, Fault<Broken>> {
        self.note(&format!("make {}", input.0));
        Ok(format!("made {}", input.0))
    }
    async fn probe(&self, _: &Job, input: &Make) -> Result<Probed<String>, Failure> {
        let there = self.calls().contains(&format!("make {}", input.0));
        Ok(if there { Probed::Done(format!("found {}", input.0)) } else { Probed::NotDone })
    }
}

macro_rules! program {
    ($name:ident, $word:literal, |$ctx:ident| -> $output:ty $body:block) => {
        #[doc = concat!("The program `", $word, "`.")]
        pub struct $name;

        impl Workflow for $name {
            const NAME: &'static str = $word;
            type Input = ();
            type Output = $output;
            async fn run($ctx: Context, (): ()) -> Result<$output, Failure> {
                $body
            }
        }
    };
}

program!(OneRing, "one-ring", |ctx| -> String { Ok(ctx.call(queue(), &Ring("bell".into())).await?) });
program!(OneMake, "one-make", |ctx| -> String { Ok(ctx.call(queue(), &Make("disk".into())).await?) });
program!(TypedErrors, "typed-errors", |ctx| -> Vec<String> {
    let mut said = Vec::new();
    for name in ["fatal", "flaky", "panics", "well"] {
        said.push(match ctx.call(queue(), &Set(name.into())).await {
            Ok(done) => done,
            Err(CallError::App(error)) => format!("app: {error}"),
            Err(CallError::Exhausted { last, attempts }) => format!("exhausted after {attempts}: {}", last.code),
            Err(other) => format!("other: {other:?}"),
        });
    }
    Ok(said)
});
program!(WaitsForSignals, "waits-for-signals", |ctx| -> Vec<Option<u32>> {
    let mut heard = Vec::new();
    for _ in 0..3 {
        heard.push(ctx.signal::<u32>("go", Duration::from_secs(3_600)).await?);
    }
    Ok(heard)
});
program!(Sleeps, "sleeps", |ctx| -> i64 {
    let before = ctx.now();
    ctx.sleep(Duration::from_secs(30 * 86_400)).await?;
    Ok((ctx.now() - before).num_days())
});
program!(UndoneLastFirst, "undone-last-first", |ctx| -> () {
    let mut saga = ctx.saga();
    let mut done = Ok(());
    for name in ["a", "sticky", "b", "fatal"] {
        let undo = ctx.call(queue(), &Unset(name.into()));
        done = saga.step(ctx.call(queue(), &Set(name.into())), undo).await.map(drop).map_err(Failure::from);
    }
    saga.settle(done).await
});
program!(CancelledInTheMiddle, "cancelled-in-the-middle", |ctx| -> () {
    let mut saga = ctx.saga();
    let both = async {
        saga.step(ctx.call(queue(), &Set("a".into())), ctx.call(queue(), &Unset("a".into()))).await?;
        ctx.sleep(Duration::from_secs(3_600)).await?;
        Ok(())
    }
    .await;
    saga.settle(both).await
});
program!(PastTheLine, "past-the-line", |ctx| -> String {
    ctx.point_of_no_return("the bell rings")?;
    ctx.sleep(Duration::from_secs(60)).await?;
    Ok(ctx.call(queue(), &Set("a".into())).await?)
});
program!(AllAtOnce, "all-at-once", |ctx| -> Vec<String> {
    let calls = ["c", "a", "b"].map(|name| {
        let call = ctx.call(queue(), &Set(name.into()));
        async move { call.await }
    });
    join_all(calls, 2).await.into_iter().map(|done| done.map_err(Failure::from)).collect()
});
program!(OneAtATime, "one-at-a-time", |ctx| -> i64 {
    let (ctx, grant) = ctx.lock("the-thing").await?;
    ctx.sleep(Duration::from_secs(5)).await?;
    ctx.call(queue(), &Set("thing".into())).await?;
    Ok(grant.epoch)
});
static DICE: AtomicU32 = AtomicU32::new(0);
program!(RollsDice, "rolls-dice", |ctx| -> String {
    let rolled = DICE.fetch_add(1, Ordering::SeqCst);
    Ok(ctx.call(queue(), &Set(format!("{rolled}"))).await?)
});
program!(ReachesForTokio, "reaches-for-tokio", |ctx| -> () {
    ctx.sleep(Duration::from_secs(1)).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
});
program!(CallsNobody, "calls-nobody", |ctx| -> String {
    Ok(ctx.call(TaskQueue::new("nobody"), &Set("a".into())).queue_timeout(Duration::from_secs(20)).await?)
});

program!(HoldsASignal, "holds-a-signal", |ctx| -> Option<u32> {
    let held = Box::pin(ctx.signal::<u32>("go", Duration::from_secs(10)));
    let held = match race(Box::pin(ctx.sleep(Duration::from_secs(1))), held).await {
        First::Left(_, held) => held,
        First::Right(heard, _) => return heard,
    };
    ctx.shielded().sleep(Duration::from_secs(30)).await?;
    held.await
});

program!(OneChild, "one-child", |ctx| -> Vec<String> {
    let child = ctx.child::<AllAtOnce>("the-child", &(), ClosePolicy::Cancel).await?;
    Ok(child.ended().await?)
});
program!(ParentOfAStopped, "parent-of-a-stopped", |ctx| -> () {
    let child = ctx.child::<CancelledInTheMiddle>("the-child", &(), ClosePolicy::Cancel).await?;
    Ok(child.ended().await?)
});
program!(ParentThatStops, "parent-that-stops", |ctx| -> String {
    let child = ctx.child::<CancelledInTheMiddle>("the-child", &(), ClosePolicy::Leave).await?;
    ctx.sleep(Duration::from_secs(5)).await?;
    child.cancel("enough");
    Ok(match child.ended().await {
        Err(ChildError::Cancelled(failure)) => failure.code,
        other => format!("{other:?}"),
    })
});
program!(ParentThatEnds, "parent-that-ends", |ctx| -> (RunId, RunId) {
    let stopped = ctx.child::<CancelledInTheMiddle>("stopped", &(), ClosePolicy::Cancel).await?;
    let left = ctx.child::<Sleeps>("left", &(), ClosePolicy::Leave).await?;
    Ok((stopped.run(), left.run()))
});
program!(Twins, "twins", |ctx| -> bool {
    let first = ctx.child::<Sleeps>("twin", &(), ClosePolicy::Cancel).await?;
    Ok(matches!(ctx.child::<Sleeps>("twin", &(), ClosePolicy::Cancel).await, Err(ChildError::AlreadyOpen(open)) if open == first.run()))
});
program!(HandsOver, "hands-over", |ctx| -> bool {
    let successor = ctx.parent().is_some();
    if !successor {
        ctx.succeeded_by::<HandsOver>(&())?;
    }
    Ok(successor)
});
program!(AsksForTwo, "asks-for-two", |ctx| -> Quorum<u32> {
    let judge = |vote: &Signal<u32>| match vote.body {
        0 => Vote::Against,
        1 => Vote::For,
        _ => Vote::Ignored,
    };
    ctx.quorum("go", 2, Duration::from_secs(600), judge).await
});

/// All programs.
#[must_use]
pub fn programs() -> Registry {
    Registry::default()
        .with::<OneRing>()
        .with::<OneMake>()
        .with::<TypedErrors>()
        .with::<WaitsForSignals>()
        .with::<Sleeps>()
        .with::<UndoneLastFirst>()
        .with::<CancelledInTheMiddle>()
        .with::<PastTheLine>()
        .with::<AllAtOnce>()
        .with::<OneAtATime>()
        .with::<RollsDice>()
        .with::<ReachesForTokio>()
        .with::<CallsNobody>()
        .with::<HoldsASignal>()
        .with::<OneChild>()
        .with::<ParentOfAStopped>()
        .with::<ParentThatStops>()
        .with::<ParentThatEnds>()
        .with::<Twins>()
        .with::<HandsOver>()
        .with::<AsksForTwo>()
}

/// A simulation of the programs: one worker, one agent, and the world that the agent acts on.
#[must_use]
pub fn stage(seed: u64, chaos: Chaos) -> (Simulation, World) {
    let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default();
    let mut sim = Simulation::new(seed, chaos, start);
    let world = World::default();
    let acted_on = world.clone();
    sim.agent(vec![queue()], move || {
        let world = acted_on.clone();
        let known = ActivityRegistry::default().with::<Set, _>(world.clone()).with::<Unset, _>(world.clone());
        known.with::<Ring, _>(world.clone()).with::<Make, _>(world)
    });
    sim.worker(programs());
    (sim, world)
}
