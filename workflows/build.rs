//! Gives the crate the name of its build: a digest of all code that decides what a run does next. Builds that decide alike have the same
//! name, wherever and whenever they were compiled.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

/// Folders of sources, from this crate.
const DECIDES: [&str; 4] = ["src", "../crates/sdk/src", "../crates/engine/src", "../crates/recovery/src"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    for folder in DECIDES {
        let folder = root.join(folder);
        println!("cargo::rerun-if-changed={}", folder.display());
        for file in sources(&folder)? {
            let path = file.strip_prefix(&folder)?.to_string_lossy().into_owned();
            digest = fed(digest, path.as_bytes());
            digest = fed(digest, &fs::read(&file)?);
        }
    }
    println!("cargo::rustc-env=SWITCHBACK_DECIDES={digest:016x}");
    Ok(())
}

/// Source files below a folder, sorted.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = vec![];
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// FNV-1a, with an end mark: it tells builds apart, it proves nothing.
fn fed(digest: u64, bytes: &[u8]) -> u64 {
    bytes.iter().chain(&[0xFF]).fold(digest, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3))
}
