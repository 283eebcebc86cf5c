//! The product on real machines: libvirt, QEMU, a guest that writes, sites that die, agents that are stopped at the worst moment.
//! Needs root and QEMU; `SWITCHBACK_REQUIRE_KVM=1` makes their absence a failure.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test panics where its sentence does not hold")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use switchback_tests::{
    collector,
    drive::{DATA_PORT, next_whole_point, protect},
    lab::{Lab, Ledger, kvm_or_skip},
    place::{PATIENCE, signal, wait_until, wait_until_within},
    product::Product,
};

/// Of an agent that takes over while the first one, stopped, still holds its port.
const SECOND_DATA_PORT: u16 = 7445;
const IP: &str = "10.1.0.19";

/// Numbers of the points that the target's journals hold, read from its disk without asking anybody.
fn points_on_disk(storage: &Path) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    for path in files_below(storage).into_iter().filter(|path| path.extension().is_some_and(|end| end == "jsonl")) {
        for line in fs::read_to_string(&path).unwrap_or_default().lines() {
            let record: Value = line.split_once(' ').and_then(|(_, json)| serde_json::from_str(json).ok()).unwrap_or_default();
            found.extend(record["stored"]["point"]["id"].as_u64());
            let earlier = record["state"]["points"].as_array().into_iter().flatten();
            found.extend(earlier.filter_map(|stored| stored["point"]["id"].as_u64()));
        }
    }
    found
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn points_go_on_while_server_and_database_are_down_for_two_minutes_and_are_listed_afterwards() {
    if !kvm_or_skip("points_go_on_while_server_and_database_are_down_for_two_minutes_and_are_listed_afterwards") {
        return;
    }
    let outage = Duration::from_secs(120);
    let lab = Lab::up("outage");
    let mut product = lab.product("outage");
    for site in ["sitea", "siteb"] {
        lab.agent(&mut product, &format!("agent-{site}"), site, DATA_PORT, &[]);
    }
    let guest = lab.guest("sitea", "db9", IP, 100);
    protect(&product, "db9", IP, "9s");
    next_whole_point(&product, "db9");
    let pids = ["database", "server", "worker-1", "worker-2"].map(|name| product.pid(name).unwrap());
    product.stop();
    let alive: Vec<&i32> = pids.iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).collect();
    assert!(alive.is_empty(), "these still run: {alive:?}");
    let (down_since, before) = (Instant::now(), points_on_disk(&lab.storage("siteb")));
    let written_before = guest.records();
    let during = wait_until_within(outage * 2, "two minutes pass and at least ten points are recorded at the target meanwhile", || {
        let new: BTreeSet<u64> = points_on_disk(&lab.storage("siteb")).difference(&before).copied().collect();
        (down_since.elapsed() >= outage && new.len() >= 10).then_some(new)
    });
    assert!(guest.records() > written_before + 100, "the guest went on writing");
    product.start_again();
    let newest_unseen = *during.last().unwrap();
    wait_until("the newest point of the outage is listed", || product.points("db9").contains_key(&newest_unseen).then_some(()));
    let listed: BTreeSet<u64> = product.points("db9").into_keys().collect();
    let missing: Vec<&u64> = during.difference(&listed).collect();
    assert!(missing.is_empty(), "points {missing:?} of the outage are not listed; listed are {listed:?}");
    assert_eq!(guest.verify().1, 0, "bad records at the source");
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}

/// What a site holds: its machines as libvirt describes them, their processes, and every file that no running machine writes.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    machines: BTreeMap<String, (String, i32)>,
    files: BTreeMap<PathBuf, u64>,
}

fn holdings(lab: &Lab, site: &str) -> Holdings {
    let names = lab.virsh(site, &["list", "--all", "--name"]);
    let names = names.lines().map(str::trim).filter(|name| !name.is_empty());
    let machines: BTreeMap<String, (String, i32)> =
        names.map(|name| (name.to_owned(), (lab.virsh(site, &["dumpxml", name]), lab.qemu_pid(site, name)))).collect();
    let written = |path: &Path| machines.values().any(|(xml, _)| is_written_by(xml, path));
    let files = files_below(&lab.storage(site)).into_iter().map(|path| {
        let content = if written(&path) { Vec::new() } else { fs::read(&path).unwrap_or_default() };
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        (path, hasher.finish())
    });
    Holdings { files: files.collect(), machines }
}

/// A machine writes into the disk itself; what that lies on comes later in its description.
fn is_written_by(xml: &str, path: &Path) -> bool {
    xml.split("<disk ").skip(1).filter_map(|disk| disk.split("<source ").nth(1)).any(|source| {
        source.split('>').next().is_some_and(|attributes| attributes.contains(&format!("'{}'", path.display())))
    })
}

/// Fails over while the agent at site B is stopped between its check and this call, until another one has done its work; then
/// lets it go on.
fn stopped_before(call: &str, lab: &Lab, product: &mut Product, machine: &str, ip: &str) {
    let (first, second) = (format!("first-{call}"), format!("second-{call}"));
    lab.agent(product, &first, "siteb", DATA_PORT, &[("SWITCHBACK_PAUSE_BEFORE", call)]);
    let source = lab.guest("sitea", machine, ip, 0);
    protect(product, machine, ip, "2s");
    let kept = source.append(50);
    next_whole_point(product, machine);
    let run = product.begin(&["failover", machine]);
    wait_until(&format!("the agent is stopped before `{call}`"), || product.agent(&first).is_stopped().then_some(()));
    lab.agent(product, &second, "siteb", SECOND_DATA_PORT, &[]);
    let view = product.ended(&run);
    assert_eq!(view["state"], "completed", "{call}: {view}");
    let guest = lab.ledger("siteb", ip);
    let status = wait_until("the machine answers at site B", || guest.status());
    assert_eq!((status.found, status.boots), (kept, 2), "{call}");
    guest.append(10);
    let before = holdings(lab, "siteb");
    signal(product.agent(&first).pid(), "CONT");
    wait_until("the attempt of the stopped agent ends", || {
        let log = product.agent(&first).log();
        ["an attempt has ended", "the attempt is no longer ours"].iter().any(|said| log_after(&log, "stopping before the call").contains(said)).then_some(())
    });
    unharmed(&before, lab, &guest, call);
    assert_eq!(guest.append(10), kept + 20, "{call}: it goes on writing");
    assert_eq!((guest.verify().1, guest.status().unwrap().boots), (0, 2), "{call}");
    product.end_agent(&first);
    unharmed(&before, lab, &guest, call);
    let committed = product.ask(&["commit", machine, "--wait"]);
    assert_eq!(committed["state"], "completed", "{call}: {committed}");
    assert_eq!((guest.verify(), guest.status().unwrap().boots), ((kept + 20, 0), 2), "{call}");
    product.end_agent(&second);
}

fn log_after<'a>(log: &'a str, mark: &str) -> &'a str {
    log.split_once(mark).map_or("", |(_, after)| after)
}

/// Machines and files are as they were; a late call may have left what nobody uses.
fn unharmed(before: &Holdings, lab: &Lab, guest: &Ledger<'_>, call: &str) {
    let after = holdings(lab, "siteb");
    assert_eq!(before.machines, after.machines, "{call}");
    for (path, content) in &before.files {
        let journal = path.extension().is_some_and(|end| end == "jsonl");
        assert!(journal || after.files.get(path) == Some(content), "{call}: {} was changed or removed", path.display());
    }
    assert!(guest.status().is_some(), "{call}: the machine answers");
}

#[test]
fn an_agent_stopped_between_check_and_hypervisor_call_harms_nothing_when_it_is_continued() {
    if !kvm_or_skip("an_agent_stopped_between_check_and_hypervisor_call_harms_nothing_when_it_is_continued") {
        return;
    }
    let lab = Lab::up("zombie");
    let mut product = lab.product("zombie");
    lab.agent(&mut product, "agent-sitea", "sitea", DATA_PORT, &[]);
    stopped_before("recover", &lab, &mut product, "db1", "10.1.0.21");
    stopped_before("create", &lab, &mut product, "db2", "10.1.0.22");
    stopped_before("resume", &lab, &mut product, "db3", "10.1.0.23");
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}

#[test]
fn a_failover_on_real_machines_keeps_exactly_the_records_before_the_point() {
    if !kvm_or_skip("a_failover_on_real_machines_keeps_exactly_the_records_before_the_point") {
        return;
    }
    let lab = Lab::up("failover");
    let mut product = lab.product("failover");
    let collector = collector::start_in(&lab.netns("siteb"));
    let traced = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.endpoint()), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"), ("OTEL_BSP_SCHEDULE_DELAY", "200")];
    lab.agent(&mut product, "agent-sitea", "sitea", DATA_PORT, &[]);
    lab.agent(&mut product, "agent-siteb", "siteb", DATA_PORT, &traced);
    let source = lab.guest("sitea", "db9", IP, 0);
    protect(&product, "db9", IP, "2s");
    let (kept, chosen, written) = while_the_disk_is_busy(&source, || {
        source.append(40);
        next_whole_point(&product, "db9");
        let kept = source.append(23);
        let chosen = next_whole_point(&product, "db9");
        source.append(5);
        next_whole_point(&product, "db9");
        (kept, chosen, source.append(7))
    });
    lab.kill_guest("sitea", "db9");
    lab.cut("sitea");
    let point = chosen.to_string();
    let accept = ["failover", "db9", "--point", &point, "--accept-unfenced", "--reason", "site A lost its power", "--fence-timeout", "3s"];
    let run = product.begin(&accept);
    signal(product.owner(&product.seen(&run, "recover-machine")), "KILL");
    signal(product.pid("database").unwrap(), "QUIT");
    let view = product.ended(&run);
    assert_eq!(view["state"], "completed", "{view}");
    let trace = view["trace_id"].as_str().unwrap().to_owned();
    for call in ["create", "checkpoint", "resume"] {
        wait_until(&format!("the hypervisor call {call} stands in the trace of the request"), || {
            let spans = collector.spans();
            spans.iter().any(|span| span.trace == trace && span.name == "libvirt" && span.attributes.contains(call)).then_some(())
        });
    }
    let guest = lab.ledger("siteb", IP);
    let status = wait_until("the machine answers at site B", || guest.status());
    assert_eq!((status.found, status.boots), (kept, 2), "of {written} records those before point {chosen} are kept");
    assert_eq!(guest.verify(), (kept, 0));
    let epochs: BTreeSet<i64> = product.events(&run).iter().map(|event| event["run_epoch"].as_i64().unwrap()).collect();
    assert!(epochs.len() >= 2, "the run was taken over: {epochs:?}");
    assert_eq!(product.item_state("db9"), "commit pending");
    assert_eq!(product.ask(&["commit", "db9", "--wait"])["state"], "completed");
    assert_eq!(product.item_state("db9"), "committed");
    assert_eq!(guest.append(11), kept + 11);
    assert_eq!((guest.verify(), guest.status().unwrap().boots), ((kept + 11, 0), 2), "the machine did not notice the commit");
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}

/// Lets the guest write noise all the time while `work` is done, so that points are taken under load.
fn while_the_disk_is_busy<T>(guest: &Ledger<'_>, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let until = Instant::now() + PATIENCE * 2;
            let mut seed = 0;
            while !done.load(Ordering::SeqCst) && Instant::now() < until {
                seed += 1;
                guest.write_noise(1, seed);
            }
        });
        let answer = work();
        done.store(true, Ordering::SeqCst);
        busy.join().unwrap();
        answer
    })
}
