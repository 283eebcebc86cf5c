//! One plan: its machines together, and what it does beside them.

use super::{
    Facts, Finding, ItemFacts, PlanFacts, Severity, StepFacts, ago, changes_since, fingerprint,
    item::{builds, judge_item},
    people,
    sites::{self, Load},
    Fingerprint,
};
use crate::{
    ItemName, ItemRecord, PointChoice,
    plan::{At, Mode},
};

/// A test is good for half a year.
const TEST_DAYS: i64 = 183;

/// What there is to say of a plan. `items` are those that are known of its machines.
#[must_use]
pub fn judge_plan(plan: &PlanFacts, items: &[ItemFacts], facts: &Facts) -> Vec<Finding> {
    let members: Vec<&ItemFacts> = items.iter().filter(|item| plan.items.contains(&item.record.name)).collect();
    let mut found = missing(plan, &members);
    for item in &members {
        // What is the same for all machines of a site is said once, below.
        let own = |finding: &Finding| finding.about == item.record.name.as_str();
        // And the plan's own tests count, not drills of single machines.
        found.extend(judge_item(item, facts).into_iter().filter(|finding| own(finding) && finding.check != "verified"));
        found.extend(loss(plan, item, facts));
        found.extend(place(plan, item));
    }
    let moved = members.iter().map(|item| &item.record).filter(|record| sites::is_recovered_at(record, &plan.to));
    found.extend(sites::target(&plan.to, &Load::of(moved.clone(), &plan.to, facts), facts));
    found.extend(sites::way_back(&plan.from, moved, facts));
    found.extend(sites::versions([&plan.from, &plan.to], facts));
    found.extend(sites::certificates([&plan.from, &plan.to], facts));
    found.extend(group_points(plan, &members));
    found.extend(plan.steps.iter().flat_map(|step| actions(plan, step, facts)));
    found.extend(plan.asks.iter().map(|ask| people::asked(ask, facts)));
    found.push(verified(plan, &members, facts));
    found
}

fn missing(plan: &PlanFacts, members: &[&ItemFacts]) -> Vec<Finding> {
    let known = |item: &&ItemName| members.iter().any(|member| member.record.name == **item);
    let unknown = plan.items.iter().filter(|item| !known(item));
    unknown
        .map(|item| {
            let means = "The plan fails at it.".to_owned();
            Finding::bad(Severity::Critical, "items", item, [format!("item {item} is not known"), means, format!("switchback protect {item}, or take it out of the plan")])
        })
        .collect()
}

fn loss(plan: &PlanFacts, item: &ItemFacts, facts: &Facts) -> Option<Finding> {
    let target = plan.rpo_target?;
    let name = &item.record.name;
    let app = matches!(plan.point, PointChoice::LatestAppConsistent | PointChoice::LatestMultiVmAppConsistent);
    let chosen = item.points.iter().filter(|point| !point.withdrawn && (!app || point.consistency == crate::Consistency::App));
    let age = facts.now - chosen.map(|point| point.taken_at).max()?;
    let what = format!("the point of {name} that this plan takes is {} old; at most {target} may be lost", ago(age));
    if age <= target.delta() {
        return Some(Finding::ok("rpo-target", name, what));
    }
    let next = if app { "Take app-consistent points more often, or another point in the plan." } else { "Look how its replication goes." };
    Some(Finding::bad(Severity::Critical, "rpo-target", name, [what, "More than that would be lost.".to_owned(), next.to_owned()]))
}

fn place(plan: &PlanFacts, item: &ItemFacts) -> Option<Finding> {
    let record = &item.record;
    let sites = [&record.primary, &record.recovery];
    (!sites.contains(&&plan.from) || !sites.contains(&&plan.to)).then(|| {
        let what = format!("item {} is replicated between {} and {}", record.name, record.primary, record.recovery);
        let means = format!("A plan from {} to {} can't move it.", plan.from, plan.to);
        Finding::bad(Severity::Critical, "sites", &record.name, [what, means, "Take it out of the plan, or protect it between these sites.".to_owned()])
    })
}

/// Whether machines of replication groups have a moment in common, if the plan asks for one.
fn group_points(plan: &PlanFacts, members: &[&ItemFacts]) -> Option<Finding> {
    let app = match plan.point {
        PointChoice::LatestMultiVmProcessed => crate::Consistency::Crash,
        PointChoice::LatestMultiVmAppConsistent => crate::Consistency::App,
        PointChoice::Latest | PointChoice::LatestProcessed | PointChoice::LatestAppConsistent | PointChoice::Exact(_) => return None,
    };
    let mut groups = std::collections::BTreeMap::new();
    for item in members {
        let of = item.points.iter().filter_map(|point| point.group.as_ref()).map(|moment| moment.group.clone()).next_back();
        if let Some(group) = of {
            groups.entry(group).or_insert_with(Vec::new).push((item.record.name.clone(), item.points.clone()));
        }
    }
    let next = "Make a replication group of the machines that belong together.".to_owned();
    if groups.is_empty() {
        let what = "no machine of this plan is in a replication group".to_owned();
        return Some(Finding::bad(Severity::Warning, "common-points", &plan.name, [what, "Each takes its own point.".to_owned(), next]));
    }
    let without: Vec<String> =
        groups.iter().filter_map(|(group, of)| crate::common_points(group, of, app).err().map(|why| format!("group {group}: {why}"))).collect();
    Some(if without.is_empty() {
        Finding::ok("common-points", &plan.name, format!("all {} replication groups have points in common", groups.len()))
    } else {
        let means = "The plan fails at these groups, or takes other points than it says.".to_owned();
        Finding::bad(Severity::Critical, "common-points", &plan.name, [without.join("; "), means, "Look how the group's replication goes.".to_owned()])
    })
}

/// Whether an action's site has what it takes, and whether it can be done when the source is dead.
fn actions(plan: &PlanFacts, step: &StepFacts, facts: &Facts) -> Vec<Finding> {
    let StepFacts { name, does, modes, at, needs } = step;
    let mut found = vec![];
    if *at == At::Source && modes.contains(&Mode::Unplanned) {
        let what = format!("{name} ({does}) is carried out at {}, also when that site is lost", plan.from);
        let means = "In an unplanned failover nobody picks it up: it fails after its time.".to_owned();
        found.push(Finding::bad(Severity::Warning, "needs-source", name, [what, means, "Say `on: [planned]`, or let it be done at the target.".to_owned()]));
    }
    // Back and forth both sites carry it out.
    let forth = modes.iter().any(|mode| *mode != Mode::Failback);
    let back = modes.contains(&Mode::Failback);
    let (here, there) = if *at == At::Target { (&plan.to, &plan.from) } else { (&plan.from, &plan.to) };
    let sites = [here].into_iter().filter(|_| forth).chain([there].into_iter().filter(|_| back));
    for site in sites {
        let Some(report) = sites::report(site, facts) else {
            let nothing = needs.secrets.is_empty() && needs.command.is_none() && !needs.ssh;
            if !nothing {
                let what = format!("whether site {site} has what {name} ({does}) takes is not known");
                let next = "See that an agent of this version is connected there.".to_owned();
                found.push(Finding::bad(Severity::Unknown, "action", name, [what, "It may fail.".to_owned(), next]));
            }
            continue;
        };
        let known = &report.actions;
        let mut lacks: Vec<String> = needs.secrets.iter().filter(|secret| !known.secrets.contains(secret.as_str())).map(|secret| format!("secret {secret}")).collect();
        lacks.extend(needs.command.iter().filter(|command| !known.commands.contains(command.as_str())).map(|command| format!("command {command}")));
        lacks.extend((needs.ssh && !known.ssh).then(|| "a client of OpenSSH".to_owned()));
        found.push(if lacks.is_empty() {
            Finding::ok("action", name, format!("site {site} has what {name} ({does}) takes"))
        } else {
            let what = format!("site {site} lacks {} for {name} ({does})", lacks.join(", "));
            let next = "Look there with `switchback-agent actions check`.".to_owned();
            Finding::bad(Severity::Critical, "action", name, [what, "It fails.".to_owned(), next])
        });
    }
    found
}

impl PlanFacts {
    /// What a test of this plan is made with: its text, its machines, the agents of both sites.
    #[must_use]
    pub fn fingerprint<'a>(&self, records: impl IntoIterator<Item = &'a ItemRecord>, facts: &Facts) -> Fingerprint {
        let mut all = Fingerprint::default().with("plan", self.sha256.clone());
        for record in records.into_iter().filter(|record| self.items.contains(&record.name)) {
            for (part, value) in fingerprint(record).0 {
                all = all.with(&format!("{}: {part}", record.name), value);
            }
        }
        builds([&self.from, &self.to], facts).into_iter().fold(all, |all, (part, build)| all.with(&part, build))
    }
}

fn verified(plan: &PlanFacts, members: &[&ItemFacts], facts: &Facts) -> Finding {
    let next = format!("switchback plan test-failover {0}, then switchback plan clean-test-failover {0}", plan.name);
    let bad = |what: String, means: &str| Finding::bad(Severity::Warning, "verified", &plan.name, [what, means.to_owned(), next.clone()]);
    let Some(verified) = &plan.verified else {
        return bad(format!("no test of plan {} has passed", plan.name), "Nobody has seen it work.");
    };
    let changes = changes_since(&verified.fingerprint, &plan.fingerprint(members.iter().map(|item| &item.record), facts));
    let age = facts.now - verified.at;
    if !changes.is_empty() {
        let what = format!("since the last test of plan {}, {} ago, something has changed: {}", plan.name, ago(age), changes.join("; "));
        return bad(what, "What was rehearsed is not what would be recovered.");
    }
    if age > chrono::TimeDelta::days(TEST_DAYS) {
        return bad(format!("the last test of plan {} that passed was {} ago; a test is recommended", plan.name, ago(age)), "What worked then may not work now.");
    }
    Finding::ok("verified", &plan.name, format!("a test of plan {} has passed {} ago, and nothing has changed since", plan.name, ago(age)))
}
