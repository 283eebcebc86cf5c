//! QEMU's own programs for disk images: `qemu-img` for chains of files, `qemu-nbd` for their content.
//!
//! Backing files in the same directory are named relative to their overlay, and always with their format, so a directory can be
//! moved and no format is ever probed.

mod bitmap;
mod image;
mod serve;

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use provider::{Applied, ProviderError};

pub(crate) use bitmap::{FAILOVER_PREFIX, describe, written_since};
pub(crate) use image::{Allocated, allocated, backing, commit, create, create_above, create_on, pull_offline, rebase};
pub(crate) use serve::{Access, Served, end_orphans};

/// Runs a program to its end and returns what it printed.
fn run(program: &str, target: &Path, command: &mut Command) -> Result<Output, ProviderError> {
    let failed = |detail: String| ProviderError::Platform {
        operation: program.to_owned(),
        target: target.display().to_string(),
        detail,
        applied: Applied::Unknown,
    };
    let output = command.stdin(Stdio::null()).output().map_err(|error| failed(format!("cannot be started: {error}")))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("{}: {}", output.status, said.trim())))
}
