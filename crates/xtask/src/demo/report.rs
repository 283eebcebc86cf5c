//! The closing report: what happened when, what it cost, and what others saw of it.

use std::path::Path;

use super::acts::{Cut, Disaster, Failover, KILL_AT};
use super::clock::Moment;
use super::outside::{Inventory, Sighting};

/// Prints all of it.
pub(crate) fn print(disaster: &Disaster, failover: &Failover, cut: &Cut, seen: &[Sighting]) {
    timeline(disaster, failover);
    println!("\nCost");
    let measured = failover.history.fact("measured");
    let ms = |key: &str| measured.and_then(|fact| fact[key].as_f64()).map_or("?".to_owned(), |ms| format!("{:.1} s", ms / 1000.0));
    let down = failover.answered_at.seconds_after(disaster.at);
    let asked = failover.answered_at.seconds_after(failover.requested_at);
    println!("  RTO actual   {:>9}   by the product: from the request until it served", ms("rto_actual_ms"));
    println!("               {asked:>7.1} s   seen here: from the request until we had its answer; down for {down:.1} s in all");
    println!("  RPO actual   {:>9}   by the product: from the point until the request", ms("rpo_actual_ms"));
    println!("  records      {:>9}   kept, 0 bad; the last one was written {:.2} s before the point", cut.kept, -cut.last_kept_s);
    println!("               {:>9}   lost (at least); the first one was written {:.2} s after the point", cut.lost, cut.first_lost_s);
    let bytes: u64 = disaster.points.iter().map(|point| point.bytes).sum();
    println!("  replication  {:>5} KiB   for {} points of a disk of 512 MiB", bytes / 1024, disaster.points.len());
    owners(failover);
    outside(disaster, failover, seen);
}

fn timeline(disaster: &Disaster, failover: &Failover) {
    println!("\nTimeline, in seconds after the machine's death");
    let mut lines = vec![(disaster.at, "QEMU is killed, the site is cut off".to_owned())];
    lines.push((failover.requested_at, "the failover is asked for".into()));
    lines.extend(failover.killed.iter().map(|(at, what)| (*at, format!("✗ {what}"))));
    let history = &failover.history;
    for event in &history.events {
        lines.extend(history.words(event).map(|words| (event.at, format!("epoch {} · {words}", event.run_epoch))));
    }
    lines.push((failover.answered_at, "the guest has answered at site B".into()));
    lines.sort_by_key(|(at, _)| *at);
    for (at, what) in lines {
        println!("  {:>7.2}  {what}", at.seconds_after(disaster.at));
    }
}

fn owners(failover: &Failover) {
    println!("\nWho carried out run {}", failover.run);
    for tenure in failover.history.tenures() {
        let (epoch, worker) = (tenure.run_epoch, &tenure.worker);
        println!("  run epoch {epoch}   worker {worker}   wrote events {} to {}", tenure.first_seq, tenure.last_seq);
    }
    println!("  (the killer waited for the event that schedules {KILL_AT})");
}

/// Nothing here was told by the product.
fn outside(disaster: &Disaster, failover: &Failover, seen: &[Sighting]) {
    println!("\nSeen from outside: libvirt's events at both sites, in seconds after the machine's death");
    for Sighting { site, at, said } in seen {
        println!("  {:>7.2}  {site}  {said}", at.seconds_after(disaster.at));
    }
    println!("\nSeen from outside: the disks of site B");
    let mut before: Option<&Inventory> = None;
    for (when, inventory) in &failover.inventories {
        let kib: u64 = inventory.values().sum::<u64>() / 1024;
        println!("  {when}: {} files, {kib} KiB", inventory.len());
        if let Some(before) = before {
            let new = inventory.keys().filter(|path| !before.contains_key(*path)).map(|path| ('+', path));
            let gone = before.keys().filter(|path| !inventory.contains_key(*path)).map(|path| ('-', path));
            new.chain(gone).for_each(|(sign, path)| show(sign, path));
        }
        before = Some(inventory);
    }
}

fn show(sign: char, path: &Path) {
    println!("    {sign} {}", path.display());
}

/// How long something took, for the last line.
pub(crate) fn seconds_since(start: Moment) -> f64 {
    Moment::now().seconds_after(start)
}
