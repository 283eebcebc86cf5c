//! Asking a copy from within its isolated network: a thread with a network of its own, joined to the copy's bridge by a cable.
//!
//! ```text
//!   the thread's own network namespace           the host's
//!     probe0 10.1.0.6/24 ══════ cable ══════ sbpHASH ── sbtHASH ── the copy's tap
//! ```
//!
//! Invariants: 1. The cable's far end is made in the thread's namespace, which the kernel removes with the thread: an agent that is
//! killed leaves nothing that reaches the copy. 2. The host gets no address in the copy's network.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use provider::{Applied, ProviderError};
use recovery::Check;

use super::isolation::{Names, change, remove_interface, without_ipv6};
use crate::ffi;

/// Longest single question, as for machines that are asked from the host.
const LIMIT: Duration = Duration::from_secs(3);
/// A thread has its namespace at once.
const READY: Duration = Duration::from_secs(10);
const FAR_END: &str = "probe0";

/// Asks all checks; every one has to hold.
///
/// # Errors
/// `NotServing`: the first one that did not hold; `Platform`: it could not be asked.
pub(super) fn ask_within(names: &Names, machine: &str, checks: &[Check]) -> Result<String, ProviderError> {
    let answer = within(names, &names.port, || ask_all(machine, checks));
    remove_interface(&names.port)?;
    answer
}

/// A connection that was made within a copy's network. The namespace lives as long as the connection, the cable as long as this.
pub(crate) struct Cable(String);

impl Drop for Cable {
    fn drop(&mut self) {
        if let Err(error) = remove_interface(&self.0) {
            tracing::warn!(port = self.0, %error, "the cable of a link into a copy's network was not removed; the next link or the cleaning does it");
        }
    }
}

/// Connects to a port of the copy, beside whoever asks it.
///
/// # Errors
/// `NotServing`: nobody accepts connections there; `Platform`.
pub(super) fn link_within(names: &Names, machine: &str, host: &str, port: u16) -> Result<(TcpStream, Cable), ProviderError> {
    let not_serving = |detail: String| ProviderError::NotServing { machine: machine.to_owned(), detail };
    let named = |_name| not_serving(format!("{host} is a name, and nothing in the copy's network knows names: give its address"));
    let target: IpAddr = host.parse().map_err(named)?;
    let cable = Cable(names.link.clone());
    let stream = within(names, &names.link, || {
        change(&format!("link set dev {FAR_END} up"))?;
        // Another neighbour than the one that asks checks: the copy must not mix their cards up.
        stand_beside(apart(target))?;
        TcpStream::connect_timeout(&SocketAddr::new(target, port), LIMIT).map_err(|error| not_serving(format!("{target} port {port}: {error}")))
    })?;
    Ok((stream, cable))
}

/// Does something in a thread whose network is joined to the copy's. The caller removes the cable.
fn within<T: Send>(names: &Names, port: &str, work: impl FnOnce() -> Result<T, ProviderError> + Send) -> Result<T, ProviderError> {
    remove_interface(port)?; // of an agent that was killed
    let (here, there) = (mpsc::channel::<Result<i32, String>>(), mpsc::channel::<()>());
    let ((say_ready, ready), (join, joined)) = (here, there);
    thread::scope(|scope| {
        let asking = thread::Builder::new().name("probe".to_owned()).spawn_scoped(scope, move || {
            let own = ffi::own_network().map(|()| rustix::thread::gettid().as_raw_nonzero().get()).map_err(|e| e.to_string());
            let has_own = own.is_ok();
            drop(say_ready.send(own));
            // Without a cable there is nobody to ask.
            if !has_own || joined.recv().is_err() {
                return None;
            }
            Some(work())
        });
        let asking = asking.map_err(|e| failed(names, e.to_string()))?;
        let thread = ready.recv_timeout(READY).map_err(|e| failed(names, e.to_string()))?.map_err(|e| failed(names, e))?;
        let connected = connect(names, port, thread);
        if connected.is_ok() {
            join.send(()).map_err(|e| failed(names, e.to_string()))?;
        }
        drop(join);
        let answer = asking.join().map_err(|_panic| failed(names, "the asking thread panicked".to_owned()))?;
        connected?;
        answer.ok_or_else(|| failed(names, "there is no cable".to_owned()))?
    })
}

fn failed(names: &Names, detail: String) -> ProviderError {
    ProviderError::Platform { operation: "ask within".to_owned(), target: names.network.clone(), detail, applied: Applied::No }
}

/// Lays the cable between the bridge and the thread's namespace.
fn connect(Names { bridge, .. }: &Names, port: &str, thread: i32) -> Result<(), ProviderError> {
    let namespace = format!("/proc/{}/task/{thread}/ns/net", std::process::id());
    change(&format!("link add {port} type veth peer name {FAR_END} netns {namespace}"))?;
    without_ipv6(port)?;
    change(&format!("link set dev {port} master {bridge}"))?;
    change(&format!("link set dev {port} up"))
}

/// In the thread: gives it an address beside each one that is asked, and asks.
fn ask_all(machine: &str, checks: &[Check]) -> Result<String, ProviderError> {
    let not_serving = |detail: String| ProviderError::NotServing { machine: machine.to_owned(), detail };
    change(&format!("link set dev {FAR_END} up"))?;
    let mut answers = vec![];
    for check in checks {
        let (Check::Tcp { host, .. } | Check::Http { host, .. } | Check::Ssh { host, .. } | Check::Rdp { host, .. }) = check else {
            return Err(not_serving(format!("{check} is no question to a network")));
        };
        let target: IpAddr = host.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_name| {
            not_serving(format!("{check} names a host; nothing in the copy's network knows names: give its address"))
        })?;
        stand_beside(beside(target))?;
        answers.push(provider::ask(check, LIMIT).map_err(|why| not_serving(format!("{check}: {why}")))?);
    }
    Ok(answers.join("; "))
}

fn stand_beside((own, bits): (IpAddr, u8)) -> Result<(), ProviderError> {
    let no_wait = if own.is_ipv6() { " nodad" } else { "" };
    change(&format!("address replace {own}/{bits} dev {FAR_END}{no_wait}"))
}

/// A neighbour of the neighbour: in the next smallest network beside the target's.
fn apart(target: IpAddr) -> (IpAddr, u8) {
    let (own, bits) = beside(target);
    let own = match own {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() ^ 4)),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() ^ 4)),
    };
    (own, bits)
}

/// Another address in the smallest network that the target can be in, which its owner takes for a neighbour whatever its own idea of
/// the network's size; and the size that this end assumes.
fn beside(target: IpAddr) -> (IpAddr, u8) {
    let neighbour = |low: u8| match low & 3 {
        1 => (low & !3) | 2,
        _ => (low & !3) | 1,
    };
    match target {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            (IpAddr::V4(Ipv4Addr::new(a, b, c, neighbour(d))), 24)
        }
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[15] = neighbour(octets[15]);
            (IpAddr::V6(Ipv6Addr::from(octets)), 64)
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn the_probe_is_a_neighbour_and_never_the_target_itself() {
        for last in 0..=255 {
            let target = Ipv4Addr::new(10, 1, 0, last);
            let (IpAddr::V4(own), 24) = beside(IpAddr::V4(target)) else { panic!("not of its kind") };
            assert_ne!(own, target);
            assert_eq!(own.octets()[3] & !3, last & !3, "{own}");
            assert!(!matches!(own.octets()[3] & 3, 0 | 3), "{own} may be the network's own or its broadcast address");
        }
        let (link, _) = apart("10.1.0.19".parse().unwrap());
        assert_eq!(link.to_string(), "10.1.0.21");
        let (own, bits) = beside("fd00::5".parse().unwrap());
        assert_eq!((own.to_string().as_str(), bits), ("fd00::6", 64));
    }
}
