//! Round trips on real machines while QEMU, libvirt and the agents are killed at random moments.
//!
//!   driver: protect ─▶ (points, merges) ─▶ test failover ─▶ planned failover ─▶ commit ─▶ reprotect ─▶ failback ─▶ commit ─▶ reprotect ─▶ …
//!   killer: every second or so SIGKILL to one of them; daemons and agents are started again, a dead machine by its owner
//!
//! Nothing may be lost: each record that the guest has acknowledged is there at the end, whatever was killed when. Needs root and
//! QEMU; `SWITCHBACK_REQUIRE_KVM=1` makes their absence a failure. `SWITCHBACK_SEED` repeats the choice of victims.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test panics where its sentence does not hold")]

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use switchback_tests::{
    drive::{DATA_PORT, item, newest_at},
    lab::{Lab, kvm_or_skip},
    place::{Running, signal, wait_until, wait_until_within},
    product::Product,
};

const IP: &str = "10.1.0.19";
const MACHINE: &str = "db9";
const KILLS: u32 = 50;
const SITES: [&str; 2] = ["sitea", "siteb"];
/// Tries of an operation that fails because its site is away at the wrong moment.
const TRIES: u32 = 15;

/// A stream of numbers from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Kills until there were enough, then leaves everything running. Returns what was killed how often.
fn kill(lab: &Lab, agents: &mut [Running; 2], dice: &mut Dice, kills: &AtomicU32, stop: &AtomicBool) -> BTreeMap<String, u32> {
    let mut killed: BTreeMap<String, u32> = BTreeMap::new();
    while kills.load(Ordering::SeqCst) < KILLS && !stop.load(Ordering::SeqCst) {
        let (since, pause) = (Instant::now(), Duration::from_millis(200 + dice.roll(1500)));
        wait_until("the moment has come", || (since.elapsed() >= pause).then_some(()));
        let at = usize::from(dice.roll(2) == 1);
        let site = SITES[at];
        let victim = match dice.roll(10) {
            0..5 => {
                signal(agents[at].pid(), "KILL");
                agents[at] = lab.start_agent(&format!("agent-{site}"), site, DATA_PORT);
                "agent"
            }
            5..8 => {
                lab.kill_libvirtd(site);
                lab.restart_libvirtd(site, false);
                "libvirtd"
            }
            _ => {
                let Some((_, pid)) = SITES.iter().find_map(|site| Some((site, lab.running_qemu(site, MACHINE)?))) else { continue };
                signal(pid, "KILL");
                "QEMU"
            }
        };
        *killed.entry(format!("{victim} of {}", if victim == "QEMU" { "the machine" } else { site })).or_default() += 1;
        kills.fetch_add(1, Ordering::SeqCst);
    }
    killed
}

/// What the driver knows of the machine.
struct Driver<'a> {
    lab: &'a Lab,
    product: &'a Product,
    /// Acknowledged by the guest.
    written: u64,
}

impl Driver<'_> {
    /// Asks for an operation until it succeeds; a try that fails must leave the item in a state from which it can be tried again.
    fn done(&mut self, words: &[&str]) {
        for tried in 1..=TRIES {
            let run = wait_until("the operation is accepted", || {
                let said = self.product.say(&[&["-o", "json"], words].concat());
                assert!(said.code == 0 || said.code == 4 || said.code == 1, "{words:?}: {said:?}");
                (said.code == 0).then(|| said.json()["run"].as_str().unwrap().to_owned())
            });
            let view = wait_until_within(Duration::from_secs(300), &format!("the end of {words:?}"), || {
                self.started_if_it_died_while_it_is_waited_for(&run);
                let view = self.product.ask(&["get", "run", &run]);
                (view["state"] != "open").then_some(view)
            });
            if view["state"] == "completed" {
                return;
            }
            println!("  {words:?}, try {tried}: {}", view["problem"]["message"]);
            self.running();
        }
        panic!("{words:?} did not succeed in {TRIES} tries; the item is {}", item(self.product, MACHINE));
    }

    /// Whoever recovers a machine waits until it serves, and whoever protects it for its first point; neither starts what was killed meanwhile: its
    /// owner does.
    fn started_if_it_died_while_it_is_waited_for(&self, run: &str) {
        let events = self.product.events(run);
        let newest = events.iter().rev().find_map(|event| event["body"]["command"].as_object().filter(|command| command["kind"] == "activity_scheduled"));
        let waits = |command: &&serde_json::Map<String, Value>| command["activity"] == "check-machine" || command["activity"] == "await-first-point";
        let Some(waiting) = newest.filter(waits) else { return };
        let site = waiting["queue"].as_str().unwrap().trim_start_matches("site:").to_owned();
        if self.lab.running_qemu(&site, MACHINE).is_none() {
            drop(self.lab.try_virsh(&site, &["start", MACHINE]));
        }
    }

    /// The machine's owner starts it again where it belongs, as often as it dies, until it answers.
    fn running(&mut self) {
        let site = {
            let view = item(self.product, MACHINE);
            let side = view["record"]["state"]["active"].as_str().unwrap().to_owned();
            if side == "primary" { SITES[0] } else { SITES[1] }
        };
        let guest = self.lab.ledger(site, IP);
        let status = wait_until("the machine answers where it belongs", || {
            if self.lab.running_qemu(site, MACHINE).is_none() {
                drop(self.lab.try_virsh(site, &["start", MACHINE]));
            }
            guest.status()
        });
        assert!(status.records >= self.written, "{} records were acknowledged, {} are there", self.written, status.records);
    }

    /// Writes something and has it acknowledged.
    fn write(&mut self, count: u32) {
        for site in SITES {
            if let Some(written) = self.lab.ledger(site, IP).try_append(count) {
                self.written = self.written.max(written);
            }
        }
    }

    /// The newest point boots on a network of its own, and nothing in its ledger is bad.
    fn last_good_point_boots(&mut self) {
        self.done(&["test-failover", MACHINE]);
        let copy = item(self.product, MACHINE)["record"]["test_copy"].clone();
        let said = copy["evidence"].to_string();
        assert!(said.contains("200"), "the copy's ledger is whole: {copy}");
        self.done(&["clean-test-failover", MACHINE]);
    }

    fn points(&mut self, site: &str) {
        let before = newest_at(self.product, MACHINE, site);
        wait_until("three more points, with merges", || {
            self.running();
            self.write(3);
            (newest_at(self.product, MACHINE, site) > before + 2).then_some(())
        });
    }
}

#[test]
fn whatever_is_killed_at_fifty_random_moments_the_last_good_point_boots_and_nothing_is_lost() {
    if !kvm_or_skip("whatever_is_killed_at_fifty_random_moments_the_last_good_point_boots_and_nothing_is_lost") {
        return;
    }
    let seed = std::env::var("SWITCHBACK_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) | 1);
    println!("SWITCHBACK_SEED={seed}");
    let lab = Lab::up("kills");
    let mut product = lab.product("kills");
    for site in SITES {
        lab.enroll(&mut product, &format!("agent-{site}"), site);
    }
    let mut agents = SITES.map(|site| lab.start_agent(&format!("agent-{site}"), site, DATA_PORT));
    let guest = lab.guest(SITES[0], MACHINE, IP, 200);
    let check = format!("http://{IP}:8080/verify");
    let protect = ["protect", MACHINE, "--from", SITES[0], "--to", SITES[1], "--interval", "1s", "--retention-points", "2", "--check", &check];
    let mut driver = Driver { lab: &lab, product: &product, written: guest.append(20) };
    driver.done(&protect);
    let (kills, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let mut dice = Dice(seed);
    let (mut trips, mut killed) = (0, BTreeMap::new());
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| kill(&lab, &mut agents, &mut dice, &kills, &stop));
        let trip = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while kills.load(Ordering::SeqCst) < KILLS {
                driver.points(SITES[1]);
                driver.last_good_point_boots();
                driver.running();
                for (words, site) in [(["planned-failover", MACHINE], SITES[1]), (["failback", MACHINE], SITES[0])] {
                    driver.done(&words);
                    driver.running();
                    driver.write(5);
                    driver.done(&["commit", MACHINE]);
                    driver.running();
                    driver.done(&["reprotect", MACHINE]);
                    driver.running();
                    driver.points(if site == SITES[0] { SITES[1] } else { SITES[0] });
                }
                trips += 1;
                println!("{trips} round trip(s), {} kills, {} records", kills.load(Ordering::SeqCst), driver.written);
            }
        }));
        stop.store(true, Ordering::SeqCst);
        killed = killer.join().unwrap();
        if let Err(failed) = trip {
            std::panic::resume_unwind(failed);
        }
    });
    println!("killed: {killed:?}; {trips} round trip(s)");
    driver.running();
    driver.points(SITES[1]);
    driver.last_good_point_boots();
    let (records, bad) = lab.ledger(SITES[0], IP).verify();
    assert!(bad == 0 && records >= driver.written, "{records} records, {bad} bad, {} acknowledged", driver.written);
    assert_eq!(item(&product, MACHINE)["state"], "protected");
    assert_eq!(product.ask(&["verify"])["differences"], json!([]));
}
