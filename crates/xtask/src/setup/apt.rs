//! apt, asked in a private view (own lists, sources and preferences) so that planning leaves the machine as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::suite::Suite;
use crate::{paths, sh};

const SOURCES: &str = "/etc/apt/sources.list.d";
const SOURCE_FILE: &str = "switchback-backports.sources";

/// What must be of one suite with QEMU.
const OF_THE_SUITE: &str = "qemu-* seabios libvirt*";

/// New packages that must not be newer than an installed one, because they would pull it along.
const FOLLOWERS: [(&str, &str); 2] = [("systemd-container", "systemd"), ("libxml2-utils", "libxml2")];

/// Users and groups that packages add in their own installation.
const ACCOUNTS: [(&str, &str); 6] = [
    ("libvirt-daemon-driver-qemu", "user libvirt-qemu, groups kvm and libvirt-qemu"),
    ("libvirt-daemon-common", "group libvirt"),
    ("dnsmasq-base", "user dnsmasq"),
    ("libibverbs1", "group rdma"),
    ("postgresql-common", "user postgres"),
    ("postgresql", "empty cluster `main` of Debian's Postgres package, which is neither used nor started"),
];

/// A private copy of apt's configuration, with the suite that QEMU comes from.
pub(crate) struct View {
    dir: PathBuf,
    suite: Suite,
    options: Vec<String>,
    adds_source: bool,
}

/// What an installation would do; it never does anything else than add packages.
pub(crate) struct Plan {
    wanted: Vec<String>,
    pub(crate) new: Vec<String>,
}

impl View {
    /// Downloads the package lists into a private directory.
    pub(crate) fn open(suite: Suite) -> Result<Self> {
        let dir = paths::target().join("apt-view");
        for sub in ["sources", "preferences", "lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        copy_files(Path::new(SOURCES), &dir.join("sources"))?;
        copy_files(Path::new("/etc/apt/preferences.d"), &dir.join("preferences"))?;
        let option = |key: &str, sub: &str| [String::from("-o"), format!("{key}={}", dir.join(sub).display())];
        let mut options = Vec::new();
        options.extend(option("Dir::Etc::SourceParts", "sources"));
        options.extend(option("Dir::Etc::PreferencesParts", "preferences"));
        options.extend(option("Dir::State::Lists", "lists"));
        options.extend(option("Dir::Cache", "cache"));
        let mut view = Self { dir, suite, options, adds_source: false };
        view.prefer_suite()?;
        view.update()?;
        Ok(view)
    }

    pub(crate) fn options(&self) -> &[String] {
        &self.options
    }

    /// The source that an installation would add to the machine, and its suite.
    pub(crate) fn new_source(&self) -> Option<(PathBuf, &str)> {
        match &self.suite {
            Suite::Backports { suite, .. } if self.adds_source => Some((Path::new(SOURCES).join(SOURCE_FILE), suite)),
            Suite::Backports { .. } | Suite::Plain { .. } => None,
        }
    }

    /// Finds out what installing these would do, and refuses whatever is not a plain addition.
    pub(crate) fn plan(&self, packages: &[&str]) -> Result<Plan> {
        let wanted = self.pinned(packages)?;
        if wanted.is_empty() {
            return Ok(Plan { wanted, new: Vec::new() });
        }
        let simulated = self.apt_get("-s", &wanted).context("apt finds no way to install what is missing")?;
        let plan = Plan { new: additions(&simulated)?, wanted };
        Ok(plan)
    }

    /// Installs as planned. Services stay as they are: both kinds of init are told so.
    pub(crate) fn install(&self, plan: &Plan) -> Result<()> {
        if let Some((file, suite)) = self.new_source() {
            fs::copy(self.dir.join("sources").join(SOURCE_FILE), &file)
                .with_context(|| format!("cannot add the source {suite}"))?;
            sh::run("apt-get", &["-q", "update"]).context("cannot read the added package source")?;
        }
        let mut command = Command::new("apt-get");
        command.args(&self.options).args(["-q", "-y", "--no-install-recommends", "--no-remove", "--no-upgrade", "install"]);
        command.args(&plan.wanted);
        command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").env("SYSTEMD_OFFLINE", "1");
        println!("setup: installing…");
        sh::capture(&mut command).map(drop)
    }

    /// The first dependency of a package whose name starts so.
    pub(crate) fn dependency(&self, package: &str, start: &str) -> Result<String> {
        let mut command = Command::new("apt-cache");
        let listing = sh::capture(command.args(&self.options).args(["depends", package]))?;
        let names = listing.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        names.map(str::trim).find(|name| name.starts_with(start)).map(str::to_owned).with_context(|| {
            format!("{package} depends on nothing that starts with {start}")
        })
    }

    fn update(&self) -> Result<()> {
        let mut command = Command::new("apt-get");
        sh::capture(command.args(&self.options).args(["-q", "-o", "APT::Sandbox::User=root", "update"]))
            .context("cannot download the package lists")?;
        Ok(())
    }

    /// Adds the suite to the view, unless it is among the machine's sources, and prefers it for QEMU and libvirt alone.
    fn prefer_suite(&mut self) -> Result<()> {
        let Suite::Backports { suite, .. } = &self.suite else { return Ok(()) };
        let codename = suite.trim_end_matches("-backports");
        let mut command = Command::new("apt-get");
        let format = "$(REPO_URI) $(CODENAME) $(COMPONENT)";
        let targets = sh::capture(command.args(["indextargets", "--format", format, "Created-By: Packages"]))?;
        let places: Vec<Vec<&str>> = targets.lines().map(|line| line.split(' ').collect()).collect();
        if !places.iter().any(|place| place.get(1) == Some(&suite.as_str())) {
            let main = places.iter().find(|place| place.get(1) == Some(&codename)).and_then(|place| place.first());
            let uri = main.with_context(|| format!("no package source for {codename} to take {suite} from"))?;
            fs::write(self.dir.join("sources").join(SOURCE_FILE), source_file(uri, suite))?;
            self.adds_source = true;
        }
        let preference = format!("Package: {OF_THE_SUITE}\nPin: release n={suite}\nPin-Priority: 990\n");
        fs::write(self.dir.join("preferences/switchback"), preference)?;
        Ok(())
    }

    /// Names with versions where they matter. Packages that this release does not split off are left out.
    fn pinned(&self, packages: &[&str]) -> Result<Vec<String>> {
        let mut wanted = Vec::new();
        for package in packages {
            let versions = self.versions(package)?;
            let matching = self.suite.qemu().filter(|version| versions.iter().any(|offered| offered == version));
            match matching {
                Some(version) if package.starts_with("qemu-") => wanted.push(format!("{package}={version}")),
                _ if versions.is_empty() && package.starts_with("libvirt-daemon-") => {}
                _ => wanted.push((*package).to_owned()),
            }
        }
        if wanted.iter().any(|name| name.starts_with("libvirt")) {
            for (follower, leader) in FOLLOWERS {
                wanted.extend(self.follow(follower, leader)?);
            }
        }
        Ok(wanted)
    }

    /// The newest version of a package that does not ask for a newer leader; none if either is no matter.
    fn follow(&self, follower: &str, leader: &str) -> Result<Option<String>> {
        let installed = |name| sh::output("dpkg-query", &["-W", "-f", "${Version}", name]).ok().filter(|v| !v.is_empty());
        let (Some(limit), None) = (installed(leader), installed(follower)) else { return Ok(None) };
        for version in self.versions(follower)? {
            if sh::run("dpkg", &["--compare-versions", &version, "le", &limit]).is_ok() {
                return Ok(Some(format!("{follower}={version}")));
            }
        }
        Ok(None)
    }

    /// All versions that the view offers, newest first.
    fn versions(&self, package: &str) -> Result<Vec<String>> {
        let mut command = Command::new("apt-cache");
        let table = sh::capture(command.args(&self.options).args(["madison", package]))?;
        let rows = table.lines().filter(|line| line.contains(" Packages"));
        Ok(rows.filter_map(|row| row.split('|').nth(1)).map(|version| version.trim().to_owned()).collect())
    }

    fn apt_get(&self, mode: &str, packages: &[String]) -> Result<String> {
        let mut command = Command::new("apt-get");
        command.args(&self.options).args(["-q", mode, "--no-install-recommends", "install"]).args(packages);
        sh::capture(command.env("LC_ALL", "C"))
    }
}

impl Drop for View {
    /// The lists are large and soon out of date.
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.dir));
    }
}

impl Plan {
    /// Users and groups that come with the packages.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = &'static str> {
        let added = |package: &str| self.new.iter().any(|new| new == package);
        ACCOUNTS.into_iter().filter(move |(package, _)| added(package)).map(|(_, account)| account)
    }
}

fn source_file(uri: &str, suite: &str) -> String {
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let signed = if Path::new(keyring).exists() { format!("Signed-By: {keyring}\n") } else { String::new() };
    format!(
        "# Added by `cargo xtask setup` of Switchback: qemu-utils came from this suite, and QEMU must match it.\n\
         Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\n{signed}"
    )
}

/// Reads a simulation. `Inst name (version …` adds; `Inst name [old] (version …` changes; `Remv` removes.
fn additions(simulated: &str) -> Result<Vec<String>> {
    let (mut new, mut unwelcome) = (Vec::new(), Vec::new());
    for line in simulated.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("Inst"), Some(name), Some(version)) if version.starts_with('(') => new.push(name.to_owned()),
            (Some("Inst"), Some(name), _) => unwelcome.push(format!("change {name}")),
            (Some("Remv"), Some(name), _) => unwelcome.push(format!("remove {name}")),
            _ => {}
        }
    }
    if !unwelcome.is_empty() {
        bail!(
            "refused: apt would {}. Setup only adds packages. Bring those up to date yourself (or use another machine), \
             then run again",
            unwelcome.join(", ")
        );
    }
    Ok(new)
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    for old in fs::read_dir(to)? {
        fs::remove_file(old?.path())?;
    }
    let Ok(entries) = fs::read_dir(from) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_only_adds_is_accepted() {
        let said = "Inst cpio (2.13 Debian:12 [amd64])\nConf cpio (2.13 Debian:12 [amd64])\n0 upgraded, 1 newly installed";
        assert_eq!(additions(said).expect("only adds"), ["cpio"]);
    }

    #[test]
    fn a_plan_that_removes_is_refused_by_name() {
        let said = "Remv qemu-utils [1:10.0.2]\nInst qemu-system-x86 (1:7.2 Debian:12 [amd64])";
        assert!(additions(said).expect_err("removes").to_string().contains("remove qemu-utils"));
    }

    #[test]
    fn a_plan_that_changes_a_version_is_refused_by_name() {
        let said = "Inst systemd [252.38] (252.39 Debian:12 [amd64])";
        assert!(additions(said).expect_err("upgrades").to_string().contains("change systemd"));
    }
}
