//! The queries, read from their files when the crate is built.

/// A query with what it attempts, for errors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query {
    /// Said of it in errors: "the store did not answer while …".
    pub(crate) attempted: &'static str,
    /// The text.
    pub(crate) text: &'static str,
}

macro_rules! queries {
    ($($name:ident = $file:literal, $attempted:literal;)*) => {$(
        pub(crate) const $name: Query = Query {
            attempted: $attempted,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/sql/", $file, ".sql")),
        };
    )*};
}

queries! {
    HEAR_WITNESS = "hear_witness", "telling that a witness lives";
    FORGET_WITNESS = "forget_witness", "telling that a witness goes";
    TESTIFY = "testify", "testifying";
    CONCLUDE_CHECK = "conclude_check", "asking whether the database server is known";
    STORE_LIFE = "store_life", "reading which life of the store this is";
    WITNESSES = "witnesses", "reading witnesses";
    LOSSES = "losses", "reading what the store lacks";
    SETTLE = "settle", "settling a run";
    OPEN_LEASE = "open_lease", "opening a lease";
    DECLARE_BUILD = "declare_build", "saying which build a worker is";
    BUILDS = "builds", "listing builds";
    NEWEST_BUILD = "newest_build", "looking up the newest build";
    PREFER_BUILD = "prefer_build", "preferring a build";
    RENEW_LEASE = "renew_lease", "renewing a lease";
    CLOSE_LEASE = "close_lease", "closing a lease";
    EXPIRE_LEASES = "expire_leases", "deleting expired leases";
    START_RUN = "start_run", "starting a run";
    SEND = "send", "sending a message";
    CLAIM_RUNS = "claim_runs", "claiming runs";
    LOAD_HISTORY = "load_history", "loading a history";
    RUN_EXISTS = "run_exists", "looking for a run";
    READ_INBOX = "read_inbox", "reading inboxes";
    COMMIT_TURNS = "commit_turns", "storing turns";
    WRITER_OF = "writer_of", "asking who wrote an event";
    RELEASE_RUNS = "release_runs", "releasing runs";
    OWNED_RUNS = "owned_runs", "asking which runs are ours";
    NOW = "now", "asking the time";
    CLAIM_TASKS = "claim_tasks", "claiming tasks";
    TASK = "task", "looking at a task";
    COMPLETE_TASK = "complete_task", "completing a task";
    RETRY_TASK = "retry_task", "queueing a task again";
    BURY_TASK = "bury_task", "setting a task aside";
    PULSE_TASK = "pulse_task", "beating for a task";
    FIRE_TIMERS = "fire_timers", "firing timers";
    GRANT_LOCKS = "grant_locks", "granting locks";
    EXPIRE_TASKS = "expire_tasks", "ending overdue tasks";
    ITEMS = "items", "reading items";
    ITEMS_NAMED = "items_named", "reading items by name";
    POINTS = "points", "reading points";
    POINTS_NAMED = "points_named", "reading points of some items";
    REPLICATION = "replication", "reading replication status";
    GROUPS = "groups", "reading replication groups";
    MACHINES = "machines", "reading where machines were seen";
    PUT_MACHINES = "put_machines", "noting where machines were seen";
    PUT_POINTS = "put_points", "noting points";
    PUT_REPLICATION = "put_replication", "noting replication status";
    RUNS = "runs", "reading runs";
    RUNS_IN_ORDER = "runs_in_order", "listing all runs";
    TASKS_SEEN = "tasks_seen", "reading tasks";
    QUEUES = "queues", "measuring queues";
    WAITS = "waits", "asking what a run waits for";
    RESUME_RUN = "resume_run", "resuming a run";
    RETRY_DEAD = "retry_dead", "queueing a dead letter again";
    DISCARD_DEAD = "discard_dead", "discarding a dead letter";
    ADD_SITE = "add_site", "adding a site";
    SITES = "sites", "reading sites";
    AGENTS = "agents", "reading agents";
    AGENT_BY_CERTIFICATE = "agent_by_certificate", "looking for an agent";
    AGENT_SEEN = "agent_seen", "noting that an agent was heard of";
    ADD_ENROLMENT_TOKEN = "add_enrolment_token", "making an enrolment token";
    ENROLMENT_SITE = "enrolment_site", "looking at an enrolment token";
    ENROL_AGENT = "enrol_agent", "enrolling an agent";
    ADD_API_TOKEN = "add_api_token", "making a token";
    API_TOKEN = "api_token", "looking for a token";
    API_TOKENS = "api_tokens", "listing tokens";
    TOKEN_HOLDERS = "token_holders", "reading who has a token";
    BEGIN_REQUEST = "begin_request", "noting a request";
    END_REQUEST = "end_request", "keeping an answer";
    APPLY_POLICY = "apply_policy", "applying a trigger policy";
    REMOVE_POLICY = "remove_policy", "removing a trigger policy";
    UNLOCK_POLICY = "unlock_policy", "unlocking a trigger policy";
    POLICIES = "policies", "reading trigger policies";
    KILL_SWITCHES = "kill_switches", "reading kill switches";
    TURN_KILL_SWITCH = "turn_kill_switch", "turning a kill switch";
    WOKEN_POLICIES = "woken_policies", "looking for policies to evaluate";
    EVIDENCE_ALERTS = "evidence_alerts", "reading alerts";
    ITEM_RUNS = "item_runs", "reading the runs of an item";
    RUN_FAMILY = "run_family", "looking for the runs that belong together";
    HEADS = "heads", "reading heads of ended runs";
    AGENT_ANCHORS = "agent_anchors", "noting what an agent has anchored";
    OUTCOMES = "outcomes", "asking how runs ended";
    GAUGES = "gauges", "measuring the engine";
    TRIGGER_SOURCE = "trigger_source", "looking for a source of alerts";
    TRIGGER_SOURCES = "trigger_sources", "reading sources of alerts";
    ADD_TRIGGER_SOURCE = "add_trigger_source", "making a source of alerts";
    ADD_TRIGGER_SECRET = "add_trigger_secret", "adding a secret";
    DROP_OLD_TRIGGER_SECRET = "drop_old_trigger_secret", "dropping an old secret";
    ENABLE_TRIGGER_SOURCE = "enable_trigger_source", "enabling or disabling a source of alerts";
    REMOVE_TRIGGER_SOURCE = "remove_trigger_source", "removing a source of alerts";
    SET_TRIGGER_LISTENERS = "set_trigger_listeners", "noting who listens to sources of alerts";
    TAKE_DELIVERY = "take_delivery", "storing a delivery";
    TRIGGER_DELIVERIES = "trigger_deliveries", "reading deliveries";
    TRIGGER_DELIVERY_BODY = "trigger_delivery_body", "reading a delivery's body";
    TRIGGER_ALERTS = "trigger_alerts", "reading alerts";
    TRIGGER_WAKES = "trigger_wakes", "reading what a policy has not looked at";
    PRUNE_DELIVERIES = "prune_deliveries", "forgetting old deliveries";
    PRUNE_ALERTS = "prune_alerts", "forgetting old alerts";
    APPLY_PLAN = "apply_plan", "applying a plan";
    REMOVE_PLAN = "remove_plan", "removing a plan";
    PLANS = "plans", "reading plans";
    PLAN_VERSION = "plan_version", "reading a version of a plan";
    PLAN_RUNS = "plan_runs", "reading runs of plans";
    LAST_PLAN_RUNS = "last_plan_runs", "reading the last runs of plans";
    PLAN_QUESTIONS = "plan_questions", "reading what plans ask people";
    PLAN_RUNS_OVER = "plan_runs_over", "looking for plans that have an item";
    PLAN_STEPS = "plan_steps", "reading the steps of a plan's run";
    NAMING_ITEM = "naming_item", "asking what names an item";
    PLAN_DURATIONS = "plan_durations", "asking how long steps take";
    FIRE_DEADLINES = "fire_deadlines", "starting what is due";
    SET_DEADLINE = "set_deadline", "setting a deadline";
    DROP_DEADLINE = "drop_deadline", "dropping a deadline";
    DEADLINES = "deadlines", "reading deadlines";
    OPEN_RUN_OF = "open_run_of", "looking for an open run";
    CREATE_SCHEDULE = "create_schedule", "keeping a schedule";
    REMOVE_SCHEDULE = "remove_schedule", "removing a schedule";
    PAUSE_SCHEDULE = "pause_schedule", "pausing a schedule";
    RESUME_SCHEDULE = "resume_schedule", "resuming a schedule";
    SCHEDULES = "schedules", "reading schedules";
    DUE_SCHEDULES = "due_schedules", "looking for due schedules";
    FIRINGS = "firings", "reading what a schedule fired";
    FIRE = "fire", "firing a schedule";
    PUT_AGENT_REPORT = "put_agent_report", "keeping an agent's report";
    AGENT_REPORTS = "agent_reports", "reading agents' reports";
    PASSED_DRILLS = "passed_drills", "looking for drills that have passed";
    PASSED_PLAN_TESTS = "passed_plan_tests", "looking for tests of plans that have passed";
    PUT_VERIFIED = "put_verified", "noting what was verified";
    VERIFIED = "verified", "reading what was verified";
    PUT_READINESS = "put_readiness", "keeping how something stands";
    READINESS = "readiness", "reading how things stand";
    FORGET_READINESS = "forget_readiness", "forgetting what is gone";
}
