//! The programs of `tests/golden/CATALOGUE.md` that the interpreter knows.

use std::collections::BTreeMap;

use millstream_core::partition_for_key;

use crate::reference::fold::{AGGREGATE, APPEND, COUNT, Fold, REDUCE};
use crate::reference::foreign_key::ForeignKey;
use crate::reference::key_value::KeyValue;
use crate::reference::row::{Row, Windowed, first, shown};
use crate::reference::session_windows::SessionWindows;
use crate::reference::sliding_windows::SlidingWindows;
use crate::reference::stream_stream::{Kind, Side, StreamStream};
use crate::reference::stream_table::StreamTable;
use crate::reference::suppress::Suppress;
use crate::reference::table::Table;
use crate::reference::table_group::{AGGREGATE_ROWS, COUNT_ROWS, Groups, REDUCE_ROWS, TableGroup};
use crate::reference::table_table::TableTable;
use crate::reference::time_windows::TimeWindows;

/// What a program does with a record of a topic.
type Run = Box<dyn FnMut(&str, &Row) -> Vec<Row>>;

/// How a program is made from its parameters.
type Build = fn(&Params<'_>) -> Run;

/// All that the interpreter knows.
pub fn known() -> Vec<&'static str> {
    PROGRAMS.iter().map(|(name, _)| *name).collect()
}

/// Whether records of the program change partitions on their way.
pub fn changes_partitions(name: &str) -> bool {
    ["word-count", "rekey", "table-group", "foreign-key"].iter().any(|part| name.contains(part))
}

/// A program that runs: once per partition, each with a stream time of its own.
pub struct Program {
    partitions: Vec<Run>,
}

impl Program {
    /// A program of the catalogue over inputs of so many partitions.
    ///
    /// # Panics
    /// When the interpreter does not know it, or a parameter is missing.
    pub fn new(name: &str, params: &BTreeMap<String, i64>, partitions: i32) -> Self {
        let (_, build) = PROGRAMS.iter().find(|(known, _)| *known == name).expect("a program that is known");
        // Where records change partitions they meet operators that have no stream time: these are the same whether all
        // keys are in one place or not.
        let instances = if changes_partitions(name) { 1 } else { partitions };
        Program { partitions: (0..instances).map(|_| build(&Params(params))).collect() }
    }

    /// What comes out for a record, in order.
    pub fn process(&mut self, topic: &str, row: &Row) -> Vec<Row> {
        let count = self.partitions.len() as i32;
        let partition = row.key.as_ref().map_or(0, |key| partition_for_key(key.as_bytes(), count));
        (self.partitions[partition as usize])(topic, row)
    }
}

struct Params<'a>(&'a BTreeMap<String, i64>);

impl Params<'_> {
    fn ms(&self, name: &str) -> i64 {
        *self.0.get(name).unwrap_or_else(|| panic!("a parameter `{name}`"))
    }
}

/// One line for each.
const PROGRAMS: &[(&str, Build)] = &[
    ("tumbling-count", |p| time_windows(tumbling(p, COUNT))),
    ("tumbling-reduce", |p| without_nulls(time_windows(tumbling(p, REDUCE)))),
    ("tumbling-count-final", |p| time_windows(tumbling(p, COUNT).on_close())),
    ("hopping-aggregate", |p| time_windows(TimeWindows::new(p.ms("size"), p.ms("advance"), p.ms("grace"), APPEND))),
    ("sliding-count", |p| sliding_windows(sliding(p, COUNT))),
    ("sliding-aggregate", |p| sliding_windows(sliding(p, APPEND))),
    ("sliding-count-final", |p| sliding_windows(sliding(p, COUNT).on_close())),
    ("session-count", |p| session_windows(sessions(p, COUNT))),
    ("session-aggregate", |p| session_windows(sessions(p, APPEND))),
    ("session-count-final", |p| session_windows(sessions(p, COUNT).on_close())),
    ("count", |_| key_value(KeyValue::new(COUNT))),
    ("reduce", |_| key_value(KeyValue::new(REDUCE))),
    ("aggregate", |_| key_value(KeyValue::new(AGGREGATE))),
    ("word-count", |_| words(key_value(KeyValue::new(COUNT)))),
    ("stream-table-inner-join", |_| stream_table(false)),
    ("stream-table-left-join", |_| stream_table(true)),
    ("stream-stream-inner-join", |p| two_streams(streams(p, Kind::Inner))),
    ("stream-stream-left-join", |p| two_streams(streams(p, Kind::Left))),
    ("stream-stream-outer-join", |p| two_streams(streams(p, Kind::Outer))),
    ("stream-self-join", |p| with_itself(streams(p, Kind::Inner))),
    ("table-table-inner-join", |_| two_tables(Kind::Inner)),
    ("table-table-left-join", |_| two_tables(Kind::Left)),
    ("table-table-outer-join", |_| two_tables(Kind::Outer)),
    ("table-group-count", |_| table_group(COUNT_ROWS)),
    ("table-group-reduce", |_| table_group(REDUCE_ROWS)),
    ("table-group-aggregate", |_| table_group(AGGREGATE_ROWS)),
    ("foreign-key-inner-join", |_| foreign_key(false)),
    ("foreign-key-left-join", |_| foreign_key(true)),
    ("suppress-until-time-limit", suppressed),
    ("suppress-until-window-closes", |p| {
        let mut windows = tumbling(p, COUNT);
        until_closed(p.ms("grace"), move |row| windows.process(row))
    }),
    ("suppress-session-closes", |p| {
        let mut windows = sessions(p, COUNT);
        until_closed(p.ms("gap") + p.ms("grace"), move |row| windows.process(row))
    }),
    ("windowed-tables-join", windowed_tables),
    ("count-then-table-join", |_| count_then_table()),
    ("headers-count", |_| stamped(key_value(KeyValue::new(COUNT)))),
    ("headers-rekey-count", |_| stamped(by_first(key_value(KeyValue::new(COUNT))))),
    ("headers-tumbling-final", |p| stamped(time_windows(tumbling(p, COUNT).on_close()))),
    ("headers-suppress", |p| stamped(suppressed(p))),
    ("headers-table-group-count", |_| stamped(table_group(COUNT_ROWS))),
    ("headers-table-table-join", |_| stamped(two_tables(Kind::Outer))),
    ("headers-stream-table-join", |_| stamped(stream_table(true))),
    ("headers-stream-stream-join", |p| stamped(two_streams(streams(p, Kind::Outer)))),
    ("headers-foreign-key-join", |_| stamped(foreign_key(true))),
];

fn tumbling(p: &Params<'_>, fold: Fold) -> TimeWindows {
    TimeWindows::new(p.ms("size"), p.ms("size"), p.ms("grace"), fold)
}

fn sliding(p: &Params<'_>, fold: Fold) -> SlidingWindows {
    SlidingWindows::new(p.ms("difference"), p.ms("grace"), fold)
}

fn sessions(p: &Params<'_>, fold: Fold) -> SessionWindows {
    let sessions = SessionWindows::new(p.ms("gap"), p.ms("grace"), fold);
    if p.0.contains_key("default_retention") { sessions.forgetful() } else { sessions }
}

fn streams(p: &Params<'_>, kind: Kind) -> StreamStream {
    StreamStream::new(kind, p.ms("before"), p.ms("after"), p.ms("grace"))
}

/// A table's rows are a stream's records again.
fn stream(rows: impl IntoIterator<Item = Row<String>>) -> Vec<Row> {
    rows.into_iter().map(|row| row.with_key(Some(row.key.clone()))).collect()
}

fn text(rows: Vec<Row<Windowed>>) -> Vec<Row> {
    stream(rows.into_iter().map(Row::shown))
}

fn side(topic: &str) -> Side {
    if topic == "left" { Side::Left } else { Side::Right }
}

fn time_windows(mut windows: TimeWindows) -> Run {
    Box::new(move |_, row| text(windows.process(row)))
}

fn sliding_windows(mut windows: SlidingWindows) -> Run {
    Box::new(move |_, row| text(windows.process(row)))
}

fn session_windows(mut windows: SessionWindows) -> Run {
    Box::new(move |_, row| text(windows.process(row)))
}

fn key_value(mut counts: KeyValue) -> Run {
    Box::new(move |_, row| stream(counts.process(row)))
}

fn without_nulls(mut run: Run) -> Run {
    Box::new(move |topic, row| if row.value.is_some() { run(topic, row) } else { Vec::new() })
}

fn words(mut run: Run) -> Run {
    Box::new(move |topic, row| {
        let words = row.value.iter().flat_map(|value| value.split(' '));
        let rows = words.map(|word| Row { key: Some(word.to_owned()), value: Some(word.to_owned()), ..row.clone() });
        rows.flat_map(|row| run(topic, &row)).collect()
    })
}

fn by_first(run: Run) -> Run {
    let mut run = without_nulls(run);
    Box::new(move |topic, row| run(topic, &row.with_key(row.value.as_deref().map(first))))
}

fn stream_table(left: bool) -> Run {
    let mut join = StreamTable::new(left);
    Box::new(move |topic, row| {
        if topic == "stream" {
            return join.stream(row);
        }
        join.table(row);
        Vec::new()
    })
}

fn two_streams(mut join: StreamStream) -> Run {
    Box::new(move |topic, row| join.process(side(topic), row))
}

fn with_itself(mut join: StreamStream) -> Run {
    Box::new(move |_, row| {
        let mut out = join.process(Side::Left, row);
        out.extend(join.process(Side::Right, row));
        out
    })
}

fn two_tables(kind: Kind) -> Run {
    let mut join = TableTable::new(kind);
    Box::new(move |topic, row| stream(join.process(side(topic), row)))
}

fn table_group(groups: Groups) -> Run {
    let mut groups = TableGroup::new(groups);
    Box::new(move |_, row| stream(groups.process(row)))
}

fn foreign_key(left_join: bool) -> Run {
    let mut join = ForeignKey::new(left_join);
    Box::new(move |topic, row| {
        stream(match side(topic) {
            Side::Left => join.left(row),
            Side::Right => join.right(row),
        })
    })
}

fn suppressed(p: &Params<'_>) -> Run {
    let mut table = Table::default();
    let most = usize::try_from(p.ms("max_records")).expect("not less than nothing");
    let mut suppress = Suppress::until_time_limit(p.ms("limit"), most);
    Box::new(move |_, row| {
        let change = table.process(row).into_iter();
        stream(change.flat_map(|change| suppress.process(change.row.time, change.row)))
    })
}

fn until_closed(wait: i64, mut windows: impl FnMut(&Row) -> Vec<Row<Windowed>> + 'static) -> Run {
    let mut suppress = Suppress::until_window_closes(wait);
    Box::new(move |_, row| text(windows(row).into_iter().flat_map(|row| suppress.process(row.key.end, row)).collect()))
}

/// Two windowed counts, joined as tables: a window's text is a key as good as any.
fn windowed_tables(p: &Params<'_>) -> Run {
    let (mut left, mut right) = (tumbling(p, COUNT), tumbling(p, COUNT));
    let mut join = TableTable::new(Kind::Left);
    Box::new(move |topic, row| {
        let windows = if side(topic) == Side::Left { &mut left } else { &mut right };
        let counts = text(windows.process(row));
        stream(counts.iter().flat_map(|row| join.process(side(topic), row)))
    })
}

fn count_then_table() -> Run {
    let mut counts = KeyValue::new(COUNT);
    let mut join = TableTable::new(Kind::Outer);
    Box::new(move |topic, row| {
        if topic == "table" {
            return stream(join.process(Side::Right, row));
        }
        let counted = stream(counts.process(row));
        stream(counted.iter().flat_map(|row| join.process(Side::Left, row)))
    })
}

/// Every record gets a header `h`: its topic's letter and the number of records so far. What comes out shows the last.
fn stamped(mut run: Run) -> Run {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    Box::new(move |topic, row| {
        let n = seen.entry(topic.to_owned()).or_default();
        *n += 1;
        let mut row = row.clone();
        row.headers.push(("h".into(), format!("{}{n}", first(topic))));
        let reveal = |row: Row| {
            let header = row.headers.iter().rev().find(|(name, _)| name == "h").map_or("-", |(_, value)| value);
            row.with(Some(format!("{}#{header}", shown(row.value.as_deref()))), row.time)
        };
        run(topic, &row).into_iter().map(reveal).collect()
    })
}
