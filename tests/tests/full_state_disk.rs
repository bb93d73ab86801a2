//! What the operating system may do to state on disk while a program runs: a disk that is full holds it up until there is space, a
//! folder that may not be written any more ends it with an error that says what to do, and what comes out is right all the same.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const STATE: &str = env!("CARGO_BIN_EXE_state");

/// A program in a process of its own (`tests/src/bin/state.rs`).
struct Program {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let (sender, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut program = Program { child, input, lines };
        program.tell("start");
        program
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("it listens");
    }

    /// What it says next.
    fn says(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(100)).expect("it says something")
    }

    /// Writes more and more, and returns what it says to that in the end. What has been written is in memory at first.
    fn write_until(&mut self, end: impl Fn(&str) -> bool) -> String {
        for _ in 0..100 {
            self.tell("write 100");
            let mut says = self.says();
            while says == "running" {
                says = self.says();
            }
            if end(&says) {
                return says;
            }
            assert!(says.starts_with("counted"), "{says}");
        }
        panic!("100 times there was space");
    }

    fn says_nothing(&self, during: Duration) {
        assert_eq!(self.lines.recv_timeout(during).ok(), None);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn task(folder: &Path) -> PathBuf {
    folder.join("counts-0")
}

/// No file may be larger than 100 KiB: to the program that is a full disk. The limit can be raised while it runs.
#[test]
fn a_full_disk_holds_a_program_up_until_there_is_space() {
    let folder = tempfile::tempdir().expect("a folder");
    // Without the trap the signal for it would end the program.
    let limited = "trap '' XFSZ; ulimit -S -f 100; exec \"$0\" \"$1\"";
    let mut program = Program::start(Command::new("bash").args(["-c", limited, STATE]).arg(folder.path()));
    assert_eq!(program.says(), "running");
    let says = program.write_until(|says| says.starts_with("waiting"));
    let is_right =
        ["waiting: store `", "counts-0", "File too large", "help: free space"].map(|part| says.contains(part));
    assert_eq!(is_right, [true; 4], "{says}");
    // It says so once, as long as it waits.
    program.says_nothing(Duration::from_millis(1700));
    let raised = Command::new("prlimit").args(["--pid", &program.child.id().to_string(), "--fsize=unlimited"]).status();
    assert!(raised.expect("prlimit is there").success());
    let mut says = program.says();
    if says == "running" {
        says = program.says();
    }
    assert!(says.starts_with("counted"), "{says}");
    program.write_until(|says| says == "counted 2000");
    program.tell("close");
    assert_eq!(program.says(), "closed");
    assert!(!folder.path().join("space").exists());
}

#[test]
fn a_folder_that_may_not_be_written_any_more_is_a_clear_error_and_no_loss() {
    let folder = tempfile::tempdir().expect("a folder");
    let may_all = Path::new("/proc/self").metadata().is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0);
    // Root may write everything, unless it gives up that right.
    let mut command = Command::new(if may_all { "setpriv" } else { STATE });
    if may_all {
        command.args(["--bounding-set", "-dac_override", STATE]);
    }
    let mut program = Program::start(command.arg(folder.path()));
    assert_eq!(program.says(), "running");
    program.tell("write 100");
    assert_eq!(program.says(), "counted 100");
    let mode = |mode| fs::set_permissions(task(folder.path()), fs::Permissions::from_mode(mode)).expect("it may");
    mode(0o500);
    let says = program.write_until(|says| !says.starts_with("counted"));
    let parts = ["failed: store `", "counts-0", "Permission denied", "help: let this user write the folder"];
    assert_eq!(parts.map(|part| says.contains(part)), [true; 4], "{says}");
    program.tell("start");
    let again = program.says();
    assert_eq!(parts.map(|part| again.contains(part)), [true; 4], "{again}");
    mode(0o700);
    program.tell("start");
    let says = program.says();
    assert!(says == "running" || says.starts_with("counted"), "{says}");
    program.write_until(|says| says == "counted 2000");
    program.tell("close");
    assert_eq!(program.says(), "closed");
}
