//! A round: a fresh folder, a process that is fed and killed several times, a last one that drains, and the check.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use millstream_core::{Error, Result};

use crate::checker::{Checked, check};
use crate::dice::Dice;
use crate::dump::dump;
use crate::journal::Journal;
use crate::moment::{MOMENTS, Moment};
use crate::setup::Setup;
use crate::workload::{INPUTS, PARTITIONS};

/// A process that does nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// A life ends at the latest after this: its moment may never come, the hundredth commit say.
const LONGEST_LIFE: Duration = Duration::from_millis(900);
/// Commands that are under way.
const UNDER_WAY: usize = 3;
/// Time between two of them.
const PACE: Duration = Duration::from_millis(2);
/// Commands before the second instance is asked for.
const TAKEOVER_AFTER: u32 = 50;
/// Input records of a round, at least.
const INPUT: i64 = 5_000;
/// Commands of the last life, at least: what it has restored is then asked for.
const LAST_ORDERS: u32 = 60;

/// What is the same in all rounds.
pub(crate) struct Plan {
    /// The program that is killed.
    pub(crate) program: PathBuf,
    /// Where rounds have their folders.
    pub(crate) folder: PathBuf,
    /// Where to keep what went in and came out.
    pub(crate) journal: Option<PathBuf>,
    /// The defect that the processes have.
    pub(crate) plant: Option<String>,
}

/// What happened in a round.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The check, and what was wrong before it.
    pub(crate) checked: Checked,
    /// Kills, by moment.
    pub(crate) kills: [u64; MOMENTS.len()],
    /// Of those, how many hit a write in the middle.
    pub(crate) torn: u64,
    /// Zombies that were fenced.
    pub(crate) fenced: u64,
    /// Processes that were refused a log that another one had.
    pub(crate) refused: u64,
}

/// How a life ended.
enum End {
    /// It was killed.
    Killed,
    /// It has drained.
    Done,
    /// Something is wrong.
    Wrong(String),
}

/// A process.
struct Life {
    child: Child,
    orders: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Life {
    fn order(&mut self, order: &str) {
        // A process that is gone says so by its silence.
        if let Some(orders) = &mut self.orders
            && writeln!(orders, "{order}").and_then(|()| orders.flush()).is_err()
        {
            self.orders = None;
        }
    }

    /// `kill -9`; the lines that it has said before are still to be had.
    fn kill(&mut self) -> Result<()> {
        self.child.kill().map_err(Error::user)?;
        self.child.wait().map_err(Error::user).map(drop)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped_already = self.child.wait();
    }
}

struct Round<'a> {
    plan: &'a Plan,
    seed: u64,
    folder: PathBuf,
    dice: Dice,
    journal: Journal,
    outcome: Outcome,
    /// The next process, if it was started before its time.
    heir: Option<Life>,
}

/// Plays a round.
///
/// # Errors
/// When the harness itself cannot go on: a folder that cannot be made, or is of an earlier round, a program that does not start.
pub(crate) fn play(plan: &Plan, seed: u64) -> Result<Outcome> {
    let folder = folder(plan, seed);
    fs::create_dir(&folder).map_err(|error| {
        let folder = folder.display();
        Error::user(format!("{folder}: {error}\n  help: remove it if it is of an earlier run, or name another --keep"))
    })?;
    let journal = Journal::default();
    let dice = Dice::new(seed, &[4]);
    let mut round = Round { plan, seed, folder, dice, journal, outcome: Outcome::default(), heir: None };
    round.play()?;
    let outcome = round.outcome;
    if outcome.checked.violations == 0 {
        fs::remove_dir_all(&round.folder).map_err(Error::user)?;
    }
    Ok(outcome)
}

impl Round<'_> {
    fn play(&mut self) -> Result<()> {
        let setup = Setup::of(self.seed);
        self.log(&setup.to_string())?;
        let mut wrong = self.lives(&setup)?;
        self.heir = None;
        if wrong.is_none() || self.plan.journal.is_some() {
            // The reader is without a defect: what it sees is there.
            let dumped = dump(&setup, &self.folder);
            if let Some(folder) = &self.plan.journal {
                let folder = folder.join(format!("seed-{}", self.seed));
                self.journal.write(&folder, self.seed, dumped.as_deref().ok()).map_err(Error::user)?;
            }
            match dumped {
                Ok(dumped) if wrong.is_none() => {
                    self.outcome.checked = check(self.seed, &self.journal.acknowledged, &dumped);
                }
                Ok(_) => {}
                Err(error) => wrong = wrong.or(Some(format!("the log cannot be read: {error}"))),
            }
        }
        if let Some(what) = wrong {
            self.log(&what)?;
            self.outcome.checked.violation(what);
        }
        Ok(())
    }

    /// Until all is drained, or something is wrong: what.
    fn lives(&mut self, setup: &Setup) -> Result<Option<String>> {
        for life in 0..setup.kills {
            let moment = Moment::draw(&mut self.dice);
            self.log(&format!("life {life}: to be killed {moment}"))?;
            match self.live(Some(moment))? {
                End::Killed | End::Done => self.outcome.kills[moment.index()] += 1,
                End::Wrong(what) => return Ok(Some(what)),
            }
        }
        self.log("the last life")?;
        match self.live(None)? {
            End::Killed | End::Done => Ok(None),
            End::Wrong(what) => Ok(Some(what)),
        }
    }

    fn log(&self, line: &str) -> Result<()> {
        let mut log = self.log_file()?;
        writeln!(log, "== {line}").map_err(Error::user)
    }

    /// What happened, with what the processes said on standard error.
    fn log_file(&self) -> Result<File> {
        OpenOptions::new().create(true).append(true).open(self.folder.join("round.log")).map_err(Error::user)
    }

    fn start(&mut self, moment: Option<Moment>) -> Result<Life> {
        let (commit, write, percent) = match moment {
            Some(Moment::Commit(number, _)) => (number, 0, 0),
            Some(Moment::Write(number, percent, _)) => (0, number, percent),
            _ => (0, 0, 0),
        };
        // Now and then with state that was left some lives ago.
        let state = u64::from(self.dice.below(4) == 0);
        let mut command = Command::new(&self.plan.program);
        command.arg("worker").arg(&self.folder);
        command.args([self.seed, commit, write, percent, state].map(|number| number.to_string()));
        command.args(&self.plan.plant);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(self.log_file()?);
        let mut child = command.spawn().map_err(Error::user)?;
        let (say, lines) = channel();
        if let Some(out) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(|line| line.ok()) {
                    if say.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Life { orders: child.stdin.take(), child, lines })
    }

    /// Starts a process, feeds it and kills it at its moment; without one it gets what is missing, and drains.
    fn live(&mut self, moment: Option<Moment>) -> Result<End> {
        let mut is_heir = self.heir.is_some();
        let mut life = self.heir.take().map_or_else(|| self.start(moment), Ok)?;
        let started = Instant::now();
        let mut kill_at = match moment {
            Some(Moment::Recovery(after)) => Some(started + after),
            _ => None,
        };
        let mut known = 0;
        let mut under_way = 0;
        let mut orders = 0;
        let mut began = None;
        let mut last_word = Instant::now();
        let all = INPUTS.len() * PARTITIONS as usize;
        loop {
            let now = Instant::now();
            if kill_at.is_some_and(|at| now >= at) {
                life.kill()?;
                break;
            }
            let timeout = kill_at.map_or(PACE, |at| (at - now).min(PACE));
            let line = match life.lines.recv_timeout(timeout) {
                Ok(line) => {
                    last_word = Instant::now();
                    line
                }
                Err(RecvTimeoutError::Timeout) if now - last_word < PATIENCE => String::new(),
                Err(RecvTimeoutError::Timeout) => return Ok(End::Wrong(format!("it said nothing for {PATIENCE:?}"))),
                // The log was not free in time: it was right to give up.
                Err(RecvTimeoutError::Disconnected) if is_heir => {
                    self.outcome.refused += 1;
                    is_heir = false;
                    life = self.start(moment)?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = life.child.wait().map_err(Error::user)?;
                    return Ok(End::Wrong(format!("the process ended by itself with {status}: see round.log")));
                }
            };
            match line.as_str() {
                "open" => {
                    is_heir = false;
                    if let Some(Moment::Restore(after)) = moment {
                        kill_at = Some(last_word + after);
                    }
                }
                "running" => match moment {
                    Some(Moment::Running(after)) => kill_at = Some(last_word + after),
                    Some(_) => kill_at = Some(kill_at.unwrap_or(last_word + LONGEST_LIFE)),
                    None => {}
                },
                "commit" => {
                    if let Some(Moment::Commit(_, after)) = moment {
                        kill_at = Some(last_word + after);
                    }
                }
                "took-over" => {
                    if let Some(Moment::Takeover(after)) = moment {
                        kill_at = Some(last_word + after);
                    }
                }
                "done" => {
                    life.child.wait().map_err(Error::user)?;
                    return Ok(End::Done);
                }
                _ => {}
            }
            if line.starts_with("torn ") {
                self.log(&line)?;
                self.outcome.torn += 1;
                if let Some(Moment::Write(_, _, hangs)) = moment {
                    kill_at = Some(last_word + hangs);
                }
            }
            match self.hear(&line) {
                Heard::Have => known += 1,
                Heard::Acknowledged => under_way -= 1,
                Heard::Wrong(what) => return Ok(End::Wrong(what)),
                Heard::Nothing => {}
            }
            if known < all {
                continue;
            }
            let fed: i64 = self.journal.asked.values().sum();
            let is_fed = match moment {
                Some(_) => began.get_or_insert(last_word).elapsed() < PACE * orders,
                None => fed >= INPUT && orders >= LAST_ORDERS,
            };
            if moment.is_none() && is_fed && under_way == 0 {
                life.order("drain");
            } else if !is_fed && under_way < UNDER_WAY {
                let (topic, partition) = (self.dice.one_of(&INPUTS), self.dice.below(PARTITIONS as u64) as i32);
                let count = 1 + self.dice.below(16) as i64;
                self.journal.ask(topic, partition, count);
                life.order(&format!("feed {topic} {partition} {count}"));
                under_way += 1;
                orders += 1;
            }
            if matches!(moment, Some(Moment::Takeover(_))) && orders == TAKEOVER_AFTER {
                life.order("takeover");
                orders += 1;
            }
            if let Some(Moment::Heir(after)) = moment
                && orders >= TAKEOVER_AFTER
                && self.heir.is_none()
            {
                self.heir = Some(self.start(None)?);
                kill_at = Some(Instant::now() + after);
            }
        }
        // What it said before it died counts.
        while let Ok(line) = life.lines.recv() {
            if let Heard::Wrong(what) = self.hear(&line) {
                return Ok(End::Wrong(what));
            }
        }
        Ok(End::Killed)
    }

    fn hear(&mut self, line: &str) -> Heard {
        let mut words = line.split(' ');
        let word = words.next().unwrap_or_default();
        let mut place = || Some((words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?));
        match word {
            "have" => match place() {
                Some((topic, partition, count)) => {
                    self.journal.has(topic, partition, count).map_or(Heard::Have, Heard::Wrong)
                }
                None => Heard::Nothing,
            },
            "ack" => {
                let Some((topic, partition, count)) = place() else { return Heard::Nothing };
                self.journal.acknowledge(topic, partition, count);
                Heard::Acknowledged
            }
            "fenced" => {
                self.outcome.fenced += 1;
                Heard::Nothing
            }
            "failed" => Heard::Wrong(format!("the application {line}")),
            _ => Heard::Nothing,
        }
    }
}

/// What a line means.
enum Heard {
    Have,
    Acknowledged,
    Nothing,
    Wrong(String),
}

/// The line that plays a round again.
pub(crate) fn again(plan: &Plan, seed: u64) -> String {
    let plant = plan.plant.as_ref().map(|plant| format!(" --plant {plant}")).unwrap_or_default();
    format!("./dev crash --rounds 1 --seed {seed}{plant}")
}

/// The folder of a round.
pub(crate) fn folder(plan: &Plan, seed: u64) -> PathBuf {
    Path::new(&plan.folder).join(format!("seed-{seed}"))
}
