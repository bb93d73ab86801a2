//! The programs of `tests/golden/CATALOGUE.md` that the interpreter knows.

use std::collections::BTreeMap;

use crate::reference::fold::{AGGREGATE, APPEND, CONCATENATE, COUNT, Fold, REDUCE};
use crate::reference::foreign_key::ForeignKey;
use crate::reference::key_value::KeyValue;
use crate::reference::program::{Order, Run, Stages, around, gathered, stays, through};
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

/// How a program is made from its parameters.
pub(crate) type Build = fn(&Params<'_>) -> Stages;

/// All that the interpreter knows.
pub fn known() -> Vec<&'static str> {
    PROGRAMS.iter().map(|(name, _)| *name).collect()
}

/// A case's parameters, and the number of partitions of all its topics.
pub(crate) struct Params<'a> {
    pub(crate) given: &'a BTreeMap<String, i64>,
    pub(crate) partitions: i32,
}

impl Params<'_> {
    fn ms(&self, name: &str) -> i64 {
        *self.given.get(name).unwrap_or_else(|| panic!("a parameter `{name}`"))
    }

    /// A table with a history.
    fn history(&self) -> Table {
        Table::with_history(self.ms("history"), self.partitions)
    }

    /// How long windows are kept: 100 seconds, unless the case asks for the default, which is no more than needed.
    fn kept(&self, needed: i64) -> i64 {
        if self.given.contains_key("default_retention") { needed } else { 100_000 }
    }
}

/// One line for each.
pub(crate) const PROGRAMS: &[(&str, Build)] = &[
    ("tumbling-count", |p| stays(time_windows(tumbling(p, COUNT)))),
    ("tumbling-reduce", |p| stays(without_nulls(time_windows(tumbling(p, REDUCE))))),
    ("tumbling-count-final", |p| stays(time_windows(tumbling(p, COUNT).on_close()))),
    ("hopping-aggregate", |p| {
        stays(time_windows(TimeWindows::new(p.ms("size"), p.ms("advance"), p.ms("grace"), APPEND)))
    }),
    ("sliding-count", |p| stays(sliding_windows(sliding(p, COUNT)))),
    ("sliding-aggregate", |p| stays(sliding_windows(sliding(p, APPEND)))),
    ("sliding-count-final", |p| stays(sliding_windows(sliding(p, COUNT).on_close()))),
    ("session-count", |p| stays(session_windows(sessions(p, COUNT)))),
    ("session-aggregate", |p| stays(session_windows(sessions(p, APPEND)))),
    ("session-count-final", |p| stays(session_windows(sessions(p, COUNT).on_close()))),
    ("count", |_| stays(key_value(KeyValue::new(COUNT)))),
    ("reduce", |_| stays(key_value(KeyValue::new(REDUCE)))),
    ("aggregate", |_| stays(key_value(KeyValue::new(AGGREGATE)))),
    ("word-count", |_| through(words(), key_value(KeyValue::new(COUNT)))),
    ("stream-table-inner-join", |_| stays(stream_table(StreamTable::new(false, Table::default())))),
    ("stream-table-left-join", |_| stays(stream_table(StreamTable::new(true, Table::default())))),
    ("stream-stream-inner-join", |p| stays(two_streams(streams(p, Kind::Inner)))),
    ("stream-stream-left-join", |p| stays(two_streams(streams(p, Kind::Left)))),
    ("stream-stream-outer-join", |p| stays(two_streams(streams(p, Kind::Outer)))),
    ("stream-self-join", |p| stays(with_itself(streams(p, Kind::Inner)))),
    ("table-table-inner-join", |_| stays(two_tables(Kind::Inner, Table::default))),
    ("table-table-left-join", |_| stays(two_tables(Kind::Left, Table::default))),
    ("table-table-outer-join", |_| stays(two_tables(Kind::Outer, Table::default))),
    ("table-group-count", |_| gathered(Order::OpenBetweenPartitions, table_group(COUNT_ROWS, Table::default()))),
    ("table-group-reduce", |_| gathered(Order::OpenBetweenPartitions, table_group(REDUCE_ROWS, Table::default()))),
    ("table-group-aggregate", |_| {
        gathered(Order::OpenBetweenPartitions, table_group(AGGREGATE_ROWS, Table::default()))
    }),
    ("foreign-key-inner-join", |_| gathered(Order::Settles, foreign_key(false, Table::default))),
    ("foreign-key-left-join", |_| gathered(Order::Settles, foreign_key(true, Table::default))),
    ("suppress-until-time-limit", |p| stays(suppressed(p))),
    ("suppress-until-window-closes", |p| {
        let mut windows = tumbling(p, COUNT);
        stays(until_closed(p.ms("grace"), move |topic, row| windows.process(topic, row)))
    }),
    ("suppress-session-closes", |p| {
        let mut windows = sessions(p, COUNT);
        stays(until_closed(p.ms("gap") + p.ms("grace"), move |topic, row| windows.process(topic, row)))
    }),
    ("windowed-tables-join", |p| stays(windowed_tables(p))),
    ("count-then-table-join", |_| stays(count_then_table())),
    ("headers-count", |_| stays(stamped(key_value(KeyValue::new(COUNT))))),
    ("headers-rekey-count", |_| through(stamp(by_first()), reveal(key_value(KeyValue::new(COUNT))))),
    ("headers-tumbling-final", |p| stays(stamped(time_windows(tumbling(p, COUNT).on_close())))),
    ("headers-suppress", |p| stays(stamped(suppressed(p)))),
    ("headers-table-group-count", |_| {
        gathered(Order::OpenBetweenPartitions, stamped(table_group(COUNT_ROWS, Table::default())))
    }),
    ("headers-table-table-join", |_| stays(stamped(two_tables(Kind::Outer, Table::default)))),
    ("headers-stream-table-join", |_| stays(stamped(stream_table(StreamTable::new(true, Table::default()))))),
    ("headers-stream-stream-join", |p| stays(stamped(two_streams(streams(p, Kind::Outer))))),
    ("headers-foreign-key-join", |_| gathered(Order::Open, stamped(foreign_key(true, Table::default)))),
    ("cogroup", |_| stays(tagged_or_deleted(key_value(KeyValue::new(CONCATENATE))))),
    ("cogroup-tumbling", |p| stays(tagged(time_windows(tumbling(p, CONCATENATE))))),
    ("cogroup-session", |p| stays(tagged(session_windows(sessions(p, CONCATENATE))))),
    ("two-level-aggregate", |p| through(by_window(tumbling(p, COUNT)), key_value(KeyValue::new(CONCATENATE)))),
    ("enrich-then-window", |p| {
        through(
            then_by_first(stream_table(StreamTable::new(false, Table::default()))),
            slashed(time_windows(tumbling(p, CONCATENATE))),
        )
    }),
    ("rekey-then-join", |p| {
        let rekeyed = only("left", without_nulls(by_first()));
        around(rekeyed, two_streams(streams(p, Kind::Left)))
    }),
    ("join-chain", |p| stays(join_chain(streams(p, Kind::Left)))),
    ("stream-global-table-inner-join", |_| gathered(Order::Open, global_table(false))),
    ("stream-global-table-left-join", |_| gathered(Order::Open, global_table(true))),
    ("to-table", |_| stays(table_values(|_, value| value.to_owned()))),
    ("table-filter", |_| stays(table_filter())),
    ("table-filter-materialized", |_| stays(table_filter())),
    ("table-map-values", |_| stays(table_values(|key, value| format!("{key}:{value}")))),
    ("versioned-table", |p| stays(versioned(p.history(), |_| true))),
    ("versioned-table-filter", |p| stays(versioned(p.history(), even))),
    ("versioned-table-group-count", |p| gathered(Order::OpenBetweenPartitions, table_group(COUNT_ROWS, p.history()))),
    ("versioned-table-table-inner-join", |p| stays(two_tables(Kind::Inner, || p.history()))),
    ("versioned-table-table-left-join", |p| stays(two_tables(Kind::Left, || p.history()))),
    ("versioned-table-table-outer-join", |p| stays(two_tables(Kind::Outer, || p.history()))),
    ("stream-versioned-table-inner-join", |p| stays(stream_table(StreamTable::new(false, p.history())))),
    ("stream-versioned-table-left-join", |p| stays(stream_table(StreamTable::new(true, p.history())))),
    ("stream-versioned-table-inner-grace-join", |p| {
        stays(stream_table(StreamTable::new(false, p.history()).grace(p.ms("grace"))))
    }),
    ("stream-versioned-table-left-grace-join", |p| {
        stays(stream_table(StreamTable::new(true, p.history()).grace(p.ms("grace"))))
    }),
    ("versioned-foreign-key-inner-join", |p| gathered(Order::Settles, foreign_key(false, || p.history()))),
    ("versioned-foreign-key-left-join", |p| gathered(Order::Settles, foreign_key(true, || p.history()))),
];

fn tumbling(p: &Params<'_>, fold: Fold) -> TimeWindows {
    let (size, grace) = (p.ms("size"), p.ms("grace"));
    TimeWindows::new(size, size, grace, fold).kept(p.kept(size + grace))
}

fn sliding(p: &Params<'_>, fold: Fold) -> SlidingWindows {
    SlidingWindows::new(p.ms("difference"), p.ms("grace"), fold)
}

fn sessions(p: &Params<'_>, fold: Fold) -> SessionWindows {
    let (gap, grace) = (p.ms("gap"), p.ms("grace"));
    SessionWindows::new(gap, grace, fold).kept(p.kept(gap + grace))
}

fn streams(p: &Params<'_>, kind: Kind) -> StreamStream {
    StreamStream::new(kind, (p.ms("before"), p.ms("after"), p.ms("grace")), p.given.contains_key("exact"))
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
    Box::new(move |topic, row| text(windows.process(topic, row)))
}

fn sliding_windows(mut windows: SlidingWindows) -> Run {
    Box::new(move |_, row| text(windows.process(row)))
}

fn session_windows(mut windows: SessionWindows) -> Run {
    Box::new(move |topic, row| text(windows.process(topic, row)))
}

fn key_value(mut counts: KeyValue) -> Run {
    Box::new(move |_, row| stream(counts.process(row)))
}

fn without_nulls(mut run: Run) -> Run {
    Box::new(move |topic, row| if row.value.is_some() { run(topic, row) } else { Vec::new() })
}

fn words() -> Run {
    Box::new(|_, row| {
        let words = row.value.iter().flat_map(|value| value.split(' '));
        words.map(|word| Row { key: Some(word.to_owned()), value: Some(word.to_owned()), ..row.clone() }).collect()
    })
}

/// The first character of the value becomes the key.
fn by_first() -> Run {
    Box::new(|_, row| vec![row.with_key(row.value.as_deref().map(first))])
}

fn then_by_first(mut run: Run) -> Run {
    let mut by_first = by_first();
    Box::new(move |topic, row| run(topic, row).iter().flat_map(|row| by_first(topic, row)).collect())
}

/// Records of other topics pass as they are.
fn only(topic: &'static str, mut run: Run) -> Run {
    Box::new(move |from, row| if from == topic { run(from, row) } else { vec![row.clone()] })
}

/// A value becomes its topic's letter and its own first; null values are left out.
fn tagged(mut run: Run) -> Run {
    without_nulls(Box::new(move |topic, row| {
        let tag = |value: &String| first(topic).to_uppercase() + &first(value);
        run(topic, &row.with(row.value.as_ref().map(tag), row.time))
    }))
}

/// The same, but for `del` on the right, which stays what it is.
fn tagged_or_deleted(mut run: Run) -> Run {
    Box::new(move |topic, row| {
        if topic == "right" && row.value.as_deref() == Some("del") {
            return run(topic, row);
        }
        let tag = |value: &String| first(topic).to_uppercase() + &first(value);
        run(topic, &row.with(row.value.as_ref().map(tag), row.time))
    })
}

fn slashed(mut run: Run) -> Run {
    Box::new(move |topic, row| run(topic, &row.with(row.value.as_ref().map(|value| format!("/{value}")), row.time)))
}

/// Counts, by the start of their window.
fn by_window(mut windows: TimeWindows) -> Run {
    Box::new(move |topic, row| {
        windows.process(topic, row).iter().map(|row| row.with_key(Some(row.key.start.to_string()))).collect()
    })
}

fn join_chain(mut streams: StreamStream) -> Run {
    let mut table = StreamTable::new(true, Table::default());
    Box::new(move |topic, row| {
        if topic == "table" {
            table.table(row);
            return Vec::new();
        }
        streams.process(side(topic), row).iter().flat_map(|row| table.stream(row)).collect()
    })
}

/// A table that every partition sees whole; it is asked for a record's key, unless the value begins with `a`.
fn global_table(left: bool) -> Run {
    let mut join = StreamTable::new(left, Table::default());
    Box::new(move |topic, row| {
        if topic == "table" {
            join.table(row);
            return Vec::new();
        }
        let asks = row.value.as_ref().is_some_and(|value| !value.starts_with('a'));
        let asked = row.with_key(row.key.clone().filter(|_| asks));
        join.stream(&asked).iter().map(|joined| joined.with_key(row.key.clone())).collect()
    })
}

fn even(value: &str) -> bool {
    value.chars().count().is_multiple_of(2)
}

/// A table whose values are changed; deleted rows come out even if they never were there.
fn table_values(f: fn(&str, &str) -> String) -> Run {
    let mut table = Table::default();
    Box::new(move |_, row| {
        let change = table.process(row).map(|change| change.row);
        stream(change.map(|row| row.with(row.value.as_ref().map(|value| f(&row.key, value)), row.time)))
    })
}

/// The rows of a table with a history that are to be seen; others come out deleted.
fn versioned(mut table: Table, seen: fn(&str) -> bool) -> Run {
    Box::new(move |_, row| {
        let change = table.process(row).map(|change| change.row);
        stream(change.map(|row| row.with(row.value.clone().filter(|value| seen(value)), row.time)))
    })
}

/// The rows of a table with an even value; a row that was not among them, and is not, does not come out.
fn table_filter() -> Run {
    let mut table = Table::default();
    Box::new(move |_, row| {
        let Some(change) = table.process(row) else { return Vec::new() };
        let new = change.row.value.clone().filter(|value| even(value));
        let seen = new.is_some() || change.old.is_some_and(|value| even(&value));
        stream(seen.then(|| change.row.with(new, row.time)))
    })
}

fn stream_table(mut join: StreamTable) -> Run {
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

fn two_tables(kind: Kind, table: impl Fn() -> Table) -> Run {
    let mut join = TableTable::new(kind, table(), table());
    Box::new(move |topic, row| stream(join.process(side(topic), row)))
}

fn table_group(groups: Groups, table: Table) -> Run {
    let mut groups = TableGroup::new(groups, table);
    Box::new(move |_, row| stream(groups.process(row)))
}

fn foreign_key(left_join: bool, table: impl Fn() -> Table) -> Run {
    let mut join = ForeignKey::new(left_join, table(), table());
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

fn until_closed(wait: i64, mut windows: impl FnMut(&str, &Row) -> Vec<Row<Windowed>> + 'static) -> Run {
    let mut suppress = Suppress::until_window_closes(wait);
    Box::new(move |topic, row| {
        text(windows(topic, row).into_iter().flat_map(|row| suppress.process(row.key.end, row)).collect())
    })
}

/// Two windowed counts, joined as tables: a window's text is a key as good as any.
fn windowed_tables(p: &Params<'_>) -> Run {
    let (mut left, mut right) = (tumbling(p, COUNT), tumbling(p, COUNT));
    let mut join = TableTable::new(Kind::Left, Table::default(), Table::default());
    Box::new(move |topic, row| {
        let side = side(topic);
        let (own, other) = if side == Side::Left { (&mut left, &right) } else { (&mut right, &left) };
        let mut out = Vec::new();
        for row in own.process(topic, row) {
            let remembered = other.remembers(row.key.start);
            let row = row.shown();
            if !remembered {
                join.forget(side.other(), &row.key);
            }
            out.extend(join.process(side, &row.with_key(Some(row.key.clone()))));
        }
        stream(out)
    })
}

fn count_then_table() -> Run {
    let mut counts = KeyValue::new(COUNT);
    let mut join = TableTable::new(Kind::Outer, Table::default(), Table::default());
    Box::new(move |topic, row| {
        if topic == "table" {
            return stream(join.process(Side::Right, row));
        }
        let counted = stream(counts.process(row));
        stream(counted.iter().flat_map(|row| join.process(Side::Left, row)))
    })
}

/// Every record gets a header `h`: its topic's letter and the number of records so far.
fn stamp(mut run: Run) -> Run {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    Box::new(move |topic, row| {
        let n = seen.entry(topic.to_owned()).or_default();
        *n += 1;
        let mut row = row.clone();
        row.headers.push(("h".into(), format!("{}{n}", first(topic))));
        run(topic, &row)
    })
}

/// What comes out shows its last header `h`.
fn reveal(mut run: Run) -> Run {
    Box::new(move |topic, row| {
        let show = |row: Row| {
            let header = row.headers.iter().rev().find(|(name, _)| name == "h").map_or("-", |(_, value)| value);
            row.with(Some(format!("{}#{header}", shown(row.value.as_deref()))), row.time)
        };
        run(topic, row).into_iter().map(show).collect()
    })
}

fn stamped(run: Run) -> Run {
    reveal(stamp(run))
}
