//! The store in memory and the one on Postgres are asked the same, and must answer the same and keep the same.
//!
//! ```text
//!   seed ─▶ draw: what to ask next, from what memory holds ─┬─▶ memory ──▶ answer ─┐
//!              ▲                                            └─▶ Postgres ─▶ answer ─┴─▶ equal? and all rows, now and then and at the end
//!              └────────────────────── what was stored ◀──────────────────────────────┘
//! ```
//!
//! The simulator's worlds stand on the store in memory: what it proves is worth as much as the two are alike. Leases have numbers in the
//! order of their opening, since each store chooses its own epochs; the clock of both stands still until it is moved.
//!
//! Invariants: 1. A seed names all that is asked, as long as the answers are equal. 2. Times are equal to the microsecond.
//!
//! Not asked: what no engine asks, that is a turn behind a gap, two turns of one run in a batch, a turn of a run that was never started.

mod ask;
mod book;
mod dice;
mod draw;
mod side;
mod turn;

use std::{collections::BTreeMap, fmt};

use chrono::DateTime;
use engine::memory::{Faultless, MemoryStore};
use serde_json::Value;
use store::testing::StillDatabase;

use ask::Ask;
use book::Book;
use dice::Dice;
use side::Side;

/// A world of so many questions reaches every kind of row; more of them find less than another seed.
const QUESTIONS: usize = 150;
/// All rows are compared each time after so many questions, so that a difference is found near its cause.
const COMPARED_EVERY: usize = 10;
/// What Postgres does not allow to be compared is excluded by a clock that is ahead of its start for a day.
const AHEAD: chrono::Duration = chrono::Duration::days(1);

/// Where the two are not alike.
#[derive(Debug)]
pub struct Difference {
    /// The seed.
    pub seed: u64,
    /// Which question.
    pub place: usize,
    /// What was asked.
    pub asked: String,
    /// What the store in memory said or holds.
    pub memory: String,
    /// What Postgres said or holds.
    pub postgres: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, place, asked, memory, postgres } = self;
        write!(f, "seed {seed}, question {place}: {asked}\n  memory:   {memory}\n  postgres: {postgres}")
    }
}

/// How often each kind of answer was given.
pub type Answers = BTreeMap<String, u64>;

/// Asks both the same.
///
/// # Errors
/// Where they differ.
pub async fn compare(database: &StillDatabase, seed: u64, tell: impl Fn(String)) -> Result<Answers, Box<Difference>> {
    let now = database.database_now().await + AHEAD;
    let now = DateTime::from_timestamp(now.timestamp(), 0).unwrap_or(now);
    database.empty(now).await;
    let memory = MemoryStore::new(now, std::sync::Arc::new(Faultless));
    let (mut left, mut right) = (Side::new(&memory), Side::new(database.store()));
    let (mut book, mut dice) = (Book::default(), Dice::new(seed));
    let mut answers = Answers::new();
    for place in 1..=QUESTIONS {
        let ask = draw::ask(&mut dice, &mut book, &memory).await;
        tell(format!("{place} {ask:?}"));
        if let Ask::Advance(by) = &ask {
            memory.advance(*by);
            database.advance(*by).await;
        }
        let (one, other) = (left.answer(&ask).await, right.answer(&ask).await);
        let differs = |memory, postgres| Err(Box::new(Difference { seed, place, asked: format!("{ask:?}"), memory, postgres }));
        if one != other {
            return differs(one.said, other.said);
        }
        book.note(&ask, &one);
        *answers.entry(format!("{} {}", ask.name(), one.word)).or_default() += 1;
        if place % COMPARED_EVERY == 0 || place == QUESTIONS {
            let (one, other) = (left.rows(memory.contents()), right.rows(database.contents().await));
            if one != other {
                let without = |some: &[String], others: &[String]| some.iter().filter(|row| !others.contains(row)).cloned().collect::<Vec<_>>().join("\n            ");
                return differs(without(&one, &other), without(&other, &one));
            }
        }
    }
    Ok(answers)
}

/// A value whose leases are named by number.
fn numbered(value: Value, number: &impl Fn(&Value) -> Option<Value>) -> Value {
    if let Some(lease) = number(&value) {
        return lease;
    }
    match value {
        Value::Array(items) => items.into_iter().map(|item| numbered(item, number)).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, field)| (name, numbered(field, number))).collect(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}
