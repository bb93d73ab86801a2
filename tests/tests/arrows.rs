//! Crates import each other as the table of rooms in `docs/design.md` says, and in no other way; what a room must never
//! know does not reach it through the dependency of a dependency either. A crate's own tests may use what they like:
//! what ends up in a user's program is an arrow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const ASYNC: &[&str] = &["tokio", "mio", "async-std", "smol", "socket2", "hyper", "reqwest", "axum"];
const ROCKSDB: &[&str] = &["rocksdb", "librocksdb-sys"];
const ARROW: &[&str] = &["arrow*", "parquet", "object_store", "datafusion*"];
const CLIENTS: &[&str] = &["rdkafka*", "rskafka", "krafka", "kafka"];

/// "Must never know", as crates that no feature may bring in, at any depth. A star stands for any ending.
const NEVER: &[(&str, &[&[&str]])] = &[
    ("millstream-wire", &[ASYNC, ROCKSDB, ARROW, CLIENTS]),
    ("millstream-core", &[ASYNC, ROCKSDB, ARROW, CLIENTS]),
    ("millstream-state", &[ASYNC, ARROW, CLIENTS]),
    ("millstream-dsl", &[ASYNC, ARROW, CLIENTS]),
    ("millstream-kafka", &[ROCKSDB, ARROW]),
];

/// What a pipeline author gets without asking for a feature.
const NEVER_UNASKED: &[&[&str]] = &[ASYNC, ROCKSDB, ARROW, CLIENTS, &["millstream-connectors", "millstream-kafka"]];
const FACADE: &str = "millstream";
const FACADE_CRATES: usize = 150;

#[derive(Debug, PartialEq)]
enum Allowed {
    /// Every crate except those that nothing may import.
    Everything,
    Only(BTreeSet<String>),
}

/// One row of the table: the crates it speaks of and what they may import.
#[derive(Debug)]
struct Rooms {
    crates: Vec<String>,
    may_import: Allowed,
    /// "Nothing imports them".
    leaf: bool,
}

/// Reads the table whose second-last column is headed "may import". Crates go by their package names.
fn rooms(design: &str) -> Vec<Rooms> {
    let mut lines =
        design.lines().skip_while(|line| !(line.starts_with("| folder") && line.contains("| may import |")));
    lines.next().expect("docs/design.md has a table headed `| folder (crate) | owns | may import | …`");
    let mut rooms: Vec<Rooms> = Vec::new();
    let mut by_folder = BTreeMap::new();
    for line in lines.skip(1).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let crates = crates(cells[0]);
        for (folder, name) in folders(cells[0]).into_iter().zip(&crates) {
            by_folder.insert(folder, name.clone());
        }
        let may_import = match cells[2] {
            "-" => Allowed::Only(BTreeSet::new()),
            "" => Allowed::Everything,
            "the above" => Allowed::Only(rooms.iter().flat_map(|r| r.crates.clone()).collect()),
            // "wire, core (ports)": a bracket says which part; a room further down the table is found by its folder.
            named => Allowed::Only(named.split(',').map(|word| without_bracket(word).to_owned()).collect()),
        };
        let leaf = line.contains("nothing imports them");
        rooms.push(Rooms { crates, may_import, leaf });
    }
    for room in &mut rooms {
        if let Allowed::Only(names) = &mut room.may_import {
            *names = names
                .iter()
                .map(|name| {
                    let package =
                        by_folder.iter().find(|(folder, _)| last_part(folder) == name).map(|(_, package)| package);
                    package.cloned().unwrap_or_else(|| name.clone())
                })
                .collect();
        }
    }
    rooms
}

/// The words between back quotes: "`examples`, `tests`" is two.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn without_bracket(text: &str) -> &str {
    text.split('(').next().unwrap_or_default().trim()
}

fn last_part(folder: &str) -> &str {
    folder.rsplit('/').next().unwrap_or(folder)
}

/// "`core` (millstream-core)" owns the crate in brackets, "root package `millstream`" the quoted one, "`examples`,
/// `tests`" and "`cli` (binary …)" the folders' names after `millstream-`.
fn crates(cell: &str) -> Vec<String> {
    if let Some((_, rest)) = cell.split_once('(')
        && !rest.contains(' ')
    {
        return vec![rest.trim_end_matches(')').to_owned()];
    }
    if cell.starts_with("root package") {
        return quoted(cell);
    }
    folders(cell).iter().map(|folder| format!("millstream-{folder}")).collect()
}

fn folders(cell: &str) -> Vec<String> {
    if cell.starts_with("root package") { vec![String::new()] } else { quoted(without_bracket(cell)) }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is a folder of the workspace").to_owned()
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints text")
}

fn metadata(arguments: &[&str]) -> Value {
    let all: Vec<&str> = ["metadata", "--locked", "--format-version", "1"].iter().chain(arguments).copied().collect();
    serde_json::from_str(&cargo(&all)).expect("cargo metadata prints JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn design() -> String {
    std::fs::read_to_string(root().join("docs/design.md")).expect("docs/design.md is there")
}

#[test]
fn crates_import_what_the_table_of_rooms_allows() {
    let rooms = rooms(&design());
    let leaves: BTreeSet<&String> = rooms.iter().filter(|r| r.leaf).flat_map(|r| &r.crates).collect();
    let workspace = metadata(&["--no-deps"]);
    let members: BTreeSet<&str> = list(&workspace["packages"]).iter().map(|p| text(&p["name"])).collect();
    let mut problems = Vec::new();
    for package in list(&workspace["packages"]) {
        let name = text(&package["name"]);
        let Some(room) = rooms.iter().find(|r| r.crates.iter().any(|c| c == name)) else {
            problems.push(format!("{name} has no row in the table"));
            continue;
        };
        for dependency in list(&package["dependencies"]) {
            let to = text(&dependency["name"]);
            if !members.contains(to) {
                continue;
            }
            let for_tests = text(&dependency["kind"]) == "dev";
            let allowed = match &room.may_import {
                Allowed::Everything => true,
                Allowed::Only(names) => names.contains(to) || for_tests,
            };
            if !allowed {
                problems.push(format!("{name} imports {to}, which its row does not name"));
            }
            // Among themselves they may share: the demo's results are checked by a test.
            if leaves.contains(&to.to_owned()) && !room.leaf {
                problems.push(format!("{name} imports {to}, which nothing may import"));
            }
        }
    }
    assert!(problems.is_empty(), "docs/design.md §1 does not allow:\n  {}", problems.join("\n  "));
}

/// What `from` links or builds with, at any depth, each with the path that led there.
fn reachable(resolve: &Value, names: &BTreeMap<&str, &str>, from: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![(from.to_owned(), names.get(from).copied().unwrap_or(from).to_owned())];
    while let Some((id, path)) = ahead.pop() {
        let node = list(&resolve["nodes"]).iter().find(|node| text(&node["id"]) == id);
        for dependency in node.map_or(&[][..], |node| list(&node["deps"])) {
            let only_for_tests = list(&dependency["dep_kinds"]).iter().all(|kind| text(&kind["kind"]) == "dev");
            let to = text(&dependency["pkg"]);
            let name = names.get(to).copied().unwrap_or(to);
            if !only_for_tests && !found.contains_key(name) {
                let path = format!("{path} → {name}");
                found.insert(name.to_owned(), path.clone());
                ahead.push((to.to_owned(), path));
            }
        }
    }
    found
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

#[test]
fn what_a_room_must_never_know_does_not_reach_it() {
    // Windows is not a target, and asking for this machine alone downloads nothing that a build has not.
    let rustc = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let about = String::from_utf8_lossy(&rustc.stdout).into_owned();
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let graph = metadata(&["--all-features", "--filter-platform", host]);
    let names: BTreeMap<&str, &str> =
        list(&graph["packages"]).iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
    let mut problems = Vec::new();
    for (name, never) in NEVER {
        let Some((id, _)) = names.iter().find(|(_, n)| n == &name) else { continue };
        for (reached, path) in reachable(&graph["resolve"], &names, id) {
            if never.iter().copied().flatten().any(|pattern| matches(pattern, &reached)) {
                problems.push(path);
            }
        }
    }
    assert!(problems.is_empty(), "rooms that know what they must not:\n  {}", problems.join("\n  "));
}

#[test]
fn the_facade_is_small_until_asked_for_more() {
    let tree = cargo(&["tree", "--locked", "-p", FACADE, "-e", "normal,build", "--prefix", "none", "-f", "{p}"]);
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    let unasked: Vec<_> = names
        .iter()
        .filter(|name| NEVER_UNASKED.iter().copied().flatten().any(|pattern| matches(pattern, name)))
        .collect();
    assert!(unasked.is_empty(), "{FACADE} without features brings {unasked:?}");
    assert!(names.len() <= FACADE_CRATES, "{FACADE} without features is {} crates", names.len());
}

#[test]
fn the_table_is_read_as_it_is_written() {
    let rooms = rooms(
        "| folder (crate) | owns | may import | must never know |\n|---|---|---|---|\n\
         | `core` (m-core) | words | wire | disks |\n\
         | `a/wire` (m-wire) | bytes | - | everything |\n\
         | `log` (m-log) | logs | wire, core (ports) | tasks |\n\
         | `server` (m-server) | HTTP | the above | |\n\
         | `cli` (binary `m`) | commands | the above | |\n\
         | root package `m` | façade | | |\n\
         | `tests`, `bench` | may import everything; nothing imports them | | |\n",
    );
    let only = |names: &[&str]| Allowed::Only(names.iter().map(|&n| n.to_owned()).collect());
    let found: Vec<_> = rooms.iter().map(|r| (r.crates.join(" "), &r.may_import, r.leaf)).collect();
    let expected = [
        ("m-core".to_owned(), &only(&["m-wire"]), false),
        ("m-wire".to_owned(), &only(&[]), false),
        ("m-log".to_owned(), &only(&["m-core", "m-wire"]), false),
        ("m-server".to_owned(), &only(&["m-core", "m-log", "m-wire"]), false),
        ("millstream-cli".to_owned(), &only(&["m-core", "m-log", "m-server", "m-wire"]), false),
        ("m".to_owned(), &Allowed::Everything, false),
        ("millstream-tests millstream-bench".to_owned(), &Allowed::Everything, true),
    ];
    assert_eq!(found, expected);
}
