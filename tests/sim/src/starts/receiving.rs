//! Deliveries on their way, and the receivers: believed? read? stored, then answered.
//!
//! ```text
//!   wire ─▶ in somebody's hands ─▶ stored ─▶ answered: gone            no answer in time: sent again, to whoever takes it
//! ```
//!
//! A receiver that dies or is late has stored nothing, or has stored it and nobody knows.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use alerts::{Credential, Headers, Key, SecretDigest, Settings, authenticate, decode};
use chrono::{DateTime, TimeDelta, Utc};
use engine::{RunStore, sim::Life};

use super::desk::Desk;

/// What every source's sender shows.
pub(super) const SECRET: &str = "a-secret-of-thirty-two-characters";
/// How long a sender waits for an answer, and how long before it tries again.
const PATIENCE: TimeDelta = TimeDelta::seconds(10);
const AGAIN: TimeDelta = TimeDelta::seconds(5);

/// A delivery.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) source: &'static str,
    pub(super) secret: &'static str,
    pub(super) body: Vec<u8>,
    /// Only so many bytes of it arrive at the first try.
    pub(super) cut: Option<usize>,
    pub(super) due_at: DateTime<Utc>,
}

#[derive(Debug, Default)]
struct Sent {
    next: u64,
    waiting: BTreeMap<u64, Delivery>,
}

/// What answers a delivery.
enum Answer {
    /// 202.
    Stored,
    /// 401: a sender that is told that it is not believed does not go on.
    NotBelieved,
    /// 400, because it did not arrive whole, or 503.
    Again,
}

/// All that is on its way.
#[derive(Clone, Debug, Default)]
pub(super) struct Wire(Arc<Mutex<Sent>>);

impl Wire {
    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sends(&self, delivery: Delivery) {
        let mut sent = self.sent();
        sent.next += 1;
        let id = sent.next;
        sent.waiting.insert(id, delivery);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent().waiting.is_empty()
    }

    pub(super) fn next_due(&self) -> Option<DateTime<Utc>> {
        self.sent().waiting.values().map(|delivery| delivery.due_at).min()
    }

    /// One that is due; its sender sends it again unless it is answered in time.
    fn next(&self, now: DateTime<Utc>) -> Option<(u64, Delivery)> {
        let mut sent = self.sent();
        let (id, delivery) = sent.waiting.iter_mut().find(|(_, delivery)| delivery.due_at <= now)?;
        let taken = (*id, delivery.clone());
        delivery.due_at = now + PATIENCE;
        Some(taken)
    }

    fn answered(&self, id: u64, answer: &Answer, now: DateTime<Utc>) {
        let mut sent = self.sent();
        match answer {
            Answer::Stored | Answer::NotBelieved => drop(sent.waiting.remove(&id)),
            Answer::Again => {
                if let Some(delivery) = sent.waiting.get_mut(&id) {
                    (delivery.due_at, delivery.cut) = (now + AGAIN, None);
                }
            }
        }
    }
}

/// Takes deliveries, one at a time.
pub(super) async fn receiver(life: Life, wire: Wire, desk: Desk) {
    loop {
        match wire.next(life.store.time()) {
            Some((id, delivery)) => {
                let answer = taken(&life, &desk, &delivery).await;
                wire.answered(id, &answer, life.store.time());
            }
            None => life.rests().await,
        }
    }
}

/// Each question to the store is a place at which one may die, pause, or get no answer, as each statement is in the product.
async fn taken(life: &Life, desk: &Desk, delivery: &Delivery) -> Answer {
    let Ok(now) = life.store.now().await else { return Answer::Again };
    let settings = Settings::Alertmanager { credential: Credential::Bearer };
    let keys = [Key::Shown(SecretDigest::of(SECRET.as_bytes()))];
    let shown = format!("Bearer {}", delivery.secret);
    let headers: Headers = [("authorization", shown.as_bytes()), ("content-type", b"application/json")].into_iter().collect();
    let body = &delivery.body[..delivery.cut.unwrap_or(delivery.body.len())];
    if authenticate(&settings, &keys, &headers, body, now).is_err() {
        return Answer::NotBelieved;
    }
    let Ok(alerts) = decode(&settings, &headers, body) else { return Answer::Again };
    desk.takes(delivery.source, &alerts, life.store.time());
    // Stored; whether anybody hears of it is another matter.
    if life.store.now().await.is_ok() { Answer::Stored } else { Answer::Again }
}
