//! What this process takes of the machine: memory, file handles, threads.

use std::fs;
use std::io;

/// What a process takes. Linux only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of memory that are resident.
    pub memory: u64,
    /// Open files, folders and sockets.
    pub handles: u64,
    /// Threads.
    pub threads: u64,
}

impl Usage {
    /// Of this process, now.
    ///
    /// # Errors
    /// When the operating system does not say, as only Linux does.
    pub fn now() -> io::Result<Self> {
        let entries = |folder: &str| fs::read_dir(folder).map(|entries| entries.count() as u64);
        let status = fs::read_to_string("/proc/self/status")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let kilobytes: Option<u64> = resident.and_then(|number| number.parse().ok());
        let memory = kilobytes.ok_or_else(|| io::Error::other("no VmRSS in /proc/self/status"))? << 10;
        // One handle is that of the listing itself.
        Ok(Usage { memory, handles: entries("/proc/self/fd")? - 1, threads: entries("/proc/self/task")? })
    }
}

/// How much a value grows from the first to the last of evenly spaced samples, by the line of least squares through them.
pub fn growth(samples: impl Iterator<Item = u64> + Clone) -> f64 {
    let n = samples.clone().count() as f64;
    let (mean_x, mean_y) = ((n - 1.0) / 2.0, samples.clone().sum::<u64>() as f64 / n);
    let (mut covariance, mut variance) = (0.0, 0.0);
    for (x, y) in samples.enumerate() {
        covariance += (x as f64 - mean_x) * (y as f64 - mean_y);
        variance += (x as f64 - mean_x).powi(2);
    }
    if variance == 0.0 { 0.0 } else { covariance / variance * (n - 1.0) }
}

#[cfg(test)]
mod tests {
    use super::growth;

    #[test]
    fn a_line_grows_as_it_does_and_a_wave_does_not() {
        assert_eq!(growth([5, 5, 5, 5].into_iter()), 0.0);
        assert_eq!(growth((0..11).map(|x| 100 + 3 * x)), 30.0);
        assert!(growth((0..100).map(|x| 100 + x % 2)).abs() < 0.1);
        assert_eq!(growth([7].into_iter()), 0.0);
    }
}
