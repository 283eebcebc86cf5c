//! Updates of a zone at a real name server.

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use provider::ActionError;

use crate::services::{Agent, Server, free_port, knotd};

const KEY: &str = "c3dpdGNoYmFjay10ZXN0LWtleS0wMTIzNDU2Nzg5YWI=";

fn both() -> (Agent, Server) {
    let agent = Agent::new();
    agent.put("secrets/ddns", 0o600, &format!("key \"ddns\" {{\n\talgorithm hmac-sha256;\n\tsecret \"{KEY}\";\n}};\n"));
    (agent, knotd(KEY))
}

fn update(server: &Server, name: &str, record_type: &str, values: &str, more: &str) -> String {
    format!("dns: {{ server: '127.0.0.1:{}', zone: example.org, name: {name}, type: {record_type}, values: [{values}], ttl: 60{more} }}", server.port)
}

#[tokio::test]
async fn a_record_set_is_replaced_and_seen_as_often_as_it_is_asked_for() {
    let (agent, server) = both();
    let key = ", key: ddns";
    for (name, record_type, values) in [
        ("app.example.org", "A", "10.2.0.7"),
        ("app.example.org", "A", "10.2.0.7"),
        ("app.example.org", "A", "10.2.0.8, 10.2.0.9"),
        ("app.example.org.", "AAAA", "'FD00:0::7'"),
        ("www.example.org", "CNAME", "App.Example.org"),
        ("7.example.org", "PTR", "app.example.org."),
        ("_site.example.org", "TXT", "runs at b, 'since \"noon\"'"),
    ] {
        let done = agent.does(&update(&server, name, record_type, values, key)).await.unwrap();
        assert!(done.evidence.ends_with("asked for it, it answers the same"), "{}", done.evidence);
    }
}

#[tokio::test]
async fn a_key_that_the_server_does_not_take_changes_nothing() {
    let (agent, server) = both();
    let asked = update(&server, "app.example.org", "A", "10.2.0.7", ", key: other");
    agent.put("secrets/other", 0o600, "key ddns { algorithm hmac-sha256; secret \"d3Jvbmc=\"; };");
    let wrong = agent.does(&asked).await.unwrap_err();
    assert!(matches!(&wrong, ActionError::Refused { detail, .. } if detail.contains("BADSIG")), "{wrong:?}");
    agent.put("secrets/other", 0o600, &format!("key strange {{ algorithm hmac-sha256; secret \"{KEY}\"; }};"));
    let strange = agent.does(&asked).await.unwrap_err();
    assert!(matches!(&strange, ActionError::Refused { detail, .. } if detail.contains("BADKEY")), "{strange:?}");
    agent.put("secrets/other", 0o644, &format!("key ddns {{ algorithm hmac-sha256; secret \"{KEY}\"; }};"));
    let open = agent.does(&asked).await.unwrap_err();
    assert!(matches!(&open, ActionError::NotConfigured { detail, .. } if detail.contains("mode 644")), "{open:?}");
    agent.put("secrets/other", 0o600, "hunter2");
    let nonsense = agent.does(&asked).await.unwrap_err();
    assert!(matches!(&nonsense, ActionError::NotConfigured { detail, .. } if detail.contains("no TSIG key") && !detail.contains("hunter2")), "{nonsense:?}");
    let unsigned = agent.does(&update(&server, "app.example.org", "A", "10.2.0.7", "")).await.unwrap_err();
    assert!(matches!(&unsigned, ActionError::Refused { .. }), "{unsigned:?}");
    let same = agent.does(&update(&server, "app.example.org", "A", "10.1.0.7", ", key: ddns")).await.unwrap();
    assert!(same.evidence.ends_with("asked for it, it answers the same"), "{}", same.evidence);
}

#[tokio::test]
async fn a_zone_that_the_server_does_not_have_is_refused() {
    let (agent, server) = both();
    let asked = format!("dns: {{ server: '127.0.0.1:{}', zone: example.com, name: a.example.com, type: A, values: [10.0.0.1], ttl: 60, key: ddns }}", server.port);
    let refused = agent.does(&asked).await.unwrap_err();
    assert!(matches!(&refused, ActionError::Refused { .. }), "{refused:?}");
}

/// Answers the first message on a connection with this.
fn answers(make: impl Fn(Vec<u8>) -> Option<Vec<u8>> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut held = vec![];
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut message = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut message).unwrap();
            if let Some(answer) = make(message) {
                stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
                stream.write_all(&answer).unwrap();
            }
            held.push(stream);
        }
    });
    port
}

fn at(port: u16, more: &str) -> String {
    format!("dns: {{ server: '127.0.0.1:{port}', zone: example.org, name: a.example.org, type: A, values: [10.0.0.1], ttl: 60{more} }}")
}

#[tokio::test]
async fn silence_nonsense_and_answers_without_signature_leave_the_outcome_unknown() {
    let (agent, _server) = both();
    let silent = agent.does(&at(answers(|_| None), ", within: 1s")).await.unwrap_err();
    assert!(matches!(&silent, ActionError::Unknown { detail, .. } if detail.contains("had not answered after 1s")), "{silent:?}");
    let nonsense = agent.does(&at(answers(|_| Some(vec![1, 2, 3])), "")).await.unwrap_err();
    assert!(matches!(&nonsense, ActionError::Unknown { detail, .. } if detail.contains("nonsense")), "{nonsense:?}");
    // What came, as an answer without anything wrong and without a signature.
    let forged = |message: Vec<u8>| Some([&message[..2], &[0xa8, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat());
    let forged = agent.does(&at(answers(forged), ", key: ddns")).await.unwrap_err();
    assert!(matches!(&forged, ActionError::Unknown { detail, .. } if detail.contains("not signed")), "{forged:?}");
    let nobody = agent.does(&at(free_port(), "")).await.unwrap_err();
    assert!(matches!(&nobody, ActionError::Unreachable { .. }), "{nobody:?}");
}
