//! Every operator with a function of the program's has a `try_` twin, whose function may fail.

use std::fs;
use std::path::{Path, PathBuf};

/// Those that need none.
const WITHOUT: &[(&str, &str)] = &[
    ("on_late", "is called while the program is built"),
    ("on_late_left", "is called while the program is built"),
    ("on_late_right", "is called while the program is built"),
    ("transform_values", "its function may fail as it is"),
    ("transform_values_with_context", "its function may fail as it is"),
    ("cogroup_or_delete", "try_cogroup is its twin too: it may delete"),
];

/// What a cogroup begins with is made of nothing.
const MADE_OF_NOTHING: &str = "init: impl Fn() -> A + Send + Sync + 'static";

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the DSL") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// What the functions that a method takes are given, in order.
fn given(takes: &str) -> Vec<String> {
    let functions = takes.match_indices("Fn(").map(|(at, found)| &takes[at + found.len()..]);
    functions
        .map(|rest| {
            let mut open = 1;
            let end = rest.find(|c| {
                open += i32::from(c == '(') - i32::from(c == ')');
                open == 0
            });
            // What is folded in place is given and returned where that may fail.
            rest[..end.unwrap_or(rest.len())].replace("&mut A", "A")
        })
        .collect()
}

/// The public methods of a file with what they take.
fn methods(code: &str) -> Vec<(&str, &str)> {
    let starts = code.match_indices("\n    pub fn ").map(|(at, found)| &code[at + found.len()..]);
    starts
        .map(|rest| {
            let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let end = rest.find(" {\n").unwrap_or(rest.len());
            (&rest[..name], &rest[name..end])
        })
        .collect()
}

#[test]
fn every_operator_with_a_function_has_one_that_may_fail() {
    let dsl = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dsl/src");
    let (mut problems, mut twins) = (Vec::new(), 0);
    for part in ["operators", "joins", "tables", "aggregates", "consumed.rs"] {
        let mut files = Vec::new();
        if part.ends_with(".rs") {
            files.push(dsl.join(part));
        } else {
            sources(&dsl.join(part), &mut files);
        }
        for file in files {
            let code = fs::read_to_string(&file).expect("a source");
            let methods = methods(&code);
            for (name, takes) in &methods {
                let functions = takes.replace(MADE_OF_NOTHING, "");
                let takes_none =
                    !functions.contains("Fn(") && !functions.contains("FnMut(") && !functions.contains("FnOnce(");
                if takes_none || name.starts_with("try_") || WITHOUT.iter().any(|(known, _)| known == name) {
                    continue;
                }
                let twin = format!("try_{name}");
                match methods.iter().find(|(other, _)| **other == twin) {
                    Some((_, tried)) if tried.contains("Result<") && given(tried) == given(takes) => twins += 1,
                    Some((_, tried)) if tried.contains("Result<") => {
                        let (tried, given) = (given(tried), given(takes));
                        problems.push(format!("{}: {name} gives {given:?}, {twin} {tried:?}", file.display()));
                    }
                    Some(_) => problems.push(format!("{}: {twin} takes no function that may fail", file.display())),
                    None => problems.push(format!("{}: {name} has no {twin}", file.display())),
                }
            }
        }
    }
    assert!(problems.is_empty(), "\n  {}", problems.join("\n  "));
    assert!(twins > 40, "only {twins} operators with functions were found");
}
