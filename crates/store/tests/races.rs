//! What only real transactions show: who waits for whom, and what an answer means that never came.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

use std::{future::Future, time::Duration};

use chrono::DateTime;
use engine::{
    ClaimedRun, CommitError, EventRow, LeaseStore, RunState, RunStore, Sent, StartRun, Step, StoreError, Sweeps, TurnWrite, Writer,
    schedule::{CatchUp, ClockChange, NewSchedule, NextFire, Overlap, ScheduleSpec, ScheduleStore, Scheduler},
};
use sdk::{Event, EventBody, History, Lease, Message, RunId, Seq, WorkerId};
use serde_json::json;
use switchback_store::{
    PgStore,
    testing::PgLab,
};
use tokio_postgres::Client;
use uuid::Uuid;

const TTL: Duration = Duration::from_secs(10);

struct Scene {
    lab: PgLab,
    lease: Lease,
    claimed: ClaimedRun,
}

impl Scene {
    async fn new() -> Self {
        let lab = PgLab::new().await;
        let store = lab.store.clone();
        store.start_run(StartRun { run: RunId(Uuid::now_v7()), start: start() }).await.unwrap();
        let lease = store.open_lease(WorkerId(Uuid::now_v7()), TTL).await.unwrap();
        let claimed = store.claim_runs(lease, 1).await.unwrap().remove(0);
        Self { lab, lease, claimed }
    }

    fn store(&self) -> &PgStore {
        &self.lab.store
    }

    /// A transaction of our own that holds the fence, as a batch in flight does.
    async fn batch_in_flight(&self) -> Client {
        let client = self.lab.database.client().await;
        client.batch_execute("begin").await.unwrap();
        client.execute("select engine.fence($1, $2)", &[&self.lease.worker.0, &self.lease.epoch]).await.unwrap();
        client
    }

    fn first_turn(&self) -> TurnWrite {
        let (run, turn) = (self.claimed.run, Uuid::now_v7());
        let mut history = History::new(run);
        let stored = history.push(Event {
            v: 1,
            seq: Seq(0),
            at: chrono::DateTime::UNIX_EPOCH,
            worker: self.lease.worker,
            lease_epoch: self.lease.epoch,
            run_epoch: self.claimed.epoch,
            turn,
            msg_key: Some("start".into()),
            body: EventBody::Inbound(start().into_inbound()),
        });
        let event = EventRow { seq: Seq(0), kind: "run_started", msg_key: Some("start".into()), bytes: stored.bytes.clone(), hash: stored.hash };
        TurnWrite { events: vec![event], consumed: vec!["start".into()], ..empty(run, self.claimed.epoch, turn) }
    }
}

fn start() -> Message {
    Message::Start { workflow: "case".into(), input: json!(null), workflow_id: "a".into(), requested_by: "tester".into(), trace: None, parent: None }
}

fn empty(run: RunId, run_epoch: i64, turn: Uuid) -> TurnWrite {
    TurnWrite::empty(run, run_epoch, turn)
}

/// Polls until `condition` holds; a test that waits in vain fails.
async fn wait_until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn somebody_waits_for_a_lock(client: &Client) -> bool {
    waiting(client).await > 0
}

async fn waiting(client: &Client) -> i64 {
    let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    client.query_one(waiting, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_takeover_passes_over_a_lease_under_which_a_batch_is_in_flight() {
    let scene = Scene::new().await;
    let batch = scene.batch_in_flight().await;
    scene.lab.database.advance(TTL * 3).await;
    let other = scene.store().open_lease(WorkerId(Uuid::now_v7()), TTL).await.unwrap();
    assert_eq!(scene.store().expire_leases(other, TTL).await.unwrap(), []);
    batch.batch_execute("rollback").await.unwrap();
    assert_eq!(scene.store().expire_leases(other, TTL).await.unwrap(), [scene.lease]);
}

#[tokio::test]
async fn a_heartbeat_does_not_wait_for_a_batch() {
    let scene = Scene::new().await;
    let batch = scene.batch_in_flight().await;
    assert!(scene.store().renew_lease(scene.lease, TTL).await.unwrap());
    batch.batch_execute("commit").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_waited_for_a_takeover_is_fenced() {
    let scene = Scene::new().await;
    let taker = scene.lab.database.client().await;
    let watcher = scene.lab.database.client().await;
    taker.batch_execute("begin").await.unwrap();
    taker.execute("delete from engine.leases where worker_id = $1", &[&scene.lease.worker.0]).await.unwrap();
    let (store, turn, lease) = (scene.lab.store.clone(), scene.first_turn(), scene.lease);
    let late = tokio::spawn(async move { store.commit_turns(lease, &[turn]).await });
    wait_until("the batch waits", || somebody_waits_for_a_lock(&watcher)).await;
    taker.batch_execute("commit").await.unwrap();
    assert!(matches!(late.await.unwrap(), Err(CommitError::Store(StoreError::Fenced(l))) if l == lease));
    assert_eq!(scene.store().load_history(scene.claimed.run).await.unwrap().events.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_sent_again_waits_for_the_backend_that_may_still_commit_it() {
    for (ending, stored) in [("commit", true), ("rollback", false)] {
        let scene = Scene::new().await;
        let turn = scene.first_turn();
        let event = turn.events[0].clone();
        let old = scene.lab.database.client().await;
        let watcher = scene.lab.database.client().await;
        old.batch_execute("begin").await.unwrap();
        let insert = "insert into engine.events (run_id, seq, kind, body, msg_key, worker_id, lease_epoch, turn, hash) values ($1, 0, $2, $3, $4, $5, $6, $7, $8)";
        let hash = event.hash.0.to_vec();
        old.execute(insert, &[&turn.run.0, &event.kind, &event.bytes, &event.msg_key, &scene.lease.worker.0, &scene.lease.epoch, &turn.turn, &hash])
            .await
            .unwrap();
        let (store, again, lease) = (scene.lab.store.clone(), turn.clone(), scene.lease);
        let again = tokio::spawn(async move { store.commit_turns(lease, &[again]).await });
        wait_until("the turn waits at the key", || somebody_waits_for_a_lock(&watcher)).await;
        old.batch_execute(ending).await.unwrap();
        let answer = again.await.unwrap();
        assert_eq!(matches!(answer, Err(CommitError::Taken)), stored, "{answer:?}");
        let writer = scene.store().writer_of(turn.run, Seq(0)).await.unwrap();
        assert_eq!(writer, Some(Writer { lease, turn: turn.turn }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_connection_is_no_answer_and_the_next_call_has_another() {
    let scene = Scene::new().await;
    let blocker = scene.lab.database.client().await;
    let watcher = scene.lab.database.client().await;
    blocker.batch_execute("begin; lock table engine.events").await.unwrap();
    let (store, turn, lease) = (scene.lab.store.clone(), scene.first_turn(), scene.lease);
    let sent = turn.clone();
    let cut = tokio::spawn(async move { store.commit_turns(lease, &[sent]).await });
    wait_until("the batch waits", || somebody_waits_for_a_lock(&watcher)).await;
    let kill = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    watcher.execute(kill, &[]).await.unwrap();
    let answer = cut.await.unwrap();
    assert!(matches!(answer, Err(CommitError::Store(StoreError::Again { .. }))), "{answer:?}");
    blocker.batch_execute("rollback").await.unwrap();
    scene.store().commit_turns(lease, &[turn]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_meets_the_end_of_its_run_is_refused_and_leaves_nothing() {
    let scene = Scene::new().await;
    let closer = scene.lab.database.client().await;
    let watcher = scene.lab.database.client().await;
    closer.batch_execute("begin").await.unwrap();
    closer.execute("update engine.runs set state = 'completed', closed_at = engine.now() where run_id = $1", &[&scene.claimed.run.0]).await.unwrap();
    let (store, run) = (scene.lab.store.clone(), scene.claimed.run);
    let late = tokio::spawn(async move { store.send(run, Message::Cancel { by: "tester".into(), reason: "late".into() }).await });
    wait_until("the sender waits", || somebody_waits_for_a_lock(&watcher)).await;
    closer.batch_execute("commit").await.unwrap();
    assert_eq!(late.await.unwrap().unwrap(), Sent::Closed);
}

#[tokio::test]
async fn a_row_that_the_store_refuses_says_so_and_a_suspension_goes_through() {
    let scene = Scene::new().await;
    let mut turn = scene.first_turn();
    turn.projections.push(engine::ProjectionRow { projection: "nowhere".into(), fact: json!({}), seq: Seq(0) });
    let answer = scene.store().commit_turns(scene.lease, &[turn]).await;
    assert!(matches!(&answer, Err(CommitError::Bad(why)) if why == "no projection is called nowhere"), "{answer:?}");
    let mut suspended = empty(scene.claimed.run, scene.claimed.epoch, Uuid::now_v7());
    suspended.close = Some(engine::Close { state: RunState::Suspended, problem: None, end: None });
    scene.store().commit_turns(scene.lease, &[suspended]).await.unwrap();
}

#[tokio::test]
async fn what_is_owned_is_told_after_a_claim_in_flight_has_ended() {
    let scene = Scene::new().await;
    let run = RunId(Uuid::now_v7());
    let start = Message::Start { workflow: "w".into(), input: json!({}), workflow_id: "late".into(), requested_by: "a".into(), trace: None, parent: None };
    scene.store().start_run(StartRun { run, start }).await.unwrap();
    let claim = scene.lab.database.client().await;
    claim.batch_execute("begin").await.unwrap();
    let claimed = claim.query("select run_id from engine.claim_runs($1, $2, 9)", &[&scene.lease.worker.0, &scene.lease.epoch]).await.unwrap();
    assert_eq!(claimed.len(), 1);
    let asked = scene.store().owned_runs(scene.lease);
    let committed = async {
        let watcher = scene.lab.database.client().await;
        wait_until("the question waits", || somebody_waits_for_a_lock(&watcher)).await;
        claim.batch_execute("commit").await.unwrap();
    };
    let (owned, ()) = tokio::join!(asked, committed);
    assert!(owned.unwrap().iter().any(|owned| owned.run == run), "a claim whose answer was lost is found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_servers_one_starts_a_fire_time() {
    let lab = PgLab::new().await;
    let store = lab.store.clone();
    let at = DateTime::from_timestamp(store.now().await.unwrap().timestamp() / 60 * 60 - 60, 0).unwrap();
    let spec = ScheduleSpec {
        v: ScheduleSpec::FORM,
        cron: "* * * * *".into(),
        zone: "UTC".into(),
        jitter_ms: 0,
        overlap: Overlap::Skip,
        catch_up: CatchUp::default(),
        clock_change: ClockChange::default(),
        workflow: "case".into(),
        workflow_id: "a".into(),
        input: json!(null),
    };
    store.create_schedule(&NewSchedule { name: "s".into(), spec, by: "tester".into(), next: NextFire { at, due_at: at } }).await.unwrap();
    let servers: Vec<_> = (0..6).map(|_| Scheduler::new(store.clone(), Box::new(Uuid::now_v7))).collect();
    let steps: Vec<_> = servers.into_iter().map(|mut server| tokio::spawn(async move { server.step().await })).collect();
    let mut busy = 0;
    for step in steps {
        busy += usize::from(step.await.unwrap().unwrap() == Step::Busy);
    }
    assert_eq!(busy, 1);
    assert_eq!(store.firings("s", 99).await.unwrap().iter().filter(|row| row.kind.started()).count(), 1);
    let lease = store.open_lease(WorkerId(Uuid::now_v7()), TTL).await.unwrap();
    assert_eq!(store.claim_runs(lease, 9).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn two_who_grant_crossing_locks_do_not_wait_for_each_other() {
    let scene = Scene::new().await;
    let (run, watcher, held) = (scene.claimed.run.0, scene.lab.database.client().await, scene.lab.database.client().await);
    watcher.batch_execute("insert into engine.locks (resource) values ('a'), ('b'), ('c'), ('d')").await.unwrap();
    held.batch_execute("begin; select 1 from engine.locks where resource in ('c', 'd') for update").await.unwrap();
    let mut granting = vec![];
    // The one comes from b to a with c between, the other from a to b with d between.
    for (place, resources) in [["b", "c", "a"], ["a", "d", "b"]].into_iter().enumerate() {
        for (number, resource) in resources.into_iter().enumerate() {
            let seq = i32::try_from(place * 3 + number).unwrap();
            let ask = "insert into engine.lock_requests (run_id, seq, resources, requested_at) values ($1, $2, array[$3::text], engine.now())";
            watcher.execute(ask, &[&run, &seq, &resource]).await.unwrap();
        }
        let store = scene.lab.store.clone();
        granting.push(tokio::spawn(async move { store.grant_locks(3).await }));
        wait_until("so many wait", || async { waiting(&watcher).await > i64::try_from(place).unwrap() }).await;
    }
    held.batch_execute("commit").await.unwrap();
    let mut granted = vec![];
    for one in granting {
        granted.push(one.await.unwrap().unwrap());
    }
    assert_eq!(granted, [3, 1], "the first has a, b and c, and the other d");
    let left: i64 = watcher.query_one("select count(*) from engine.lock_requests", &[]).await.unwrap().get(0);
    assert_eq!(left, 2, "who came later waits for a and b");
}
