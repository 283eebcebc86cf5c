//! A session that is ended from outside leaves no process and no disk behind.
#![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use switchback_chaos::guard::{mounts, processes};
use switchback_tests::product::wait_until;

/// A session that goes on for long, and its directory.
fn begun() -> (Child, PathBuf) {
    let mut session = Command::new(env!("CARGO_BIN_EXE_switchback-chaos")).args(["--kills", "1000"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(session.stdout.take().unwrap()).lines().map(Result::unwrap);
    let told = lines.filter_map(|line| Some(line.strip_prefix("everything runs in ")?.split_whitespace().next()?.to_owned())).next().unwrap();
    (session, PathBuf::from(told))
}

#[test]
fn whatever_signal_ends_a_session_nothing_of_it_stays() {
    for signal in [Signal::KILL, Signal::TERM, Signal::INT] {
        let (mut session, dir) = begun();
        assert!(processes(&dir).len() > 5, "{:?}", processes(&dir));
        kill_process(Pid::from_child(&session), signal).unwrap();
        let ended = session.wait().unwrap();
        wait_until("all processes of the session are gone, and its disk", || {
            (processes(&dir).is_empty() && mounts(&dir).unwrap().is_empty()).then_some(())
        });
        if signal != Signal::KILL {
            assert_eq!(ended.code(), Some(3), "there is no verdict");
        }
        assert!(dir.join("logs").is_dir(), "its logs can be read");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
