//! The numbered examples print what they say, are short, and are listed: what stands after `$ ` in the head of each is
//! typed in an empty folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The numbered files, in order.
fn examples() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder())
        .expect("the folder can be read")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension().is_some_and(|e| e == "rs") && name(path).starts_with(|c: char| c.is_ascii_digit())
        })
        .collect();
    files.sort();
    files
}

fn name(path: &Path) -> &str {
    path.file_stem().and_then(|name| name.to_str()).expect("a name")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The console session in the head of an example.
fn session(example: &Path) -> String {
    let text = read(example);
    let head =
        text.lines().map_while(|line| line.strip_prefix("//!")).map(|line| line.strip_prefix(' ').unwrap_or(line));
    let session = head.skip_while(|line| *line != "```console").skip(1).take_while(|line| *line != "```");
    session.map(|line| format!("{line}\n")).collect()
}

/// The session again, with what is printed now, and tabs as four spaces. `cargo run -q --bin NAME --` is the program that cargo has built.
fn type_again(session: &str, in_folder: &Path) -> String {
    let built = Path::new(env!("CARGO_BIN_EXE_demo")).parent().expect("a folder of programs");
    let mut said = String::new();
    for command in session.lines().filter_map(|line| line.strip_prefix("$ ")) {
        let cargo = r#"cargo() { [[ "$1 $2 $3" == "run -q --bin" ]]; local program=$4; shift 4; [[ ${1-} != -- ]] || shift; "$BUILT/$program" "$@"; }"#;
        let done = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &format!("{cargo}; {command}")])
            .current_dir(in_folder)
            .env("BUILT", built)
            .stdin(Stdio::null())
            .output()
            .expect("bash starts");
        assert!(done.status.success(), "{command}\n{}", String::from_utf8_lossy(&done.stderr));
        said += &format!("$ {command}\n{}", String::from_utf8_lossy(&done.stdout));
    }
    said.replace('\t', "    ")
}

#[test]
fn every_example_prints_what_its_head_says() {
    let examples = examples();
    assert_eq!(examples.len(), 10);
    for example in examples {
        let wanted = session(&example);
        assert!(wanted.lines().count() > 1, "{} shows no session", example.display());
        let empty = tempfile::tempdir().expect("a folder");
        assert_eq!(type_again(&wanted, empty.path()), wanted, "{}", example.display());
    }
}

#[test]
fn an_example_has_at_most_80_lines_and_a_line_in_the_readme() {
    let readme = read(&folder().join("README.md"));
    for example in examples() {
        let lines = read(&example).lines().count();
        assert!(lines <= 80, "{} has {lines} lines", example.display());
        let link = format!("[{0}]({0}.rs)", name(&example));
        assert!(readme.contains(&link), "README.md has no line on {link}");
    }
}
