//! House rules that a compiler does not hold: how files begin and end, what must not stay in them, what must not be in
//! the tree at all. Each failure names file and line.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The files that may say `unsafe`, relative to the root; each explains itself in a SAFETY note.
const UNSAFE: &[&str] = &[];

/// Written in halves, so that this file does not find itself.
const UNFINISHED: &[&str] = &[
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("#[", "ignore"),
    concat!("```", "ignore"),
];

const LARGEST: u64 = 10 * 1024 * 1024;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is a folder of the workspace").to_owned()
}

/// Everything git keeps or would keep, relative to the root; what is deleted but not yet committed is left out.
fn files() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root())
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).expect("file names are UTF-8");
    let mut files: Vec<String> =
        names.split('\0').filter(|name| !name.is_empty() && root().join(name).is_file()).map(str::to_owned).collect();
    files.sort();
    files.dedup();
    files
}

fn rust_files() -> Vec<String> {
    files().into_iter().filter(|name| name.ends_with(".rs")).collect()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn none(problems: &[String]) {
    assert!(problems.is_empty(), "\n  {}", problems.join("\n  "));
}

/// `file:line: what` for every line that `wrong` has something to say about.
fn lines(names: &[String], wrong: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut problems = Vec::new();
    for name in names {
        for (number, line) in read(name).lines().enumerate() {
            problems.extend(wrong(line).map(|what| format!("{name}:{}: {what}", number + 1)));
        }
    }
    problems
}

#[test]
fn every_rust_file_opens_by_saying_what_it_is() {
    let silent = rust_files().into_iter().filter(|name| !read(name).starts_with("//!"));
    none(&silent.map(|name| format!("{name}:1: begins without //!")).collect::<Vec<_>>());
}

#[test]
fn lines_end_where_their_text_does() {
    let written: Vec<String> = files()
        .into_iter()
        .filter(|name| {
            let kind = Path::new(name).extension().and_then(|e| e.to_str());
            matches!(kind, Some("rs" | "md" | "toml" | "yml" | "sh")) || name == "dev" || name.starts_with(".ci/")
        })
        .collect();
    let mut problems = Vec::new();
    for name in &written {
        let text = read(name);
        for (number, line) in text.split('\n').enumerate() {
            if line != line.trim_end() {
                problems.push(format!("{name}:{}: trailing space", number + 1));
            }
        }
        if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
            problems
                .push(format!("{name}: ends with {} line break", if text.ends_with('\n') { "a second" } else { "no" }));
        }
    }
    none(&problems);
}

#[test]
fn nothing_is_left_unfinished() {
    none(&lines(&rust_files(), |line| {
        UNFINISHED.iter().find(|mark| line.contains(**mark)).map(|mark| format!("{mark}…"))
    }));
}

/// The word itself in code: not part of a longer one, not in a comment.
fn says_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '"')).any(|word| word == concat!("un", "safe"))
}

#[test]
fn unsafe_stays_in_the_files_that_are_named() {
    let (named, others): (Vec<String>, Vec<String>) =
        rust_files().into_iter().partition(|name| UNSAFE.contains(&name.as_str()));
    let mut problems =
        lines(&others, |line| says_unsafe(line).then(|| "unsafe, in a file that is not named".to_owned()));
    problems.extend(named.iter().filter(|name| !read(name).contains("SAFETY")).map(|n| format!("{n}: no SAFETY note")));
    let gone = UNSAFE.iter().filter(|name| !named.iter().any(|n| n == **name));
    problems.extend(gone.map(|name| format!("{name} is named and not there")));
    none(&problems);
}

/// cargo compiles what a `mod` line names and is silent about the rest.
#[test]
fn every_rust_file_belongs_to_a_crate() {
    let mut problems = Vec::new();
    for name in rust_files() {
        let Some((folder, file)) = name.rsplit_once('/') else { continue };
        let roots = file == "lib.rs" || file == "main.rs" || file == "build.rs";
        if roots || !format!("/{folder}/").contains("/src/") || folder.ends_with("/bin") || folder == "bin" {
            continue;
        }
        // `a/b.rs` and `a/b/mod.rs` are both module b of folder a.
        let (folder, module) = match file {
            "mod.rs" => folder.rsplit_once('/').unwrap_or(("", folder)),
            _ => (folder, file.trim_end_matches(".rs")),
        };
        let parents = ["lib.rs", "main.rs", "mod.rs"].map(|parent| format!("{folder}/{parent}"));
        let declared = parents.into_iter().chain([format!("{folder}.rs")]).any(|parent| {
            root().join(&parent).is_file()
                && read(&parent).lines().any(|line| line.trim().ends_with(&format!("mod {module};")))
        });
        if !declared {
            problems.push(format!("{name}: no `mod {module};` in {folder}"));
        }
    }
    none(&problems);
}

#[test]
fn every_package_takes_the_workspace_lints() {
    let careless = files().into_iter().filter(|name| {
        name.ends_with("Cargo.toml")
            && !name.starts_with("tests/outside/")
            && !read(name).contains("[lints]\nworkspace = true")
    });
    none(&careless.map(|name| format!("{name}: no `[lints] workspace = true`")).collect::<Vec<_>>());
}

#[test]
fn any_toolchain_new_enough_will_do() {
    let mut pins: Vec<String> = files().into_iter().filter(|name| name.contains("rust-toolchain")).collect();
    pins.extend(lines(&["Cargo.toml".to_owned()], |line| line.contains("rust-toolchain").then(|| line.to_owned())));
    none(&pins);
}

#[test]
fn nothing_large_is_kept() {
    let size = |name: &str| root().join(name).metadata().map_or(0, |about| about.len());
    let large = files().into_iter().filter(|name| size(name) > LARGEST);
    none(&large.map(|name| format!("{name}: {} bytes", size(&name))).collect::<Vec<_>>());
}

/// The program in the README is the one that `./dev test` builds and runs as a user would.
#[test]
fn the_readme_shows_the_program_that_is_run() {
    let readme = read("README.md");
    let shown = readme
        .split_once("<!-- program -->\n```rust\n")
        .and_then(|(_, rest)| rest.split_once("```"))
        .map(|(program, _)| program)
        .expect("the README has a Rust program after <!-- program -->");
    let run = read("tests/outside/src/main.rs");
    let code = run.split_once("\n\n").map_or(run.as_str(), |(_, code)| code);
    assert_eq!(shown, code, "README.md and tests/outside/src/main.rs, without its opening lines, differ");
}
