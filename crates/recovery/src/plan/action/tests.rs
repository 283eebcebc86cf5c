//! What actions say of themselves, in sentences.

#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

use std::collections::BTreeSet;

use super::*;
use crate::{ItemName, plan::Mode};

fn read(yaml: &str) -> Result<Performed, String> {
    let action: Performed = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
    action.check().map_err(|error| error.to_string())?;
    Ok(action)
}

const ALL: [&str; 6] = [
    "http: { method: POST, url: 'https://lb.example:8443/pools/web?x=1', body: '{}', expect: [200-299, 409], secret-header: { name: authorization, secret: lb } }",
    "ssh: { host: 10.1.0.19, user: root, script: systemctl start app, key: ops }",
    "guest: { item: db9, program: /usr/bin/pg_ctl, arguments: [promote], input: yes please, within: 90s }",
    "command: { name: move-address, arguments: [10.1.0.19, ''], repeatable: true }",
    "dns: { server: '10.0.0.53:5353', zone: example.org, name: app.example.org., type: A, values: [10.2.0.7, 10.2.0.8], ttl: 60, key: ddns }",
    "check: { check: 'tcp:10.1.0.19:5432', within: 2m }",
];

#[test]
fn an_action_of_each_kind_reads_back_from_its_json() {
    let mut told = String::new();
    for yaml in ALL {
        let action = read(yaml).unwrap();
        let json = serde_json::to_string(&action).unwrap();
        assert_eq!(serde_json::from_str::<Performed>(&json).unwrap(), action);
        told += &format!("{:8} {action}; {:?}, within {}, needs {:?}\n{json}\n", action.kind(), action.repeats(), action.within(), action.needs());
    }
    insta::assert_snapshot!(told);
}

#[test]
fn what_is_outside_its_limits_is_refused_with_what_is_wrong() {
    let mut told = String::new();
    for yaml in [
        "http: { method: POST, url: 'ftp://x/' }",
        "http: { method: POST, url: 'https://ada:secret@x/' }",
        "http: { method: POST, url: 'https://x:0/' }",
        "http: { method: POST, url: 'https://x/ä' }",
        "http: { method: POST, url: 'https://-x/' }",
        "http: { method: GET, url: 'https://x/', body: b }",
        "http: { method: GET, url: 'https://x/', expect: [] }",
        "http: { method: GET, url: 'https://x/', expect: [299-200] }",
        "http: { method: GET, url: 'https://x/', headers: { Authorization: Bearer abc } }",
        "http: { method: GET, url: 'https://x/', headers: { Idempotency-Key: abc } }",
        "http: { method: GET, url: 'https://x/', headers: { a: \"b\\r\\nc: d\" } }",
        "http: { method: GET, url: 'https://x/', secret-header: { name: host, secret: x } }",
        "ssh: { host: '-oProxyCommand=x', user: root, script: x }",
        "ssh: { host: h, user: '-l', script: x }",
        "ssh: { host: h, user: root, script: '' }",
        "ssh: { host: h, user: root, script: \"a\\0b\" }",
        "ssh: { host: h, user: root, script: x, key: ../../etc/shadow }",
        "ssh: { host: h, user: root, script: x, within: 2d }",
        "ssh: { host: h, user: root, script: x, password: y }",
        "command: { name: rm -rf }",
        "dns: { server: h, zone: example.org, name: app.example.com, type: A, values: [10.0.0.1], ttl: 60 }",
        "dns: { server: h, zone: example.org, name: xexample.org, type: A, values: [10.0.0.1], ttl: 60 }",
        "dns: { server: h, zone: example.org, name: a.example.org, type: A, values: ['fd00::1'], ttl: 60 }",
        "dns: { server: h, zone: example.org, name: a.example.org, type: CNAME, values: [b.example.org, c.example.org], ttl: 60 }",
        "dns: { server: 'h:0', zone: example.org, name: a.example.org, type: TXT, values: [x], ttl: 60 }",
        "dns: { server: h, zone: example.org, name: a.example.org, type: MX, values: [x], ttl: 60 }",
        "check: { check: 'udp:x:1' }",
        "fax: {}",
    ] {
        let why = read(yaml).unwrap_err();
        told += &format!("{yaml}\n    {}\n", why.lines().next().unwrap_or_default());
    }
    insta::assert_snapshot!(told);
}

#[test]
fn a_server_of_the_domain_name_system_is_an_address_with_or_without_a_port() {
    let at = |server: &str| {
        let yaml = format!("dns: {{ server: '{server}', zone: e, name: a.e, type: A, values: [10.0.0.1], ttl: 60 }}");
        let Performed::Dns(dns) = read(&yaml).unwrap() else { panic!("not of its kind") };
        let (host, port) = dns.address();
        (host.to_owned(), port)
    };
    assert_eq!(at("ns.example"), ("ns.example".to_owned(), 53));
    assert_eq!(at("10.0.0.53:5353"), ("10.0.0.53".to_owned(), 5353));
    assert_eq!(at("fd00::53"), ("fd00::53".to_owned(), 53));
    assert_eq!(at("[fd00::53]:5353"), ("fd00::53".to_owned(), 5353));
}

#[test]
fn in_a_test_only_what_stays_in_a_copy_is_done_without_being_asked_for() {
    let item: ItemName = "db9".parse().unwrap();
    let (test, planned) = (BTreeSet::from([Mode::Test]), BTreeSet::from([Mode::Planned]));
    let mut told = String::new();
    for yaml in ALL {
        let action = read(yaml).unwrap();
        for item in [Some(&item), None] {
            let line = [None, Some(&test), Some(&planned)].map(|on| may_run(&action, Mode::Test, on, item));
            let warned: Vec<String> = warnings(&action, Some(&test), item).into_iter().map(|warning| warning.what).collect();
            told += &format!("{:8} item {:5} {:?} unsaid {} test {} planned {}; {warned:?}\n", action.kind(), item.is_some(), reach(&action, Mode::Test, item), line[0], line[1], line[2]);
            assert_eq!(reach(&action, Mode::Planned, item), Reach::Production);
            assert!(may_run(&action, Mode::Unplanned, None, item) && !may_run(&action, Mode::Unplanned, Some(&planned), item));
        }
    }
    insta::assert_snapshot!(told);
}

#[test]
fn the_key_of_a_step_is_the_same_at_each_attempt_and_another_for_each_step() {
    let first = ActionContext {
        plan: "shop".parse().unwrap(),
        run: "0199-run".to_owned(),
        mode: Mode::Unplanned,
        group: Some("db".to_owned()),
        item: None,
        step: "move-dns".to_owned(),
        site: "b".parse().unwrap(),
        attempt: 1,
    };
    assert_eq!(first.check(), Ok(()));
    assert_eq!(first.key(), "0199-run/db//move-dns");
    assert_eq!(ActionContext { attempt: 2, ..first.clone() }.key(), first.key());
    let other = ActionContext { item: Some("db".parse().unwrap()), group: None, ..first.clone() };
    assert_eq!(other.key(), "0199-run//db/move-dns");
    assert!(ActionContext { step: "a b".to_owned(), ..first.clone() }.check().is_err());
    insta::assert_snapshot!(format!("{:#?}\n{:#?}\n{}", first.environment(), first.headers(), serde_json::to_string(&first).unwrap()));
}

#[test]
fn the_schema_of_actions_knows_the_keys_of_all_six() {
    let schema = serde_json::to_string(&schemars::schema_for!(Performed)).unwrap();
    for key in ["http", "ssh", "guest", "command", "dns", "check", "secret-header", "repeatable", "\"type\"", "within"] {
        assert!(schema.contains(key), "{key}: {schema}");
    }
    assert!(schema.contains("\"additionalProperties\":false"));
}
