//! Commands that the configuration allows.

use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use provider::ActionError;
use switchback_actions::examine;

use crate::services::{Agent, Always, Until};

/// An agent with one command that is this shell script, as whoever runs this.
fn agent(script: &str, more: &str) -> Agent {
    let agent = Agent::new();
    let program = agent.put("program", 0o755, &format!("#!/bin/sh\n{script}\n"));
    agent.put("actions.yaml", 0o644, &format!("version: 1\ncommands:\n  - {{ name: it, program: {}, user: {}, {more} }}\n", program.display(), me()));
    agent
}

fn me() -> String {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[2] == uid).unwrap()[0].to_owned()
}

/// Waits until a condition holds.
fn wait_until(what: &str, look: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !look() {
        assert!(Instant::now() < deadline, "waiting until {what}");
        std::thread::yield_now();
    }
}

fn runs(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

#[tokio::test]
async fn a_command_is_run_with_its_arguments_where_and_as_it_is_said_and_knows_which_step_it_is() {
    let agent = agent("echo \"$@\"; pwd; id -un; env | sort; echo late words >&2", "arguments: [--fixed], allowed: ['[a-z ]+', '']");
    let done = agent.does("command: { name: it, arguments: ['a  b', ''] }").await.unwrap();
    let said = done.said.text();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((done.status, done.evidence.as_str()), (Some(0), "command it exits with 0"));
    assert_eq!(&lines[..3], &["--fixed a  b ", "/", &me()]);
    for line in ["SWITCHBACK_PLAN=shop", "SWITCHBACK_ITEM=db9", "SWITCHBACK_MODE=unplanned", "SWITCHBACK_ATTEMPT=2", "SWITCHBACK_IDEMPOTENCY_KEY=run-1/web/db9/tell", "late words"] {
        assert!(lines.contains(&line), "{line}: {said}");
    }
    assert!(!said.contains("CARGO"), "nothing of this agent's own environment: {said}");
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_and_nothing_is_begun() {
    let agent = agent("touch $(dirname $0)/begun", "allowed: ['[a-z]+']");
    let refused = |yaml: &'static str| async { agent.does(yaml).await.unwrap_err() };
    let ActionError::Refused { detail, .. } = refused("command: { name: it, arguments: ['a; rm -rf /'] }").await else { panic!("not refused") };
    assert_eq!(detail, "argument 1 of command it is \"a; rm -rf /\", which \"[a-z]+\" does not match");
    assert!(matches!(refused("command: { name: it }").await, ActionError::Refused { .. }));
    let ActionError::NotConfigured { detail, .. } = refused("command: { name: other }").await else { panic!("it is not there") };
    assert_eq!(detail, "command other is not allowed at this site");
    agent.put("program", 0o777, "#!/bin/sh\n");
    let ActionError::NotConfigured { detail, .. } = refused("command: { name: it, arguments: [a] }").await else { panic!("others can write it") };
    assert!(detail.contains("can be written by others"), "{detail}");
    assert!(!agent.path().join("begun").exists());
}

#[tokio::test]
async fn an_exit_code_and_a_signal_are_failures_with_the_last_words() {
    let failing = agent("echo no such volume; exit 7", "within: 20s").does("command: { name: it }").await.unwrap_err();
    let ActionError::Failed { detail, status, said } = failing else { panic!("{failing:?}") };
    assert_eq!((detail.as_str(), status, said.text().as_str()), ("command it exits with 7", Some(7), "no such volume\n"));
    let killed = agent("kill -9 $$", "within: 20s").does("command: { name: it }").await.unwrap_err();
    let ActionError::Failed { detail, status, .. } = killed else { panic!("{killed:?}") };
    assert_eq!((detail.as_str(), status), ("command it was ended by signal 9", Some(137)));
}

#[tokio::test]
async fn of_a_flood_the_beginning_and_the_end_are_kept_and_what_is_no_text_is_replaced() {
    let agent = agent("printf 'first\\377\\000\\n'; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last", "within: 60s");
    let said = agent.does("command: { name: it }").await.unwrap().said;
    let text = said.text();
    assert!(text.starts_with("first\u{fffd}\u{fffd}\nxxx") && text.ends_with("xxx\nlast\n") && text.len() < 17_000, "{}", text.len());
    assert!(said.left_out() > 2_900_000 && text.contains("bytes are left out"));
}

/// Two processes that ignore being asked to end, and note their ids.
const STUBBORN: &str = "cd $(dirname $0); trap '' TERM; (trap '' TERM; echo $$ > parent; exec sh -c 'echo $$ > child; exec sleep 600') & wait; sleep 600";

fn pids(dir: &Path) -> Vec<String> {
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default().trim().to_owned();
    vec![read("parent"), read("child")]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_late_is_ended_with_its_children_and_its_outcome_is_unknown() {
    let agent = agent(STUBBORN, "within: 1s");
    let late = agent.does("command: { name: it, within: 5m }").await.unwrap_err();
    let ActionError::Unknown { detail, .. } = late else { panic!("{late:?}") };
    assert_eq!(detail, "command it still ran after 1s and was ended");
    for pid in pids(agent.path()) {
        assert!(!pid.is_empty() && !runs(&pid), "{pid} runs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unwanted_or_dropped_is_ended_with_its_children_and_leaves_no_zombie() {
    let (first, wanted) = (agent(STUBBORN, "within: 5m"), Arc::new(Until::default()));
    let (dir, stop) = (first.path().to_owned(), wanted.clone());
    tokio::task::spawn_blocking(move || {
        wait_until("it runs", || pids(&dir).iter().all(|pid| !pid.is_empty()));
        stop.0.store(true, Ordering::SeqCst);
    });
    assert_eq!(first.does_while("command: { name: it }", None, wanted.as_ref()).await.unwrap_err(), ActionError::Stopped);
    assert!(pids(first.path()).iter().all(|pid| !runs(pid)));

    let second = agent(STUBBORN, "within: 5m");
    let dir = second.path().to_owned();
    tokio::select! {
        _ = second.does_while("command: { name: it }", None, &Always) => panic!("it has ended"),
        () = async { tokio::task::spawn_blocking(move || wait_until("it runs", || pids(&dir).iter().all(|pid| !pid.is_empty()))).await.unwrap() } => {}
    }
    let dir = second.path().to_owned();
    tokio::task::spawn_blocking(move || wait_until("it is gone", || pids(&dir).iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists() || !runs(pid)))).await.unwrap();
}

#[tokio::test]
async fn an_output_that_somebody_keeps_open_is_not_waited_for() {
    let agent = agent("sleep 30 & echo $! > $(dirname $0)/left; echo done", "within: 20s");
    let began = Instant::now();
    let done = agent.does("command: { name: it }").await.unwrap();
    assert!(done.said.text() == "done\n" && began.elapsed() < Duration::from_secs(10));
    let left = fs::read_to_string(agent.path().join("left")).unwrap();
    assert!(runs(left.trim()), "what a command leaves behind on purpose stays");
    rustix::process::kill_process(rustix::process::Pid::from_raw(left.trim().parse().unwrap()).unwrap(), rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_look_says_what_there_is_and_what_is_wrong() {
    let agent = agent("true", "allowed: ['[a-z]+']");
    assert_eq!(examine(agent.path()).faults, []);
    agent.put("secrets/good", 0o600, "x");
    agent.put("secrets/open", 0o644, "x");
    agent.put("known_hosts", 0o644, "# none\n\n[h]:22 ssh-ed25519 AAAA\n");
    agent.put("ca.crt", 0o644, "nothing");
    let seen = examine(agent.path());
    assert_eq!((seen.known_hosts, seen.learns_hosts, seen.commands.len()), (1, false, 1));
    assert_eq!(seen.secrets.into_iter().collect::<Vec<_>>(), ["good"]);
    let faults: Vec<String> = seen.faults.iter().map(|fault| fault.what.replace(&agent.path().display().to_string(), "DIR")).collect();
    assert_eq!(faults, ["DIR/secrets/open has the mode 644: others than its owner can read or write it", "DIR/ca.crt holds no certificate"]);
    agent.put("actions.yaml", 0o644, "version: 1\ncommand: []\n");
    assert!(examine(agent.path()).faults[0].what.contains("unknown field"));
    agent.put("actions.yaml", 0o666, "version: 1\n");
    assert!(examine(agent.path()).faults[0].what.contains("others than its owner can write it"));
}
