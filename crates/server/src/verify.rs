//! Rebuilds the projection of items from the histories and compares.
//!
//! ```text
//!   runs in order ─▶ history, chain checked ─▶ recorded facts ─▶ fold ─▶ compare with what was recorded and what is projected
//! ```

use std::collections::BTreeMap;

use api::access::{Difference, VerifyView};
use engine::RunStore;
use recovery::{ItemName, ItemRecord, apply};
use sdk::{Command, EventBody, StoredEvent};
use serde_json::Value;
use store::PgStore;
use workflows::{ITEM_PROJECTION, ItemChange};

use crate::problem::Refusal;

/// How often a check that met writers is made again.
const ROUNDS: u32 = 5;

/// Everything. Runs that record meanwhile make a check worthless that found differences; it is then made again.
pub(crate) async fn verify(store: &PgStore) -> Result<VerifyView, Refusal> {
    let mut rounds = 1;
    loop {
        let before = versions(store).await?;
        let view = once(store).await?;
        if view.differences.is_empty() || rounds == ROUNDS || before == versions(store).await? {
            return Ok(view);
        }
        rounds += 1;
    }
}

async fn versions(store: &PgStore) -> Result<Vec<(String, i64)>, Refusal> {
    Ok(store.items(None).await?.into_iter().map(|row| (row.name, row.version)).collect())
}

async fn once(store: &PgStore) -> Result<VerifyView, Refusal> {
    let mut view = VerifyView { runs: 0, facts: 0, items: 0, differences: vec![] };
    let mut folded: BTreeMap<ItemName, ItemRecord> = BTreeMap::new();
    for run in store.runs_in_order().await? {
        let history = match store.load_history(run).await {
            Ok(history) => history,
            Err(error @ engine::StoreError::Refused { .. }) => {
                let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
                view.differences.push(difference(None, format!("run {run}: {why}"), None, None));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        view.runs += 1;
        for stored in &history.events {
            if let Some(fact) = recorded(stored) {
                view.facts += 1;
                fold(&mut folded, &mut view.differences, &format!("run {run} event {}", stored.event.seq), fact);
            }
        }
    }
    compare(store, &folded, &mut view).await?;
    Ok(view)
}

fn recorded(stored: &StoredEvent) -> Option<&Value> {
    match &stored.event.body {
        EventBody::Command(Command::Recorded { projection, fact }) if projection == ITEM_PROJECTION => Some(fact),
        EventBody::Command(_) | EventBody::Inbound(_) => None,
    }
}

/// Folds one fact, and checks that the record beside it is the one that folding gives.
fn fold(folded: &mut BTreeMap<ItemName, ItemRecord>, differences: &mut Vec<Difference>, place: &str, fact: &Value) {
    let change: ItemChange = match serde_json::from_value(fact.clone()) {
        Ok(change) => change,
        Err(error) => {
            differences.push(difference(None, format!("{place}: the recorded change can't be read: {error}"), Some(fact.clone()), None));
            return;
        }
    };
    match apply(folded.get(&change.item).cloned(), &change.fact) {
        Ok(record) => {
            if record != change.record {
                let what = format!("{place}: the record beside the fact is not what folding the facts gives");
                differences.push(difference(Some(change.item.clone()), what, json(&record), json(&change.record)));
            }
            folded.insert(change.item, record);
        }
        Err(refused) => {
            differences.push(difference(Some(change.item.clone()), format!("{place}: {refused}"), json(&change.fact), None));
            folded.insert(change.item, change.record);
        }
    }
}

async fn compare(store: &PgStore, folded: &BTreeMap<ItemName, ItemRecord>, view: &mut VerifyView) -> Result<(), Refusal> {
    let mut projected: BTreeMap<String, Value> = store.items(None).await?.into_iter().map(|row| (row.name, row.record)).collect();
    for (name, record) in folded {
        let row = projected.remove(name.as_str());
        if row.is_none() && !record.is_known() {
            continue;
        }
        view.items += 1;
        let same = record.is_known() && row.as_ref().is_some_and(|row| serde_json::from_value::<ItemRecord>(row.clone()).is_ok_and(|read| read == *record));
        if !same {
            let what = "the table differs from the histories".to_owned();
            view.differences.push(difference(Some(name.clone()), what, json(record), row));
        }
    }
    for (name, row) in projected {
        view.items += 1;
        let what = format!("item {name} is in the table, and no history knows it");
        view.differences.push(difference(name.parse().ok(), what, None, Some(row)));
    }
    Ok(())
}

fn difference(item: Option<ItemName>, what: String, recorded: Option<Value>, projected: Option<Value>) -> Difference {
    Difference { item, what, recorded, projected }
}

fn json<T: serde::Serialize>(value: &T) -> Option<Value> {
    serde_json::to_value(value).ok()
}
