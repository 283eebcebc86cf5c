//! What may be said of how an item gets back to where it was.

use serde::{Deserialize, Serialize};

/// When a failback copies what it has to copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sync {
    /// The machine was replicated back while it ran, by reprotect; only what is missing is copied while it is off.
    #[default]
    BeforeFailover,
    /// Nothing was copied yet; all of it is copied while the machine is off, without comparing.
    DuringFailover,
}

/// Where a reprotected item will be able to go back to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Location {
    /// To the disks of its old machine: only what differs is sent.
    #[default]
    Original,
    /// To a new machine at the old site, whether or not the old one exists: everything is sent.
    Alternate,
}
