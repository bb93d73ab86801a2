//! Settings reach a program from file, environment and flags, the later over the earlier, and every error says where the
//! value was written.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// What a program said: whether it ended well, its output, its errors.
#[derive(Debug)]
struct Said {
    well: bool,
    out: String,
    err: String,
}

/// Runs the program in a folder of its own with one line of input.
fn run_in(dir: &Path, variables: &[(&str, &str)], flags: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_program"));
    command
        .current_dir(dir)
        .args(["--stdin=lines", "--stdout=loud"])
        .args(flags)
        .env_clear()
        .envs(variables.iter().copied());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // A program that has refused its settings does not read.
    let _unread = child.stdin.take().expect("a pipe").write_all(b"hello\n");
    let done = child.wait_with_output().expect("the program ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it speaks UTF-8");
    Said { well: done.status.success(), out: text(done.stdout), err: text(done.stderr) }
}

fn run(file: Option<&str>, variables: &[(&str, &str)], flags: &[&str]) -> Said {
    let dir = TempDir::new().expect("a folder");
    if let Some(text) = file {
        fs::write(dir.path().join("app.properties"), text).expect("a file");
    }
    run_in(dir.path(), variables, flags)
}

/// Says no to the settings with exactly this.
fn refused(said: &Said, wanted: &str) {
    assert!(!said.well, "{said:?}");
    assert_eq!((said.err.as_str(), said.out.as_str()), (format!("Error: {wanted}\n").as_str(), ""));
}

#[test]
fn without_any_the_programs_own_settings_stand() {
    let said = run(None, &[], &[]);
    assert!(said.well, "{said:?}");
    assert_eq!(said.err, "program: 1 task on 1 thread, exactly_once_v2 every 50ms\n");
    assert_eq!(said.out, "null\tHELLO\n");
}

/// The banner shows which of them was taken.
#[test]
fn flags_stand_over_the_environment_and_that_over_the_file() {
    let file = Some("# a comment\ncommit.interval.ms = 7\nnum.partitions: 3\n");
    let environment = [("MILLSTREAM_COMMIT_INTERVAL_MS", "8")];
    for (file, variables, flags, interval, tasks) in [
        (file, &[][..], &[][..], "7ms", 3),
        (file, &environment[..], &[][..], "8ms", 3),
        (None, &environment[..], &["--num.partitions", "2"][..], "8ms", 2),
        (file, &environment[..], &["--commit.interval.ms=9"][..], "9ms", 3),
        (file, &environment[..], &["--commit.interval.ms", "10", "--commit.interval.ms", "11"][..], "11ms", 3),
    ] {
        let said = run(file, variables, flags);
        assert!(said.well, "{said:?}");
        assert_eq!(said.err, format!("program: {tasks} tasks on 1 thread, exactly_once_v2 every {interval}\n"));
    }
}

#[test]
fn a_bad_value_shows_where_it_was_written() {
    let wanted = "is `x` (app.properties:2), wanted is a whole number of at least 1";
    let said = run(Some("\nnum.stream.threads=x\n"), &[], &[]);
    refused(&said, &format!("the settings are wrong: `num.stream.threads` {wanted}"));
    let said = run(None, &[("MILLSTREAM_NUM_STREAM_THREADS", "0")], &[]);
    let wanted = "is `0` (environment MILLSTREAM_NUM_STREAM_THREADS), wanted is a whole number of at least 1";
    refused(&said, &format!("the settings are wrong: `num.stream.threads` {wanted}"));
    let said = run(None, &[], &["--processing.guarantee=exactly_once"]);
    let wanted = "is `exactly_once` (flag), wanted is one of at_least_once, exactly_once_v2";
    refused(&said, &format!("the settings are wrong: `processing.guarantee` {wanted}"));
}

#[test]
fn what_replaces_a_bad_value_makes_it_good() {
    let said = run(Some("commit.interval.ms=x\n"), &[], &["--commit.interval.ms=12"]);
    assert!(said.well, "{said:?}");
    assert_eq!(said.err, "program: 1 task on 1 thread, exactly_once_v2 every 12ms\n");
}

#[test]
fn every_kind_of_value_is_checked() {
    let milliseconds = "milliseconds, or -1";
    let cases = [
        ("application.id", "", "1 to 200 of a-z, A-Z, 0-9, `.`, `_` and `-`, which does not come first"),
        ("auto.create.topics.enable", "yes", "one of true, false"),
        ("auto.offset.reset", "by_duration:1h", "one of earliest, latest, none, or by_duration:PT1H"),
        ("batch.size", "-5", "a whole number of at least 1"),
        ("commit.interval.ms", "-1", "milliseconds"),
        ("deserialization.exception.handler", "skip", "one of fail, continue"),
        ("durability", "memroy", "one of memory, os, disk"),
        (
            "errors.dead.letter.queue.topic.name",
            "bad name",
            "1 to 249 of a-z, A-Z, 0-9, `.`, `_` and `-`, not `.` or `..` alone",
        ),
        ("log.retention.ms", "-2", milliseconds),
        ("log.segment.bytes", "2147483648", "a number of bytes, 1024 to 2147483647"),
        ("max.partition.fetch.bytes", "0", "a whole number of at least 1"),
        ("max.poll.records", "many", "a whole number of at least 1"),
        ("max.task.idle.ms", "-7", milliseconds),
        ("max.task.skew.ms", "1.5", milliseconds),
        ("num.partitions", "0", "a whole number from 1 to 65535"),
        ("statestore.uncommitted.max.bytes", "", "a whole number of at least 1"),
    ];
    let flags: Vec<String> = cases.iter().map(|(key, value, _)| format!("--{key}={value}")).collect();
    let said = run(None, &[], &flags.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(!said.well, "{said:?}");
    assert!(said.err.starts_with(&format!("Error: the settings are wrong, {} problems:\n", cases.len())), "{said:?}");
    for (key, value, wanted) in cases {
        let line = format!("- `{key}` is `{value}` (flag), wanted is {wanted}");
        assert!(said.err.lines().any(|l| l == line), "no {line:?} in {}", said.err);
    }
}

#[test]
fn good_values_of_every_kind_are_taken() {
    let flags = [
        "--auto.offset.reset=by_duration:PT1H",
        "--max.task.idle.ms",
        "-1",
        "--log.retention.ms=-1",
        "--durability=memory",
        "--log.segment.bytes=1048576",
    ];
    let said = run(None, &[], &flags);
    assert!(said.well, "{said:?}");
}

/// A library of another version may know it.
#[test]
fn an_unknown_key_is_a_warning_with_the_nearest_word_and_where_it_is() {
    let said = run(Some("num.stream.thread=2\n"), &[("MILLSTREAM_DATADIR", "x"), ("OTHER_DATADIR", "x")], &[]);
    assert!(said.well, "{said:?}");
    let lines: Vec<&str> = said.err.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "warning: unknown setting `num.stream.thread` (app.properties:1), did you mean `num.stream.threads`?",
            "warning: unknown setting `datadir` (environment MILLSTREAM_DATADIR), did you mean `data.dir`?",
        ]
    );
    assert_eq!(lines.len(), 3, "{lines:?}");
}

#[test]
fn an_unknown_flag_is_refused_with_the_nearest_word() {
    refused(
        &run(None, &[], &["--num.stream.thread=2"]),
        "the settings are wrong: unknown flag `--num.stream.thread`, did you mean `num.stream.threads`?",
    );
    // `help` was recommended, which shares no letter with it.
    refused(&run(None, &[], &["--foo"]), "the settings are wrong: unknown flag `--foo`");
    // The program's own flags are words too.
    refused(&run(None, &[], &["--stdot=x"]), "the settings are wrong: unknown flag `--stdot`, did you mean `stdout`?");
    refused(&run(None, &[], &["--entirely-else"]), "the settings are wrong: unknown flag `--entirely-else`");
    refused(&run(None, &[], &["--data.dir"]), "the settings are wrong: flag `--data.dir` needs a value");
    refused(
        &run(None, &[], &["word"]),
        "the settings are wrong: `word` is not expected here\n  help: flags are --key=value",
    );
}

/// It is a part of topics' names and the name of folders. An empty one made topics that belong to no application.
#[test]
fn an_application_id_that_names_no_topic_says_where_it_was_written() {
    for id in ["", "a b", "a/..", "..", "-app", "a\u{e4}"] {
        let dir = TempDir::new().expect("a folder");
        let rule = "wanted is 1 to 200 of a-z, A-Z, 0-9, `.`, `_` and `-`, which does not come first";
        let said = run_in(dir.path(), &[("MILLSTREAM_APPLICATION_ID", id)], &[]);
        let origin = "environment MILLSTREAM_APPLICATION_ID";
        refused(&said, &format!("the settings are wrong: `application.id` is `{id}` ({origin}), {rule}"));
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 0, "{id}");
    }
    let said = run(None, &[], &["--application.id=A.b_c-9"]);
    assert!(said.well, "{said:?}");
}

/// What the program writes was recommended to be fed, and a name that no topic can have to be created.
#[test]
fn a_topic_that_is_not_there_is_answered_with_one_that_fits() {
    let stdin = |topic: &str| run(None, &[], &[&format!("--stdin={topic}")]);
    let error = |said: &Said| said.err.lines().skip(1).collect::<Vec<_>>().join("\n");
    let none = "there is no topic of this name\n  help:";
    let wrong = "Error: the settings are wrong: --stdin";
    assert_eq!(error(&stdin("lodd")), format!("{wrong} lodd: {none} wanted is one of lines"));
    assert_eq!(error(&stdin("lins")), format!("{wrong} lins: {none} did you mean `lines`?"));
    let written = "Error: the settings are wrong: --stdin loud: the program does not read this topic\n  help: wanted is one of lines";
    assert_eq!(error(&stdin("loud")), written);
    let said = run(None, &[], &["--stdout=lodd"]);
    assert_eq!(error(&said), format!("Error: the settings are wrong: --stdout lodd: {none} did you mean `loud`?"));
}

/// What is wrong in all three places, the lines of the file that are no settings among it, is said at once.
#[test]
fn every_problem_is_listed_at_once_and_nothing_is_created() {
    let dir = TempDir::new().expect("a folder");
    fs::write(dir.path().join("app.properties"), "num.partitions=none\nnonsense\n").expect("a file");
    let said = run_in(dir.path(), &[("MILLSTREAM_DURABILITY", "disc")], &["--batch.size=big"]);
    assert!(!said.well, "{said:?}");
    for part in [
        "the settings are wrong, 4 problems:",
        "- `num.partitions` is `none` (app.properties:1), wanted is a whole number from 1 to 65535",
        "- app.properties:2: `nonsense` is not key=value",
        "- `durability` is `disc` (environment MILLSTREAM_DURABILITY), wanted is one of memory, os, disk",
        "- `batch.size` is `big` (flag), wanted is a whole number of at least 1",
    ] {
        assert!(said.err.lines().any(|line| line.trim_start_matches("Error: ") == part), "no {part:?} in {}", said.err);
    }
    let names: Vec<_> = fs::read_dir(dir.path()).expect("a folder").map(|e| e.expect("an entry").file_name()).collect();
    assert_eq!(names, ["app.properties"]);
}

/// A file that is there and cannot be read was passed over in silence.
#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let dir = TempDir::new().expect("a folder");
    fs::create_dir(dir.path().join("app.properties")).expect("a folder");
    let said = run_in(dir.path(), &[], &[]);
    assert!(!said.well, "{said:?}");
    assert!(said.err.starts_with("Error: the settings are wrong: cannot read app.properties: "), "{said:?}");
    fs::remove_dir(dir.path().join("app.properties")).expect("removed");
    fs::write(dir.path().join("app.properties"), b"data.dir=\xff\n").expect("a file");
    let said = run_in(dir.path(), &[], &[]);
    assert!(said.err.starts_with("Error: the settings are wrong: cannot read app.properties: "), "{said:?}");
}

/// Another program's variable may hold any bytes.
#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_harms_nobody() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = TempDir::new().expect("a folder");
    let done = Command::new(env!("CARGO_BIN_EXE_program"))
        .current_dir(dir.path())
        .args(["--stdin=lines"])
        .env("OTHER", std::ffi::OsStr::from_bytes(b"\xff"))
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    assert!(done.status.success(), "{done:?}");
}

/// At a terminal, or behind a pipe that nobody closes.
#[cfg(unix)]
#[test]
fn a_program_that_waits_for_lines_ends_when_it_is_stopped() {
    use std::io::{BufRead as _, BufReader};
    let dir = TempDir::new().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_program"));
    command.current_dir(dir.path()).args(["--stdin=lines", "--stdout=loud"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a start");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"hello\n").expect("a line");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    assert_eq!(line, "null\tHELLO\n");
    let stopped = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(stopped.success());
    let done = child.wait_with_output().expect("the program ends");
    assert!(done.status.success(), "{done:?}");
    drop(input);
}
