//! The sections of the page, the verdict first.

use chrono::{DateTime, Utc};

use super::{grouped, text};
use crate::{
    PublicKey,
    report::{
        Against, CheckShown, CleanUp, Judgement, Kind, Recorded, Recovery, Report, RunShown, Step,
        steps::{StepResult, between_ms},
        words::{span, subject},
    },
};

pub(super) fn all(report: &Report, key: PublicKey) -> String {
    let parts = [
        head(report),
        verdict(report),
        figures(report),
        origin(report),
        recoveries(report),
        checks(report),
        isolation(report),
        clean_up(report),
        recorded(report),
        deviations(report),
        steps(report),
        items(report),
        runs(report, key),
        environment(report),
    ];
    parts.concat()
}

fn head(report: &Report) -> String {
    let kind = match report.kind {
        Kind::Test => "Report of a test",
        Kind::Planned => "Report of a planned failover",
        Kind::Unplanned => "Report of a failover",
        Kind::Operation => "Report of an operation",
    };
    let title = subject(&report.runs, &report.recoveries);
    format!(
        "<p class=\"brand\">Switchback · {kind}</p>\n<h1>{}</h1>\n<p class=\"soft\">{} to {} · report {}</p>\n",
        text(&title),
        time(report.time.first),
        time(report.time.last),
        text(&report.report_id)
    )
}

fn verdict(report: &Report) -> String {
    let conclusion = &report.conclusion;
    let class = match conclusion.result {
        Judgement::Passed => "good",
        Judgement::PassedWithDeviations | Judgement::Incomplete | Judgement::Running => "warn",
        Judgement::Failed => "bad",
    };
    let reasons: String = conclusion.reasons.iter().map(|reason| format!("<li>{}</li>\n", text(reason))).collect();
    let reasons = if reasons.is_empty() { reasons } else { format!("<ul>\n{reasons}</ul>\n") };
    format!(
        "<section class=\"verdict {class}\">\n<strong>{}</strong>\n<p>{}</p>\n{reasons}</section>\n",
        conclusion.result.words(),
        text(&conclusion.sentence)
    )
}

fn figures(report: &Report) -> String {
    let many = report.recoveries.len() > 1;
    let each = report.recoveries.iter().map(|recovery| {
        let of = if many { format!(" of {}", text(recovery.item.as_str())) } else { String::new() };
        let point = recovery.point.used.map_or_else(|| "none".to_owned(), |point| point.to_string());
        let promise = recovery.point.consistency.map_or_else(String::new, |promise| format!("{promise}-consistent, "));
        let age = recovery.point.age_ms.map_or_else(|| "no point was chosen".to_owned(), |age| format!("{} old at the request", span(age)));
        let point = figure(&format!("Point{of}"), &point, &format!("{promise}{age}"), "");
        let rto = against(&format!("RTO{of}"), "from the request until it served", recovery.rto);
        let rpo = against(&format!("RPO{of}"), "written before the request and not in it", recovery.rpo);
        [rto, rpo, point, fence(recovery, &of)].concat()
    });
    let each: String = each.collect();
    if each.is_empty() { each } else { format!("<section class=\"figures\">\n{each}</section>\n") }
}

fn figure(name: &str, value: &str, said: &str, class: &str) -> String {
    format!("<div class=\"figure\"><span>{name}</span><b class=\"{class}\">{}</b><span>{}</span></div>\n", text(value), text(said))
}

fn against(name: &str, meaning: &str, figure_of: Against) -> String {
    let actual = figure_of.actual_ms.map_or_else(|| "–".to_owned(), span);
    let (said, class) = match (figure_of.target_ms, figure_of.kept) {
        (Some(target), Some(true)) => (format!("{meaning}; target {}, kept", span(target)), "good"),
        (Some(target), Some(false)) => (format!("{meaning}; target {}, missed", span(target)), "bad"),
        (Some(target), None) => (format!("{meaning}; target {}", span(target)), ""),
        (None, _) => (format!("{meaning}; no target was stated"), ""),
    };
    figure(name, &actual, &said, class)
}

fn fence(recovery: &Recovery, of: &str) -> String {
    match (&recovery.fence, recovery.kind) {
        (_, Kind::Test) => figure(&format!("Production{of}"), "not touched", "the copy ran beside it, on a network of its own", ""),
        (Some(fence), _) if fence.proven => figure(&format!("Source{of}"), "fenced", "shown to be unable to write before the target started", "good"),
        (Some(_), _) => figure(&format!("Source{of}"), "not proven off", "a named person accepted that", "bad"),
        (None, _) => figure(&format!("Source{of}"), "not fenced", "the target was not started", ""),
    }
}

fn origin(report: &Report) -> String {
    let requested = &report.requested;
    let mut known = vec![
        ("Requested", format!("{} by {}", time(requested.at), requested.by)),
        ("Asked for", format!("{} with {}", requested.workflow, requested.input)),
    ];
    known.extend(requested.note.iter().map(|note| ("Note", note.clone())));
    for approval in &report.approvals {
        let said = match approval.approves {
            Some(true) => "approves",
            Some(false) => "denies",
            None => "said something that is neither yes nor no",
        };
        let why = approval.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        known.push(("Approval", format!("{} {said}, {}{why}", approval.by, time(approval.at))));
    }
    if let Some(trigger) = &report.trigger {
        let version = trigger.version.map(|version| format!(", version {version}")).unwrap_or_default();
        known.push(("Trigger", format!("policy {}{version}, evaluated by run {}", trigger.policy, trigger.run)));
        known.extend(trigger.policy_sha256.iter().map(|hash| ("Policy", format!("sha256 {hash}"))));
        known.extend(trigger.rules.iter().map(|ruled| ("Rule", format!("{} {}: {}", ruled.rule, if ruled.holds { "holds" } else { "does NOT hold" }, ruled.why))));
        known.extend(trigger.evidence_sha256.iter().map(|hash| ("Alert told by", format!("a delivery with sha256 {hash}"))));
    } else {
        known.push(("Trigger", "none in these histories".into()));
    }
    known.extend(report.previous_sha256.iter().map(|hash| ("Report before", format!("sha256 {hash}"))));
    section("Who asked, and why", &facts(&known))
}

fn recoveries(report: &Report) -> String {
    report.recoveries.iter().map(recovery).collect()
}

fn recovery(recovery: &Recovery) -> String {
    let point = &recovery.point;
    let mut known = vec![
        ("From, to", format!("{} → {}", recovery.from, recovery.to)),
        ("Point requested", point.requested.clone().unwrap_or_else(|| "none by name".into())),
        ("Point used", point.used.map_or_else(|| "none".into(), |used| used.to_string())),
    ];
    known.extend(point.taken_at.map(|at| ("Point taken", format!("{}, by the source's clock", time(at)))));
    if let Some(fence) = &recovery.fence {
        let who = fence.accepted_by.as_ref().map(|by| format!("NOT PROVEN; accepted by {by}: ")).unwrap_or_default();
        known.push(("Fence", format!("{who}{} ({})", fence.words, time(fence.at))));
    }
    known.extend(recovery.running_since.map(|at| ("Runs since", format!("{}, by the clock of {}", time(at), recovery.to))));
    known.push(("Serves", match recovery.serves {
        Some(true) => "yes: every check held".into(),
        Some(false) => "NO: its checks did not hold in time".into(),
        None => "not asked".into(),
    }));
    known.push(("Data loss", recovery.data_loss.clone()));
    section(&format!("Recovery of {}", recovery.item), &facts(&known))
}

fn checks(report: &Report) -> String {
    let row = |check: &CheckShown| {
        let asked = if check.checks.is_empty() { "that it runs".to_owned() } else { check.checks.join("\n") };
        let (class, held) = if check.held { ("good", "held") } else { ("bad", "did not hold") };
        format!(
            "<tr><td>{}</td><td>{}</td><td class=\"keep {class}\">{held}</td><td>{}</td></tr>\n",
            text(check.item.as_deref().unwrap_or("")),
            text(&asked),
            text(&check.evidence)
        )
    };
    table("Checks", &["Item", "Asked", "Result", "Answer"], report.checks.iter().map(row))
}

fn isolation(report: &Report) -> String {
    let known: Vec<(&str, String)> = report.isolation.iter().map(|proof| ("Seen", proof.evidence.clone())).collect();
    if known.is_empty() { String::new() } else { section("Isolation of the copy's network", &facts(&known)) }
}

fn clean_up(report: &Report) -> String {
    report.clean_up.iter().map(cleaned).collect()
}

fn cleaned(clean: &CleanUp) -> String {
    let mut known = vec![("Item", clean.item.to_string()), ("Result", if clean.complete { "nothing is left" } else { "NOT everything was removed" }.into())];
    known.extend(clean.steps.iter().map(|step| ("Step", step.clone())));
    let listed = |value: &Option<serde_json::Value>| value.as_ref().map_or_else(|| "not asked for by this run".to_owned(), ToString::to_string);
    known.push(("There before", listed(&clean.inventory_before)));
    known.push(("There after", listed(&clean.inventory_after)));
    section("Clean-up", &facts(&known))
}

fn recorded(report: &Report) -> String {
    let row = |recorded: &Recorded| {
        format!("<tr><td class=\"keep\">{}</td><td>{}</td><td>{}</td></tr>\n", clock(recorded.at), text(recorded.item.as_str()), text(&recorded.words))
    };
    table("Recorded of the items", &["At", "Item", "What"], report.recorded.iter().map(row))
}

fn deviations(report: &Report) -> String {
    if report.deviations.is_empty() {
        return section("Deviations", "<p>None.</p>\n");
    }
    let row = |deviation: &crate::report::Deviation| {
        format!("<tr><td class=\"keep\">{}</td><td>{}</td></tr>\n", clock(deviation.at), text(&deviation.words))
    };
    table("Deviations", &["At", "What"], report.deviations.iter().map(row))
}

fn steps(report: &Report) -> String {
    let (first, whole) = (report.time.first, between_ms(report.time.first, report.time.last).max(1));
    let row = |step: &Step| {
        let (class, result) = told(step.result);
        let why = step.why.as_ref().map(|why| format!("<br><span class=\"soft\">{}</span>", text(why))).unwrap_or_default();
        let undoes = if step.undoes { " (undoes)" } else { "" };
        let begins = between_ms(first, step.scheduled_at).min(whole) * 100 / whole;
        let lasts = (step.duration_ms.unwrap_or(0).min(whole) * 100 / whole).min(100 - begins);
        format!(
            "<tr><td class=\"number\">{}</td><td>{}{undoes}{why}</td><td class=\"keep\">{}</td><td class=\"keep\">{}</td><td class=\"number\">{}</td>\
             <td class=\"keep {class}\">{result}{}</td><td class=\"track\"><span class=\"bar {class}\" style=\"margin-left:{begins}%;width:{lasts}%\"></span></td></tr>\n",
            step.seq,
            text(&step.name),
            text(&step.actor),
            clock(step.scheduled_at),
            step.duration_ms.map_or_else(|| "–".to_owned(), span),
            step.attempts.filter(|attempts| *attempts > 1).map(|attempts| format!(", {attempts} attempts")).unwrap_or_default(),
        )
    };
    let heads = ["Event", "Step", "Where", "Asked for", "Took", "Result", ""];
    let many = report.runs.len() > 1;
    let of_run = |run: &RunShown| {
        let title = if many { format!("Steps of {} ({})", run.workflow, run.workflow_id) } else { "Steps".to_owned() };
        table(&title, &heads, report.steps.iter().filter(|step| step.run == run.run).map(row))
    };
    report.runs.iter().map(of_run).collect()
}

/// Its colour and its word.
fn told(result: StepResult) -> (&'static str, &'static str) {
    match result {
        StepResult::Open => ("warn", "open"),
        StepResult::Done => ("", "done"),
        StepResult::Failed => ("bad", "failed"),
        StepResult::TimedOut => ("bad", "timed out"),
        StepResult::Cancelled => ("warn", "cancelled"),
        StepResult::Unknown => ("bad", "unknown"),
    }
}

fn items(report: &Report) -> String {
    let row = |item: &crate::report::ItemShown| {
        format!(
            "<tr><td>{}</td><td>{}</td><td>{} → {}</td><td>{} s</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            text(item.name.as_str()),
            text(&item.machine),
            text(item.primary.as_str()),
            text(item.recovery.as_str()),
            item.interval_s,
            text(item.state_before.as_deref().unwrap_or("–")),
            text(&item.state_after),
            text(item.runs_at.as_str())
        )
    };
    table("Items", &["Item", "Machine", "Sites", "Point every", "State before", "State after", "Runs at"], report.items.iter().map(row))
}

fn runs(report: &Report, key: PublicKey) -> String {
    let row = |run: &RunShown| {
        let ended = run.ended_at.map_or_else(|| "has not ended".to_owned(), time);
        let state = format!("{:?}", run.state).to_lowercase();
        format!(
            "<tr><td>{}<br><code>{}</code></td><td class=\"keep\">{state}</td><td class=\"keep\">{}<br>{ended}</td><td class=\"number\">{}</td><td><code>{}</code></td></tr>\n",
            text(&run.workflow),
            run.run,
            time(run.began_at),
            run.events,
            text(&grouped(&run.head))
        )
    };
    let heads = ["Run", "State", "Began, ended", "Events", "Head of its chain (SHA-256)"];
    let told = format!(
        "<p>Every event of these runs is in this file, chained by hashes. The heads are signed with the key</p>\n<p><code>{}</code></p>\n\
         <p>and were noted by the agents of the sites. To check this page, without any server:</p>\n\
         <pre>switchback evidence verify THIS-FILE --key THE-KEY-YOU-WERE-GIVEN --anchors AN-AGENT'S-anchors.jsonl</pre>\n",
        text(&key.to_string())
    );
    table("Anchors", &heads, report.runs.iter().map(row)) + &told
}

fn environment(report: &Report) -> String {
    let environment = &report.environment;
    let mut known = vec![
        ("Put together by", format!("switchback {}", environment.build)),
        ("Carried out at", environment.queues.join(", ")),
        ("Lives of the database", environment.eras.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    ];
    for writer in &environment.writers {
        let epochs = writer.lease_epochs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        known.push(("Worker", format!("{} wrote {} events under lease epoch {epochs}", writer.worker, writer.events)));
    }
    known.push(("Time", report.time.source.clone()));
    format!("{}<footer>Format {} · report {}</footer>\n", section("Environment", &facts(&known)), report.schema_version, text(&report.report_id))
}

fn section(title: &str, inside: &str) -> String {
    format!("<section>\n<h2>{}</h2>\n{inside}</section>\n", text(title))
}

fn facts(known: &[(&str, String)]) -> String {
    let each: String = known.iter().map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>\n", text(name), text(value))).collect();
    format!("<dl>\n{each}</dl>\n")
}

/// A table; nothing at all if it has no rows. Rows are made of what went through [`text`].
fn table(title: &str, heads: &[&str], rows: impl Iterator<Item = String>) -> String {
    let rows: String = rows.collect();
    if rows.is_empty() {
        return rows;
    }
    let number = |head: &str| if matches!(head, "Event" | "Events" | "Took") { " class=\"number\"" } else { "" };
    let heads: String = heads.iter().map(|head| format!("<th{}>{head}</th>", number(head))).collect();
    let inside = format!("<div class=\"wide\"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n");
    section(title, &inside)
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn clock(at: DateTime<Utc>) -> String {
    at.format("%H:%M:%S%.3f").to_string()
}
