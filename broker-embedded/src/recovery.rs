//! Opening a partition's folder: every batch is read once, its checksum compared, a torn end cut off.
//!
//! Only the last segment may be torn, and only after an unclean end; damage anywhere else is reported, never skipped.

use std::fs;
use std::path::Path;

use millstream_core::{LogError, Offset};

use crate::data_dir::io;
use crate::partition::State;
use crate::segment::Segment;

const START: &str = "log-start-offset";

/// Reads a partition's folder; `clean` says that the last process ended in order.
pub(crate) fn recover(dir: &Path, clean: bool) -> Result<State, LogError> {
    let bases = Segment::list(dir)?;
    let mut state = State::default();
    state.start = read_start(dir)?;
    for (i, base) in bases.iter().enumerate() {
        let last = i + 1 == bases.len();
        let mut end = *base;
        let segment = Segment::recover(dir, *base, last && !clean, |batch| {
            state.producers.apply(batch);
            end = batch.header().next_offset();
        })?;
        if let Some(next) = bases.get(i + 1)
            && *next < end
        {
            return Err(LogError::Corrupt {
                place: dir.display().to_string(),
                problem: format!("segments {base} and {next} overlap"),
            });
        }
        if !last {
            segment.write_indexes()?;
        }
        state.segments.push(segment);
        state.end = end;
    }
    state.start = state.start.max(bases.first().copied().unwrap_or(0));
    state.end = state.end.max(state.start);
    state.producers.trim(state.start);
    Ok(state)
}

fn read_start(dir: &Path) -> Result<Offset, LogError> {
    let path = dir.join(START);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| LogError::Corrupt {
            place: path.display().to_string(),
            problem: format!("`{}` is no offset", text.trim()),
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(io("cannot read", &path, e)),
    }
}

/// Keeps the start of the log, replacing the file as a whole.
pub(crate) fn write_start(dir: &Path, start: Offset) -> Result<(), LogError> {
    let (path, new) = (dir.join(START), dir.join("log-start-offset.new"));
    fs::write(&new, start.to_string()).and_then(|()| fs::rename(&new, &path)).map_err(|e| io("cannot write", &path, e))
}
