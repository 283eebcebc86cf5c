//! What if a step had answered otherwise.

use super::*;

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
    assert_eq!(waited, 20_001, "the engine's own limit ran out");
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

#[test]
fn what_if_nobody_had_been_able_to_start_it_the_trigger_would_have_said_so() {
    let bundle = triggered();
    let imagined = supposed(&bundle, &workflows::registry(), "step=start-machine fails");
    assert_eq!(imagined.branches.iter().map(|branch| branch.workflow.as_str()).collect::<Vec<_>>(), ["trigger", "failover"]);
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
