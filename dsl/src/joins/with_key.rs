//! Joins of streams whose functions see the key too: Kafka Streams' `ValueJoinerWithKey` (KIP-149). The key is to be read; what
//! comes out keeps it.

use millstream_core::{Data, Error};

use crate::failure::{BoxError, sure};
use crate::joins::joined::Joined;
use crate::joins::stream_global::GlobalKTable;
use crate::joins::stream_joined::StreamJoined;
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

    /// As [`KStream::join_with_key`], with a function that may fail; as [`KStream::try_join`].
    ///
    /// ```
    /// # use millstream_dsl::{JoinWindows, MIN, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let (left, right) = (b.stream::<String, String>("left"), b.stream::<String, i64>("right"));
    /// let sum = |key: &String, l: &String, r: &i64| l.parse::<i64>().map(|l| format!("{key}: {}", l + r));
    /// left.try_join_with_key("sums", &right, JoinWindows::of(MIN), sum).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let left = t.input::<String, String>("left")?;
    /// # let right = t.input::<String, i64>("right")?;
    /// # let out = t.output::<String, String>("out")?;
    /// right.pipe_at(0, "a", 10);
    /// ["1", "one", "3"].into_iter().for_each(|text| left.pipe_at(0, "a", text));
    /// assert_eq!(out.read(), [kv("a", "a: 11"), kv("a", "a: 13")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_join_with_key<W: Data, O: Clone + 'static, E: Into<BoxError>>(
        &self,
        name: &str,
        other: &KStream<K, W>,
        windows: impl Into<StreamJoined<K, V, W>>,
        f: impl Fn(&K::NonNull, &V::NonNull, &W::NonNull) -> Result<O, E> + Send + Sync + 'static,
    ) -> KStream<K::NonNull, O> {
        let join =
            move |key: &K::NonNull, left: &V::NonNull, right: &W::NonNull| f(key, left, right).map_err(Error::user);
        self.inner_join(name, other, windows.into(), join)
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

    /// As [`KStream::left_join_with_key`], with a function that may fail; as [`KStream::try_join`].
    ///
    /// ```
    /// # use millstream_dsl::{JoinWindows, MIN, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let (left, right) = (b.stream::<String, String>("left"), b.stream::<String, i64>("right"));
    /// let sum = |key: &String, l: &String, r: Option<&i64>| l.parse::<i64>().map(|l| format!("{key}: {}", l + r.unwrap_or(&0)));
    /// left.try_left_join_with_key("sums", &right, JoinWindows::of(MIN), sum).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let left = t.input::<String, String>("left")?;
    /// # let right = t.input::<String, i64>("right")?;
    /// # let out = t.output::<String, String>("out")?;
    /// right.pipe_at(0, "a", 10);
    /// ["1", "one", "3"].into_iter().for_each(|text| left.pipe_at(0, "a", text));
    /// assert_eq!(out.read(), [kv("a", "a: 11"), kv("a", "a: 13")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_left_join_with_key<W: Data, O: Clone + 'static, E: Into<BoxError>>(
        &self,
        name: &str,
        other: &KStream<K, W>,
        windows: impl Into<StreamJoined<K, V, W>>,
        f: impl Fn(&K, &V::NonNull, Option<&W::NonNull>) -> Result<O, E> + Send + Sync + 'static,
    ) -> KStream<K, O> {
        let join =
            move |key: &K, left: &V::NonNull, right: Option<&W::NonNull>| f(key, left, right).map_err(Error::user);
        self.join_left(name, other, windows.into(), join)
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

    /// As [`KStream::outer_join_with_key`], with a function that may fail; as [`KStream::try_join`].
    ///
    /// ```
    /// # use millstream_dsl::{JoinWindows, MIN, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let (left, right) = (b.stream::<String, String>("left"), b.stream::<String, i64>("right"));
    /// let parsed = |l: Option<&String>| l.map_or(Ok(0), |l| l.parse::<i64>());
    /// let sum = move |key: &String, l: Option<&String>, r: Option<&i64>| parsed(l).map(|l| format!("{key}: {l} {r:?}"));
    /// left.try_outer_join_with_key("sums", &right, JoinWindows::of(MIN), sum).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let left = t.input::<String, String>("left")?;
    /// # let right = t.input::<String, i64>("right")?;
    /// # let out = t.output::<String, String>("out")?;
    /// right.pipe_at(0, "a", 10);
    /// ["1", "one", "3"].into_iter().for_each(|text| left.pipe_at(0, "a", text));
    /// assert_eq!(out.read(), [kv("a", "a: 1 Some(10)"), kv("a", "a: 3 Some(10)")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_outer_join_with_key<W: Data, O: Clone + 'static, E: Into<BoxError>>(
        &self,
        name: &str,
        other: &KStream<K, W>,
        windows: impl Into<StreamJoined<K, V, W>>,
        f: impl Fn(&K, Option<&V::NonNull>, Option<&W::NonNull>) -> Result<O, E> + Send + Sync + 'static,
    ) -> KStream<K, O> {
        let join = move |key: &K, left: Option<&V::NonNull>, right: Option<&W::NonNull>| {
            f(key, left, right).map_err(Error::user)
        };
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
        joined: impl Into<Joined>,
        table: &KTable<K::NonNull, T>,
        f: impl Fn(&K::NonNull, &V::NonNull, &T) -> R + Send + Sync + 'static,
    ) -> KStream<K::NonNull, R> {
        self.inner_table_join(joined.into(), table, move |key: &K::NonNull, value: &V::NonNull, row: &T| {
            sure(f(key, value, row))
        })
    }

    /// As [`KStream::join_table_with_key`], with a function that may fail.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let limits = b.table::<String, i64>("limits", "limits");
    /// let limited = |key: &String, text: &String, limit: &i64| text.parse::<i64>().map(|n| format!("{key}: {}", n.min(*limit)));
    /// b.stream::<String, String>("in").try_join_table_with_key("limited", &limits, limited).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let limits = t.input::<String, i64>("limits")?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, String>("out")?;
    /// limits.pipe("a", 2);
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(out.read(), [kv("a", "a: 1"), kv("a", "a: 2")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_join_table_with_key<T: Data<NonNull = T>, R: Clone + 'static, E: Into<BoxError>>(
        &self,
        joined: impl Into<Joined>,
        table: &KTable<K::NonNull, T>,
        f: impl Fn(&K::NonNull, &V::NonNull, &T) -> Result<R, E> + Send + Sync + 'static,
    ) -> KStream<K::NonNull, R> {
        let f = move |key: &K::NonNull, value: &V::NonNull, row: &T| f(key, value, row).map_err(Error::user);
        self.inner_table_join(joined.into(), table, f)
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
        joined: impl Into<Joined>,
        table: &KTable<K::NonNull, T>,
        f: impl Fn(&K, &V::NonNull, Option<&T>) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        self.left_table_join(joined.into(), table, move |key: &K, value: &V::NonNull, row: Option<&T>| {
            sure(f(key, value, row))
        })
    }

    /// As [`KStream::left_join_table_with_key`], with a function that may fail.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let limits = b.table::<String, i64>("limits", "limits");
    /// let limited = |key: &String, text: &String, limit: Option<&i64>| text.parse::<i64>().map(|n| format!("{key}: {n} of {limit:?}"));
    /// b.stream::<String, String>("in").try_left_join_table_with_key("limited", &limits, limited).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let limits = t.input::<String, i64>("limits")?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, String>("out")?;
    /// limits.pipe("a", 2);
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(out.read(), [kv("a", "a: 1 of Some(2)"), kv("a", "a: 3 of Some(2)")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_left_join_table_with_key<T: Data<NonNull = T>, R: Clone + 'static, E: Into<BoxError>>(
        &self,
        joined: impl Into<Joined>,
        table: &KTable<K::NonNull, T>,
        f: impl Fn(&K, &V::NonNull, Option<&T>) -> Result<R, E> + Send + Sync + 'static,
    ) -> KStream<K, R> {
        let f = move |key: &K, value: &V::NonNull, row: Option<&T>| f(key, value, row).map_err(Error::user);
        self.left_table_join(joined.into(), table, f)
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

    /// As [`KStream::join_global_with_key`], with functions that may fail.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let towns = b.global_table::<i64, String>("towns", "towns");
    /// let zip = |_: &String, zip: &String| zip.parse::<i64>().map(Some);
    /// b.stream::<String, String>("in").try_join_global_with_key(&towns, zip, |name, _, town| Ok(format!("{name}, {town}"))).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let towns = t.input::<i64, String>("towns")?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, String>("out")?;
    /// towns.pipe(150, "Oslo");
    /// ["150", "?"].into_iter().for_each(|zip| input.pipe("ann", zip));
    /// assert_eq!(out.read(), [kv("ann", "ann, Oslo")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_join_global_with_key<
        G: Data<NonNull = G>,
        T: Data<NonNull = T>,
        R: Clone + 'static,
        E: Into<BoxError>,
    >(
        &self,
        table: &GlobalKTable<G, T>,
        key: impl Fn(&K, &V) -> Result<Option<G>, E> + Send + Sync + 'static,
        f: impl Fn(&K, &V::NonNull, &T) -> Result<R, E> + Send + Sync + 'static,
    ) -> KStream<K, R> {
        let find = move |k: &K, v: &V| key(k, v).map_err(Error::user);
        let join = move |k: &K, value: &V::NonNull, row: Option<&T>| row.map(|row| f(k, value, row)).transpose();
        self.global_join(table, find, move |k, value, row| join(k, value, row).map_err(Error::user))
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

    /// As [`KStream::left_join_global_with_key`], with functions that may fail.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let towns = b.global_table::<i64, String>("towns", "towns");
    /// let zip = |_: &String, zip: &String| zip.parse::<i64>().map(Some);
    /// b.stream::<String, String>("in").try_left_join_global_with_key(&towns, zip, |name, _, town| Ok(format!("{name}, {town:?}"))).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let towns = t.input::<i64, String>("towns")?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, String>("out")?;
    /// towns.pipe(150, "Oslo");
    /// ["150", "?"].into_iter().for_each(|zip| input.pipe("ann", zip));
    /// assert_eq!(out.read(), [kv("ann", "ann, Some(\"Oslo\")")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_left_join_global_with_key<
        G: Data<NonNull = G>,
        T: Data<NonNull = T>,
        R: Clone + 'static,
        E: Into<BoxError>,
    >(
        &self,
        table: &GlobalKTable<G, T>,
        key: impl Fn(&K, &V) -> Result<Option<G>, E> + Send + Sync + 'static,
        f: impl Fn(&K, &V::NonNull, Option<&T>) -> Result<R, E> + Send + Sync + 'static,
    ) -> KStream<K, R> {
        let find = move |k: &K, v: &V| key(k, v).map_err(Error::user);
        self.global_join(table, find, move |k, value, row| f(k, value, row).map(Some).map_err(Error::user))
    }
}
