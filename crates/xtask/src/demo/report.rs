//! The closing report: what happened when, what it cost, and what others saw of it.

use std::path::Path;

use super::acts::home::Homecoming;
use super::acts::{Cut, Disaster, Failover};
use super::clock::Moment;
use super::history::History;
use super::outside::{Inventory, Sighting};
use super::run::{KILL_AT, Killed};

/// Prints all of it.
pub(crate) fn print(disaster: &Disaster, failover: &Failover, cut: &Cut, home: &Homecoming, seen: &[Sighting]) {
    let told = [
        (disaster.at, "QEMU is killed, the site is cut off"),
        (failover.requested_at, "the failover is asked for"),
        (failover.answered_at, "the guest has answered at site B"),
    ];
    timeline(disaster.at, &told, &failover.killed, &failover.history);
    println!("\nCost");
    let measured = failover.history.fact("measured");
    let ms = |key: &str| measured.and_then(|fact| fact[key].as_f64()).map_or("?".to_owned(), |ms| format!("{:.1} s", ms / 1000.0));
    let down = failover.answered_at.seconds_after(disaster.at);
    let asked = failover.answered_at.seconds_after(failover.requested_at);
    println!("  RTO actual   {:>9}   by the product: from the request until it served", ms("rto_actual_ms"));
    println!("               {asked:>7.1} s   seen here: from the request until we had its answer; down for {down:.1} s in all");
    println!("  RPO actual   {:>9}   by the product: from the point until the request", ms("rpo_actual_ms"));
    println!("  records      {:>9}   kept, 0 bad; the last one was written {} the point", cut.kept, around(cut.last_kept_s));
    println!("               {:>9}   lost (at least); the first one was written {} the point", cut.lost, around(cut.first_lost_s));
    let bytes: u64 = disaster.points.iter().map(|point| point.bytes).sum();
    println!("  replication  {:>5} KiB   for {} points of a disk of 512 MiB", bytes / 1024, disaster.points.len());
    coming_home(home, disaster.at);
    owners(&failover.run, &failover.history);
    outside(disaster.at, failover, seen);
}

fn coming_home(home: &Homecoming, death: Moment) {
    let Homecoming { back_bytes, forth_bytes, disk_bytes, down_s, home_at, verified } = home;
    println!("\nThe way home");
    println!("  reprotect    {:>5} KiB   over the line, of {} MiB; and {} KiB to be protected again", back_bytes / 1024, disk_bytes >> 20, forth_bytes / 1024);
    println!("  failback     {down_s:>7.1} s   from the request until it answered at home; nothing lost");
    println!("  in all       {:>7.1} s   from the site's death until the machine was home; {} records, {} bad", home_at.seconds_after(death), verified.records, verified.bad);
}

/// By the guest's clock, which agrees with ours within some milliseconds: what was written at the very point may seem late.
fn around(seconds_after: f64) -> String {
    format!("{:.2} s {}", seconds_after.abs(), if seconds_after < 0.0 { "before" } else { "after" })
}

/// The run's events and what was done to it, in seconds after the source's death.
pub(crate) fn timeline(death: Moment, told: &[(Moment, &str)], killed: &[Killed], history: &History) {
    println!("\nTimeline, in seconds after the source's death");
    let mut lines: Vec<(Moment, String)> = told.iter().map(|(at, what)| (*at, (*what).to_owned())).collect();
    lines.extend(killed.iter().map(|killed| (killed.at, format!("✗ {}", killed.what))));
    for event in &history.events {
        lines.extend(history.words(event).map(|words| (event.at, format!("epoch {} · {words}", event.run_epoch))));
    }
    lines.sort_by_key(|(at, _)| *at);
    for (at, what) in lines {
        println!("  {:>7.2}  {what}", at.seconds_after(death));
    }
}

/// Which worker held the run when.
pub(crate) fn owners(run: &str, history: &History) {
    println!("\nWho carried out run {run}");
    for tenure in history.tenures() {
        let (epoch, worker) = (tenure.run_epoch, &tenure.worker);
        println!("  run epoch {epoch}   worker {worker}   wrote events {} to {}", tenure.first_seq, tenure.last_seq);
    }
    println!("  (the killer waited for the event that schedules {KILL_AT})");
}

/// Nothing here was told by the product.
fn outside(death: Moment, failover: &Failover, seen: &[Sighting]) {
    println!("\nSeen from outside: libvirt's events at both sites, in seconds after its death");
    for Sighting { site, at, said } in seen {
        println!("  {:>7.2}  {site}  {said}", at.seconds_after(death));
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
