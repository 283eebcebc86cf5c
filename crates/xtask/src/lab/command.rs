//! `cargo xtask lab …`: the lab by command line, for people and for the tests of other crates.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::machine::{self, Wish};
use super::record::Lab;
use super::{down, down_all, join, net, site, teardown, up};
use crate::args::Args;

pub(crate) const USAGE: &str = "\
cargo xtask lab up --dir DIR [--sites 2] [--owner PID] [--json]
    Starts the sites sitea, siteb, … With --owner the lab goes when that process ends.
cargo xtask lab down --dir DIR | --all
cargo xtask lab show --dir DIR                                    the record, as JSON
cargo xtask lab guest --dir DIR --site S --name N --ip ADDR/BITS [--tick-ms 200] [--append WORDS] [--json]
    Defines and starts a machine on a new disk, and waits until its ledger answers.
cargo xtask lab kill-guest --dir DIR --site S --name N            SIGKILLs its QEMU
cargo xtask lab cut --dir DIR --site S                            pulls the site's cable to the wide network
cargo xtask lab heal --dir DIR --site S
cargo xtask lab restart-libvirtd --dir DIR --site S               starts the daemon again after it was killed
cargo xtask lab exec --dir DIR --site S|wan -- COMMAND…           keeps the process id
cargo xtask lab get --dir DIR --site S --url http://IP:PORT/PATH  asks from within the site, prints the body";

pub(crate) fn run(mut args: Args) -> Result<()> {
    let Some(verb) = args.subcommand() else { bail!("lab what?\n{USAGE}") };
    if verb == "down" && args.flag("--all") {
        args.finish()?;
        for prefix in down_all()? {
            println!("took down lab {prefix}");
        }
        return Ok(());
    }
    let dir = PathBuf::from(args.required("--dir")?);
    match verb.as_str() {
        "up" => start(&dir, args),
        "down" => {
            args.finish()?;
            down(&dir)
        }
        "show" => {
            args.finish()?;
            print(&serde_json::to_value(Lab::load(&dir)?)?)
        }
        "watch" => {
            let owner = args.required("--owner")?.parse().context("--owner takes a process id")?;
            args.finish()?;
            teardown::watch(&dir, owner)
        }
        "exec" => {
            let place = args.required("--site")?;
            let command = args.rest();
            args.finish()?;
            join::exec(&Lab::load(&dir)?, &place, &command)
        }
        _ => at_site(&verb, &Lab::load(&dir)?, args),
    }
}

fn start(dir: &std::path::Path, mut args: Args) -> Result<()> {
    let sites = args.value("--sites")?.as_deref().unwrap_or("2").parse().context("--sites takes a number")?;
    let owner = args.value("--owner")?.map(|pid| pid.parse()).transpose().context("--owner takes a process id")?;
    let as_json = args.flag("--json");
    args.finish()?;
    let lab = up(dir, sites, owner)?;
    if as_json {
        return print(&serde_json::to_value(lab)?);
    }
    println!("lab {} is up in {}", lab.prefix, lab.dir.display());
    for site in &lab.sites {
        println!("  {}  {}  netns {}  {}", site.name, site.ip, site.netns, site.uri);
    }
    Ok(())
}

fn at_site(verb: &str, lab: &Lab, mut args: Args) -> Result<()> {
    let place = lab.site(&args.required("--site")?)?;
    match verb {
        "guest" => {
            let (name, cidr) = (args.required("--name")?, args.required("--ip")?);
            let tick_ms = args.value("--tick-ms")?.as_deref().unwrap_or("200").parse().context("--tick-ms takes a number")?;
            let append = args.value("--append")?.unwrap_or_default();
            let as_json = args.flag("--json");
            args.finish()?;
            let machine = machine::start(lab, place, &Wish { name: &name, cidr: &cidr, tick_ms, append: &append })?;
            if as_json {
                return print(&serde_json::to_value(machine)?);
            }
            println!("{name} answers at {} within {} after {} ms", machine.http, place.name, machine.boot_ms);
        }
        "kill-guest" => {
            let name = args.required("--name")?;
            args.finish()?;
            print(&json!({ "killed_qemu_pid": machine::kill(place, &name)? }))?;
        }
        "get" => {
            let url = args.required("--url")?;
            args.finish()?;
            let rest = url.strip_prefix("http://").context("--url takes http://IP:PORT/PATH")?;
            let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
            println!("{}", join::http_get(&place.netns, address.parse()?, &format!("/{path}"))?);
        }
        "cut" | "heal" | "restart-libvirtd" => {
            args.finish()?;
            match verb {
                "cut" => net::cut(lab, place)?,
                "heal" => net::heal(lab, place)?,
                _ => site::start_daemon(lab, place)?,
            }
        }
        _ => bail!("no such lab command: {verb}\n{USAGE}"),
    }
    Ok(())
}

fn print(value: &Value) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
