//! A process that may have few files open lets itself have more, and says what to do where it may not.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs a program on no input, to its end. Seven files are fewer than it needs.
fn run(data: &Path, limit: &str) -> Output {
    let limited = format!("{limit}; exec \"$0\" \"$@\"");
    let mut command = Command::new("bash");
    command.args(["-c", &limited, env!("CARGO_BIN_EXE_program"), "--stdin=lines"]);
    command.arg(format!("--data.dir={}", data.display())).stdin(Stdio::null());
    command.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("bash is there")
}

/// It ended with "Too many open files".
#[test]
fn a_soft_limit_is_raised() {
    let folder = tempfile::tempdir().expect("a folder");
    let done = run(folder.path(), "ulimit -S -n 7");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_hard_limit_is_for_the_user_to_raise() {
    let folder = tempfile::tempdir().expect("a folder");
    let done = run(folder.path(), "ulimit -n 7");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success(), "{said}");
    assert!(said.contains("Too many open files"), "{said}");
    assert!(said.contains("\n  help: let the process have more files open: raise `ulimit -n`"), "{said}");
    let raised = run(folder.path(), "true");
    assert!(raised.status.success(), "{}", String::from_utf8_lossy(&raised.stderr));
}
