//! What was recorded of items beside their way from state to state: what was asked and answered, agreed to, kept, changed, contradicted.
//!
//! Invariants: 1. Every kind of fact stands in a report, here or in the part that its arm names. 2. The words of people and sites stand as they
//! were recorded.

use chrono::{DateTime, Utc};
use recovery::{Fact, Group, ItemName, OldMachine, ReplicationPolicy, Resync};
use sdk::{Command, EventBody, History, RunId, Seq};
use serde::{Deserialize, Serialize};
use workflows::{ITEM_PROJECTION, ItemChange};

use super::words::span;

/// Something that became true of an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// In which run.
    pub run: RunId,
    /// Its event.
    pub seq: Seq,
    /// When.
    pub at: DateTime<Utc>,
    /// Of which item.
    pub item: ItemName,
    /// What, in words.
    pub words: String,
}

/// What a history recorded, in order.
pub(super) fn of(history: &History) -> Vec<Recorded> {
    let recorded = history.events.iter().filter_map(|stored| match &stored.event.body {
        EventBody::Command(Command::Recorded { projection, fact }) if projection == ITEM_PROJECTION => {
            let change: ItemChange = serde_json::from_value(fact.clone()).ok()?;
            let (seq, at) = (stored.event.seq, stored.event.at);
            words(&change.fact).map(|words| Recorded { run: history.run, seq, at, item: change.item, words })
        }
        EventBody::Command(_) | EventBody::Inbound(_) => None,
    });
    recorded.collect()
}

fn words(fact: &Fact) -> Option<String> {
    Some(match fact {
        // The items, and their states before and after.
        Fact::ItemRegistered { .. } | Fact::Moved { .. } => return None,
        // The recoveries: points, figures, fences.
        Fact::PointChosen { .. } | Fact::FenceProven { .. } | Fact::MachineRunning { .. } | Fact::Measured { .. } => return None,
        // The deviations.
        Fact::UnfencedAccepted { .. } => return None,
        // The environment has the era; a copy and its clean-up are parts of their own.
        Fact::Granted { .. } | Fact::TestFailoverIs { .. } => return None,
        Fact::DisksFound { disks } => {
            let each = disks.iter().map(|disk| format!("{} of {} bytes", disk.name, disk.size_bytes)).collect::<Vec<_>>().join(", ");
            format!("its machine has {each}")
        }
        Fact::PointRequested { requested } => {
            let first = if requested.shut_down { "; the source is asked to shut down first and to send the rest" } else { "" };
            format!("point {} was asked for at {}{first}", requested.choice, time(requested.at))
        }
        Fact::SourceAsked { sent: Some(sent), evidence } => format!("the source was asked to shut down first, and sent point {sent}: {evidence}"),
        Fact::SourceAsked { sent: None, evidence } => format!("the source was asked to shut down first, and no point came of it: {evidence}"),
        Fact::TakenUp { generation, chosen } => {
            format!("a machine was found running that a failover of generation {generation} had started from point {}, of which the database had lost what it knew; it was taken up", chosen.point)
        }
        Fact::PointSettled { looked_for, why } => format!("point {looked_for} is looked for: {why}"),
        Fact::PointsWithdrawn { up_to } => format!("its points up to {up_to} were given up; none of them is offered again"),
        Fact::OldMachineIs { old_machine } => match old_machine {
            OldMachine::None => "the machine that it was failed over from is gone".to_owned(),
            OldMachine::Off => "the machine that it was failed over from exists and does not run".to_owned(),
            OldMachine::Quarantined => "the machine that it was failed over from came back, and was made unable to do harm".to_owned(),
        },
        Fact::WritesDiscarded { site, blocks: Some(blocks) } => {
            format!("its machine at {site} was discarded with what it had written: {blocks} blocks of 64 KiB were touched")
        }
        Fact::WritesDiscarded { site, blocks: None } => format!("its machine at {site} was discarded with what it had written; nobody could tell how much that was"),
        Fact::ResyncIs { resync } => match resync {
            Resync::None => "both sides are known to be the same where nothing is marked: no comparison is needed".to_owned(),
            Resync::Needed => "the tracking of changes broke: both sides have to be compared before the next point".to_owned(),
            Resync::Running => "both sides are being compared".to_owned(),
        },
        Fact::PolicyChanged { policy } => format!("it is replicated under another policy: {}", of_policy(policy)),
        Fact::Held { hold } => format!("point {} at {} was held by {} at {}: {}", hold.point, hold.site, hold.by, time(hold.at), hold.reason),
        Fact::Released { by, reason } => format!("the held point was let go by {by}: {reason}"),
        Fact::LossAccepted { by, statement } => format!("{by} agreed to lose what the chosen point loses: {statement}"),
        Fact::Contradicted { why, at } => format!("record and reality disagreed at {}: {}", time(*at), why.join("; ")),
        Fact::Resolved { rest, site, by: Some(by), reason } => format!("{by} said that it is {rest} and runs at {site}: {reason}"),
        Fact::Resolved { rest, site, by: None, reason } => format!("the sites were seen to agree that it is {rest} and runs at {site}: {reason}"),
        Fact::SourceNotGivenBack { left } => {
            let at = left.at.format("%Y-%m-%d %H:%M:%S UTC");
            format!("the failover was given up at {at} without its source at {} being given back: {}", left.site, left.why)
        }
        Fact::SourceGivenBack => "the source that was left behind was given back".to_owned(),
        Fact::Grouped { group: Some(group) } => of_group(group),
        Fact::Grouped { group: None } => "it is in no replication group any more".to_owned(),
        Fact::Forgotten { by, at, left_behind } if left_behind.is_empty() => format!("{by} had it forgotten at {}: nothing of it was left", time(*at)),
        Fact::Forgotten { by, at, left_behind } => {
            let sites = left_behind.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            format!("{by} had it forgotten at {}, with what may be left of it at {sites}", time(*at))
        }
    })
}

fn of_policy(policy: &ReplicationPolicy) -> String {
    let app = policy.app_consistent_interval_s().map_or_else(|| "none app-consistent".to_owned(), |every| format!("app-consistent every {every} s"));
    let line = policy.bandwidth_bytes_per_s().map_or_else(|| "as fast as the line".to_owned(), |most| format!("at most {most} bytes/s"));
    let (every, keeps, window) = (policy.interval_s(), policy.retention_points(), policy.retention_window_s());
    let told = policy.rpo_threshold_s().map_or_else(String::new, |age| format!("; told of when the newest is {age} s old"));
    let change = policy.change_window_s().map_or_else(String::new, |window| format!("; {window} s to change a failover's point"));
    format!("a point every {every} s, {app}; {keeps} of them in {window} s are kept; {line}{told}{change}")
}

fn of_group(group: &Group) -> String {
    let members = group.members().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let app = group.app_consistent_interval_s().map_or_else(|| "none app-consistent".to_owned(), |every| format!("app-consistent every {every} s"));
    let (every, keeps, window, pause) = (group.interval_s(), group.keep_moments(), group.window_s(), span(group.max_pause_ms().into()));
    format!(
        "it is in replication group {} with {members}: a common moment every {every} s, {app}; {keeps} of them in {window} s are kept; guests pause for at most {pause}",
        group.name()
    )
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn what_people_agreed_to_kept_changed_and_settled_is_told_in_words() {
        let at = "2026-11-23T04:00:00Z";
        let policy = r#"{"interval_s":5,"retention_points":8,"retention_window_s":3600,"app_consistent_interval_s":60}"#;
        let group = r#"{"name":"shop","members":["db1","web"],"interval_s":30,"keep_moments":4,"window_s":3600,"app_consistent_interval_s":null,"max_pause_ms":2000}"#;
        let facts = [
            r#"{"fact":"loss_accepted","by":"ada","statement":"42 s of db1 (ransomware)"}"#.to_owned(),
            format!(r#"{{"fact":"held","hold":{{"point":7,"site":"b","by":"ada","reason":"the court asks","at":"{at}"}}}}"#),
            r#"{"fact":"released","by":"bob","reason":"the court is done"}"#.to_owned(),
            format!(r#"{{"fact":"policy_changed","policy":{policy}}}"#),
            r#"{"fact":"resync_is","resync":"needed"}"#.to_owned(),
            format!(r#"{{"fact":"contradicted","why":["it runs at both sites"],"at":"{at}"}}"#),
            r#"{"fact":"resolved","rest":"protected","site":"a","reason":"both say so"}"#.to_owned(),
            format!(r#"{{"fact":"grouped","group":{group}}}"#),
            r#"{"fact":"grouped","group":null}"#.to_owned(),
            format!(r#"{{"fact":"source_not_given_back","left":{{"site":"a","why":"a can't be reached","at":"{at}"}}}}"#),
            r#"{"fact":"source_given_back"}"#.to_owned(),
            r#"{"fact":"source_asked","sent":9,"evidence":"it shut down in 3 s"}"#.to_owned(),
            r#"{"fact":"writes_discarded","site":"b","blocks":12}"#.to_owned(),
        ];
        let told: Vec<String> = facts.iter().map(|fact| words(&serde_json::from_str(fact).unwrap_or_else(|error| panic!("{fact}: {error}"))).unwrap()).collect();
        assert_eq!(
            told,
            [
                "ada agreed to lose what the chosen point loses: 42 s of db1 (ransomware)",
                "point 7 at b was held by ada at 2026-11-23 04:00:00 UTC: the court asks",
                "the held point was let go by bob: the court is done",
                "it is replicated under another policy: a point every 5 s, app-consistent every 60 s; 8 of them in 3600 s are kept; as fast as the line",
                "the tracking of changes broke: both sides have to be compared before the next point",
                "record and reality disagreed at 2026-11-23 04:00:00 UTC: it runs at both sites",
                "the sites were seen to agree that it is protected and runs at a: both say so",
                "it is in replication group shop with db1, web: a common moment every 30 s, none app-consistent; 4 of them in 3600 s are kept; guests pause for at most 2.0 s",
                "it is in no replication group any more",
                "the failover was given up at 2026-11-23 04:00:00 UTC without its source at a being given back: a can't be reached",
                "the source that was left behind was given back",
                "the source was asked to shut down first, and sent point 9: it shut down in 3 s",
                "its machine at b was discarded with what it had written: 12 blocks of 64 KiB were touched",
            ]
        );
    }
}
