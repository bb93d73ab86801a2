//! How many files the process may have open.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// As many as macOS lets a process have where it names no limit (`OPEN_MAX`): more it refuses.
const OPEN_MAX: rlim_t = 10_240;

/// Lets the process have as many files open as the system allows it (`ulimit -Hn`), as the runtimes of Java and Go do. Partitions and
/// databases of state take some each, and the 1024 that are usual are for programs that ask for more.
///
/// [`run`](crate::run) does it first. A program with a `main` of its own calls it before it opens a log.
///
/// ```
/// millstream::raise_open_files();
/// ```
pub fn raise_open_files() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let most = if cfg!(target_os = "macos") { hard.min(OPEN_MAX) } else { hard };
    if soft < most {
        // Where it stays as it is, the error of a file that cannot be opened says what to do.
        let _stays = setrlimit(Resource::RLIMIT_NOFILE, most, hard);
    }
}
