//! Asking a copy from within its isolated network: a thread with a network of its own, joined to the copy's bridge by a cable.
//!
//! ```text
//!   the thread's own network namespace           the host's
//!     probe0 10.1.0.6/24 ══════ cable ══════ sbpHASH ── sbtHASH ── the copy's tap
//! ```
//!
//! Invariants: 1. The cable's far end is made in the thread's namespace, which the kernel removes with the thread: an agent that is
//! killed leaves nothing that reaches the copy. 2. The host gets no address in the copy's network. 3. Each copy has a cable of its own,
//! also where copies share a network; there its address is one that nobody answers at.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use provider::{Applied, ProviderError};
use recovery::Check;

use super::{
    isolation::{Names, change, remove_interface, without_ipv6},
    neighbour::{self, Stand},
    shared::Networks,
};
use crate::ffi;

/// Longest single question, as for machines that are asked from the host.
const LIMIT: Duration = Duration::from_secs(3);
/// A thread has its namespace at once.
const READY: Duration = Duration::from_secs(10);
pub(super) const FAR_END: &str = "probe0";

/// Where a copy is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room<'a> {
    pub(super) names: &'a Names,
    pub(super) networks: &'a Networks,
}

/// Asks all checks; every one has to hold.
///
/// # Errors
/// `NotServing`: the first one that did not hold; `Platform`: it could not be asked.
pub(super) fn ask_within(room: &Room<'_>, machine: &str, checks: &[Check]) -> Result<String, ProviderError> {
    let port = &room.names.port;
    let answer = within(room.names, port, || ask_all(room, machine, checks));
    remove_interface(port)?;
    answer
}

/// A connection that was made within a copy's network. The namespace lives as long as the connection; the cable and the address, at
/// which nobody else asks meanwhile, as long as this.
pub(crate) struct Cable {
    port: String,
    stand: Option<Stand>,
}

impl Drop for Cable {
    fn drop(&mut self) {
        if let Err(error) = remove_interface(&self.port) {
            tracing::warn!(port = self.port, %error, "the cable of a link into a copy's network was not removed; the next link or the cleaning does it");
        }
    }
}

/// Connects to a port of the copy, beside whoever asks it.
///
/// # Errors
/// `NotServing`: nobody accepts connections there; `Platform`.
pub(super) fn link_within(room: &Room<'_>, machine: &str, host: &str, port: u16) -> Result<(TcpStream, Cable), ProviderError> {
    let not_serving = |detail: String| ProviderError::NotServing { machine: machine.to_owned(), detail };
    let named = |_name| not_serving(format!("{host} is a name, and nothing in the copy's network knows names: give its address"));
    let target: IpAddr = host.parse().map_err(named)?;
    let link = &room.names.link;
    room.networks.asked_at(&room.names.network, target);
    let mut cable = Cable { port: link.clone(), stand: None };
    let (stream, stand) = within(room.names, link, || {
        change(&format!("link set dev {FAR_END} up"))?;
        // Another neighbour than the one that asks checks: the copy must not mix their cards up.
        let stand = Stand::beside(room, link, target, neighbour::apart(target))?;
        let connected = TcpStream::connect_timeout(&SocketAddr::new(target, port), LIMIT);
        Ok((connected.map_err(|error| not_serving(format!("{target} port {port}: {error}")))?, stand))
    })?;
    cable.stand = Some(stand);
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
    // The card's address stays the same from question to question, so that no copy's table of neighbours grows old by us.
    change(&format!("link add {port} type veth peer name {FAR_END} address {} netns {namespace}", neighbour::card_of(port)))?;
    without_ipv6(port)?;
    change(&format!("link set dev {port} master {bridge}"))?;
    change(&format!("link set dev {port} up"))
}

/// In the thread: gives it an address beside each one that is asked, and asks.
fn ask_all(room: &Room<'_>, machine: &str, checks: &[Check]) -> Result<String, ProviderError> {
    let not_serving = |detail: String| ProviderError::NotServing { machine: machine.to_owned(), detail };
    change(&format!("link set dev {FAR_END} up"))?;
    let targets = checks.iter().map(target_of).collect::<Result<Vec<_>, String>>().map_err(not_serving)?;
    // All of them first: who asks the one must not stand where the other is.
    targets.iter().for_each(|target| room.networks.asked_at(&room.names.network, *target));
    let (mut answers, mut stands) = (vec![], BTreeMap::new());
    for (check, target) in checks.iter().zip(targets) {
        if let Entry::Vacant(none) = stands.entry(target) {
            none.insert(Stand::beside(room, &room.names.port, target, neighbour::beside(target))?);
        }
        answers.push(provider::ask(check, LIMIT).map_err(|why| not_serving(format!("{check}: {why}")))?);
    }
    Ok(answers.join("; "))
}

/// Where a check asks.
fn target_of(check: &Check) -> Result<IpAddr, String> {
    let (Check::Tcp { host, .. } | Check::Http { host, .. } | Check::Ssh { host, .. } | Check::Rdp { host, .. }) = check else {
        return Err(format!("{check} is no question to a network"));
    };
    let named = |_name| format!("{check} names a host; nothing in the copy's network knows names: give its address");
    host.trim_start_matches('[').trim_end_matches(']').parse().map_err(named)
}
