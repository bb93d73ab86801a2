//! A program that runs: once per partition, each with a stream time of its own.

use std::collections::BTreeMap;

use millstream_core::partition_for_key;

use crate::reference::catalogue::{PROGRAMS, Params, WITHOUT_TRACE};
use crate::reference::row::Row;

/// The topic of what is no record: time has come to its time without one.
pub(crate) const CLOCK: &str = "the wall clock";

/// What a stage does with a record of a topic.
pub(crate) type Run = Box<dyn FnMut(&str, &Row) -> Vec<Row>>;

/// Whether it is known which of two records that arrive at once is processed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// It is: a partition's records are taken by time.
    Known,
    /// Records of several partitions meet where they are sent to.
    OpenBetweenPartitions,
    /// They do, but what is left in the end is the same in every order.
    SettlesBetweenPartitions,
    /// Some records are sent elsewhere, and meet others that are not.
    Open,
    /// They are, and answered: what comes out depends on what meets what, but what is left in the end does not.
    Settles,
}

/// What a program is made of.
pub(crate) struct Stages {
    order: Order,
    /// Between two stages records change partitions.
    runs: Vec<Run>,
    /// No operator in it has a stream time of its own, and all records are looked at in one place.
    gathered: bool,
    /// The last of them hears the clock.
    idle: bool,
}

impl Stages {
    /// Sources of this idleness: when one has been silent for so long, its largest time goes on with the wall clock
    /// (semantics.md 1). They come in the order of their names.
    pub(crate) fn idle(self, after: Option<i64>) -> Self {
        let Some(after) = after else { return self };
        let mut runs = self.runs;
        let mut last = runs.pop().expect("a program has a stage");
        // The largest time of each, and for how long it has been silent.
        let mut sources: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        runs.push(Box::new(move |topic, row| {
            if topic != CLOCK {
                let (largest, silent) = sources.entry(topic.to_owned()).or_insert((row.time, 0));
                (*largest, *silent) = (row.time.max(*largest), 0);
                return last(topic, row);
            }
            sources.values_mut().for_each(|(_, silent)| *silent += row.time);
            let times =
                sources.values().filter(|(_, silent)| *silent >= after).map(|(largest, silent)| largest + silent);
            times.flat_map(|time| last(topic, &row.with(None, time))).collect()
        }));
        Stages { runs, idle: true, ..self }
    }
}

/// Records stay in their partition.
pub(crate) fn stays(run: Run) -> Stages {
    Stages { order: Order::Known, runs: vec![run], gathered: false, idle: false }
}

/// Records change partitions; as no operator has a stream time, it is the same whether all keys are in one place or not.
pub(crate) fn gathered(order: Order, run: Run) -> Stages {
    Stages { order, runs: vec![run], gathered: true, idle: false }
}

/// Records go to the partition of their new key.
pub(crate) fn through(before: Run, after: Run) -> Stages {
    Stages { order: Order::OpenBetweenPartitions, runs: vec![before, after], gathered: false, idle: false }
}

/// The same, where the order of records shows only on the way.
pub(crate) fn through_in_any_order(before: Run, after: Run) -> Stages {
    Stages { order: Order::SettlesBetweenPartitions, ..through(before, after) }
}

/// Records of one topic go to the partition of their new key, where those of another already are.
pub(crate) fn around(before: Run, after: Run) -> Stages {
    Stages { order: Order::Open, ..through(before, after) }
}

/// A program that runs.
pub struct Program {
    order: Order,
    idle: bool,
    /// Stages, and their partitions.
    stages: Vec<Vec<Run>>,
}

impl Program {
    /// A program of the catalogue over inputs of so many partitions.
    ///
    /// # Panics
    /// When the interpreter does not know it, or a parameter is missing.
    pub fn new(name: &str, params: &BTreeMap<String, i64>, partitions: i32) -> Self {
        let (_, build) =
            PROGRAMS.iter().chain(WITHOUT_TRACE).find(|(known, _)| *known == name).expect("a program that is known");
        let params = Params { given: params, partitions };
        let Stages { order, runs, gathered, idle } = build(&params);
        let mut stages: Vec<Vec<Run>> = runs.into_iter().map(|run| vec![run]).collect();
        for _ in 1..if gathered { 1 } else { partitions } {
            stages.iter_mut().zip(build(&params).runs).for_each(|(stage, run)| stage.push(run));
        }
        // Of one partition there is only one order, but for what makes a detour.
        let order = match order {
            Order::OpenBetweenPartitions | Order::SettlesBetweenPartitions if partitions == 1 => Order::Known,
            order => order,
        };
        Program { order, idle, stages }
    }

    /// Whether it is known which of two records that arrive at once is processed first: of each partition's topics, the
    /// one whose next record is the oldest.
    pub fn has_order(&self) -> bool {
        self.order == Order::Known
    }

    /// Whether the last row of each key is known however records meet on the way.
    pub fn settles(&self) -> bool {
        matches!(self.order, Order::Settles | Order::SettlesBetweenPartitions)
    }

    /// What comes out while the wall clock goes on for so many milliseconds; also of none, after records: what one source has
    /// brought may be over at once by the time of another one that is silent.
    pub fn wait(&mut self, ms: i64) -> Vec<Row> {
        let silence = Row { key: None, value: None, time: ms, headers: Vec::new() };
        let hears = self.stages.last_mut().filter(|_| self.idle);
        hears.into_iter().flatten().flat_map(|run| run(CLOCK, &silence)).collect()
    }

    /// What comes out for a record, in order.
    pub fn process(&mut self, topic: &str, row: &Row) -> Vec<Row> {
        let mut rows = vec![row.clone()];
        for stage in &mut self.stages {
            let count = stage.len() as i32;
            let place = |row: &Row| row.key.as_ref().map_or(0, |key| partition_for_key(key.as_bytes(), count));
            rows = rows.iter().flat_map(|row| (stage[place(row) as usize])(topic, row)).collect();
        }
        rows
    }
}
