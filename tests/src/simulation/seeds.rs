//! Many seeds, on all cores.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::run::{Failure, Report, Simulation};
use super::trace::Trace;

/// How many seeds went.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Seeds that were run.
    pub seeds: u64,
    /// What happened in all of them together.
    pub sum: Report,
    /// Those in which something happened that must not, by seed.
    pub failures: Vec<Failure>,
}

/// Runs seeds, as many at once as there are cores, and calls `progress` after each.
pub fn run_seeds(seeds: Range<u64>, progress: impl Fn(&Summary) + Sync) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let summary = Mutex::new(Summary::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let told = Simulation::run(seed, &Trace::default());
            let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
            summary.seeds += 1;
            match told {
                Ok(report) => summary.sum.add(report),
                Err(failure) => summary.failures.push(*failure),
            }
            progress(&summary);
        }
    };
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.failures.sort_by_key(|failure| failure.seed);
    summary
}
