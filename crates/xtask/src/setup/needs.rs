//! The list of what demo and tests need, with a quick look for each.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

use super::{Scope, parts::Parts};
use crate::sh;

/// One thing that must be on the machine.
pub(crate) struct Need {
    pub(crate) what: &'static str,
    pub(crate) why: &'static str,
    pub(crate) remedy: Remedy,
}

pub(crate) enum Remedy {
    Packages(&'static [&'static str]),
    /// libvirt's user, where no package adds it.
    User,
    /// Packages that are downloaded and not installed.
    Parts(Parts),
    /// A tool that cargo installs.
    Cargo(&'static str),
}

impl Need {
    pub(crate) fn packages(&self) -> &'static [&'static str] {
        match self.remedy {
            Remedy::Packages(packages) => packages,
            Remedy::User | Remedy::Parts(_) | Remedy::Cargo(_) => &[],
        }
    }
}

/// The oldest major version that the migrations were tried on.
const OLDEST_POSTGRES: u32 = 15;

type Look = fn() -> Result<bool>;

type Row = (&'static str, &'static str, Remedy, Look);

const FOR_ALL: &[Row] = &[
    ("Postgres 15 or newer", "holds every step of every run", Remedy::Packages(&["postgresql"]), postgres),
    ("C compiler", "links the programs, compiles the guest's ledger", Remedy::Packages(&["gcc", "libc6-dev"]), || {
        Ok(sh::have("gcc"))
    }),
];

const FOR_TESTS: &[Row] = &[("cargo-nextest", "runs the tests", Remedy::Cargo("cargo-nextest"), || Ok(sh::have("cargo-nextest")))];

/// Everything is compiled for tests, and the agent with its hypervisor for real sites.
const FOR_LIBVIRT: &[Row] =
    &[("libvirt headers", "the agent is linked against libvirt", Remedy::Packages(&["libvirt-dev", "pkg-config"]), headers)];

const FOR_REAL: &[Row] = &[
    ("QEMU", "runs the machines", Remedy::Packages(&["qemu-system-x86"]), || Ok(sh::have("qemu-system-x86_64"))),
    ("QEMU disk tools", "make and serve disks", Remedy::Packages(&["qemu-utils"]), || {
        Ok(["qemu-img", "qemu-nbd"].into_iter().all(sh::have))
    }),
    ("libvirt daemon", "controls the machines; each site of the lab gets one of its own", LIBVIRT, libvirt),
    ("libvirt client", "watches from outside what the product does", Remedy::Packages(&["libvirt-clients"]), || {
        Ok(sh::have("virsh"))
    }),
    ("user libvirt-qemu", "libvirt's QEMU driver looks it up at its start", Remedy::User, || user_exists("libvirt-qemu")),
    ("network namespaces", "keep the sites apart", Remedy::Packages(&["iproute2", "util-linux"]), || {
        Ok(["ip", "nsenter", "unshare"].into_iter().all(sh::have))
    }),
    ("packet capture", "shows that nothing of a test failover leaks", Remedy::Packages(&["tcpdump"]), || Ok(sh::have("tcpdump"))),
    ("ext4 and object tools", "make the guest's disk and drivers", Remedy::Packages(&["e2fsprogs", "binutils"]), || {
        Ok(["mkfs.ext4", "strip"].into_iter().all(sh::have))
    }),
    ("guest parts", "kernel, shell and agent of the demo guest", Remedy::Parts(Parts::Guest), || Ok(Parts::Guest.present())),
];

const FOR_ALERTS: &[Row] = &[(
    "monitoring",
    "watches a machine in a test and says that it is down",
    Remedy::Parts(Parts::Monitoring),
    || Ok(Parts::Monitoring.present()),
)];

const FOR_ACTIONS: &[Row] = &[
    ("SSH client", "runs the scripts of plans", Remedy::Packages(&["openssh-client"]), || Ok(["ssh", "ssh-keygen"].into_iter().all(sh::have))),
    ("services", "take what plans do beside machines: an SSH server, a name server", Remedy::Parts(Parts::Services), || {
        Ok(Parts::Services.present())
    }),
];

/// The daemon without its systemd integration; the network driver is for isolated networks.
const LIBVIRT: Remedy = Remedy::Packages(&["libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt-daemon-driver-network"]);

/// What packs and looks at what is packed.
const FOR_DIST: &[Row] = &[
    ("systemd-analyze", "reads the units as systemd would", Remedy::Packages(&["systemd"]), || Ok(sh::have("systemd-analyze"))),
    ("dpkg-shlibdeps", "finds the packages of the libraries that the programs need", Remedy::Packages(&["dpkg-dev"]), || {
        Ok(sh::have("dpkg-shlibdeps"))
    }),
];

pub(crate) fn missing(scope: Scope) -> Result<Vec<Need>> {
    let lists: &[&[Row]] = match scope {
        Scope::Simulated => &[FOR_ALL],
        Scope::Real => &[FOR_ALL, FOR_LIBVIRT, FOR_REAL],
        Scope::Dist => &[FOR_ALL, FOR_LIBVIRT, FOR_DIST],
        Scope::Tests => &[FOR_ALL, FOR_TESTS, FOR_LIBVIRT, FOR_ACTIONS],
        Scope::TestsWithMachines => &[FOR_ALL, FOR_TESTS, FOR_LIBVIRT, FOR_REAL, FOR_ALERTS, FOR_ACTIONS],
    };
    let mut missing = Vec::new();
    for (what, why, remedy, present) in lists.iter().copied().flatten() {
        if !present()? {
            missing.push(Need { what, why, remedy: remedy.copy() });
        }
    }
    Ok(missing)
}

impl Remedy {
    const fn copy(&self) -> Self {
        match self {
            Self::Packages(packages) => Self::Packages(packages),
            Self::User => Self::User,
            Self::Parts(parts) => Self::Parts(*parts),
            Self::Cargo(name) => Self::Cargo(name),
        }
    }
}

/// Debian keeps each major version in a directory of its own.
fn postgres() -> Result<bool> {
    if sh::have("initdb") {
        let said = sh::output("initdb", &["--version"])?;
        let major = said.rsplit(' ').next().and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        return Ok(major.is_some_and(|major| major >= OLDEST_POSTGRES));
    }
    let Ok(versions) = fs::read_dir("/usr/lib/postgresql") else { return Ok(false) };
    for version in versions {
        let version = version?;
        let new_enough = version.file_name().to_string_lossy().parse::<u32>().is_ok_and(|major| major >= OLDEST_POSTGRES);
        if new_enough && version.path().join("bin/initdb").exists() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the agent can be linked against libvirt here.
pub(crate) fn headers() -> Result<bool> {
    if !sh::have("pkg-config") {
        return Ok(false);
    }
    let mut question = Command::new("pkg-config");
    question.args(["--exists", "libvirt", "libvirt-qemu"]).stderr(Stdio::null());
    Ok(question.status()?.success())
}

fn libvirt() -> Result<bool> {
    let driver = |lib: &str| Path::new(lib).join("libvirt/connection-driver/libvirt_driver_qemu.so").exists();
    Ok(sh::have("libvirtd") && ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"].into_iter().any(driver))
}

pub(crate) fn user_exists(name: &str) -> Result<bool> {
    Ok(fs::read_to_string("/etc/passwd")?.lines().any(|line| line.split(':').next() == Some(name)))
}
