//! Chaos, and the processes that it starts of itself. `cargo xtask chaos` builds and calls it.
//!
//! ```text
//!   switchback-chaos --kills 200 [--seed 1] [--lease-seconds 3] [--json] [--keep] [--lying]
//!   switchback-chaos --store-failovers 5 --sync [--kills 10] …
//! ```
//!
//! Exit codes: 0 all of it holds, 1 something does not, 2 the command line can't be read, 3 there is no verdict.

use std::{collections::BTreeMap, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use switchback_chaos::{
    guard,
    hosts::{self, Hands},
    installation::Replicated,
    outside,
    session::{self, Options},
    submitter::Load,
};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "switchback-chaos --kills N [--store-failovers N --sync|--async] [--seed S] [--lease-seconds N] [--json] [--keep] [--lying]";
/// What a server gives an agent, and a command line a worker.
const LEASE_S: std::ops::RangeInclusive<u64> = 2..=120;
/// More would not end within a day.
const MOST_KILLS: u64 = 20_000;
/// Each takes some seconds.
const MOST_FAILOVERS: usize = 1_000;

struct Words {
    values: BTreeMap<String, String>,
    flags: Vec<String>,
}

impl Words {
    fn of(words: impl Iterator<Item = String>) -> Result<Self> {
        let (mut read, mut words) = (Self { values: BTreeMap::new(), flags: vec![] }, words.peekable());
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--") else { bail!("{word} is not understood") };
            if let Some((name, value)) = name.split_once('=') {
                read.values.insert(name.to_owned(), value.to_owned());
                continue;
            }
            match words.next_if(|next| !next.starts_with("--")) {
                Some(value) => drop(read.values.insert(name.to_owned(), value)),
                None => read.flags.push(name.to_owned()),
            }
        }
        Ok(read)
    }

    fn value(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    fn required(&mut self, name: &str) -> Result<String> {
        self.value(name).with_context(|| format!("--{name} is missing"))
    }

    fn number(&mut self, name: &str, otherwise: u64) -> Result<u64> {
        self.value(name).map_or(Ok(otherwise), |text| text.parse().with_context(|| format!("--{name} {text}")))
    }

    fn lease(&mut self) -> Result<Duration> {
        let seconds = self.number("lease-seconds", 3)?;
        if !LEASE_S.contains(&seconds) {
            bail!("a lease lives {} to {} seconds, not {seconds}", LEASE_S.start(), LEASE_S.end());
        }
        Ok(Duration::from_secs(seconds))
    }

    fn flag(&mut self, name: &str) -> bool {
        let before = self.flags.len();
        self.flags.retain(|flag| flag != name);
        self.flags.len() < before
    }

    fn finish(self) -> Result<()> {
        let left: Vec<String> = self.values.into_keys().chain(self.flags).collect();
        if left.is_empty() { Ok(()) } else { bail!("not understood: --{}", left.join(", --")) }
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    let part = words.next_if(|word| !word.starts_with("--"));
    let read = Words::of(words);
    match (part.as_deref(), read) {
        (_, Err(error)) => unreadable(&error),
        (Some("guard"), Ok(words)) => ended(watched(words)),
        (Some("ledger"), Ok(words)) => ended(ledger(words)),
        (Some("worker"), Ok(words)) => ended(worker(words)),
        (Some("agent"), Ok(words)) => ended(agent(words)),
        (Some(other), Ok(_)) => unreadable(&anyhow::anyhow!("there is no part {other}")),
        (None, Ok(mut words)) => match options(&mut words).and_then(|options| words_end(words, options)) {
            Ok((options, json)) => chaos(&options, json),
            Err(error) => unreadable(&error),
        },
    }
}

fn unreadable(error: &anyhow::Error) -> ExitCode {
    eprintln!("{error:#}\n{USAGE}");
    ExitCode::from(2)
}

fn ended(ended: Result<()>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options(words: &mut Words) -> Result<Options> {
    let failovers = usize::try_from(words.number("store-failovers", 0)?)?;
    let failovers = match (failovers, words.flag("sync"), words.flag("async")) {
        (0, false, false) => None,
        (1..=MOST_FAILOVERS, true, false) => Some((failovers, Replicated::Sync)),
        (1..=MOST_FAILOVERS, false, true) => Some((failovers, Replicated::Async)),
        _ => bail!("1 to {MOST_FAILOVERS} failovers of the store, either --sync or --async"),
    };
    // Failovers come after strikes: with some kills between them.
    let kills = match failovers {
        Some((count, _)) => words.number("kills", 2 * count as u64)?,
        None => words.required("kills")?.parse().context("--kills")?,
    };
    if kills > MOST_KILLS {
        bail!("at most {MOST_KILLS} kills");
    }
    let seed = words.number("seed", 1)?;
    let (lease, lying, keep) = (words.lease()?, words.flag("lying"), words.flag("keep"));
    Ok(Options { kills: usize::try_from(kills)?, seed, lease, lying, keep, load: Load { pulses: 12, others: 24 }, failovers })
}

fn words_end(mut words: Words, options: Options) -> Result<(Options, bool)> {
    let json = words.flag("json");
    words.finish()?;
    Ok((options, json))
}

fn watched(mut words: Words) -> Result<()> {
    let dir = words.required("dir")?;
    words.finish()?;
    guard::watch(Path::new(&dir))
}

fn ledger(mut words: Words) -> Result<()> {
    let (listen, file) = (words.required("listen")?.parse()?, words.required("file")?);
    words.finish()?;
    outside::serve(listen, Path::new(&file))
}

fn worker(mut words: Words) -> Result<()> {
    let (state, url, name) = (words.required("state-dir")?, words.required("database-url")?, words.required("name")?);
    let lease = words.lease()?;
    words.finish()?;
    runtime()?.block_on(hosts::work(Path::new(&state), url, lease, name))
}

fn agent(mut words: Words) -> Result<()> {
    let (state, ledger) = (words.required("state-dir")?, words.required("ledger")?.parse()?);
    let (lease, lying) = (words.lease()?, words.flag("lying"));
    words.finish()?;
    runtime()?.block_on(hosts::serve_site(Path::new(&state), Hands { ledger, lying }, lease))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().context("starting a runtime")
}

fn chaos(options: &Options, json: bool) -> ExitCode {
    guard::clear_leftovers();
    println!("seed {}: the plan of strikes follows from it, the order in which processes run does not", options.seed);
    let outcome = runtime().and_then(|runtime| {
        runtime.block_on(async {
            let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            tokio::select! {
                outcome = session::carried_out(options) => outcome,
                _ = term.recv() => bail!("told to stop"),
                _ = int.recv() => bail!("told to stop"),
            }
        })
    });
    match outcome {
        Ok(summary) => {
            println!("{summary}");
            if json {
                println!("{}", summary.json());
            }
            if summary.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("there is no verdict: {error:#}");
            ExitCode::from(3)
        }
    }
}
