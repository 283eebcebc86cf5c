//! Evidence of what simulated sites went through: exported, verified, replayed, reported; and every forgery found.
#![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

#[path = "evidence/files.rs"]
mod files;
#[path = "evidence/supposed.rs"]
mod supposed;

use std::sync::Arc;

use engine::{
    memory::MemoryStore,
    sim::{Chaos, Rng},
};
use evidence::{
    Bundle, Head, Part, ReportCheck, SigningKey, Stated, moment, replay,
    report::{Judgement, RunState},
    timeline, verify,
    what_if::{self, Imagined},
};
use recovery::{Fact, MainState, Operation, Rest, TestFailover as State, apply, trigger::TriggerPolicy};
use sdk::{Command, Context, EventBody, Failure, History, Inbound, Message, Registry, RunId, Seq, Workflow};
use serde_json::Value;
use switchback_tests::{POLLS, Scene, Work, for_each, schema::misfits, site, watch::notes};
use workflows::{
    Ballot, CleanTestInput, Cleaned, ITEM_PROJECTION, ItemChange, Note,
    declared::{CleanTest, LoadItem, UnpinPoint},
    item_workflow_id, site_queue,
};

fn key() -> SigningKey {
    SigningKey::from_seed(&[7; 32]).unwrap()
}

fn history(scene: &Scene, run: RunId) -> History {
    scene.sim.store.history(run).unwrap()
}

fn bundle(histories: Vec<History>) -> Bundle {
    let about = histories[0].run;
    Bundle::new("0.1.0", about, Stated::default(), histories).unwrap()
}

/// A test failover and its clean-up.
fn rehearsal() -> Bundle {
    let mut scene = Scene::ready_for(7, Work::TestFailover).unwrap();
    let runs = [Work::TestFailover, Work::CleanTest].map(|work| scene.carry_out(work).unwrap().0);
    bundle(runs.map(|run| history(&scene, run)).into())
}

/// A failover of an item whose source is gone.
fn disaster() -> Bundle {
    let mut scene = Scene::ready_for(7, Work::FailoverUnfenced).unwrap();
    let (run, _) = scene.carry_out(Work::FailoverUnfenced).unwrap();
    bundle(vec![history(&scene, run)])
}

#[test]
fn every_operation_replays_identically_from_its_file() {
    for work in Work::ALL {
        let mut scene = Scene::ready_for(3, work).unwrap();
        let (run, _) = scene.carry_out(work).unwrap();
        let file = bundle(vec![history(&scene, run)]).exported(&key());
        let opened = evidence::open(file.as_bytes()).unwrap();
        for replayed in replay::all(&opened.bundle, &workflows::registry()) {
            assert_eq!(replayed.differs, None, "{work:?}");
        }
    }
}

/// Clean-up of a test failover, written again; with a `FLAW`, as a later release might have it.
struct Copied<const FLAW: u8>;

impl<const FLAW: u8> Workflow for Copied<FLAW> {
    const NAME: &'static str = "clean-test-failover";
    type Input = CleanTestInput;
    type Output = Cleaned;

    async fn run(ctx: Context, CleanTestInput { item }: CleanTestInput) -> Result<Cleaned, Failure> {
        let (ctx, _) = ctx.lock(&item_workflow_id(&item)).await?;
        let server = sdk::TaskQueue::new("server");
        let record = ctx.call(server, &LoadItem { item: item.clone() }).await?.unwrap();
        ctx.point_of_no_return("the copy is being removed")?;
        let copy = record.test_copy.clone().unwrap();
        let note = |record, test_failover, copy| {
            let fact = Fact::TestFailoverIs { test_failover, copy };
            let record = apply(Some(record), &fact).unwrap();
            ctx.record(ITEM_PROJECTION, &ItemChange { item: item.clone(), fact, record: record.clone() });
            record
        };
        let record = if FLAW == 3 { record } else { note(record, State::Cleaning, Some(copy.clone())) };
        let target = site_queue(&copy.site);
        let pin = if FLAW == 2 { "test".to_owned() } else { format!("test-{}", copy.generation) };
        let clean = ctx.call(target.clone(), &CleanTest { item: item.clone(), generation: copy.generation });
        let unpin = ctx.call(target, &UnpinPoint { item: item.clone(), point: copy.point, pin });
        if FLAW == 1 {
            unpin.await?;
            clean.await?;
        } else {
            clean.await?;
            unpin.await?;
        }
        note(record, State::None, None);
        Ok(Cleaned { point: Some(copy.point) })
    }
}

#[test]
fn three_mutated_workflows_are_reported_at_their_first_differing_command() {
    let bundle = rehearsal();
    let told = |registry: Registry| replay::all(&bundle, &registry).into_iter().map(|run| run.differs.map(|differs| differs.to_string())).collect::<Vec<_>>();
    assert_eq!(told(workflows::registry().with::<Copied<0>>()), [None, None], "the copy itself is true");
    let differs = |registry: Registry| told(registry)[1].clone().unwrap();
    insta::assert_snapshot!("reordered call", differs(workflows::registry().with::<Copied<1>>()));
    insta::assert_snapshot!("changed input", differs(workflows::registry().with::<Copied<2>>()));
    insta::assert_snapshot!("dropped record", differs(workflows::registry().with::<Copied<3>>()));
}

#[test]
fn a_moment_shows_every_item_and_every_step_as_it_was() {
    let bundle = rehearsal();
    let (run, last) = (bundle.runs()[0].run, bundle.runs()[0].events.last().unwrap().event.seq);
    let begun = moment::at(&bundle, run, Seq(0)).unwrap();
    assert_eq!((begun.runs.len(), begun.items.len(), begun.steps.len()), (1, 0, 0));
    let whole = moment::at(&bundle, run, last).unwrap();
    let item = whole.items.values().next().unwrap();
    assert_eq!((whole.runs[0].state, item.state.test_failover), ("completed", State::Ready));
    assert!(whole.steps.iter().all(|step| step.state == moment::Progress::Done));
    let started = whole.steps.iter().find(|step| step.name == "start-test").unwrap();
    let between = moment::at(&bundle, run, started.seq).unwrap();
    let open: Vec<&str> = between.steps.iter().filter(|step| step.state == moment::Progress::Open).map(|step| step.name.as_str()).collect();
    assert_eq!(open, ["start-test"]);
    assert_eq!(moment::at(&bundle, run, last.next()), None);
}

#[test]
fn a_timeline_has_every_event_once_in_the_order_of_time() {
    let bundle = rehearsal();
    let entries = timeline::of(&bundle);
    assert_eq!(entries.len(), bundle.runs().iter().map(|run| run.events.len()).sum::<usize>());
    assert!(entries.is_sorted_by_key(|entry| entry.since_start_ms));
    assert_eq!((entries[0].since_start_ms, entries[0].depth), (0, 0));
    let drill = drill();
    let entries = timeline::of(&drill);
    assert!(entries.is_sorted_by_key(|entry| entry.since_start_ms));
    let closed = entries.iter().position(|entry| matches!(entry.event.body, EventBody::Inbound(Inbound::ChildClosed { .. }))).unwrap();
    let ended = entries.iter().position(|entry| entry.depth == 1 && matches!(entry.event.body, EventBody::Command(sdk::Command::RunCompleted { .. }))).unwrap();
    assert!(ended < closed, "a child ends before its parent hears of it, though both bear one time");
}

/// Two families as they were once recorded: a drill, and a failover that alerts had set off.
const RECORDED: [(&str, &str); 2] =
    [("drill", include_str!("histories/drill.json")), ("triggered", include_str!("histories/triggered.json"))];

#[test]
fn a_report_says_who_what_from_which_point_and_what_it_cost() {
    for (name, file) in RECORDED {
        let opened = evidence::open(file.as_bytes()).unwrap();
        insta::assert_json_snapshot!(name, opened.bundle.report());
    }
}

#[test]
fn a_report_is_what_its_published_schema_says_and_no_field_of_it_can_be_left_out() {
    let schema: Value = serde_json::from_str(evidence::Report::SCHEMA).unwrap();
    let recorded = RECORDED.map(|(_, file)| evidence::open(file.as_bytes()).unwrap().bundle.report());
    for report in recorded.iter().chain([&disaster().report(), &drill().report()]) {
        let value = serde_json::to_value(report).unwrap();
        assert_eq!(misfits(&schema, &value), Vec::<String>::new());
        for name in value.as_object().unwrap().keys() {
            let mut less = value.clone();
            less.as_object_mut().unwrap().remove(name);
            assert_ne!(misfits(&schema, &less), Vec::<String>::new(), "{name}");
        }
        let mut more = value.clone();
        more["recoveries"][0]["surprise"] = Value::Null;
        assert_ne!(misfits(&schema, &more), Vec::<String>::new());
    }
}

#[test]
fn targets_are_compared_with_what_was_reached() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    let (run, _) = scene.carry_out(Work::Failover).unwrap();
    let report = |rto, rpo| {
        let stated = Stated { rto_target_ms: Some(rto), rpo_target_ms: Some(rpo), previous_sha256: None };
        Bundle::new("0.1.0", run, stated, vec![history(&scene, run)]).unwrap().report()
    };
    let kept = report(3_600_000, 3_600_000);
    assert_eq!((kept.recoveries[0].rto.kept, kept.recoveries[0].rpo.kept), (Some(true), Some(true)));
    let missed = report(0, 3_600_000);
    assert_eq!(missed.recoveries[0].rto.kept, Some(false));
    assert_eq!(missed.conclusion.result.words(), "Failed", "{:?}", missed.conclusion);
}

#[test]
fn a_run_that_changed_hands_says_so() {
    let chaos = Chaos { crash_per_mille: 8, pause_per_mille: 4, lose_per_mille: 15, late_per_mille: 10, jump_per_mille: 0, tails_per_100_000: 0, at_most: None };
    let mut scene = Scene::new(5, chaos);
    let (run, stats) = scene.carry_out(Work::Protect).unwrap();
    assert!(stats.crashes > 0);
    let report = bundle(vec![history(&scene, run)]).report();
    assert!(report.environment.writers.len() > 1, "{:?}", report.environment);
    assert!(report.deviations.iter().any(|deviation| deviation.words.contains("goes on with what")), "{:?}", report.deviations);
    assert_eq!(scene.runs_at(), [site("a")]);
}

/// A drill with its children, given children first.
fn drill() -> Bundle {
    let mut scene = Scene::ready_for(7, Work::Drill).unwrap();
    let (run, _) = scene.carry_out(Work::Drill).unwrap();
    let runs: Vec<RunId> = scene.sim.store.runs().into_iter().filter(|(id, ran)| *id == run || ran.parent.is_some()).map(|(run, _)| run).collect();
    let mut histories: Vec<History> = runs.into_iter().map(|run| history(&scene, run)).collect();
    histories.sort_by_key(|history| history.run == run);
    bundle(histories)
}

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
approval: { need: 2, by: [ada, bob], within: 15m }
failover: { fence-timeout: 5s, accept-unfenced: the whole site is gone }
";

/// A failover that two alerts proposed and two people approved.
fn triggered() -> Bundle {
    let mut scene = Scene::new(7, Chaos::default());
    scene.carry_out(Work::Protect).unwrap();
    scene.replicates().unwrap();
    scene.watch.policy(TriggerPolicy::from_yaml(POLICY).unwrap());
    scene.source_dies();
    let now = scene.sim.store.time();
    ["a", "b"].iter().for_each(|source| scene.watch.fires(source, now));
    scene.watch.sweep(&scene.sim.store);
    let asked = |store: &MemoryStore| notes(store).iter().find_map(|note| if let Note::Asked { round, .. } = note.note { Some(round) } else { None });
    scene.sim.run_until(POLLS, |store| asked(store).is_some()).unwrap();
    let round = asked(&scene.sim.store).unwrap();
    let run_of = |scene: &Scene, workflow: &str| scene.sim.store.runs().into_iter().find(|(_, run)| run.workflow == workflow).unwrap().0;
    let trigger = run_of(&scene, "trigger");
    for by in ["ada", "bob"] {
        let body = serde_json::to_value(Ballot { round, approve: true, reason: Some("seen it".into()) }).unwrap();
        scene.send(trigger, &Message::Signal { name: "approval".into(), key: format!("{round}:{by}"), body, by: by.into() });
    }
    scene.finish(trigger).unwrap();
    bundle(vec![history(&scene, trigger), history(&scene, run_of(&scene, "failover"))])
}

#[test]
fn a_report_names_the_rules_the_deliveries_and_the_people_behind_a_failover() {
    let report = triggered().report();
    let trigger = report.trigger.clone().unwrap();
    assert_eq!((trigger.policy.as_str(), trigger.version, trigger.rules.iter().all(|rule| rule.holds)), ("db9", Some(1), true), "{trigger:?}");
    let said: Vec<(&str, Option<bool>)> = report.approvals.iter().map(|approval| (approval.by.as_str(), approval.approves)).collect();
    assert_eq!(said, [("ada", Some(true)), ("bob", Some(true))]);
    assert_eq!(report.runs.iter().map(|run| run.workflow.as_str()).collect::<Vec<_>>(), ["trigger", "failover"]);
    assert_eq!(report.recoveries[0].kind, evidence::report::Kind::Unplanned);
}

#[test]
fn a_drill_is_one_file_with_each_run_below_the_one_that_began_it() {
    let bundle = drill();
    assert_ne!(bundle.about(), bundle.runs()[0].run, "it was asked for by a child");
    let order: Vec<String> = bundle.report().runs.iter().map(|run| run.workflow.clone()).collect();
    assert_eq!(order, ["drill", "test-failover", "clean-test-failover"]);
    let file = bundle.reported(&key());
    assert!(verify(file.as_bytes(), None, None).holds());
    let opened = evidence::open(file.as_bytes()).unwrap();
    assert!(replay::all(&opened.bundle, &workflows::registry()).iter().all(|replayed| replayed.differs.is_none()));
    assert_eq!(timeline::of(&bundle).iter().map(|entry| entry.depth).max(), Some(1));
    let report = bundle.report();
    assert_eq!(report.conclusion.result, Judgement::Passed, "{:?}", report.conclusion);
    assert!(report.clean_up[0].complete && report.recoveries[0].serves == Some(true));
    let empty = Some(serde_json::json!([]));
    assert_eq!((&report.clean_up[0].inventory_before, &report.clean_up[0].inventory_after), (&empty, &empty), "the site was asked before and after");
}

#[test]
fn what_an_older_point_loses_on_the_way_home_is_no_secret() {
    let mut scene = Scene::ready_for(7, Work::Failback).unwrap();
    let (run, _) = scene.carry_out(Work::Failback).unwrap();
    let plain = history(&scene, run);
    let report = bundle(vec![plain.clone()]).report();
    assert!(report.recoveries[0].data_loss.starts_with("None: point"), "{:?}", report.recoveries[0]);
    assert_eq!(report.recoveries[0].rpo.actual_ms, Some(0));

    let measured = history_with(&plain, &Fact::Measured { rto_actual_ms: 1, rpo_actual_ms: 42_000 });
    let agreed = history_with(&measured, &Fact::LossAccepted { by: "ada".into(), statement: "42 s of db1 (ransomware)".into() });
    let report = bundle(vec![agreed]).report();
    let recovery = &report.recoveries[0];
    assert_eq!(recovery.data_loss, "Agreed to by ada: 42 s of db1 (ransomware).");
    assert_eq!(recovery.rpo.actual_ms, Some(42_000), "it is measured, not none by its kind: {:?}", recovery.rpo);
    assert!(report.recorded.iter().any(|recorded| recorded.words.starts_with("ada agreed to lose")), "{:?}", report.recorded);
}

/// The same with another fact before its last event.
fn history_with(plain: &History, fact: &Fact) -> History {
    let mut with = History::new(plain.run);
    let (last, before) = plain.events.split_last().unwrap();
    for stored in before {
        with.push(stored.event.clone());
    }
    let recorded = before.iter().rev().find_map(|stored| match &stored.event.body {
        EventBody::Command(Command::Recorded { projection, fact }) if projection == ITEM_PROJECTION => Some(fact.clone()),
        EventBody::Command(_) | EventBody::Inbound(_) => None,
    });
    let mut change: ItemChange = serde_json::from_value(recorded.unwrap()).unwrap();
    change.fact = fact.clone();
    let body = EventBody::Command(Command::Recorded { projection: ITEM_PROJECTION.to_owned(), fact: serde_json::to_value(change).unwrap() });
    with.push(sdk::Event { body, ..last.event.clone() });
    with.push(sdk::Event { seq: Seq(last.event.seq.0 + 1), ..last.event.clone() });
    with
}
