//! Evidence of what simulated sites went through: exported, verified, replayed, reported; and every forgery found.
#![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

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
use sdk::{Context, EventBody, Failure, History, Inbound, Message, Registry, RunId, Seq, Workflow};
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

/// The number of the line that a byte is on.
fn line_of(file: &[u8], at: usize) -> usize {
    file[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Changes the byte at a place to every bit's worth of something else, and looks whether that is found where it is.
fn each_change_is_found(file: &[u8], at: usize, rng: &mut Rng) {
    let other = u8::try_from(rng.below(255).unwrap()).unwrap();
    let mut changed = file.to_vec();
    changed[at] = changed[at].wrapping_add(1 + other);
    let verdict = verify(&changed, Some(&[key().public()]), None);
    let context = String::from_utf8_lossy(&file[at.saturating_sub(30)..file.len().min(at + 30)]);
    assert!(!verdict.holds(), "byte {at} made {:?} in {context}", changed[at]);
    let first = &verdict.faults[0];
    assert_eq!(first.place.line, line_of(file, at), "byte {at} made {:?} in {context}: {first}", char::from(changed[at]));
}

#[test]
fn an_export_is_the_same_twice_and_verifies_with_the_key_alone() {
    let bundle = rehearsal();
    let file = bundle.exported(&key());
    assert_eq!(file, rehearsal().exported(&key()), "equal histories give equal bytes");
    let verdict = verify(file.as_bytes(), Some(&[key().public()]), None);
    assert_eq!((verdict.faults.clone(), verdict.key_known, verdict.report), (vec![], Some(true), None));
    assert_eq!(verdict.runs.len(), 2);
    assert_eq!(verify(file.as_bytes(), None, None).key_known, None, "without a key nobody can say whose it is");
    let stranger = SigningKey::from_seed(&[9; 32]).unwrap().public();
    let unknown = verify(file.as_bytes(), Some(&[stranger]), None);
    assert_eq!((unknown.faults.clone(), unknown.key_known, unknown.holds()), (vec![], Some(false), false));
    assert_eq!(evidence::open(file.as_bytes()).unwrap().bundle, bundle);
}

#[test]
fn every_changed_byte_of_a_file_is_found_where_it_is() {
    let bundle = rehearsal();
    let report = bundle.reported(&key());
    let page = bundle.reported_as_page(&key());
    for file in [bundle.exported(&key()), report, page] {
        assert!(verify(file.as_bytes(), Some(&[key().public()]), None).holds());
        let seeds: Vec<u64> = (0..16).collect();
        for_each(&seeds, |seed| {
            let mut rng = Rng::new(seed);
            for _ in 0..25 {
                let at = usize::try_from(rng.below(file.len() as u64).unwrap()).unwrap();
                each_change_is_found(file.as_bytes(), at, &mut rng);
            }
        });
    }
}

#[test]
fn every_byte_of_the_short_records_counts() {
    let bundle = rehearsal();
    let file = bundle.reported(&key());
    let lines: Vec<&str> = file.split_inclusive('\n').collect();
    let begins = |number: usize| lines[..number].iter().map(|line| line.len()).sum::<usize>();
    let short = |at: &usize| !lines[*at].starts_with("{\"event\"") && !lines[*at].starts_with("{\"report\"");
    let places: Vec<usize> = (0..lines.len()).filter(short).flat_map(|number| begins(number)..begins(number + 1)).collect();
    for_each(&places, |at| each_change_is_found(file.as_bytes(), at, &mut Rng::new(at as u64)));
}

#[test]
fn what_is_changed_with_care_is_named_by_run_event_and_field() {
    let bundle = rehearsal();
    let file = bundle.reported(&key());
    let found = |file: &str| verify(file.as_bytes(), None, None).faults;
    let run = bundle.runs()[0].run;
    let event = file.lines().find(|line| line.contains("\\\"by\\\"") || line.contains("requested_by")).unwrap();
    let forged = file.replace(event, &event.replace("ada", "eve"));
    assert_eq!(found(&forged)[0].place.what, Part::Event { run: Some(run), seq: Seq(0) });
    let forged = file.replace("\"result\":\"passed\"", "\"result\":\"failed\"");
    assert_eq!(found(&forged)[0].place.what, Part::Report { field: "conclusion.result".into() });
    let dropped: Vec<&str> = file.lines().filter(|line| !line.starts_with("{\"event\":{\"seq\":5,")).collect();
    assert_eq!(found(&(dropped.join("\n") + "\n"))[0].place.what, Part::Event { run: Some(run), seq: Seq(5) });
    let unreported: Vec<&str> = file.lines().filter(|line| !line.starts_with("{\"report\"")).collect();
    assert_eq!(found(&(unreported.join("\n") + "\n"))[0].place.what, Part::Signature);
    let newer = file.replacen("\"v\":1", "\"v\":2", 1);
    assert!(found(&newer)[0].why.contains("use a newer switchback"), "{:?}", found(&newer));
    assert_eq!(found(&format!("{file}\n"))[0].place.line, file.lines().count() + 1, "nothing stands behind the end");
    assert_eq!((found("").len(), found("[\n]\n").len(), found("{}\n").len()), (1, 1, 1));
}

#[test]
fn a_report_of_another_build_stays_as_it_was_signed_and_a_false_one_of_this_build_is_found() {
    let (honest, false_one) = (disaster(), |build: &str| {
        let about = disaster();
        let bundle = Bundle::new(build, about.about(), Stated::default(), about.runs().to_vec()).unwrap();
        let mut report = bundle.report();
        report.conclusion.sentence = "It went well.".into();
        bundle.reported_as(&report, &key())
    });
    let other = verify(false_one("0.0.1").as_bytes(), Some(&[key().public()]), None);
    assert_eq!((other.holds(), other.report), (true, Some(ReportCheck::DerivedOtherwise { build: "0.0.1".into() })));
    let ours = verify(false_one(honest.build()).as_bytes(), Some(&[key().public()]), None);
    assert_eq!(ours.faults[0].place.what, Part::Report { field: "conclusion.sentence".into() });
    let changed = false_one("0.0.1").replace("It went well.", "It went bad.");
    assert!(!verify(changed.as_bytes(), None, None).holds());
}

#[test]
fn a_history_written_anew_by_whoever_has_the_key_is_found_by_an_anchor() {
    let honest = disaster();
    let anchors: Vec<Head> = verify(honest.exported(&key()).as_bytes(), None, None).runs;
    let mut forged = History::new(honest.about());
    for stored in &honest.runs()[0].events {
        let mut event = stored.event.clone();
        if let sdk::EventBody::Inbound(sdk::Inbound::RunStarted { requested_by, .. }) = &mut event.body {
            "eve".clone_into(requested_by);
        }
        forged.push(event);
    }
    let file = bundle(vec![forged]).reported(&key());
    assert!(verify(file.as_bytes(), Some(&[key().public()]), None).holds(), "by itself nothing tells it from the truth");
    let verdict = verify(file.as_bytes(), Some(&[key().public()]), Some(&anchors));
    assert!(!verdict.holds() && verdict.faults[0].why.contains("written anew"), "{:?}", verdict.faults);
    let kept = verify(honest.reported(&key()).as_bytes(), Some(&[key().public()]), Some(&anchors));
    assert_eq!((kept.holds(), kept.anchored), (true, Some(1)));
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
    let chaos = Chaos { crash_per_mille: 8, pause_per_mille: 4, lose_per_mille: 15 };
    let mut scene = Scene::new(5, chaos);
    let (run, stats) = scene.carry_out(Work::Protect).unwrap();
    assert!(stats.crashes > 0);
    let report = bundle(vec![history(&scene, run)]).report();
    assert!(report.environment.writers.len() > 1, "{:?}", report.environment);
    assert!(report.deviations.iter().any(|deviation| deviation.words.contains("goes on with what")), "{:?}", report.deviations);
    assert_eq!(scene.runs_at(), [site("a")]);
}

fn supposed(bundle: &Bundle, registry: &Registry, what: &str) -> Imagined {
    let imagined = what_if::imagine(bundle, registry, &what.parse().unwrap()).unwrap();
    assert_eq!(imagined, what_if::imagine(bundle, registry, &what.parse().unwrap()).unwrap(), "{what}: the same twice");
    assert_eq!(imagined.open, None, "{what}");
    for branch in &imagined.branches {
        let only_in_one = branch.recorded.is_empty() || branch.imagined.is_empty();
        assert!(only_in_one || branch.recorded.get(..2) == branch.imagined.get(..2), "{what}: what had happened has happened");
    }
    imagined
}

/// How the only run that went another way would have ended, and its item.
fn end(imagined: &Imagined) -> (RunState, String, MainState) {
    let end = imagined.branches[0].imagined_end.clone().unwrap();
    let item = imagined.items.values().next().unwrap().imagined.clone().unwrap();
    (end.state, end.failure.unwrap_or_default(), item.state.main)
}

fn failover() -> Bundle {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    let (run, _) = scene.carry_out(Work::Failover).unwrap();
    bundle(vec![history(&scene, run)])
}

#[test]
fn what_if_the_machine_had_not_started() {
    let imagined = supposed(&failover(), &workflows::registry(), "step=start-machine fails: no-memory");
    let (state, failure, item) = end(&imagined);
    assert_eq!((state, item), (RunState::Failed, MainState::Failed { of: Operation::Failover, before: None }));
    assert!(failure.starts_with("no-memory"), "{failure}");
    assert_eq!(imagined.assumed, vec![], "nothing had to be assumed to see that");
    assert_eq!(imagined.branches[0].recorded_end.as_ref().unwrap().state, RunState::Completed);
}

#[test]
fn what_if_nobody_had_fenced_the_source() {
    let imagined = supposed(&failover(), &workflows::registry(), "step=fence-machine times-out");
    let (state, failure, item) = end(&imagined);
    assert_eq!((state, item), (RunState::Failed, MainState::Failed { of: Operation::Failover, before: Some(Rest::Protected) }));
    assert!(failure.starts_with("source-not-fenced"), "{failure}");
    let events = &imagined.branches[0].imagined;
    let waited = events.iter().zip(events.iter().skip(1)).map(|(a, b)| (b.at - a.at).num_milliseconds()).max().unwrap();
    assert_eq!(waited, 10_001, "the engine's own limit ran out");
}

#[test]
fn what_if_a_step_that_may_wait_for_ever_fell_silent() {
    let imagined = supposed(&failover(), &workflows::registry(), "step=seal-replica times-out");
    let (state, failure, item) = end(&imagined);
    assert_eq!((state, item), (RunState::Failed, MainState::Failed { of: Operation::Failover, before: Some(Rest::Protected) }));
    assert!(failure.starts_with("timed-out"), "{failure}");
    let assumed: Vec<&str> = imagined.assumed.iter().map(|assumed| assumed.step.as_str()).collect();
    assert_eq!(assumed, ["reopen-replica", "start-replication", "lift-fence"], "the source was put back, by answers that nobody had given");
}

#[test]
fn what_if_it_had_failed_once_it_would_have_ended_the_same() {
    let bundle = failover();
    let imagined = supposed(&bundle, &workflows::registry(), "step=recover-machine fails-once");
    assert_eq!((imagined.branches, imagined.assumed), (vec![], vec![]), "a retry is not in a history");
    let refused = |what: &str| what_if::imagine(&bundle, &workflows::registry(), &what.parse().unwrap()).unwrap_err().to_string();
    assert!(refused("step=start-test fails").contains("was never asked for; these were: check-machine"), "{}", refused("step=start-test fails"));
    assert!(refused("step=start-machine#2 fails").contains("start-machine#2"));
}

#[test]
fn a_failure_that_passes_changes_nothing_wherever_it_strikes() {
    for_each(&Work::ALL, |work| {
        let mut scene = Scene::ready_for(3, work).unwrap();
        let (run, _) = scene.carry_out(work).unwrap();
        let bundle = if work == Work::Drill { drill() } else { bundle(vec![history(&scene, run)]) };
        let mut asked = std::collections::BTreeMap::<String, usize>::new();
        for step in bundle.report().steps {
            let nth = asked.entry(step.name.clone()).or_default();
            *nth += 1;
            let what = format!("step={}#{nth} fails-once", step.name);
            let imagined = what_if::imagine(&bundle, &workflows::registry(), &what.parse().unwrap()).unwrap();
            let other: Vec<(String, Seq)> = imagined.branches.into_iter().map(|branch| (branch.workflow, branch.from)).collect();
            assert_eq!((imagined.open, other, imagined.assumed), (None, vec![], vec![]), "{work:?}: {what}");
        }
    });
}

#[test]
fn every_declared_step_has_a_sample_answer() {
    use async_trait::async_trait;
    struct Nobody;
    #[async_trait]
    impl activities::Prober for Nobody {
        async fn ask(&self, _: &recovery::Check) -> Result<String, String> {
            Err("nobody".into())
        }
    }
    let scene = Scene::new(1, Chaos::default());
    let (here, actions): (Arc<dyn provider::Site>, _) = (Arc::new(scene.world.site(&site("a"))), Arc::new(scene.world.actions(&site("a"))));
    let registry = activities::with_actions(activities::registry(here.clone(), Arc::new(Nobody)), here, Arc::new(Nobody), actions);
    let without: Vec<&str> = registry.names().filter(|name| what_if::sample(name, &Value::Null, chrono::DateTime::UNIX_EPOCH).is_none()).collect();
    assert_eq!(without, Vec::<&str>::new());
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
fn what_if_nobody_had_been_able_to_start_it_the_trigger_would_have_said_so() {
    let bundle = triggered();
    let imagined = supposed(&bundle, &workflows::registry(), "step=start-machine fails");
    assert_eq!(imagined.branches.iter().map(|branch| branch.workflow.as_str()).collect::<Vec<_>>(), ["trigger", "failover"]);
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
fn what_if_a_childs_step_had_failed_its_parent_would_have_heard() {
    let bundle = drill();
    let imagined = supposed(&bundle, &workflows::registry(), "step=start-test fails");
    let by_name = |name: &str| imagined.branches.iter().find(|branch| branch.workflow == name).unwrap();
    assert_eq!(by_name("test-failover").imagined_end.as_ref().unwrap().state, RunState::Failed);
    assert!(format!("{:?}", by_name("drill").imagined.last()).contains("the test failover failed"), "its verdict is another one");
    let clean = by_name("clean-test-failover");
    assert_eq!((clean.imagined.len(), clean.imagined_end.clone()), (0, None), "it would never have been begun");
    let heard = by_name("drill").imagined.iter().any(|event| matches!(&event.body, EventBody::Inbound(Inbound::ChildClosed { .. })));
    assert!(heard);
    let late = supposed(&bundle, &workflows::registry(), "step=unpin-point times-out");
    assert!(late.branches.iter().any(|branch| branch.workflow == "clean-test-failover"));
}
