//! What is handed out, unpacked and looked at: nothing more and nothing less, programs that run, units that systemd reads.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{PROGRAMS, Release, UNITS};
use crate::sh;

/// Greatest exposure of the units by `systemd-analyze security`, in tenths: a directive that is lost raises it.
const EXPOSURE: [u32; 2] = [35, 55];

/// The files of the package, as dpkg unpacks them.
const OF_PACKAGE: [&str; 7] = [
    "usr/bin/switchback",
    "usr/bin/switchback-agent",
    "usr/lib/systemd/system/switchback-agent.service",
    "usr/lib/systemd/system/switchback.service",
    "usr/share/doc/switchback/DEPLOY.md",
    "usr/share/doc/switchback/README.md",
    "usr/share/doc/switchback/copyright",
];

/// The files of the tarball, below its only directory.
const OF_TARBALL: [&str; 7] =
    ["DEPLOY.md", "LICENSE", "README.md", "bin/switchback", "bin/switchback-agent", "systemd/switchback-agent.service", "systemd/switchback.service"];

/// Proves both archives.
pub(super) fn of(release: &Release, [tarball, package]: &[PathBuf; 2]) -> Result<()> {
    println!("dist: unpacking both, running what is inside");
    let root = release.scratch("proof")?;
    let (from_tar, from_deb) = (root.join("tar"), root.join("deb"));
    fs::create_dir_all(&from_tar)?;
    sh::run("tar", &[Path::new("-C"), &from_tar, Path::new("-xzf"), tarball])?;
    sh::run("dpkg-deb", &[Path::new("-x"), package, &from_deb])?;
    let name = tarball.file_name().and_then(|name| name.to_str()?.strip_suffix(".tar.gz")).context("a tarball has a name")?;
    let from_tar = from_tar.join(name);
    holds(&from_tar, &OF_TARBALL)?;
    holds(&from_deb, &OF_PACKAGE)?;
    for program in PROGRAMS {
        runs(&from_tar.join("bin").join(program), program, &release.version)?;
        runs(&from_deb.join("usr/bin").join(program), program, &release.version)?;
    }
    let control = sh::output("dpkg-deb", &[Path::new("-f"), package])?;
    described(&control, &release.version)?;
    let units = root.join("units");
    fs::create_dir_all(&units)?;
    for (unit, most) in UNITS.into_iter().zip(EXPOSURE) {
        readable(&from_deb, unit, &units, most)?;
    }
    fs::remove_dir_all(root)?;
    Ok(())
}

/// These files and no others.
fn holds(dir: &Path, expected: &[&str]) -> Result<()> {
    let listed = sh::output("find", &[dir.as_os_str(), "!".as_ref(), "-type".as_ref(), "d".as_ref(), "-printf".as_ref(), "%P\n".as_ref()])?;
    let mut found: Vec<&str> = listed.lines().collect();
    found.sort_unstable();
    if found == expected { Ok(()) } else { bail!("{} holds {found:?}, not {expected:?}", dir.display()) }
}

/// A program that says its name and version.
fn runs(path: &Path, name: &str, version: &str) -> Result<()> {
    let said = sh::output(&path.display().to_string(), &["--version"])?;
    let expected = format!("{name} {version}");
    if said == expected { Ok(()) } else { bail!("{} says {said:?}, not {expected:?}", path.display()) }
}

/// A package of that name and version, which asks for the libraries that its programs are linked against.
fn described(control: &str, version: &str) -> Result<()> {
    let field = |name: &str| control.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default();
    let depends: Vec<&str> = field("Depends").split(", ").map(|package| package.split(' ').next().unwrap_or_default()).collect();
    let lacks: Vec<&str> = ["libc6", "libvirt0"].into_iter().filter(|library| !depends.contains(library)).collect();
    match (field("Package"), field("Version").split('-').next(), lacks.as_slice()) {
        ("switchback", Some(named), []) if named == version => Ok(()),
        (_, _, []) => bail!("the package is {} {}, not switchback {version}", field("Package"), field("Version")),
        (_, _, lacks) => bail!("the package does not depend on {}, which its programs need", lacks.join(" and ")),
    }
}

/// A unit that systemd reads without a word, whose program is the one in the package, and which is as closed as it was.
fn readable(root: &Path, unit: &str, scratch: &Path, most: u32) -> Result<()> {
    let text = fs::read_to_string(root.join("usr/lib/systemd/system").join(unit))?;
    let here = scratch.join(unit);
    fs::write(&here, text.replace("=/usr/bin/switchback", &format!("={}", root.join("usr/bin/switchback").display())))?;
    let out = Command::new("systemd-analyze").arg("verify").arg(&here).output().context("cannot start systemd-analyze")?;
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    // Of other units of this machine, which ours stand after, it speaks as well.
    let of_ours: Vec<&str> = said.lines().filter(|line| line.contains(unit)).collect();
    if !out.status.success() || !of_ours.is_empty() {
        bail!("systemd finds fault with {unit}: {}", if of_ours.is_empty() { said.trim() } else { of_ours[0] });
    }
    let said = sh::output("systemd-analyze", &["security".as_ref(), "--offline=yes".as_ref(), "--no-pager".as_ref(), here.as_os_str()])?;
    let exposure = exposure(&said).with_context(|| format!("systemd-analyze does not say how exposed {unit} is"))?;
    println!("dist: {unit} is read without a word; exposure {}.{}", exposure / 10, exposure % 10);
    if exposure > most {
        bail!("{unit} is more exposed than it was: {}.{}, not at most {}.{}", exposure / 10, exposure % 10, most / 10, most % 10);
    }
    Ok(())
}

/// Tenths, from the last line: `→ Overall exposure level for X: 3.1 OK`.
fn exposure(said: &str) -> Option<u32> {
    let line = said.lines().rev().find(|line| line.contains("Overall exposure level"))?;
    let number = line.rsplit_once(": ")?.1.split(' ').next()?;
    let (whole, tenth) = number.split_once('.')?;
    Some(whole.parse::<u32>().ok()? * 10 + tenth.parse::<u32>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_lacks_a_library_or_has_another_version_is_refused() {
        let control = |version: &str, depends: &str| format!("Package: switchback\nVersion: {version}\nDepends: {depends}\n");
        assert!(described(&control("0.1.0-1", "libc6 (>= 2.34), libvirt0 (>= 9.0)"), "0.1.0").is_ok());
        let error = described(&control("0.1.0-1", "libc6 (>= 2.34)"), "0.1.0").expect_err("no libvirt").to_string();
        assert_eq!(error, "the package does not depend on libvirt0, which its programs need");
        let error = described(&control("0.2.0-1", "libc6, libvirt0"), "0.1.0").expect_err("another version").to_string();
        assert_eq!(error, "the package is switchback 0.2.0-1, not switchback 0.1.0");
    }

    #[test]
    fn what_is_too_much_or_too_little_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("bin")).expect("a directory");
        for name in ["README.md", "bin/a"] {
            fs::write(dir.path().join(name), "").expect("a file");
        }
        assert!(holds(dir.path(), &["README.md", "bin/a"]).is_ok());
        assert!(holds(dir.path(), &["README.md"]).is_err());
        assert!(holds(dir.path(), &["README.md", "bin/a", "bin/b"]).is_err());
    }

    #[test]
    fn exposure_is_read_from_the_last_line() {
        let said = "✗ PrivateNetwork=  0.5\n\n→ Overall exposure level for x.service: 3.1 OK :-)\n";
        assert_eq!(exposure(said), Some(31));
        assert_eq!(exposure("nothing"), None);
    }
}
