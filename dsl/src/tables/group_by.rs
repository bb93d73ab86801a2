//! `group_by` of a table, and its aggregations: what a row was is subtracted, what it is is added (semantics.md 34).

use std::sync::Arc;

use millstream_core::{
    Change, Data, Downstream, Encoded, Error, FailOnInvalidTimestamp, Forward, Headers, NodeId, Payload, Record,
    Result, Serde, SerdeContext, SerdeError, TaskContext, TopicName, Topics,
};
use millstream_state::Entry;

use crate::consumed::{Consumed, Produced};
use crate::failure::{BoxError, Failure, row_or_none, sure};
use crate::kstream::KStream;
use crate::ktable::{KTable, Nature, OldValues, OwnStore};
use crate::stored::Stored;

/// A table whose rows are grouped by another key.
pub struct GroupedTable<K, V> {
    changes: KStream<K, Change<V>>,
}

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> KTable<K, V> {
    /// Groups the rows by another key, over the topic `<application.id>-<name>-repartition`. A null key or value leaves
    /// the row out.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let people = b.table::<String, String>("people", "people"); // name, town
    /// people.group_by("by-town", |name, town| (town, name.clone())).count("per-town").to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let people = t.input::<String, String>("people")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// people.pipe("ann", "Oslo");
    /// people.pipe("ann", "Voss"); // subtracted there, added here
    /// assert_eq!(out.read(), [kv("Oslo", 1), kv("Oslo", 0), kv("Voss", 1)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    ///
    /// The key is lent, and a reference cannot be written to a topic: what is to be kept of it is cloned.
    ///
    /// ```compile_fail,E0277
    /// # let b = millstream_dsl::StreamsBuilder::new();
    /// # let people = b.table::<String, String>("people", "people");
    /// people.group_by("by-town", |name, town| (town, name)); // `&String` has no default serde
    /// ```
    pub fn group_by<K2: Data, V2: Data>(
        &self,
        name: &str,
        f: impl Fn(&K, V) -> (K2, V2) + Send + Sync + 'static,
    ) -> GroupedTable<K2::NonNull, V2::NonNull> {
        self.grouped(name, move |k, v| sure(f(k, v)))
    }

    /// As [`KTable::group_by`], with a function that may fail: `processing.exception.handler` decides then. A row that is
    /// left out is in no group (semantics.md 76).
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let ages = b.table::<String, String>("in", "ages");
    /// ages.try_group_by("by-decade", |name, age| age.parse::<i64>().map(|n| (n / 10 * 10, name.clone())))
    ///     .count("per-decade")
    ///     .to_stream()
    ///     .to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<i64, Option<i64>>("out")?;
    /// [("ann", "31"), ("bob", "old"), ("cid", "38")].into_iter().for_each(|(name, age)| input.pipe(name, age));
    /// assert_eq!(out.read(), [kv(30, 1), kv(30, 2)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_group_by<K2: Data, V2: Data, E: Into<BoxError>>(
        &self,
        name: &str,
        f: impl Fn(&K, V) -> Result<(K2, V2), E> + Send + Sync + 'static,
    ) -> GroupedTable<K2::NonNull, V2::NonNull> {
        self.grouped(name, move |k, v| f(k, v).map_err(Error::user))
    }

    fn grouped<K2: Data, V2: Data, E: Failure + 'static>(
        &self,
        name: &str,
        f: impl Fn(&K, V) -> Result<(K2, V2), E> + Send + Sync + 'static,
    ) -> GroupedTable<K2::NonNull, V2::NonNull> {
        let has_old = self.old_values.ask();
        debug_assert!(has_old, "every table with rows has old values");
        let node = self.builder.node("KTABLE-SELECT", &[self.node], &[]);
        let port = self.builder.port();
        let (out, f, versioned) = (port.clone(), Arc::new(f), self.nature.is_versioned());
        self.port.subscribe(move |task| {
            let down = task.open(&out);
            Box::new(Regroup {
                node,
                f: f.clone(),
                versioned,
                serde: <K2::NonNull as Data>::Serde::default(),
                bytes: Default::default(),
                down,
            })
        });
        let selected =
            KStream { builder: self.builder.clone(), node, port, key_changed: true, sources: self.sources.clone() };
        let topic = TopicName::Repartition(name.to_owned());
        type Changed<V2> = ChangeSerde<<<V2 as Data>::NonNull as Data>::Serde>;
        let sink = self.builder.sink::<<K2::NonNull as Data>::Serde, Changed<V2>>(selected.node, Some(topic.clone()));
        let key = <K2::NonNull as Data>::Serde::default();
        selected.sink_to(sink, topic.clone(), Produced::with(key.clone(), Changed::<V2>::default()));
        let port = self.builder.port();
        let consumed = Consumed::<_, Changed<V2>, FailOnInvalidTimestamp>::with(key, Changed::<V2>::default());
        let node = self.builder.source_node(Topics::Named(vec![topic]), consumed, &port, false);
        self.builder.repartition(name, None, sink, node);
        GroupedTable {
            changes: KStream {
                builder: self.builder.clone(),
                node,
                port,
                key_changed: false,
                sources: Arc::new([node].into()),
            },
        }
    }
}

struct Regroup<S, V2, F>
where
    S: Serde,
{
    node: NodeId,
    f: Arc<F>,
    versioned: bool,
    serde: S,
    bytes: [Vec<u8>; 2],
    down: Downstream<Record<S::Value, Change<V2>>>,
}

impl<K, V, K2, V2, E, F> Forward<Record<K, Change<V>>> for Regroup<<K2::NonNull as Data>::Serde, V2::NonNull, F>
where
    K: Data,
    K2: Data,
    V2: Data,
    E: Failure,
    F: Fn(&K, V) -> Result<(K2, V2), E>,
{
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, Change<V>>) -> Result<()> {
        if self.versioned && cx.is_out_of_order() {
            cx.drop_record();
            return Ok(());
        }
        let Record { key, value: change, timestamp, headers } = record;
        let pair = |value: Option<V>| match value.map(|value| (self.f)(&key, value)) {
            Some(Ok((key, value))) => Ok(key.into_non_null().zip(value.into_non_null())),
            Some(Err(error)) => Err(error),
            None => Ok(None),
        };
        let new = row_or_none(cx, self.node, pair(change.new))?;
        // Where it fails, nothing has been added.
        let old = pair(change.old).ok().flatten();
        let mut send = |key, old, new, headers: Headers| {
            self.down.forward(cx, Record { key, value: Change { old, new }, timestamp, headers })
        };
        match (old, new) {
            (Some((old_key, old)), Some((new_key, new))) => {
                let [a, b] = &mut self.bytes;
                if same_bytes(&self.serde, &old_key, &new_key, a, b)? {
                    return send(new_key, Some(old), Some(new), headers);
                }
                send(old_key, Some(old), None, headers.clone())?;
                send(new_key, None, Some(new), headers)
            }
            (Some((key, old)), None) => send(key, Some(old), None, headers),
            (None, Some((key, new))) => send(key, None, Some(new), headers),
            (None, None) => Ok(()),
        }
    }
}

/// Keys are the same when their bytes are.
fn same_bytes<S: Serde>(
    serde: &S,
    left: &S::Value,
    right: &S::Value,
    a: &mut Vec<u8>,
    b: &mut Vec<u8>,
) -> Result<bool> {
    let cx = SerdeContext { topic: "", half: millstream_core::Half::Key };
    let encode = |value, out: &mut Vec<u8>| {
        out.clear();
        serde
            .serialize(value, cx, &mut Headers::new(), out)
            .map_err(|e| millstream_core::unencodable("a grouped table's key", millstream_core::Half::Key, e))
    };
    Ok(encode(left, a)? == encode(right, b)? && a == b)
}

/// A change on a repartition topic, in Kafka Streams' format: the last byte is 0 for an old value alone, 1 for a new
/// one alone, 2 for both with the length of the new one in front (KIP-904).
#[derive(Debug, Clone, Default)]
struct ChangeSerde<S>(S);

impl<S: Serde> Serde for ChangeSerde<S> {
    type Value = Change<S::Value>;

    fn serialize(
        &self,
        change: &Self::Value,
        cx: SerdeContext<'_>,
        headers: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        let flag = match change {
            Change { old: None, new: None } => {
                return Err(SerdeError::invalid("a change with neither an old nor a new value"));
            }
            Change { old: Some(old), new: None } => {
                let _bytes = self.0.serialize(old, cx, headers, out)?;
                0
            }
            Change { old: None, new: Some(new) } => {
                let _bytes = self.0.serialize(new, cx, headers, out)?;
                1
            }
            Change { old: Some(old), new: Some(new) } => {
                // The length comes first but is known last: four bytes, as Kafka's reader does not care how long a
                // varint is.
                let start = out.len();
                out.extend([0; 5]);
                let _bytes = self.0.serialize(new, cx, headers, out)?;
                let len = out.len() - start - 5;
                put_padded_varint(&mut out[start..start + 5], len as u64 * 2);
                let _bytes = self.0.serialize(old, cx, headers, out)?;
                2
            }
        };
        out.push(flag);
        Ok(Encoded::Bytes)
    }

    fn deserialize(
        &self,
        bytes: Option<Payload<'_>>,
        cx: SerdeContext<'_>,
        headers: &Headers,
    ) -> Result<Self::Value, SerdeError> {
        let payload = bytes.ok_or_else(SerdeError::null::<Change<()>>)?;
        let owner = payload.to_bytes();
        let Some((flag, _)) = payload.as_slice().split_last() else {
            return Err(SerdeError::invalid("an empty change"));
        };
        let body = owner.slice(..owner.len() - 1);
        let value = |bytes: &bytes::Bytes| self.0.deserialize(Some(Payload::from(bytes)), cx, headers);
        match flag {
            0 => Ok(Change { old: Some(value(&body)?), new: None }),
            1 => Ok(Change { old: None, new: Some(value(&body)?) }),
            2 => {
                let (len, used) = take_varint(&body)
                    .ok_or_else(|| SerdeError::invalid("a change without the length of its new value"))?;
                let len = usize::try_from(len / 2)
                    .ok()
                    .filter(|len| *len <= body.len() - used)
                    .ok_or_else(|| SerdeError::invalid("a change whose new value is cut off"))?;
                Ok(Change {
                    new: Some(value(&body.slice(used..used + len))?),
                    old: Some(value(&body.slice(used + len..))?),
                })
            }
            other => Err(SerdeError::invalid(format!("a change with the unknown flag {other}"))),
        }
    }
}

fn put_padded_varint(out: &mut [u8], mut value: u64) {
    let last = out.len() - 1;
    for byte in &mut out[..last] {
        *byte = (value & 0x7f) as u8 | 0x80;
        value >>= 7;
    }
    out[last] = (value & 0x7f) as u8;
}

fn take_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (i, byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, i + 1));
        }
    }
    None
}

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> GroupedTable<K, V> {
    /// Rows per group. A group that has lost its last row counts 0; it is not deleted.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let people = b.table::<String, String>("people", "people"); // name, town
    /// people.group_by("by-town", |name, town| (town, name.clone())).count("per-town").to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let people = t.input::<String, String>("people")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// people.pipe("ann", "Oslo");
    /// people.pipe("bob", "Oslo");
    /// assert_eq!(out.read(), [kv("Oslo", 1), kv("Oslo", 2)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn count(&self, store: &str) -> KTable<K, i64> {
        self.aggregate(store, || 0, |_, _, n| *n += 1, |_, _, n| *n -= 1)
    }

    /// Folds the rows of a group into a value of their own type.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let stock = b.table::<String, i64>("stock", "stock");
    /// stock.group_by("all", |_, n| ("all".to_owned(), n)).reduce("sum", |sum, n| sum + n, |sum, n| sum - n).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let stock = t.input::<String, i64>("stock")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// stock.pipe("hat", 5);
    /// stock.pipe("bag", 2);
    /// stock.pipe("hat", 4);
    /// assert_eq!(out.read(), [kv("all", 5), kv("all", 7), kv("all", 6)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn reduce(
        &self,
        store: &str,
        add: impl Fn(V, V) -> V + Send + Sync + 'static,
        subtract: impl Fn(V, V) -> V + Send + Sync + 'static,
    ) -> KTable<K, V> {
        self.reduce_or_delete(
            store,
            move |sum, value| Some(add(sum, value)),
            move |sum, value| Some(subtract(sum, value)),
        )
    }

    /// As [`GroupedTable::reduce`]; `None` deletes the group's row, and the next value added starts over.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let people = b.table::<String, String>("people", "people"); // name, town
    /// people
    ///     .group_by("by-town", |_, town| (town, 1))
    ///     .reduce_or_delete("per-town", |sum, n| Some(sum + n), |sum, n| Some(sum - n).filter(|sum| *sum > 0))
    ///     .to_stream()
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let people = t.input::<String, String>("people")?;
    /// # let out = t.output::<String, Option<i32>>("out")?;
    /// people.pipe("ann", "Oslo");
    /// people.pipe("ann", "Voss"); // nobody is left in Oslo
    /// assert_eq!(out.read(), [kv("Oslo", Some(1)), kv("Oslo", None), kv("Voss", Some(1))]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn reduce_or_delete(
        &self,
        store: &str,
        add: impl Fn(V, V) -> Option<V> + Send + Sync + 'static,
        subtract: impl Fn(V, V) -> Option<V> + Send + Sync + 'static,
    ) -> KTable<K, V> {
        let add = move |_: &K, value, sum: Option<V>| match sum {
            Some(sum) => sure(add(sum, value)),
            None => Ok(Some(value)),
        };
        self.fold(store, add, move |_, value, sum| Ok(subtract(sum, value)))
    }

    /// As [`GroupedTable::reduce`], with functions that may fail: `processing.exception.handler` decides then, and the row
    /// stays as it was.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let grouped = b.table::<String, i64>("in", "rows").group_by("all", |_, n| ("all".to_owned(), n));
    /// let add = |sum: i64, n: i64| sum.checked_add(n).ok_or("too much");
    /// let subtract = |sum: i64, n: i64| sum.checked_sub(n).ok_or("too little");
    /// grouped.try_reduce("sum", add, subtract).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// [("a", i64::MAX), ("b", 1), ("c", -1)].into_iter().for_each(|(key, n)| input.pipe(key, n));
    /// assert_eq!(out.read(), [kv("all", i64::MAX), kv("all", i64::MAX - 1)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_reduce<E: Into<BoxError>>(
        &self,
        store: &str,
        add: impl Fn(V, V) -> Result<V, E> + Send + Sync + 'static,
        subtract: impl Fn(V, V) -> Result<V, E> + Send + Sync + 'static,
    ) -> KTable<K, V> {
        self.try_reduce_or_delete(
            store,
            move |sum, value| add(sum, value).map(Some),
            move |sum, value| subtract(sum, value).map(Some),
        )
    }

    /// As [`GroupedTable::reduce_or_delete`], with functions that may fail; as [`GroupedTable::try_reduce`].
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let grouped = b.table::<String, i64>("in", "rows").group_by("all", |_, n| ("all".to_owned(), n));
    /// let add = |sum: i64, n: i64| sum.checked_add(n).map(Some).ok_or("too much");
    /// let subtract = |sum: i64, n: i64| sum.checked_sub(n).map(|sum| Some(sum).filter(|sum| *sum != 0)).ok_or("too little");
    /// grouped.try_reduce_or_delete("sum", add, subtract).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, Option<i64>>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// [("a", Some(i64::MAX)), ("b", Some(1)), ("a", None)].into_iter().for_each(|(key, n)| input.pipe(key, n));
    /// assert_eq!(out.read(), [kv("all", Some(i64::MAX)), kv("all", None)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_reduce_or_delete<E: Into<BoxError>>(
        &self,
        store: &str,
        add: impl Fn(V, V) -> Result<Option<V>, E> + Send + Sync + 'static,
        subtract: impl Fn(V, V) -> Result<Option<V>, E> + Send + Sync + 'static,
    ) -> KTable<K, V> {
        let add = move |_: &K, value, sum: Option<V>| match sum {
            Some(sum) => add(sum, value).map_err(Error::user),
            None => Ok(Some(value)),
        };
        self.fold(store, add, move |_, value, sum| subtract(sum, value).map_err(Error::user))
    }

    /// Folds the rows of a group into a value, in place.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let stock = b.table::<String, i64>("stock", "stock");
    /// stock
    ///     .group_by("all", |_, n| ("all".to_owned(), n))
    ///     .aggregate("sum", || 100, |_, n, sum| *sum += n, |_, n, sum| *sum -= n)
    ///     .to_stream()
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let stock = t.input::<String, i64>("stock")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// stock.pipe("hat", 5);
    /// stock.pipe("hat", 4);
    /// assert_eq!(out.read(), [kv("all", 105), kv("all", 104)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn aggregate<A: Data<NonNull = A>>(
        &self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, &mut A) + Send + Sync + 'static,
        subtract: impl Fn(&K, V, &mut A) + Send + Sync + 'static,
    ) -> KTable<K, A> {
        let add = move |key: &K, value, sum: Option<A>| {
            let mut sum = sum.unwrap_or_else(&init);
            add(key, value, &mut sum);
            sure(Some(sum))
        };
        let subtract = move |key: &K, value, mut sum| {
            subtract(key, value, &mut sum);
            Ok(Some(sum))
        };
        self.fold(store, add, subtract)
    }

    /// As [`GroupedTable::aggregate`], but takes and returns the value; `None` deletes the group's row, and the next value
    /// added starts over.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let people = b.table::<String, String>("people", "people"); // name, town
    /// people
    ///     .group_by("by-town", |name, town| (town, name.clone()))
    ///     .aggregate_or_delete("per-town", || 0, |_, _, n| Some(n + 1), |_, _, n| Some(n - 1).filter(|n| *n > 0))
    ///     .to_stream()
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let people = t.input::<String, String>("people")?;
    /// # let out = t.output::<String, Option<i32>>("out")?;
    /// people.pipe("ann", "Oslo");
    /// people.pipe("ann", "Voss"); // nobody is left in Oslo
    /// assert_eq!(out.read(), [kv("Oslo", Some(1)), kv("Oslo", None), kv("Voss", Some(1))]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn aggregate_or_delete<A: Data<NonNull = A>>(
        &self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, A) -> Option<A> + Send + Sync + 'static,
        subtract: impl Fn(&K, V, A) -> Option<A> + Send + Sync + 'static,
    ) -> KTable<K, A> {
        let add = move |key: &K, value, sum: Option<A>| sure(add(key, value, sum.unwrap_or_else(&init)));
        self.fold(store, add, move |key, value, sum| Ok(subtract(key, value, sum)))
    }

    /// Folds with functions that may fail, and take and return the value; as [`GroupedTable::try_reduce`].
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let grouped = b.table::<String, i64>("in", "rows").group_by("all", |_, n| ("all".to_owned(), n));
    /// let add = |_: &String, n: i64, sum: i64| sum.checked_add(n).ok_or("too much");
    /// let subtract = |_: &String, n: i64, sum: i64| sum.checked_sub(n).ok_or("too little");
    /// grouped.try_aggregate("sum", || 0, add, subtract).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// [("a", i64::MAX), ("b", 1), ("c", -1)].into_iter().for_each(|(key, n)| input.pipe(key, n));
    /// assert_eq!(out.read(), [kv("all", i64::MAX), kv("all", i64::MAX - 1)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_aggregate<A: Data<NonNull = A>, E: Into<BoxError>>(
        &self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, A) -> Result<A, E> + Send + Sync + 'static,
        subtract: impl Fn(&K, V, A) -> Result<A, E> + Send + Sync + 'static,
    ) -> KTable<K, A> {
        self.try_aggregate_or_delete(
            store,
            init,
            move |key, value, sum| add(key, value, sum).map(Some),
            move |key, value, sum| subtract(key, value, sum).map(Some),
        )
    }

    /// As [`GroupedTable::aggregate_or_delete`], with functions that may fail; as [`GroupedTable::try_reduce`].
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let grouped = b.table::<String, i64>("in", "rows").group_by("all", |_, n| ("all".to_owned(), n));
    /// let add = |_: &String, n: i64, sum: i64| sum.checked_add(n).map(Some).ok_or("too much");
    /// let subtract = |_: &String, n, sum: i64| sum.checked_sub(n).map(|sum| Some(sum).filter(|sum| *sum != 0)).ok_or("too little");
    /// grouped.try_aggregate_or_delete("sum", || 0, add, subtract).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, Option<i64>>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// [("a", Some(i64::MAX)), ("b", Some(1)), ("a", None)].into_iter().for_each(|(key, n)| input.pipe(key, n));
    /// assert_eq!(out.read(), [kv("all", Some(i64::MAX)), kv("all", None)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_aggregate_or_delete<A: Data<NonNull = A>, E: Into<BoxError>>(
        &self,
        store: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, A) -> Result<Option<A>, E> + Send + Sync + 'static,
        subtract: impl Fn(&K, V, A) -> Result<Option<A>, E> + Send + Sync + 'static,
    ) -> KTable<K, A> {
        let add = move |key: &K, value, sum: Option<A>| add(key, value, sum.unwrap_or_else(&init)).map_err(Error::user);
        self.fold(store, add, move |key, value, sum| subtract(key, value, sum).map_err(Error::user))
    }

    fn fold<A: Data<NonNull = A>, E: Failure + 'static>(
        &self,
        store: &str,
        add: impl Fn(&K, V, Option<A>) -> Result<Option<A>, E> + Send + Sync + 'static,
        subtract: impl Fn(&K, V, A) -> Result<Option<A>, E> + Send + Sync + 'static,
    ) -> KTable<K, A> {
        let changes = &self.changes;
        let id = Stored::<K, A>::add(&changes.builder, store);
        let node = changes.builder.node("KTABLE-AGGREGATE", &[changes.node], &[id]);
        let port = changes.builder.port();
        let old_values = OldValues::stored();
        let (out, wanted, name, functions) =
            (port.clone(), old_values.clone(), Arc::<str>::from(store), Arc::new((add, subtract)));
        changes.port.subscribe(move |task| {
            let down = task.open(&out);
            Box::new(TableAggregate {
                node,
                rows: Stored::open(task, id, &name),
                functions: functions.clone(),
                send_old: wanted.wanted(),
                down,
            })
        });
        KTable {
            builder: changes.builder.clone(),
            node,
            port,
            sources: changes.sources.clone(),
            stores: vec![id],
            own: Some(OwnStore::KeyValue(id)),
            rows: Stored::rows(id, store),
            old_values,
            nature: Nature::default(),
        }
    }
}

struct TableAggregate<K: Data, A: Data, F> {
    node: NodeId,
    rows: Stored<K, A>,
    functions: Arc<F>,
    send_old: bool,
    down: Downstream<Record<K, Change<A>>>,
}

impl<K, V, A, E, Add, Subtract> Forward<Record<K, Change<V>>> for TableAggregate<K, A, (Add, Subtract)>
where
    K: Data,
    A: Data,
    E: Failure,
    Add: Fn(&K, V, Option<A>) -> Result<Option<A>, E>,
    Subtract: Fn(&K, V, A) -> Result<Option<A>, E>,
{
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, Change<V>>) -> Result<()> {
        let Record { key, value: change, timestamp, headers } = record;
        let (add, subtract) = (&self.functions.0, &self.functions.1);
        let send_old = self.send_old;
        let changed = self.rows.change(&key, |entry: &mut Entry<A>| {
            let old = if send_old { entry.value.clone() } else { None };
            let time = if entry.value.is_some() { timestamp.max(entry.timestamp) } else { timestamp };
            // What fails leaves the row as it was.
            let kept = if E::POSSIBLE { entry.value.clone() } else { None };
            let step = |mut sum: Option<A>| {
                if let Some(value) = change.old {
                    sum = sum.map_or(Ok(None), |sum| subtract(&key, value, sum))?;
                }
                match change.new {
                    Some(value) => add(&key, value, sum),
                    None => Ok(sum),
                }
            };
            let sum = step(entry.value.take()).inspect_err(|_| entry.value = kept)?;
            *entry = Entry { value: sum.clone(), timestamp: time };
            Ok((Change { old, new: sum }, time))
        })?;
        match changed {
            Ok((value, timestamp)) => self.down.forward(cx, Record { key, value, timestamp, headers }),
            Err(error) => cx.failed(self.node, E::into(error)),
        }
    }
}
