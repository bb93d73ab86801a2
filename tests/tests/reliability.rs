//! docs/reliability.md is what the code says it is: the tests that it names are there, and every line names one or says why not.

use std::fs;
use std::path::Path;

fn read(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is a folder of the workspace");
    fs::read_to_string(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What is wrong with a line of a table.
fn problems(line: &str) -> Vec<String> {
    let last = line.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
    let names = last.split('`').skip(1).step_by(2).filter_map(|name| name.split_once("::"));
    let mut found = 0;
    let mut problems = Vec::new();
    for (file, test) in names {
        found += 1;
        if !read(file).contains(&format!("fn {test}(")) {
            problems.push(format!("no {file}::{test}"));
        }
    }
    if found == 0 && !last.trim().starts_with("cannot occur") {
        problems.push(format!("no test: {line}"));
    }
    problems
}

#[test]
fn every_line_names_a_test_that_is_there() {
    let page = read("docs/reliability.md");
    // Behind each head and the line under it.
    let lines: Vec<&str> = page.lines().filter(|line| line.starts_with('|')).collect();
    let lines = lines.iter().enumerate().filter(|(at, line)| {
        !line.starts_with("|---") && !lines.get(at + 1).is_some_and(|next| next.starts_with("|---"))
    });
    let lines: Vec<&str> = lines.map(|(_, line)| *line).collect();
    assert!(lines.len() > 40, "only {} lines were found", lines.len());
    let problems: Vec<String> = lines.into_iter().flat_map(problems).collect();
    assert!(problems.is_empty(), "\n  {}", problems.join("\n  "));
}

#[test]
fn a_line_without_a_test_is_found() {
    assert_eq!(problems("| a | b | `tests/tests/reliability.rs::a_line_without_a_test_is_found` |"), [""; 0]);
    assert_eq!(problems("| a | b | cannot occur: why |"), [""; 0]);
    assert_eq!(problems("| a | b | nobody knows |").len(), 1);
    assert_eq!(problems("| a | b | `tests/tests/reliability.rs::not_there` |").len(), 1);
}
