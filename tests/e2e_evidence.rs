//! Evidence as people handle it: written by a running installation, carried to an empty directory, checked and replayed there.
#![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use switchback_tests::{
    place,
    product::{Product, wait_until},
};

const PROTECT: [&str; 9] = ["protect", "db9", "--from", "a", "--to", "b", "--interval", "1s", "--wait"];

/// A program of ours in an empty directory, with nothing of the installation in its environment.
fn offline(program: &str, dir: &Path, words: &[&str], typed: &str) -> Output {
    let mut command = Command::new(place::program(program));
    command.args(words).current_dir(dir).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdin.take().unwrap().write_all(typed.as_bytes()));
    child.wait_with_output().unwrap()
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A failed-over item, and its files in a directory of their own.
fn failed_over(name: &str) -> (Product, String, PathBuf) {
    let mut product = Product::start(name, &[]);
    product.host_simulated_sites(&[]);
    drop(product.ask(&PROTECT));
    let run = product.begin(&["failover", "db9"]);
    assert_eq!(product.ended(&run)["state"], "completed");
    let dir = product.dir().join("carried");
    fs::create_dir(&dir).unwrap();
    (product, run, dir)
}

#[test]
fn a_history_is_carried_away_checked_and_replayed_without_an_installation() {
    let (mut product, run, dir) = failed_over("carried");
    let at = |name: &str| dir.join(name).display().to_string();
    drop(product.ask(&["export", &run, "-f", &at("history.json")]));
    drop(product.ask(&["report", &run, "--rto-target", "10m", "-f", &at("report.json")]));
    drop(product.ask(&["report", &run, "--rto-target", "10m", "--html", "-f", &at("report.html")]));
    drop(product.ask(&["report", &run, "--rto-target", "10m", "--html", "-f", &at("again.html")]));
    assert_eq!(fs::read(at("report.html")).unwrap(), fs::read(at("again.html")).unwrap(), "two renderings are byte-identical");
    let twice = product.say(&["export", &run, "-f", &at("history.json")]);
    assert!(twice.code == 1 && twice.err.contains("exists and is left as it is"), "{}", twice.err);
    let report = product.ask(&["report", &run]);
    assert_eq!((&report["type"], &report["recoveries"][0]["fence"]["proven"]), (&json!("unplanned"), &json!(true)), "{report}");
    let key = product.ask(&["evidence", "key"])["key"].as_str().unwrap().to_owned();
    fs::write(at("key"), format!("{key} the server\n")).unwrap();
    product.stop();

    for file in ["history.json", "report.json", "report.html"] {
        let verified = offline("switchback", &dir, &["evidence", "verify", file, "--key", "key"], "");
        assert!(verified.status.success() && told(&verified).contains("every byte is as it was signed"), "{file}: {}", told(&verified));
        let replayed = offline("switchback", &dir, &["replay", file], "");
        assert!(replayed.status.success() && told(&replayed).contains("the histories replay identically"), "{file}: {}", told(&replayed));
    }
    let imagined = offline("switchback", &dir, &["replay", "history.json", "--what-if", "step=start-machine fails"], "");
    assert!(imagined.status.success() && told(&imagined).contains("supposed-failure"), "{}", told(&imagined));
    let moment = offline("switchback", &dir, &["replay", "history.json", "--at", "3", "-o", "json"], "");
    let moment: Value = serde_json::from_slice(&moment.stdout).unwrap();
    assert_eq!((&moment["steps"][0]["name"], &moment["steps"][0]["state"]), (&json!("load-item"), &json!("open")), "{moment}");
    let stepped = offline("switchback", &dir, &["replay", "history.json", "--step"], "\n\n5\nb\nq\n");
    assert!(stepped.status.success() && told(&stepped).matches(" of ").count() >= 5, "{}", told(&stepped));
    assert!(!offline("switchback", &dir, &["replay", "history.json", "--what-if", "nothing"], "").status.success());

    let forged = fs::read_to_string(at("report.json")).unwrap().replacen("fence-machine", "FENCE-machine", 1);
    fs::write(at("forged.json"), forged).unwrap();
    for words in [&["evidence", "verify", "forged.json"][..], &["replay", "forged.json"]] {
        let refused = offline("switchback", &dir, words, "");
        assert_eq!(refused.status.code(), Some(1), "{}", told(&refused));
        assert!(told(&refused).contains("line "), "it says where: {}", told(&refused));
    }
    fs::write(at("other-key"), format!("ed25519:{}\n", "11".repeat(32))).unwrap();
    let stranger = offline("switchback", &dir, &["evidence", "verify", "history.json", "--key", "other-key"], "");
    assert!(stranger.status.code() == Some(1) && told(&stranger).contains("NONE of the keys"), "{}", told(&stranger));
}

#[test]
fn an_agent_notes_what_ended_and_says_so_when_it_is_changed() {
    let (product, run, dir) = failed_over("anchored");
    let agent = product.dir().join("a");
    let agents = || product.ask(&["agent", "list"])["items"].as_array().unwrap().clone();
    let noted = || agents().iter().all(|agent| agent["anchored_runs"].as_i64() >= Some(2)).then_some(());
    wait_until("both agents have noted both runs", noted);
    let anchors = offline("switchback-agent", &dir, &["anchors", "--state-dir", &agent.display().to_string()], "");
    assert!(anchors.status.success() && told(&anchors).contains(&run), "{}", told(&anchors));
    fs::write(dir.join("anchors.jsonl"), &anchors.stdout).unwrap();
    drop(product.ask(&["export", &run, "-f", &dir.join("history.json").display().to_string()]));
    let verified = offline("switchback", &dir, &["evidence", "verify", "history.json", "--anchors", "anchors.jsonl"], "");
    assert!(verified.status.success() && told(&verified).contains("1 of 1 runs were noted with the same head"), "{}", told(&verified));
    let other = String::from_utf8(anchors.stdout).unwrap().lines().map(|line| {
        let mut anchor: Value = serde_json::from_str(line).unwrap();
        anchor["head"] = json!("00".repeat(32));
        format!("{anchor}\n")
    }).collect::<String>();
    fs::write(dir.join("other.jsonl"), &other).unwrap();
    let found = offline("switchback", &dir, &["evidence", "verify", "history.json", "--anchors", "other.jsonl"], "");
    assert!(found.status.code() == Some(1) && told(&found).contains("written anew"), "{}", told(&found));
}
