//! Joins of streams whose functions see the key too: Kafka Streams' `ValueJoinerWithKey` (KIP-149). The key is to be read; what
//! comes out keeps it.

use millstream_core::Data;

use crate::failure::sure;
use crate::joins::stream_global::GlobalKTable;
use crate::joins::stream_joined::StreamJoined;
use crate::joins::stream_table::{inner, left};
use crate::kstream::KStream;
use crate::ktable::KTable;

impl<K: Data, V: Data> KStream<K, V> {
    /// As [`KStream::join`], with a function that sees the key too.
    ///
    /// ```
    /// # use millstream_dsl::{JoinWindows, MIN, StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let (orders, payments) = (b.stream::<String, String>("orders"), b.stream::<String, String>("payments"));
    /// let receipt = |order: &String, what: &String, how: &String| format!("{order}: {what}, {how}");
    /// orders.join_with_key("paid", &payments, JoinWindows::of(10 * MIN), receipt).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let orders = t.input::<String, String>("orders")?;
    /// # let payments = t.input::<String, String>("payments")?;
    /// # let out = t.output::<String, String>("out")?;
    /// orders.pipe("o1", "hat");
    /// payments.pipe("o1", "cash");
    /// assert_eq!(out.read(), [kv("o1", "o1: hat, cash")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn join_with_key<W: Data, O: Clone + 'static>(
        &self,
        name: &str,
        other: &KStream<K, W>,
        windows: impl Into<StreamJoined<K, V, W>>,
        f: impl Fn(&K::NonNull, &V::NonNull, &W::NonNull) -> O + Send + Sync + 'static,
    ) -> KStream<K::NonNull, O> {
        self.inner_join(name, other, windows.into(), move |key: &K::NonNull, left: &V::NonNull, right: &W::NonNull| {
            sure(f(key, left, right))
        })
    }

    /// As [`KStream::left_join`], with a function that sees the key too, which may be null if `K` has null.
    ///
    /// ```
    /// # use millstream_dsl::{JoinWindows, MIN, StreamsBuilder, TopologyTestDriver};
    /// # let b = StreamsBuilder::new();
    /// let (orders, payments) = (b.stream::<Option<String>, String>("orders"), b.stream::<_, String>("payments"));
    /// let receipt = |order: &Option<String>, what: &String, how: Option<&String>| format!("{order:?}: {what}, {how:?}");
    /// orders.left_join_with_key("paid", &payments, JoinWindows::of(10 * MIN), receipt).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let orders = t.input::<Option<String>, String>("orders")?;
    /// # let out = t.output::<Option<String>, String>("out")?;
    /// orders.pipe(None, "hat");
    /// assert_eq!(out.read(), [(None, "None: hat, None".to_owned())]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn left_join_with_key<W: Data, O: Clone + 'static>(
        &self,
        name: &str,
        other: &KStream<K, W>,
        windows: impl Into<StreamJoined<K, V, W>>,
        f: impl Fn(&K, &V::NonNull, Option<&W::NonNull>) -> O + Send + Sync + 'static,
    ) -> KStream<K, O> {
        self.join_left(name, other, windows.into(), move |key: &K, left: &V::NonNull, right: Option<&W::NonNull>| {
            sure(f(key, left, right))
        })
    }

    /// As [`KStream::outer_join`], with a function that sees the key too, which may be null if `K` has null.
    ///
    /// ```
    /// # use millstream_dsl::{JoinWindows, MIN, StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let (orders, payments) = (b.stream::<String, String>("orders"), b.stream::<String, String>("payments"));
    /// orders
    ///     .outer_join_with_key("paid", &payments, JoinWindows::of(MIN), |order, what, how| format!("{order} {what:?} {how:?}"))
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let orders = t.input::<String, String>("orders")?;
    /// # let payments = t.input::<String, String>("payments")?;
    /// # let out = t.output::<String, String>("out")?;
    /// payments.pipe_at(0, "o1", "cash");
    /// orders.pipe_at(60_001, "o2", "bag");
    /// assert_eq!(out.read(), [kv("o1", "o1 None Some(\"cash\")")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn outer_join_with_key<W: Data, O: Clone + 'static>(
        &self,
        name: &str,
        other: &KStream<K, W>,
        windows: impl Into<StreamJoined<K, V, W>>,
        f: impl Fn(&K, Option<&V::NonNull>, Option<&W::NonNull>) -> O + Send + Sync + 'static,
    ) -> KStream<K, O> {
        let join = move |key: &K, left: Option<&V::NonNull>, right: Option<&W::NonNull>| sure(f(key, left, right));
        self.join_both(name, other, windows.into(), join)
    }

    /// As [`KStream::join_table`], with a function that sees the key too.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let tiers = b.table::<String, String>("tiers", "tiers");
    /// let orders = b.stream::<String, i64>("orders");
    /// orders.join_table_with_key("by-customer", &tiers, |name, n, tier| format!("{name} {n} {tier}")).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let orders = t.input::<String, i64>("orders")?;
    /// # let tiers = t.input::<String, String>("tiers")?;
    /// # let out = t.output::<String, String>("out")?;
    /// tiers.pipe("ann", "gold");
    /// orders.pipe("ann", 5);
    /// assert_eq!(out.read(), [kv("ann", "ann 5 gold")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn join_table_with_key<T: Data<NonNull = T>, R: Clone + 'static>(
        &self,
        name: &str,
        table: &KTable<K::NonNull, T>,
        f: impl Fn(&K::NonNull, &V::NonNull, &T) -> R + Send + Sync + 'static,
    ) -> KStream<K::NonNull, R> {
        let join = inner(move |key: &K::NonNull, value: &V::NonNull, row: &T| sure(f(key, value, row)));
        self.keyed(name).table_join(name, table, None, K::into_non_null, join)
    }

    /// As [`KStream::left_join_table`], with a function that sees the key too, which may be null if `K` has null.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let tiers = b.table::<String, String>("tiers", "tiers");
    /// let orders = b.stream::<String, i64>("orders");
    /// orders.left_join_table_with_key("by-customer", &tiers, |name, n, tier| format!("{name} {n} {tier:?}")).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let orders = t.input::<String, i64>("orders")?;
    /// # let out = t.output::<String, String>("out")?;
    /// orders.pipe("ann", 5);
    /// assert_eq!(out.read(), [kv("ann", "ann 5 None")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn left_join_table_with_key<T: Data<NonNull = T>, R: Clone + 'static>(
        &self,
        name: &str,
        table: &KTable<K::NonNull, T>,
        f: impl Fn(&K, &V::NonNull, Option<&T>) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        let join = left(move |key: &K, value: &V::NonNull, row: Option<&T>| sure(f(key, value, row)));
        self.repartitioned(name).table_join(name, table, None, Some, join)
    }

    /// As [`KStream::join_global`], with a function that sees the stream's key too, which may be null if `K` has null.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let towns = b.global_table::<String, i64>("towns", "towns");
    /// let orders = b.stream::<String, String>("orders");
    /// let town = |_: &String, town: &String| Some(town.clone());
    /// orders.join_global_with_key(&towns, town, |name, town, zip| format!("{name}, {zip} {town}")).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let orders = t.input::<String, String>("orders")?;
    /// # let towns = t.input::<String, i64>("towns")?;
    /// # let out = t.output::<String, String>("out")?;
    /// towns.pipe("Oslo", 150);
    /// orders.pipe("ann", "Oslo");
    /// assert_eq!(out.read(), [kv("ann", "ann, 150 Oslo")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn join_global_with_key<G: Data<NonNull = G>, T: Data<NonNull = T>, R: Clone + 'static>(
        &self,
        table: &GlobalKTable<G, T>,
        key: impl Fn(&K, &V) -> Option<G> + Send + Sync + 'static,
        f: impl Fn(&K, &V::NonNull, &T) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        let find = move |k: &K, v: &V| sure(key(k, v));
        self.global_join(table, find, move |key, value, row| sure(row.map(|row| f(key, value, row))))
    }

    /// As [`KStream::left_join_global`], with a function that sees the stream's key too, which may be null if `K` has null.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let towns = b.global_table::<String, i64>("towns", "towns");
    /// let orders = b.stream::<String, String>("orders");
    /// let town = |_: &String, town: &String| Some(town.clone());
    /// orders.left_join_global_with_key(&towns, town, |name, town, zip| format!("{name}, {zip:?} {town}")).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let orders = t.input::<String, String>("orders")?;
    /// # let out = t.output::<String, String>("out")?;
    /// orders.pipe("bob", "Atlantis");
    /// assert_eq!(out.read(), [kv("bob", "bob, None Atlantis")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn left_join_global_with_key<G: Data<NonNull = G>, T: Data<NonNull = T>, R: Clone + 'static>(
        &self,
        table: &GlobalKTable<G, T>,
        key: impl Fn(&K, &V) -> Option<G> + Send + Sync + 'static,
        f: impl Fn(&K, &V::NonNull, Option<&T>) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        let find = move |k: &K, v: &V| sure(key(k, v));
        self.global_join(table, find, move |key, value, row| sure(Some(f(key, value, row))))
    }
}
