//! `cargo xtask setup`: brings what demo and tests need onto this machine, and nothing else.
//!
//!   look (< 1 s) ─▶ nothing missing: done
//!        └─▶ plan in a private copy of apt's view ─▶ show and ask ─▶ install ─▶ look again
//!
//! Invariants: 1. Nothing on the machine changes before consent (`--yes`, `CI`, or an answer). 2. Nothing is ever removed,
//! downgraded, upgraded or replaced: a plan that would is refused. 3. No service is started, restarted or stopped.
//! 4. Users, groups and package sources are announced by name.

mod apt;
mod needs;
mod parts;
mod suite;

use std::io::{BufRead, IsTerminal, Write};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::args::Args;
use crate::sh;
use apt::{Plan, View};
pub(crate) use needs::headers as has_libvirt_headers;
use needs::{Need, Remedy};

pub(crate) const USAGE: &str = "\
cargo xtask setup [--yes] [--simulated]
    Installs what demo and tests need; asks first unless --yes or CI answers. --simulated is for `demo
    --simulated` alone and leaves out QEMU and libvirt. Only adds packages, and starts no service.";

/// What the set-up is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Real machines under libvirt and QEMU.
    Real,
    /// The simulated provider: a database, and what the programs are built with.
    Simulated,
    /// What is handed out: built with its hypervisor, packed and looked at.
    Dist,
    /// All tests but those with real machines.
    Tests,
    /// All tests.
    TestsWithMachines,
}

pub(crate) fn command(mut args: Args) -> Result<()> {
    let yes = args.flag("--yes");
    let scope = if args.flag("--simulated") { Scope::Simulated } else { Scope::TestsWithMachines };
    args.finish()?;
    run(scope, yes)?;
    println!("setup: everything is here");
    Ok(())
}

/// Installs what is missing, after consent. Quick and silent when nothing is.
pub(crate) fn run(scope: Scope, yes: bool) -> Result<()> {
    let missing = needs::missing(scope)?;
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages()).copied().collect();
    explain(&missing);
    if !sh::have("apt-get") {
        bail!("this machine has no apt: install the above in its own way, then run again");
    }
    let view = View::open(suite::of_qemu()?)?;
    let plan = view.plan(&packages)?;
    announce(&view, &plan, &missing);
    if needs_root(&missing) && !rustix::process::geteuid().is_root() {
        bail!("installing needs root: run `cargo xtask setup` as root once");
    }
    consent(yes)?;
    install(&view, &plan, &missing)?;
    let still = needs::missing(scope)?;
    let fatal = still.iter().filter(|need| !matches!(need.remedy, Remedy::Cargo(_)));
    let still: Vec<&str> = fatal.map(|need| need.what).collect();
    if !still.is_empty() {
        bail!("installed, but still missing: {}", still.join(", "));
    }
    Ok(())
}

/// What is missing for a scope, in words; empty when all is there.
pub(crate) fn missing(scope: Scope) -> Result<Vec<String>> {
    Ok(needs::missing(scope)?.iter().map(|need| format!("{} ({})", need.what, need.why)).collect())
}

fn needs_root(missing: &[Need]) -> bool {
    missing.iter().any(|need| matches!(need.remedy, Remedy::Packages(_) | Remedy::User))
}

fn explain(missing: &[Need]) {
    println!("setup: this machine lacks");
    for need in missing {
        println!("  {:<24} {}", need.what, need.why);
    }
}

fn announce(view: &View, plan: &Plan, missing: &[Need]) {
    println!("setup: to be done");
    if let Some((file, suite)) = view.new_source() {
        println!("  add the package source {suite} in a file of its own, {}:", file.display());
        println!("    qemu-utils came from there, and QEMU and libvirt must be of the same suite");
    }
    if !plan.new.is_empty() {
        println!("  install {} packages; none is removed, upgraded or downgraded, no service is started:", plan.new.len());
        for chunk in plan.new.chunks(6) {
            println!("    {}", chunk.join(" "));
        }
    }
    for account in plan.accounts() {
        println!("  the packages add the {account}");
    }
    for need in missing {
        match &need.remedy {
            Remedy::Packages(_) => {}
            Remedy::User => println!("  add the user libvirt-qemu (group kvm) unless a package does: libvirt looks it up at its start"),
            Remedy::Parts(parts) => println!("  download (not install): {}", parts.packages().join(" ")),
            Remedy::Cargo(name) => println!("  cargo install {name} --locked   (takes some minutes)"),
        }
    }
}

/// `--yes` and `CI` answer for the user, and so does a run without a terminal, where there is nobody to ask.
fn consent(yes: bool) -> Result<()> {
    if yes || std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false") {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        println!("setup: no terminal to ask on, taken as CI: going on");
        return Ok(());
    }
    print!("setup: do it? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => bail!("not agreed, nothing was changed"),
    }
}

fn install(view: &View, plan: &Plan, missing: &[Need]) -> Result<()> {
    if !plan.new.is_empty() {
        view.install(plan)?;
    }
    for need in missing {
        match &need.remedy {
            Remedy::Packages(_) => {}
            Remedy::User => add_user()?,
            Remedy::Parts(parts) => parts.download(view)?,
            // `cargo test` does the same with a poorer summary, so a failure here is said and not fatal.
            Remedy::Cargo(name) => {
                if let Err(error) = sh::show(Command::new("cargo").args(["install", name, "--locked"])) {
                    println!("setup: going on without {name}: {error:#}");
                }
            }
        }
    }
    Ok(())
}

/// Only for releases whose packages leave it to libvirt-daemon-system, which would bring systemd along.
fn add_user() -> Result<()> {
    if needs::user_exists("libvirt-qemu")? {
        return Ok(());
    }
    sh::run("groupadd", &["-r", "-f", "kvm"])?;
    sh::run("groupadd", &["-r", "-f", "libvirt-qemu"])?;
    sh::run("useradd", &["-r", "-M", "-g", "kvm", "-s", "/usr/sbin/nologin", "libvirt-qemu"])
        .context("cannot add the user libvirt-qemu")
}
