//! Copies for tests on a real host: beside replication and production, on a network that reaches nothing.
//!
//! The whole test runs in the network namespace of the site that holds the copy, as its agent would.

mod lab;

use std::{
    fs,
    io::{Read, Write},
    process::Command,
    time::Duration,
};

use lab::{End, GuestLab, Other, call, generation, other, runtime, token};
use provider::{Call, GuestProgram, ObjectKind, PowerState, ProviderError, RecoverTest, RecoveredState, TestCopies, TestStarted, Whose};
use recovery::{Check, Consistency, EffectToken, ItemName, PointId, ReplicationPolicy, TestNetwork};
use serde::{Deserialize, Serialize};

/// A lab with a replicated guest, seen from the target's network.
async fn replicated(case: &str, lab: GuestLab) -> (GuestLab, PointId) {
    println!("{case}: in the network of {}", lab.sites.b.name);
    let policy = ReplicationPolicy::new(1, 4, 3600, None).and_then(|p| p.with_app_consistent(Some(1)));
    lab.protect_with(1, policy.expect("the policy is within its limits")).await;
    lab.ask(End::Source, "append?n=5");
    let (last, app) = lab.until("an app-consistent point", |s| s.last_point.zip(s.last_app_point)).await;
    println!("{case}: newest point {last}, app-consistent {app}");
    (lab, app)
}

/// Runs a test in the network of the target's site, which all threads that it starts inherit.
fn in_the_targets_network(case: &str, test: impl AsyncFnOnce(GuestLab)) {
    let Some(sites) = lab::requirements(case) else { return };
    lab::enter_network_of(&sites.b);
    let Some(lab) = GuestLab::new(case, "") else { return };
    runtime().block_on(test(lab));
}

async fn newest(lab: &GuestLab) -> PointId {
    let replica = lab.target().replica(&lab.item()).await.expect("there is a replica");
    replica.points.last().expect("it has a point").id
}

async fn recover(lab: &GuestLab, grant_epoch: i64, point: PointId) -> Result<provider::Recovered, ProviderError> {
    recover_on(lab, grant_epoch, point, None).await
}

/// A network that the copies of a plan share.
fn of_a_plan() -> Option<TestNetwork> {
    Some("shop".parse().expect("it is a name"))
}

async fn recover_on(lab: &GuestLab, grant_epoch: i64, point: PointId, network: Option<TestNetwork>) -> Result<provider::Recovered, ProviderError> {
    let wanted = RecoverTest { item: lab.item(), generation: generation(grant_epoch), point, network };
    lab.target().recover_test(&call(grant_epoch, 1, 1), wanted).await
}

async fn start(lab: &GuestLab, grant_epoch: i64) -> Result<TestStarted, ProviderError> {
    lab.target().start_test(&call(grant_epoch, 2, 1), &lab.item(), generation(grant_epoch)).await
}

async fn clean(lab: &GuestLab, grant_epoch: i64) {
    let cleaned = lab.target().clean_test(&call(grant_epoch, 9, 1), &lab.item(), generation(grant_epoch)).await;
    cleaned.expect("the copy is cleaned");
}

/// What exists of copies at the target.
async fn left(lab: &GuestLab) -> Vec<String> {
    let inventory = lab.target().inventory().await.expect("there is an inventory");
    let of_copies = |o: &provider::OwnedObject| {
        matches!(o.kind, ObjectKind::Machine | ObjectKind::MachineDisk | ObjectKind::Network) || o.name.contains("/test/")
    };
    let mut left: Vec<String> = inventory.objects.into_iter().filter(of_copies).map(|o| o.name).collect();
    left.extend(lab.dir(End::Target, "storage").join(&lab.name).join("test").exists().then(|| "the directory".to_owned()));
    left
}

/// Asks the copy until it answers.
async fn answers(lab: &GuestLab, grant_epoch: i64, path: &str) -> String {
    let check: Check = format!("http://{}:8080/{path}", lab.address).parse().expect("it is a check");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        match lab.target().check_test(&lab.item(), generation(grant_epoch), std::slice::from_ref(&check)).await {
            Ok(answer) => return answer,
            Err(error) if error.retryable() && std::time::Instant::now() < deadline => {}
            Err(error) => panic!("the copy does not answer: {error}"),
        }
    }
}

/// What plans do in a copy: a program in its guest, and a link to one of its ports.
async fn from_within(lab: &GuestLab, grant_epoch: i64) {
    let program = |program: &str, arguments: &[&str], within_s: u64| GuestProgram {
        key: "run/web/db9/promote".to_owned(),
        program: program.to_owned(),
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        input: Some("a line\n".to_owned()),
        environment: vec![("SWITCHBACK_PLAN".to_owned(), "shop".to_owned())],
        repeatable: false,
        within: Duration::from_secs(within_s),
        most_output: 1_000,
    };
    let (site, item, generation) = (lab.target(), lab.item(), generation(grant_epoch));
    let run = async |wanted| site.run_program(&item, generation, Whose::Copy, &wanted).await;
    let shell = |script, within_s| program("/bin/busybox", &["sh", "-c", script], within_s);
    let ended = run(shell("cat; echo $SWITCHBACK_PLAN; echo wrong >&2; exit 3", 60)).await.expect("it runs");
    assert_eq!((ended.exit, ended.said.text().as_str()), (3, "a line\nshop\nwrong\n"));
    let flooded = run(shell("head -c 100000 /dev/zero", 60)).await.expect("it runs");
    assert_eq!((flooded.exit, flooded.said.left_out()), (0, 99_000));
    let killed = run(shell("kill -9 $$", 60)).await.expect("it runs");
    assert_eq!(killed.exit, 137);
    let none = run(program("/bin/nothing", &[], 60)).await.expect_err("there is no such program");
    assert!(none.not_applied() && none.retryable(), "{none}");
    let late = run(shell("exec sleep 600", 1)).await.expect_err("it hangs");
    assert!(!late.not_applied() && late.to_string().contains("still runs after 1 s"), "{late}");
    let not_recovered = site.run_program(&item, generation, Whose::Recovered, &shell("true", 60)).await;
    assert_eq!(not_recovered, Err(ProviderError::NotRecovered { item: item.clone(), generation }));

    let link = site.reach_copy(&item, generation, &lab.address.to_string(), 8080).await.expect("it is reached");
    let asked = tokio::task::spawn_blocking(move || {
        let mut link = link; // the whole of it: what it hangs on goes with it
        let stream = link.stream.as_mut().expect("it is a real one");
        stream.write_all(b"GET /status HTTP/1.0\r\n\r\n").expect("it is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it is answered");
        answer
    });
    // Beside it, checks are asked from another neighbour, and the network is still seen to be isolated.
    answers(lab, grant_epoch, "status").await;
    start(lab, grant_epoch).await.expect("the end of a link is known");
    assert!(asked.await.expect("it ends").contains(" 200 "), "the link carries");
    let closed = site.reach_copy(&item, generation, &lab.address.to_string(), 81).await.expect_err("nobody is there");
    assert!(closed.not_applied(), "{closed}");
    let host = site.capacity().expect("the host says what it has");
    let needs = host.needs.get(&item).expect("it knows what the item's machine takes");
    assert!(needs.memory_bytes > 0 && needs.vcpus > 0 && host.free_memory_bytes <= host.memory_bytes && host.free_storage_bytes > 0, "{host:?}");
    assert_eq!(host.not_isolable, None);
    let again = start(lab, grant_epoch).await.expect("its network is still isolated");
    assert!(again.isolation.detail.contains("no uplink"), "{}", again.isolation.detail);
}

#[test]
fn a_copy_runs_beside_production_which_it_can_not_reach_and_leaves_nothing() {
    let case = "a_copy_runs_beside_production";
    in_the_targets_network(case, async |lab| {
        let (lab, point) = replicated(case, lab).await;
        let before = left(&lab).await;
        assert_eq!(before, [""; 0]);
        let made = recover(&lab, 2, point).await.expect("the point is copied");
        assert_eq!(made.machine, format!("{}-test", lab.name));
        assert_eq!(recover(&lab, 2, point).await.expect("twice is once"), made);
        let started = start(&lab, 2).await.expect("the copy starts");
        println!("{case}: {}", started.isolation.detail);
        let again = start(&lab, 2).await.expect("twice is once");
        assert_eq!((again.since, &again.machine), (started.since, &started.machine));
        println!("{case}: {}", answers(&lab, 2, "verify").await);
        assert!(lab.try_ask(End::Target, "status").is_none(), "this host can't reach the copy");
        assert_eq!(lab.ask(End::Source, "verify")["bad"], 0);
        let running = lab.target().observe_test(&lab.item(), generation(2)).await.expect("it is seen");
        assert!(matches!(running, RecoveredState::Started { power: PowerState::Running, .. }), "{running:?}");
        let recovered = lab.target().observe_machine(&lab.item(), generation(2)).await.expect("it is looked");
        assert_eq!(recovered, RecoveredState::Absent, "a copy is no recovered machine");
        let names: Vec<Check> = vec!["http://app.example:8080/".parse().expect("it is a check")];
        let refused = lab.target().check_test(&lab.item(), generation(2), &names).await.expect_err("there are no names");
        assert!(refused.to_string().contains("give its address"), "{refused}");
        let asked = async |check: &str| {
            let checks: Vec<Check> = vec![check.parse().expect("it is a check")];
            lab.target().check_test(&lab.item(), generation(2), &checks).await
        };
        assert_eq!(asked("guest:/bin/busybox test -d /proc").await.expect("the agent runs it"), "guest:/bin/busybox test -d /proc exits with 0");
        let refused = asked("guest:/bin/busybox test -d /nowhere").await.expect_err("it exits with 1");
        assert!(refused.to_string().contains("it exits with 1"), "{refused}");
        assert!(asked("guest:/bin/nothing").await.is_err(), "there is no such program");
        let refused = asked(&format!("ssh:{}:8080", lab.address)).await.expect_err("it speaks HTTP");
        assert!(refused.to_string().contains("ssh:"), "{refused}");
        from_within(&lab, 2).await;
        let inventory = lab.target().inventory().await.expect("it is listed");
        let kinds: std::collections::BTreeSet<ObjectKind> = inventory.objects.iter().filter(|object| object.of_test).map(|object| object.kind).collect();
        assert!([ObjectKind::Machine, ObjectKind::MachineDisk, ObjectKind::Network].iter().all(|kind| kinds.contains(kind)), "{inventory:?}");
        lab.until("replication to go on", |s| s.last_point.filter(|p| p.0 > point.0 + 2)).await;

        let other = recover(&lab, 3, newest(&lab).await).await;
        assert_eq!(other, Err(ProviderError::TestCopyExists { item: lab.item(), existing: generation(2) }));
        clean(&lab, 3).await;
        assert_eq!(left(&lab).await, before);
        clean(&lab, 3).await;
        assert_eq!(lab.target().observe_test(&lab.item(), generation(2)).await, Ok(RecoveredState::Absent));
    });
}

#[test]
fn what_a_copy_reads_is_not_pruned_and_newer_points_are() {
    let case = "what_a_copy_reads_is_not_pruned";
    in_the_targets_network(case, async |lab| {
        let (lab, point) = replicated(case, lab).await;
        recover(&lab, 2, point).await.expect("the point is copied");
        start(&lab, 2).await.expect("the copy starts");
        let later = lab.until("many more points", |s| s.last_point.filter(|p| p.0 > point.0 + 8)).await;
        let replica = lab.target().replica(&lab.item()).await.expect("there is a replica");
        let ids: Vec<u64> = replica.points.iter().map(|p| p.id.0).collect();
        assert!(ids.contains(&point.0), "{ids:?}");
        assert!((point.0 + 1..later.0).any(|id| !ids.contains(&id)), "points above may go: {ids:?}");
        assert!(replica.points.iter().any(|p| p.id == point && p.consistency == Consistency::App));
        answers(&lab, 2, "verify").await;
        lab.source().stop_replication(&call(3, 1, 1), &lab.item()).await.expect("replication stops");
        let refused = lab.target().drop_replica(&call(2, 3, 1), &lab.item()).await;
        assert!(matches!(refused, Err(ProviderError::PointsInUse { .. })), "{refused:?}");
        clean(&lab, 2).await;
        lab.target().drop_replica(&call(4, 1, 1), &lab.item()).await.expect("nothing uses the points");
    });
}

fn ip(line: &str) {
    assert!(Command::new("ip").args(line.split(' ')).status().expect("ip can be started").success(), "ip {line}");
}

#[test]
fn a_copy_whose_network_reaches_something_is_not_started_or_ended() {
    let case = "a_copy_whose_network_reaches_something";
    in_the_targets_network(case, async |lab| {
        let (lab, point) = replicated(case, lab).await;
        recover(&lab, 2, point).await.expect("the point is copied");
        let started = start(&lab, 2).await.expect("the copy starts");
        let xml = lab.virsh(End::Target, &["net-dumpxml", &started.isolation.network]);
        let bridge = xml.split("name='").nth(1).and_then(|rest| rest.split('\'').next()).expect("the network has a bridge").to_owned();

        ip("link add uplink0 type veth peer name uplink1");
        ip(&format!("link set uplink0 master {bridge}"));
        let refused = start(&lab, 2).await.expect_err("it reaches something");
        assert!(matches!(&refused, ProviderError::NotIsolated { detail, .. } if detail.contains("uplink0")), "{refused}");
        let state = lab.target().observe_test(&lab.item(), generation(2)).await.expect("it is seen");
        assert!(matches!(state, RecoveredState::Started { power: PowerState::Off, .. }), "{state:?}");
        ip("link delete uplink0");

        ip(&format!("address add 10.1.0.1/24 dev {bridge}"));
        let refused = start(&lab, 2).await.expect_err("this host is reached");
        assert!(matches!(&refused, ProviderError::NotIsolated { detail, .. } if detail.contains("10.1.0.1")), "{refused}");
        ip(&format!("address delete 10.1.0.1/24 dev {bridge}"));
        start(&lab, 2).await.expect("it is isolated again");
        clean(&lab, 2).await;
        assert_eq!(left(&lab).await, [""; 0]);
    });
}

#[test]
fn a_copy_is_cleaned_after_libvirt_was_killed_and_started_again() {
    let case = "a_copy_is_cleaned_after_libvirt_was_killed";
    in_the_targets_network(case, async |lab| {
        let (lab, point) = replicated(case, lab).await;
        recover(&lab, 2, point).await.expect("the point is copied");
        start(&lab, 2).await.expect("the copy starts");
        let pid = fs::read_to_string(lab.sites.b.root.join("run/libvirtd.pid")).expect("libvirt has a process");
        assert!(Command::new("kill").args(["-9", pid.trim()]).status().expect("kill can be started").success());
        let mut restart = lab::xtask();
        restart.args(["lab", "restart-libvirtd", "--site", &lab.sites.b.name, "--dir"]).arg(&lab.sites.dir);
        lab::said(&mut restart);
        answers(&lab, 2, "status").await;
        clean(&lab, 2).await;
        assert_eq!(left(&lab).await, [""; 0]);
    });
}

/// What the other process is to do.
#[derive(Serialize, Deserialize)]
struct Order {
    item: ItemName,
    token: EffectToken,
    point: Option<PointId>,
}

/// The other process: it makes a copy, or starts one, whatever comes of it.
#[test]
fn the_process_that_is_stopped() {
    let Some((site, Order { item, token, point })) = other::ordered() else { return };
    let (call, generation) = (Call::new(token, "late"), token.generation());
    let outcome = runtime().block_on(async {
        match point {
            Some(point) => site.recover_test(&call, RecoverTest { item, generation, point, network: of_a_plan() }).await.map(|made| format!("{made:?}")),
            None => site.start_test(&call, &item, generation).await.map(|started| format!("{started:?}")),
        }
    });
    println!("the late call gave {outcome:?}");
}

fn stopped_before(step: &str, lab: &GuestLab, (grant_epoch, seq, point): (i64, i64, Option<PointId>)) -> Other {
    let order = Order { item: lab.item(), token: token(grant_epoch, seq, 1), point };
    Other::stopped_before(step, "the_process_that_is_stopped", lab.config(End::Target), order)
}

#[test]
fn an_agent_that_dies_or_comes_late_at_any_step_of_a_plans_copy_leaves_nothing_that_cleaning_does_not_remove() {
    let case = "an_agent_that_dies_or_comes_late_at_any_step";
    in_the_targets_network(case, async |lab| {
        let (lab, _) = replicated(case, lab).await;
        let mut grant_epoch = 2;
        for (step, dies) in [("recover", true), ("recover", false), ("network", true), ("create", true), ("create", false), ("resume", true), ("resume", false)] {
            println!("{case}: {step}, {}", if dies { "dies" } else { "comes late" });
            let point = newest(&lab).await;
            let order = match step {
                "recover" => (grant_epoch, 1, Some(point)),
                _ => {
                    recover_on(&lab, grant_epoch, point, of_a_plan()).await.expect("the point is copied");
                    (grant_epoch, 2, None)
                }
            };
            lab.close(End::Target);
            let other = stopped_before(step, &lab, order);
            let late = if dies {
                other.kill();
                None
            } else {
                Some(other)
            };
            lab.open(End::Target);
            clean(&lab, grant_epoch).await;
            if let Some(late) = late {
                late.go_on();
                late.end();
                // The next test failover begins by cleaning, too.
                grant_epoch += 1;
                clean(&lab, grant_epoch).await;
            }
            assert_eq!(left(&lab).await, [""; 0], "{step}");
            grant_epoch += 1;
        }
    });
}
