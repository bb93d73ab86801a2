//! docs/semantics.md is what the code says it is: every rule has its number, every number that is cited has its rule, and
//! what is said to hold a rule is there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is a folder of the workspace").to_owned()
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The rules: number and text.
fn rules() -> Vec<(u32, String)> {
    let page = read("docs/semantics.md");
    let paragraphs = page.split("\n\n").filter_map(|paragraph| paragraph.strip_prefix("**")?.split_once(".** "));
    paragraphs.filter_map(|(number, text)| Some((number.parse().ok()?, text.to_owned()))).collect()
}

/// Code in a text.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn none(problems: &[String]) {
    assert!(problems.is_empty(), "\n  {}", problems.join("\n  "));
}

#[test]
fn every_rule_has_its_number_and_says_what_holds_it() {
    let rules = rules();
    assert_eq!(rules.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (1..=77).collect::<Vec<_>>());
    let text = |text: &str| text.replace('\n', " ").to_lowercase();
    let unproven =
        rules.iter().filter(|(_, rule)| !["*proof:*", "*no test"].iter().any(|says| text(rule).contains(says)));
    none(&unproven.map(|(number, _)| format!("rule {number} names no proof")).collect::<Vec<_>>());
}

#[test]
fn what_is_named_is_there() {
    let mut problems = Vec::new();
    let mut found = 0;
    for (number, rule) in rules() {
        for name in code(&rule) {
            let (path, function) = name.split_once("::").unwrap_or((name, ""));
            if path.contains('/') && path.ends_with(".rs") {
                found += 1;
                let there = root().join(path).is_file()
                    && (function.is_empty() || read(path).contains(&format!("fn {function}(")));
                problems.extend((!there).then(|| format!("rule {number}: no {name}")));
            }
        }
        let proof = rule.split("*Proof:*").nth(1).unwrap_or_default().split("*Differs").next().unwrap_or_default();
        let proof = proof.split("*Ours").next().unwrap_or_default();
        for name in code(proof).filter(|name| !name.contains('/')) {
            found += 1;
            let there = root().join(format!("tests/golden/{name}.json")).is_file();
            problems.extend((!there).then(|| format!("rule {number}: no golden trace {name}")));
        }
    }
    assert!(found > 100, "only {found} proofs were found");
    none(&problems);
}

/// The numbers behind a citation, as in `46 to 51` or `35, 37, 42`.
fn cited(rest: &str) -> Vec<u32> {
    let mut numbers: Vec<u32> = Vec::new();
    let mut rest = rest.strip_prefix(' ').unwrap_or_default();
    let mut last: Option<u32> = None;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let Ok(number) = rest[..end].parse() else { return numbers };
        numbers.extend(last.map_or(number, |last| last + 1)..=number);
        rest = &rest[end..];
        last = rest.starts_with(" to ").then_some(number);
        let Some(more) = rest.strip_prefix(" to ").or_else(|| rest.strip_prefix(", ")) else { return numbers };
        rest = more;
    }
}

#[test]
fn what_is_cited_is_a_rule() {
    let files = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git runs");
    let files = String::from_utf8(files.stdout).expect("file names are UTF-8");
    let known: Vec<u32> = rules().into_iter().map(|(number, _)| number).collect();
    let (mut problems, mut found) = (Vec::new(), 0);
    for name in
        files.lines().filter(|name| (name.ends_with(".rs") || name.ends_with(".md")) && root().join(name).is_file())
    {
        if name.ends_with("tests/semantics.rs") {
            continue;
        }
        for rest in read(name).split("semantics.md").skip(1) {
            let numbers = cited(rest);
            found += usize::from(!numbers.is_empty());
            let unknown = numbers.into_iter().filter(|number| !known.contains(number));
            problems.extend(unknown.map(|number| format!("{name}: no rule {number}")));
        }
    }
    assert!(found > 50, "only {found} citations were found");
    none(&problems);
}

#[test]
fn citations_are_read_as_they_are_written() {
    assert_eq!(cited(" 46 to 51).\n"), [46, 47, 48, 49, 50, 51]);
    assert_eq!(cited(" 35, 39 to 43)."), [35, 39, 40, 41, 42, 43]);
    assert_eq!(cited(" 35, 37, 42): a"), [35, 37, 42]);
    assert_eq!(cited(" 25, KAFKA-16123). 7"), [25]);
    assert_eq!(cited(" 13), and 2 equal"), [13]);
    assert_eq!(cited(" says; 7"), [0; 0]);
}
