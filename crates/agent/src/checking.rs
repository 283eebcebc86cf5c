//! `switchback-agent check URI`: a first look at a host, before anything is installed there. Read-only.
//!
//! Exit codes: 0 every machine can be protected, 4 some can't, 1 the host could not be looked at.

use std::process::ExitCode;

#[cfg(feature = "kvm")]
use crate::arguments::Output;
use crate::arguments::Check;

/// Some machine can't be protected as it is.
#[cfg(feature = "kvm")]
const NOT_ALL: u8 = 4;

#[cfg(feature = "kvm")]
pub(crate) fn check(arguments: &Check) -> ExitCode {
    let host = match provider_kvm::look_at(&arguments.uri) {
        Ok(host) => host,
        Err(error) => {
            eprintln!("switchback-agent: {error}");
            eprintln!("  data:      Nothing was changed: the look is read-only.");
            eprintln!("  next step: Try `virsh -r -c {} list`; over SSH your key must be known there (qemu+ssh://USER@HOST/system).", arguments.uri);
            return ExitCode::FAILURE;
        }
    };
    match arguments.output {
        Output::Json => match serde_json::to_string_pretty(&host) {
            Ok(json) => println!("{json}"),
            Err(error) => {
                eprintln!("switchback-agent: {error}");
                return ExitCode::FAILURE;
            }
        },
        Output::Table => print!("{}", told(&host)),
    }
    if host.machines.iter().all(|machine| machine.can_be_protected) { ExitCode::SUCCESS } else { NOT_ALL.into() }
}

#[cfg(feature = "kvm")]
fn told(host: &provider_kvm::HostLook) -> String {
    let mut text = String::new();
    for machine in &host.machines {
        let verdict = if machine.can_be_protected { "can be protected" } else { "can't be protected as it is" };
        let disks: Vec<String> = machine.disks.iter().map(disk).collect();
        text.push_str(&format!("{}  ({})  {verdict}\n", machine.name, machine.power));
        text.push_str(&format!("    disks    {}\n", if disks.is_empty() { "none".to_owned() } else { disks.join("; ") }));
        for (word, found) in [("obstacle", &machine.obstacles), ("remark  ", &machine.remarks)] {
            for finding in found {
                text.push_str(&format!("    {word} {}: {}\n", finding.code, finding.what));
                text.push_str(&format!("             → {}\n", finding.advice));
            }
        }
    }
    let can = host.machines.iter().filter(|machine| machine.can_be_protected).count();
    text.push_str(&format!("{} of {} machines at {} can be protected. Nothing was changed.\n", can, host.machines.len(), host.uri));
    text
}

#[cfg(feature = "kvm")]
fn disk(disk: &provider_kvm::DiskLook) -> String {
    let size = disk.capacity_bytes.map(|bytes| format!(", {} MiB", bytes >> 20)).unwrap_or_default();
    format!("{} {} {} {}{size}", disk.target, disk.kind, disk.format, disk.source.as_deref().unwrap_or("-"))
}

#[cfg(not(feature = "kvm"))]
pub(crate) fn check(arguments: &Check) -> ExitCode {
    let Check { uri, output } = arguments;
    eprintln!("switchback-agent: this build has no hypervisor support and can't look at {uri} ({output:?}); use one with the feature `kvm`");
    ExitCode::FAILURE
}
