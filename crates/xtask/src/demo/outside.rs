//! The witness: what happened to machines and disks, recorded without asking the product.
//!
//! libvirt's own event stream of each site, and listings of the storage directories at named times.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::clock::Moment;
use crate::lab::{Lab, Site};

/// Watches all sites of a lab until it is dropped.
pub(crate) struct Witness {
    streams: Vec<(String, PathBuf, Child)>,
}

/// One line of a site's event stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sighting {
    pub(crate) site: String,
    pub(crate) at: Moment,
    pub(crate) said: String,
}

/// Files below a directory with their allocated size in bytes.
pub(crate) type Inventory = BTreeMap<PathBuf, u64>;

impl Witness {
    pub(crate) fn post(lab: &Lab) -> Result<Self> {
        let dir = lab.dir.join("witness");
        fs::create_dir_all(&dir)?;
        let streams = lab.sites.iter().map(|site| watch(lab, site, &dir)).collect::<Result<_>>()?;
        Ok(Self { streams })
    }

    /// All changes of a machine's life so far, in their order.
    pub(crate) fn sightings(&self) -> Result<Vec<Sighting>> {
        let mut seen = Vec::new();
        for (site, file, _) in &self.streams {
            seen.extend(fs::read_to_string(file)?.lines().filter_map(|line| sighting(site, line)));
        }
        seen.sort_by_key(|sighting| sighting.at);
        Ok(seen)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        for (_, _, child) in &mut self.streams {
            // Already gone is as good.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn watch(lab: &Lab, site: &Site, dir: &Path) -> Result<(String, PathBuf, Child)> {
    let file = dir.join(format!("{}.events", site.name));
    let out = fs::File::create(&file)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["lab", "exec", "--site", &site.name, "--dir"]).arg(&lab.dir);
    command.args(["--", "virsh", "-q", "-c", &site.uri_inside, "event", "--all", "--loop", "--timestamp"]);
    command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null());
    let child = command.spawn().with_context(|| format!("cannot watch {}", site.name))?;
    Ok((site.name.clone(), file, child))
}

/// `2026-11-22 23:47:57.818+0000: event 'lifecycle' for domain 'db9': Defined Added`
fn sighting(site: &str, line: &str) -> Option<Sighting> {
    let (at, rest) = line.split_once(": event ")?;
    let said = rest.strip_prefix("'lifecycle' for domain ")?;
    Some(Sighting { site: site.to_owned(), at: Moment::parse(at).ok()?, said: said.replace('\'', "") })
}

/// What a site's disks directories hold.
pub(crate) fn inventory(site: &Site) -> Result<Inventory> {
    let mut found = Inventory::new();
    for dir in [&site.images, &site.storage] {
        list(&site.root, dir, &mut found)?;
    }
    Ok(found)
}

/// The line between a file's end and its removal is thin while a site works: what vanishes meanwhile is left out.
fn list(root: &Path, dir: &Path, found: &mut Inventory) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        let Ok(about) = fs::symlink_metadata(&path) else { continue };
        if about.is_dir() {
            list(root, &path, found)?;
        } else {
            found.insert(path.strip_prefix(root)?.to_owned(), about.blocks() * 512);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifecycle_event_is_a_sighting_and_others_are_not() {
        let line = "2026-11-22 23:47:57.818+0000: event 'lifecycle' for domain 'db9': Started Booted";
        let seen = sighting("siteb", line).expect("well formed");
        assert_eq!((seen.site.as_str(), seen.said.as_str()), ("siteb", "db9: Started Booted"));
        assert_eq!(sighting("siteb", &line.replace("lifecycle", "agent-lifecycle")), None);
    }
}
