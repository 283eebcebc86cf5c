//! Arguments of what is done with histories: export, report, verify, replay.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use evidence::what_if::WhatIf;
use sdk::{RunId, Seq};

use super::run_id;
use crate::span;

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Which run; those that began it and those that it began come along.
    #[arg(value_parser = run_id)]
    pub(crate) run: RunId,
    /// Into this file, which must not exist [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Without --file the report is told on standard output: for people, as JSON with -o json, as a page with --html.
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Which run; those that began it and those that it began come along.
    #[arg(value_parser = run_id)]
    pub(crate) run: RunId,
    /// As one HTML page that carries the signed file.
    #[arg(long)]
    pub(crate) html: bool,
    /// Into this file, signed; it must not exist.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// How long a recovery may take, from the request until it serves.
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub(crate) rto_target: Option<Duration>,
    /// How old the point may be at the request.
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub(crate) rpo_target: Option<Duration>,
    /// The file of the report before this one; its SHA-256 goes into this one.
    #[arg(long, value_name = "FILE")]
    pub(crate) previous: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EvidenceCommand {
    /// Prints the key by which files of this server are checked; keep it where the files are not.
    Key,
    /// Checks an export or a report, JSON or HTML, without a server: every byte, every chain, the signature. Exit code 1: something is
    /// not as it was signed, or not by a key that you named.
    Verify {
        /// The file.
        file: PathBuf,
        /// Keys that you trust, a line each, as `switchback evidence key` printed them.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// What an agent has noted: its anchors.jsonl, or what `switchback-agent anchors` printed.
        #[arg(long, value_name = "FILE")]
        anchors: Option<PathBuf>,
    },
}

/// Needs no server. Exit code 1: the file is not whole, or the workflows of this build want something else than it holds.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// An export or a report.
    pub(crate) file: PathBuf,
    /// Shows every item and every step as they were right behind an event.
    #[arg(long, value_name = "[RUN:]EVENT", value_parser = place, conflicts_with_all = ["step", "what_if"])]
    pub(crate) at: Option<Place>,
    /// Steps through the events by hand.
    #[arg(long, conflicts_with = "what_if")]
    pub(crate) step: bool,
    /// Runs on from a step as if it had ended otherwise: 'step=NAME fails', 'step=NAME times-out', 'step=NAME#2 fails-once: CODE'.
    #[arg(long, value_name = "STEP")]
    pub(crate) what_if: Option<WhatIf>,
}

/// An event of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Nothing: the run that the file is about.
    pub(crate) run: Option<RunId>,
    pub(crate) seq: Seq,
}

fn place(text: &str) -> Result<Place, String> {
    let (run, seq) = match text.rsplit_once(':') {
        Some((run, seq)) => (Some(run_id(run)?), seq),
        None => (None, text),
    };
    let seq = seq.parse().map_err(|error| format!("{seq:?} is no number of an event: {error}"))?;
    Ok(Place { run, seq: Seq(seq) })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_event_of_a_run() {
        let run = "01900000-0000-7002-8000-000000000000";
        assert_eq!(place("7").unwrap(), Place { run: None, seq: Seq(7) });
        assert_eq!(place(&format!("{run}:7")).unwrap(), Place { run: Some(run.parse().unwrap()), seq: Seq(7) });
        assert!(place("").is_err() && place("x:7").is_err() && place(run).is_err());
    }
}
