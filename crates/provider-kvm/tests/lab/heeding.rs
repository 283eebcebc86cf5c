//! What a guest would do, for machines that have none: go down when asked to, and the bytes of a disk.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Longer than the way of an event.
const QUIET: Duration = Duration::from_millis(500);

/// Ends a machine from within: QEMU closes its disks and goes.
pub fn quit(uri: &str, name: &str) {
    monitor(uri, name, "quit");
}

/// Ends the machine from within when somebody presses its power button next.
pub fn next_shut_down(uri: &str, name: &str) {
    let mut command = Command::new("virsh");
    command.args(["-q", "-c", uri, "qemu-monitor-event", "--domain", name, "--event", "POWERDOWN", "--loop"]);
    let mut listener = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("virsh can be started");
    let said = BufReader::new(listener.stdout.take().expect("virsh says something"));
    let (tell, told) = mpsc::channel();
    thread::spawn(move || said.lines().map_while(Result::ok).filter(|line| line.contains("POWERDOWN")).try_for_each(|_| tell.send(())));
    // Nobody listens in the machine, so the button may be pressed until the listener is seen to hear it.
    super::wait_until("virsh to listen", || {
        monitor(uri, name, "system_powerdown");
        told.recv_timeout(QUIET).ok()
    });
    while told.recv_timeout(QUIET).is_ok() {}
    let (uri, name) = (uri.to_owned(), name.to_owned());
    thread::spawn(move || {
        if told.recv_timeout(super::PATIENCE).is_ok() {
            quit(&uri, &name);
        }
        drop(listener.kill());
        drop(listener.wait());
    });
}

/// Of a file's bytes.
pub fn digest(file: &Path) -> String {
    let output = Command::new("sha256sum").arg(file).output().expect("sha256sum can be started");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn monitor(uri: &str, name: &str, what: &str) {
    let output = Command::new("virsh").args(["-q", "-c", uri, "qemu-monitor-command", "--hmp", name, what]).output();
    // A machine that is asked to quit may be gone before it has answered.
    drop(output.expect("virsh can be started"));
}
