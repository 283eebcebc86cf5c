//! The evidence: what the failover did, taken away in a file and replayed where there is neither server, database nor site.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

use crate::demo::product::{Product, switchback};
use crate::demo::voice::Voice;

/// Exports a run, replays it in an empty directory, and shows that a changed byte is found.
pub(crate) fn take_away(product: &Product, dir: &Path, run: &str, voice: &mut Voice) -> Result<()> {
    voice.act("Take the history away, and replay it with no database and no site");
    let (exported, empty) = (dir.join("failover.json"), dir.join("elsewhere"));
    product.run(&["export", run, "--file", path(&exported)?])?;
    fs::create_dir(&empty)?;
    let copy = empty.join("failover.json");
    fs::copy(&exported, &copy)?;
    let key = empty.join("key");
    fs::write(&key, product.tell(&["evidence", "key"])?)?;
    let replayed = alone(&empty, &["replay", "failover.json"])?;
    ensure!(replayed.status.success(), "the history does not replay: {}", said(&replayed));
    let last = said(&replayed).lines().last().unwrap_or_default().to_owned();
    voice.say(&format!("{} KiB; every command is what the code wants again: {last}", fs::metadata(&copy)?.len() / 1024));
    let verified = alone(&empty, &["evidence", "verify", "failover.json", "--key", "key"])?;
    ensure!(verified.status.success(), "the file does not verify: {}", said(&verified));
    let mut bytes = fs::read(&copy)?;
    let place = bytes.len() / 2;
    bytes[place] ^= 1;
    fs::write(&copy, bytes)?;
    let tampered = alone(&empty, &["evidence", "verify", "failover.json", "--key", "key"])?;
    ensure!(tampered.status.code() == Some(1), "a changed byte was not found: {}", said(&tampered));
    let found = said(&tampered).lines().take(2).map(str::trim).collect::<Vec<_>>().join(" ");
    voice.say(&format!("with byte {place} changed: {found}"));
    Ok(())
}

/// Runs the program where nothing but that directory is known to it.
fn alone(dir: &Path, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(switchback());
    command.args(args).current_dir(dir).env_clear();
    command.output().with_context(|| format!("cannot run switchback {}", args.join(" ")))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}
