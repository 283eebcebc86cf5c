//! Starts one libvirt daemon per site. Its paths are compiled in, so each site gets mounts of its own over them.
//!
//! A keeper (a `sleep`) holds the mounts, so that the daemon itself may be killed and started again.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::fs::{FlockOperation, fcntl_lock};

use super::record::{Lab, MADE_DIRS, REGISTRY, Site, lock_registry};
use super::wait;
use crate::{paths, sh};

/// What libvirt was compiled for, and the directory of the site that lies over it.
const MOUNTS: [(&str, &str); 5] = [
    ("etc", "/etc/libvirt"),
    ("run", "/run/libvirt"),
    ("lib", "/var/lib/libvirt"),
    ("cache", "/var/cache/libvirt"),
    ("log", "/var/log/libvirt"),
];

/// The first start asks QEMU for its abilities, which takes seconds under load.
const START_PATIENCE: Duration = Duration::from_secs(90);

/// No user, cgroup, label or namespace of QEMU's own: the site's namespaces are the enclosure.
const QEMU_CONF: &str = r#"user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"#;

/// Starts all sites side by side.
pub(crate) fn start_all(lab: &Lab) -> Result<()> {
    make_mount_points()?;
    thread::scope(|scope| {
        let starting: Vec<_> = lab.sites.iter().map(|site| scope.spawn(|| start(lab, site))).collect();
        for thread in starting {
            thread.join().map_err(|_panic| anyhow!("starting a site panicked")).flatten()?;
        }
        keep_abilities(&lab.sites[0])
    })
}

/// libvirt's directories must exist to be mounted over. What we make is listed first, so that it can be removed.
fn make_mount_points() -> Result<()> {
    let _held = lock_registry()?;
    let missing = MOUNTS.iter().map(|(_, point)| point).filter(|point| !Path::new(point).exists());
    let mut list = fs::OpenOptions::new().create(true).append(true).open(Path::new(REGISTRY).join(MADE_DIRS))?;
    for point in missing {
        writeln!(list, "{point}")?;
        fs::create_dir_all(point)?;
    }
    Ok(())
}

fn start(lab: &Lab, site: &Site) -> Result<()> {
    fs::write(site.root.join("etc/qemu.conf"), QEMU_CONF)?;
    fs::write(site.root.join("etc/libvirtd.conf"), daemon_conf())?;
    let known = abilities();
    if known.is_dir() {
        fs::create_dir_all(site.root.join("cache/qemu"))?;
        sh::run("cp", &[Path::new("-a"), &known, &site.root.join("cache/qemu/capabilities")])?;
    }
    start_keeper(lab, site)?;
    start_daemon(lab, site)
}

/// Mounts the site's directories over libvirt's and hides what is not the site's business.
fn start_keeper(lab: &Lab, site: &Site) -> Result<()> {
    let ready = site.keeper_file();
    let mut script = String::from("set -e\n");
    for (dir, point) in MOUNTS {
        script.push_str(&format!("mount --bind '{}' '{point}'\n", site.root.join(dir).display()));
    }
    let others = lab.sites.iter().filter(|other| other.name != site.name).map(|other| &other.root);
    for hidden in others.chain([&lab.hq]) {
        script.push_str(&format!("mount -t tmpfs -o ro,size=4k,mode=0555 nothing '{}'\n", hidden.display()));
    }
    script.push_str(&format!("echo $$ > '{0}.new'\nmv '{0}.new' '{0}'\nexec sleep infinity\n", ready.display()));
    let net = format!("--net=/run/netns/{}", site.netns);
    let mut command = Command::new("nsenter");
    command.args([&net, "unshare", "--mount", "--propagation", "private", "--", "/bin/sh", "-c", &script]);
    spawn_detached(&mut command, &site.root.join("log/keeper.log"))?;
    wait::until(&format!("mounts of {}", site.name), START_PATIENCE, || {
        let said = fs::read_to_string(site.root.join("log/keeper.log")).unwrap_or_default();
        site.keeper().map(drop).context(said)
    })
}

/// Starts the site's daemon and waits until it answers. Also used after somebody killed it.
pub(crate) fn start_daemon(lab: &Lab, site: &Site) -> Result<()> {
    wait::until(&format!("the end of the former libvirt of {}", site.name), START_PATIENCE, || nobody_has(&site.root.join("run/libvirtd.pid")))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["lab", "exec", "--site", &site.name, "--dir"]).arg(&lab.dir);
    command.args(["--", "libvirtd", "--pid-file", "/run/libvirt/libvirtd.pid"]);
    let log = site.root.join("log/daemon-start.log");
    spawn_detached(&mut command, &log)?;
    wait::until(&format!("libvirt of {}", site.name), START_PATIENCE, || {
        let said = || fs::read_to_string(&log).unwrap_or_default();
        sh::run("virsh", &["-q", "-c", &site.uri, "version"]).with_context(said)
    })
}

/// Whether no daemon has its file any more. A killed one has it until the last of its threads has ended, and one that is started in the
/// meantime ends at once.
fn nobody_has(pid_file: &Path) -> Result<()> {
    match fs::File::options().write(true).open(pid_file) {
        Ok(file) => fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).with_context(|| format!("{} is locked", pid_file.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("opening {}", pid_file.display())),
    }
}

fn daemon_conf() -> String {
    // One log a site; the socket is root's, as everything here is.
    let mut conf = String::from("auth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\nunix_sock_rw_perms = \"0700\"\n");
    conf.push_str("log_outputs = \"3:file:/var/log/libvirt/libvirtd.log\"\n");
    conf
}

fn spawn_detached(command: &mut Command, log: &Path) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let out = fs::File::create(log)?;
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    // Its own group: Ctrl-C on our terminal is for us, the lab goes down in order.
    command.process_group(0).spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    Ok(())
}

/// What QEMU can do, as libvirt found out once. libvirt itself checks whether it still holds.
fn abilities() -> PathBuf {
    paths::guests().join("capabilities")
}

fn keep_abilities(site: &Site) -> Result<()> {
    let found = site.root.join("cache/qemu/capabilities");
    if found.is_dir() && !abilities().exists() {
        let aside = abilities().with_extension(std::process::id().to_string());
        sh::run("cp", &[Path::new("-a"), &found, &aside])?;
        if fs::rename(&aside, abilities()).is_err() {
            fs::remove_dir_all(aside)?; // another lab was faster
        }
    }
    Ok(())
}
