//! A data directory that cannot be used is an error that says why, on the way out of a program's `main`, and what is in
//! it stays as it was.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use millstream_broker::{Broker, BrokerOptions};
use millstream_core::SystemClock;
use tempfile::TempDir;

fn program(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_program"));
    command.env_clear().arg(format!("--data.dir={}", data.display()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Runs the program on no input, to its end: what it said if it failed.
fn failure(data: &Path) -> Option<String> {
    let done = program(data)
        .arg("--stdin=lines")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the program starts");
    (!done.status.success()).then(|| String::from_utf8(done.stderr).expect("it speaks UTF-8"))
}

/// All files below a folder, with their bytes.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.insert(path.clone(), Vec::new());
            files.extend(contents(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
    files
}

/// A directory that the program has used and left in order.
fn used() -> TempDir {
    let dir = TempDir::new().expect("a folder");
    assert_eq!(failure(dir.path()), None);
    dir
}

/// For the program, this process is another.
#[test]
fn in_use_by_another_process() {
    let dir = used();
    let clock = Arc::new(SystemClock::default());
    let holder = Broker::open(BrokerOptions::new(dir.path(), clock)).expect("nobody has it");
    let before = contents(dir.path());
    let wanted = format!(
        "Error: data directory {} is in use by pid {}\n  \
         help: stop that process, or give this one another data directory\n",
        dir.path().display(),
        std::process::id()
    );
    assert_eq!(failure(dir.path()), Some(wanted));
    assert!(contents(dir.path()) == before);
    holder.close().expect("closed");
    drop(holder);
    assert_eq!(failure(dir.path()), None);
}

#[test]
fn a_killed_process_holds_nothing_any_more() {
    let dir = used();
    let mut first = program(dir.path()).spawn().expect("the program starts");
    // It says what it runs when it has the directory.
    let mut line = String::new();
    BufReader::new(first.stderr.take().expect("a pipe")).read_line(&mut line).expect("a line");
    assert!(line.starts_with("program: 1 task on 1 thread"), "{line}");
    first.kill().expect("it runs");
    first.wait().expect("it has ended");
    assert_eq!(failure(dir.path()), None);
}

#[test]
fn where_a_folder_cannot_be() {
    let dir = TempDir::new().expect("a folder");
    let file = dir.path().join("file");
    fs::write(&file, "of somebody's").expect("a file");
    for data in [file.join("data"), file.clone()] {
        let said = failure(&data).expect("a failure");
        assert!(said.starts_with(&format!("Error: cannot create the data directory {}: ", data.display())), "{said}");
    }
    assert_eq!(contents(dir.path()), [(file, b"of somebody's".to_vec())].into());
}

/// It was the current folder to some and none to others, and a file of ours stayed there.
#[test]
fn one_without_a_name() {
    let dir = TempDir::new().expect("a folder");
    let mut command = program(Path::new(""));
    let done = command.arg("--stdin=lines").current_dir(dir.path()).output().expect("the program starts");
    let said = String::from_utf8(done.stderr).expect("it speaks UTF-8");
    assert!(!done.status.success() && said.contains("`data.dir` is empty (flag), wanted is a folder"), "{said}");
    assert_eq!(contents(dir.path()), BTreeMap::new());
}

#[cfg(unix)]
#[test]
fn read_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = used();
    let data = dir.path();
    // Its lock was left by a user whose files we may not write; root may write all, so for root it is no file at all.
    let lock = data.join(".lock");
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o444)).expect("permissions");
    if fs::OpenOptions::new().write(true).open(&lock).is_ok() {
        fs::remove_file(&lock).expect("removed");
        fs::create_dir(&lock).expect("a folder");
    }
    let before = contents(data);
    let said = failure(data).expect("a failure");
    let wanted = format!("Error: cannot write in the data directory, opening {}: ", lock.display());
    assert!(said.starts_with(&wanted), "{said}");
    assert!(contents(data) == before);
}

/// Everything but the lock, which says who has the directory now.
fn without_lock(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = contents(dir);
    files.remove(&dir.join(".lock"));
    files
}

#[test]
fn of_a_newer_format() {
    let dir = used();
    let meta = dir.path().join("meta.properties");
    let text = fs::read_to_string(&meta).expect("a file");
    fs::write(&meta, text.replace("version=1", "version=2")).expect("a file");
    let before = without_lock(dir.path());
    let said = failure(dir.path()).expect("a failure");
    assert!(said.starts_with(&format!("Error: data directory {}: ", dir.path().display())), "{said}");
    let wanted = "it has format 2, this program knows formats up to 1\n  help: use the newer program that wrote it\n";
    assert!(said.ends_with(wanted), "{said}");
    assert!(without_lock(dir.path()) == before);
    // The older format again, and nothing was lost.
    fs::write(&meta, text).expect("a file");
    assert_eq!(failure(dir.path()), None);
}

#[test]
fn of_another_program() {
    let dir = TempDir::new().expect("a folder");
    fs::write(dir.path().join("meta.properties"), "version=1\ncluster.id=of Apache Kafka\n").expect("a file");
    let before = contents(dir.path());
    let said = failure(dir.path()).expect("a failure");
    assert!(said.starts_with(&format!("Error: data directory {}: ", dir.path().display())), "{said}");
    assert!(said.ends_with("its meta.properties is not ours\n  help: give another data directory\n"), "{said}");
    assert!(without_lock(dir.path()) == before);
}
