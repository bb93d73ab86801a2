//! Runs seeds of the simulation: `simulate [--seeds N] [--from SEED]`, with progress, or `simulate --seed S` with all that
//! happens in it. Ends with 1 if something happened that must not.
#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use millstream_tests::simulation::{Simulation, Summary, Trace, run_seeds};

const USAGE: &str = "simulate [--seeds N] [--from SEED] | --seed SEED";

struct Arguments {
    from: u64,
    seeds: u64,
    only: Option<u64>,
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments { from: 0, seeds: 1_000, only: None };
    let mut rest = std::env::args().skip(1);
    let mut several = false;
    while let Some(flag) = rest.next() {
        if !["--from", "--seeds", "--seed"].contains(&&*flag) {
            return Err(format!("unknown: {flag}\n  help: {USAGE}"));
        }
        let value = rest.next().ok_or_else(|| format!("{flag} needs a value"))?;
        let number = value.parse().map_err(|_| format!("{flag} {value}: a number, please"))?;
        match flag.as_str() {
            "--from" => (arguments.from, several) = (number, true),
            "--seeds" => (arguments.seeds, several) = (number, true),
            _ => arguments.only = Some(number),
        }
    }
    if several && arguments.only.is_some() {
        return Err(format!("--seed is one alone, without --seeds and --from\n  help: {USAGE}"));
    }
    if arguments.seeds == 0 {
        return Err("--seeds 0 checks nothing: 1 at least, please".to_owned());
    }
    Ok(arguments)
}

/// One seed, with all that happens.
fn tell(seed: u64) -> ExitCode {
    let trace = Trace::kept();
    let told = Simulation::run(seed, &trace);
    trace.text().iter().for_each(|line| println!("{line}"));
    match told {
        Ok(report) => println!("seed {seed}: {report:?}"),
        Err(failure) => {
            println!("{failure}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help" || argument == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let Arguments { from, seeds, only } = match arguments() {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    // What panics is told with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(seed) = only {
        return tell(seed);
    }
    let started = Instant::now();
    let said = Mutex::new((Duration::ZERO, 0));
    let say = |summary: &Summary| {
        let Ok(mut said) = said.lock() else { return };
        for failure in summary.failures.iter().skip(said.1) {
            println!("{failure}");
        }
        said.1 = summary.failures.len();
        if started.elapsed() - said.0 >= Duration::from_secs(10) {
            said.0 = started.elapsed();
            let rate = summary.seeds as f64 / started.elapsed().as_secs_f64();
            println!("{} of {seeds} seeds, {} failed, {rate:.0} a second", summary.seeds, said.1);
        }
    };
    let summary = run_seeds(from..from + seeds, say);
    let (rate, failed) = (summary.seeds as f64 / started.elapsed().as_secs_f64(), summary.failures.len());
    println!("{} seeds from {from} on, {failed} failed, {rate:.0} a second; {:?}", summary.seeds, summary.sum);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
