//! What goes wrong with a folder of state, in words that name it and, where it is known, the remedy.

use std::fmt;
use std::path::Path;

use millstream_core::{Error, StateError};
use rocksdb::ErrorKind;

/// The file that marks a database which was found damaged while it was in use.
pub(super) const DAMAGED: &str = "damaged";

/// What is to be done about damage.
pub(super) const REBUILT: &str =
    "none is needed: the folder is emptied when it is opened again, and its rows are read from the changelogs";

/// Whether an error says that files are not what was written, or are gone.
pub(super) fn is_damage(error: &rocksdb::Error) -> bool {
    match error.kind() {
        ErrorKind::Corruption => true,
        ErrorKind::IOError => error.as_ref().contains("No such file or directory"),
        _ => false,
    }
}

/// What the operating system says when a disk, a user's part of it, or a file is as large as it may be.
const NO_SPACE: [&str; 3] = ["No space left", "quota exceeded", "File too large"];

/// An error that names the folder and, where it is known, the remedy.
pub(super) fn failed(folder: &Path, what: &str, error: &dyn fmt::Display) -> Error {
    failed_with(folder, what, error, "the folder may be removed: its rows are in the changelogs too")
}

/// The folder cannot be made: there is nothing to remove.
pub(super) fn unmade(folder: &Path, error: &dyn fmt::Display) -> Error {
    failed_with(folder, "cannot be made", error, "set another `state.dir`, one that this user may make folders in")
}

/// The folder stays readable for others: that is no reason to stop, and the only folder that there is may be like that.
pub(super) fn open_to_others(folder: &Path, error: &dyn fmt::Display) -> String {
    format!(
        "{}: other users can read this state, and its permissions cannot be changed: {error}\n  help: let this user own the folder, or set another `state.dir`",
        folder.display()
    )
}

fn failed_with(folder: &Path, what: &str, error: &dyn fmt::Display, otherwise: &str) -> Error {
    let text = error.to_string();
    if NO_SPACE.iter().any(|no_space| text.contains(no_space)) {
        let help =
            "free space, or let the files be larger: nothing is lost, what is missing is read from the changelogs";
        return Error::NoSpace(problem(folder, &format!("{what}: {text}\n  help: {help}")));
    }
    // The file that cannot be opened may be the lock.
    let help = if text.contains("Too many open files") {
        "let the process have more files open: raise `ulimit -n`, its hard limit too: nothing is lost, what is missing is read from the changelogs"
    } else if text.contains("lock") {
        "another process, or another application of this process, has it open: stop that one, or set another `state.dir`"
    } else if text.contains("ermission denied") || text.contains("Read-only") {
        "let this user write the folder, or set another `state.dir`, and start again: nothing is lost, what is missing is read from the changelogs"
    } else {
        otherwise
    };
    state_error(folder, &format!("{what}: {text}\n  help: {help}"))
}

pub(super) fn state_error(folder: &Path, problem: &str) -> Error {
    Error::State(self::problem(folder, problem))
}

fn problem(folder: &Path, problem: &str) -> Box<StateError> {
    Box::new(StateError { store: folder.display().to_string(), problem: problem.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// It said that the folder may be removed, and of the lock that somebody else has it open.
    #[test]
    fn where_no_more_files_may_be_open_the_limit_is_to_be_raised() {
        let of_rocksdb =
            ["While open a file for random read: /s/a/000009.sst", "While open a file for lock: /s/a/LOCK"];
        let of_rocksdb = of_rocksdb.map(|doing| format!("IO error: {doing}: Too many open files"));
        let of_std = [23, 24].map(|code| io::Error::from_raw_os_error(code).to_string());
        for text in of_rocksdb.iter().chain(&of_std) {
            let said = failed(Path::new("/s/a"), "cannot be opened", text).to_string();
            assert!(said.contains("\n  help: let the process have more files open: raise `ulimit -n`"), "{said}");
            assert!(!said.contains("removed") && !said.contains("another process"), "{said}");
        }
    }
}
