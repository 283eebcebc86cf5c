//! Calls that libvirt does not answer any more once the machine's process is gone: they are left behind then.
//!
//! ```text
//!   call, on a thread of its own ─▶ answer
//!        └─ every LOOK: is there a process of the machine? gone for PATIENCE ─▶ nobody waits any longer
//! ```
//!
//! QEMU may end while libvirt talks to it about a job that begins; `virDomainBackupBegin` was seen never to return then, and who waited
//! for it waited for ever. The thread that is left behind has a place among the calls of its connection, so such calls are made on a
//! connection of their own ([`Hypervisor::apart`](super::Hypervisor::apart)).
//!
//! Invariant: a call is given up only after its machine's process has gone, so whatever it still does, it does to nothing.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// Between two looks at the process: most calls have ended before the first.
const LOOK: Duration = Duration::from_millis(500);
/// How long libvirt may take to notice that a process has ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a call ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome<T> {
    Answered(T),
    /// The process has gone and there is no answer.
    Outlived,
    /// The thread could not be started, or has panicked.
    Lost(String),
}

/// When a call is looked at, and when it is given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    look: Duration,
    patience: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { look: LOOK, patience: PATIENCE }
    }
}

/// Carries a call out, and waits for its answer as long as its machine `lives`.
pub(super) fn answered<T: Send + 'static>(bounds: Bounds, call: impl FnOnce() -> T + Send + 'static, lives: impl Fn() -> bool) -> Outcome<T> {
    let (tell, told) = mpsc::channel();
    // Nobody hears what comes too late.
    let asking = thread::Builder::new().name("libvirt-call".to_owned()).spawn(move || drop(tell.send(call())));
    if let Err(error) = asking {
        return Outcome::Lost(error.to_string());
    }
    let mut gone_since: Option<Instant> = None;
    loop {
        match told.recv_timeout(bounds.look) {
            Ok(answer) => return Outcome::Answered(answer),
            Err(RecvTimeoutError::Disconnected) => return Outcome::Lost("its thread panicked".to_owned()),
            Err(RecvTimeoutError::Timeout) if lives() => gone_since = None,
            Err(RecvTimeoutError::Timeout) => {
                if gone_since.get_or_insert_with(Instant::now).elapsed() >= bounds.patience {
                    return Outcome::Outlived;
                }
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use std::{
        cell::Cell,
        sync::mpsc::{Receiver, Sender, channel},
    };

    use super::*;

    const AT_ONCE: Bounds = Bounds { look: Duration::from_millis(1), patience: Duration::ZERO };

    /// A call that answers when it is told to.
    fn call() -> (Sender<u8>, Receiver<u8>) {
        channel()
    }

    #[test]
    fn a_call_that_is_not_answered_is_left_behind_once_its_machine_is_gone_and_not_before() {
        let (answer, asked) = call();
        let looks = Cell::new(0);
        let lives = || {
            looks.set(looks.get() + 1);
            looks.get() < 3
        };
        assert_eq!(answered(AT_ONCE, move || asked.recv(), lives), Outcome::Outlived);
        assert_eq!(looks.get(), 3);
        answer.send(1).unwrap();
    }

    #[test]
    fn a_call_about_a_machine_that_lives_is_waited_for() {
        let (answer, asked) = call();
        let looks = Cell::new(0);
        let lives = || {
            looks.set(looks.get() + 1);
            if looks.get() == 5 {
                answer.send(7).unwrap();
            }
            true
        };
        assert_eq!(answered(AT_ONCE, move || asked.recv().unwrap(), lives), Outcome::Answered(7));
    }

    #[test]
    fn a_machine_that_is_seen_again_was_not_gone() {
        let (answer, asked) = call();
        let looks = Cell::new(0);
        let patient = Bounds { patience: Duration::from_secs(3600), ..AT_ONCE };
        let lives = || {
            looks.set(looks.get() + 1);
            if looks.get() == 4 {
                answer.send(7).unwrap();
            }
            looks.get() % 2 == 0
        };
        assert_eq!(answered(patient, move || asked.recv().unwrap(), lives), Outcome::Answered(7));
    }

    #[test]
    fn a_call_that_panics_is_told_as_such() {
        let outcome: Outcome<()> = answered(AT_ONCE, || panic!("the test's own"), || true);
        assert_eq!(outcome, Outcome::Lost("its thread panicked".to_owned()));
    }
}
