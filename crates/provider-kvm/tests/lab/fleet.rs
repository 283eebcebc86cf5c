//! Several guests at the first site, members of one replication group, and an oracle that writes one counter across them in order.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use provider::{Base, PrepareReplica, Replicate, ReplicationStatus};
use recovery::{Group, GroupStatus, ItemName, ReplicationPolicy};

use super::{End, GuestLab, Machine, call, enter_network_of, generation, sites::xtask, wait_until, wait_until_next_look};

const HTTP_PORT: u16 = 8080;
/// An emulated guest whose machine is paused answers later.
const ANSWER: Duration = Duration::from_secs(30);

/// A guest.
pub struct Member {
    pub name: String,
    pub item: ItemName,
    pub address: String,
}

/// Guests, and the agents of both sites.
pub struct Fleet {
    pub lab: GuestLab,
    pub members: Vec<Member>,
}

impl Fleet {
    /// So many guests that are up and write nothing by themselves; `None` where there can be no lab.
    pub fn new(case: &str, count: usize) -> Option<Self> {
        // The lab's own guest is the first; it keeps writing by itself unless it is told not to.
        let lab = GuestLab::new(case, "tick=0")?;
        let first = member(lab.name.clone());
        let started: Vec<(Member, Child)> = (1..count).map(|_| start(&lab)).collect();
        let others = started.into_iter().map(|(member, child)| {
            let output = child.wait_with_output().expect("the lab's program ends");
            assert!(output.status.success(), "{}: {}", member.name, String::from_utf8_lossy(&output.stderr));
            member
        });
        let members = std::iter::once(first).chain(others).collect();
        Some(Self { lab, members })
    }

    /// A group of all guests.
    pub fn group(&self, interval_s: u32, keep: u32, max_pause_ms: u32) -> Group {
        let members = self.members.iter().map(|member| member.item.clone()).collect();
        let group = Group::new("shop".parse().expect("a group's name"), members, interval_s, keep, 3600);
        group.and_then(|group| group.with_max_pause(max_pause_ms)).expect("the group is within its limits")
    }

    /// Replicates all guests as members of a group, and waits for a point of each.
    pub async fn protect(&self, group: &Group, policy: &ReplicationPolicy) {
        for member in &self.members {
            let (item, generation) = (member.item.clone(), generation(1));
            let machine = self.lab.source().inspect(&member.name).await.expect("the machine is inspected");
            let prepare = PrepareReplica { item: item.clone(), generation, machine, policy: policy.clone(), base: Base::Empty };
            let endpoint = self.lab.target().prepare(&call(1, 1, 1), prepare).await.expect("the replica is prepared");
            let (machine, group) = (member.name.clone(), Some(group.clone()));
            let wanted = Replicate { item, machine, generation, policy: policy.clone(), endpoint, returning: None, group };
            self.lab.source().start_replication(&call(1, 2, 1), wanted).await.expect("replication starts");
        }
        for member in &self.members {
            let mut seeded = false;
            while !seeded {
                seeded = self.status(member).await.last_point.is_some();
                wait_until_next_look().await;
            }
        }
    }

    pub async fn status(&self, member: &Member) -> ReplicationStatus {
        self.lab.source().replication_status(&member.item).await.expect("there is a status").expect("the item is replicated")
    }

    pub async fn group_status(&self) -> GroupStatus {
        self.status(&self.members[0]).await.group.expect("the item is in a group")
    }

    pub fn power(&self, member: &Member) -> String {
        self.lab.state(End::Source, &member.name)
    }

    /// Begins to write 1 on the first guest, 2 on the second … each once the one before it is on its guest's disk.
    pub fn oracle(&self) -> Oracle {
        let (stop, place) = (Arc::new(AtomicBool::new(false)), self.lab.place(End::Source).clone());
        let (stopping, guests) = (stop.clone(), self.members.iter().map(|m| m.address.clone()).collect::<Vec<_>>());
        let writer = thread::spawn(move || {
            enter_network_of(&place);
            let mut written: u64 = 0;
            while !stopping.load(Ordering::SeqCst) {
                let (guest, number) = (&guests[(written % guests.len() as u64) as usize], written / guests.len() as u64 + 1);
                let answer = get(guest, "/append?n=1");
                assert!(answer.contains(&format!("\"ok\":true,\"seq\":{number}}}")), "{guest}: {answer}");
                written += 1;
            }
            written
        });
        Oracle { stop, writer: Some(writer) }
    }
}

fn member(name: String) -> Member {
    let number: u32 = name[1..].parse().expect("a machine's name ends with its number");
    Member { item: name.parse().expect("the machine's name is an item's"), address: format!("10.1.0.{}", 10 + number), name }
}

fn start(lab: &GuestLab) -> (Member, Child) {
    let member = member(lab.sites.unique_name());
    let mut command = xtask();
    command.args(["lab", "guest", "--site", &lab.sites.a.name, "--name", &member.name, "--ip", &format!("{}/24", member.address)]);
    command.args(["--append", "tick=0", "--json", "--dir"]).arg(&lab.sites.dir).stdout(Stdio::piped()).stderr(Stdio::piped());
    (member, command.spawn().expect("the lab's program can be started"))
}

fn get(address: &str, path: &str) -> String {
    let address = SocketAddr::new(address.parse().expect("an address"), HTTP_PORT);
    let mut stream = TcpStream::connect_timeout(&address, ANSWER).expect("the guest accepts");
    stream.set_read_timeout(Some(ANSWER)).expect("a limit can be set");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("the guest hears");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the guest answers");
    answer
}

/// What writes the counter, until it is told to end.
pub struct Oracle {
    stop: Arc<AtomicBool>,
    writer: Option<JoinHandle<u64>>,
}

impl Oracle {
    /// Ends it. Returns the last number written.
    pub fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.writer.take().map_or(0, |writer| writer.join().expect("the oracle wrote without a gap"))
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.lab.close(End::Source);
        self.lab.close(End::Target);
        for member in &self.members {
            for end in [End::Source, End::Target] {
                Machine::at(self.lab.place(end), &member.name).remove();
            }
        }
    }
}

/// Waits until a machine does what it is to do.
pub fn until_power(fleet: &Fleet, state: &str) {
    for member in &fleet.members {
        wait_until(&format!("{} to be {state}", member.name), || (fleet.power(member) == state).then_some(()));
    }
}
