//! What goes wrong with a folder of state, in words that name it and, where it is known, the remedy.

use std::fmt;
use std::path::Path;

use millstream_core::{Error, StateError};

/// The file that marks a database which was found damaged while it was in use.
pub(super) const DAMAGED: &str = "damaged";

/// An error that names the folder and, where it is known, the remedy.
pub(super) fn failed(folder: &Path, what: &str, error: &dyn fmt::Display) -> Error {
    let text = error.to_string();
    let help = if text.contains("lock") {
        "another process, or another application of this process, has it open: stop that one, or set another `state.dir`"
    } else if text.contains("No space left") {
        "free space and start again: nothing is lost, what is missing is read from the changelogs"
    } else if text.contains("ermission denied") || text.contains("Read-only") {
        "set `state.dir` to a folder that this user may write"
    } else {
        "the folder may be removed: its rows are in the changelogs too"
    };
    state_error(folder, &format!("{what}: {text}\n  help: {help}"))
}

pub(super) fn state_error(folder: &Path, problem: &str) -> Error {
    Error::State(Box::new(StateError { store: folder.display().to_string(), problem: problem.to_owned() }))
}
