//! `./dev demo`: starts the log, the topics and the pipeline, replays a year of flights, shows what comes out.
#![expect(clippy::print_stdout, reason = "a program that shows its results")]

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use millstream::core::{Log, Plan, RuntimeConfig, State, SystemClock};
use millstream::prelude::*;
use millstream_examples::answers::Answers;
use millstream_examples::pipeline::topology;
use millstream_examples::replay::replay;
use millstream_examples::results::{self, Reader};
use millstream_examples::screen::Screen;
use millstream_examples::view::all_days;

/// Flights a second, when somebody watches: the year takes half a minute.
const WATCHABLE: u32 = 12_000;

const HELP: &str = "\
demo [FLAG…]: a year of flights through windows and joins, with the log in this process

  --exit-when-done       ends with the last flight instead of with Ctrl-C; lines instead of a view
  --out DIR              writes all results as JSON lines at the end
  --speed N              flights a second; by default 12000 on a terminal, else as fast as they go
  --data.dir=DIR         where the log is; by default ./demo-data; run again, it goes on from there
  --num.stream.threads=N

and every other setting of a Millstream program.";

struct Arguments {
    exit_when_done: bool,
    watched: bool,
    out: Option<PathBuf>,
    speed: Option<u32>,
    settings: Settings,
}

fn arguments() -> Result<Arguments> {
    let mut settings = Settings::new().set("data.dir", "demo-data").set("log.retention.ms", -1);
    settings.read_environment(std::env::vars());
    let own = settings.read_flags(std::env::args().skip(1), &["exit-when-done", "out", "speed", "help"]);
    let own = |name: &str| own.iter().find(|(flag, _)| flag == name).map(|(_, value)| value.clone());
    if own("help").is_some() {
        println!("{HELP}");
        std::process::exit(0);
    }
    let exit_when_done = own("exit-when-done").is_some();
    if let Some(value) = own("exit-when-done").filter(|value| !value.is_empty()) {
        settings.problem(format!("`exit-when-done` is `{value}` (flag), and takes no value"));
    }
    if settings.get("bootstrap.servers").is_some() {
        settings.problem("the demo runs in this process: leave bootstrap.servers out".into());
    }
    if own("out").is_some_and(|out| out.is_empty()) {
        settings.problem("`out` needs a folder (flag)".into());
    }
    let speed = own("speed").map(|speed| {
        let speed = speed.parse().ok().filter(|speed| *speed > 0);
        speed.ok_or_else(|| settings.problem("`speed` (flag) is not a number of flights a second, from 1 on".into()))
    });
    settings.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
    let watched = !exit_when_done && std::io::stdout().is_terminal();
    let speed = speed.and_then(std::result::Result::ok).or(watched.then_some(WATCHABLE));
    Ok(Arguments { exit_when_done, watched, out: own("out").map(PathBuf::from), speed, settings })
}

fn main() -> std::process::ExitCode {
    match demo() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    let began = Instant::now();
    let Arguments { exit_when_done, watched, out, speed, mut settings } = arguments()?;
    let config: RuntimeConfig = settings.config("flights-demo")?;
    let threads = config.threads;
    let dir = settings.get("data.dir").map(|(dir, _)| dir.to_owned()).unwrap_or_default();
    let mut screen = Screen::new(began, watched);
    screen.wait(format!("opening the log in {dir}"))?;
    let clock = Arc::new(SystemClock::default());
    let log = millstream::embedded_log(&config.application_id, &mut settings, clock.clone())?;
    let topology = topology()?;
    // The topics are there before anything is replayed into them.
    Plan::new(&topology, &config, log.admin())?.create_topics(log.admin())?;
    screen.follow()?;
    screen.say(&format!("log       {dir}   ready {}   Ctrl-C stops; run again to continue", seconds(began)));

    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let _already_set = ctrlc::set_handler(move || stopped.store(true, Ordering::SeqCst));

    let all = Arc::new(AtomicUsize::new(0));
    let mut replayer = {
        let (log, stop, known) = (log.clone(), stop.clone(), all.clone());
        Some(std::thread::spawn(move || {
            replay(&log, speed, |all| {
                known.store(all, Ordering::Relaxed);
                !stop.load(Ordering::Relaxed)
            })
        }))
    };
    // A table's rows have the time 0: they are read before the flights, wherever they are.
    let mut streams = Streams::new(topology, config, Arc::new(log.clone()) as Arc<dyn Log>, clock)?;
    streams.start()?;
    let tasks = streams.context().plan.tasks.len();
    screen.say(&format!("pipeline  flights-demo   {tasks} tasks   started {}", seconds(began)));

    let mut reader = Reader::new(&log)?;
    while !stop.load(Ordering::SeqCst) && !matches!(streams.state(), State::NotRunning | State::Error) {
        if let Some(ended) = replayer.take_if(|replayer| replayer.is_finished()) {
            ended.join().map_err(|_| Error::user("the replay failed"))??;
            if exit_when_done {
                streams.drain()?;
            }
        }
        let all = all.load(Ordering::Relaxed) as u64;
        screen.show(&log, &streams, &mut reader, all, exit_when_done)?;
        std::thread::sleep(Duration::from_millis(20));
    }
    // Whatever ended the loop ends the replay.
    stop.store(true, Ordering::SeqCst);
    if let Some(replayer) = replayer {
        replayer.join().map_err(|_| Error::user("the replay failed"))??;
    }
    let counters = streams.close()?;
    let done = seconds(began);
    screen.wait("reading the results".to_owned())?;
    if let Some(out) = &out {
        results::write(&log, out)?;
    }
    let mut answers = Answers::default();
    Reader::new(&log)?.read(&mut answers)?;
    screen.close();
    println!(
        "done      {} records processed, {} late, {} commits, {done}",
        counters.process, counters.late_records, counters.commit
    );
    println!("\n{}\n{}", all_days(&answers), what_next(&dir, out.as_deref(), threads));
    Ok(log.close()?)
}

/// Where the results are, and what to try.
fn what_next(dir: &str, out: Option<&Path>, threads: usize) -> String {
    let mut places = match out {
        Some(out) => results::TOPICS.map(|topic| results::file(out, topic).display().to_string()).to_vec(),
        None => vec![format!("topics {}", results::TOPICS.join(", ")), "with --out DIR also in files".to_owned()],
    };
    places.push(format!("log in {dir}"));
    let other = if threads == 1 { 2 } else { 1 };
    format!(
        "results   {}\n\
         try next  kill -9 it on the way, and run it again: the results are the same\n          \
         rm -r {dir}, and run it with --num.stream.threads={other} (here {threads})",
        places.join("\n          ")
    )
}

/// Time since, for people.
fn seconds(began: Instant) -> String {
    let elapsed = began.elapsed();
    if elapsed < Duration::from_secs(1) {
        format!("{} ms", elapsed.as_millis())
    } else {
        format!("{:.1} s", elapsed.as_secs_f64())
    }
}
