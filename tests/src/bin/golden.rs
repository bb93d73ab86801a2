//! Runs folders of golden traces: `golden DIR [--only SECTION-or-topology,…] [--store memory|rocksdb] [--via driver|thread] [--cut step|one]
//! [--abort-every N] [--restart-every N] [--optimize none|all] [--emit DIR]`. Prints a line per file, then `N passed, M failed`. With
//! `--abort-every` a line also says how often tasks were rolled back: where that is 0, no commit came to fail.
#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use millstream_tests::golden::{Cut, Options, Store, Trace, Via, emit, replay, sections};

struct Arguments {
    dir: PathBuf,
    /// What `--only` names, each with its topologies.
    only: Vec<(String, Vec<String>)>,
    emit: Option<PathBuf>,
    options: Options,
}

fn arguments() -> Result<Arguments, String> {
    let mut dir = None;
    let mut only = Vec::new();
    let mut emit = None;
    let mut options = Options {
        store: Store::Memory,
        via: Via::Driver,
        cut: Cut::Step,
        abort_every: None,
        restart_every: None,
        optimize: false,
    };
    let mut rest = std::env::args().skip(1);
    while let Some(flag) = rest.next() {
        if !flag.starts_with("--") {
            dir = Some(PathBuf::from(flag));
            continue;
        }
        let value = rest.next().ok_or_else(|| format!("{flag} needs a value"))?;
        let number = |least: u64| {
            let number = value.parse().ok().filter(|n| *n >= least);
            number.ok_or_else(|| format!("{flag} {value}: a number from {least} on, please"))
        };
        match (flag.as_str(), value.as_str()) {
            ("--only", _) => only = value.split(',').map(|name| (name.to_owned(), spelt_out(name))).collect(),
            ("--emit", _) => emit = Some(PathBuf::from(&value)),
            ("--store", "memory") => options.store = Store::Memory,
            ("--store", "rocksdb") => options.store = Store::RocksDb,
            ("--via", "driver") => options.via = Via::Driver,
            ("--via", "thread") => options.via = Via::Thread,
            ("--cut", "step") => options.cut = Cut::Step,
            ("--cut", "one") => options.cut = Cut::One,
            // If every single commit failed, nothing would ever be done.
            ("--abort-every", _) => options.abort_every = Some(number(2)?),
            ("--restart-every", _) => options.restart_every = Some(number(1)? as usize),
            ("--optimize", "all") => options.optimize = true,
            ("--optimize", "none") => options.optimize = false,
            _ => return Err(format!("unknown: {flag} {value}")),
        }
    }
    Ok(Arguments { dir: dir.ok_or("which folder of traces?")?, only, emit, options })
}

/// The topologies of a section; anything else is a topology.
fn spelt_out(name: &str) -> Vec<String> {
    let section = sections().into_iter().find(|s| s.name == name || s.name.starts_with(&format!("{name}-")));
    section.map_or_else(|| vec![name.to_owned()], |s| s.topologies)
}

/// `Ok`: all cases passed (or were written); says how many.
fn run_file(path: &Path, arguments: &Arguments) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
    let mut trace: Trace = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    if trace.cases.is_empty() {
        return Err("no cases".into());
    }
    if let Some(folder) = &arguments.emit {
        for case in &mut trace.cases {
            emit(&trace.topology, case, &arguments.options).map_err(|e| e.to_string())?;
        }
        let text = serde_json::to_string(&trace).map_err(|e| e.to_string())?;
        fs::create_dir_all(folder).map_err(|e| e.to_string())?;
        fs::write(folder.join(path.file_name().unwrap_or_default()), text).map_err(|e| e.to_string())?;
        return Ok(format!("{} cases", trace.cases.len()));
    }
    let mut rollbacks = 0;
    for case in &trace.cases {
        let at = |text: String| format!("seed {} {:?}: {text}", case.seed, case.params);
        match replay(&trace.topology, case, &arguments.options) {
            Ok(replayed) => {
                rollbacks += replayed.rollbacks;
                if let Some(difference) = replayed.difference {
                    return Err(at(difference));
                }
            }
            Err(error) => return Err(at(error.to_string())),
        }
    }
    let aborted = arguments.options.abort_every.map(|_| format!(", {rollbacks} rollbacks")).unwrap_or_default();
    Ok(format!("{} cases{aborted}", trace.cases.len()))
}

const USAGE: &str =
    "golden DIR [--only SECTION-or-topology,…] [--store memory|rocksdb] [--via driver|thread] [--cut step|one]
       [--abort-every N] [--restart-every N] [--optimize none|all] [--emit DIR]";

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help" || argument == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("golden: {problem}\n  help: {USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut files: Vec<PathBuf> = match fs::read_dir(&arguments.dir) {
        Ok(entries) => entries
            .filter_map(|e| Some(e.ok()?.path()))
            .filter(|p| p.extension().is_some_and(|e| e == "json"))
            .collect(),
        Err(error) => {
            println!("golden: {}: {error}", arguments.dir.display());
            return ExitCode::from(2);
        }
    };
    files.sort();
    let name = |path: &Path| path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let found = |only: &[String]| files.iter().any(|file| only.contains(&name(file)));
    if let Some((unknown, _)) = arguments.only.iter().find(|(_, topologies)| !found(topologies)) {
        println!("golden: --only {unknown}: no such section, and no such trace in {}", arguments.dir.display());
        return ExitCode::from(2);
    }
    let (mut passed, mut failed) = (0, 0);
    for path in
        files.iter().filter(|p| arguments.only.is_empty() || arguments.only.iter().any(|(_, t)| t.contains(&name(p))))
    {
        // A panic is this file's failure, and no reason to keep quiet about the others.
        let done = catch_unwind(AssertUnwindSafe(|| run_file(path, &arguments)));
        match done.unwrap_or_else(|_| Err("it panicked".into())) {
            Ok(cases) => {
                passed += 1;
                println!("ok   {} ({cases})", name(path));
            }
            Err(problem) => {
                failed += 1;
                println!("FAIL {}: {problem}", name(path));
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed > 0 || passed == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
