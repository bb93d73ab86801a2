//! Opening a partition's folder: what a checkpoint vouches for is taken from indexes and the snapshot of producers, what
//! follows is read, its checksums compared, a torn end cut off.
//!
//! Only the last segment may be torn; damage anywhere else is reported, never skipped, before anything is changed.

use std::path::Path;

use millstream_core::{Files, LogError, Offset};

use crate::checkpoint::Point;
use crate::data_dir::sync_failed;
use crate::partition::State;
use crate::partition_files;
use crate::producers::Producers;
use crate::segment::{Opening, Segment};
use crate::swap;

/// What is known of a partition before its folder is read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known {
    /// What the last checkpoint has found; it has synced all of it.
    pub(crate) point: Option<Point>,
    /// The journal has what follows: the segments are cut off there.
    pub(crate) cut: bool,
    /// All of it is read again.
    pub(crate) doubted: bool,
    /// Without a checkpoint too it may have been compacted.
    pub(crate) compacts: bool,
}

/// What a partition's folder holds, and what is to be changed there before it is used.
pub(crate) struct Found {
    pub(crate) state: State,
    /// Segments behind the end: they go.
    surplus: Vec<Offset>,
    /// Segments that were compacted into the ones before: they go one by one, the last one last.
    merged: Vec<Offset>,
}

impl Found {
    /// Whether there are batches that go.
    pub(crate) fn is_cut(&self) -> bool {
        !self.surplus.is_empty() || self.state.segments.iter().any(Segment::is_torn)
    }

    /// Cuts off and removes what is not of the log.
    pub(crate) fn mend(mut self, files: &dyn Files, dir: &Path) -> Result<State, LogError> {
        for base in self.surplus {
            Segment::remove_indexes(files, dir, base);
            Segment::remove(files, dir, base, "log")?;
        }
        for base in self.merged {
            Segment::remove(files, dir, base, "log")?;
            files.sync_dir(dir).map_err(|e| sync_failed(dir, e))?;
        }
        self.state.segments.iter_mut().try_for_each(Segment::cut_torn_end)?;
        Ok(self.state)
    }
}

/// Reads a partition's folder. There it finishes what a compaction has left half-way, and syncs a start that was moved; all else is left
/// to [`Found::mend`].
pub(crate) fn recover(files: &dyn Files, dir: &Path, known: Known) -> Result<Found, LogError> {
    let damaged = |problem: String| Err(LogError::Corrupt { place: dir.display().to_string(), problem });
    let point = known.point.map(|point| point.end);
    let cut = point.filter(|_| known.cut);
    swap::finish(files, dir)?;
    let mut bases = Segment::list(files, dir, "log")?;
    // What begins behind the cut goes as a whole: of segments that nothing had synced, a power cut may have left a later one
    // without the one before it, and the partition would seem to begin there.
    let mut surplus: Vec<Offset> = bases.extract_if(.., |base| cut.is_some_and(|cut| *base > cut)).collect();
    let mut state = State::default();
    let (start, cleaned) = (partition_files::read_start(files, dir)?, partition_files::read_cleaned(files, dir)?);
    (state.start, state.cleaned) = (start.offset, cleaned.offset);
    if let Some(point) = known.point.filter(|point| state.start < point.start) {
        return damaged(format!("its {} says {}, and was {} before", partition_files::START, state.start, point.start));
    }
    // Whoever moved it may have ended before it was synced, and the next checkpoint relies on it.
    if state.start > known.point.map_or(0, |point| point.start) {
        files.sync_dir(dir).map_err(|e| sync_failed(dir, e))?;
    }
    if let Some(first) = bases.first().filter(|first| **first > state.start) {
        return damaged(format!("its first segment begins at {first}, and the log at {}", state.start));
    }
    let snapshot = point.filter(|_| !known.doubted).and_then(|point| read_producers(files, dir, point));
    state.point = point.unwrap_or(0);
    // Without it everything is read, to find the producers again, and nothing of that goes before there is another.
    state.snapshot = if snapshot.is_some() { state.point } else { 0 };
    state.producers = snapshot.unwrap_or_default();
    // The end of the last segment that was compacted into the one before it.
    let (mut covered, mut merged) = (None, Vec::new());
    let mut ends = Vec::new();
    for (i, base) in bases.iter().enumerate() {
        if *base < state.end {
            let end = Segment::read_end(files, dir, *base, "log")?;
            let before = state.segments.last().map_or(0, |segment| segment.base);
            if end > state.end || Segment::has_index(files, dir, before) {
                return damaged(format!("the segment before {base} reaches into the next one"));
            }
            // It was compacted into the one before, and not removed any more.
            covered = Some(end);
            merged.push(*base);
            continue;
        }
        check_whole(dir, covered.take(), &state)?;
        let next_base = bases.get(i + 1).copied();
        if state.end < *base && *base > state.start && !state.segments.is_empty() {
            if Segment::has_bytes(files, dir, *base, "log")? || state.end < state.point || next_base.is_some() {
                return damaged(format!("the segment before {base} ends at {}", state.end));
            }
            // Begun, and then the power was cut: nothing is in it, and the one before it has lost its end.
            surplus.push(*base);
            continue;
        }
        let opening = Opening {
            known: state.snapshot,
            cut,
            repair_from: point.or(Some(0)).filter(|_| next_base.is_none()),
            gapless_from: point.unwrap_or(if known.compacts { Offset::MAX } else { 0 }),
            start: state.start,
        };
        let (segment, end) = Segment::open(files, dir, *base, &opening, |batch| state.producers.apply(batch))?;
        state.end = end;
        state.segments.push(segment);
        ends.push(end);
    }
    check_whole(dir, covered, &state)?;
    // Segments that begin behind the cut are empty now.
    while state.segments.len() > 1 && state.segments.last().is_some_and(|s| s.size == 0) {
        surplus.extend(state.segments.pop().map(|segment| segment.base));
        ends.pop();
        state.end = state.end.min(cut.unwrap_or(state.end));
    }
    if state.start > state.end && !start.sealed {
        return damaged(format!("its {} says {}, and it ends at {}", partition_files::START, state.start, state.end));
    }
    state.segments_end = ends.last().copied().unwrap_or(0);
    // A start before this one may have cut it, and ended before that was synced.
    if let Some(last) = state.segments.last_mut().filter(|_| cut.is_some()) {
        last.unsynced = true;
    }
    state.end = state.end.max(state.start);
    if let Some(point) = point.filter(|point| state.end < *point) {
        return damaged(format!("it ends at offset {}, and was synced up to {point}", state.end));
    }
    if state.cleaned > state.end {
        return damaged(format!(
            "its {} says {}, and it ends at {}",
            partition_files::CLEANED,
            state.cleaned,
            state.end
        ));
    }
    state.producers.trim(bases.first().copied().unwrap_or(0));
    Ok(Found { state, surplus, merged })
}

/// Of the segments that were compacted into one the last is removed last, and ends where that one does.
fn check_whole(dir: &Path, covered: Option<Offset>, state: &State) -> Result<(), LogError> {
    match covered {
        Some(end) if end != state.end => Err(LogError::Corrupt {
            place: dir.display().to_string(),
            problem: format!("a segment reaches to {}, over others that end at {end}", state.end),
        }),
        _ => Ok(()),
    }
}

/// The producers as of a checkpoint; `None` if its snapshot is not there as it was written.
fn read_producers(files: &dyn Files, dir: &Path, point: Offset) -> Option<Producers> {
    if point == 0 {
        return Some(Producers::default());
    }
    Producers::from_snapshot(&partition_files::read_snapshot(files, dir, point)?)
}
