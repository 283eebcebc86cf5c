//! Many seeds of the comparison with Postgres, on all processors: each has a database of its own, in one cluster.

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use store::testing::StillDatabase;

use crate::twin::{Answers, Difference, compare};

/// What many seeds came to.
#[derive(Default)]
pub struct Compared {
    /// How often each kind of answer was given.
    pub answers: Answers,
    /// Where the two stores differ, at most one a seed.
    pub differences: Vec<Difference>,
}

/// Compares with these seeds; each difference is told when it is found.
///
/// # Errors
/// No runtime can be had.
pub fn compare_all(seeds: Range<u64>, found: impl Fn(&Difference) + Sync) -> std::io::Result<Compared> {
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(Compared::default());
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let database = StillDatabase::new().await;
            loop {
                let seed = next.fetch_add(1, Ordering::SeqCst);
                if seed >= seeds.end {
                    return;
                }
                let compared = compare(&database, seed, drop).await;
                let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                match compared {
                    Ok(answers) => answers.into_iter().for_each(|(kind, count)| *sum.answers.entry(kind).or_default() += count),
                    Err(difference) => {
                        found(&difference);
                        sum.differences.push(*difference);
                    }
                }
            }
        });
        Ok(())
    };
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let ended: Vec<std::io::Result<()>> = thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        started.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    if ended.len() < threads {
        return Err(std::io::Error::other("a thread of the comparison has panicked"));
    }
    ended.into_iter().collect::<std::io::Result<()>>()?;
    Ok(sum.into_inner().unwrap_or_else(PoisonError::into_inner))
}
