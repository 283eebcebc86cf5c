//! Common moments of real machines. An oracle writes one counter across four guests, each number once the one before it is on its
//! guest's disk: 1 on the first, 2 on the second … 5 on the first again. Whatever one moment's points hold must be consecutive:
//! a number that is there while an earlier one is missing could never have been seen by anybody.

mod lab;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};

use lab::{
    End, Other,
    fleet::{Fleet, Member, until_power},
    images, other, runtime, wait_until_next_look,
};
use recovery::{Consistency, PointId, ReplicationPolicy};

/// Common moments that are looked at.
const MOMENTS: usize = 100;
/// An emulated guest on a busy host takes long to stand still.
const PAUSE_MS: u32 = 2_000;
const PATIENCE: Duration = Duration::from_secs(280);

/// Whether counters that are written in turns could never have been like that at any time.
fn torn(records: &[u64]) -> bool {
    let (first, last) = (records.first().copied().unwrap_or(0), records.last().copied().unwrap_or(0));
    records.windows(2).any(|pair| pair[0] < pair[1]) || first > last + 1
}

#[test]
fn numbers_that_are_not_consecutive_are_torn() {
    for whole in [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [5, 5, 5, 5], [6, 6, 5, 5]] {
        assert!(!torn(&whole), "{whole:?}");
    }
    for not in [[0, 1, 0, 0], [5, 5, 6, 5], [6, 5, 5, 6], [7, 6, 6, 5], [6, 6, 6, 4]] {
        assert!(torn(&not), "{not:?}");
    }
}

/// Moments of which every member's target has a point.
async fn common(fleet: &Fleet) -> BTreeMap<String, (Consistency, Vec<PointId>)> {
    let mut moments: BTreeMap<String, (Consistency, Vec<PointId>)> = BTreeMap::new();
    for member in &fleet.members {
        for point in fleet.lab.target().replica(&member.item).await.expect("there is a replica").points {
            if let Some(at) = point.group {
                let (consistency, points) = moments.entry(at.moment).or_insert((point.consistency, vec![]));
                assert_eq!(*consistency, point.consistency, "a moment is of one kind everywhere");
                points.push(point.id);
            }
        }
    }
    moments.retain(|_, (_, points)| points.len() == fleet.members.len());
    moments
}

/// How many records each member's point holds; `None` if one was pruned before it was read.
fn look(fleet: &Fleet, points: &[PointId]) -> Option<Vec<u64>> {
    let of = |(member, point): (&Member, &PointId)| {
        let dir = fleet.lab.dir(End::Target, "storage").join(member.item.as_str());
        let scratch = fleet.lab.dir(End::Target, "storage").join(".look.raw");
        images::records(&dir, *point, &member.name, &scratch)
    };
    fleet.members.iter().zip(points).map(of).collect()
}

/// What was seen over a hundred moments.
#[derive(Default)]
struct Seen {
    records: BTreeMap<String, Vec<u64>>,
    app: usize,
    pauses_ms: BTreeMap<String, u32>,
    failed: BTreeSet<String>,
}

impl Seen {
    async fn watch(fleet: &Fleet) -> Self {
        let (mut seen, deadline) = (Self::default(), Instant::now() + PATIENCE);
        let mut gone = BTreeSet::new();
        while seen.records.len() < MOMENTS {
            let status = fleet.group_status().await;
            assert!(Instant::now() < deadline, "only {} moments so far; {status:?}", seen.records.len());
            seen.pauses_ms.extend(status.last.map(|last| (last.moment, last.pause_ms)));
            seen.failed.extend(status.why_none);
            for (moment, (consistency, points)) in common(fleet).await {
                if seen.records.contains_key(&moment) || gone.contains(&moment) {
                    continue;
                }
                let Some(records) = look(fleet, &points) else {
                    gone.insert(moment);
                    continue;
                };
                assert!(!torn(&records), "moment {moment} ({consistency:?}) is torn: {records:?}");
                seen.app += usize::from(consistency == Consistency::App);
                seen.records.insert(moment, records);
            }
            wait_until_next_look().await;
        }
        println!("{} moments were pruned before they were looked at", gone.len());
        seen
    }

    /// In the order of what was written.
    fn in_order(&self) -> Vec<&Vec<u64>> {
        let mut records: Vec<&Vec<u64>> = self.records.values().collect();
        records.sort();
        records
    }

    fn tell(&self, written: u64) {
        let mut pauses: Vec<u32> = self.pauses_ms.values().copied().collect();
        pauses.sort_unstable();
        let at = |share: usize| pauses[(pauses.len() - 1) * share / 100];
        println!(
            "{} common moments of 4 machines under load, {} of them app-consistent, none torn; {written} numbers written",
            self.records.len(),
            self.app
        );
        println!("pause in ms over {} moments: least {}, half {}, 90 % {}, 99 % {}, most {}", pauses.len(), at(0), at(50), at(90), at(99), at(100));
        println!("tries without a moment: {:?}", self.failed);
    }
}

#[test]
fn no_common_moment_of_four_machines_under_load_is_ever_torn() {
    runtime().block_on(async {
        let Some(fleet) = Fleet::new("no_common_moment_is_ever_torn", 4) else { return };
        let group = fleet.group(1, 8, PAUSE_MS).with_app_consistent(Some(20)).expect("now and then a moment is app-consistent");
        let policy = ReplicationPolicy::new(1, 16, 3600, None).expect("the policy is within its limits");
        fleet.protect(&group, &policy).await;
        let oracle = fleet.oracle();
        let seen = Seen::watch(&fleet).await;
        let written = oracle.end();
        seen.tell(written);
        assert!(seen.app > 0, "some moments are app-consistent");
        assert!(seen.pauses_ms.values().all(|pause| *pause <= PAUSE_MS), "{:?}", seen.pauses_ms);
        // The same eyes see what is torn: one machine at one moment, the others at the next.
        let mixed = |pair: &[&Vec<u64>]| torn(&[&pair[0][..1], &pair[1][1..]].concat());
        assert!(seen.in_order().windows(2).filter(|pair| mixed(pair)).count() > MOMENTS / 2, "the counter moves between moments");
        // The group goes on: without its agent nobody pauses anything, and all run.
        fleet.lab.close(End::Source);
        until_power(&fleet, "running");
        assert_eq!(owed(&fleet), 0);
    });
}

#[test]
fn the_agent_that_is_killed() {
    other::agent_until_killed();
}

fn owed(fleet: &Fleet) -> usize {
    fs::read_dir(fleet.lab.dir(End::Source, "agent").join("paused")).expect("it can be listed").count()
}

#[test]
fn an_agent_that_dies_while_machines_are_paused_leaves_them_to_the_next_one() {
    runtime().block_on(async {
        let Some(fleet) = Fleet::new("an_agent_that_dies_while_machines_are_paused", 2) else { return };
        let policy = ReplicationPolicy::new(1, 16, 3600, None).expect("the policy is within its limits");
        fleet.protect(&fleet.group(1, 4, 5_000), &policy).await;
        fleet.lab.close(End::Source);
        until_power(&fleet, "running");
        let killed = Other::stopped_before("unpause", "the_agent_that_is_killed", fleet.lab.config(End::Source), ());
        let paused: Vec<&Member> = fleet.members.iter().filter(|member| fleet.power(member) == "paused").collect();
        assert!(!paused.is_empty() && owed(&fleet) >= paused.len(), "{} paused, {} owed", paused.len(), owed(&fleet));
        killed.kill();
        assert_eq!(fleet.power(paused[0]), "paused", "nothing else ends it");
        fleet.lab.open(End::Source);
        until_power(&fleet, "running");
        lab::wait_until("nothing to be owed", || (owed(&fleet) == 0).then_some(()));
        let before = fleet.group_status().await.last.map(|last| last.moment);
        let deadline = Instant::now() + PATIENCE;
        while fleet.group_status().await.last.map(|last| last.moment) == before {
            assert!(Instant::now() < deadline, "no moment after it: {:?}", fleet.group_status().await);
            wait_until_next_look().await;
        }
    });
}

#[test]
fn a_machine_that_somebody_has_paused_stays_paused() {
    runtime().block_on(async {
        let Some(fleet) = Fleet::new("a_machine_that_somebody_has_paused_stays_paused", 2) else { return };
        let policy = ReplicationPolicy::new(1, 16, 3600, None).expect("the policy is within its limits");
        fleet.protect(&fleet.group(1, 4, 5_000), &policy).await;
        let deadline = Instant::now() + PATIENCE;
        let says = |why: &String| why.contains("somebody has paused it");
        while !fleet.group_status().await.why_none.as_ref().is_some_and(says) {
            assert!(Instant::now() < deadline, "{:?}", fleet.group_status().await);
            // In the very moment in which it is held anyway it has to be done again.
            fleet.lab.virsh(End::Source, &["suspend", &fleet.members[1].name]);
            wait_until_next_look().await;
        }
        assert_eq!((fleet.power(&fleet.members[0]).as_str(), fleet.power(&fleet.members[1]).as_str()), ("running", "paused"));
        let before = fleet.status(&fleet.members[0]).await.last_point;
        while fleet.status(&fleet.members[0]).await.last_point == before {
            assert!(Instant::now() < deadline, "the other one goes on alone");
            wait_until_next_look().await;
        }
        fleet.lab.virsh(End::Source, &["resume", &fleet.members[1].name]);
    });
}
