//! The operators, as stages of a program: from records to records.

use std::collections::BTreeMap;

use crate::reference::fold::COUNT;
use crate::reference::foreign_key::ForeignKey;
use crate::reference::key_value::KeyValue;
use crate::reference::program::{CLOCK, Run};
use crate::reference::row::{Row, Windowed, first, shown};
use crate::reference::session_windows::SessionWindows;
use crate::reference::sliding_windows::SlidingWindows;
use crate::reference::stream_stream::{Kind, Side, StreamStream};
use crate::reference::stream_table::StreamTable;
use crate::reference::suppress::Suppress;
use crate::reference::table::Table;
use crate::reference::table_group::{Groups, TableGroup};
use crate::reference::table_table::TableTable;
use crate::reference::time_windows::TimeWindows;
use crate::reference::unlimited_windows::UnlimitedWindows;

/// A table's rows are a stream's records again.
pub(crate) fn stream(rows: impl IntoIterator<Item = Row<String>>) -> Vec<Row> {
    rows.into_iter().map(|row| row.with_key(Some(row.key.clone()))).collect()
}

pub(crate) fn text(rows: Vec<Row<Windowed>>) -> Vec<Row> {
    stream(rows.into_iter().map(Row::shown))
}

pub(crate) fn side(topic: &str) -> Side {
    if topic == "left" { Side::Left } else { Side::Right }
}

pub(crate) fn time_windows(mut windows: TimeWindows) -> Run {
    Box::new(move |topic, row| text(windows.process(topic, row)))
}

pub(crate) fn sliding_windows(mut windows: SlidingWindows) -> Run {
    Box::new(move |topic, row| text(windows.process(topic, row)))
}

pub(crate) fn unlimited_windows(mut windows: UnlimitedWindows) -> Run {
    Box::new(move |topic, row| text(windows.process(topic, row)))
}

pub(crate) fn session_windows(mut windows: SessionWindows) -> Run {
    Box::new(move |topic, row| text(windows.process(topic, row)))
}

pub(crate) fn key_value(mut counts: KeyValue) -> Run {
    Box::new(move |_, row| stream(counts.process(row)))
}

pub(crate) fn without_nulls(mut run: Run) -> Run {
    Box::new(move |topic, row| if row.value.is_some() { run(topic, row) } else { Vec::new() })
}

pub(crate) fn words() -> Run {
    Box::new(|_, row| {
        let words = row.value.iter().flat_map(|value| value.split(' '));
        words.map(|word| Row { key: Some(word.to_owned()), value: Some(word.to_owned()), ..row.clone() }).collect()
    })
}

/// The first character of the value becomes the key.
pub(crate) fn by_first() -> Run {
    Box::new(|_, row| vec![row.with_key(row.value.as_deref().map(first))])
}

pub(crate) fn then_by_first(mut run: Run) -> Run {
    let mut by_first = by_first();
    Box::new(move |topic, row| run(topic, row).iter().flat_map(|row| by_first(topic, row)).collect())
}

/// Records of other topics pass as they are.
pub(crate) fn only(topic: &'static str, mut run: Run) -> Run {
    Box::new(move |from, row| if from == topic { run(from, row) } else { vec![row.clone()] })
}

/// A value becomes its topic's letter and its own first; null values are left out.
pub(crate) fn tagged(mut run: Run) -> Run {
    without_nulls(Box::new(move |topic, row| {
        let tag = |value: &String| first(topic).to_uppercase() + &first(value);
        run(topic, &row.with(row.value.as_ref().map(tag), row.time))
    }))
}

/// The same, but for `del` on the right, which stays what it is.
pub(crate) fn tagged_or_deleted(mut run: Run) -> Run {
    Box::new(move |topic, row| {
        if topic == "right" && row.value.as_deref() == Some("del") {
            return run(topic, row);
        }
        let tag = |value: &String| first(topic).to_uppercase() + &first(value);
        run(topic, &row.with(row.value.as_ref().map(tag), row.time))
    })
}

pub(crate) fn slashed(mut run: Run) -> Run {
    Box::new(move |topic, row| run(topic, &row.with(row.value.as_ref().map(|value| format!("/{value}")), row.time)))
}

/// Counts, by the start of their window.
pub(crate) fn by_window(mut windows: TimeWindows) -> Run {
    Box::new(move |topic, row| {
        windows.process(topic, row).iter().map(|row| row.with_key(Some(row.key.start.to_string()))).collect()
    })
}

pub(crate) fn join_chain(mut streams: StreamStream) -> Run {
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
pub(crate) fn global_table(left: bool) -> Run {
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

pub(crate) fn even(value: &str) -> bool {
    value.chars().count().is_multiple_of(2)
}

/// A table whose values are changed; deleted rows come out even if they never were there.
pub(crate) fn table_values(f: fn(&str, &str) -> String) -> Run {
    let mut table = Table::default();
    Box::new(move |_, row| {
        let change = table.process(row).map(|change| change.row);
        stream(change.map(|row| row.with(row.value.as_ref().map(|value| f(&row.key, value)), row.time)))
    })
}

/// The rows of a table with a history that are to be seen; others come out deleted.
pub(crate) fn versioned(mut table: Table, seen: fn(&str) -> bool) -> Run {
    Box::new(move |_, row| {
        let change = table.process(row).map(|change| change.row);
        stream(change.map(|row| row.with(row.value.clone().filter(|value| seen(value)), row.time)))
    })
}

/// The rows of a table with an even value; a row that was not among them, and is not, does not come out.
pub(crate) fn table_filter() -> Run {
    let mut table = Table::default();
    Box::new(move |_, row| {
        let Some(change) = table.process(row) else { return Vec::new() };
        let new = change.row.value.clone().filter(|value| even(value));
        let seen = new.is_some() || change.old.is_some_and(|value| even(&value));
        stream(seen.then(|| change.row.with(new, row.time)))
    })
}

pub(crate) fn stream_table(mut join: StreamTable) -> Run {
    Box::new(move |topic, row| {
        if topic == "stream" {
            return join.stream(row);
        }
        join.table(row);
        Vec::new()
    })
}

pub(crate) fn two_streams(mut join: StreamStream) -> Run {
    Box::new(move |topic, row| if topic == CLOCK { join.wait(row) } else { join.process(side(topic), row) })
}

pub(crate) fn with_itself(mut join: StreamStream) -> Run {
    Box::new(move |_, row| {
        let mut out = join.process(Side::Left, row);
        out.extend(join.process(Side::Right, row));
        out
    })
}

pub(crate) fn two_tables(kind: Kind, table: impl Fn() -> Table) -> Run {
    let mut join = TableTable::new(kind, table(), table());
    Box::new(move |topic, row| stream(join.process(side(topic), row)))
}

pub(crate) fn table_group(groups: Groups, table: Table) -> Run {
    let mut groups = TableGroup::new(groups, table);
    Box::new(move |_, row| stream(groups.process(row)))
}

pub(crate) fn foreign_key(left_join: bool, table: impl Fn() -> Table) -> Run {
    let mut join = ForeignKey::new(left_join, table(), table());
    Box::new(move |topic, row| {
        stream(match side(topic) {
            Side::Left => join.left(row),
            Side::Right => join.right(row),
        })
    })
}

pub(crate) fn until_closed(wait: i64, mut windows: impl FnMut(&str, &Row) -> Vec<Row<Windowed>> + 'static) -> Run {
    let mut suppress = Suppress::until_window_closes(wait);
    Box::new(move |topic, row| {
        if topic == CLOCK && !suppress.is_due(row.time) {
            return Vec::new();
        }
        let changes = windows(topic, row).into_iter();
        let mut out: Vec<_> = changes.flat_map(|row| suppress.process(row.key.end, row)).collect();
        if topic == CLOCK {
            out.extend(suppress.wait(row.time));
        }
        text(out)
    })
}

pub(crate) fn count_then_table() -> Run {
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
pub(crate) fn stamp(mut run: Run) -> Run {
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
pub(crate) fn reveal(mut run: Run) -> Run {
    Box::new(move |topic, row| {
        let show = |row: Row| {
            let header = row.headers.iter().rev().find(|(name, _)| name == "h").map_or("-", |(_, value)| value);
            row.with(Some(format!("{}#{header}", shown(row.value.as_deref()))), row.time)
        };
        run(topic, row).into_iter().map(show).collect()
    })
}

pub(crate) fn stamped(run: Run) -> Run {
    reveal(stamp(run))
}
