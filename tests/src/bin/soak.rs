//! `soak [--minutes N]`: a program under a steady load for ten minutes, with a line of figures every ten seconds. Ends with 1 if something
//! grew, or was not counted once.
#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use std::process::ExitCode;
use std::time::Duration;

use millstream_tests::soak::{Sample, grown, run};
use millstream_tests::usage::growth;

const USAGE: &str = "soak [--minutes N]";

/// In the first minute buffers fill and files become as many as they are later: of less than this there is nothing to judge.
const SHORTEST: f64 = 3.0;

/// Housekeeping of the log is done every ten seconds: samples as far apart would see one moment of it alone, which moves.
const SAMPLE: Duration = Duration::from_secs(1);
const LINE: usize = 10;

fn minutes() -> Result<f64, String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(10.0),
        ["--minutes", minutes] => {
            let minutes = minutes.parse().ok().filter(|minutes| (SHORTEST..=10_000.0).contains(minutes));
            minutes.ok_or_else(|| {
                format!("--minutes wants a number from {SHORTEST} on: what fills up first is there after one\n  help: {USAGE}")
            })
        }
        _ => Err(format!("unknown: {}\n  help: {USAGE}", arguments.join(" "))),
    }
}

fn line(sample: &Sample) {
    let Sample { at, usage, files, records: (written, processed) } = sample;
    let (memory, files, waiting) = (usage.memory as f64 / 1e6, *files as f64 / 1e6, written.saturating_sub(*processed));
    println!(
        "{:>6.0} s  {memory:>7.1} MB memory  {:>4} handles  {:>3} threads  {files:>7.1} MB files  {written:>9} records, {waiting} waiting  {}",
        at.as_secs_f64(),
        usage.handles,
        usage.threads,
        "#".repeat((memory / 10.0) as usize)
    );
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help" || argument == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let minutes = match minutes() {
        Ok(minutes) => minutes,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let told = tempfile::tempdir().map_err(millstream_core::Error::user).and_then(|folder| {
        let mut samples = 0;
        let mut tell = |sample: &Sample| {
            samples += 1;
            if samples % LINE == 0 {
                line(sample);
            }
        };
        run(folder.path(), Duration::from_secs_f64(minutes * 60.0), SAMPLE, &mut tell)
    });
    let samples = match told {
        Ok(samples) => samples,
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let warm = &samples[samples.len() / 3..];
    println!(
        "every key was counted as often as it was written; in the last two thirds memory grew by {:+.2} MB",
        growth(warm.iter().map(|s| s.usage.memory)) / 1e6
    );
    let grown = grown(&samples);
    grown.iter().for_each(|what| println!("{what}"));
    if grown.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
