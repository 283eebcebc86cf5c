//! What the API asks: items and points, tokens and agents, dead letters, requests that count once.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

use std::time::Duration;

use engine::{LeaseStore, ProjectionRow, RunStore, StartRun, TaskStore, TurnWrite};
use sdk::{ActivityOptions, Effect, Failure, Lease, Message, Outcome, RunId, Scope, Seq, TaskQueue, WorkerId};
use serde_json::json;
use switchback_store::{
    PgStore,
    access::{Enrolment, NewAgent, Request},
    items::PointRow,
    look::{RunFilter, Wait},
    testing::PgLab,
};
use uuid::Uuid;

const HOUR: Duration = Duration::from_secs(3600);

async fn owned_run(store: &PgStore, about: &str) -> (Lease, RunId, i64) {
    let run = RunId(Uuid::now_v7());
    let start =
        Message::Start { workflow: "case".into(), input: json!(null), workflow_id: about.into(), requested_by: "ada".into(), trace: None, parent: None };
    store.start_run(StartRun { run, start }).await.unwrap();
    let lease = store.open_lease(WorkerId(Uuid::now_v7()), Duration::from_secs(10)).await.unwrap();
    let claimed = store.claim_runs(lease, 10).await.unwrap().remove(0);
    (lease, run, claimed.epoch)
}

fn turn(run: RunId, run_epoch: i64) -> TurnWrite {
    TurnWrite { consumed: vec!["start".into()], ..TurnWrite::empty(run, run_epoch, Uuid::now_v7()) }
}

fn point(number: i64) -> PointRow {
    PointRow {
        item: "db9".into(),
        site: "hamburg".into(),
        point: number,
        consistency: "crash".into(),
        taken_at: chrono::DateTime::UNIX_EPOCH,
        era: 1,
        grant_epoch: 1,
        size_bytes: 7,
        pinned: false,
        withdrawn: false,
        group_name: Some("shop".into()),
        moment: Some(format!("m{number}")),
    }
}

fn change(fact: &serde_json::Value, state: &str) -> ProjectionRow {
    let record = json!({"name": "db9", "primary": "berlin", "recovery": "hamburg", "state": {"main": {"is": state}, "direction": "forward"}});
    ProjectionRow { projection: "recovery.item".into(), fact: json!({"item": "db9", "fact": fact, "record": record}), seq: Seq(1) }
}

#[tokio::test]
async fn a_turn_writes_the_items_it_changes_and_withdraws_their_points() {
    let lab = PgLab::new().await;
    let (lease, run, epoch) = owned_run(&lab.store, "item:db9").await;
    lab.store.put_points("db9", "hamburg", &[point(1), point(2), point(3)]).await.unwrap();
    let mut write = turn(run, epoch);
    write.projections.push(change(&json!({"fact": "moved"}), "committing"));
    write.projections.push(change(&json!({"fact": "points_withdrawn", "up_to": 2}), "committed"));
    lab.store.commit_turns(lease, &[write]).await.unwrap();
    let items = lab.store.items(Some("db9")).await.unwrap();
    assert_eq!(items[0].record["state"]["main"]["is"], "committed");
    assert_eq!((items[0].version, items[0].open_run), (2, Some(run)));
    let withdrawn: Vec<bool> = lab.store.points(Some("db9")).await.unwrap().iter().map(|point| point.withdrawn).collect();
    assert_eq!(withdrawn, [true, true, false]);
}

#[tokio::test]
async fn a_report_replaces_the_points_of_its_site_and_revives_none() {
    let lab = PgLab::new().await;
    lab.store.put_points("db9", "berlin", &[PointRow { site: "berlin".into(), ..point(9) }]).await.unwrap();
    lab.store.put_points("db9", "hamburg", &[point(1), PointRow { withdrawn: true, ..point(2) }]).await.unwrap();
    lab.store.put_points("db9", "hamburg", &[PointRow { pinned: true, ..point(2) }, point(3)]).await.unwrap();
    let points = lab.store.points(Some("db9")).await.unwrap();
    let seen: Vec<_> = points.iter().map(|point| (point.site.as_str(), point.point, point.pinned, point.withdrawn)).collect();
    assert_eq!(seen, [("berlin", 9, false, false), ("hamburg", 2, true, true), ("hamburg", 3, false, false)]);
    lab.store.put_replication("db9", "berlin", Some(&json!({"phase": "broken"}))).await.unwrap();
    assert_eq!(lab.store.replication(None).await.unwrap()[0].status, json!({"phase": "broken"}));
    lab.store.put_replication("db9", "berlin", None).await.unwrap();
    assert_eq!(lab.store.replication(None).await.unwrap(), []);
}

#[tokio::test]
async fn an_enrolment_token_holds_once_and_for_its_time() {
    let lab = PgLab::new().await;
    let agent = |name, certificate| NewAgent { name, worker: WorkerId(Uuid::now_v7()), certificate, build: "0.1.0" };
    lab.store.add_enrolment_token([1; 32], "berlin", "ada", HOUR).await.unwrap();
    assert_eq!(lab.store.enrolment_site([1; 32]).await.unwrap().as_deref(), Some("berlin"));
    assert_eq!(lab.store.enrol_agent([1; 32], &agent("b1", [11; 32])).await.unwrap(), Enrolment::Enrolled("berlin".into()));
    assert_eq!(lab.store.enrol_agent([1; 32], &agent("b2", [12; 32])).await.unwrap(), Enrolment::Refused);
    lab.store.add_enrolment_token([2; 32], "berlin", "ada", HOUR).await.unwrap();
    assert_eq!(lab.store.enrol_agent([2; 32], &agent("b1", [13; 32])).await.unwrap(), Enrolment::NameTaken);
    lab.database.advance(HOUR * 2).await;
    assert_eq!(lab.store.enrol_agent([2; 32], &agent("b2", [12; 32])).await.unwrap(), Enrolment::Refused);
    let known = lab.store.agent_by_certificate([11; 32]).await.unwrap().unwrap();
    assert_eq!((known.name.as_str(), known.site.as_str()), ("b1", "berlin"));
    assert_eq!(lab.store.sites().await.unwrap()[0].agents, ["b1"]);
    assert!(!lab.store.agents().await.unwrap()[0].connected);
    lab.store.open_lease(known.worker, Duration::from_secs(10)).await.unwrap();
    lab.store.agent_seen("b1", Some("10.0.0.1:7000")).await.unwrap();
    let agents = lab.store.agents().await.unwrap();
    assert!(agents[0].connected && agents[0].data_address.as_deref() == Some("10.0.0.1:7000"));
}

#[tokio::test]
async fn a_request_with_a_key_counts_once() {
    let lab = PgLab::new().await;
    let begin = |digest| lab.store.begin_request("ada", "k", digest);
    assert_eq!(begin([1; 32]).await.unwrap(), Request::Fresh);
    assert_eq!(begin([1; 32]).await.unwrap(), Request::Conflict, "the first is being worked on");
    lab.store.end_request("ada", "k", Some((202, &json!({"run": 1})))).await.unwrap();
    assert_eq!(begin([1; 32]).await.unwrap(), Request::Answered { status: 202, answer: json!({"run": 1}) });
    assert_eq!(begin([2; 32]).await.unwrap(), Request::Conflict, "another request has the key");
    lab.store.end_request("ada", "k", None).await.unwrap();
    assert_eq!(begin([2; 32]).await.unwrap(), Request::Fresh);
    lab.database.advance(HOUR * 25).await;
    lab.store.begin_request("bob", "k", [1; 32]).await.unwrap();
    assert_eq!(begin([3; 32]).await.unwrap(), Request::Fresh, "a key is forgotten after a day");
}

#[tokio::test]
async fn a_bearer_token_names_its_holder() {
    let lab = PgLab::new().await;
    assert!(lab.store.add_api_token("ci", "viewer", [1; 32], "ada").await.unwrap());
    assert!(!lab.store.add_api_token("ci", "admin", [2; 32], "ada").await.unwrap());
    let holder = lab.store.token_holder([1; 32]).await.unwrap().unwrap();
    assert_eq!((holder.name.as_str(), holder.role.as_str()), ("ci", "viewer"));
    assert_eq!(lab.store.token_holder([2; 32]).await.unwrap(), None);
}

#[tokio::test]
async fn a_dead_letter_is_tried_again_or_given_up_by_a_person() {
    let lab = PgLab::new().await;
    let (lease, run, epoch) = owned_run(&lab.store, "a").await;
    let mut write = turn(run, epoch);
    write.tasks.push(engine::TaskRow {
        seq: Seq(1),
        queue: TaskQueue::new("q"),
        activity: "work".into(),
        input: json!("a \u{0} byte"),
        options: ActivityOptions { retry: sdk::Retry::NEVER, ..ActivityOptions::default() },
        effect: Effect::Idempotent,
        scope: Scope::Read,
        grant: None,
        trace: None,
    });
    lab.store.commit_turns(lease, &[write]).await.unwrap();
    let queues = [TaskQueue::new("q")];
    for attempt in [1, 2] {
        let claimed = lab.store.claim_tasks(lease, &queues, 9).await.unwrap();
        assert_eq!((claimed.len(), claimed[0].token.attempt), (1, attempt));
        assert_eq!(claimed[0].task.input, json!("a \u{fffd} byte"), "Postgres keeps no U+0000 in texts");
        lab.store.bury_task(run, Seq(1), attempt, &Failure::fatal("unknown-activity", "nobody can")).await.unwrap();
        let dead = lab.store.tasks_seen(None, true, 9).await.unwrap();
        assert_eq!(dead[0].problem.as_ref().unwrap().code, "unknown-activity");
        if attempt == 1 {
            assert!(lab.store.retry_dead(run, Seq(1)).await.unwrap());
            assert!(!lab.store.retry_dead(run, Seq(1)).await.unwrap());
        }
    }
    assert_eq!(lab.store.queues().await.unwrap()[0].dead, 1);
    let given_up = Failure::fatal("discarded", "ada gave it up");
    assert!(lab.store.discard_dead(run, Seq(1), &given_up, 2).await.unwrap());
    assert!(!lab.store.discard_dead(run, Seq(1), &given_up, 2).await.unwrap());
    let inbox = lab.store.read_inbox(&[run]).await.unwrap();
    let expected = Message::Finished { of: Seq(1), outcome: Outcome::Failed { failure: given_up, attempts: 2 } };
    assert_eq!(inbox[0].message, expected);
    assert_eq!(lab.store.waits(run).await.unwrap(), [Wait::Turn { key: "task:1".into() }]);
}

#[tokio::test]
async fn a_suspended_run_that_is_resumed_is_claimed_again() {
    let lab = PgLab::new().await;
    let (lease, run, epoch) = owned_run(&lab.store, "a").await;
    let mut write = turn(run, epoch);
    write.close = Some(engine::Close { state: engine::RunState::Suspended, problem: Some(Failure::fatal("replay-differs", "event 3")), end: None });
    lab.store.commit_turns(lease, &[write]).await.unwrap();
    let seen = lab.store.runs(&RunFilter { run: Some(run), limit: 1, ..RunFilter::default() }).await.unwrap().remove(0);
    assert_eq!((seen.state.as_str(), seen.problem.unwrap().code.as_str()), ("suspended", "replay-differs"));
    assert!(lab.store.resume_run(run).await.unwrap());
    assert!(!lab.store.resume_run(run).await.unwrap());
    let again = lab.store.claim_runs(lease, 9).await.unwrap();
    assert_eq!((again[0].run, again[0].epoch), (run, epoch + 1));
    assert!(!lab.store.gauges().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_report_with_nul_in_it_is_kept_without() {
    let lab = PgLab::new().await;
    let store = &lab.store;
    store.put_replication("db1", "a", Some(&json!({ "last_error": "a\0b", "all": ["c\0"] }))).await.unwrap();
    let kept: Vec<_> = store.replication(Some("db1")).await.unwrap().into_iter().map(|row| row.status).collect();
    assert_eq!(kept, [json!({ "last_error": "a\u{fffd}b", "all": ["c\u{fffd}"] })]);
}
