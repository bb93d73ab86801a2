//! Every kind of store answers its queries, however many parts an answer has, and whoever asks for something else is told what
//! is there.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use millstream_core::{Ask, Isolation, Part, Position, QueryError, QueryStores, Result, ThreadContext};
use millstream_dsl::*;

type Rows<T> = Result<Vec<T>, millstream_core::QueryError>;

/// More than a thread gives at once.
const MANY: usize = 2_300;

fn name(n: usize) -> String {
    format!("key-{n:05}")
}

#[test]
fn an_answer_in_parts_is_whole_and_in_order() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("in", 2);
    let grouped = b.stream::<String, i64>("in").group_by_key();
    grouped.reduce("sums", |a, b| a + b);
    grouped.windowed_by(TimeWindows::of(MIN)).count("windows");
    grouped.windowed_by(SessionWindows::of(MIN)).count("sessions");
    let t = TopologyTestDriver::new(b.build()?)?;
    let input = t.input::<String, i64>("in")?;
    for n in 0..MANY {
        input.enqueue(millstream_core::Record::new(name(n), n as i64, 1_000))?;
    }
    t.run()?;
    for partition in 0..2 {
        let sums = |query: RangeQuery<String, i64>| -> Rows<(String, ValueAndTimestamp<i64>)> {
            t.query(in_store("sums", query).with_partitions([partition]))?.rows().collect()
        };
        let mut rows = sums(RangeQuery::with_range(..))?;
        assert!(rows.is_sorted_by(|a, b| a.0 < b.0) && rows.iter().all(|(key, row)| name(row.value as usize) == *key));
        let windows = WindowRangeQuery::<String, i64>::with_window_start_range(0..=0);
        let windows: Rows<_> = t.query(in_store("windows", windows).with_partitions([partition]))?.rows().collect();
        let sessions = SessionQuery::<String, i64>::with_keys(..);
        let sessions: Rows<_> = t.query(in_store("sessions", sessions).with_partitions([partition]))?.rows().collect();
        let keys: Vec<&String> = rows.iter().map(|(key, _)| key).collect();
        assert_eq!(windows?.iter().map(|(key, _, _)| key).collect::<Vec<_>>(), keys);
        assert_eq!(sessions?.iter().map(|(key, _)| &key.key).collect::<Vec<_>>(), keys);
        let descending = sums(RangeQuery::with_range(..).descending())?;
        rows.reverse();
        assert_eq!(descending, rows);
    }
    let all = t.query(in_store("sums", RangeQuery::<String, i64>::with_range(..)))?;
    assert_eq!(all.rows().count(), MANY);
    Ok(())
}

/// A driver's stores, and what was asked for each part: how long it may take, and its bound.
#[derive(Clone)]
struct Watched {
    stores: <TopologyTestDriver as InteractiveQueries>::Stores,
    asked: Rc<RefCell<Vec<(Duration, Position)>>>,
}

impl QueryStores for Watched {
    fn context(&self) -> Cow<'_, ThreadContext> {
        self.stores.context()
    }

    fn ask(&self, ask: Ask, wait: Duration) -> Result<Part, QueryError> {
        self.asked.borrow_mut().push((wait, ask.bound.clone()));
        self.stores.ask(ask, wait)
    }
}

impl InteractiveQueries for Watched {
    type Stores = Self;

    fn stores(&self) -> Self {
        self.clone()
    }
}

/// A restore between two parts ended an answer that was to wait for it, and behind a rollback came rows older than its position.
#[test]
fn later_parts_are_waited_for_and_no_older_than_the_first() -> Result<()> {
    let b = StreamsBuilder::new();
    b.stream::<String, i64>("in").group_by_key().count("counts");
    let t = TopologyTestDriver::new(b.build()?)?;
    let input = t.input::<String, i64>("in")?;
    for n in 0..MANY {
        input.enqueue(millstream_core::Record::new(name(n), 1, 1_000))?;
    }
    t.run()?;
    let watched = Watched { stores: t.stores(), asked: Rc::default() };
    let all = in_store("counts", RangeQuery::<String, i64>::with_range(..)).waiting(MIN);
    assert_eq!(watched.query(all)?.rows().count(), MANY);
    let reached = Position::new().with("in", 0, MANY as i64);
    let asked = watched.asked.borrow();
    assert_eq!(asked[0], (MIN, Position::new()));
    assert_eq!(asked[1..], vec![(MIN, reached); asked.len() - 1]);
    Ok(())
}

/// The windows of one key can be more than a part too.
#[test]
fn a_key_with_many_windows() -> Result<()> {
    let b = StreamsBuilder::new();
    let windows = TimeWindows::of(SECOND).grace(HOUR);
    b.stream::<String, i64>("in").group_by_key().windowed_by(windows).count("windows");
    let t = TopologyTestDriver::new(b.build()?)?;
    let input = t.input::<String, i64>("in")?;
    for n in 0..MANY as i64 {
        input.enqueue(millstream_core::Record::new("a".to_owned(), n, n * 1_000))?;
    }
    t.run()?;
    let query = WindowKeyQuery::<String, i64>::with_key("a".to_owned(), 5_000..=2_200_000);
    let rows = |query| -> Rows<(i64, ValueAndTimestamp<i64>)> { t.query(in_store("windows", query))?.rows().collect() };
    let mut starts: Vec<i64> = rows(query.clone())?.into_iter().map(|(start, _)| start).collect();
    assert_eq!(starts, (5..=2_200).map(|second| second * 1_000).collect::<Vec<_>>());
    starts.reverse();
    assert_eq!(rows(query.descending())?.into_iter().map(|(start, _)| start).collect::<Vec<_>>(), starts);
    Ok(())
}

/// A part is not of any size: rows that are large come in more parts.
#[test]
fn large_rows() -> Result<()> {
    let b = StreamsBuilder::new();
    let grouped = b.stream::<String, String>("in").group_by_key();
    grouped.reduce("last", |_, new| new);
    grouped.windowed_by(TimeWindows::of(MIN)).reduce("windows", |_, new| new);
    let t = TopologyTestDriver::new(b.build()?)?;
    let input = t.input::<String, String>("in")?;
    (0..20).for_each(|n| input.pipe(name(n), "x".repeat(100_000)));
    let rows = t.query(in_store("last", RangeQuery::<String, String>::with_range(..)))?.rows();
    let keys: Rows<String> = rows.map(|row| row.map(|(key, _)| key)).collect();
    assert_eq!(keys?, (0..20).map(name).collect::<Vec<_>>());
    let windows = WindowRangeQuery::<String, String>::with_window_start_range(0..=0).descending();
    let keys: Rows<String> =
        t.query(in_store("windows", windows))?.rows().map(|row| row.map(|(key, ..)| key)).collect();
    assert_eq!(keys?, (0..20).rev().map(name).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn the_keys_partition_is_where_the_key_is() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("in", 7);
    b.stream::<String, i64>("in").group_by_key().count("counts");
    let t = TopologyTestDriver::new(b.build()?)?;
    let input = t.input::<String, i64>("in")?;
    for n in 0..50 {
        input.pipe(name(n), 5);
        let request = in_store("counts", KeyQuery::<String, i64>::with_key(name(n))).with_key_partition();
        let found = t.query(request)?.into_partitions();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].answer.map(|row| row.value), Some(1));
    }
    Ok(())
}

/// A prefix of the largest bytes has no end, and a prefix is not a range up to it.
#[test]
fn prefixes() -> Result<()> {
    let b = StreamsBuilder::new();
    b.stream::<Vec<u8>, i64>("in").group_by_key().count("counts");
    let t = TopologyTestDriver::new(b.build()?)?;
    let input = t.input::<Vec<u8>, i64>("in")?;
    let keys: [&[u8]; 7] = [b"a", b"ab", b"ab\xff", b"ab\xff\xff", b"ac", b"\xff", b"\xff\xff"];
    keys.iter().for_each(|key| input.pipe(*key, 5));
    let with = |prefix: &[u8]| -> Rows<Vec<u8>> {
        let query = PrefixQuery::<Vec<u8>, Vec<u8>, i64>::with_prefix(prefix.to_vec());
        t.query(in_store("counts", query))?.rows().map(|row| row.map(|(key, _)| key)).collect()
    };
    assert_eq!(with(b"ab")?, keys[1..4]);
    assert_eq!(with(b"ab\xff")?, keys[2..4]);
    assert_eq!(with(b"\xff")?, keys[5..]);
    assert_eq!(with(b"")?, keys);
    Ok(())
}

/// Kafka Streams' `query` knows no global stores.
#[test]
fn global_stores_are_asked_as_others() -> Result<()> {
    let b = StreamsBuilder::new();
    let names = b.global_table::<String, String>("names", "names-store");
    b.stream::<String, i64>("in").join_global(&names, |k, _| Some(k.clone()), |_, name| name.clone()).to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    t.input::<String, String>("names")?.pipe("a", "Ann");
    let query = KeyQuery::<String, String>::with_key("a".to_owned());
    let found = t.query(in_store("names-store", query).with_isolation(Isolation::ReadCommitted))?;
    assert_eq!(found.value().map(|row| row.value), Some("Ann".to_owned()));
    Ok(())
}

/// It is asked as partition 0 and has what all say: a bound in another one was passed over.
#[test]
fn a_global_store_is_at_a_bound_in_all_partitions() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("names", 3);
    let names = b.global_table::<String, String>("names", "names-store");
    b.stream::<String, i64>("in").join_global(&names, |k, _| Some(k.clone()), |_, name| name.clone()).to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let input = t.input::<String, String>("names")?;
    ["a", "b", "c", "d", "e", "f"].into_iter().for_each(|key| input.pipe(key, "x"));
    let all = || in_store("names-store", RangeQuery::<String, String>::with_range(..));
    let reached = t.query(all())?.position();
    assert!(t.query(all().with_position_bound(reached.clone())).is_ok());
    for partition in 0..3 {
        let offset = reached.get("names", partition).expect("it is read");
        let further = reached.clone().with("names", partition, offset + 1);
        let answer = t.query(all().with_position_bound(further));
        assert!(matches!(answer, Err(QueryError::NotUpToBound { .. })), "partition {partition}");
    }
    Ok(())
}

/// A row that was deleted is no row, and a store that came back from its changelog answers as before.
#[test]
fn what_is_there_after_a_restart() -> Result<()> {
    let b = StreamsBuilder::new();
    b.table::<String, i64>("in", "rows");
    let t = TopologyTestDriver::new(b.build()?)?;
    let input = t.input::<String, Option<i64>>("in")?;
    [("a", Some(1)), ("b", Some(2)), ("a", None)].into_iter().for_each(|(key, n)| input.pipe(key, n));
    for _ in 0..2 {
        let all = t.query(in_store("rows", RangeQuery::<String, i64>::with_range(..)))?;
        assert_eq!(all.position(), Position::new().with("in", 0, 3));
        let rows: Rows<_> = all.rows().map(|row| row.map(|(key, row)| (key, row.value))).collect();
        assert_eq!(rows?, [("b".to_owned(), 2)]);
        t.restart()?;
    }
    Ok(())
}

#[test]
fn errors_say_what_is_there() -> Result<()> {
    let b = StreamsBuilder::new();
    let grouped = b.stream::<String, i64>("in").group_by_key();
    grouped.count("counts");
    grouped.windowed_by(TimeWindows::of(MIN)).count("windows");
    let t = TopologyTestDriver::new(b.build()?)?;
    let error = |request: StateQueryRequest<KeyQuery<String, i64>>| match t.query(request) {
        Err(error) => error.to_string(),
        Ok(found) => panic!("{found:?}"),
    };
    let key = || KeyQuery::with_key("a".to_owned());
    assert_eq!(error(in_store("count", key())), "the program has no store `count`\n  help: there is `counts`");
    assert_eq!(error(in_store("something else", key())), "the program has no store `something else`");
    assert_eq!(
        error(in_store("windows", key())),
        "`windows` is a window store of StringSerde and NumberSerde<i64>, asked as a key-value store of StringSerde and NumberSerde<i64>"
    );
    assert_eq!(error(in_store("counts", key()).with_partitions([3])), "`counts` has no partition 3: there are 1");
    let other = t.query(in_store("counts", KeyQuery::<String, String>::with_key("a".to_owned()))).map(|_| ());
    assert_eq!(
        other.map_err(|error| error.to_string()),
        Err("`counts` is a key-value store of StringSerde and NumberSerde<i64>, asked as a key-value store of StringSerde and StringSerde".to_owned())
    );
    assert_eq!(
        error(in_store("counts", key()).with_position_bound(Position::new().with("in", 0, 1))),
        "partition 0 has come to in-0@0 and not to the query's bound\n  help: ask again, or let the query wait"
    );
    Ok(())
}
