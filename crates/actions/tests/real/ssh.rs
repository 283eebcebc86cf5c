//! Scripts at a real SSH server.

use std::{fs, net::TcpStream, sync::Arc};

use provider::{ActionError, Link};

use crate::services::{Agent, Always, Server, host_key, sshd};

fn me() -> String {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[2] == uid).unwrap()[0].to_owned()
}

/// An agent and a server that know each other.
fn both() -> (Agent, Server) {
    let agent = Agent::new();
    let server = sshd(&agent.ssh_key("ops"));
    agent.put("known_hosts", 0o600, &host_key(&server));
    (agent, server)
}

fn script(server: &Server, script: &str, more: &str) -> String {
    let text = serde_json::to_string(script).unwrap();
    format!("ssh: {{ host: 127.0.0.1, port: {}, user: {}, script: {text}, key: ops{more} }}", server.port, me())
}

#[tokio::test]
async fn a_script_runs_there_knows_which_step_it_is_and_what_it_says_is_kept() {
    let (agent, server) = both();
    let text = "echo \"it's $SWITCHBACK_PLAN, $SWITCHBACK_IDEMPOTENCY_KEY\"\nread -r line || echo nothing to read\nprintf '\\377\\n' >&2\n# no end of line";
    let done = agent.does(&script(&server, text, "")).await.unwrap();
    assert_eq!(done.evidence, format!("the script at {}@127.0.0.1 exits with 0", me()));
    let mut said: Vec<String> = done.said.text().lines().map(str::to_owned).collect();
    said.sort();
    assert_eq!(said, ["it's shop, run-1/web/db9/tell", "nothing to read", "\u{fffd}"]);
}

#[tokio::test]
async fn an_exit_code_is_told_and_255_is_never_the_scripts() {
    let (agent, server) = both();
    for (exit, told) in [(1, 1), (254, 254), (255, 254)] {
        let failed = agent.does(&script(&server, &format!("echo why; exit {exit}"), "")).await.unwrap_err();
        let ActionError::Failed { status, said, .. } = failed else { panic!("{failed:?}") };
        assert_eq!((status, said.text().as_str()), (Some(told), "why\n"));
    }
}

#[tokio::test]
async fn who_is_not_let_in_and_who_is_not_known_is_refused_before_anything_is_sent() {
    let (agent, server) = both();
    agent.ssh_key("wrong");
    let wrong = agent.does(&script(&server, "touch /tmp/never", "").replace("key: ops", "key: wrong")).await.unwrap_err();
    assert!(matches!(&wrong, ActionError::Refused { detail, .. } if detail.contains("does not let")), "{wrong:?}");
    let unnamed = agent.does(&script(&server, "true", "").replace(", key: ops", "")).await.unwrap_err();
    assert!(matches!(&unnamed, ActionError::NotConfigured { detail, .. } if detail.contains("has 2 private keys")), "{unnamed:?}");
    let missing = agent.does(&script(&server, "true", "").replace("key: ops", "key: none")).await.unwrap_err();
    assert!(matches!(&missing, ActionError::NotConfigured { .. }), "{missing:?}");

    let other = Agent::new();
    agent.put("known_hosts", 0o600, &format!("[127.0.0.1]:{} {}", server.port, other.ssh_key("x")));
    let changed = agent.does(&script(&server, "true", "")).await.unwrap_err();
    assert!(matches!(&changed, ActionError::Refused { detail, .. } if detail.contains("the key of 127.0.0.1")), "{changed:?}");
    fs::remove_file(agent.path().join("known_hosts")).unwrap();
    let strange = agent.does(&script(&server, "true", "")).await.unwrap_err();
    assert!(matches!(&strange, ActionError::Refused { .. }), "{strange:?}");
    agent.put("actions.yaml", 0o644, "version: 1\nssh: { unknown-hosts: learn }\n");
    agent.does(&script(&server, "true", "")).await.unwrap();
    assert!(fs::read_to_string(agent.path().join("known_hosts")).unwrap().contains("ssh-ed25519"));
}

#[tokio::test]
async fn nobody_there_is_told_as_unreachable_and_a_script_that_hangs_as_unknown() {
    let (agent, server) = both();
    let late = agent.does(&script(&server, "echo begun; sleep 600", ", within: 3s")).await.unwrap_err();
    let ActionError::Unknown { detail, said } = late else { panic!("{late:?}") };
    assert_eq!((detail.as_str(), said.text().as_str()), ("the script at 127.0.0.1 had not ended after 3s; it may still run there", "begun\n"));
    let command = script(&server, "true", "");
    drop(server);
    let gone = agent.does(&command).await.unwrap_err();
    assert!(matches!(&gone, ActionError::Unreachable { detail, .. } if detail.contains("refused")), "{gone:?}");
}

#[tokio::test]
async fn a_connection_that_breaks_while_the_script_runs_leaves_its_outcome_unknown() {
    let (agent, server) = both();
    // The script ends the server's process of its own connection.
    let broken = agent.does(&script(&server, "echo begun; kill -9 $(ps -o ppid= -p $(ps -o ppid= -p $PPID)) $(ps -o ppid= -p $PPID); sleep 5", ", within: 60s")).await;
    let Err(ActionError::Unknown { detail, .. }) = broken else { panic!("{broken:?}") };
    assert!(detail.contains("broke while the script ran"), "{detail}");
}

#[tokio::test]
async fn a_large_script_arrives_whole() {
    let (agent, server) = both();
    let long = format!("x={}\necho ${{#x}}", "y".repeat(60_000));
    assert_eq!(agent.does(&script(&server, &long, "")).await.unwrap().said.text(), "60000\n");
}

#[tokio::test]
async fn over_a_link_the_server_is_known_by_the_name_that_the_plan_gives_it() {
    let (agent, server) = both();
    let key = fs::read_to_string(server.dir.path().join("host.pub")).unwrap();
    agent.put("known_hosts", 0o600, &format!("10.1.0.19 {key}"));
    let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let watched = Arc::new(());
    let link = Link { stream: Some(stream), hangs_on: Some(Box::new(watched.clone())) };
    let yaml = format!("ssh: {{ host: 10.1.0.19, user: {}, script: echo within, key: ops }}", me());
    assert_eq!(agent.does_while(&yaml, Some(link), &Always).await.unwrap().said.text(), "within\n");
    while Arc::strong_count(&watched) > 1 {
        tokio::task::yield_now().await; // what the link hangs on goes with it
    }
}
