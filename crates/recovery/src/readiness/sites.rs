//! Sites: their agents, what their hosts have left, what they know each other by.

use std::collections::BTreeSet;

use chrono::TimeDelta;

use super::{AgentFacts, AgentReport, Capacity, Facts, Finding, Severity, ago, size};
use crate::{ItemName, ItemRecord, MainState, SiteName};

/// How long before its end a certificate is told: time to plan a renewal, not only to make one.
const HORIZON: TimeDelta = TimeDelta::days(30);
/// And from when it is urgent.
const URGENT: TimeDelta = TimeDelta::days(7);
/// A report that is older says nothing about now; agents report every minute.
const STALE: TimeDelta = TimeDelta::minutes(10);
/// What a recovered machine may write before a host without space stops it: a tenth of its disks, and not less than this.
const LEAST_STORAGE: u64 = 1 << 30;
const SHARE: u64 = 10;

/// What would have to run at a site.
#[derive(Debug, Default)]
pub(super) struct Load {
    machines: usize,
    memory_bytes: u64,
    vcpus: u32,
    disks_bytes: u64,
    /// Machines whose needs nobody has told.
    unknown: Vec<String>,
    /// All of them.
    items: Vec<ItemName>,
}

impl Load {
    /// Of these items, those that do not run at the site already.
    pub(super) fn of<'a>(records: impl IntoIterator<Item = &'a ItemRecord>, site: &SiteName, facts: &Facts) -> Self {
        let mut load = Self::default();
        for record in records.into_iter().filter(|record| record.active_site() != site) {
            load.machines += 1;
            load.items.push(record.name.clone());
            load.disks_bytes += record.disks.iter().map(|disk| disk.size_bytes).sum::<u64>();
            let told = facts.agents.iter().filter_map(|agent| agent.report.as_ref()?.capacity.as_ref()?.needs.get(&record.name)).next();
            match told {
                Some(needs) => {
                    load.memory_bytes += needs.memory_bytes;
                    load.vcpus = load.vcpus.saturating_add(needs.vcpus);
                }
                None => load.unknown.push(record.name.to_string()),
            }
        }
        load
    }
}

/// The agent of a site that is connected, or the one that was heard of last.
fn agent<'a>(site: &SiteName, facts: &'a Facts) -> Option<&'a AgentFacts> {
    facts.agents.iter().filter(|agent| agent.site == *site).max_by_key(|agent| (agent.connected, agent.reported_at))
}

/// What an agent of a site has told lately.
pub(super) fn report<'a>(site: &SiteName, facts: &'a Facts) -> Option<&'a AgentReport> {
    let agent = agent(site, facts)?;
    agent.report.as_ref().filter(|_| agent.reported_at.is_some_and(|at| facts.now - at < STALE))
}

fn connected(site: &SiteName, facts: &Facts, severity: Severity, means: &str) -> Finding {
    let next = format!("See that switchback-agent runs at {site} and reaches the server.");
    match agent(site, facts) {
        Some(agent) if agent.connected => Finding::ok("agent", site, format!("agent {} of site {site} is connected", agent.name)),
        Some(agent) => {
            let since = agent.seen_at.map_or("never heard of".to_owned(), |at| format!("last heard of {} ago", ago(facts.now - at)));
            let what = format!("agent {} of site {site} is not connected, {since}", agent.name);
            Finding::bad(severity, "agent", site, [what, means.to_owned(), next])
        }
        None => Finding::bad(severity, "agent", site, [format!("site {site} has no agent"), means.to_owned(), format!("switchback agent token --site {site}")]),
    }
}

/// A site at which machines would be recovered.
pub(super) fn target(site: &SiteName, load: &Load, facts: &Facts) -> Vec<Finding> {
    let mut found = vec![connected(site, facts, Severity::Critical, "Nothing can be recovered there.")];
    let Some(report) = report(site, facts) else {
        let means = "Whether machines would find room there is not known.".to_owned();
        let next = "See that an agent of this version is connected there.".to_owned();
        found.push(Finding::bad(Severity::Unknown, "capacity", site, [format!("site {site} has not told lately what its host has"), means, next]));
        return found;
    };
    match &report.capacity {
        Some(capacity) => {
            found.extend(room(site, load, capacity));
            found.push(isolation(site, capacity));
            found.extend(networks(site, load, capacity));
        }
        None => {
            let what = format!("the hypervisor of site {site} does not say what its host has");
            let means = "Whether machines would find room there, or run at all, is not known.".to_owned();
            found.push(Finding::bad(Severity::Unknown, "capacity", site, [what, means, "Look at libvirt there.".to_owned()]));
        }
    }
    found
}

fn room(site: &SiteName, load: &Load, capacity: &Capacity) -> Vec<Finding> {
    let mut found = vec![];
    let verb = |one: &str| if load.machines == 1 { format!("1 machine {one}s") } else { format!("{} machines {one}", load.machines) };
    let mut told = |enough: bool, severity, check: &str, what: String, means: &str, next: &str| {
        found.push(if enough { Finding::ok(check, site, what) } else { Finding::bad(severity, check, site, [what, means.to_owned(), next.to_owned()]) });
    };
    let what = format!("{} {} of memory at {site}, where {} are free", verb("take"), size(load.memory_bytes), size(capacity.free_memory_bytes));
    told(load.memory_bytes <= capacity.free_memory_bytes, Severity::Critical, "memory", what, "Not all of them can be started.", "Free memory there, or add some.");
    let what = format!("{} {} processors at {site}, which has {}", verb("take"), load.vcpus, capacity.vcpus);
    told(load.vcpus <= capacity.vcpus, Severity::Warning, "processors", what, "They run slower than they do now.", "Expect that, or add processors.");
    let wanted = (load.disks_bytes / SHARE).max(if load.machines == 0 { 0 } else { LEAST_STORAGE });
    let what = format!("{} up to {} at {site}, where {} are free", verb("write"), size(load.disks_bytes), size(capacity.free_storage_bytes));
    let severity = if capacity.free_storage_bytes < LEAST_STORAGE { Severity::Critical } else { Severity::Warning };
    told(wanted <= capacity.free_storage_bytes, severity, "storage", what, "They are stopped when the space is used up.", "Free space in the agent's storage.");
    if !load.unknown.is_empty() {
        let what = format!("what these take is not known: {}", load.unknown.join(", "));
        let means = "They are not counted.".to_owned();
        found.push(Finding::bad(Severity::Unknown, "memory", site, [what, means, "See that the agents of both sites are of this version.".to_owned()]));
    }
    found
}

fn isolation(site: &SiteName, capacity: &Capacity) -> Finding {
    match &capacity.not_isolable {
        None => Finding::ok("isolation", site, format!("networks for tests can be made at {site}")),
        Some(why) => {
            let what = format!("no isolated network can be made at {site}: {why}");
            Finding::bad(Severity::Warning, "isolation", site, [what, "Test failovers and drills fail there.".to_owned(), "Correct what it says.".to_owned()])
        }
    }
}

/// Whether what the machines' network cards are connected to is there as well, under the same name.
fn networks(site: &SiteName, load: &Load, capacity: &Capacity) -> Vec<Finding> {
    let mut found = vec![];
    for (item, networks) in load.items.iter().filter_map(|item| capacity.networks.get_key_value(item)) {
        let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        if !networks.missing.is_empty() {
            let what = format!("item {item} needs {}, which {site} does not have, or which does not run", list(&networks.missing));
            let means = format!("It can't be started at {site}: a failover is put back before anything is powered on.");
            found.push(Finding::bad(Severity::Critical, "networks", site, [what, means, "Make it there under that name, and start it.".to_owned()]));
        }
        if !networks.unseen.is_empty() {
            let what = format!("item {item} needs {}; whether {site} has it is not known", list(&networks.unseen));
            let next = format!("Install libvirt's interface driver at {site} (libvirt-daemon-driver-interface), or look there.");
            found.push(Finding::bad(Severity::Unknown, "networks", site, [what, "Without it the machine can't be started there.".to_owned(), next]));
        }
    }
    if found.is_empty() {
        found.push(Finding::ok("networks", site, format!("nothing is known to be missing at {site} that machines are connected to")));
    }
    found
}

/// The site where machines run now: they are fenced there, shut down there, and come back there.
pub(super) fn way_back<'a>(site: &SiteName, away: impl IntoIterator<Item = &'a ItemRecord>, facts: &Facts) -> Vec<Finding> {
    let means = "Machines there can't be fenced or shut down: a failover is unfenced, a planned one impossible, and so is the way home.";
    let mut found = vec![connected(site, facts, Severity::Warning, means)];
    // What runs there needs no more memory there; its changes have to find room when they come back.
    if let Some(capacity) = report(site, facts).and_then(|report| report.capacity.as_ref()) {
        let disks_bytes: u64 = away.into_iter().flat_map(|record| &record.disks).map(|disk| disk.size_bytes).sum();
        let wanted = (disks_bytes / SHARE).max(LEAST_STORAGE);
        let what = format!("{} are free at {site} for what comes back", size(capacity.free_storage_bytes));
        found.push(if capacity.free_storage_bytes >= wanted {
            Finding::ok("way-back", site, what)
        } else {
            let means = format!("A reprotect to {site} may run out of space.");
            Finding::bad(Severity::Warning, "way-back", site, [what, means, "Free space in the agent's storage.".to_owned()])
        });
    }
    found
}

/// Whether agents and server are of one version.
pub(super) fn versions<'a>(sites: impl IntoIterator<Item = &'a SiteName>, facts: &Facts) -> Vec<Finding> {
    let of = |site: &'a SiteName| {
        let report = report(site, facts)?;
        let (build, server) = (&report.build, &facts.build);
        Some(if build == server {
            Finding::ok("version", site, format!("the agent of {site} is of version {build}, as the server is"))
        } else {
            let what = format!("the agent of {site} is of version {build}, the server of {server}");
            let means = "They understand each other as far as both know what is asked; nobody has tested the two together.".to_owned();
            Finding::bad(Severity::Warning, "version", site, [what, means, "Bring both to one version.".to_owned()])
        })
    };
    sites.into_iter().filter_map(of).collect()
}

/// Until when agents and server know each other.
pub(super) fn certificates<'a>(sites: impl IntoIterator<Item = &'a SiteName>, facts: &Facts) -> Vec<Finding> {
    let judged = |about: &str, whose: &str, ends: chrono::DateTime<chrono::Utc>, next: &str| {
        let left = ends - facts.now;
        if left > HORIZON {
            return Finding::ok("certificate", about, format!("the certificate of {whose} holds for {}", ago(left)));
        }
        let severity = if left <= URGENT { Severity::Critical } else { Severity::Warning };
        let how = if left <= TimeDelta::zero() { format!("has ended {} ago", ago(-left)) } else { format!("ends in {}", ago(left)) };
        let means = "Then its site is not reached, in either direction, and replicates to nobody.".to_owned();
        Finding::bad(severity, "certificate", about, [format!("the certificate of {whose} {how}"), means, next.to_owned()])
    };
    let mut found = vec![];
    for site in sites {
        for agent in facts.agents.iter().filter(|agent| agent.site == *site) {
            if let Some(ends) = agent.report.as_ref().and_then(|report| report.certificate_expires_at) {
                let next = format!("Enrol an agent for {site} anew: switchback agent token --site {site}");
                found.push(judged(site.as_str(), &format!("agent {}", agent.name), ends, &next));
            }
        }
    }
    if let Some(ends) = facts.authority_expires_at {
        found.push(judged("server", "the server's authority", ends, "Plan a new authority: every agent has to be enrolled anew with it."));
    }
    found
}

/// Whether an item takes part in a recovery to a site now.
pub(super) fn is_recovered_at(record: &ItemRecord, site: &SiteName) -> bool {
    record.state.main == MainState::Protected && record.target_site() == site
}
