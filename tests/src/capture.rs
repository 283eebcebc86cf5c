//! Frames on a network device of a site, recorded.

use std::{path::PathBuf, process::Command};

use crate::{
    lab::Lab,
    place::{Running, Said, wait_until},
};

/// Frames from or to some machines on a device, recorded until it is dropped.
pub struct Capture {
    file: PathBuf,
    running: Running,
}

impl Capture {
    /// Returns once it records. `macs`: hardware addresses.
    #[must_use]
    pub fn of(lab: &Lab, site: &str, device: &str, macs: &[String]) -> Self {
        let file = lab.dir().join(format!("{site}-{device}.pcap"));
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &lab.netns(site), "tcpdump", "-Z", "root", "-U", "-i", device, "-w"]).arg(&file);
        command.arg(macs.iter().map(|mac| format!("ether host {mac}")).collect::<Vec<_>>().join(" or "));
        let log = lab.dir().join(format!("{site}-{device}.log"));
        let running = Running::start(command, &log);
        wait_until("tcpdump listens", || running.log().contains("listening on").then_some(()));
        Self { file, running }
    }

    /// How many there were.
    #[must_use]
    pub fn frames(mut self) -> u64 {
        self.running.end();
        let said = Said::by(Command::new("tcpdump").args(["-n", "-r"]).arg(&self.file));
        said.out.lines().count() as u64
    }
}
