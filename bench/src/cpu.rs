//! CPU time of this process, all threads, from the kernel's scheduler (Linux).

use std::fs;
use std::time::Instant;

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
