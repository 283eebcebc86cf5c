//! A database server that is started again on an older copy of its files, as a promoted standby or a restored backup: what is found.
//!
//! ```text
//!   cluster ─▶ work, noted by witnesses ─▶ stop, copy of the files ─▶ start, more work ─▶ stop, the copy takes their place ─▶ start
//! ```
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

use std::{
    fs,
    path::PathBuf,
    process::{self, Child, Stdio},
    sync::Arc,
    time::Duration,
};

use engine::{
    ChildRow, ClaimedTask, CommitError, EventRow, LeaseStore, Reported, RunStore, Sent, StartRun, Started, StoreError, TaskRow, TaskStore, TurnWrite,
    adapters::Spool,
    witness::{NotNoted, Note, Testimony, Witness, begun, ended},
};
use sdk::{ActivityOptions, ClosePolicy, Command, Effect, Event, EventBody, History, Lease, Message, Outcome, Parent, Retry, RunId, Scope, Seq, TaskQueue, Timeouts, WorkerId};
use serde_json::{Value, json};
use switchback_store::{
    Limits, PgStore,
    cluster::Cluster,
    migrate,
    pool::Target,
    tail::{LossRow, Settling},
    testing::short_dir,
};
use uuid::Uuid;

const TTL: Duration = Duration::from_secs(60);

/// A cluster whose files can be taken back.
struct Place {
    dir: PathBuf,
    cluster: Cluster,
    postmaster: Child,
}

impl Place {
    async fn new() -> Self {
        let dir = short_dir("sb-tail");
        let cluster = Cluster::prepare(&dir).unwrap();
        let postmaster = started(&cluster);
        let mut place = Self { dir, cluster, postmaster };
        place.answers().await;
        let (admin, connection) = tokio_postgres::connect(&place.cluster.url_of("postgres"), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        admin.batch_execute("create database switchback").await.unwrap_or_default();
        migrate::run(&Target::new(&place.cluster.url(), TTL).unwrap()).await.unwrap();
        place
    }

    async fn answers(&mut self) {
        self.cluster.ready(Duration::from_secs(60)).await.unwrap();
    }

    fn stop(&mut self) {
        let pid = self.postmaster.id().to_string();
        assert!(process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        self.postmaster.wait().unwrap();
    }

    /// Started again as it is.
    async fn restart(&mut self) {
        self.stop();
        self.postmaster = started(&self.cluster);
        self.answers().await;
    }

    /// A copy of its files as they are now.
    async fn copy(&mut self) {
        self.stop();
        self.swap("data", "copy", "-a");
        self.postmaster = started(&self.cluster);
        self.answers().await;
    }

    /// Comes back with what the copy holds.
    async fn come_back(&mut self) {
        self.stop();
        fs::remove_dir_all(self.dir.join("data")).unwrap();
        self.swap("copy", "data", "-a");
        self.postmaster = started(&self.cluster);
        self.answers().await;
    }

    fn swap(&self, from: &str, to: &str, how: &str) {
        let copied = process::Command::new("cp").arg(how).arg(self.dir.join(from)).arg(self.dir.join(to)).status();
        assert!(copied.unwrap().success());
    }

    /// A process with its notes.
    async fn process(&self, name: &str) -> Process {
        let spool = Arc::new(Spool::open(&self.dir.join(format!("{name}.jsonl")), Uuid::now_v7()).unwrap());
        let store = PgStore::open(&self.cluster.url(), Limits { lease: TTL, connections: 4 }).await.unwrap().witnessed_by(spool.clone());
        let process = Process { name: name.to_owned(), store, spool };
        assert!(process.hears().await);
        process
    }

    fn end(mut self) {
        self.stop();
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

/// A test that fails leaves no server behind.
impl Drop for Place {
    fn drop(&mut self) {
        if matches!(self.postmaster.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}

fn started(cluster: &Cluster) -> Child {
    cluster.postmaster().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

struct Process {
    name: String,
    store: PgStore,
    spool: Arc<Spool>,
}

impl Process {
    /// A sign of life, a testimony if one is asked for; gives whether the server is known then.
    async fn hears(&self) -> bool {
        wait_until_answered(|| self.store.testify_if_asked(self.spool.as_ref(), "worker", &self.name)).await
    }

    async fn losses(&self) -> Vec<LossRow> {
        let mut found = self.store.losses(None, true).await.unwrap();
        found.sort_by(|a, b| (a.run, &a.what).cmp(&(b.run, &b.what)));
        found
    }

    /// What was found, in short.
    async fn found(&self) -> Vec<(RunId, String, String)> {
        self.losses().await.into_iter().map(|row| (row.run, row.what, row.became)).collect()
    }

    fn notes(&self, notes: &[Note]) {
        self.spool.note(self.spool.testimonies(), notes).unwrap();
    }

    async fn start(&self, about: &str) -> RunId {
        let run = RunId(Uuid::now_v7());
        assert_eq!(self.store.start_run(StartRun { run, start: start(about) }).await.unwrap(), Started::New);
        run
    }

    async fn owning(&self, about: &str) -> Hand {
        self.start(about).await;
        self.claimed().await
    }

    async fn claimed(&self) -> Hand {
        let lease = self.store.open_lease(WorkerId(Uuid::now_v7()), TTL).await.unwrap();
        let mut claimed = self.store.claim_runs(lease, 10).await.unwrap();
        assert_eq!(claimed.len(), 1, "one run can be claimed");
        let claimed = claimed.remove(0);
        let history = self.store.load_history(claimed.run).await.unwrap();
        Hand { lease, run: claimed.run, epoch: claimed.epoch, history }
    }

    async fn task(&self, lease: Lease) -> ClaimedTask {
        let mut claimed = self.store.claim_tasks(lease, &[TaskQueue::new("q")], 10).await.unwrap();
        assert_eq!(claimed.len(), 1, "one task can be claimed");
        claimed.remove(0)
    }
}

/// The connections of before are broken; the first call over each finds that out.
async fn wait_until_answered<T, F: Future<Output = Result<T, switchback_store::Lost>>>(mut ask: impl FnMut() -> F) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "no answer: {error:?}"),
        }
    }
}

fn start(about: &str) -> Message {
    Message::Start { workflow: "case".into(), input: json!({"n": 1}), workflow_id: about.into(), requested_by: "tester".into(), trace: None, parent: None }
}

/// A word to a run.
fn word(key: &str) -> Message {
    Message::Signal { name: "word".into(), key: key.into(), body: json!(1), by: "tester".into() }
}

/// Writes turns of one run.
struct Hand {
    lease: Lease,
    run: RunId,
    epoch: i64,
    history: History,
}

impl Hand {
    fn event(&mut self, turn: Uuid, msg_key: Option<String>, body: EventBody) -> EventRow {
        let (seq, kind) = (self.history.next_seq(), body.kind());
        let at = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let Lease { worker, epoch: lease_epoch } = self.lease;
        let event = Event { v: 1, seq, at, worker, lease_epoch, run_epoch: self.epoch, turn, msg_key: msg_key.clone(), body };
        let stored = self.history.push(event);
        EventRow { seq, kind, msg_key, bytes: stored.bytes.clone(), hash: stored.hash }
    }

    fn turn(&mut self, message: Message) -> TurnWrite {
        let (turn, key) = (Uuid::now_v7(), message.key());
        let event = self.event(turn, Some(key.clone()), EventBody::Inbound(message.into_inbound()));
        TurnWrite { events: vec![event], consumed: vec![key], ..TurnWrite::empty(self.run, self.epoch, turn) }
    }

    /// With a task at its second event.
    fn turn_with_task(&mut self, message: Message, activity: &str, input: Value) -> TurnWrite {
        let mut write = self.turn(message);
        let timeouts = Timeouts { queue_ms: None, start_to_close_ms: 60_000, total_ms: None, heartbeat_ms: None };
        let options = ActivityOptions { retry: Retry { max_attempts: 1, first_ms: 1_000, factor: 2.0, max_ms: 10_000 }, timeouts };
        let (activity, queue, effect, scope) = (activity.to_owned(), TaskQueue::new("q"), Effect::AtMostOnce, Scope::Prod);
        let command = Command::ActivityScheduled {
            activity: activity.clone(),
            queue: queue.clone(),
            input: input.clone(),
            options,
            effect,
            scope,
            grant: None,
            compensation: false,
        };
        let event = self.event(write.turn, None, EventBody::Command(command));
        write.tasks.push(TaskRow {
            seq: event.seq,
            queue,
            activity,
            input,
            options,
            effect,
            scope,
            grant: None,
            trace: None,
        });
        write.events.push(event);
        write
    }
}

async fn commit(process: &Process, hand: &Hand, write: TurnWrite) {
    process.store.commit_turns(hand.lease, &[write]).await.unwrap();
}

fn done() -> Outcome {
    Outcome::Completed { output: json!("well") }
}

#[tokio::test]
async fn a_restart_that_loses_nothing_is_known_at_once_and_ends_the_leases_of_owners() {
    let mut place = Place::new().await;
    let worker = place.process("a").await;
    let mut hand = worker.owning("db9").await;
    let write = hand.turn(start("db9"));
    commit(&worker, &hand, write).await;
    place.restart().await;
    let stale = hand.turn(word("a"));
    let refused = wait_until_refused(&worker, hand.lease, &stale).await;
    assert!(matches!(&refused, CommitError::Store(StoreError::Again { .. })), "{refused:?}");
    assert!(!worker.store.life().await.unwrap().known);
    assert!(worker.hears().await);
    let life = worker.store.life().await.unwrap();
    assert_eq!((life.known, life.era), (true, 1), "nothing was lost");
    assert_eq!(worker.found().await, []);
    let fenced = worker.store.commit_turns(hand.lease, &[stale]).await.unwrap_err();
    assert!(matches!(fenced, CommitError::Store(StoreError::Fenced(_))), "{fenced:?}");
    assert_eq!(worker.claimed().await.history.events.len(), 1);
    place.end();
}

/// The first calls after a restart meet connections that have ended.
async fn wait_until_refused(process: &Process, lease: Lease, write: &TurnWrite) -> CommitError {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let refused = process.store.commit_turns(lease, std::slice::from_ref(write)).await.unwrap_err();
        let checking = matches!(&refused, CommitError::Store(StoreError::Again { source, .. })
            if source.downcast_ref::<switchback_store::Lost>().is_some_and(switchback_store::Lost::is_checking));
        if checking {
            return refused;
        }
        assert!(tokio::time::Instant::now() < deadline, "{refused:?}");
    }
}

#[tokio::test]
async fn a_history_that_has_lost_its_end_is_held_until_somebody_settles_it() {
    let mut place = Place::new().await;
    let worker = place.process("a").await;
    let mut hand = worker.owning("db9").await;
    let write = hand.turn(start("db9"));
    commit(&worker, &hand, write).await;
    place.copy().await;
    assert!(worker.hears().await);
    assert_eq!(worker.store.send(hand.run, word("a")).await.unwrap(), Sent::Accepted);
    let mut hand = worker.claimed().await;
    let write = hand.turn(word("a"));
    commit(&worker, &hand, write).await;
    place.come_back().await;
    assert!(worker.hears().await);
    let (held, adopted) = ((hand.run, "shorter".into(), "held".into()), (hand.run, "message".into(), "adopted".into()));
    assert_eq!(worker.found().await, [adopted, held], "the word that was accepted is there again");
    assert_eq!(worker.store.life().await.unwrap().era, 2);
    let lease = worker.store.open_lease(WorkerId(Uuid::now_v7()), TTL).await.unwrap();
    assert!(worker.store.claim_runs(lease, 10).await.unwrap().is_empty(), "nobody carries it on");
    assert_eq!(worker.store.settle(hand.run, "accept_loss", "ada", "why").await.unwrap(), Settling::Held);
    assert_eq!(worker.store.settle(hand.run, "go_on", "ada", "looked at").await.unwrap(), Settling::Settled);
    assert_eq!(worker.store.settle(hand.run, "go_on", "ada", "again").await.unwrap(), Settling::Nothing);
    assert_eq!(worker.claimed().await.history.events.len(), 1);
    place.restart().await;
    assert!(worker.hears().await);
    assert!(worker.losses().await.iter().all(|row| !row.held), "what is settled is not found anew");
    place.end();
}

#[tokio::test]
async fn a_run_that_was_accepted_and_is_gone_is_put_back_and_held_or_told_as_lost() {
    let mut place = Place::new().await;
    let (server, worker) = (place.process("a").await, place.process("b").await);
    place.copy().await;
    assert!(!server.hears().await && worker.hears().await);
    let known = server.start("db9").await;
    let mut hand = worker.claimed().await;
    let write = hand.turn(start("db9"));
    commit(&worker, &hand, write).await;
    // Started by the database itself: nobody but the worker has seen it.
    let stranger = RunId(Uuid::now_v7());
    worker.notes(&[Note::Run(engine::witness::RunNote { run: stranger, seq: 4, hash: Some("00".repeat(32)), start: None, child_of: None })]);
    place.come_back().await;
    assert!(!worker.hears().await, "the other one is waited for");
    assert!(server.hears().await);
    let found = server.found().await;
    assert!(found.contains(&(known, "run".into(), "held".into())) && found.contains(&(stranger, "run".into(), "lost".into())), "{found:?}");
    assert_eq!(server.store.settle(stranger, "go_on", "ada", "why").await.unwrap(), Settling::NotThere);
    assert_eq!(server.store.settle(stranger, "accept_loss", "ada", "why").await.unwrap(), Settling::Settled);
    let again = StartRun { run: RunId(Uuid::now_v7()), start: start("db9") };
    assert_eq!(server.store.start_run(again).await.unwrap(), Started::AlreadyOpen(known), "nobody begins the same beside it");
    assert_eq!(server.store.settle(known, "go_on", "ada", "why").await.unwrap(), Settling::Settled);
    assert_eq!(worker.claimed().await.run, known);
    place.end();
}

#[tokio::test]
async fn an_attempt_that_is_not_known_is_in_doubt_or_has_the_result_that_was_accepted() {
    for accepted in [false, true] {
        let mut place = Place::new().await;
        let (worker, agent) = (place.process("a").await, place.process("b").await);
        let mut hand = worker.owning("db9").await;
        let write = hand.turn_with_task(start("db9"), "work", Value::Null);
        commit(&worker, &hand, write).await;
        place.copy().await;
        assert!(!worker.hears().await && agent.hears().await);
        let lease = agent.store.open_lease(WorkerId(Uuid::now_v7()), TTL).await.unwrap();
        let task = agent.task(lease).await;
        assert_eq!((task.token.attempt, task.in_doubt, &task.task.input), (1, false, &Value::Null));
        agent.notes(&[begun(&task)]);
        if accepted {
            assert_eq!(agent.store.complete_task(task.run, task.task.seq, 1, &done()).await.unwrap(), Reported::Accepted);
            agent.notes(&[ended(&task, &done())]);
        }
        place.come_back().await;
        assert!(!agent.hears().await && worker.hears().await);
        assert_eq!(agent.found().await, [(hand.run, "effect".into(), "adopted".into())]);
        let lease = agent.store.open_lease(WorkerId(Uuid::now_v7()), TTL).await.unwrap();
        if accepted {
            let inbox = worker.store.read_inbox(&[hand.run]).await.unwrap();
            assert_eq!(inbox[0].message, Message::Finished { of: task.task.seq, outcome: done() });
            assert!(agent.store.task(hand.run, task.task.seq).await.unwrap().is_none());
        } else {
            let again = agent.task(lease).await;
            assert_eq!((again.token.attempt, again.in_doubt, again.token.era), (2, true, 2), "it is asked before it is done again");
            assert!(again.token > task.token);
        }
        place.end();
    }
}

#[tokio::test]
async fn a_step_that_comes_again_takes_the_result_of_before_or_is_born_in_doubt() {
    for (input, accepted) in [(json!({"disk": "vda"}), true), (json!({"disk": "vdb"}), true), (json!({"disk": "vda"}), false)] {
        let same = input == json!({"disk": "vda"});
        let mut place = Place::new().await;
        let (worker, agent) = (place.process("a").await, place.process("b").await);
        place.copy().await;
        assert!(!worker.hears().await && agent.hears().await);
        let mut hand = worker.owning("db9").await;
        let write = hand.turn_with_task(start("db9"), "work", json!({"disk": "vda"}));
        commit(&worker, &hand, write).await;
        let lease = agent.store.open_lease(WorkerId(Uuid::now_v7()), TTL).await.unwrap();
        let task = agent.task(lease).await;
        agent.notes(&[begun(&task)]);
        if accepted {
            agent.store.complete_task(task.run, task.task.seq, 1, &done()).await.unwrap();
            agent.notes(&[ended(&task, &done())]);
        }
        place.come_back().await;
        assert!(!agent.hears().await && worker.hears().await);
        worker.store.settle(hand.run, "go_on", "ada", "why").await.unwrap();
        let mut hand = worker.claimed().await;
        let write = hand.turn_with_task(start("db9"), "work", input);
        commit(&worker, &hand, write).await;
        let known = worker.store.task(hand.run, Seq(1)).await.unwrap();
        if accepted && same {
            let inbox = worker.store.read_inbox(&[hand.run]).await.unwrap();
            assert_eq!((known.is_none(), inbox[0].key.as_str()), (true, "task:1"), "it was carried out");
        } else {
            let lease = agent.store.open_lease(WorkerId(Uuid::now_v7()), TTL).await.unwrap();
            let again = agent.task(lease).await;
            assert!(again.in_doubt && again.token > task.token, "{} after {}", again.token, task.token);
        }
        place.end();
    }
}

/// A run that has asked for two disks, of which both are worked on, and has lost that with its start on the way.
async fn two_lost_disks(place: &mut Place) -> (Process, Process, [ClaimedTask; 2], RunId) {
    let (worker, agent) = (place.process("a").await, place.process("b").await);
    place.copy().await;
    assert!(!worker.hears().await && agent.hears().await);
    let mut hand = worker.owning("db9").await;
    let write = hand.turn_with_task(start("db9"), "work", json!({"disk": "vda"}));
    commit(&worker, &hand, write).await;
    let lease = agent.store.open_lease(WorkerId(Uuid::now_v7()), TTL).await.unwrap();
    let first = agent.task(lease).await;
    worker.store.send(hand.run, word("more")).await.unwrap();
    let write = hand.turn_with_task(word("more"), "work", json!({"disk": "vdb"}));
    commit(&worker, &hand, write).await;
    let tasks = [first, agent.task(lease).await];
    assert_eq!(tasks.each_ref().map(|task| task.task.seq), [Seq(1), Seq(3)]);
    agent.notes(&[begun(&tasks[0]), begun(&tasks[1])]);
    agent.store.complete_task(hand.run, Seq(3), 1, &done()).await.unwrap();
    agent.notes(&[ended(&tasks[1], &done())]);
    place.come_back().await;
    assert!(!agent.hears().await && worker.hears().await);
    worker.store.settle(hand.run, "go_on", "ada", "why").await.unwrap();
    (worker, agent, tasks, hand.run)
}

#[tokio::test]
async fn steps_that_come_again_in_another_order_are_known_by_what_they_do() {
    let mut place = Place::new().await;
    let (worker, agent, before, run) = two_lost_disks(&mut place).await;
    let mut hand = worker.claimed().await;
    let write = hand.turn_with_task(start("db9"), "work", json!({"disk": "vdb"}));
    commit(&worker, &hand, write).await;
    let finished = worker.store.read_inbox(&[run]).await.unwrap().into_iter().find(|row| row.key == "task:1").map(|row| row.message);
    assert_eq!(finished, Some(Message::Finished { of: Seq(1), outcome: done() }), "the second disk was done, at another place");
    worker.store.send(run, word("again")).await.unwrap();
    let write = hand.turn_with_task(word("again"), "work", json!({"disk": "vda"}));
    commit(&worker, &hand, write).await;
    for _late in &before {
        assert_eq!(agent.store.complete_task(run, Seq(3), 1, &done()).await.unwrap(), Reported::Refused, "it was shown for the other disk");
    }
    let lease = agent.store.open_lease(WorkerId(Uuid::now_v7()), TTL).await.unwrap();
    let again = agent.task(lease).await;
    assert_eq!((again.task.seq, again.in_doubt), (Seq(3), true), "somebody had begun it");
    place.end();
}

#[tokio::test]
async fn a_number_that_was_shown_for_one_step_is_not_shown_for_another() {
    let mut place = Place::new().await;
    let (worker, agent, before, run) = two_lost_disks(&mut place).await;
    let mut hand = worker.claimed().await;
    let write = hand.turn_with_task(start("db9"), "undo", Value::Null);
    commit(&worker, &hand, write).await;
    let lease = agent.store.open_lease(WorkerId(Uuid::now_v7()), TTL).await.unwrap();
    let other = agent.task(lease).await;
    assert_eq!((other.task.seq, other.in_doubt), (before[0].task.seq, false), "nobody had begun this one");
    assert_eq!(agent.store.complete_task(run, Seq(1), before[0].token.attempt, &done()).await.unwrap(), Reported::Refused, "the lost one's result is nobody's");
    assert_eq!(agent.store.complete_task(run, Seq(1), other.token.attempt, &done()).await.unwrap(), Reported::Accepted);
    place.end();
}

/// A wish for a child at seq 0 of its parent.
fn child_of(hand: &Hand, child: RunId) -> ChildRow {
    let Message::Start { workflow, input, requested_by, trace, .. } = start("x") else { unreachable!("a start") };
    let parent = Some(Parent { run: hand.run, seq: Seq(0) });
    ChildRow { seq: Seq(0), child, close: ClosePolicy::Leave, start: Message::Start { workflow, input, workflow_id: "disk".into(), requested_by, trace, parent } }
}

#[tokio::test]
async fn what_was_done_for_a_child_that_is_gone_was_done_for_the_one_that_is_asked_for_again() {
    let mut place = Place::new().await;
    let (worker, agent) = (place.process("a").await, place.process("b").await);
    worker.start("db9").await;
    place.copy().await;
    assert!(!worker.hears().await && agent.hears().await);
    let (mut hand, gone, again) = (worker.claimed().await, RunId(Uuid::now_v7()), RunId(Uuid::now_v7()));
    let mut write = hand.turn(start("db9"));
    write.children.push(child_of(&hand, gone));
    commit(&worker, &hand, write).await;
    let mut child = worker.claimed().await;
    assert_eq!(child.run, gone);
    let write = child.turn_with_task(child_of(&hand, gone).start, "work", json!({"disk": "vda"}));
    commit(&worker, &child, write).await;
    let lease = agent.store.open_lease(WorkerId(Uuid::now_v7()), TTL).await.unwrap();
    let task = agent.task(lease).await;
    agent.notes(&[begun(&task)]);
    agent.store.complete_task(task.run, task.task.seq, 1, &done()).await.unwrap();
    agent.notes(&[ended(&task, &done())]);
    place.come_back().await;
    assert!(!agent.hears().await && worker.hears().await);
    let lost = |what: &str| (gone, what.to_owned(), "lost".to_owned());
    assert_eq!(worker.found().await, [(hand.run, "shorter".into(), "held".into()), lost("effect"), lost("run")]);
    worker.store.settle(hand.run, "go_on", "ada", "why").await.unwrap();
    let mut hand = worker.claimed().await;
    let mut write = hand.turn(start("db9"));
    write.children.push(child_of(&hand, again));
    commit(&worker, &hand, write).await;
    let mut child = worker.claimed().await;
    assert_eq!(child.run, again);
    let write = child.turn_with_task(child_of(&hand, again).start, "work", json!({"disk": "vda"}));
    commit(&worker, &child, write).await;
    let inbox = worker.store.read_inbox(&[again]).await.unwrap();
    assert_eq!((inbox.len(), inbox[0].key.as_str()), (1, "task:1"), "nobody carries it out again");
    assert!(worker.store.losses(Some(gone), false).await.unwrap().is_empty(), "nobody has to settle it");
    place.end();
}

#[tokio::test]
async fn what_was_done_for_a_child_of_a_lost_child_counts_wherever_both_are_asked_for_again() {
    let mut place = Place::new().await;
    let (worker, agent) = (place.process("a").await, place.process("b").await);
    worker.start("db9").await;
    place.copy().await;
    assert!(!worker.hears().await && agent.hears().await);
    let child = |of: &Hand, run: RunId, about: &str, seq: i32| {
        let mut row = child_of(of, run);
        let Message::Start { workflow_id, parent, .. } = &mut row.start else { unreachable!("a start") };
        (*workflow_id, *parent, row.seq) = (about.to_owned(), Some(Parent { run: of.run, seq: Seq(seq) }), Seq(seq));
        row
    };
    let (gone, below) = (RunId(Uuid::now_v7()), RunId(Uuid::now_v7()));
    let mut hand = worker.claimed().await;
    let mut write = hand.turn(start("db9"));
    write.children.push(child(&hand, gone, "disk", 0));
    commit(&worker, &hand, write).await;
    let mut middle = worker.claimed().await;
    let mut write = middle.turn(child(&hand, gone, "disk", 0).start);
    write.children.push(child(&middle, below, "part", 0));
    commit(&worker, &middle, write).await;
    let mut last = worker.claimed().await;
    let write = last.turn_with_task(child(&middle, below, "part", 0).start, "work", json!({"disk": "vda"}));
    commit(&worker, &last, write).await;
    let lease = agent.store.open_lease(WorkerId(Uuid::now_v7()), TTL).await.unwrap();
    agent.notes(&[begun(&agent.task(lease).await)]);
    place.come_back().await;
    assert!(!agent.hears().await && worker.hears().await);
    worker.store.settle(hand.run, "go_on", "ada", "why").await.unwrap();
    // Each at another place than before.
    let mut hand = worker.claimed().await;
    let (again, under) = (RunId(Uuid::now_v7()), RunId(Uuid::now_v7()));
    let mut write = hand.turn(start("db9"));
    write.children.push(child(&hand, again, "disk", 7));
    commit(&worker, &hand, write).await;
    let mut middle = worker.claimed().await;
    let mut write = middle.turn(child(&hand, again, "disk", 7).start);
    write.children.push(child(&middle, under, "part", 9));
    commit(&worker, &middle, write).await;
    let mut last = worker.claimed().await;
    let write = last.turn_with_task(child(&middle, under, "part", 9).start, "work", json!({"disk": "vda"}));
    commit(&worker, &last, write).await;
    let lease = agent.store.open_lease(WorkerId(Uuid::now_v7()), TTL).await.unwrap();
    let task = agent.task(lease).await;
    assert_eq!((task.run, task.in_doubt), (under, true), "somebody had begun it");
    place.end();
}

#[tokio::test]
async fn a_witness_that_stays_silent_is_named_and_what_it_tells_late_is_held_then() {
    let mut place = Place::new().await;
    let (worker, silent) = (place.process("a").await, place.process("b").await);
    place.copy().await;
    assert!(!worker.hears().await && silent.hears().await);
    let mut hand = silent.owning("db9").await;
    let write = hand.turn(start("db9"));
    commit(&silent, &hand, write).await;
    place.come_back().await;
    assert!(!worker.hears().await, "the other one is waited for");
    wait_no_longer(&place).await;
    assert!(worker.hears().await, "twenty seconds are over");
    let named: Vec<(String, bool)> = worker.store.witnesses().await.unwrap().into_iter().map(|row| (row.name, row.silent_at.is_some())).collect();
    assert_eq!(named, [("a".to_owned(), false), ("b".to_owned(), true)]);
    assert_eq!((worker.found().await, worker.store.life().await.unwrap().era), (vec![], 2));
    assert!(silent.hears().await);
    assert_eq!(silent.found().await, [(hand.run, "run".into(), "held".into())]);
    assert_eq!(silent.store.life().await.unwrap().era, 3, "what went on meanwhile did so under old tokens");
    assert!(silent.store.witnesses().await.unwrap().iter().all(|row| row.silent_at.is_none()));
    place.end();
}

#[tokio::test]
async fn a_run_that_went_on_in_another_way_than_a_late_witness_has_seen_is_held() {
    let mut place = Place::new().await;
    let (worker, silent) = (place.process("a").await, place.process("b").await);
    let run = worker.start("db9").await;
    place.copy().await;
    assert!(!worker.hears().await && silent.hears().await);
    let mut hand = silent.claimed().await;
    let write = hand.turn(start("db9"));
    commit(&silent, &hand, write).await;
    place.come_back().await;
    assert!(!worker.hears().await);
    wait_no_longer(&place).await;
    assert!(worker.hears().await);
    let mut hand = worker.claimed().await;
    let write = hand.turn(start("db9"));
    commit(&worker, &hand, write).await;
    assert!(silent.hears().await);
    assert_eq!(silent.found().await, [(run, "differs".into(), "held".into())], "as long, and not the same");
    place.end();
}

#[tokio::test]
async fn tasks_of_a_run_that_lacks_something_wait_until_it_is_settled() {
    let mut place = Place::new().await;
    let worker = place.process("a").await;
    let mut hand = worker.owning("db9").await;
    let write = hand.turn_with_task(start("db9"), "work", Value::Null);
    commit(&worker, &hand, write).await;
    place.copy().await;
    assert!(worker.hears().await);
    let mut hand = worker.claimed().await;
    worker.store.send(hand.run, word("more")).await.unwrap();
    let write = hand.turn(word("more"));
    commit(&worker, &hand, write).await;
    place.come_back().await;
    assert!(worker.hears().await);
    assert_eq!(worker.found().await, [(hand.run, "message".into(), "adopted".into()), (hand.run, "shorter".into(), "held".into())]);
    let lease = worker.store.open_lease(WorkerId(Uuid::now_v7()), TTL).await.unwrap();
    assert!(worker.store.claim_tasks(lease, &[TaskQueue::new("q")], 10).await.unwrap().is_empty(), "its run is held");
    worker.store.settle(hand.run, "go_on", "ada", "why").await.unwrap();
    assert_eq!(worker.task(lease).await.run, hand.run);
    place.end();
}

/// Twenty seconds pass for whoever waits for witnesses.
async fn wait_no_longer(place: &Place) {
    let (client, connection) = tokio_postgres::connect(&place.cluster.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("update engine.store set asked_since = asked_since - interval '21 s'").await.unwrap();
}

/// What a late witness finds, once the run has gone on with this activity.
async fn found_late(activity: &str, begun_since: bool) -> (Vec<(RunId, String, String)>, RunId) {
    let mut place = Place::new().await;
    let (worker, agent) = (place.process("a").await, place.process("b").await);
    let run = worker.start("db9").await;
    place.copy().await;
    assert!(!worker.hears().await && agent.hears().await);
    let mut hand = worker.claimed().await;
    let write = hand.turn_with_task(start("db9"), "work", json!({"disk": "vda"}));
    // Nobody but the agent hears of it.
    let unwitnessed = PgStore::open(&place.cluster.url(), Limits { lease: TTL, connections: 2 }).await.unwrap();
    unwitnessed.commit_turns(hand.lease, &[write]).await.unwrap();
    let lease = agent.store.open_lease(WorkerId(Uuid::now_v7()), TTL).await.unwrap();
    let task = agent.task(lease).await;
    agent.notes(&[begun(&task)]);
    place.come_back().await;
    assert!(!worker.hears().await);
    wait_no_longer(&place).await;
    assert!(worker.hears().await);
    assert_eq!(worker.found().await, [], "nobody who is there has seen it");
    let mut hand = worker.claimed().await;
    // Of another claim than before.
    worker.store.close_lease(hand.lease).await.unwrap();
    let mut again = worker.claimed().await;
    std::mem::swap(&mut hand, &mut again);
    let write = hand.turn_with_task(start("db9"), activity, json!({"disk": "vda"}));
    commit(&worker, &hand, write).await;
    if begun_since {
        worker.task(hand.lease).await;
    }
    assert!(agent.hears().await);
    let found = worker.found().await;
    place.end();
    (found, run)
}

#[tokio::test]
async fn an_attempt_told_late_holds_its_run_that_went_another_way_or_did_it_again() {
    for (activity, begun_since, became) in [("other", false, "held"), ("work", true, "held"), ("work", false, "adopted")] {
        let (found, run) = found_late(activity, begun_since).await;
        assert_eq!(found, [(run, "effect".into(), became.into())], "{activity} {begun_since}");
    }
}

#[tokio::test]
async fn two_promotions_of_one_copy_begin_eras_of_their_own() {
    let mut place = Place::new().await;
    let (worker, agent) = (place.process("a").await, place.process("b").await);
    let mut hand = worker.owning("db9").await;
    let write = hand.turn_with_task(start("db9"), "work", Value::Null);
    commit(&worker, &hand, write).await;
    place.copy().await;
    let mut eras = vec![];
    for _ in 0..2 {
        assert!(!worker.hears().await && agent.hears().await);
        let lease = agent.store.open_lease(WorkerId(Uuid::now_v7()), TTL).await.unwrap();
        let task = agent.task(lease).await;
        agent.notes(&[begun(&task)]);
        eras.push(task.token.era);
        place.come_back().await;
    }
    assert!(!worker.hears().await && agent.hears().await);
    eras.push(agent.store.life().await.unwrap().era);
    assert_eq!(eras, [1, 2, 3]);
    place.end();
}

/// Testifies between a question and its answer.
struct Hasty(Arc<Spool>);

impl Witness for Hasty {
    fn id(&self) -> Uuid {
        self.0.id()
    }
    fn testimonies(&self) -> u64 {
        let before = self.0.testimonies();
        self.0.testimony();
        before
    }
    fn note(&self, since: u64, notes: &[Note]) -> Result<(), NotNoted> {
        self.0.note(since, notes)
    }
    fn testimony(&self) -> Vec<Testimony> {
        self.0.testimony()
    }
}

#[tokio::test]
async fn an_answer_that_is_read_after_a_testimony_is_none_and_asking_again_is_harmless() {
    let place = Place::new().await;
    let worker = place.process("a").await;
    let hasty = Arc::new(Hasty(worker.spool.clone()));
    let late = PgStore::open(&place.cluster.url(), Limits { lease: TTL, connections: 2 }).await.unwrap().witnessed_by(hasty);
    let is_again = |error: &StoreError| matches!(error, StoreError::Again { source, .. } if source.is::<NotNoted>());
    let wanted = StartRun { run: RunId(Uuid::now_v7()), start: start("db9") };
    assert!(is_again(&late.start_run(wanted.clone()).await.unwrap_err()));
    assert!(is_again(&late.send(wanted.run, word("a")).await.unwrap_err()));
    assert_eq!(worker.store.start_run(wanted.clone()).await.unwrap(), Started::New, "it is the same one");
    assert_eq!(worker.store.send(wanted.run, word("a")).await.unwrap(), Sent::Accepted);
    let mut hand = worker.claimed().await;
    let write = hand.turn(start("db9"));
    let refused = late.commit_turns(hand.lease, std::slice::from_ref(&write)).await.unwrap_err();
    assert!(matches!(&refused, CommitError::Store(error) if is_again(error)), "{refused:?}");
    let again = worker.store.commit_turns(hand.lease, &[write]).await.unwrap_err();
    assert!(matches!(again, CommitError::Taken), "it had arrived: {again:?}");
    assert_eq!(worker.store.load_history(wanted.run).await.unwrap().events.len(), 1);
    place.end();
}

#[tokio::test]
async fn nobody_writes_for_the_engine_while_the_server_is_not_known() {
    let mut place = Place::new().await;
    let (worker, silent) = (place.process("a").await, place.process("b").await);
    let hand = worker.owning("db9").await;
    place.restart().await;
    assert!(!worker.hears().await);
    let (client, connection) = tokio_postgres::connect(&place.cluster.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    for write in [
        "update engine.runs set trace = 'x'",
        "insert into engine.inbox (run_id, msg_key, body) values (gen_random_uuid(), 'k', '{}')",
        "delete from engine.tasks",
        "delete from engine.events",
        "select engine.claim_runs(worker_id, epoch, 1) from engine.leases",
        "select engine.send(run_id, 'k', '{}') from engine.runs",
        "select engine.send(gen_random_uuid(), 'k', '{}')",
    ] {
        let refused = client.batch_execute(write).await.unwrap_err();
        assert_eq!(refused.code().map(|code| code.code()), Some("SB005"), "{write}");
    }
    assert!(worker.store.renew_lease(hand.lease, TTL).await.unwrap(), "leases live on meanwhile");
    assert!(silent.hears().await);
    assert_eq!(worker.store.send(hand.run, word("a")).await.unwrap(), Sent::Accepted);
    assert_eq!(silent.store.testify(silent.spool.id(), &Testimony::default(), true).await.unwrap(), 0);
    place.end();
}
