//! One measurement of a workload: with which stores, how many threads and which guarantee. It has a process of its own, since
//! its peak memory counts.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::{Error, Log, ProcessingGuarantee, Result, RuntimeConfig, Streams, SystemClock};
use serde::{Deserialize, Serialize};

use super::workload::Workload;
use crate::cpu::ProcessMeter;
use crate::log::{create, open};
use crate::memory::peak_megabytes;
use crate::processed::processed;
use crate::store::Store;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) workload: Workload,
    pub(crate) store: Store,
    pub(crate) threads: usize,
    pub(crate) exactly_once: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Thousand records per second.
    pub(crate) rate: f64,
    /// CPU microseconds per record, of everything in the process.
    pub(crate) cpu: f64,
    /// Most memory of the process, in MiB: preparing the input, log and application.
    pub(crate) memory: f64,
}

impl Cell {
    /// All of a workload with one kind of store.
    pub(crate) fn all(workload: Workload, store: Store) -> [Cell; 4] {
        [(1, false), (2, false), (1, true), (2, true)].map(|(threads, exactly_once)| Cell {
            workload,
            store,
            threads,
            exactly_once,
        })
    }

    /// As [`Cell::parse`] reads it.
    pub(crate) fn name(self) -> String {
        let guarantee = if self.exactly_once { "exactly-once" } else { "at-least-once" };
        let store = if self.store == Store::Memory { "memory" } else { "rocksdb" };
        format!("{}/{store}/{}/{guarantee}", self.workload.name(), self.threads)
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        let stores = Store::ALL.into_iter();
        let mut cells = stores.flat_map(|store| Workload::ALL.into_iter().flat_map(move |w| Cell::all(w, store)));
        cells.find(|cell| cell.name() == name)
    }

    /// Runs it, with a part of the input. The first fifth is not counted; the last commit, and closing, is.
    pub(crate) fn measure(self, scale: f64) -> Result<Figures> {
        let (log, dir) = open()?;
        create(&log, "out")?;
        let share = if self.exactly_once { 0.5 } else { 1.0 };
        let input = self.workload.fill(&log, (self.workload.size() as f64 * share * scale) as u64)?;
        let (guarantee, interval) = match self.exactly_once {
            true => (ProcessingGuarantee::ExactlyOnceV2, Duration::from_millis(100)),
            false => (ProcessingGuarantee::AtLeastOnce, Duration::from_secs(10)),
        };
        let config = RuntimeConfig {
            threads: self.threads,
            guarantee,
            commit_interval: interval,
            disk: self.store.disk(&dir.path().join("state"))?,
            ..RuntimeConfig::embedded("baseline")
        };
        let clock = Arc::new(SystemClock::default());
        let mut streams =
            Streams::new(self.workload.topology()?, config, Arc::new(log.clone()) as Arc<dyn Log>, clock)?;
        streams.start()?;
        let warm = processed(&mut streams, input.processed / 5)?;
        let meter = ProcessMeter::start();
        processed(&mut streams, input.processed)?;
        streams.close()?;
        let (cpu, wall) = meter.stop();
        let memory = peak_megabytes();
        self.workload.check(&log, &input)?;
        // Of what our tasks process, the same part is warm-up as of the records.
        let records = input.records as f64 * (input.processed - warm) as f64 / input.processed as f64;
        if records <= 0.0 {
            return Err(Error::user("too few records to measure\n  help: a larger --scale"));
        }
        Ok(Figures { rate: records / wall.as_secs_f64() / 1e3, cpu: cpu.as_secs_f64() * 1e6 / records, memory })
    }
}
