//! The crash harness: real processes, killed with `kill -9` at random moments, and a check of everything that they leave.
//!
//! ```text
//! crash [--rounds N] [--seed N] [--journal DIR] [--plant NAME|every] [--keep DIR]
//! ```
//!
//! Log and application are one process, since the log has no door for others yet: they die together. What kill -9 does not
//! lose is the page cache; power cuts are the business of `SimFiles` in core. README.md says what a round is and what is checked.
#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

mod checker;
mod dice;
mod dump;
mod journal;
mod moment;
mod program;
mod round;
mod setup;
mod told_commits;
mod torn_files;
mod worker;
mod workload;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use millstream_core::{Error, Result};

use crate::moment::MOMENTS;
use crate::round::{Outcome, Plan, again, folder, play};
use crate::worker::{Options, work};

const USAGE: &str = "crash [--rounds N] [--seed N] [--journal DIR] [--plant NAME|every] [--keep DIR]";

/// How often a line says how far it is.
const PROGRESS: Duration = Duration::from_secs(5);

struct Arguments {
    rounds: u64,
    seed: u64,
    journal: Option<PathBuf>,
    plant: Option<String>,
    keep: PathBuf,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let done = match words.split_first() {
        Some((first, rest)) if first == "worker" => worker(rest).map(|()| true),
        _ => arguments(&words).and_then(|arguments| run(&arguments)),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn arguments(words: &[String]) -> Result<Arguments> {
    let keep = std::env::temp_dir().join(format!("millstream-crash-{}", std::process::id()));
    let mut arguments = Arguments { rounds: 20, seed: 1, journal: None, plant: None, keep };
    let mut words = words.iter();
    while let Some(flag) = words.next() {
        if !USAGE.contains(&format!("[{flag} ")) {
            return Err(Error::user(format!("unknown: {flag}\n  help: {USAGE}")));
        }
        let value = words.next().ok_or_else(|| Error::user(format!("{flag} needs a value\n  help: {USAGE}")))?;
        let number = || value.parse().map_err(|_| Error::user(format!("{flag} {value}: a number, please")));
        match flag.as_str() {
            "--rounds" => {
                arguments.rounds = number()?;
                if arguments.rounds == 0 {
                    return Err(Error::user("--rounds 0 checks nothing: 1 at least, please"));
                }
            }
            "--seed" => arguments.seed = number()?,
            "--journal" => arguments.journal = Some(value.into()),
            "--plant" => arguments.plant = Some(value.to_owned()),
            _ => arguments.keep = value.into(),
        }
    }
    Ok(arguments)
}

/// A process that is to be killed: FOLDER SEED COMMIT WRITE PERCENT STATE, and PLANT where there is one.
fn worker(words: &[String]) -> Result<()> {
    let (folder, rest) = words.split_first().ok_or_else(|| Error::user("a folder, please"))?;
    let numbers: Vec<u64> = rest.iter().map_while(|word| word.parse().ok()).collect();
    let [seed, commit, write, percent, state] = numbers[..] else { return Err(Error::user("five numbers, please")) };
    if let Some(name) = rest.get(numbers.len()) {
        plant(name)?;
    }
    work(&Options { seed, folder: folder.into(), commit, write, percent, state })
}

#[cfg(feature = "plant")]
fn plants() -> Vec<&'static str> {
    millstream_core::Plant::ALL.iter().map(|plant| plant.name()).collect()
}

#[cfg(not(feature = "plant"))]
fn plants() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(feature = "plant")]
fn plant(name: &str) -> Result<()> {
    let found = millstream_core::Plant::ALL.into_iter().find(|plant| plant.name() == name);
    found.map(|plant| plant.set()).ok_or_else(|| no_plant(name))
}

#[cfg(not(feature = "plant"))]
fn plant(name: &str) -> Result<()> {
    Err(no_plant(name))
}

fn no_plant(name: &str) -> Error {
    match plants()[..] {
        [] => Error::user("this was built without defects\n  help: ./dev crash --plant NAME builds them in"),
        _ => Error::user(format!("no defect is called {name}: there are every, {}", plants().join(", "))),
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    fs::create_dir_all(&arguments.keep).map_err(Error::user)?;
    let mut plan = Plan {
        program: own_program(&arguments.keep)?,
        folder: arguments.keep.clone(),
        journal: arguments.journal.clone(),
        plant: arguments.plant.clone(),
    };
    let ok = match arguments.plant.as_deref() {
        None => rounds(arguments, &plan)?,
        Some("every") => {
            let mut found = 0;
            let names = plants();
            if names.is_empty() {
                return Err(no_plant("every"));
            }
            for name in &names {
                plan.plant = Some((*name).to_owned());
                found += usize::from(is_found(arguments, &plan, name)?);
            }
            println!("{found} passed, {} failed", names.len() - found);
            found == names.len()
        }
        Some(name) if plants().contains(&name) => rounds(arguments, &plan)?,
        Some(name) => return Err(no_plant(name)),
    };
    if ok {
        leave(&arguments.keep, &plan.program)?;
    }
    Ok(ok)
}

/// Removes the program, and the folder if that was all: what else there is is not ours.
fn leave(folder: &Path, program: &Path) -> Result<()> {
    fs::remove_file(program).map_err(Error::user)?;
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => Err(Error::user(error)),
        _ => Ok(()),
    }
}

/// The program as it is now: a build that replaces it meanwhile changes nothing.
fn own_program(folder: &Path) -> Result<PathBuf> {
    let own = std::env::current_exe().map_err(Error::user)?;
    let copy = folder.join("crash");
    // One of an earlier run may be this very file, or run still: it is never written into.
    match fs::remove_file(&copy) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::user(e)),
        _ => {}
    }
    fs::hard_link(&own, &copy).or_else(|_| fs::copy(&own, &copy).map(drop)).map_err(Error::user)?;
    Ok(copy)
}

/// Whether a defect is reported within the rounds.
fn is_found(arguments: &Arguments, plan: &Plan, name: &str) -> Result<bool> {
    let started = Instant::now();
    for round in 0..arguments.rounds {
        let seed = arguments.seed + round;
        let outcome = play(plan, seed)?;
        if let Some(first) = outcome.checked.told.first() {
            println!("ok   {name}: reported in round {}, {:.1} s: {first}", round + 1, started.elapsed().as_secs_f64());
            fs::remove_dir_all(folder(plan, seed)).map_err(Error::user)?;
            return Ok(true);
        }
    }
    println!("FAIL {name}: not reported within {} rounds from seed {} on", arguments.rounds, arguments.seed);
    Ok(false)
}

/// Plays rounds and tells what was wrong with them.
fn rounds(arguments: &Arguments, plan: &Plan) -> Result<bool> {
    let started = Instant::now();
    let mut told = Instant::now();
    let mut sum = Outcome::default();
    let mut failed = 0;
    for round in 0..arguments.rounds {
        let seed = arguments.seed + round;
        let outcome = play(plan, seed)?;
        sum.torn += outcome.torn;
        sum.fenced += outcome.fenced;
        sum.refused += outcome.refused;
        sum.checked.records += outcome.checked.records;
        sum.checked.violations += outcome.checked.violations;
        sum.kills.iter_mut().zip(outcome.kills).for_each(|(sum, kills)| *sum += kills);
        if outcome.checked.violations > 0 {
            failed += 1;
            println!("FAIL round {}, seed {seed}: {} violations", round + 1, outcome.checked.violations);
            println!("  with {}", setup::Setup::of(seed));
            outcome.checked.told.iter().for_each(|text| println!("  {text}"));
            println!("  again: {}", again(plan, seed));
            println!("  kept:  {}", folder(plan, seed).display());
        }
        if told.elapsed() >= PROGRESS || round + 1 == arguments.rounds {
            told = Instant::now();
            let per_second = (round + 1) as f64 / started.elapsed().as_secs_f64();
            println!(
                "round {:>4} of {}: {:>9} records checked, {} violations, {per_second:.2} rounds/s",
                round + 1,
                arguments.rounds,
                sum.checked.records,
                sum.checked.violations
            );
        }
    }
    report(arguments, &sum, started.elapsed());
    println!("{} passed, {failed} failed", arguments.rounds - failed);
    Ok(failed == 0)
}

fn report(arguments: &Arguments, sum: &Outcome, took: Duration) {
    println!();
    let row = |what: &str, number: u64| println!("{what:<32} {number:>10}");
    row("rounds", arguments.rounds);
    for (moment, kills) in MOMENTS.iter().zip(sum.kills) {
        row(&format!("kills, {moment}"), kills);
    }
    row("writes torn", sum.torn);
    row("zombies fenced", sum.fenced);
    row("processes refused", sum.refused);
    row("records checked", sum.checked.records);
    row("violations", sum.checked.violations);
    row("seconds", took.as_secs());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link to itself cannot be made anew, and what runs not be written into: "Text file busy".
    #[test]
    fn a_folder_that_is_kept_takes_another_run() {
        let folder = tempfile::tempdir().expect("a folder");
        for _ in 0..2 {
            let copy = own_program(folder.path()).expect("a copy");
            assert_eq!(fs::read(&copy).expect("read").len() as u64, own_size());
        }
    }

    /// What it had left there was fed to a second round: false violations, and defects that were found before they were there.
    #[test]
    fn a_round_wants_a_folder_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("seed-7")).expect("a folder");
        let plan = Plan { program: "no program".into(), folder: folder.path().to_owned(), journal: None, plant: None };
        let refused = play(&plan, 7).map(drop).expect_err("an error").to_string();
        assert!(refused.contains("seed-7") && refused.contains("help: remove it"), "{refused}");
    }

    #[test]
    fn what_was_in_the_folder_stays() {
        for is_used in [false, true] {
            let folder = tempfile::tempdir().expect("a folder");
            let kept = folder.path().join("kept");
            fs::create_dir(&kept).expect("a folder");
            let program = own_program(&kept).expect("a copy");
            if is_used {
                fs::write(kept.join("file"), "of the user's").expect("written");
            }
            leave(&kept, &program).expect("left");
            let left: Vec<_> = fs::read_dir(&kept).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
            assert_eq!((left.len(), kept.exists()), (usize::from(is_used), is_used));
        }
    }

    fn own_size() -> u64 {
        std::env::current_exe().and_then(fs::metadata).expect("it runs").len()
    }
}
