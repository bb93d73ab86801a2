//! `./dev demo`: starts the log, the topics and the pipeline, replays a year of flights, shows what comes out.
#![expect(clippy::print_stdout, reason = "a program that shows its results")]

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use millstream::broker::Broker;
use millstream::core::{Log, Plan, RuntimeConfig, SystemClock};
use millstream::prelude::*;
use millstream_examples::pipeline::{Day, topology};
use millstream_examples::replay::replay;
use millstream_examples::results::{self, Latest};

/// Flights a second, when somebody watches: the year takes half a minute.
const WATCHABLE: u32 = 12_000;

struct Arguments {
    exit_when_done: bool,
    out: Option<PathBuf>,
    speed: Option<u32>,
    settings: Settings,
}

fn arguments() -> Result<Arguments> {
    let mut settings = Settings::new().set("data.dir", "demo-data");
    settings.read_environment(std::env::vars());
    let own = settings.read_flags(std::env::args().skip(1), &["exit-when-done", "out", "speed", "help"]);
    let own = |name: &str| own.iter().find(|(flag, _)| flag == name).map(|(_, value)| value.clone());
    if own("help").is_some() {
        println!(
            "demo [--exit-when-done] [--out DIR] [--speed FLIGHTS-PER-SECOND] [--data.dir=DIR] [--num.stream.threads=N] …"
        );
        std::process::exit(0);
    }
    let exit_when_done = own("exit-when-done").is_some();
    let watched = !exit_when_done && std::io::stdout().is_terminal();
    let speed = own("speed").and_then(|s| s.parse().ok()).or(watched.then_some(WATCHABLE));
    Ok(Arguments { exit_when_done, out: own("out").map(PathBuf::from), speed, settings })
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
    let Arguments { exit_when_done, out, speed, mut settings } = arguments()?;
    let config: RuntimeConfig = settings.config("flights-demo")?;
    let clock = Arc::new(SystemClock::default());
    let log = millstream::embedded_log(&config.application_id, &mut settings, clock.clone())?;
    let topology = topology()?;
    // The topics are there before anything is replayed into them.
    Plan::new(&topology, &config, log.admin())?.create_topics(log.admin())?;
    let dir = settings.get("data.dir").map(|(dir, _)| dir.to_owned()).unwrap_or_default();
    println!("log       {dir}   ready {}   Ctrl-C stops; run again to continue", seconds(began));

    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let _already_set = ctrlc::set_handler(move || stopped.store(true, Ordering::SeqCst));

    let replayed = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let replayer = {
        let (log, stop, replayed) = (log.clone(), stop.clone(), replayed.clone());
        std::thread::spawn(move || {
            replay(&log, speed, |done, all| {
                replayed[0].store(done, Ordering::Relaxed);
                replayed[1].store(all, Ordering::Relaxed);
                !stop.load(Ordering::Relaxed)
            })
        })
    };
    // A table's rows have the time 0: they are read before the flights, wherever they are.
    let mut streams = Streams::new(topology, config, Arc::new(log.clone()) as Arc<dyn Log>, clock)?;
    streams.start()?;
    println!("pipeline  flights-demo   {} tasks   started {}", streams.context().plan.tasks.len(), seconds(began));

    let mut screen = Screen::new(&log)?;
    let mut drained = false;
    while !stop.load(Ordering::SeqCst) {
        let replay_ended = replayer.is_finished();
        if replay_ended && exit_when_done && !drained {
            streams.drain()?;
            drained = true;
        }
        if drained || matches!(streams.state(), millstream::core::State::Error) {
            break;
        }
        let counts = (replayed[0].load(Ordering::Relaxed), replayed[1].load(Ordering::Relaxed));
        screen.show(counts, streams.counters(), began)?;
        std::thread::sleep(Duration::from_millis(if exit_when_done { 20 } else { 250 }));
    }
    replayer.join().map_err(|_| Error::user("the replay failed"))??;
    let counters = if drained { streams.join()? } else { streams.close()? };
    if let Some(out) = out {
        results::write(&log, &out)?;
    }
    println!(
        "done      {} records processed, {} late, {} commits, {}",
        counters.process,
        counters.late_records,
        counters.commit,
        seconds(began)
    );
    Ok(log.close()?)
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

/// What is shown meanwhile: a table that is drawn over itself on a terminal, a line now and then elsewhere.
struct Screen {
    days: Latest<Day>,
    drawn: usize,
    terminal: bool,
    last: Instant,
}

impl Screen {
    fn new(log: &Broker) -> Result<Self> {
        let terminal = std::io::stdout().is_terminal();
        Ok(Screen { days: Latest::new(log, "carrier-days")?, drawn: 0, terminal, last: Instant::now() })
    }

    fn show(
        &mut self,
        (done, all): (usize, usize),
        counters: millstream::core::Counters,
        began: Instant,
    ) -> Result<()> {
        let rate = counters.process as f64 / began.elapsed().as_secs_f64();
        let line = if all == 0 {
            "waiting: reading a year of flights".to_owned()
        } else {
            format!(
                "replayed {done} of {all} flights   processed {} ({rate:.0}/s)   late {}",
                counters.process, counters.late_records
            )
        };
        if !self.terminal {
            if self.last.elapsed() > Duration::from_secs(1) {
                self.last = Instant::now();
                println!("{line}");
            }
            return Ok(());
        }
        self.days.read()?;
        let newest = self.days.rows.keys().map(|(_, start, _)| *start).max().unwrap_or(0);
        let mut text = format!(
            "{line}\n{:<30} {:>8} {:>12} {:>10}\n",
            format!("day {}", date(newest)),
            "flights",
            "mean delay",
            "max"
        );
        for ((carrier, _, _), day) in self.days.rows.iter().filter(|((_, start, _), _)| *start == newest) {
            let mean = day.delay as f64 / day.flights as f64;
            text.push_str(&format!("{carrier:<30} {:>8} {mean:>8.1} min {:>6} min\n", day.flights, day.max_delay));
        }
        let mut out = std::io::stdout().lock();
        if self.drawn > 0 {
            write!(out, "\x1b[{}A\x1b[J", self.drawn).map_err(Error::user)?;
        }
        self.drawn = text.lines().count();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::user)
    }
}

/// The date of a time, UTC.
fn date(millis: Timestamp) -> String {
    // The inverse of counting days with years that begin in March.
    let z = millis.div_euclid(86_400_000) + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    format!("{:04}-{month:02}-{day:02}", yoe + era * 400 + i64::from(month <= 2))
}
