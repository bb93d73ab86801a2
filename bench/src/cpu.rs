//! CPU time of this process, all threads, from the kernel's scheduler (Linux).

use std::fs;
use std::time::{Duration, Instant};

/// Nanoseconds on a CPU so far. A thread that has ended no longer counts: measure while they live.
fn cpu_nanos() -> u64 {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return 0 };
    let one = |task: std::io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    tasks.filter_map(one).sum()
}

/// A measurement under way.
pub(crate) struct Meter {
    cpu: u64,
    wall: Instant,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Meter { cpu: cpu_nanos(), wall: Instant::now() }
    }

    /// CPU and wall nanoseconds since the start.
    pub(crate) fn stop(&self) -> (f64, f64) {
        ((cpu_nanos() - self.cpu) as f64, self.wall.elapsed().as_nanos() as f64)
    }
}

/// CPU time of the process by the kernel's ticks, 10 ms each: threads that have ended count too.
fn process_cpu() -> Duration {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold anything: user time is the 12th word, system time the 13th.
    let behind = text.rsplit_once(')').map_or("", |(_, words)| words);
    let ticks = |at: usize| behind.split_whitespace().nth(at).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// As [`Meter`], for work of some seconds that ends threads.
pub(crate) struct ProcessMeter {
    cpu: Duration,
    wall: Instant,
}

impl ProcessMeter {
    pub(crate) fn start() -> Self {
        ProcessMeter { cpu: process_cpu(), wall: Instant::now() }
    }

    /// CPU and wall time since the start.
    pub(crate) fn stop(&self) -> (Duration, Duration) {
        (process_cpu() - self.cpu, self.wall.elapsed())
    }
}
