//! Files of histories: written, reported on, verified and replayed. Only the first two ask a server.

mod imagined;
mod replayed;

use std::{fs, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use api::{
    Client,
    evidence::{Anchor, KeyView},
};
use evidence::{Head, Opened, PublicKey, ReportCheck, Verdict, signing};
use serde::Serialize;

use crate::{
    arguments::{Export, Output, Report},
    exit, new_file, output,
    output::{facts, or_dash, visible},
    span,
};
pub(super) use replayed::replay;

/// Longest wait for a file: a large family is read, hashed and sent.
const LIMIT: Duration = Duration::from_secs(300);
/// Largest file that is read: what the most events that a file may hold come to, with room.
const LARGEST_BYTES: u64 = 2 << 30;

/// What was written where.
#[derive(Serialize)]
struct Written {
    file: String,
    bytes: usize,
    sha256: String,
}

pub(super) async fn export(client: &Client, output: Output, export: Export) -> Result<ExitCode> {
    let file = client.file(&format!("/v1/runs/{}/export", export.run), LIMIT).await?;
    opened("what the server sent", &file)?;
    written(output, export.file.as_deref(), &file)
}

pub(super) async fn report(client: &Client, output: Output, report: Report) -> Result<ExitCode> {
    let mut path = format!("/v1/runs/{}/report?form={}", report.run, if report.html { "html" } else { "json" });
    let target = |name: &str, time: Option<Duration>| time.map(|time| format!("&{name}={}", time.as_millis())).unwrap_or_default();
    path += &target("rto_target_ms", report.rto_target);
    path += &target("rpo_target_ms", report.rpo_target);
    if let Some(previous) = &report.previous {
        path += &format!("&previous_sha256={}", signing::sha256(&read(previous)?));
    }
    let file = client.file(&path, LIMIT).await?;
    let told = opened("what the server sent", &file)?.report.context("the server sent a file without a report")?;
    let told: evidence::Report = serde_json::from_value(told).context("the server's report is of another format than this build reads")?;
    if report.file.is_some() || report.html {
        return written(output, report.file.as_deref(), &file);
    }
    output::answer(output, &told, summary)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn key(client: &Client, output: Output) -> Result<ExitCode> {
    let view: KeyView = client.get("/v1/evidence/key").await?;
    output::answer(output, &view, |view| view.key.clone())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn verify(output: Output, file: &Path, key: Option<&Path>, anchors: Option<&Path>) -> Result<ExitCode> {
    let keys = key.map(read_keys).transpose()?;
    let anchors = anchors.map(read_anchors).transpose()?;
    let verdict = evidence::verify(&read(file)?, keys.as_deref(), anchors.as_deref());
    output::answer(output, &verdict, |verdict| verdict_words(file, verdict))?;
    Ok(match verdict.anchored {
        _ if !verdict.holds() => exit::FAILED.into(),
        // Anchors that know nothing of it were asked for nothing.
        Some(0) => exit::DEGRADED.into(),
        Some(_) | None => ExitCode::SUCCESS,
    })
}

/// Into a new file, or as it is on standard output.
fn written(output: Output, path: Option<&Path>, file: &[u8]) -> Result<ExitCode> {
    let Some(path) = path else {
        output::line(String::from_utf8_lossy(file).trim_end());
        return Ok(ExitCode::SUCCESS);
    };
    new_file::write(path, file)?;
    let written = Written { file: path.display().to_string(), bytes: file.len(), sha256: signing::sha256(file) };
    output::answer(output, &written, |written| format!("{}: {} bytes, sha256 {}", visible(&written.file), written.bytes, written.sha256))?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let reading = || format!("reading {}", path.display());
    let known = fs::metadata(path).with_context(reading)?;
    if !known.is_file() {
        bail!("{} is no file; nothing was read", path.display());
    }
    let bytes = known.len();
    if bytes > LARGEST_BYTES {
        bail!("{} has {bytes} bytes; no file of ours has more than {LARGEST_BYTES}", path.display());
    }
    fs::read(path).with_context(reading)
}

/// A file that holds together; otherwise what does not.
fn opened(what: &str, file: &[u8]) -> Result<Opened> {
    evidence::open(file).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{what} does not hold together: {}", faults.join("; "))
    })
}

fn read_keys(path: &Path) -> Result<Vec<PublicKey>> {
    let text = String::from_utf8(read(path)?).with_context(|| format!("reading {}", path.display()))?;
    signing::keys(&text).with_context(|| format!("reading the keys in {}", path.display()))
}

/// One anchor a line. A last line without its end was torn by a crash, and is none.
fn read_anchors(path: &Path) -> Result<Vec<Head>> {
    let text = String::from_utf8(read(path)?).with_context(|| format!("reading {}", path.display()))?;
    let mut anchors = Vec::new();
    for (at, line) in text.split_inclusive('\n').enumerate().filter(|(_, line)| line.ends_with('\n') && !line.trim().is_empty()) {
        let anchor: Anchor = serde_json::from_str(line).with_context(|| format!("line {} of {} is no anchor", at + 1, path.display()))?;
        if anchor.v > Anchor::VERSION {
            bail!("line {} of {} is of format {}, this build reads {}; use a newer switchback", at + 1, path.display(), anchor.v, Anchor::VERSION);
        }
        anchors.push(Head { run: anchor.run, events: usize::try_from(anchor.events)?, head: anchor.head });
    }
    Ok(anchors)
}

fn verdict_words(file: &Path, verdict: &Verdict) -> String {
    let mut lines = Vec::new();
    let file = visible(&file.display().to_string());
    if !verdict.faults.is_empty() {
        lines.push(format!("{file} is NOT as it was signed; do not rely on it:"));
        lines.extend(verdict.faults.iter().map(|fault| format!("  {}", visible(&fault.to_string()))));
    } else if verdict.key_known == Some(false) {
        lines.push(format!("{file} is whole, but it was signed with NONE of the keys that you named; do not rely on it:"));
    } else {
        lines.push(format!("{file} is whole: every byte is as it was signed."));
    }
    let events: usize = verdict.runs.iter().map(|run| run.events).sum();
    let mut known = vec![("runs", format!("{}, {events} events", verdict.runs.len()))];
    known.extend(verdict.report.iter().map(|report| {
        ("report", match report {
            ReportCheck::Derived => "derived again from the histories: the same".into(),
            ReportCheck::DerivedOtherwise { build } => format!("as it was signed by build {build}; this build derives another one, so compare with that build"),
            ReportCheck::Faulty => "not what was signed".into(),
        })
    }));
    let whose = match verdict.key_known {
        Some(true) => "one of the keys that you named",
        Some(false) => "none of the keys that you named",
        None => "the signature is consistent, but the key is not known here: name those that you trust with --key",
    };
    known.push(("signed by", verdict.signed_by.map_or_else(|| "nobody: the signature does not hold".into(), |key| format!("{key}, {whose}"))));
    known.push(("anchors", match verdict.anchored {
        Some(0) => "NONE of its runs was noted by that agent: this says nothing about the history; ask another agent, or wait until it has noted them".to_owned(),
        Some(held) => format!("{held} of {} runs were noted with the same head", verdict.runs.len()),
        None => "not compared: whoever owns database and key could have written another history; --anchors finds that".into(),
    }));
    format!("{}\n{}", lines.join("\n"), facts(&known))
}

/// The report in the size of a terminal.
fn summary(report: &evidence::Report) -> String {
    let conclusion = &report.conclusion;
    let mut lines = vec![format!("{}. {}", conclusion.result.words(), visible(&conclusion.sentence))];
    lines.extend(conclusion.reasons.iter().map(|reason| format!("  - {}", visible(reason))));
    let mut known = vec![("report", report.report_id.clone()), ("requested", format!("{} by {}", report.requested.at, report.requested.by))];
    for recovery in &report.recoveries {
        let figure = |figure: evidence::report::Against| {
            let told = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), span::took);
            let kept = figure.kept.map_or("", |kept| if kept { ", kept" } else { ", MISSED" });
            format!("{} (target {}{kept})", told(figure.actual_ms), told(figure.target_ms))
        };
        known.push(("recovery", format!("{} from {} to {}", recovery.item, recovery.from, recovery.to)));
        known.push(("point", format!("{}, asked for {}", or_dash(recovery.point.used), or_dash(recovery.point.requested.as_ref()))));
        known.push(("RTO", figure(recovery.rto)));
        known.push(("RPO", figure(recovery.rpo)));
        known.push(("data loss", recovery.data_loss.clone()));
    }
    known.extend(report.clean_up.iter().map(|clean| {
        ("clean-up", if clean.complete { format!("nothing is left of {}", clean.item) } else { format!("NOT everything of {} was removed", clean.item) })
    }));
    known.extend(report.deviations.iter().map(|deviation| ("deviation", deviation.words.clone())));
    known.extend(report.runs.iter().map(|run| ("run", format!("{} {}, {} events, head {}", run.run, run.workflow, run.events, run.head))));
    format!("{}\n{}", lines.join("\n"), facts(&known))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn a_torn_last_anchor_is_none_and_a_damaged_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("anchors.jsonl");
        let anchor = Anchor {
            v: 1,
            run: "01900000-0000-7002-8000-000000000000".parse().unwrap(),
            workflow: "failover".into(),
            workflow_id: "item:db9".into(),
            closed_at: chrono::DateTime::UNIX_EPOCH,
            events: 3,
            head: "00".repeat(32),
        };
        let line = serde_json::to_string(&anchor).unwrap();
        fs::write(&path, format!("{line}\n{line}\n{}", &line[..9])).unwrap();
        assert_eq!(read_anchors(&path).unwrap().len(), 2);
        fs::write(&path, format!("{line}\n{}\n", &line[..9])).unwrap();
        assert!(read_anchors(&path).unwrap_err().to_string().starts_with("line 2 of"));
        fs::write(&path, format!("{}\n", line.replace("\"v\":1", "\"v\":2"))).unwrap();
        assert!(read_anchors(&path).unwrap_err().to_string().contains("use a newer switchback"));
    }
}
