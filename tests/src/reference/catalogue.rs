//! The programs of `tests/golden/CATALOGUE.md` that the interpreter knows.

use std::collections::BTreeMap;

use crate::reference::fold::{AGGREGATE, APPEND, CONCATENATE, COUNT, Fold, REDUCE};
use crate::reference::key_value::KeyValue;
use crate::reference::program::{CLOCK, Order, Run, Stages, around, gathered, stays, through, through_in_any_order};
use crate::reference::runs::{
    by_first, by_window, count_then_table, even, foreign_key, global_table, join_chain, key_value, only, reveal,
    session_windows, side, slashed, sliding_windows, stamp, stamped, stream, stream_table, table_filter, table_group,
    table_values, tagged, tagged_or_deleted, then_by_first, time_windows, two_streams, two_tables, unlimited_windows,
    until_closed, versioned, with_itself, without_nulls, words,
};
use crate::reference::session_windows::SessionWindows;
use crate::reference::sliding_windows::SlidingWindows;
use crate::reference::stream_stream::{Kind, Side, StreamStream};
use crate::reference::stream_table::StreamTable;
use crate::reference::suppress::Suppress;
use crate::reference::table::Table;
use crate::reference::table_group::{AGGREGATE_ROWS, COUNT_ROWS, REDUCE_ROWS};
use crate::reference::table_table::TableTable;
use crate::reference::time_windows::TimeWindows;
use crate::reference::unlimited_windows::UnlimitedWindows;

/// How a program is made from its parameters.
pub(crate) type Build = fn(&Params<'_>) -> Stages;

/// All that has a golden trace.
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

    /// Whether a session that has closed is final.
    fn has_strict_ends(&self) -> bool {
        self.given.contains_key("strict_end")
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
    ("tumbling-count-final", |p| idle(p, stays(time_windows(tumbling(p, COUNT).on_close())))),
    ("hopping-aggregate", |p| {
        stays(time_windows(TimeWindows::new(p.ms("size"), p.ms("advance"), p.ms("grace"), APPEND)))
    }),
    ("sliding-count", |p| stays(sliding_windows(sliding(p, COUNT)))),
    ("sliding-aggregate", |p| stays(sliding_windows(sliding(p, APPEND)))),
    ("sliding-count-final", |p| idle(p, stays(sliding_windows(sliding(p, COUNT).on_close())))),
    ("session-count", |p| stays(session_windows(sessions(p, COUNT)))),
    ("session-aggregate", |p| stays(session_windows(sessions(p, APPEND)))),
    ("session-count-final", |p| idle(p, stays(session_windows(sessions(p, COUNT).on_close())))),
    ("count", |_| stays(key_value(KeyValue::new(COUNT)))),
    ("reduce", |_| stays(key_value(KeyValue::new(REDUCE)))),
    ("aggregate", |_| stays(key_value(KeyValue::new(AGGREGATE)))),
    ("word-count", |_| through_in_any_order(words(), key_value(KeyValue::new(COUNT)))),
    ("stream-table-inner-join", |_| stays(stream_table(StreamTable::new(false, Table::default())))),
    ("stream-table-left-join", |_| stays(stream_table(StreamTable::new(true, Table::default())))),
    ("stream-stream-inner-join", |p| idle(p, stays(two_streams(streams(p, Kind::Inner))))),
    ("stream-stream-left-join", |p| idle(p, stays(two_streams(streams(p, Kind::Left))))),
    ("stream-stream-outer-join", |p| idle(p, stays(two_streams(streams(p, Kind::Outer))))),
    ("stream-self-join", |p| stays(with_itself(streams(p, Kind::Inner)))),
    ("table-table-inner-join", |_| stays(two_tables(Kind::Inner, Table::default))),
    ("table-table-left-join", |_| stays(two_tables(Kind::Left, Table::default))),
    ("table-table-outer-join", |_| stays(two_tables(Kind::Outer, Table::default))),
    ("table-group-count", |_| gathered(Order::SettlesBetweenPartitions, table_group(COUNT_ROWS, Table::default()))),
    ("table-group-reduce", |_| gathered(Order::OpenBetweenPartitions, table_group(REDUCE_ROWS, Table::default()))),
    ("table-group-aggregate", |_| {
        gathered(Order::OpenBetweenPartitions, table_group(AGGREGATE_ROWS, Table::default()))
    }),
    ("foreign-key-inner-join", |_| gathered(Order::Settles, foreign_key(false, Table::default))),
    ("foreign-key-left-join", |_| gathered(Order::Settles, foreign_key(true, Table::default))),
    ("suppress-until-time-limit", |p| idle(p, stays(suppressed(p)))),
    ("suppress-until-window-closes", |p| {
        let mut windows = tumbling(p, COUNT);
        idle(p, stays(until_closed(p.ms("grace"), move |topic, row| windows.process(topic, row))))
    }),
    ("suppress-session-closes", |p| {
        let mut windows = sessions(p, COUNT);
        let wait = p.ms("gap") + p.ms("grace") + i64::from(p.has_strict_ends());
        idle(p, stays(until_closed(wait, move |topic, row| windows.process(topic, row))))
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
    ("versioned-table-group-count", |p| {
        gathered(Order::SettlesBetweenPartitions, table_group(COUNT_ROWS, p.history()))
    }),
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

/// The same for what no trace of Kafka Streams says: ours, or what the others have not been asked.
pub(crate) const WITHOUT_TRACE: &[(&str, Build)] = &[
    ("cogroup-tumbling-final", |p| stays(tagged(time_windows(tumbling(p, CONCATENATE).on_close())))),
    ("cogroup-hopping", |p| stays(tagged(time_windows(hopping(p, CONCATENATE))))),
    ("cogroup-hopping-final", |p| stays(tagged(time_windows(hopping(p, CONCATENATE).on_close())))),
    ("cogroup-sliding-final", |p| stays(tagged(sliding_windows(sliding(p, CONCATENATE).on_close())))),
    ("cogroup-session-final", |p| stays(tagged(session_windows(sessions(p, CONCATENATE).on_close())))),
    ("unlimited-count", |p| stays(unlimited_windows(UnlimitedWindows::new(p.ms("after"), COUNT)))),
    ("rekey-then-tumbling-final", |p| {
        idle(p, through(without_nulls(by_first()), time_windows(tumbling(p, COUNT).on_close())))
    }),
];

/// A source that may have an idleness.
fn idle(p: &Params<'_>, stages: Stages) -> Stages {
    stages.idle(p.given.get("idleness").copied())
}

fn hopping(p: &Params<'_>, fold: Fold) -> TimeWindows {
    let (size, grace) = (p.ms("size"), p.ms("grace"));
    TimeWindows::new(size, p.ms("advance"), grace, fold).kept(p.kept(size + grace))
}

fn tumbling(p: &Params<'_>, fold: Fold) -> TimeWindows {
    let (size, grace) = (p.ms("size"), p.ms("grace"));
    TimeWindows::new(size, size, grace, fold).kept(p.kept(size + grace))
}

fn sliding(p: &Params<'_>, fold: Fold) -> SlidingWindows {
    SlidingWindows::new(p.ms("difference"), p.ms("grace"), fold)
}

fn sessions(p: &Params<'_>, fold: Fold) -> SessionWindows {
    let (gap, grace) = (p.ms("gap"), p.ms("grace"));
    let windows = SessionWindows::new(gap, grace, fold).kept(p.kept(gap + grace));
    if p.has_strict_ends() { windows.strict_end() } else { windows }
}

fn streams(p: &Params<'_>, kind: Kind) -> StreamStream {
    StreamStream::new(kind, (p.ms("before"), p.ms("after"), p.ms("grace")), p.given.contains_key("exact"))
}

fn suppressed(p: &Params<'_>) -> Run {
    let mut table = Table::default();
    let most = usize::try_from(p.ms("max_records")).expect("not less than nothing");
    let mut suppress = Suppress::until_time_limit(p.ms("limit"), most);
    Box::new(move |topic, row| {
        if topic == CLOCK {
            return if suppress.is_due(row.time) { stream(suppress.wait(row.time)) } else { Vec::new() };
        }
        let change = table.process(row).into_iter();
        stream(change.flat_map(|change| suppress.process(change.row.time, change.row)))
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
