//! What a run waits for, in one line for people.
//!
//! ```text
//!   ended, set aside ─▶ dead letter ─▶ attempt under way ─▶ queue ─▶ lock ─▶ turn ─▶ timer
//! ```
//!
//! What stands first in that order is said: it is what a person can do something about.

use chrono::{DateTime, Utc};
use store::look::{RunRow, TaskSeen, Wait};

/// The line.
pub(crate) fn line(run: &RunRow, tasks: &[TaskSeen], waits: &[Wait], now: DateTime<Utc>) -> String {
    if let Some(line) = standing(run) {
        return line;
    }
    let ordered = ["dead", "claimed", "queued"];
    let next = ordered.iter().find_map(|state| tasks.iter().find(|task| task.state == *state));
    if let Some(task) = next {
        return of_task(task, now);
    }
    let rank = |wait: &Wait| match wait {
        Wait::Lock { .. } => 0,
        Wait::Turn { .. } => 1,
        Wait::Timer { .. } => 2,
    };
    match waits.iter().min_by_key(|wait| rank(wait)) {
        Some(Wait::Lock { resource, holder: Some(holder), .. }) => format!("waits for the lock on {resource}, which run {holder} has"),
        Some(Wait::Lock { resource, holder: None, .. }) => format!("waits for the lock on {resource}, which is being granted"),
        Some(Wait::Turn { key }) if run.owner.is_none() => format!("waits for a worker: message {key} has arrived, and nobody owns the run"),
        Some(Wait::Turn { key }) => format!("waits for its worker to record message {key}"),
        Some(Wait::Timer { due_at, .. }) => format!("waits for a timer, due in {}", span((*due_at - now).num_milliseconds())),
        None => "waits for a signal; nothing is under way".to_owned(),
    }
}

/// The line of a run of which the database lacks something.
pub(crate) fn held(run: &RunRow) -> String {
    format!(
        "waits for a person: the database has lost something of it, and nobody carries it on before that is settled; `switchback store check` says \
         what is missing, then `switchback store settle {} --go-on | --cancel --reason WHY`",
        run.run
    )
}

fn standing(run: &RunRow) -> Option<String> {
    let why = run.problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
    match run.state.as_str() {
        "open" => None,
        "suspended" => Some(format!("is set aside until `switchback resume {}`{why}", run.run)),
        "completed" => Some("is complete; it waits for nothing".to_owned()),
        other => Some(format!("has ended as {other}{why}")),
    }
}

fn of_task(task: &TaskSeen, now: DateTime<Utc>) -> String {
    let TaskSeen { activity, queue, attempt, max_attempts, .. } = task;
    let problem = task.problem.as_ref().map(|problem| format!("; last time: {problem}")).unwrap_or_default();
    match task.state.as_str() {
        "dead" => format!(
            "waits for a person: nobody can run {activity} of {queue}{problem}; `switchback queue retry {} {}` or `discard`",
            task.run, task.seq
        ),
        "claimed" => {
            let whom = task.agent.as_ref().map_or_else(|| format!("a worker on {queue}"), |agent| format!("agent {agent}"));
            let doubt = if task.in_doubt { ", which may have happened before and is asked for first" } else { "" };
            let progress = task.progress.as_ref().map(|progress| format!(", progress {progress}")).unwrap_or_default();
            format!("waits for {whom} to finish {activity}{doubt} (attempt {attempt} of {max_attempts}{progress}{problem})")
        }
        _ if task.not_before > now => {
            let pause = span((task.not_before - now).num_milliseconds());
            format!("waits {pause} before attempt {} of {max_attempts} of {activity} on {queue}{problem}", attempt + 1)
        }
        _ => {
            let waited = span((now - task.scheduled_at).num_milliseconds());
            format!("waits for somebody to pick up {activity} on {queue}, for {waited} so far{problem}")
        }
    }
}

/// A time that people can read.
fn span(ms: i64) -> String {
    match ms.max(0) {
        ms @ 0..10_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        ms @ 10_000..600_000 => format!("{} s", ms / 1000),
        ms @ 600_000..36_000_000 => format!("{} min", ms / 60_000),
        ms => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;
    use sdk::{Failure, Lease, RunId, Seq, WorkerId};

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_800_000_000_000 + ms).unwrap()
    }

    fn run(state: &str) -> RunRow {
        RunRow {
            run: RunId(uuid::Uuid::nil()),
            workflow: "failover".into(),
            workflow_id: "item:db9".into(),
            requested_by: "ada".into(),
            trace: None,
            state: state.into(),
            problem: None,
            owner: Some(Lease { worker: WorkerId(uuid::Uuid::nil()), epoch: 1 }),
            epoch: 1,
            started_at: at(0),
            closed_at: None,
            events: 3,
            parent: None,
            held: false,
        }
    }

    fn task(state: &str) -> TaskSeen {
        TaskSeen {
            run: RunId(uuid::Uuid::nil()),
            seq: Seq(5),
            queue: "site:berlin".into(),
            activity: "fence-machine".into(),
            state: state.into(),
            attempt: 1,
            max_attempts: 6,
            in_doubt: false,
            holder: None,
            agent: Some("b1".into()),
            scheduled_at: at(0),
            not_before: at(0),
            progress: None,
            problem: None,
        }
    }

    #[test]
    fn what_a_run_waits_for_in_words() {
        let failed = Failure::retryable("busy", "the disk is busy");
        let later = TaskSeen { not_before: at(9_000), problem: Some(failed), ..task("queued") };
        let lines = [
            line(&run("open"), &[task("queued")], &[], at(7_200)),
            line(&run("open"), &[later], &[], at(7_200)),
            line(&run("open"), &[task("queued"), task("claimed")], &[], at(7_200)),
            line(&run("open"), &[task("claimed"), task("dead")], &[], at(7_200)),
            line(&run("open"), &[], &[Wait::Timer { seq: Seq(3), due_at: at(67_200) }], at(7_200)),
            line(&run("open"), &[], &[], at(7_200)),
            line(&run("completed"), &[], &[], at(7_200)),
        ];
        let expected = [
            "waits for somebody to pick up fence-machine on site:berlin, for 7.2 s so far",
            "waits 1.8 s before attempt 2 of 6 of fence-machine on site:berlin; last time: busy: the disk is busy",
            "waits for agent b1 to finish fence-machine (attempt 1 of 6)",
            "waits for a person: nobody can run fence-machine of site:berlin; \
             `switchback queue retry 00000000-0000-0000-0000-000000000000 5` or `discard`",
            "waits for a timer, due in 60 s",
            "waits for a signal; nothing is under way",
            "is complete; it waits for nothing",
        ];
        assert_eq!(lines, expected);
    }
}
