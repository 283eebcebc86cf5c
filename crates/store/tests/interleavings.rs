//! Two transactions that touch the same: the first holds what it has locked, the second waits for it, fails, or passes it over.
//!
//! ```text
//!   first:  begin ─ statement ──────────── hold ─────────▶ commit │ roll back
//!   second:            begins ─▶ ends, or is seen to wait ─────────────▶ ends      then: as one of the two serial orders would have left it
//! ```
//!
//! Every pair of functions that write what the engine keeps, in both orders, with both endings. What the two say and what is in the tables
//! afterwards must be what one after the other says and leaves, or, where the first is rolled back, what the second alone does. Those that
//! pass over locked rows come back later: they are asked once more in the end. A deadlock is an error that says "again".
//!
//! 2,178 interleavings take about 60 s on two processors that do other things as well, in which mostly Postgres works.
//!
//! Not here: the second starts after the first's statement has ended, so an interleaving within two functions occurs only where one waits.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

#[path = "interleavings/functions.rs"]
mod functions;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use functions::{Function, NOT_HERE, SCENE, functions};
use serde_json::Value;
use switchback_store::testing::StillDatabase;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, SimpleQueryMessage};

/// What a statement said: its rows, or the code of its error.
type Said = String;
/// All rows of the engine.
type Rows = Vec<String>;

/// Errors that say "again": deadlock, serialization.
const AGAIN: [&str; 2] = ["error 40P01", "error 40001"];

/// A request for locks that a turn was about to give up, and then is not given up, is passed over meanwhile: a younger one is granted
/// before it. No invariant knows of that order; the older one is granted next.
const OVERTAKEN: [(&str, &str); 2] = [("a turn that cancels", "grant locks"), ("a turn that ends its run", "grant locks")];

struct Stage {
    database: StillDatabase,
    functions: Vec<Function>,
    /// Sets the scene and looks.
    director: Client,
    first: Client,
    second: Arc<Client>,
    second_pid: i32,
    /// Outcomes of functions one after the other.
    serial: BTreeMap<Vec<usize>, (Vec<Said>, Rows)>,
}

async fn say(client: &Client, sql: &str) -> Said {
    match client.simple_query(sql).await {
        Ok(messages) => {
            let row = |message: &SimpleQueryMessage| {
                let SimpleQueryMessage::Row(row) = message else { return None };
                Some((0..row.len()).map(|at| row.get(at).unwrap_or("null")).collect::<Vec<_>>().join(" "))
            };
            let mut rows: Vec<String> = messages.iter().filter_map(row).collect();
            rows.sort_unstable();
            rows.join("; ")
        }
        Err(error) => format!("error {}", error.code().map_or("without a code", |code| code.code())),
    }
}

impl Stage {
    async fn new() -> Self {
        let database = StillDatabase::new().await;
        database.empty(chrono::DateTime::from_timestamp(1_900_000_000, 0).unwrap()).await;
        let director = database.database().client().await;
        director.batch_execute("set session_replication_role = replica").await.unwrap();
        let (first, second) = (database.database().client().await, database.database().client().await);
        let second_pid = second.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
        Self { database, functions: functions(), director, first, second: Arc::new(second), second_pid, serial: BTreeMap::new() }
    }

    async fn set_scene(&self) {
        self.director.batch_execute(SCENE).await.unwrap();
    }

    /// Epochs of leases that are opened here come from a sequence, which no rollback takes back.
    async fn rows(&self) -> Rows {
        let opened = |lease: &mut Value| {
            if lease["worker"] == functions::OPENS {
                lease["epoch"] = Value::Null;
            }
        };
        let mut rows = self.database.contents().await;
        rows.iter_mut().filter_map(|row| row.get_mut("lease")).for_each(opened);
        let mut rows: Rows = rows.into_iter().map(|row| row.to_string()).collect();
        rows.sort_unstable();
        rows
    }

    async fn one_after_the_other(&mut self, order: &[usize]) -> (Vec<Said>, Rows) {
        if let Some(known) = self.serial.get(order) {
            return known.clone();
        }
        self.set_scene().await;
        let mut said = vec![];
        for place in order {
            said.push(self.functions[*place].normal(say(&self.first, &self.functions[*place].sql).await));
        }
        let outcome = (said, self.rows().await);
        self.serial.insert(order.to_vec(), outcome.clone());
        outcome
    }

    /// Starts the second and comes back when it has ended, or waits for a lock.
    async fn start_second(&self, sql: &str) -> (JoinHandle<Said>, bool) {
        let (client, asked) = (self.second.clone(), sql.to_owned());
        let running = tokio::spawn(async move { say(&client, &asked).await });
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !running.is_finished() {
            let waits = "select cardinality(pg_blocking_pids($1)) > 0";
            if self.director.query_one(waits, &[&self.second_pid]).await.unwrap().get(0) {
                return (running, true);
            }
            assert!(tokio::time::Instant::now() < deadline, "{sql} neither ends nor waits");
            tokio::task::yield_now().await;
        }
        (running, false)
    }

    /// One interleaving; whether the second waited.
    async fn interleave(&mut self, first: usize, second: usize, ending: &str) -> Result<bool, String> {
        let (one, other) = (self.functions[first].clone(), self.functions[second].clone());
        self.set_scene().await;
        self.first.batch_execute("begin").await.unwrap();
        let first_said = one.normal(say(&self.first, &one.sql).await);
        let failed = first_said.starts_with("error");
        let (running, waited) = self.start_second(&other.sql).await;
        self.first.batch_execute(if failed { "rollback" } else { ending }).await.unwrap();
        let mut second_said = other.normal(running.await.unwrap());
        if AGAIN.contains(&second_said.as_str()) {
            second_said = other.normal(say(&self.second, &other.sql).await);
        }
        if other.comes_back {
            say(&self.second, &other.sql).await;
        }
        let rows = self.rows().await;
        let mut orders = if ending == "rollback" { vec![vec![second]] } else { vec![vec![first, second], vec![second, first]] };
        if other.comes_back {
            orders.iter_mut().for_each(|order| order.push(second));
        }
        let mut allowed = vec![];
        for order in orders {
            let (said, left) = self.one_after_the_other(&order).await;
            let of = |place: usize| order.iter().position(|at| *at == place).map(|at| said[at].clone());
            // The same call twice: of the two orders one is as good as the other.
            let (of_first, of_second) = if first == second { (said.first().cloned(), said.get(order.len() - 1).cloned()) } else { (of(first), of(second)) };
            // Who passes over what is locked says less than it would have said alone.
            let same_words = other.comes_back || of_second.as_ref() == Some(&second_said) && (ending == "rollback" || of_first.as_ref() == Some(&first_said));
            if left == rows && same_words {
                return Ok(waited);
            }
            allowed.push(format!("{said:?} {}", difference(&rows, &left)));
        }
        Err(format!("{} | {} ({ending}, {}): said {first_said:?}, {second_said:?}\n    not {}", one.name, other.name, if waited { "waited" } else { "did not wait" }, allowed.join("\n    nor ")))
    }
}

fn difference(found: &[String], allowed: &[String]) -> String {
    let without = |some: &[String], others: &[String]| some.iter().filter(|row| !others.contains(row)).cloned().collect::<Vec<_>>().join(" ");
    format!("found {} instead of {}", without(found, allowed), without(allowed, found))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_transactions_leave_what_one_after_the_other_would() {
    let mut stage = Stage::new().await;
    let (count, mut forced, mut waited, mut wrong, mut overtaken) = (stage.functions.len(), 0, 0, vec![], vec![]);
    for first in 0..count {
        for second in 0..count {
            for ending in ["commit", "rollback"] {
                forced += 1;
                match stage.interleave(first, second, ending).await {
                    Ok(has_waited) => waited += usize::from(has_waited),
                    Err(_) if OVERTAKEN.contains(&(stage.functions[first].name, stage.functions[second].name)) && ending == "rollback" => {
                        overtaken.push((stage.functions[first].name, stage.functions[second].name));
                    }
                    Err(why) => wrong.push(why),
                }
            }
        }
    }
    println!("{forced} interleavings of {count} calls, in {waited} of which the second waited: {} wrong", wrong.len());
    assert_eq!(overtaken, OVERTAKEN);
    assert!(wrong.is_empty(), "{} of {forced} interleavings:\n{}", wrong.len(), wrong.join("\n"));
}

/// A new query that writes what the engine keeps has a line in the matrix, or a reason why not.
#[test]
fn every_query_that_writes_for_the_engine_is_in_the_matrix() {
    let mut missing = vec![];
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/sql")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text: String = std::fs::read_to_string(&path).unwrap().lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
        let calls = text.match_indices("engine.").filter(|(at, _)| {
            let called = &text[at + "engine.".len()..];
            let end = called.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(called.len());
            called[end..].starts_with('(') && !["now", "attempt_is_over", "first_run_id"].contains(&&called[..end])
        });
        let writes = ["insert into engine.", "update engine.", "delete from engine."].iter().any(|verb| text.contains(verb)) || calls.count() > 0;
        let known = functions().iter().any(|function| function.file == name) || NOT_HERE.iter().any(|(file, _)| *file == name);
        if writes && !known {
            missing.push(name);
        }
    }
    assert_eq!(missing, Vec::<String>::new(), "write what the engine keeps and are in no line of tests/interleavings/functions.rs");
}
