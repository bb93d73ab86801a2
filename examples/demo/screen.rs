//! Where the demo shows what it is doing: a view that is drawn over itself for somebody who watches, a line now and
//! then for everybody else. It looks at counters, committed offsets and the tail of the results a few times a second,
//! so that the pipeline does not wait for it.
#![expect(clippy::print_stdout, reason = "lines for those who do not watch")]

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use millstream::broker::Broker;
use millstream::core::{Admin, State, Streams, TopicPartition};
use millstream::prelude::*;

use crate::answers::Answers;
use crate::pipeline::PARTITIONS;
use crate::results::Reader;
use crate::view::{Pace, Progress, Waiting, last_day};

/// How often a view is drawn.
const REDRAW: Duration = Duration::from_millis(250);

/// Results of a partition that a view takes at most each time: at least a day of the busiest partition. A year at full
/// speed takes 4.26 s of user time with the view and the tables at the end, 4.27 s with lines and those tables, and
/// 3.82 s with lines alone (two busy cores, means of three runs).
const TAIL: i64 = 2048;

/// The screen, or what stands for it.
pub struct Screen {
    began: Instant,
    /// None where nobody watches.
    bar: Option<ProgressBar>,
    /// When to look again.
    due: Duration,
    /// What was printed last.
    line: String,
    flights: Pace,
    records: Pace,
    answers: Answers,
}

impl Screen {
    /// A view, or lines.
    pub fn new(began: Instant, watched: bool) -> Self {
        // The limit is `REDRAW`; a frame is two draws of the bar, and none of them may be left out.
        let target = || ProgressDrawTarget::stdout_with_hz(20);
        let bar = || ProgressBar::with_draw_target(Some(1), target()).with_finish(ProgressFinish::AndClear);
        // A terminal that cannot draw hides a bar and all that is said above it.
        let bar = watched.then(bar).filter(|bar| !bar.is_hidden());
        Screen {
            began,
            due: if bar.is_some() { Duration::ZERO } else { Duration::from_secs(1) },
            bar,
            line: String::new(),
            flights: Pace::default(),
            records: Pace::default(),
            answers: Answers::default(),
        }
    }

    /// Prints a line that stays.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => println!("{line}"),
        }
    }

    /// Tells those who watch that something is done that may take a while.
    ///
    /// # Errors
    /// Never in practice: the template is right.
    pub fn wait(&self, doing: String) -> Result<()> {
        if let Some(bar) = &self.bar {
            bar.set_style(ProgressStyle::with_template("{spinner} {msg}, {elapsed}").map_err(Error::user)?);
            bar.set_message(doing);
            bar.enable_steady_tick(REDRAW);
        }
        Ok(())
    }

    /// From now on [`Screen::show`] says how far the pipeline is.
    ///
    /// # Errors
    /// Never in practice: the template is right.
    pub fn follow(&self) -> Result<()> {
        if let Some(bar) = &self.bar {
            bar.disable_steady_tick();
            bar.set_message("");
            let style = ProgressStyle::with_template("[{wide_bar}] {percent:>3} %\n{msg}").map_err(Error::user)?;
            bar.set_style(style.progress_chars("=> "));
        }
        Ok(())
    }

    /// Shows how far the pipeline is with so many flights, if it is time to.
    ///
    /// # Errors
    /// When the log or the results cannot be read.
    pub fn show(&mut self, log: &Broker, streams: &Streams, reader: &mut Reader, all: u64, ends: bool) -> Result<()> {
        let now = self.began.elapsed();
        if now < self.due {
            return Ok(());
        }
        // Lines come ever more slowly: a few for a run of seconds, not thousands for one of days.
        let pause = (now / 4).clamp(Duration::from_secs(1), Duration::from_secs(10));
        self.due = now + if self.bar.is_some() { REDRAW } else { pause };
        reader.skip_to_tail(log, TAIL)?;
        reader.read(&mut self.answers)?;
        let progress = self.progress(now, log, streams, all, ends)?;
        let line = progress.line();
        match &self.bar {
            Some(bar) => {
                bar.update(|state| {
                    // A bar of length 0 would count as full.
                    state.set_len(progress.all.max(1));
                    state.set_pos(progress.flights.min(progress.all));
                });
                bar.set_message(format!("{line}\n{}\n\n{}", progress.records(), last_day(&self.answers)));
            }
            None if line != self.line => {
                println!("{line}");
                self.line = line;
            }
            None => {}
        }
        Ok(())
    }

    fn progress(&mut self, now: Duration, log: &Broker, streams: &Streams, all: u64, ends: bool) -> Result<Progress> {
        let ids: Vec<_> = (0..PARTITIONS).map(|p| TopicPartition::new("flights", p)).collect();
        let committed = log.committed(&streams.context().config.application_id, &ids)?;
        let flights = committed.iter().flatten().map(|c| c.offset as u64).sum();
        let counters = streams.counters();
        let waiting = match streams.state() {
            State::Created | State::Rebalancing => Some(Waiting::Restore { rows: counters.restore }),
            _ if all == 0 => Some(Waiting::Data),
            _ if flights < all => None,
            _ if ends => Some(Waiting::End),
            _ => Some(Waiting::CtrlC),
        };
        // The time before there is anything to do is no part of a rate.
        let runs = !matches!(waiting, Some(Waiting::Restore { .. } | Waiting::Data));
        Ok(Progress {
            waiting,
            flights,
            all,
            flight_rate: if runs { self.flights.at(now, flights) } else { 0.0 },
            reached: self.answers.reached,
            records: counters.process,
            record_rate: if runs { self.records.at(now, counters.process) } else { 0.0 },
            late: counters.late_records,
            commits: counters.commit,
        })
    }

    /// Leaves the terminal to what is printed next.
    pub fn close(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
