//! A run's history as `switchback history RUN -o json` prints it, and each event in plain words.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::clock::Moment;

/// One event: who wrote it when, and what it says.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) seq: i64,
    pub(crate) at: Moment,
    pub(crate) worker: String,
    pub(crate) run_epoch: i64,
    pub(crate) kind: String,
    pub(crate) body: Value,
}

/// All events so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) events: Vec<Event>,
}

/// One worker's time with a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tenure {
    pub(crate) run_epoch: i64,
    pub(crate) worker: String,
    pub(crate) first_seq: i64,
    pub(crate) last_seq: i64,
    pub(crate) began: Moment,
}

impl History {
    pub(crate) fn read(answer: &Value) -> Result<Self> {
        let list = answer["events"].as_array().context("the history is no list of events")?;
        let events = list.iter().map(Event::read).collect::<Result<_>>()?;
        Ok(Self { events })
    }

    /// The first scheduling of an activity.
    pub(crate) fn scheduled(&self, activity: &str) -> Option<&Event> {
        self.events.iter().find(|event| event.activity() == Some(activity))
    }

    /// The event that ended the run.
    pub(crate) fn end(&self) -> Option<&Event> {
        self.events.iter().find(|event| matches!(event.kind.as_str(), "run_completed" | "run_failed" | "run_cancelled"))
    }

    /// The first fact of this name.
    pub(crate) fn fact(&self, name: &str) -> Option<&Value> {
        self.events.iter().filter_map(Event::fact).find(|fact| fact["fact"] == name)
    }

    /// Who held the run, epoch by epoch.
    pub(crate) fn tenures(&self) -> Vec<Tenure> {
        let mut tenures: BTreeMap<i64, Tenure> = BTreeMap::new();
        for event in &self.events {
            let tenure = tenures.entry(event.run_epoch).or_insert_with(|| Tenure {
                run_epoch: event.run_epoch,
                worker: event.worker.clone(),
                first_seq: event.seq,
                last_seq: event.seq,
                began: event.at,
            });
            tenure.last_seq = event.seq;
        }
        tenures.into_values().collect()
    }

    /// What an event means, if a person would want to know.
    pub(crate) fn words(&self, event: &Event) -> Option<String> {
        let body = &event.body;
        let text = |key: &str| body[key].as_str().unwrap_or("?").to_owned();
        match event.kind.as_str() {
            "run_started" => Some(format!("{} is asked for by {}", text("workflow"), text("requested_by"))),
            "locks_granted" => Some(format!("the item is ours, {}", grants(&body["grants"]))),
            "activity_scheduled" => Some(format!("{} waits for {}", text("activity"), text("queue"))),
            "activity_finished" => Some(format!("{} {}", self.activity_of(body), outcome(&body["result"]))),
            "point_of_no_return" => Some(format!("no way back: {}", text("reason"))),
            "recorded" => event.fact().and_then(fact_words),
            "run_completed" => Some("the run is complete".into()),
            "run_failed" | "run_cancelled" => Some(format!("{}: {}", event.kind.replace('_', " "), body["failure"])),
            _ => None,
        }
    }

    fn activity_of(&self, finished: &Value) -> String {
        let scheduled = self.events.iter().find(|event| Some(event.seq) == finished["of"].as_i64());
        scheduled.and_then(Event::activity).unwrap_or("an activity").to_owned()
    }
}

impl Event {
    fn read(value: &Value) -> Result<Self> {
        let body = &value["body"];
        let inner = body.get("inbound").or_else(|| body.get("command")).context("an event of neither kind")?;
        Ok(Self {
            seq: value["seq"].as_i64().context("an event without its number")?,
            at: Moment::parse(value["at"].as_str().context("an event without its time")?)?,
            worker: value["worker"].as_str().context("an event without its worker")?.to_owned(),
            run_epoch: value["run_epoch"].as_i64().context("an event without its run epoch")?,
            kind: inner["kind"].as_str().context("an event without its kind")?.to_owned(),
            body: inner.clone(),
        })
    }

    fn activity(&self) -> Option<&str> {
        (self.kind == "activity_scheduled").then(|| self.body["activity"].as_str()).flatten()
    }

    /// What became true of an item; it stands beside the item's name and the record that results.
    fn fact(&self) -> Option<&Value> {
        (self.kind == "recorded").then(|| &self.body["fact"]["fact"])
    }
}

fn grants(grants: &Value) -> String {
    let each = grants.as_array().into_iter().flatten();
    let each = each.map(|grant| format!("{} in era {} with grant epoch {}", grant["resource"], grant["era"], grant["epoch"]));
    each.collect::<Vec<_>>().join(", ").replace('"', "")
}

fn outcome(result: &Value) -> String {
    match result["outcome"].as_str() {
        Some("completed") => "is done".into(),
        Some("timed_out") => match result["kind"].as_str() {
            Some("queue") => "was picked up by nobody there in time".into(),
            Some("heartbeat") => "was begun there, and then nothing was heard of it".into(),
            other => format!("ran into its {} time limit", other.unwrap_or("?")),
        },
        Some("failed" | "unknown") => format!("failed: {}", result["failure"]["message"]),
        other => format!("ended as {}", other.unwrap_or("?")),
    }
}

fn fact_words(fact: &Value) -> Option<String> {
    match fact["fact"].as_str()? {
        "unfenced_accepted" => Some(format!("unfenced, accepted by {}: {}", fact["by"], fact["reason"]).replace('"', "")),
        "fence_proven" => Some(format!("the source is fenced: {}", fact["evidence"])),
        "point_chosen" => {
            let chosen = &fact["chosen"];
            Some(format!("point {} of {} is chosen", chosen["point"], chosen["taken_at"]).replace('"', ""))
        }
        "machine_running" => Some(format!("the machine runs at {}", fact["site"]).replace('"', "")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(seq: i64, run_epoch: i64, worker: &str, body: &Value) -> Value {
        json!({ "v": 1, "seq": seq, "at": "2026-11-22T23:47:57Z", "worker": worker, "run_epoch": run_epoch, "body": body })
    }

    fn history() -> History {
        let scheduled = json!({ "command": { "kind": "activity_scheduled", "activity": "pin-point", "queue": "site:b" } });
        let finished = json!({ "inbound": { "kind": "activity_finished", "of": 0, "result": { "outcome": "completed" } } });
        History::read(&json!({ "events": [event(0, 1, "old", &scheduled), event(1, 2, "new", &finished)] })).expect("well formed")
    }

    #[test]
    fn an_activity_is_named_where_it_ends() {
        let history = history();
        let words: Vec<_> = history.events.iter().filter_map(|event| history.words(event)).collect();
        assert_eq!(words, ["pin-point waits for site:b", "pin-point is done"]);
    }

    #[test]
    fn a_recorded_fact_is_found_by_its_name() {
        let chosen = json!({ "fact": "point_chosen", "chosen": { "point": 7, "taken_at": "2026-11-22T23:47:50Z" } });
        let change = json!({ "item": "db9", "fact": chosen, "record": { "name": "db9" } });
        let recorded = json!({ "command": { "kind": "recorded", "projection": "recovery.item", "fact": change } });
        let history = History::read(&json!({ "events": [event(0, 1, "w", &recorded)] })).expect("well formed");
        assert_eq!(history.fact("point_chosen"), Some(&chosen));
        let words = history.words(&history.events[0]);
        assert_eq!(words.as_deref(), Some("point 7 of 2026-11-22T23:47:50Z is chosen"));
    }

    #[test]
    fn each_epoch_has_its_owner() {
        let owners: Vec<_> = history().tenures().into_iter().map(|t| (t.run_epoch, t.worker, t.first_seq)).collect();
        assert_eq!(owners, [(1, "old".to_owned(), 0), (2, "new".to_owned(), 1)]);
    }
}
