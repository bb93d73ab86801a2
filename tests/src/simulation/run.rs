//! One run of a simulation: events in the order that a seed decides, and what must hold after them.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::Durability;
use millstream_core::{
    Admin, BatchBuilder, Call, Clock, CommitOutcome, Fault, GroupOffsets, Isolation, Log, ManualClock, Next, Offset,
    Producer, ProducerOptions, RowOrder, SimFiles, Timestamp, TopicPartition,
};

use super::dice::Dice;
use super::network::Weather;
use super::plot::Plot;
use super::process::{Process, Surroundings, inputs, is_to_be_expected};
use super::sim_disk::{Content, Mishaps, Row as DiskRow, SimDisk};
use super::topic;
use super::trace::Trace;
use crate::reference::Row;

/// Why there is a process: a life begins with one and ends when it is taken away, and only a life is told to do anything.
const ALIVE: &str = "a life has a process";

/// `delete.retention.ms` of the changelogs: for so long they keep deletions.
const DELETE_RETENTION: Timestamp = 86_400_000;

/// A simulation of a seed.
pub struct Simulation {
    dice: Dice,
    trace: Trace,
    plot: Plot,
    expected: Vec<Row>,
    clock: Arc<ManualClock>,
    files: SimFiles,
    disks: Vec<SimDisk>,
    weather: Weather,
    process: Option<Process>,
    writer: Option<Writer>,
    /// What the log has promised to keep.
    kept: Kept,
    faults: bool,
    report: Report,
}

/// Who writes the input; one batch of it is under way at most.
struct Writer {
    producer: Box<dyn Producer>,
    under_way: Option<BTreeMap<TopicPartition, Offset>>,
}

/// Ends of topics and positions of the application that must not go back.
#[derive(Debug, Clone, Default)]
struct Kept {
    ends: BTreeMap<TopicPartition, Offset>,
    positions: BTreeMap<TopicPartition, Offset>,
}

/// How much happened in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Events.
    pub events: u64,
    /// Times that the process ended, was killed, or the power was cut.
    pub ends: u64,
    /// Errors that threads returned.
    pub errors: u64,
    /// Records that came out.
    pub records: u64,
    /// Times that another instance took over.
    pub takeovers: u64,
}

impl Report {
    /// Takes in what happened in another run.
    pub(super) fn add(&mut self, other: Report) {
        let Report { events, ends, errors, records, takeovers } = other;
        self.events += events;
        self.ends += ends;
        self.errors += errors;
        self.records += records;
        self.takeovers += takeovers;
    }
}

/// A run in which something happened that must not.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What happened.
    pub what: String,
    /// What was given.
    pub plot: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, what, plot } = self;
        write!(f, "seed {seed}: {what}\n  {plot}\n  again, with all that happened: ./dev simulate --seed {seed}")
    }
}

/// How a process comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// In order.
    Closed,
    /// Killed; the machine goes on.
    Killed,
    /// The machine has no power.
    PowerCut,
}

/// What came out, by partition.
type Outputs = BTreeMap<TopicPartition, Option<Vec<(Offset, Row)>>>;

type Outcome = std::result::Result<(), String>;

impl Simulation {
    /// Runs a seed.
    ///
    /// Promised, and checked: what comes out is what the reference interpreter says to the records that are in the log,
    /// once each, in order. Nobody reads beyond the last stable offset. What was acknowledged is there after the end of the
    /// process, with durability `disk` also after a power cut; so are the positions of the application, which never go
    /// back. (With durability `os` a power cut may lose anything: there is none.) Rows on disk are those of the changelog up
    /// to their position. When no more faults come, everything is processed.
    ///
    /// # Errors
    /// What did not hold.
    pub fn run(seed: u64, trace: &Trace) -> std::result::Result<Report, Box<Failure>> {
        let dice = Dice::new(seed);
        let plot = Plot::new(&dice);
        let shown = format!("{:?}", Plot { input: BTreeMap::new(), ..plot.clone() });
        trace.say(format_args!("{shown}"));
        for ((topic, partition), rows) in &plot.input {
            rows.iter().for_each(|row| trace.say(format_args!("to be written to {topic}-{partition}: {row:?}")));
        }
        let run = AssertUnwindSafe(|| {
            let mut simulation = Simulation::new(dice, plot, trace.clone());
            simulation.story().map(|()| simulation.report)
        });
        let told = catch_unwind(run).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("panic: {}", text.unwrap_or_default()))
        });
        told.map_err(|what| Box::new(Failure { seed, what, plot: shown }))
    }

    fn new(dice: Dice, plot: Plot, trace: Trace) -> Self {
        let disks = (0..2).map(|_| SimDisk::new(dice.fork(), plot.mishaps, plot.disk.unwrap_or(0))).collect();
        let expected = plot.entry.expected(&plot.params, plot.partitions, &plot.input);
        for row in &expected {
            trace.say(format_args!("expected {:?}:{:?}@{}", row.key, row.value, row.time));
        }
        Simulation {
            weather: plot.weather,
            dice,
            trace,
            plot,
            expected,
            clock: Arc::new(ManualClock::at(1_000)),
            files: SimFiles::default(),
            disks,
            process: None,
            writer: None,
            kept: Kept::default(),
            faults: false,
            report: Report::default(),
        }
    }

    fn story(&mut self) -> Outcome {
        self.open(0)?;
        for _ in 0..self.plot.events {
            self.report.events += 1;
            self.event()?;
            self.trace.violated().map_or(Ok(()), Err)?;
            if self.process.as_ref().is_some_and(|process| !process.is_alive()) {
                self.trace.say(format_args!("the broker is dead"));
                let end = if self.dice.per_mille(500) { End::Killed } else { End::PowerCut };
                self.end(end)?;
            }
        }
        self.calm_down()?;
        self.check_outputs(true)?;
        self.check_disks()?;
        if self.plot.durability != Durability::Memory {
            self.end(End::Closed)?;
            self.calm_down()?;
            self.check_outputs(true)?;
        }
        Ok(())
    }

    fn event(&mut self) -> Outcome {
        let (ends, replacements) = (self.plot.ends, self.plot.replacements);
        let (zombies, faults) = (self.plot.zombies, self.plot.file_faults);
        if self.dice.per_mille(ends) {
            let end = self.dice.pick(&[End::Closed, End::Killed, End::PowerCut, End::PowerCut]);
            return self.end(end);
        }
        if self.dice.per_mille(replacements) {
            let process = self.process.as_mut().expect(ALIVE);
            let number = self.dice.below(process.active.len() as u64) as usize;
            self.trace.say(format_args!("thread {number} is replaced"));
            process.active.drop_thread(number);
            return Ok(());
        }
        if self.dice.per_mille(zombies) && self.process.as_ref().is_some_and(|process| process.zombie.is_none()) {
            return self.take_over();
        }
        if self.dice.per_mille(faults) {
            let call = self.dice.pick(&[Call::Write, Call::Write, Call::Sync, Call::Read]);
            let kind =
                if call == Call::Write && self.dice.per_mille(700) { ErrorKind::StorageFull } else { ErrorKind::Other };
            let fault = Fault { call, skip: self.dice.below(20), times: 1 + self.dice.below(8), kind };
            self.trace.say(format_args!("to come: {fault:?}"));
            self.files.fail(fault);
            self.faults = true;
            return Ok(());
        }
        if self.faults && self.dice.per_mille(50) {
            self.heal_files();
        }
        match self.dice.below(100) {
            0..=54 => self.step(),
            55..=67 => {
                // Now and then past what transactions may take, past a purge, and past the day that deletions are kept for.
                let is_long = self.dice.per_mille(40);
                let by = self.dice.pick(if is_long { &[11_000, 31_000, 90_000_000] } else { &[1, 30, 150] });
                self.trace.say(format_args!("the clock moves by {by}"));
                self.clock.advance(Duration::from_millis(by));
                Ok(())
            }
            68..=82 => self.write(),
            83..=92 => self.tick(),
            93..=95 => {
                self.process.as_ref().expect(ALIVE).network.deliver();
                Ok(())
            }
            96..=97 => self.check_outputs(false),
            _ => self.check_disks(),
        }
    }

    fn open(&mut self, machine: usize) -> Outcome {
        let mut tries = 0;
        loop {
            let around = Surroundings {
                plot: &self.plot,
                dice: &self.dice,
                trace: &self.trace,
                clock: &self.clock,
                disks: &self.disks,
                weather: self.weather,
            };
            let opened = Process::open(&self.files, machine, &around);
            self.trace.say(format_args!("open: {:?}", opened.as_ref().err()));
            match opened {
                Ok(process) => {
                    self.writer = None;
                    self.process = Some(process);
                    return self.check_kept();
                }
                Err(error) if self.faults && is_to_be_expected(&error) && tries < 3 => {
                    tries += 1;
                    self.heal_files();
                    self.files = self.files.kill();
                }
                Err(error) => return Err(format!("the process cannot be started: {error}")),
            }
        }
    }

    fn heal_files(&mut self) {
        self.trace.say(format_args!("files are well again"));
        self.files.heal();
        self.faults = false;
    }

    /// The process ends, and another begins.
    fn end(&mut self, end: End) -> Outcome {
        // Durability `os` says nothing of power cuts.
        let end = if end == End::PowerCut && self.plot.durability != Durability::Disk { End::Killed } else { end };
        self.report.ends += 1;
        self.trace.say(format_args!("{end:?}"));
        self.end_zombie();
        let Some(mut process) = self.process.take() else { return Ok(()) };
        self.writer = None;
        let machine = if self.dice.per_mille(200) { 1 - process.active.machine } else { process.active.machine };
        let closed = (end == End::Closed).then(|| process.active.close(&self.clock));
        let before = self.outputs(&process)?;
        if let Some(closed) = closed {
            // What a fault keeps from being written is found again.
            let closed = closed.and_then(|()| Ok(process.broker.close()?));
            self.trace.say(format_args!("closed: {:?}", closed.as_ref().err()));
            match closed {
                Ok(()) => self.keep(self.there(&process)?)?,
                Err(error) if is_to_be_expected(&error) => {}
                Err(error) => return Err(format!("it cannot be closed: {error}")),
            }
        } else if self.plot.durability == Durability::Os {
            self.keep(self.there(&process)?)?;
        }
        process.files.end();
        if end != End::Closed {
            self.disks = std::mem::take(&mut self.disks).into_iter().map(SimDisk::crash).collect();
        }
        self.files = match end {
            End::PowerCut => self.files.power_cut(self.dice.next()),
            End::Closed | End::Killed => self.files.kill(),
        };
        self.faults = false;
        drop(process);
        if self.dice.per_mille(self.plot.file_faults) {
            let call = self.dice.pick(&[Call::Write, Call::Sync, Call::Read]);
            let kind = self.dice.pick(&[ErrorKind::StorageFull, ErrorKind::Other]);
            self.files.fail(Fault { call, skip: self.dice.below(30), times: 1, kind });
            self.faults = true;
        }
        self.open(machine)?;
        let process = self.process.as_ref().expect(ALIVE);
        let after = self.outputs(process)?;
        for (partition, before) in before {
            // What could not be read cannot be compared.
            let (Some(before), Some(after)) = (before, &after[&partition]) else { continue };
            let end = self.kept.ends.get(&partition).copied().unwrap_or(0);
            let kept = |rows: &[(Offset, Row)]| rows.iter().filter(|(at, _)| *at < end).cloned().collect::<Vec<_>>();
            if kept(&before) != kept(after) {
                return Err(format!("{partition} holds other records below {end} than before the end of the process"));
            }
        }
        self.check_outputs(false)?;
        self.check_disks()
    }

    fn take_over(&mut self) -> Outcome {
        let around = Surroundings {
            plot: &self.plot,
            dice: &self.dice,
            trace: &self.trace,
            clock: &self.clock,
            disks: &self.disks,
            weather: self.weather,
        };
        let process = self.process.as_mut().expect(ALIVE);
        let machine = 1 - process.active.machine;
        let taken = process.take_over(machine, &around);
        self.trace.say(format_args!("machine {machine} takes over: {:?}", taken.as_ref().err()));
        self.report.takeovers += 1;
        match taken {
            Err(error) if !(self.faults && is_to_be_expected(&error)) => Err(format!("nobody takes over: {error}")),
            _ => Ok(()),
        }
    }

    /// A thread, of whichever instance, does a step.
    fn step(&mut self) -> Outcome {
        let process = self.process.as_mut().expect(ALIVE);
        if let Some(zombie) = process.zombie.as_mut().filter(|_| self.dice.per_mille(400)) {
            let number = self.dice.below(zombie.len() as u64) as usize;
            if !zombie.has_thread(number) {
                return Ok(());
            }
            let stepped = zombie.step(number, &self.clock);
            self.trace.say(format_args!("zombie {number}: {stepped:?}"));
            // Sooner or later it is noticed and ended.
            if self.dice.per_mille(80) {
                self.end_zombie();
            }
            return Ok(());
        }
        let number = self.dice.below(process.active.len() as u64) as usize;
        self.step_active(number).map(drop)
    }

    /// The instance that has been replaced ends. Its rows are forgotten: it asked where its changelog ends when another
    /// instance had written there already.
    fn end_zombie(&mut self) {
        if let Some(zombie) = self.process.as_mut().and_then(|process| process.zombie.take()) {
            self.disks[zombie.machine].forget();
        }
    }

    fn step_active(&mut self, number: usize) -> std::result::Result<bool, String> {
        let process = self.process.as_mut().expect(ALIVE);
        let stepped = process.active.step(number, &self.clock);
        self.trace.say(format_args!("thread {number}: {stepped:?}"));
        match stepped {
            Ok(next) => Ok(next == Next::Again),
            Err(error) if is_to_be_expected(&error) => {
                self.report.errors += 1;
                // Its driver may let it go on, unless its state is lost.
                if error.is_task_corrupted() || self.dice.per_mille(600) {
                    self.trace.say(format_args!("thread {number} is replaced"));
                    process.active.drop_thread(number);
                }
                Ok(true)
            }
            Err(error) => Err(format!("thread {number} fails: {error}")),
        }
    }

    /// Writes some of the input, and asks for it to be kept.
    fn write(&mut self) -> Outcome {
        let process = self.process.as_ref().expect(ALIVE);
        let broker = process.broker.clone();
        if self.writer.is_none() {
            let Ok(producer) = broker.producer(&ProducerOptions::plain("input"), Arc::default()) else { return Ok(()) };
            self.writer = Some(Writer { producer, under_way: None });
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if let Some(ends) = writer.under_way.take() {
            match writer.producer.poll_commit() {
                Some(CommitOutcome::Done) => {
                    self.trace.say(format_args!("acknowledged: {:?}", ends.values().collect::<Vec<_>>()));
                    for (partition, end) in ends {
                        let kept = self.kept.ends.entry(partition).or_default();
                        *kept = end.max(*kept);
                    }
                }
                Some(_) => self.writer = None,
                None => writer.under_way = Some(ends),
            }
            return Ok(());
        }
        let mut ends = BTreeMap::new();
        for ((topic, number), rows) in &self.plot.input {
            let partition = TopicPartition::new(*topic, *number);
            let end = broker.end_offset(&partition, Isolation::ReadUncommitted).map_err(|e| e.to_string())?;
            let next = &rows[(end as usize).min(rows.len())..];
            let count = (self.dice.below(5) as usize).min(next.len());
            let mut batch = BatchBuilder::new();
            for row in &next[..count] {
                let (key, value) = (row.key.as_ref().map(String::as_bytes), row.value.as_ref().map(String::as_bytes));
                batch.push(row.time, key, value, &[]);
            }
            let sent = if count > 0 { writer.producer.send(&partition, batch) } else { Ok(()) };
            self.trace.say(format_args!("input {partition}: {count} records from {end} on, {:?}", sent.err()));
            let end = broker.end_offset(&partition, Isolation::ReadUncommitted).map_err(|e| e.to_string())?;
            ends.insert(partition, end);
        }
        writer.producer.commit(GroupOffsets { group: "input".into(), offsets: Vec::new() });
        writer.under_way = Some(ends);
        Ok(())
    }

    fn tick(&mut self) -> Outcome {
        let process = self.process.take().expect(ALIVE);
        // It syncs what is there before it, and then may write more: the rest of a commit, say, that a full disk has held up.
        let there = (self.plot.durability == Durability::Disk).then(|| self.there(&process)).transpose()?;
        let ticked = process.broker.tick();
        self.trace.say(format_args!("tick: {ticked:?}"));
        if let Some(there) = there.filter(|_| ticked.is_ok()) {
            self.keep(there)?;
        }
        self.process = Some(process);
        match ticked {
            Err(error) if !is_to_be_expected(&error.clone().into()) => Err(format!("a tick fails: {error}")),
            _ => Ok(()),
        }
    }

    /// Where the log ends, and the group's positions.
    fn there(&self, process: &Process) -> Result<Kept, String> {
        let end = |partition: TopicPartition| {
            let end = process.broker.end_offset(&partition, Isolation::ReadCommitted).map_err(|e| e.to_string())?;
            Ok::<_, String>((partition, end))
        };
        let ends = self.user_partitions().into_iter().map(end).collect::<Result<_, _>>()?;
        Ok(Kept { ends, positions: positions(process)?.into_iter().collect() })
    }

    /// All of that is kept.
    fn keep(&mut self, there: Kept) -> Outcome {
        for (partition, end) in there.ends {
            let kept = self.kept.ends.entry(partition).or_default();
            *kept = end.max(*kept);
        }
        for (partition, position) in there.positions {
            if self.kept.positions.insert(partition.clone(), position).is_some_and(|before| before > position) {
                return Err(format!("the position in {partition} goes back to {position}"));
            }
        }
        Ok(())
    }

    fn user_partitions(&self) -> Vec<TopicPartition> {
        let topics = self.plot.entry.topics.iter().chain(&["out"]);
        topics.flat_map(|topic| (0..self.plot.partitions).map(|number| TopicPartition::new(*topic, number))).collect()
    }

    /// What was promised is there.
    fn check_kept(&self) -> Outcome {
        let process = self.process.as_ref().expect(ALIVE);
        for (partition, kept) in &self.kept.ends {
            let end = process.broker.end_offset(partition, Isolation::ReadCommitted).map_err(|e| e.to_string())?;
            if end < *kept {
                return Err(format!("{partition} ends at {end}, and {kept} was acknowledged"));
            }
        }
        let found: BTreeMap<TopicPartition, Offset> = positions(process)?.into_iter().collect();
        for (partition, kept) in &self.kept.positions {
            let position = found.get(partition).copied().unwrap_or(0);
            if position < *kept {
                return Err(format!("the position in {partition} is {position}, and {kept} was kept"));
            }
        }
        Ok(())
    }

    /// What is in the output topic; `None` for what cannot be read now.
    fn outputs(&self, process: &Process) -> std::result::Result<Outputs, String> {
        let partitions = (0..self.plot.partitions).map(|number| TopicPartition::new("out", number));
        let read = |partition: TopicPartition| {
            let rows = topic::rows(&process.broker, &partition);
            let rows = if self.faults && rows.is_err() { None } else { Some(rows.map_err(|e| e.to_string())?) };
            Ok((partition, rows))
        };
        partitions.map(read).collect()
    }

    /// What came out is what should; `all`: and nothing is missing.
    fn check_outputs(&mut self, all: bool) -> Outcome {
        if self.faults {
            return Ok(());
        }
        let process = self.process.as_ref().expect(ALIVE);
        for ((name, number), planned) in &self.plot.input {
            let partition = TopicPartition::new(*name, *number);
            let rows = topic::rows(&process.broker, &partition).map_err(|e| e.to_string())?;
            let found: Vec<Row> = rows.iter().map(|(_, row)| row.clone()).collect();
            if !planned.starts_with(&found) || rows.iter().enumerate().any(|(at, (offset, _))| at as i64 != *offset) {
                return Err(format!("{partition} does not hold what was written"));
            }
        }
        let found: Vec<Row> = self.outputs(process)?.into_values().flatten().flatten().map(|(_, row)| row).collect();
        for row in &found {
            self.trace.say(format_args!("out {:?}:{:?}@{}", row.key, row.value, row.time));
        }
        if all {
            self.report.records += found.len() as u64;
        }
        self.plot.entry.difference(&self.expected, &found, all).map_or(Ok(()), Err)
    }

    /// The rows of every disk are those of the changelog up to their position.
    fn check_disks(&self) -> Outcome {
        let process = self.process.as_ref().expect(ALIVE);
        if self.faults {
            return Ok(());
        }
        let zombie = process.zombie.as_ref().map(|zombie| zombie.machine);
        for (machine, disk) in self.disks.iter().enumerate().filter(|(machine, _)| Some(*machine) != zombie) {
            for (task, family, order, found) in disk.contents() {
                let Some(position) = found.position else {
                    if found.rows.is_empty() {
                        continue;
                    }
                    return Err(format!("machine {machine}, {task}, {family}: rows without a position"));
                };
                let number = task.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0);
                let changelog = TopicPartition::new(format!("app-{family}-changelog"), number);
                let Ok(end) = process.broker.end_offset(&changelog, Isolation::ReadCommitted) else { continue };
                // What the log has lost with a power cut is found out when the store is opened.
                if position.offset > end {
                    continue;
                }
                // The changelog may have forgotten deletions since: a start does not use rows that are so old.
                let age = self.clock.now().wall.saturating_sub(position.written);
                if position.offset < end && age >= DELETE_RETENTION {
                    continue;
                }
                let (mut wanted, mut later) = (Content::default(), Content::default());
                for mut batch in topic::batches(&process.broker, &changelog).map_err(|e| e.to_string())? {
                    let (mut below, mut behind) = (BatchBuilder::new(), BatchBuilder::new());
                    while let Some(Ok(record)) = batch.next() {
                        let (key, value) = (record.key.map(|k| k.to_bytes()), record.value.map(|v| v.to_bytes()));
                        let is_below = record.offset < position.offset;
                        let value = if is_below { value.as_deref() } else { Some(&[][..]) };
                        let batch = if is_below { &mut below } else { &mut behind };
                        batch.push(record.timestamp, key.as_deref(), value, record.headers);
                    }
                    wanted.apply(order, &[below.into_records(0)]);
                    later.apply(order, &[behind.into_records(0)]);
                }
                // Of what was written again later, compaction may have taken what stood before.
                let is_known = |(key, _): &(&Vec<u8>, &DiskRow)| !later.rows.contains_key(*key);
                let known = |content: &Content| -> Vec<(Vec<u8>, DiskRow)> {
                    let kept = content.kept(&found.expired).into_iter().filter(is_known);
                    kept.map(|(key, row)| (key.clone(), row.clone())).collect()
                };
                let (wanted, rows) = (known(&wanted), known(&found));
                // Versions that are too old for anybody leave the disk one by one.
                let is_right = match order {
                    RowOrder::Versions => rows.iter().all(|row| wanted.contains(row)),
                    RowOrder::Key | RowOrder::Time { .. } => wanted == rows,
                };
                if !is_right {
                    let position = position.offset;
                    let place = format!("machine {machine}, {task}, {family}");
                    return Err(format!(
                        "{place}: other rows than those of {changelog} up to {position}\n  wanted {wanted:?}\n  found  {rows:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// No more faults come, the rest of the input does, and everything is processed.
    fn calm_down(&mut self) -> Outcome {
        self.trace.say(format_args!("it gets quiet"));
        self.heal_files();
        self.weather = Weather::default();
        self.disks.iter().for_each(SimDisk::heal);
        self.plot.mishaps = Mishaps::default();
        let process = self.process.as_mut().expect(ALIVE);
        process.network.heal();
        process.network.deliver();
        self.end_zombie();
        let mut quiet = 0;
        for _ in 0..4_000 {
            self.write()?;
            self.tick()?;
            let mut busy = false;
            for number in 0..self.process.as_ref().map_or(0, |process| process.active.len()) {
                busy |= self.step_active(number)?;
                busy |= !self.process.as_ref().is_some_and(|process| process.active.is_idle(number));
            }
            self.trace.violated().map_or(Ok(()), Err)?;
            self.clock.advance(Duration::from_millis(120));
            quiet = if busy || !self.is_written()? { 0 } else { quiet + 1 };
            if quiet > 5 {
                return Ok(());
            }
        }
        Err("it does not come to an end without faults".into())
    }

    /// Whether all input is in the log.
    fn is_written(&self) -> std::result::Result<bool, String> {
        let broker = &self.process.as_ref().expect(ALIVE).broker;
        for ((name, number), rows) in &self.plot.input {
            let partition = TopicPartition::new(*name, *number);
            let end = broker.end_offset(&partition, Isolation::ReadUncommitted).map_err(|e| e.to_string())?;
            if end < rows.len() as Offset {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Where the application stands.
fn positions(process: &Process) -> std::result::Result<Vec<(TopicPartition, Offset)>, String> {
    let partitions = inputs(&process.plan);
    let found = process.broker.committed("app", &partitions).map_err(|e| e.to_string())?;
    Ok(partitions.into_iter().zip(found).filter_map(|(p, found)| Some((p, found?.offset))).collect())
}
