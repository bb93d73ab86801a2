//! `global_table`, and joins with it: rows of every partition, on every thread, looked up by any key (semantics.md 33).

use std::sync::Arc;

use bytes::Bytes;
use millstream_core::{
    Data, Downstream, Error, Forward, NodeId, Record, Result, Serde, StoreId, TaskContext, TimestampExtractor,
};
use millstream_state::Entry;

use crate::builder::{IntoTopics, StreamsBuilder};
use crate::consumed::Consumed;
use crate::failure::{BoxError, Failure, sure};
use crate::kstream::KStream;
use crate::ktable::{LookUp, Rows};
use crate::row_serde::RowSerde;
use crate::stored::Stored;

/// A table that every thread holds whole: read to its end before the first record is processed, and kept up afterwards.
pub struct GlobalKTable<K, V> {
    pub(crate) store: StoreId,
    rows: Rows<K, V>,
}

impl<K, V> Clone for GlobalKTable<K, V> {
    fn clone(&self) -> Self {
        GlobalKTable { store: self.store, rows: self.rows.clone() }
    }
}

impl StreamsBuilder {
    /// A global table of a topic, in the store `store`.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let towns = b.global_table::<String, i64>("towns", "towns");
    /// b.stream::<String, String>("orders").join_global(&towns, |_, town| Some(town.clone()), |_, zip| *zip).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let orders = t.input::<String, String>("orders")?;
    /// # let towns = t.input::<String, i64>("towns")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// towns.pipe("Oslo", 150);
    /// orders.pipe("ann", "Oslo");
    /// assert_eq!(out.read(), [kv("ann", 150)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn global_table<K: Data<NonNull = K>, V: Data<NonNull = V>>(
        &self,
        topic: &str,
        store: &str,
    ) -> GlobalKTable<K, V> {
        self.global_table_with(topic, store, Consumed::of::<K, V>())
    }

    /// A global table with serdes or event time of its topic's own; its store has the serdes of the types. It is always read
    /// from the start and has no part in stream time, so a reset policy or idleness is refused.
    ///
    /// ```
    /// # use millstream_dsl::{Consumed, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{NumberSerde, StringSerde};
    /// # let b = StreamsBuilder::new();
    /// let towns = b.global_table_with("towns", "towns", Consumed::with(StringSerde, NumberSerde::<i64>::default()));
    /// b.stream::<String, String>("orders").join_global(&towns, |_, town| Some(town.clone()), |_, zip| *zip).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let orders = t.input::<String, String>("orders")?;
    /// # let towns = t.input::<String, i64>("towns")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// towns.pipe("Oslo", 150);
    /// orders.pipe("ann", "Oslo");
    /// assert_eq!(out.read(), [kv("ann", 150)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn global_table_with<KS, VS, X>(
        &self,
        topic: &str,
        store: &str,
        consumed: Consumed<KS, VS, X>,
    ) -> GlobalKTable<KS::Value, VS::Value>
    where
        KS: RowSerde,
        VS: RowSerde,
        X: TimestampExtractor<Option<KS::Value>, Option<VS::Value>>,
    {
        self.no_start_of_globals("table", store, &consumed);
        let id = Stored::<KS::Value, VS::Value>::add_global(self, store);
        let port = self.port();
        let source = self.source_node(topic.into_topics(), consumed.nullable(), &port, true);
        self.node("KTABLE-SOURCE", &[source], &[id]);
        let name = Arc::<str>::from(store);
        port.subscribe(move |task| {
            Box::new(GlobalRows { rows: Stored::<KS::Value, VS::Value>::open(task, id, &name) })
        });
        GlobalKTable { store: id, rows: Stored::rows(id, store) }
    }
}

struct GlobalRows<K: Data, V: Data> {
    rows: Stored<K, V>,
}

impl<K: Data, V: Data> Forward<Record<Option<K>, Option<V>>> for GlobalRows<K, V> {
    fn forward(&mut self, cx: &mut TaskContext, record: Record<Option<K>, Option<V>>) -> Result<()> {
        let Record { key, mut value, timestamp, .. } = record;
        if let Some(value) = &mut value {
            V::Serde::default().detach(value, &mut Bytes::copy_from_slice);
        }
        match key {
            Some(key) => self.rows.change(&key, |entry| *entry = Entry { value, timestamp }),
            None => {
                cx.drop_record();
                Ok(())
            }
        }
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Joins every record with the row of the key that `key` finds for it; records that find none are left out.
    /// `key` is called for null values too.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let towns = b.global_table::<String, i64>("towns", "towns");
    /// b.stream::<String, String>("orders").join_global(&towns, |_, town| Some(town.clone()), |_, zip| *zip).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let orders = t.input::<String, String>("orders")?;
    /// # let towns = t.input::<String, i64>("towns")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// towns.pipe("Oslo", 150);
    /// orders.pipe("ann", "Oslo");
    /// orders.pipe("bob", "Atlantis");
    /// assert_eq!(out.read(), [kv("ann", 150)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn join_global<G: Data<NonNull = G>, T: Data<NonNull = T>, R: Clone + 'static>(
        &self,
        table: &GlobalKTable<G, T>,
        key: impl Fn(&K, &V) -> Option<G> + Send + Sync + 'static,
        f: impl Fn(&V::NonNull, &T) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        let key = move |k: &K, v: &V| sure(key(k, v));
        self.global_join(table, key, move |_, value, row| sure(row.map(|row| f(value, row))))
    }

    /// As [`KStream::join_global`], with functions that may fail: `processing.exception.handler` decides then.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let towns = b.global_table::<i64, String>("towns", "towns"); // by zip code
    /// let orders = b.stream::<String, String>("in");
    /// let zip = |_: &String, zip: &String| zip.parse::<i64>().map(Some);
    /// orders.try_join_global(&towns, zip, |_, town| Ok(town.clone())).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let towns = t.input::<i64, String>("towns")?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, String>("out")?;
    /// towns.pipe(150, "Oslo");
    /// ["150", "?"].into_iter().for_each(|zip| input.pipe("ann", zip));
    /// assert_eq!(out.read(), [kv("ann", "Oslo")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_join_global<G: Data<NonNull = G>, T: Data<NonNull = T>, R: Clone + 'static, E: Into<BoxError>>(
        &self,
        table: &GlobalKTable<G, T>,
        key: impl Fn(&K, &V) -> Result<Option<G>, E> + Send + Sync + 'static,
        f: impl Fn(&V::NonNull, &T) -> Result<R, E> + Send + Sync + 'static,
    ) -> KStream<K, R> {
        let key = move |k: &K, v: &V| key(k, v).map_err(Error::user);
        self.global_join(table, key, move |_, value, row| row.map(|row| f(value, row)).transpose().map_err(Error::user))
    }

    /// Joins every record with the row of the key that `key` finds for it, or with none.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let towns = b.global_table::<String, i64>("towns", "towns");
    /// b.stream::<String, String>("orders")
    ///     .left_join_global(&towns, |_, town| Some(town.clone()), |town, zip| format!("{town} {zip:?}"))
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let orders = t.input::<String, String>("orders")?;
    /// # let out = t.output::<String, String>("out")?;
    /// orders.pipe("bob", "Atlantis");
    /// assert_eq!(out.read(), [kv("bob", "Atlantis None")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn left_join_global<G: Data<NonNull = G>, T: Data<NonNull = T>, R: Clone + 'static>(
        &self,
        table: &GlobalKTable<G, T>,
        key: impl Fn(&K, &V) -> Option<G> + Send + Sync + 'static,
        f: impl Fn(&V::NonNull, Option<&T>) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        let key = move |k: &K, v: &V| sure(key(k, v));
        self.global_join(table, key, move |_, value, row| sure(Some(f(value, row))))
    }

    /// As [`KStream::left_join_global`], with functions that may fail.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let towns = b.global_table::<i64, String>("towns", "towns"); // by zip code
    /// let orders = b.stream::<String, String>("in");
    /// let zip = |_: &String, zip: &String| zip.parse::<i64>().map(Some);
    /// orders.try_left_join_global(&towns, zip, |_, town| Ok(format!("{town:?}"))).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let towns = t.input::<i64, String>("towns")?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, String>("out")?;
    /// ["150", "?"].into_iter().for_each(|zip| input.pipe("ann", zip));
    /// assert_eq!(out.read(), [kv("ann", "None")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_left_join_global<G: Data<NonNull = G>, T: Data<NonNull = T>, R: Clone + 'static, E: Into<BoxError>>(
        &self,
        table: &GlobalKTable<G, T>,
        key: impl Fn(&K, &V) -> Result<Option<G>, E> + Send + Sync + 'static,
        f: impl Fn(&V::NonNull, Option<&T>) -> Result<R, E> + Send + Sync + 'static,
    ) -> KStream<K, R> {
        let key = move |k: &K, v: &V| key(k, v).map_err(Error::user);
        self.global_join(table, key, move |_, value, row| f(value, row).map(Some).map_err(Error::user))
    }

    pub(super) fn global_join<G: Data<NonNull = G>, T: Data<NonNull = T>, R: Clone + 'static, E: Failure + 'static>(
        &self,
        table: &GlobalKTable<G, T>,
        key: impl Fn(&K, &V) -> Result<Option<G>, E> + Send + Sync + 'static,
        f: impl Fn(&K, &V::NonNull, Option<&T>) -> Result<Option<R>, E> + Send + Sync + 'static,
    ) -> KStream<K, R> {
        let node = self.builder.looking_node("KSTREAM-GLOBALJOIN", &[self.node], &[table.store]);
        let port = self.builder.port();
        let (out, rows, functions) = (port.clone(), table.rows.clone(), Arc::new((key, f)));
        self.port.subscribe(move |task| {
            let down = task.open(&out);
            Box::new(GlobalJoin { node, rows: rows(task), functions: functions.clone(), down })
        });
        KStream {
            builder: self.builder.clone(),
            node,
            port,
            key_changed: self.key_changed,
            sources: self.sources.clone(),
        }
    }
}

struct GlobalJoin<K, G, T, F, R> {
    node: NodeId,
    rows: Box<dyn LookUp<G, T>>,
    functions: Arc<F>,
    down: Downstream<Record<K, R>>,
}

impl<K, V, G, T, R, E, Key, F> Forward<Record<K, V>> for GlobalJoin<K, G, T, (Key, F), R>
where
    K: Data,
    V: Data,
    R: Clone,
    E: Failure,
    Key: Fn(&K, &V) -> Result<Option<G>, E>,
    F: Fn(&K, &V::NonNull, Option<&T>) -> Result<Option<R>, E>,
{
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let (key_of, f) = (&self.functions.0, &self.functions.1);
        let found = match key_of(&record.key, &record.value) {
            Ok(found) => found,
            Err(error) => return cx.failed(self.node, error.into()),
        };
        let Some(value) = record.value.as_non_null() else {
            cx.drop_record();
            return Ok(());
        };
        let row = found.as_ref().map_or(Ok(None), |key| self.rows.get(key))?.map(|(row, _)| row);
        match f(&record.key, value, row.as_ref()) {
            Ok(Some(joined)) => self.down.forward(cx, record.with_value(joined)),
            Err(error) => cx.failed(self.node, error.into()),
            Ok(None) => {
                if found.is_none() {
                    cx.drop_record();
                }
                Ok(())
            }
        }
    }
}
