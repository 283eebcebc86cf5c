//! Alerts and failovers, in virtual time: what starts one, once, and what starts none.
#![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use engine::{
    RunState,
    memory::{MemoryRun, MemoryStore},
    sim::{Chaos, Intervention},
};
use recovery::{
    MainState,
    trigger::{KillSwitch, SwitchScope, TriggerPolicy, Verdict},
};
use sdk::{ActivityOptions, Command, EventBody, Failure, Message, RunId, Seq, replay};
use serde_json::{Value, json};
use switchback_tests::{
    POLLS, Scene, Unheard, Work, for_each, site,
    strike::{Fault, strike},
    watch::notes,
};
use workflows::{Ballot, Note};

const POLICY: &str = "
version: 1
name: db9
item: db9
mode: armed
sources: [a, b]
match: [alertname = Down]
require: 2
hold-down: 60s
freshness: 1d
approval: { need: 2, by: [ada, bob, eve], within: 15m }
failover: { fence-timeout: 5s, accept-unfenced: the whole site is gone }
";

/// A protected item that is watched.
fn watched(seed: u64, chaos: Chaos, policy: &str) -> Scene {
    let mut scene = Scene::new(seed, Chaos::default());
    scene.carry_out(Work::Protect).unwrap();
    scene.replicates().unwrap();
    scene.watch.policy(TriggerPolicy::from_yaml(policy).unwrap());
    scene.sim.chaos(chaos);
    scene
}

fn passes(scene: &mut Scene, seconds: u64) {
    let until = scene.sim.store.time() + Duration::from_secs(seconds);
    scene.sim.run_until(POLLS, |store| store.time() >= until).unwrap();
}

fn fires(scene: &Scene, sources: &[&str]) {
    let now = scene.sim.store.time();
    sources.iter().for_each(|source| scene.watch.fires(source, now));
    scene.watch.sweep(&scene.sim.store);
}

fn both_fire(scene: &Scene) {
    fires(scene, &["a", "b"]);
}

fn both_resolve(scene: &Scene) {
    let now = scene.sim.store.time();
    ["a", "b"].iter().for_each(|source| scene.watch.resolves(source, now));
    scene.watch.sweep(&scene.sim.store);
}

fn runs_of(scene: &Scene, workflow: &str) -> Vec<(RunId, MemoryRun)> {
    scene.sim.store.runs().into_iter().filter(|(_, run)| run.workflow == workflow).collect()
}

fn verdicts(scene: &Scene) -> Vec<Verdict> {
    let looked = |note: &Note| if let Note::Looked { judgement, .. } = note { Some(judgement.verdict.clone()) } else { None };
    let mut verdicts: Vec<Verdict> = notes(&scene.sim.store).iter().filter_map(|note| looked(&note.note)).collect();
    verdicts.dedup();
    verdicts
}

fn asked(scene: &Scene) -> Option<u32> {
    notes(&scene.sim.store).iter().rev().find_map(|note| if let Note::Asked { round, .. } = note.note { Some(round) } else { None })
}

fn until_asked(scene: &mut Scene) {
    scene.sim.run_until(POLLS, |store| notes(store).iter().any(|note| matches!(note.note, Note::Asked { .. }))).unwrap();
}

fn vote(scene: &Scene, by: &str, approve: bool) {
    let round = asked(scene).unwrap();
    let body = serde_json::to_value(Ballot { round, approve, reason: Some("seen it".into()) }).unwrap();
    let (run, _) = runs_of(scene, "trigger").into_iter().find(|(_, run)| run.state == RunState::Open).unwrap();
    scene.send(run, &Message::Signal { name: "approval".into(), key: format!("{round}:{by}:{approve}"), body, by: by.into() });
}

/// Until no evaluation is open.
fn settles(scene: &mut Scene) -> Vec<Value> {
    passes(scene, 5);
    scene.sim.run_until(POLLS / 10, |store| store.runs().iter().all(|(_, run)| run.workflow != "trigger" || run.state != RunState::Open)).unwrap();
    let output = |(run, _): (RunId, MemoryRun)| match scene.sim.store.history(run).unwrap().events.pop().unwrap().event.body {
        EventBody::Command(Command::RunCompleted { output }) => output,
        other @ (EventBody::Inbound(_) | EventBody::Command(_)) => json!(format!("{other:?}")),
    };
    runs_of(scene, "trigger").into_iter().map(output).collect()
}

/// A failover that an alert started, while nobody hears the source.
fn failing_over() -> (Scene, Unheard) {
    let policy = POLICY.replace("need: 2", "need: 0").replace("fence-timeout: 5s", "fence-timeout: 10m");
    let mut scene = watched(1, Chaos::default(), &policy);
    let unheard = scene.source_is_not_heard();
    both_fire(&scene);
    scene.sim.run_until(POLLS, |store| store.runs().iter().any(|(_, run)| run.workflow == "failover")).unwrap();
    passes(&mut scene, 20);
    (scene, unheard)
}

#[test]
fn alerts_of_two_sources_that_stay_and_two_people_who_agree_start_one_failover_through_fifty_seeds_of_crashes() {
    let chaos = Chaos { crash_per_mille: 8, pause_per_mille: 3, lose_per_mille: 10, late_per_mille: 10, jump_per_mille: 0, tails_per_100_000: 0, at_most: None };
    let completed = AtomicU32::new(0);
    for_each(&(1..=50).collect::<Vec<u64>>(), |seed| {
        let mut scene = watched(seed, chaos, POLICY);
        scene.source_dies();
        both_fire(&scene);
        until_asked(&mut scene);
        for by in ["ada", "ada", "mallory", "bob"] {
            vote(&scene, by, true);
            both_fire(&scene);
        }
        let ended = settles(&mut scene);
        assert_eq!((&ended[0]["ended"], &ended[0]["approved_by"]), (&json!("started"), &json!(["ada", "bob"])), "seed {seed}: {ended:?}");
        for _again in 0..5 {
            both_fire(&scene);
            passes(&mut scene, 120);
        }
        settles(&mut scene);
        let failovers = runs_of(&scene, "failover");
        assert_eq!(failovers.len(), 1, "seed {seed}");
        // Attempts of a step can run out under chaos; that is for people then, never for a second failover.
        let (state, main) = (&failovers[0].1.state, scene.record().unwrap().state.main);
        let well = *state == RunState::Completed && main == MainState::CommitPending;
        let badly = *state == RunState::Failed && main != MainState::CommitPending;
        assert!(well || badly, "seed {seed}: {main} {:?}", failovers[0].1.failure);
        completed.fetch_add(u32::from(well), Ordering::SeqCst);
        for (run, _) in scene.sim.store.runs() {
            assert_eq!(replay::verify(&workflows::registry(), &scene.sim.store.history(run).unwrap()), Ok(()), "seed {seed}");
        }
    });
    assert!(completed.load(Ordering::SeqCst) >= 45, "{completed:?} of 50");
}

#[test]
fn a_cut_of_43_seconds_that_heals_starts_nothing_and_says_why() {
    let mut scene = watched(1, Chaos::default(), POLICY);
    both_fire(&scene);
    passes(&mut scene, 43);
    both_resolve(&scene);
    let ended = settles(&mut scene);
    assert_eq!(ended[0]["ended"], "quiet");
    assert!(ended[0]["why"].as_str().unwrap().contains("was resolved at"), "{ended:?}");
    assert!(matches!(verdicts(&scene)[..], [Verdict::Wait { .. }, Verdict::Quiet]), "{:?}", verdicts(&scene));
    assert!(runs_of(&scene, "failover").is_empty());
}

#[test]
fn who_is_asked_may_deny_and_silence_denies_too() {
    let mut scene = watched(1, Chaos::default(), POLICY);
    both_fire(&scene);
    until_asked(&mut scene);
    vote(&scene, "ada", true);
    vote(&scene, "eve", false);
    assert_eq!(settles(&mut scene), [json!({"ended": "denied", "by": "eve", "reason": "seen it"})]);

    let mut scene = watched(1, Chaos::default(), POLICY);
    both_fire(&scene);
    until_asked(&mut scene);
    vote(&scene, "ada", true);
    assert_eq!(settles(&mut scene), [json!({"ended": "unanswered"})]);
    assert!(runs_of(&scene, "failover").is_empty());
}

#[test]
fn one_source_alone_waits_for_the_other_and_a_policy_that_watches_only_tells() {
    let mut scene = watched(1, Chaos::default(), &POLICY.replace("mode: armed", "mode: shadow"));
    fires(&scene, &["a"]);
    passes(&mut scene, 300);
    assert!(matches!(verdicts(&scene).last(), Some(Verdict::Blocked { rule, .. }) if rule == "sources"), "{:?}", verdicts(&scene));
    both_fire(&scene);
    assert_eq!(settles(&mut scene), [json!({"ended": "watched"})]);
    assert!(runs_of(&scene, "failover").is_empty());
}

#[test]
fn a_kill_switch_stops_a_failover_that_has_begun_and_everything_is_put_back() {
    for first_look_fails in [false, true] {
        let (mut scene, unheard) = failing_over();
        let failed = Arc::new(AtomicU32::new(0));
        let counted = failed.clone();
        scene.sim.crash_switch().on_attempt(move |task, _| {
            let fails = first_look_fails && task.task.activity == "load-evidence" && counted.fetch_add(1, Ordering::SeqCst) == 0;
            if fails { Intervention::Fail(Failure::fatal("broken", "it is broken").not_applied()) } else { Intervention::None }
        });
        let since = scene.sim.store.time();
        scene.watch.switch(KillSwitch { scope: SwitchScope::Site(site("a")), by: "ada".into(), reason: "not now".into(), since });
        let told = |store: &MemoryStore| notes(store).iter().any(|note| matches!(&note.note, Note::Noted { switch: Some(_), .. }));
        scene.sim.run_until(POLLS, told).unwrap();
        assert_eq!(failed.load(Ordering::SeqCst) > 0, first_look_fails);
        passes(&mut scene, 5);
        scene.comes_back(unheard);
        let ended = settles(&mut scene);
        assert_eq!((&ended[0]["ended"], &ended[0]["problem"]["code"]), (&json!("started"), &json!("cancelled")), "{ended:?}");
        assert_eq!(scene.record().unwrap().state.main, MainState::Protected);
        assert!(scene.replicates().unwrap());
    }
}

#[test]
fn alerts_that_come_and_go_lock_the_policy() {
    let mut scene = watched(1, Chaos::default(), POLICY);
    for _ in 0..2 {
        both_fire(&scene);
        passes(&mut scene, 20);
        both_resolve(&scene);
        passes(&mut scene, 20);
    }
    both_fire(&scene);
    passes(&mut scene, 600);
    assert!(matches!(verdicts(&scene).last(), Some(Verdict::Blocked { rule, .. }) if rule == "flap"), "{:?}", verdicts(&scene));
    assert!(runs_of(&scene, "failover").is_empty() && asked(&scene).is_none());
}

#[test]
fn an_evaluation_that_is_cancelled_answers_its_alerts() {
    let mut scene = watched(1, Chaos::default(), POLICY);
    both_fire(&scene);
    until_asked(&mut scene);
    let (run, _) = runs_of(&scene, "trigger").remove(0);
    scene.send(run, &Message::Cancel { by: "ada".into(), reason: "a drill of theirs".into() });
    settles(&mut scene);
    both_fire(&scene);
    let ended = settles(&mut scene);
    assert_eq!(ended[1]["ended"], "quiet", "{ended:?}");
}

#[test]
fn who_agreed_to_one_version_of_a_policy_is_asked_again_about_the_next() {
    let mut scene = watched(1, Chaos::default(), POLICY);
    both_fire(&scene);
    until_asked(&mut scene);
    vote(&scene, "ada", true);
    passes(&mut scene, 2);
    scene.watch.policy(TriggerPolicy::from_yaml(&POLICY.replace("need: 2", "need: 1")).unwrap());
    scene.watch.sweep(&scene.sim.store);
    passes(&mut scene, 5);
    assert_eq!(asked(&scene), Some(2));
    assert!(runs_of(&scene, "failover").is_empty());
    vote(&scene, "bob", true);
    let ended = settles(&mut scene);
    let answer = ended.iter().find(|ended| ended["ended"] == "started").unwrap();
    assert_eq!(answer["approved_by"], json!(["bob"]));
}

#[test]
fn who_cancels_an_evaluation_cancels_the_failover_that_it_started() {
    let (mut scene, unheard) = failing_over();
    let (run, _) = runs_of(&scene, "trigger").remove(0);
    scene.send(run, &Message::Cancel { by: "ada".into(), reason: "not now".into() });
    passes(&mut scene, 5);
    scene.comes_back(unheard);
    let ended = settles(&mut scene);
    assert_eq!((&ended[0]["ended"], &ended[0]["problem"]["code"]), (&json!("started"), &json!("cancelled")), "{ended:?}");
    assert_eq!(runs_of(&scene, "failover")[0].1.state, RunState::Cancelled);
    assert_eq!(scene.record().unwrap().state.main, MainState::Protected);
}

/// The steps of an evaluation that starts a failover, from the alerts to its end.
fn evaluated(fault: Option<(Seq, Fault)>) -> (Scene, Vec<Value>, Vec<(Seq, ActivityOptions)>, u32) {
    let mut scene = watched(1, Chaos::default(), &POLICY.replace("need: 2", "need: 0"));
    scene.source_dies();
    both_fire(&scene);
    let (run, _) = runs_of(&scene, "trigger").remove(0);
    let seen: Arc<Mutex<BTreeMap<Seq, ActivityOptions>>> = Arc::default();
    let (switch, noting) = (scene.sim.crash_switch(), seen.clone());
    let hits = match fault {
        Some((at, fault)) => strike(&switch, &scene.sim.store, Some(run), fault, move |task| task.run == run && task.task.seq == at),
        None => {
            switch.on_attempt(move |task, _| {
                if task.run == run {
                    noting.lock().unwrap().insert(task.task.seq, task.task.options);
                }
                Intervention::None
            });
            Arc::default()
        }
    };
    let ended = settles(&mut scene);
    passes(&mut scene, 20);
    switch.clear();
    let steps = seen.lock().unwrap().iter().map(|(seq, options)| (*seq, *options)).collect();
    (scene, ended, steps, hits.load(Ordering::SeqCst))
}

#[test]
fn a_fault_that_passes_at_any_step_of_an_evaluation_starts_neither_less_nor_more() {
    let (scene, clean, steps, _) = evaluated(None);
    assert_eq!((&clean[0]["ended"], runs_of(&scene, "failover").len()), (&json!("started"), 1), "{clean:?}");
    assert!(!steps.is_empty(), "an evaluation has no step");
    let cases: Vec<(Seq, Fault)> = steps.iter().flat_map(|(seq, options)| Fault::passing(*options).map(|fault| (*seq, fault))).collect();
    for_each(&cases, |case| {
        let (scene, ended, _, hits) = evaluated(Some(case));
        assert!(hits > 0, "{case:?}: nothing was struck");
        assert_eq!(ended[0]["ended"], "started", "{case:?}: {ended:?}");
        assert_eq!(runs_of(&scene, "failover").len(), 1, "{case:?}");
        assert_eq!(scene.record().unwrap().state.main, MainState::CommitPending, "{case:?}");
        scene.judged(&format!("{case:?}"));
    });
}

#[test]
fn an_evaluation_that_is_cancelled_at_any_step_starts_nothing_until_something_else_fires() {
    let (_, _, steps, _) = evaluated(None);
    for_each(&steps.iter().map(|(seq, _)| *seq).collect::<Vec<Seq>>(), |seq| {
        let (mut scene, ended, _, hits) = evaluated(Some((seq, Fault::CancelHere)));
        assert!(hits > 0, "{seq}: nothing was struck");
        let later: Vec<&Value> = ended[1..].iter().map(|ended| &ended["ended"]).collect();
        assert!(ended[0].as_str().is_some_and(|ended| ended.contains("RunCancelled")) && later.iter().all(|ended| *ended == "quiet"), "{seq}: {ended:?}");
        assert!(runs_of(&scene, "failover").is_empty(), "{seq}");
        assert_eq!(scene.record().unwrap().state.main, MainState::Protected, "{seq}");
        both_resolve(&scene);
        settles(&mut scene);
        both_fire(&scene);
        assert_eq!(settles(&mut scene).last().unwrap()["ended"], "started", "{seq}, once more");
        scene.judged(&format!("{seq}"));
    });
}

#[test]
fn an_evaluation_that_could_not_look_looks_again_and_starts_the_failover() {
    let (_, _, steps, _) = evaluated(None);
    let cases: Vec<(Seq, Fault)> = steps.iter().flat_map(|(seq, _)| [Fault::FailsForEver, Fault::FailsForEverAfterEffect].map(|fault| (*seq, fault))).collect();
    for_each(&cases, |case| {
        let (scene, ended, _, hits) = evaluated(Some(case));
        assert!(hits > 0, "{case:?}: nothing was struck");
        assert_eq!((ended.len(), ended[0]["ended"].as_str(), runs_of(&scene, "failover").len()), (1, Some("started"), 1), "{case:?}: {ended:?}");
        assert_eq!(scene.record().unwrap().state.main, MainState::CommitPending, "{case:?}");
        scene.judged(&format!("{case:?}"));
    });
}
