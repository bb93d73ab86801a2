//! Opening a partition's folder: what a checkpoint vouches for is taken from indexes and the snapshot of producers, what
//! follows is read, its checksums compared, a torn end cut off.
//!
//! Only the last segment may be torn; damage anywhere else is reported, never skipped.

use std::path::Path;

use millstream_core::{Files, LogError, Offset};

use crate::partition::State;
use crate::partition_files;
use crate::producers::{Aborted, Producers};
use crate::segment::{Opening, Segment};
use crate::swap;

/// What is known of a partition before its folder is read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known {
    /// Up to where the last checkpoint has synced it.
    pub(crate) point: Option<Offset>,
    /// The journal has what follows: the segments are cut off there.
    pub(crate) cut: bool,
}

/// Reads a partition's folder.
pub(crate) fn recover(files: &dyn Files, dir: &Path, known: Known) -> Result<State, LogError> {
    let cut = known.point.filter(|_| known.cut);
    swap::finish(files, dir)?;
    let mut bases = Segment::list(files, dir, "log")?;
    // What begins behind the cut goes as a whole: of segments that nothing had synced, a power cut may have left a later one
    // without the one before it, and the partition would seem to begin there.
    for base in bases.extract_if(.., |base| cut.is_some_and(|cut| *base > cut)) {
        Segment::remove_indexes(files, dir, base);
        Segment::remove(files, dir, base, "log")?;
    }
    let mut state = State::default();
    state.start = partition_files::read_start(files, dir)?;
    state.cleaned = partition_files::read_cleaned(files, dir)?;
    state.point = known.point.unwrap_or(0);
    let snapshot = known.point.and_then(|point| read_producers(files, dir, &bases, point));
    // Without its snapshot everything is read, to find the producers again.
    let read_from = if snapshot.is_some() { known.point.unwrap_or(0) } else { 0 };
    state.producers = snapshot.unwrap_or_default();
    for (i, base) in bases.iter().enumerate() {
        if *base < state.end {
            let end = Segment::read_end(files, dir, *base, "log")?;
            if end > state.end {
                return Err(LogError::Corrupt {
                    place: dir.display().to_string(),
                    problem: format!("the segment before {base} reaches into the next one"),
                });
            }
            // It was compacted into the one before, and not removed any more.
            Segment::remove(files, dir, *base, "log")?;
            continue;
        }
        let next_base = bases.get(i + 1).copied();
        let opening = Opening {
            known: next_base.map_or(read_from, |next| next.min(read_from)),
            cut,
            repair_from: known.point.or(Some(0)).filter(|_| next_base.is_none()),
        };
        let (segment, end) = Segment::open(files, dir, *base, &opening, |batch| state.producers.apply(batch))?;
        state.end = end;
        state.segments.push(segment);
    }
    // Segments that begin behind the cut are empty now.
    while state.segments.len() > 1 && state.segments.last().is_some_and(|s| s.size == 0) {
        state.segments.pop().map_or(Ok(()), |segment| segment.delete(files))?;
        state.end = state.end.min(cut.unwrap_or(state.end));
    }
    state.start = state.start.max(bases.first().copied().unwrap_or(0));
    state.end = state.end.max(state.start);
    if let Some(point) = known.point.filter(|point| state.end < *point) {
        return Err(LogError::Corrupt {
            place: dir.display().to_string(),
            problem: format!("it ends at offset {}, and was synced up to {point}", state.end),
        });
    }
    state.producers.trim(bases.first().copied().unwrap_or(0));
    Ok(state)
}

/// The producers as of a checkpoint; `None` if its files are not there as they were written.
fn read_producers(files: &dyn Files, dir: &Path, bases: &[Offset], point: Offset) -> Option<Producers> {
    if point == 0 {
        return Some(Producers::default());
    }
    let mut aborted: Vec<Aborted> = Vec::new();
    for base in bases.iter().filter(|base| **base < point) {
        aborted.extend(Segment::read_aborted(files, dir, *base, point)?);
    }
    Producers::from_snapshot(&partition_files::read_snapshot(files, dir, point)?, aborted)
}
