//! Plain threads for turns: no runtime is around a workflow when it is polled, so one that reaches for tokio panics at once.

use std::sync::{Arc, Mutex, mpsc};

use super::Blocking;

type Work = Box<dyn FnOnce() + Send>;

/// A fixed set of threads.
pub struct PlainThreads {
    queue: mpsc::Sender<Work>,
}

impl PlainThreads {
    /// Starts `count` threads (at least one).
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn start(count: usize) -> std::io::Result<Self> {
        let (queue, work) = mpsc::channel::<Work>();
        let work = Arc::new(Mutex::new(work));
        for number in 0..count.max(1) {
            let work = work.clone();
            std::thread::Builder::new().name(format!("turns-{number}")).spawn(move || {
                while let Some(job) = next(&work) {
                    // A job that panics loses its answer, not its thread.
                    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
                        tracing::error!("a turn panicked outside its workflow");
                    }
                }
            })?;
        }
        Ok(Self { queue })
    }
}

fn next(work: &Mutex<mpsc::Receiver<Work>>) -> Option<Work> {
    work.lock().ok()?.recv().ok()
}

impl Blocking for PlainThreads {
    fn run(&self, job: Work) {
        if self.queue.send(job).is_err() {
            tracing::error!("the threads for turns are gone");
        }
    }
}

/// Runs jobs where they are asked for: for the simulator, which has one thread only.
pub struct Inline;

impl Blocking for Inline {
    fn run(&self, job: Work) {
        job();
    }
}
