//! A database that comes back without its last commits, as people handle it: told by commands, settled by commands.
#![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

use std::{
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use switchback_tests::product::{Product, Said, signal, wait_until};

const PROTECT: [&str; 9] = ["protect", "db9", "--from", "a", "--to", "b", "--interval", "1s", "--wait"];

fn protected(name: &str) -> Product {
    let mut product = Product::start(name, &[]);
    product.host_simulated_sites(&[]);
    drop(product.ask(&PROTECT));
    product
}

/// Copies the running cluster, as a nightly backup does.
fn back_up(cluster: &Path) {
    let (owner, opts) = (fs::metadata(cluster.join("data")).unwrap(), fs::read_to_string(cluster.join("data/postmaster.opts")).unwrap());
    let programs = PathBuf::from(opts.split_whitespace().next().unwrap()).parent().unwrap().to_owned();
    let mut copy = Command::new(programs.join("pg_basebackup"));
    copy.arg("-h").arg(cluster.join("sock")).args(["-p", "5432", "-U", "switchback", "-X", "stream", "--checkpoint=fast", "-D"]);
    copy.arg(cluster.join("backup")).current_dir(cluster).env("LC_ALL", "C").uid(owner.uid()).gid(owner.gid());
    let copied = copy.output().unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
}

/// Everything is ended, and the database comes back as the backup.
fn restore(product: &mut Product) {
    let cluster = product.state_dir().join("pg");
    product.stop();
    fs::remove_dir_all(cluster.join("data")).unwrap();
    fs::rename(cluster.join("backup"), cluster.join("data")).unwrap();
    product.start_again();
}

fn store(product: &Product, words: &[&str]) -> Said {
    product.say(&[&["-o", "json", "store"], words].concat())
}

/// What was found of a run and what became of it.
fn found(view: &Value, run: &str) -> Vec<(String, String)> {
    let of_run = view["losses"].as_array().unwrap().iter().filter(|loss| loss["run"] == *run);
    of_run.map(|loss| (loss["what"].as_str().unwrap().to_owned(), loss["became"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn a_failover_that_a_restored_backup_knows_nothing_of_is_held_and_goes_on_by_a_persons_word() {
    let mut product = protected("restored");
    back_up(&product.state_dir().join("pg"));
    let run = product.begin(&["failover", "db9"]);
    assert_eq!(product.ended(&run)["state"], "completed");
    let done = product.world(json!({ "do": "ledger" }));
    restore(&mut product);

    let said = store(&product, &["reconcile", "--wait"]);
    let view = said.json();
    assert_eq!((said.code, &view["state"], &view["era"]), (6, &json!("known"), &json!(2)), "{said:?}");
    assert!(found(&view, &run).contains(&("run".to_owned(), "held".to_owned())), "{view}");
    assert!(found(&view, &run).iter().any(|(what, _)| what == "effect"), "agents tell what they did: {view}");
    let people = product.say(&["store", "check"]);
    assert!(people.out.contains("held: nobody carries it on") && people.out.contains("store settle RUN --go-on"), "{people:?}");
    let why = product.say(&["why", &run]);
    assert!(why.out.contains("waits for a person") && why.out.contains(&format!("store settle {run}")), "{why:?}");
    let described = product.say(&["describe", "run", &run]);
    assert!(described.out.contains("open, held"), "{described:?}");
    assert_eq!(product.item_state("db9"), "protected", "as the backup has it");
    let again = product.say(&["failover", "db9"]);
    assert!(again.code == 4 && again.err.contains(&run), "nobody begins another one beside it: {again:?}");

    let accepted = product.say(&["store", "settle", &run, "--accept-loss", "--reason", "why not"]);
    assert!(accepted.code != 0 && accepted.err.contains("can go on or be cancelled"), "{accepted:?}");
    let settled = store(&product, &["settle", &run, "--go-on", "--reason", "looked at both sites"]);
    assert_eq!(settled.code, 0, "{settled:?}");
    let twice = product.say(&["store", "settle", &run, "--go-on", "--reason", "again"]);
    assert!(twice.code == 4 && twice.err.contains("nothing to settle"), "{twice:?}");
    let view = product.ended(&run);
    assert_eq!(view["state"], "completed", "{view} {}", json!(product.events(&run)));
    assert_eq!(product.item_state("db9"), "commit pending");
    let now = product.world(json!({ "do": "ledger" }));
    assert_eq!(now["applied_more_than_once"], json!([]), "{done} then {now}");
    wait_until("nothing waits for anybody", || (store(&product, &["check"]).code == 0).then_some(()));
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
    assert_eq!(product.ask(&["commit", "db9", "--wait"])["state"], "completed");
}

type Words = &'static [&'static str];

/// Something that is done to the item after a backup, and is lost.
struct Lost {
    name: &'static str,
    before: &'static [Words],
    lost: Words,
}

const MOVED: Words = &["planned-failover", "db9"];
const LOST: [Lost; 6] = [
    Lost { name: "lost-failover", before: &[], lost: &["failover", "db9"] },
    Lost { name: "lost-move", before: &[], lost: MOVED },
    Lost { name: "lost-undo", before: &[&["failover", "db9"]], lost: &["undo", "db9", "--discard-writes"] },
    Lost { name: "lost-commit", before: &[&["failover", "db9"]], lost: &["commit", "db9"] },
    Lost { name: "lost-reprotect", before: &[MOVED, &["commit", "db9"]], lost: &["reprotect", "db9"] },
    Lost { name: "lost-failback", before: &[MOVED, &["commit", "db9"], &["reprotect", "db9"]], lost: &["failback", "db9"] },
];

fn runs_at(product: &Product) -> Vec<bool> {
    let power = |site: &str| product.world(json!({ "do": "power", "site": site, "machine": "db9" }))["power"] == "running";
    ["a", "b"].map(power).to_vec()
}

/// Does something, loses it, and lets it go on. Gives what is wrong then.
fn lost_and_taken_up(Lost { name, before, lost }: &Lost) -> Vec<String> {
    let mut product = protected(name);
    for words in *before {
        let run = product.begin(words);
        assert_eq!(product.ended(&run)["state"], "completed", "{words:?}");
    }
    back_up(&product.state_dir().join("pg"));
    let run = product.begin(lost);
    assert_eq!(product.ended(&run)["state"], "completed", "{lost:?}");
    let was = (product.item_state("db9"), runs_at(&product));
    restore(&mut product);
    let view = store(&product, &["reconcile", "--wait"]).json();
    assert!(found(&view, &run).iter().any(|(_, became)| became == "held"), "{name}: {view}");
    drop(product.ask(&["store", "settle", &run, "--go-on", "--reason", "looked at both sites"]));
    let ended = product.ended(&run);
    let is = (product.item_state("db9"), runs_at(&product));
    let mut wrong = vec![];
    if ended["state"] != "completed" {
        wrong.push(format!("{name}: {} {}", ended["state"], ended["problem"]));
    }
    assert_eq!(was.1.iter().filter(|runs| **runs).count(), 1, "{name}: it runs at one site: {was:?}");
    if was != is {
        wrong.push(format!("{name}: {was:?} became {is:?}"));
    }
    let doubled = product.world(json!({ "do": "ledger" }))["applied_more_than_once"].clone();
    if doubled != json!([]) {
        wrong.push(format!("{name}: {doubled}"));
    }
    wrong
}

#[test]
fn what_was_done_and_is_lost_is_taken_up_and_never_runs_at_two_sites() {
    // Most of it is waiting.
    let wrong: Vec<String> = LOST.chunks(3).flat_map(|some| {
        std::thread::scope(|scope| {
            let tried: Vec<_> = some.iter().map(|one| scope.spawn(|| lost_and_taken_up(one))).collect();
            tried.into_iter().flat_map(|one| one.join().unwrap()).collect::<Vec<_>>()
        })
    }).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_lost_failover_that_is_cancelled_leaves_its_machine_alone_and_the_next_one_takes_it_up() {
    let mut product = protected("cancelled");
    back_up(&product.state_dir().join("pg"));
    let run = product.begin(&["failover", "db9"]);
    assert_eq!(product.ended(&run)["state"], "completed");
    product.world(json!({ "do": "write", "site": "b", "machine": "db9", "block": 5, "content": 55 }));
    restore(&mut product);
    assert_eq!(store(&product, &["reconcile", "--wait"]).code, 6);
    drop(product.ask(&["store", "settle", &run, "--cancel", "--reason", "by hand"]));
    assert_eq!(product.ended(&run)["state"], "cancelled");
    assert_eq!(runs_at(&product), [false, true]);
    wait_until("the agents have told anew how replication stands", || product.say(&["get", "item", "db9"]).out.contains("stopped").then_some(()));
    let next = product.ask(&["failover", "db9", "--wait"]);
    assert_eq!((&next["state"], &next["output"]["site"]), (&json!("completed"), &json!("b")), "{next}");
    assert_eq!(product.item_state("db9"), "commit pending");
    assert_eq!(runs_at(&product), [false, true]);
    let read = product.world(json!({ "do": "read", "site": "b", "machine": "db9", "block": 5 }));
    assert_eq!(read["content"], 55, "what was written since is there");
}

fn awaited(view: &Value) -> usize {
    view["witnesses"].as_array().unwrap().iter().filter(|witness| witness["awaited"] == true).count()
}

#[test]
fn while_a_database_that_was_started_anew_is_checked_nothing_is_begun_and_people_see_who_is_waited_for() {
    let product = protected("checked");
    let agent = product.agent("simulated").pid();
    signal(agent, "STOP");
    signal(product.pid("database").unwrap(), "QUIT");
    let waiting = wait_until("the server says that it waits for agents", || {
        let said = store(&product, &["check"]);
        (said.code == 6 && said.json()["state"] == "checking" && awaited(&said.json()) >= 2).then(|| said.json())
    });
    assert!(waiting["asked_since"].is_string(), "{waiting}");
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(|| product.say(&["-o", "json", "failover", "db9", "--wait"]));
        let in_vain = product.say(&["store", "reconcile", "--wait", "--timeout", "3s"]);
        assert!(in_vain.code == 124 && in_vain.err.contains("waiting for agent"), "{in_vain:?}");
        assert!(!asked.is_finished(), "nothing is begun");
        signal(agent, "CONT");
        asked.join().unwrap()
    });
    assert!(asked.code == 0 && asked.err.contains("is being checked"), "{asked:?}");
    let known = store(&product, &["reconcile", "--wait"]).json();
    assert_eq!((&known["state"], &known["losses"], awaited(&known)), (&json!("known"), &json!([]), 0), "{known}");
    wait_until("nobody is silent any more", || (store(&product, &["check"]).code == 0).then_some(()));
    assert_eq!(product.item_state("db9"), "commit pending");
}
