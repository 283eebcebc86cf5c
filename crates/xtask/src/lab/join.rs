//! Entering a lab's namespaces: a thread its network, or this whole program a site and then a command.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::record::Lab;

/// How long an HTTP answer of a guest may take; emulated machines are slow, not dead.
const HTTP_PATIENCE: Duration = Duration::from_secs(10);

/// Replaces this program by a command inside a site (network and mounts) or inside `wan` (network).
/// The process id stays, so that a caller can signal what it started.
pub(crate) fn exec(lab: &Lab, place: &str, command: &[OsString]) -> Result<()> {
    let Some((program, args)) = command.split_first() else { bail!("no command after `--`") };
    let here = std::env::current_dir()?;
    if place == "wan" {
        enter_network(&lab.wan.netns)?;
    } else {
        let site = lab.site(place)?;
        let mounts = File::open(format!("/proc/{}/ns/mnt", site.keeper()?))
            .with_context(|| format!("site {place} is not up"))?;
        enter_network(&site.netns)?;
        move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount))?;
        std::env::set_current_dir(&here).or_else(|_| std::env::set_current_dir("/"))?;
    }
    let error = Command::new(program).args(args).exec();
    Err(error).with_context(|| format!("cannot start {} in {place}", program.display()))
}

/// Moves the calling thread into a network namespace. It cannot go back: use a thread that ends afterwards.
fn enter_network(netns: &str) -> Result<()> {
    let file = File::open(Path::new("/run/netns").join(netns)).with_context(|| format!("no namespace {netns}"))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// Asks an HTTP server that is reachable only from within a namespace. Returns the body of a 200 answer.
pub(crate) fn http_get(netns: &str, address: SocketAddr, path: &str) -> Result<String> {
    let asked = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            enter_network(netns)?;
            get(address, path)
        });
        asking.join().map_err(|_panic| anyhow::anyhow!("the asking thread panicked"))
    })?;
    asked.with_context(|| format!("http://{address}{path}"))
}

fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(HTTP_PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("no HTTP answer: {answer:?}") };
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("{status}: {}", body.trim());
    }
    Ok(body.trim().to_owned())
}
