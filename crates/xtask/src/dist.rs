//! `cargo xtask dist`: what is handed out, a tarball and a Debian package, and the proof that they hold what they should.
//!
//!   set-up ─▶ cargo-deb ─▶ release build ─▶ tarball, package ─▶ unpack both ─▶ run, list, read the units ─▶ sizes and SHA-256
//!
//! Invariants: 1. Only files below the target directory are written, but for what the set-up announces. 2. What failed its proof is
//! not left lying there. 3. Equal sources and compilers give equal archives: times are those of the last commit.

mod proof;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::args::Args;
use crate::setup::{self, Scope};
use crate::{paths, sh};

pub(crate) const USAGE: &str = "\
cargo xtask dist [--yes]
    Builds switchback and switchback-agent for release and packs them with units, README and licence: a tarball
    and a .deb in the target directory's dist/. Then unpacks both, runs what is inside, and has systemd read the
    units. Installs what it lacks; asks first unless --yes or CI answers.";

/// The tool that makes the package; another version may ask for another manifest.
const CARGO_DEB: &str = "3.8.0";

/// The programs that are handed out.
const PROGRAMS: [&str; 2] = ["switchback", "switchback-agent"];
/// The units beside them.
const UNITS: [&str; 2] = ["switchback.service", "switchback-agent.service"];

/// What is handed out.
struct Release {
    version: String,
    /// Seconds since 1970 of the last commit.
    time: String,
    dir: PathBuf,
}

pub(crate) fn command(mut args: Args) -> Result<()> {
    let yes = args.flag("--yes");
    args.finish()?;
    setup::run(Scope::Dist, yes)?;
    let tool = cargo_deb()?;
    let release = Release::of_this_checkout()?;
    build(&release)?;
    let made = [tarball(&release)?, package(&release, &tool)?];
    if let Err(error) = proof::of(&release, &made) {
        made.iter().try_for_each(fs::remove_file)?;
        return Err(error.context("what was made does not hold what it should, and is removed again"));
    }
    println!();
    for path in &made {
        let sum = sh::output("sha256sum", &[path.as_os_str()])?;
        let sum = sum.split(' ').next().unwrap_or_default();
        println!("{:>10} bytes  sha256 {sum}  {}", fs::metadata(path)?.len(), path.display());
    }
    Ok(())
}

impl Release {
    fn of_this_checkout() -> Result<Self> {
        let manifest = fs::read_to_string(paths::root().join("Cargo.toml"))?;
        let version = manifest.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
        let version = version.context("Cargo.toml names no version")?.to_owned();
        let mut commit = Command::new("git");
        commit.args(["log", "-1", "--format=%ct"]).current_dir(paths::root());
        // An unpacked archive of the sources has no commits; then they have no time.
        let time = sh::capture(&mut commit).unwrap_or_else(|_no_commits| "0".to_owned());
        let dir = paths::target().join("dist");
        fs::create_dir_all(&dir)?;
        Ok(Self { version, time, dir })
    }

    /// A directory of ours, empty.
    fn scratch(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    fn cargo(&self) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(paths::root()).env("SOURCE_DATE_EPOCH", &self.time).env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
        cargo
    }
}

/// cargo-deb in the target directory; installed there if it is not.
fn cargo_deb() -> Result<PathBuf> {
    let root = paths::target().join("tools");
    let program = root.join("bin/cargo-deb");
    let present = program.exists() && sh::output(&program.display().to_string(), &["--version"]).is_ok_and(|said| said.ends_with(CARGO_DEB));
    if !present {
        println!("dist: cargo-deb {CARGO_DEB}, which makes the package, is installed below {} (takes some minutes)", root.display());
        let mut install = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        install.args(["install", "cargo-deb", "--version", CARGO_DEB, "--locked", "--root"]).arg(&root);
        sh::show(&mut install)?;
    }
    Ok(program)
}

fn build(release: &Release) -> Result<()> {
    println!("dist: release build of {}", PROGRAMS.join(" and "));
    sh::show(release.cargo().args(["build", "--release", "--locked", "--package", "switchback-cli", "--package", "switchback-agent"]))
}

fn tarball(release: &Release) -> Result<PathBuf> {
    let name = format!("switchback-{}-{}-linux", release.version, std::env::consts::ARCH);
    let stage = release.scratch("stage")?;
    let root = stage.join(&name);
    let copy = |from: &Path, to: &str| -> Result<()> {
        let to = root.join(to);
        fs::create_dir_all(to.parent().context("a file lies in a directory")?)?;
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(())
    };
    for program in PROGRAMS {
        copy(&paths::target().join("release").join(program), &format!("bin/{program}"))?;
    }
    for unit in UNITS {
        copy(&paths::root().join("deploy/systemd").join(unit), &format!("systemd/{unit}"))?;
    }
    copy(&paths::root().join("README.md"), "README.md")?;
    copy(&paths::root().join("LICENSE"), "LICENSE")?;
    copy(&paths::root().join("deploy/README.md"), "DEPLOY.md")?;
    let archive = release.dir.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=u+rwX,go+rX,go-w", "--use-compress-program=gzip -n -9"]);
    tar.arg(format!("--mtime=@{}", release.time)).arg("-C").arg(&stage).arg("-cf").arg(&archive).arg(&name);
    sh::capture(&mut tar)?;
    fs::remove_dir_all(stage)?;
    Ok(archive)
}

fn package(release: &Release, tool: &Path) -> Result<PathBuf> {
    let out = release.scratch("deb")?;
    let mut deb = Command::new(tool);
    deb.args(["deb", "--package", "switchback-cli", "--no-build", "--no-strip", "--output"]).arg(&out).current_dir(paths::root());
    deb.env("SOURCE_DATE_EPOCH", &release.time).env("CARGO_TARGET_DIR", paths::target());
    sh::capture(&mut deb)?;
    let made: Vec<PathBuf> = fs::read_dir(&out)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    let [made] = made.as_slice() else { bail!("cargo-deb made {} files, not one package", made.len()) };
    let package = release.dir.join(made.file_name().context("a package has a name")?);
    fs::rename(made, &package)?;
    fs::remove_dir_all(out)?;
    Ok(package)
}
