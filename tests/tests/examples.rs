//! Every public function of the DSL is shown: by an example of its own, or by one of its type that calls it. That the
//! examples run is for the documentation's tests.

use std::fs;
use std::path::{Path, PathBuf};

/// Types whose methods are shown together with another type, since neither is of use alone.
const SHOWN_WITH: &[(&str, &str)] = &[("Stores", "Setup")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is a folder of the workspace").join("dsl/src")
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        match path.extension() {
            None => rust_files(&path, files),
            Some(_) => files.push(path),
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word(text: &str) -> &str {
    text.split(|c| !is_word(c)).next().unwrap_or_default()
}

/// The type that an `impl` line is for, if it is not for a trait.
fn implemented(line: &str) -> Option<&str> {
    let mut rest = line.strip_prefix("impl")?;
    if line.contains(" for ") {
        return Some("");
    }
    if rest.starts_with('<') {
        let mut depth = 0;
        // `->` in a bound closes nothing.
        let end = rest.char_indices().find(|(at, c)| {
            depth += i32::from(*c == '<') - i32::from(*c == '>' && !rest[..*at].ends_with('-'));
            depth == 0
        });
        rest = &rest[end?.0 + 1..];
    }
    Some(word(rest.trim_start()))
}

/// A public item: its type, or nothing for a free one, its name and its documentation.
struct Item {
    of: String,
    name: String,
    docs: String,
}

/// The items of a file whose lines begin with one of these words.
fn items(text: &str, words: &[&str]) -> Vec<Item> {
    let (mut of, mut docs, mut items) = (String::new(), String::new(), Vec::new());
    for line in text.lines() {
        let code = line.trim_start();
        if let Some(of_line) = implemented(line) {
            of = of_line.to_owned();
        } else if line == "}" {
            of.clear();
        }
        if let Some(doc) = code.strip_prefix("///") {
            docs += doc;
            docs.push('\n');
        } else if !code.starts_with("#[") {
            for found in words.iter().filter_map(|word| code.strip_prefix(word)) {
                items.push(Item { of: of.clone(), name: word(found).to_owned(), docs: docs.clone() });
            }
            docs.clear();
        }
    }
    items
}

/// The code of documentation.
fn examples(docs: &str) -> String {
    docs.split("```").skip(1).step_by(2).collect()
}

fn calls(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back().is_none_or(|c| !is_word(c));
        let behind = &code[at + name.len()..];
        before && (behind.starts_with('(') || behind.starts_with("::<"))
    })
}

#[test]
fn every_public_function_is_shown_in_an_example() {
    let mut files = Vec::new();
    rust_files(&root(), &mut files);
    let texts: Vec<String> = files.iter().map(|file| fs::read_to_string(file).expect("a source")).collect();
    let exported = fs::read_to_string(root().join("lib.rs")).expect("lib.rs");
    let is_public = |name: &str| exported.split(|c| !is_word(c)).any(|exported| exported == name);
    let types: Vec<Item> =
        texts.iter().flat_map(|text| items(text, &["pub struct ", "pub enum ", "pub trait "])).collect();
    let of_type = |name: &str| {
        let name = SHOWN_WITH.iter().find(|(of, _)| *of == name).map_or(name, |(_, shown)| shown);
        types.iter().filter(|item| item.name == name).map(|item| examples(&item.docs)).collect::<String>()
    };
    let functions = texts.iter().flat_map(|text| items(text, &["pub fn "]));
    let functions: Vec<Item> = functions.filter(|f| is_public(if f.of.is_empty() { &f.name } else { &f.of })).collect();
    assert!(functions.len() > 200, "only {} public functions were found", functions.len());
    let not_shown = functions.iter().filter(|f| examples(&f.docs).is_empty() && !calls(&of_type(&f.of), &f.name));
    let not_shown: Vec<String> = not_shown.map(|f| format!("{}::{}", f.of, f.name)).collect();
    assert!(not_shown.is_empty(), "without an example:\n  {}", not_shown.join("\n  "));
}
