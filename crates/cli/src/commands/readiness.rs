//! Whether a recovery would work now.

use std::process::ExitCode;

use anyhow::Result;
use api::{Client, items::Listed, readiness::ReadinessView};
use recovery::readiness::{Finding, Severity};

use crate::{
    arguments::Output,
    exit,
    output::{self, table, visible},
};

/// An item or a plan, judged now.
pub(super) async fn check(client: &Client, output: Output, path: &str, all: bool) -> Result<ExitCode> {
    let view: ReadinessView = client.get(path).await?;
    output::answer(output, &view, |view| told(view, all))?;
    Ok(code(view.severity))
}

/// Everything, as judged last.
pub(super) async fn overview(client: &Client, output: Output) -> Result<ExitCode> {
    let listed: Listed<ReadinessView> = client.get("/v1/readiness").await?;
    let worst = listed.items.iter().map(|view| view.severity).max().unwrap_or(Severity::Ok);
    output::answer(output, &listed, |listed| {
        let count = |view: &ReadinessView, severity| view.counts.get(&severity).copied().unwrap_or_default().to_string();
        let rows = listed.items.iter().map(|view| {
            let verified = if view.verified { "yes" } else { "no" };
            [
                view.subject.replacen(':', " ", 1),
                view.severity.to_string(),
                count(view, Severity::Critical),
                count(view, Severity::Warning),
                count(view, Severity::Unknown),
                verified.to_owned(),
                view.since.format("%F %T").to_string(),
                view.judged_at.format("%F %T").to_string(),
            ]
        });
        let heads = ["WHAT", "STANDS", "CRITICAL", "WARNINGS", "UNKNOWN", "VERIFIED", "SINCE", "JUDGED"];
        table(heads, rows, "nothing is judged: nothing is protected, or the server has just begun")
    })?;
    Ok(code(worst))
}

/// What a script asks: may I rely on it?
fn code(severity: Severity) -> ExitCode {
    match severity {
        Severity::Ok | Severity::Unknown => ExitCode::SUCCESS,
        Severity::Warning | Severity::Critical => exit::DEGRADED.into(),
    }
}

/// The worst first; what is well in one line, unless all of it is asked for.
fn told(view: &ReadinessView, all: bool) -> String {
    let verified = if view.verified { "verified" } else { "not verified" };
    let mut text = format!("{}: {}, {verified}; since {}\n", view.subject.replacen(':', " ", 1), view.severity, view.since.format("%F %T"));
    let mut findings: Vec<&Finding> = view.findings.iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in findings.iter().filter(|finding| all || finding.severity != Severity::Ok) {
        text += &format!("  {:<9} {:<13} {}\n", finding.severity, finding.check, visible(&finding.what));
        for (sign, words) in [(' ', &finding.means), ('→', &finding.next)] {
            if !words.is_empty() {
                text += &format!("  {:<23} {sign} {}\n", "", visible(words));
            }
        }
    }
    let well = findings.iter().filter(|finding| finding.severity == Severity::Ok).count();
    if !all && well > 0 {
        text += &format!("  {well} checks are well (--all shows them)\n");
    }
    text
}
