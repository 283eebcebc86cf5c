//! The calls of the matrix, and the scene on which each of them finds something to do.
//!
//! ```text
//!   worker a1: lease expired and not deleted, owns run 1 (parent) and run 3 (its child)        worker a2: a lease that is good
//!   run 1: a signal, a due timer 2, tasks 1 (overdue), 5 (dead), 6 (past its queue limit)       run 2: nobody's, to be started
//!   run 4: set aside, held       lock "a": asked for by run 1 and by run 3         schedule "s": due
//! ```

/// Who opens a lease here.
pub(super) const OPENS: &str = "00000000-0000-0000-0000-0000000000a9";

/// A call.
#[derive(Clone)]
pub(super) struct Function {
    /// What it does, for people.
    pub(super) name: &'static str,
    /// Its query in `sql`.
    pub(super) file: &'static str,
    /// With its parameters.
    pub(super) sql: String,
    /// It passes over rows that are locked, and is called again and again.
    pub(super) comes_back: bool,
    numbered: bool,
}

impl Function {
    /// What it says without numbers that a rolled back call has used up.
    pub(super) fn normal(&self, said: String) -> String {
        if self.numbered && !said.is_empty() && !said.starts_with("error") { "a number".to_owned() } else { said }
    }
}

/// Queries that write what the engine keeps and have no line, and why.
pub(super) const NOT_HERE: [(&str, &str); 9] = [
    ("create_schedule", "one row of a table that no function below changes but for fire, which locks it"),
    ("remove_schedule", "as create_schedule"),
    ("pause_schedule", "as create_schedule"),
    ("resume_schedule", "as create_schedule"),
    ("hear_witness", "one row of a table that no function below reads"),
    ("forget_witness", "as hear_witness"),
    ("conclude_check", "changes nothing under a known server, and under another one nobody else writes"),
    ("note_store", "before anybody else may connect"),
    ("fire_deadlines", "recovery's; starts runs by the function of start_run"),
];

macro_rules! query {
    ($file:literal) => {
        ($file, include_str!(concat!("../../sql/", $file, ".sql")))
    };
}

fn call(name: &'static str, (file, text): (&'static str, &str), params: &[&str]) -> Function {
    let mut sql = text.to_owned();
    for (at, param) in params.iter().enumerate().rev() {
        sql = sql.replace(&format!("${}", at + 1), param);
    }
    let comes_back = ["claim_runs", "claim_tasks", "expire_leases", "fire_timers", "grant_locks", "expire_tasks"].contains(&file);
    let numbered = ["open_lease", "complete_task", "discard_dead"].contains(&file);
    Function { name, file, sql, comes_back, numbered }
}

const A1: &str = "'00000000-0000-0000-0000-0000000000a1'::uuid";
const A2: &str = "'00000000-0000-0000-0000-0000000000a2'::uuid";
const RUN_1: &str = "'01900000-0000-7000-8000-000000000001'::uuid";
const RUN_4: &str = "'01900000-0000-7000-8000-000000000004'::uuid";
const FAILURE: &str = r#"'{"code":"c","message":"m"}'::json"#;

/// A turn of one event at this place of a run, which consumes a message.
fn turn(name: &'static str, lease: [&str; 2], run: &str, seq: &str, key: &str, rest: &str) -> Function {
    let (runs, keys) = (format!("array[{run}]"), format!("array['{key}']"));
    let nonce = format!("array['00000000-0000-0000-0000-0000000000{:02x}'::uuid]", name.len());
    let (seq, rest) = (format!("array[{seq}]"), format!("'{}'::json", rest.replace("RUN", run.trim_matches('\'').split('\'').next().unwrap_or_default())));
    let hash = "array[decode(repeat('11', 32), 'hex')]";
    call(name, query!("commit_turns"), &[lease[0], lease[1], &runs, &seq, "array['k']", "array['{}'::bytea]", &keys, &nonce, hash, &runs, &keys, &rest])
}

fn turns() -> Vec<Function> {
    let (one, three) = (RUN_1, "'01900000-0000-7000-8000-000000000003'::uuid");
    let end = r#"{"close":[{"run":"RUN","state":"completed","problem":null,"result":{"end":"completed","output":1}}]}"#;
    let much = r#"{"drop_timers":[{"run":"RUN","seq":2}],"cancel_tasks":[{"run":"RUN","seq":1},{"run":"RUN","seq":6}],"timers":[{"run":"RUN","seq":1,"due_at":"2030-01-01T00:00:00Z"}],"release_locks":[{"run":"RUN","seq":3}]}"#;
    let child = r#"{"children":[{"run":"RUN","seq":1,"child":"01900000-0000-7000-8000-000000000009","on_parent_close":"cancel","workflow":"w","workflow_id":"new","requested_by":"r","trace":null,"body":{"message":"start"}}]}"#;
    let told = r#"{"told":[{"run":"RUN","of":7,"key":"signal:w","body":{"message":"signal"}},{"run":"RUN","of":7,"key":"cancel","body":{"message":"cancel"}}]}"#;
    let up = r#"{"told":[{"run":"RUN","of":null,"key":"signal:w","body":{"message":"signal"}}],"locks":[{"run":"RUN","seq":9,"resources":["a"]}]}"#;
    vec![
        turn("a turn that cancels", [A1, "1"], one, "1", "signal:a", much),
        turn("a turn that ends its run", [A1, "1"], one, "1", "signal:a", end),
        turn("a turn with a child", [A1, "1"], one, "1", "signal:a", child),
        turn("a turn with a word to a child", [A1, "1"], one, "1", "signal:a", told),
        turn("a turn of another worker", [A2, "2"], one, "1", "signal:a", "{}"),
        turn("a turn that ends a child", [A1, "1"], three, "0", "start", end),
        turn("a turn with a word to its parent", [A1, "1"], three, "0", "start", up),
    ]
}

pub(super) fn functions() -> Vec<Function> {
    let attempt = [RUN_1, "1", "1"];
    let mut all = turns();
    all.extend([
        call("open a lease", query!("open_lease"), &["'00000000-0000-0000-0000-0000000000a9'::uuid", "10"]),
        call("renew", query!("renew_lease"), &[A1, "1", "10"]),
        call("close a lease", query!("close_lease"), &[A1, "1"]),
        call("expire leases", query!("expire_leases"), &[A2, "2", "10"]),
        call("declare a build", query!("declare_build"), &[A1, "1", "'b2'"]),
        call("prefer a build", query!("prefer_build"), &["'b1'"]),
        call("start a run", query!("start_run"), &["'01900000-0000-7000-8000-000000000008'::uuid", "'w'", "'new'", "'r'", "null", r#"'{"message":"start"}'::json"#]),
        call("send", query!("send"), &[RUN_1, "'signal:b'", r#"'{"message":"signal"}'::json"#]),
        call("claim runs", query!("claim_runs"), &[A2, "2", "9"]),
        call("claim runs as the old owner", query!("claim_runs"), &[A1, "1", "9"]),
        call("release a run", query!("release_runs"), &[A1, "1", "array['01900000-0000-7000-8000-000000000001'::uuid]"]),
        call("ask what is owned", query!("owned_runs"), &[A1, "1"]),
        call("claim tasks", query!("claim_tasks"), &[A2, "2", "array['q']", "9"]),
        call("complete", query!("complete_task"), &[attempt[0], attempt[1], attempt[2], "'task:1'", r#"'{"message":"finished"}'::json"#]),
        call("retry", query!("retry_task"), &[attempt[0], attempt[1], attempt[2], FAILURE, "5", "true"]),
        call("bury", query!("bury_task"), &[attempt[0], attempt[1], attempt[2], FAILURE]),
        call("pulse", query!("pulse_task"), &[attempt[0], attempt[1], attempt[2], "'1'::json"]),
        call("fire timers", query!("fire_timers"), &["9"]),
        call("grant locks", query!("grant_locks"), &["9"]),
        call("expire tasks", query!("expire_tasks"), &["9"]),
        call("resume a run", query!("resume_run"), &[RUN_4]),
        call("retry a dead letter", query!("retry_dead"), &[RUN_1, "5"]),
        call("discard a dead letter", query!("discard_dead"), &[RUN_1, "5", "'task:5'", r#"'{"message":"finished"}'::json"#]),
        call("testify that a history was longer", query!("testify"), &[A1, LONGER, "true"]),
        call("settle a run", query!("settle"), &[RUN_4, "'go_on'", "'ada'", "'why'"]),
        call("fire a schedule", query!("fire"), &["'s'", "1", "'2030-01-01'::timestamptz", "'2030-01-02'::timestamptz", "'2030-01-02'::timestamptz", "'[]'::json", START]),
    ]);
    all
}

const LONGER: &str = r#"'{"runs":[{"run":"01900000-0000-7000-8000-000000000001","seq":9,"hash":"00"}],"messages":[],"effects":[]}'::json"#;

const START: &str = r#"'{"at":"2030-01-01T00:00:00Z","kind":"on_time","cause":"","waits":false,"run":"01900000-0000-7000-8000-00000000000a","body":{"message":"start","workflow":"w","workflow_id":"new","requested_by":"r","trace":null}}'::json"#;

/// Rows are deleted rather than truncated: that takes milliseconds for each of thousands of scenes.
pub(super) const SCENE: &str = r#"
    delete from engine.leases; delete from engine.events; delete from engine.inbox; delete from engine.timers; delete from engine.tasks;
    delete from engine.locks; delete from engine.lock_requests; delete from engine.runs; delete from engine.schedules; delete from engine.firings;
    delete from engine.builds; delete from engine.losses; delete from engine.held; update engine.store set era = 1;
    insert into engine.held values ('01900000-0000-7000-8000-000000000004', engine.now());
    insert into engine.losses (run_id, what, seq, mark, became, witness, found_at)
    values ('01900000-0000-7000-8000-000000000004', 'shorter', 1, '00', 'held', '00000000-0000-0000-0000-0000000000a1', engine.now());
    insert into engine.builds (build, known_at) values ('b1', engine.now());
    insert into engine.leases (worker_id, epoch, expires_at, build)
    values ('00000000-0000-0000-0000-0000000000a1', 1, engine.now() - interval '1 s', 'b1'),
           ('00000000-0000-0000-0000-0000000000a2', 2, engine.now() + interval '10 s', 'b1');
    insert into engine.runs (run_id, workflow, workflow_id, requested_by, state, owner, owner_epoch, epoch, started_at, parent_run, parent_seq, on_parent_close)
    values ('01900000-0000-7000-8000-000000000001', 'w', 'one', 'r', 'open', '00000000-0000-0000-0000-0000000000a1', 1, 1, engine.now(), null, null, null),
           ('01900000-0000-7000-8000-000000000002', 'w', 'two', 'r', 'open', null, null, 0, engine.now(), null, null, null),
           ('01900000-0000-7000-8000-000000000003', 'w', 'three', 'r', 'open', '00000000-0000-0000-0000-0000000000a1', 1, 1, engine.now(),
            '01900000-0000-7000-8000-000000000001', 7, 'cancel'),
           ('01900000-0000-7000-8000-000000000004', 'w', 'four', 'r', 'suspended', null, null, 3, engine.now(), null, null, null);
    insert into engine.events (run_id, seq, kind, body, msg_key, worker_id, lease_epoch, turn, hash)
    values ('01900000-0000-7000-8000-000000000001', 0, 'k', '{}', 'start', '00000000-0000-0000-0000-0000000000a1', 1, gen_random_uuid(), decode(repeat('00', 32), 'hex'));
    update engine.events set turn = '00000000-0000-0000-0000-000000000000';
    insert into engine.inbox (run_id, msg_key, body)
    values ('01900000-0000-7000-8000-000000000001', 'signal:a', '{"message":"signal"}'), ('01900000-0000-7000-8000-000000000002', 'start', '{"message":"start"}'),
           ('01900000-0000-7000-8000-000000000003', 'start', '{"message":"start"}');
    insert into engine.timers values ('01900000-0000-7000-8000-000000000001', 2, engine.now() - interval '1 s');
    insert into engine.tasks (run_id, seq, queue, activity, input, options, effect, scope, run_epoch, state, attempt, max_attempts, worker_id, lease_epoch,
                              scheduled_at, not_before, start_to_close, queue_deadline, attempt_deadline, heartbeat_at)
    values ('01900000-0000-7000-8000-000000000001', 1, 'q', 'a', '1', '{}', 'idempotent', 'prod', 1, 'claimed', 1, 3,
            '00000000-0000-0000-0000-0000000000a1', 1, engine.now(), engine.now() - interval '9 s', '5 s', null, engine.now() - interval '1 s', engine.now() - interval '9 s'),
           ('01900000-0000-7000-8000-000000000001', 5, 'q', 'a', '1', '{}', 'idempotent', 'prod', 1, 'dead', 1, 3, null, null,
            engine.now(), engine.now() - interval '9 s', '5 s', null, null, null),
           ('01900000-0000-7000-8000-000000000001', 6, 'q', 'a', '1', '{}', 'idempotent', 'prod', 1, 'queued', 0, 3, null, null,
            engine.now(), engine.now() - interval '8 s', '5 s', engine.now() - interval '1 s', null, null);
    insert into engine.lock_requests (run_id, seq, resources, requested_at)
    values ('01900000-0000-7000-8000-000000000001', 3, '{a,b}', engine.now()), ('01900000-0000-7000-8000-000000000003', 4, '{a}', engine.now());
    insert into engine.schedules (name, version, spec, workflow_id, waits, next_at, due_at, created_by, created_at)
    values ('s', 1, '{}', 'new', false, '2030-01-01', '2030-01-01', 'r', engine.now());
"#;
