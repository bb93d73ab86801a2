//! Says on standard error how far a restore has come, if it takes longer than a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_core::{Clock, Offset, StateRestoreListener, TopicPartition};

/// Between two lines.
const EVERY: Duration = Duration::from_secs(1);

/// How far the restore of all stores has come.
pub(crate) struct Restoring {
    clock: Arc<dyn Clock>,
    progress: Mutex<Progress>,
    tell: Box<dyn Fn(String) + Send + Sync>,
}

#[derive(Default)]
struct Progress {
    /// When the first of them began, and when it was told of last.
    since: Option<Duration>,
    told: Option<Duration>,
    stores: HashMap<(TopicPartition, String), Span>,
    restored: u64,
}

/// Where a store's restore began, where it is, and where it ends.
struct Span {
    start: Offset,
    now: Offset,
    end: Offset,
}

impl Restoring {
    pub(crate) fn new(clock: Arc<dyn Clock>, tell: impl Fn(String) + Send + Sync + 'static) -> Self {
        Restoring { clock, progress: Mutex::default(), tell: Box::new(tell) }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    fn text(&self, now: Duration) -> String {
        let of = |part: fn(&Span) -> Offset| self.stores.values().map(part).sum::<Offset>();
        let percent = of(|span| span.now - span.start) * 100 / of(|span| span.end - span.start).max(1);
        let seconds = now.saturating_sub(self.since.unwrap_or(now)).as_secs_f64();
        format!("restoring state: {percent} %, {} records in {seconds:.1} s", self.restored)
    }
}

impl StateRestoreListener for Restoring {
    fn on_restore_start(&self, changelog: &TopicPartition, store: &str, starting: Offset, ending: Offset) {
        let mut progress = self.progress();
        progress.since.get_or_insert(self.clock.now().ticks);
        progress
            .stores
            .insert((changelog.clone(), store.to_owned()), Span { start: starting, now: starting, end: ending });
    }

    fn on_batch_restored(&self, changelog: &TopicPartition, store: &str, batch_end: Offset, restored: u64) {
        let now = self.clock.now().ticks;
        let mut progress = self.progress();
        progress.restored += restored;
        if let Some(span) = progress.stores.get_mut(&(changelog.clone(), store.to_owned())) {
            span.now = batch_end;
        }
        let last = progress.told.or(progress.since).unwrap_or(now);
        if now.saturating_sub(last) >= EVERY {
            progress.told = Some(now);
            (self.tell)(progress.text(now));
        }
    }

    fn on_restore_end(&self, changelog: &TopicPartition, store: &str, _restored: u64) {
        let mut progress = self.progress();
        if let Some(span) = progress.stores.get_mut(&(changelog.clone(), store.to_owned())) {
            span.now = span.end;
        }
        if progress.stores.values().all(|span| span.now >= span.end) {
            if progress.told.is_some() {
                (self.tell)(progress.text(self.clock.now().ticks));
            }
            *progress = Progress::default();
        }
    }

    fn on_restore_suspended(&self, changelog: &TopicPartition, store: &str, restored: u64) {
        let mut progress = self.progress();
        progress.stores.remove(&(changelog.clone(), store.to_owned()));
        progress.restored = progress.restored.saturating_sub(restored);
        if progress.stores.is_empty() {
            *progress = Progress::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::ManualClock;

    use super::*;

    /// What is said when three batches of two stores come so many milliseconds apart.
    fn said(apart: u64) -> Vec<String> {
        let clock = Arc::new(ManualClock::at(0));
        let said = Arc::new(Mutex::new(Vec::new()));
        let says = said.clone();
        let restoring = Restoring::new(clock.clone(), move |line| says.lock().unwrap().push(line));
        let changelog = |partition| TopicPartition::new("app-counts-changelog", partition);
        restoring.on_restore_start(&changelog(0), "counts", 100, 200);
        restoring.on_restore_start(&changelog(1), "counts", 0, 100);
        for (partition, batch_end) in [(0, 150), (1, 100), (0, 200)] {
            clock.advance(Duration::from_millis(apart));
            restoring.on_batch_restored(&changelog(partition), "counts", batch_end, 30);
            if batch_end > 150 || partition == 1 {
                restoring.on_restore_end(&changelog(partition), "counts", 60);
            }
        }
        said.lock().unwrap().clone()
    }

    #[test]
    fn a_restore_that_takes_longer_than_a_second_is_told_of_every_second() {
        let line =
            |percent, records, seconds| format!("restoring state: {percent} %, {records} records in {seconds:.1} s");
        assert_eq!(said(300), [""; 0]);
        assert_eq!(said(600), [line(75, 60, 1.2), line(100, 90, 1.8)]);
    }

    #[test]
    fn a_restore_that_begins_anew_is_counted_anew() {
        let clock = Arc::new(ManualClock::at(0));
        let said = Arc::new(Mutex::new(Vec::new()));
        let says = said.clone();
        let restoring = Restoring::new(clock.clone(), move |line| says.lock().unwrap().push(line));
        let changelog = TopicPartition::new("app-counts-changelog", 0);
        for _ in 0..2 {
            restoring.on_restore_start(&changelog, "counts", 0, 100);
            clock.advance(Duration::from_millis(1500));
            restoring.on_batch_restored(&changelog, "counts", 50, 30);
            restoring.on_restore_suspended(&changelog, "counts", 30);
        }
        assert_eq!(*said.lock().unwrap(), ["restoring state: 50 %, 30 records in 1.5 s"; 2]);
    }
}
