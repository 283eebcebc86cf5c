//! The witness: what happened to machines and disks, recorded without asking the product.
//!
//! libvirt's own event stream of each site, and listings of the storage directories at named times.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::clock::Moment;
use super::stage::Stage;
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

/// Names of all network devices of a site.
pub(crate) fn links(site: &Site) -> Result<BTreeSet<String>> {
    let listed = crate::sh::output("ip", &["-n", &site.netns, "-o", "link", "show"])?;
    let name = |line: &str| line.split(": ").nth(1).map(|name| name.split('@').next().unwrap_or(name).to_owned());
    Ok(listed.lines().filter_map(name).collect())
}

/// Compares the disk that site B's machine left behind with the point that site A started from, block by block.
pub(crate) fn same_disks(stage: &Stage, machine: &str, point: u64) -> Result<()> {
    let (here, there) = (stage.lab.site("siteb")?, stage.lab.site("sitea")?);
    let left = newest(&here.storage.join(machine), |name| name.starts_with("run.") && name.ends_with(".vda.qcow2"))?;
    let came = newest(&there.storage.join(machine), |name| name.starts_with(&format!("p{point}-")) && name.ends_with(".vda.qcow2"))?;
    let said = crate::sh::output("qemu-img", &["compare", "-U", &left.display().to_string(), &came.display().to_string()])?;
    ensure!(said.contains("Images are identical"), "{} and {}: {said}", left.display(), came.display());
    Ok(())
}

fn newest(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)?.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    found.retain(|path| path.file_name().is_some_and(|name| wanted(&name.to_string_lossy())));
    found.sort_by_key(|path| fs::metadata(path).and_then(|about| about.modified()).ok());
    found.pop().with_context(|| format!("no such disk in {}", dir.display()))
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
