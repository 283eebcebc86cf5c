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
    OPEN_LEASE = "open_lease", "opening a lease";
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
}
