//! Speaks to the person who watches: acts, sentences with the time since the start, and a line that moves while waiting.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two sentences about the same wait, where the line can't be rewritten.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Voice {
    started: Instant,
    act: u8,
    terminal: bool,
    last_progress: Option<(Instant, String)>,
}

impl Voice {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), act: 0, terminal: std::io::stdout().is_terminal(), last_progress: None }
    }

    /// Opens an act.
    pub(crate) fn act(&mut self, title: &str) {
        self.settle();
        self.act += 1;
        println!("\n── {}. {title}", self.act);
    }

    /// Says something that happened.
    pub(crate) fn say(&mut self, text: &str) {
        self.settle();
        println!("{} {text}", self.clock());
    }

    /// Says how far a wait is; rewrites its line on a terminal, else speaks only when there is news or after a while.
    pub(crate) fn progress(&mut self, text: &str) {
        if self.terminal {
            print!("\r\x1b[K{} … {text}", self.clock());
            drop(std::io::stdout().flush()); // a closed terminal is found out by the next line
        } else if self.last_progress.as_ref().is_none_or(|(at, said)| said != text && at.elapsed() > PATIENCE) {
            println!("{} … {text}", self.clock());
        } else {
            return;
        }
        self.last_progress = Some((Instant::now(), text.to_owned()));
    }

    fn settle(&mut self) {
        if self.last_progress.take().is_some() && self.terminal {
            print!("\r\x1b[K");
        }
    }

    fn clock(&self) -> String {
        format!("[{:6.1} s]", self.started.elapsed().as_secs_f64())
    }
}
