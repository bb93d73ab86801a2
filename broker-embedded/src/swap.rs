//! Putting a compacted segment in the place of those it was made from, so that a crash at any moment leaves the ones or the
//! other.
//!
//! ```text
//!   A.log B.log ── write, sync ──► + A.log.cleaned ── rename, sync ──► + A.log.swap     from here on it goes forward
//!     ── remove A's and B's indexes, sync ──► ── rename over A.log, sync ──► A.log (compacted) B.log ── remove ──► A.log
//! ```
//!
//! A start removes what is `.cleaned`, goes on with what is `.swap`, and removes a segment that lies within the one before it.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use millstream_core::{Files, LogError, Offset};

use crate::data_dir::sync_failed;
use crate::partition::{Partition, State};
use crate::segment::Segment;

const CLEANED: &str = "log.cleaned";
const SWAP: &str = "log.swap";

/// A segment to be filled, beside those that are there.
pub(crate) fn begin(files: &dyn Files, dir: &Path, base: Offset) -> Result<Segment, LogError> {
    Segment::create_as(files, dir, base, CLEANED)
}

/// Puts `new` in the place of the segments with these bases. `over` are aborted transactions of which it has no record.
///
/// `false` if they are not there any more: retention or the topic's deletion came first.
pub(crate) fn replace(
    partition: &Partition,
    mut new: Segment,
    bases: &[Offset],
    over: &[Offset],
    checkpointing: &Mutex<()>,
) -> Result<bool, LogError> {
    let (Some(dir), files) = (&partition.dir, &*partition.storage.files) else { return Ok(false) };
    // After a sync that failed nobody can say what is on the disk.
    let failed = |error: &LogError| partition.storage.fail(error.clone());
    let sync_dir = || files.sync_dir(dir).map_err(|e| sync_failed(dir, e)).inspect_err(failed);
    // A checkpoint would write the old segments' indexes beside the new one; a topic's deletion take the folder away.
    let _neither = checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
    let is_there = {
        let mut state = partition.state();
        let found = find(&state, bases);
        // If they stay after all, the next checkpoint writes their indexes again.
        found
            .into_iter()
            .for_each(|at| state.segments[at..at + bases.len()].iter_mut().for_each(|s| s.unsynced = true));
        found.is_some()
    };
    if !is_there {
        return new.discard(files).map(|()| false);
    }
    new.sync().inspect_err(failed)?;
    if let Err(error) = new.rename_to(files, SWAP) {
        let _removed_at_the_next_start = new.discard(files);
        return Err(error);
    }
    sync_dir()?;
    bases.iter().for_each(|base| Segment::remove_indexes(files, dir, *base));
    sync_dir()?;
    let done = {
        let mut state = partition.state();
        // Deletions went on meanwhile.
        match find(&state, bases) {
            Some(at) => new.rename_to(files, "log").map(|()| {
                let end = state.segments.get(at + bases.len()).map_or(state.end, |next| next.base);
                state.segments.splice(at..at + bases.len(), [new]);
                state.producers.forget_aborted(over);
                state.trim_tail(end);
                true
            }),
            None => Ok(false),
        }
    };
    match done {
        Ok(true) => {
            sync_dir()?;
            remove_replaced(files, dir, &bases[1..], &sync_dir)?;
        }
        // It must not come back when the others have changed.
        Ok(false) | Err(_) => {
            Segment::remove(files, dir, bases[0], SWAP).inspect_err(failed)?;
            sync_dir()?;
        }
    }
    done
}

/// Where the closed segments with these bases are.
fn find(state: &State, bases: &[Offset]) -> Option<usize> {
    let at = state.segments.iter().position(|s| bases.first() == Some(&s.base))?;
    let there = state.segments.get(at..at + bases.len())?.iter().map(|s| &s.base).eq(bases);
    (there && at + bases.len() < state.segments.len()).then_some(at)
}

/// Removes segments that another has replaced: the last one after the others, and for good before that one has an index again. So a
/// segment that reaches over those behind it has none, and ends where the last of them does, or it is damaged.
fn remove_replaced(
    files: &dyn Files,
    dir: &Path,
    bases: &[Offset],
    sync_dir: &dyn Fn() -> Result<(), LogError>,
) -> Result<(), LogError> {
    let Some((last, others)) = bases.split_last() else { return Ok(()) };
    others.iter().try_for_each(|base| Segment::remove(files, dir, *base, "log"))?;
    sync_dir()?;
    Segment::remove(files, dir, *last, "log")?;
    sync_dir()
}

/// Ends what a crash has interrupted.
pub(crate) fn finish(files: &dyn Files, dir: &Path) -> Result<(), LogError> {
    for base in Segment::list(files, dir, CLEANED)? {
        Segment::remove(files, dir, base, CLEANED)?;
    }
    let sync_dir = || files.sync_dir(dir).map_err(|e| sync_failed(dir, e));
    for base in Segment::list(files, dir, SWAP)? {
        let end = Segment::verify(files, dir, base, SWAP)?;
        let replaced: Vec<_> =
            Segment::list(files, dir, "log")?.into_iter().filter(|b| (base..end).contains(b)).collect();
        replaced.iter().for_each(|base| Segment::remove_indexes(files, dir, *base));
        sync_dir()?;
        Segment::rename(files, dir, base, SWAP, "log")?;
        sync_dir()?;
        let others: Vec<Offset> = replaced.into_iter().filter(|b| *b != base).collect();
        remove_replaced(files, dir, &others, &sync_dir)?;
    }
    Ok(())
}
