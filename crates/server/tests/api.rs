//! The server as its callers meet it: over the socket, and over TLS with tokens and certificates, on a real database.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

mod waiting;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use api::{
    Client, ClientError, Code, Identity, Trust,
    access::{AgentView, EnrolmentTokenCreated, EnrolmentTokenRequest, Role, TokenCreated, TokenRequest},
    agent::{
        ClaimTasks, CloseLease, Done, EnrolRequest, Enrolled, ItemStatus, LeaseOpened, LeaseRenewed, OpenLease, Peers, Pulse, PulseTask, RenewLease, ReplicaStatus,
        ReportTask, SiteStatus, TaskPulsed, TaskReported, TasksClaimed, Verdict,
    },
    evidence::{AskHeads, Heads},
    items::{Accepted, Listed, PlainRequest, PointView, ProtectRequest},
    runs::{RunState, RunView, WhyView},
};
use recovery::{Consistency, Generation, PointId, RecoveryPoint, ReplicationPolicy};
use sdk::{Outcome, Seq, TaskQueue};
use serde_json::{Value, json};
use store::{
    Limits, PgStore,
    testing::{TestDatabase, short_dir},
};
use switchback_server::{ServerOptions, StateDir, WorkerOptions, serve, work};
use tokio::sync::watch;
use waiting::wait_until;

struct Scene {
    dir: PathBuf,
    listen: SocketAddr,
    database: TestDatabase,
    stop: watch::Sender<bool>,
}

impl Scene {
    async fn new() -> Self {
        let dir = short_dir("sb-api");
        let database = TestDatabase::migrated().await;
        let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let state_dir = StateDir::open(&dir).unwrap();
        let options = ServerOptions { state_dir, database_url: database.url.clone(), listen: Some(listen), tls_names: vec![] };
        let server = tokio::spawn(serve(options, stopped));
        let scene = Self { dir, listen, database, stop };
        wait_until("the server answers", async || {
            assert!(!server.is_finished(), "the server has ended");
            scene.local().get::<Value>("/v1/version").await.ok()
        })
        .await;
        scene
    }

    fn local(&self) -> Client {
        Client::unix(self.dir.join("api.sock")).unwrap()
    }

    fn remote(&self, identity: Option<&Identity>, token: Option<&str>) -> Client {
        let ca = std::fs::read(self.dir.join("pki/ca.crt")).unwrap();
        Client::https(&self.listen.to_string(), &Trust::Ca(ca), identity, token.map(str::to_owned)).unwrap()
    }

    async fn token(&self, name: &str, role: Role) -> String {
        let created: TokenCreated = self.local().post("/v1/tokens", &TokenRequest { name: name.to_owned(), role }).await.unwrap();
        created.token
    }

    async fn enrolled(&self, name: &str, site: &str) -> (Client, Enrolled) {
        let asked = EnrolmentTokenRequest { site: site.parse().unwrap() };
        let created: EnrolmentTokenCreated = self.local().post("/v1/agents/tokens", &asked).await.unwrap();
        let pinned = hex::decode(&created.ca_sha256).unwrap().try_into().unwrap();
        let stranger = Client::https(&self.listen.to_string(), &Trust::Pinned(pinned), None, None).unwrap();
        let (csr_pem, key_pem) = request();
        let request = EnrolRequest { token: created.token, name: name.to_owned(), csr_pem, build: "test".to_owned() };
        let enrolled: Enrolled = stranger.post("/v1/agent/enroll", &request).await.unwrap();
        assert_eq!(code(stranger.post::<Enrolled>("/v1/agent/enroll", &request).await), Code::EnrolmentRefused, "a token holds once");
        let identity = Identity { certificate_pem: enrolled.certificate_pem.clone().into_bytes(), key_pem: key_pem.into_bytes() };
        (self.remote(Some(&identity), None), enrolled)
    }

    fn start_worker(&self) {
        let options = WorkerOptions {
            state_dir: StateDir::open(&self.dir).unwrap(),
            database_url: self.database.url.clone(),
            lease: Duration::from_secs(10),
            name: "worker-1".to_owned(),
        };
        let stop = self.stop.subscribe();
        std::thread::spawn(move || tokio::runtime::Runtime::new().unwrap().block_on(work(options, stop)).unwrap());
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// Names in the request that the server must not believe.
fn request() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    (params.serialize_request(&key).unwrap().pem().unwrap(), key.serialize_pem())
}

fn code<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> Code {
    let error = answer.unwrap_err();
    error.problem().unwrap_or_else(|| panic!("a problem is expected, not {error:?}")).code().unwrap()
}

fn protect_request() -> ProtectRequest {
    ProtectRequest { from: "a".parse().unwrap(), to: "b".parse().unwrap(), machine: None, policy: ReplicationPolicy::default(), checks: vec![], profile: recovery::Profile::Kvm }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_allows_what_it_says() {
    let scene = Scene::new().await;
    let (viewer, operator) = (scene.token("eve", Role::Viewer).await, scene.token("bob", Role::Operator).await);
    let (viewer, operator) = (scene.remote(None, Some(&viewer)), scene.remote(None, Some(&operator)));
    let commit = "/v1/items/db9/commit";
    viewer.get::<Listed<Value>>("/v1/items").await.unwrap();
    assert_eq!(code(viewer.post::<Accepted>(commit, &PlainRequest {}).await), Code::Forbidden);
    assert_eq!(code(operator.post::<Accepted>(commit, &PlainRequest {}).await), Code::UnknownItem);
    let token = TokenRequest { name: "mallory".to_owned(), role: Role::Admin };
    assert_eq!(code(operator.post::<TokenCreated>("/v1/tokens", &token).await), Code::Forbidden);
    for nobody in [scene.remote(None, None), scene.remote(None, Some("sbt_no"))] {
        assert_eq!(code(nobody.get::<Value>("/v1/items").await), Code::Unauthenticated);
    }
    let taken = TokenRequest { name: "eve".to_owned(), role: Role::Admin };
    assert_eq!(code(scene.local().post::<TokenCreated>("/v1/tokens", &taken).await), Code::NameTaken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_ca_is_not_talked_to() {
    let scene = Scene::new().await;
    let client = Client::https(&scene.listen.to_string(), &Trust::Pinned([7; 32]), None, None).unwrap();
    let error = client.get::<Value>("/v1/version").await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_are_refused_by_name() {
    let scene = Scene::new().await;
    let local = scene.local();
    assert_eq!(code(local.post::<Value>("/v1/items/db9/protect", &json!({"from": "a", "to": "b", "colour": 1})).await), Code::InvalidRequest);
    assert_eq!(code(local.post::<Value>("/v1/items/-x/protect", &protect_request()).await), Code::InvalidRequest);
    assert_eq!(code(local.post::<Value>("/v1/items/db9/protect", &protect_request()).await), Code::UnknownSite);
    assert_eq!(code(local.post::<Value>("/v1/items/db9/dance", &json!({})).await), Code::InvalidRequest);
    assert_eq!(code(local.get::<Value>("/v1/nothing").await), Code::UnknownPath);
    assert_eq!(code(local.post::<Value>("/v1/runs", &json!({})).await), Code::UnknownPath, "another method");
    assert_eq!(code(local.get::<Value>("/v1/runs?open=maybe").await), Code::InvalidRequest);
    assert_eq!(code(local.get::<Value>("/v1/runs?colour=1").await), Code::InvalidRequest);
    let huge = json!({ "from": "a".repeat(20 << 20) });
    assert_eq!(code(local.post::<Value>("/v1/items/db9/protect", &huge).await), Code::InvalidRequest, "its reason is not lost");
    assert_eq!(code(local.post::<Value>("/v1/nothing", &huge).await), Code::UnknownPath, "although nobody reads it");
    assert_eq!(code(local.get::<Value>("/v1/runs/0193a000-0000-7000-8000-000000000000").await), Code::UnknownRun);
    assert!(local.text("/problems/unknown-item").await.unwrap().contains("What to do"));
    assert_eq!(local.text("/readyz").await.unwrap(), "ready\n");
    assert!(local.text("/metrics").await.unwrap().contains("switchback_mxid_age"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_agents_say_of_themselves_is_kept_and_how_items_stand_is_on_metrics() {
    let scene = Scene::new().await;
    let (a, _) = scene.enrolled("a1", "a").await;
    let local = scene.local();
    let report = json!({ "v": 1, "build": "0.1.0", "actions": { "ssh": true, "secrets": [], "commands": [], "faults": [] } });
    a.post::<Value>("/v1/agent/report", &report).await.unwrap();
    assert_eq!(code(a.post::<Value>("/v1/agent/report", &json!({ "v": 1 })).await), Code::InvalidRequest);
    assert_eq!(code(local.post::<Value>("/v1/agent/report", &report).await), Code::AgentNotEnrolled);
    assert_eq!(code(local.get::<Value>("/v1/items/db9/readiness").await), Code::UnknownItem);
    assert_eq!(code(local.get::<Value>("/v1/plans/shop/readiness").await), Code::UnknownPlan);
    let (b, _) = scene.enrolled("b1", "b").await;
    b.post::<Value>("/v1/agent/status", &json!({ "data_address": "127.0.0.1:7444", "items": [] })).await.unwrap();
    scene.start_worker();
    let run = local.post::<Accepted>("/v1/items/db9/protect", &protect_request()).await.unwrap().run;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let view = loop {
        match local.get::<Value>("/v1/items/db9/readiness").await {
            Ok(view) => break view,
            Err(error) => assert!(std::time::Instant::now() < deadline, "run {run} has noted no item: {error}"),
        }
    };
    assert_eq!((&view["subject"], &view["severity"], &view["verified"]), (&json!("item:db9"), &json!("critical"), &json!(false)), "{view}");
    let metrics = local.text("/metrics").await.unwrap();
    assert!(metrics.contains("switchback_verified{kind=\"item\",name=\"db9\"} 0\n"), "{metrics}");
    let critical = metrics.lines().find_map(|line| line.strip_prefix("switchback_readiness_findings{kind=\"item\",name=\"db9\",severity=\"critical\"} "));
    assert!(critical.is_some_and(|count| count != "0"), "{metrics}");
    let again = local.get::<Value>("/v1/items/db9/readiness").await.unwrap();
    assert_eq!((&again["since"], &again["changed_at"]), (&view["since"], &view["changed_at"]), "what is the same has not changed");
    assert_eq!(local.get::<Listed<Value>>("/v1/readiness").await.unwrap().items.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_works_under_its_own_lease_at_its_own_queue() {
    let scene = Scene::new().await;
    let (a, enrolled) = scene.enrolled("a1", "a").await;
    let (b, _) = scene.enrolled("b1", "b").await;
    scene.start_worker();
    assert_eq!(enrolled.tls_name, "a1.agent.switchback.internal");
    let LeaseOpened { lease, .. } = a.post("/v1/agent/lease/open", &OpenLease { ttl_ms: 10_000 }).await.unwrap();
    let foreign: LeaseOpened = b.post("/v1/agent/lease/open", &OpenLease { ttl_ms: 10_000 }).await.unwrap();
    let claim = |lease, queue: &str, wait_ms| ClaimTasks { lease, queues: vec![TaskQueue::new(queue)], limit: 5, wait_ms };
    let claims = "/v1/agent/tasks/claim";
    assert_eq!(code(a.post::<TasksClaimed>(claims, &claim(foreign.lease, "site:a", 0)).await), Code::Forbidden);
    assert_eq!(code(a.post::<TasksClaimed>(claims, &claim(lease, "site:b", 0)).await), Code::Forbidden);
    assert_eq!(code(a.post::<TasksClaimed>(claims, &claim(lease, "server", 0)).await), Code::Forbidden);

    let Accepted { run } = scene.local().post("/v1/items/db9/protect", &protect_request()).await.unwrap();
    let claimed: TasksClaimed = a.post(claims, &claim(lease, "site:a", 20_000)).await.unwrap();
    let task = &claimed.tasks[0];
    assert_eq!((task.activity.as_str(), task.run, task.token.attempt), ("inspect-machine", run, 1));
    let why: WhyView = scene.local().get(&format!("/v1/runs/{run}/why")).await.unwrap();
    assert!(why.why.starts_with("waits for agent a1 to finish inspect-machine"), "{}", why.why);

    let outcome = Outcome::Completed { output: json!(null) };
    let report = |seq, attempt| ReportTask { run, seq, attempt, verdict: Verdict::Ended { outcome: outcome.clone() } };
    let reports = "/v1/agent/tasks/report";
    assert_eq!(code(b.post::<TaskReported>(reports, &report(task.seq, 1)).await), Code::Forbidden, "another site's task");
    let pulse = PulseTask { run, seq: task.seq, attempt: 1, detail: None };
    assert_eq!(code(b.post::<TaskPulsed>("/v1/agent/tasks/pulse", &pulse).await), Code::Forbidden, "another site's task");
    assert_eq!(a.post::<TaskPulsed>("/v1/agent/tasks/pulse", &pulse).await.unwrap().pulse, Pulse::Alive);
    assert!(!a.post::<TaskReported>(reports, &report(task.seq, 2)).await.unwrap().accepted, "no such attempt");
    assert!(!a.post::<TaskReported>(reports, &report(Seq(999), 1)).await.unwrap().accepted, "no such task");
    assert!(a.post::<TaskReported>(reports, &report(task.seq, 1)).await.unwrap().accepted);

    let Done {} = a.post("/v1/agent/lease/close", &CloseLease { lease }).await.unwrap();
    assert_eq!(code(a.post::<TasksClaimed>(claims, &claim(lease, "site:a", 0)).await), Code::LeaseGone);
    let renewed: LeaseRenewed = a.post("/v1/agent/lease/renew", &RenewLease { lease, ttl_ms: 10_000 }).await.unwrap();
    assert!(!renewed.held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_is_asked_for_once_and_by_one_at_a_time() {
    let scene = Scene::new().await;
    let (_a, _) = scene.enrolled("a1", "a").await;
    let (_b, _) = scene.enrolled("b1", "b").await;
    let local = scene.local();
    let (path, request) = ("/v1/items/db9/protect", protect_request());
    let Accepted { run } = local.post_once(path, "k1", &request).await.unwrap();
    let again: Accepted = local.post_once(path, "k1", &request).await.unwrap();
    assert_eq!(again.run, run, "the same request gets its first answer");
    let other = ProtectRequest { machine: Some("other".to_owned()), ..request.clone() };
    assert_eq!(code(local.post_once::<Accepted>(path, "k1", &other).await), Code::IdempotencyConflict);
    let refused = local.post_once::<Accepted>(path, "k2", &request).await.unwrap_err();
    let problem = refused.problem().unwrap();
    assert_eq!((problem.code(), problem.run), (Some(Code::RunInProgress), Some(run)));

    scene.start_worker();
    let view: RunView = local.post(&format!("/v1/runs/{run}/cancel"), &json!({"reason": "changed our minds"})).await.unwrap();
    assert!(!view.state.ended() || view.state == RunState::Cancelled);
    let ended = wait_until("the run is cancelled", async || {
        let view: RunView = local.get(&format!("/v1/runs/{run}")).await.unwrap();
        view.state.ended().then_some(view)
    })
    .await;
    let user = std::process::Command::new("id").arg("-un").output().unwrap().stdout;
    assert_eq!((ended.state, ended.requested_by.as_str()), (RunState::Cancelled, String::from_utf8_lossy(&user).trim()));
    assert_eq!(code(local.post::<RunView>(&format!("/v1/runs/{run}/cancel"), &json!({})).await), Code::RunEnded);
    let verified: Value = local.post("/v1/verify", &json!({})).await.unwrap();
    assert_eq!(verified["differences"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_of_a_site_is_shown_as_its_own() {
    let scene = Scene::new().await;
    let (b, _) = scene.enrolled("b1", "b").await;
    let point = RecoveryPoint {
        id: PointId(3),
        consistency: Consistency::Crash,
        taken_at: chrono::DateTime::UNIX_EPOCH,
        generation: Generation { era: 1, grant_epoch: 1 },
        size_bytes: 65_536,
        group: None,
        pinned: true,
        withdrawn: false,
    };
    let replica = ReplicaStatus { generation: point.generation, sealed: false, withdrawn: false, points: vec![point.clone()] };
    let item = ItemStatus { item: "db9".parse().unwrap(), replica: Some(replica), replication: None, machines: None };
    let status = SiteStatus { data_address: Some("10.0.0.2:7444".to_owned()), items: vec![item] };
    let Done {} = b.post("/v1/agent/status", &status).await.unwrap();
    let agents: Listed<AgentView> = scene.local().get("/v1/agents").await.unwrap();
    assert_eq!(agents.items[0].data_address.as_deref(), Some("10.0.0.2:7444"));
    let peers: Peers = b.get("/v1/agent/peers").await.unwrap();
    assert_eq!(peers.agents[0].tls_name, "b1.agent.switchback.internal");
    assert_eq!(code(scene.local().get::<Listed<PointView>>("/v1/items/db9/points").await), Code::UnknownItem, "nobody protects it");
    let store = PgStore::open(&scene.database.url, Limits::default()).await.unwrap();
    let kept = store.points(Some("db9")).await.unwrap();
    assert_eq!((kept.len(), kept[0].site.as_str(), kept[0].point, kept[0].pinned), (1, "b", 3, true));
    let local = scene.local();
    assert_eq!(code(local.post::<Done>("/v1/agent/status", &status).await), Code::AgentNotEnrolled, "the socket is no agent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_exported_is_signed_and_holds_no_secret() {
    let scene = Scene::new().await;
    let token = scene.token("ci", Role::Viewer).await;
    let (agent, enrolled) = scene.enrolled("a1", "a").await;
    drop(scene.enrolled("b1", "b").await);
    let asked = EnrolmentTokenRequest { site: "a".parse().unwrap() };
    let unused: EnrolmentTokenCreated = scene.local().post("/v1/agents/tokens", &asked).await.unwrap();
    let operator = scene.remote(None, Some(&scene.token("ada", Role::Operator).await));
    let Accepted { run, .. } = operator.post("/v1/items/db9/protect", &protect_request()).await.unwrap();
    let viewer = scene.remote(None, Some(&token));
    let limit = Duration::from_secs(30);
    assert_eq!(code(viewer.file(&format!("/v1/runs/{run}/export"), limit).await), Code::NotExportable, "nobody has taken a turn");
    scene.start_worker();
    let file = wait_until("the run has begun", async || viewer.file(&format!("/v1/runs/{run}/export"), limit).await.ok()).await;
    let key: api::evidence::KeyView = viewer.get("/v1/evidence/key").await.unwrap();
    let verdict = evidence::verify(&file, Some(&[key.key.parse().unwrap()]), None);
    assert!(verdict.holds(), "{verdict:?}");
    let page = viewer.file(&format!("/v1/runs/{run}/report?form=html&rto_target_ms=60000"), limit).await.unwrap();
    assert!(evidence::verify(&page, Some(&[key.key.parse().unwrap()]), None).holds());
    let private = std::fs::read_to_string(scene.dir.join("pki/evidence.key")).unwrap();
    let body: String = private.lines().filter(|line| !line.starts_with('-')).collect();
    let secrets = [token.as_str(), unused.token.as_str(), body.as_str(), scene.database.url.as_str(), enrolled.certificate_pem.as_str()];
    for file in [&file, &page] {
        let text = String::from_utf8_lossy(file);
        assert!(secrets.iter().all(|secret| !text.contains(secret)), "a secret is in it");
    }
    let refused = |path: &str| { let path = path.to_owned(); let viewer = viewer.clone(); async move { code(viewer.file(&path, limit).await) } };
    assert_eq!(refused("/v1/runs/01900000-0000-7000-8000-000000000000/export").await, Code::UnknownRun);
    assert_eq!(refused(&format!("/v1/runs/{run}/report?form=pdf")).await, Code::InvalidRequest);
    assert_eq!(refused(&format!("/v1/runs/{run}/report?previous_sha256=x")).await, Code::InvalidRequest);
    assert_eq!(code(viewer.post::<Value>("/v1/agent/heads", &ask_heads(None)).await), Code::AgentNotEnrolled);
    let Heads { heads } = agent.post("/v1/agent/heads", &ask_heads(Some("run x was written anew"))).await.unwrap();
    assert_eq!(heads, vec![], "nothing has ended");
    let agents: Listed<AgentView> = viewer.get("/v1/agents").await.unwrap();
    let told: Vec<_> = agents.items.iter().map(|agent| (agent.anchored_runs, agent.anchor_alarm.as_deref())).collect();
    assert_eq!(told, [(Some(7), Some("run x was written anew")), (None, None)]);
    operator.post::<RunView>(&format!("/v1/runs/{run}/cancel"), &json!({})).await.unwrap();
    let head = wait_until("the run has ended", async || {
        let heads: Heads = agent.post("/v1/agent/heads", &ask_heads(None)).await.unwrap();
        heads.heads.into_iter().next()
    })
    .await;
    let whole = viewer.file(&format!("/v1/runs/{run}/export"), limit).await.unwrap();
    let noted = evidence::Head { run: head.run, events: usize::try_from(head.events).unwrap(), head: head.head };
    assert_eq!(evidence::verify(&whole, None, Some(&[noted])).anchored, Some(1));
}

fn ask_heads(alarm: Option<&str>) -> AskHeads {
    AskHeads { after: chrono::DateTime::UNIX_EPOCH, run: sdk::RunId(uuid::Uuid::nil()), anchored: 7, alarm: alarm.map(str::to_owned) }
}
