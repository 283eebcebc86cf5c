//! Where things of this checkout are.

use std::path::{Path, PathBuf};

/// The root of the checkout.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("the crate is two levels below the root")
}

/// Cargo's output directory, where all that may be rebuilt is kept.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Kernel, initial file system and disk of the demo guest, by hash of what they were made from.
pub(crate) fn guests() -> PathBuf {
    target().join("guest")
}

/// The packages that the guest is made from, as downloaded.
pub(crate) fn guest_parts() -> PathBuf {
    guests().join("parts")
}

/// Servers that actions of plans are tested against, unpacked under `root`.
pub(crate) fn services() -> PathBuf {
    target().join("services")
}

/// Prometheus and Alertmanager as their packages bring them, unpacked under `root`.
pub(crate) fn monitoring() -> PathBuf {
    target().join("monitoring")
}
