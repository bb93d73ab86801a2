//! Stream-table join: every stream record meets the row that its key has now, or had at the record's time if the table has
//! a history (semantics.md 32).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{Data, Downstream, Error, Forward, NodeId, Record, Result, TaskContext};

use crate::durations::Least;
use crate::failure::{BoxError, Failure, sure};
use crate::joins::grace_join::{GraceBuffer, GraceJoin, add_store};
use crate::joins::joined::Joined;
use crate::kstream::KStream;
use crate::ktable::{KTable, LookUp};

impl<K: Data, V: Data> KStream<K, V> {
    /// Joins every record with its key's row; records without a row, a key or a value are left out. `joined` is a name,
    /// which the repartition topic has, should the key have changed, or a [`Joined`].
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let tiers = b.table::<String, String>("tiers", "tiers");
    /// b.stream::<String, i64>("orders").join_table("by-customer", &tiers, |n, tier| format!("{n} {tier}")).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let orders = t.input::<String, i64>("orders")?;
    /// # let tiers = t.input::<String, String>("tiers")?;
    /// # let out = t.output::<String, String>("out")?;
    /// tiers.pipe("ann", "gold");
    /// orders.pipe("ann", 5);
    /// orders.pipe("bob", 5);
    /// assert_eq!(out.read(), [kv("ann", "5 gold")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn join_table<T: Data<NonNull = T>, R: Clone + 'static>(
        &self,
        joined: impl Into<Joined>,
        table: &KTable<K::NonNull, T>,
        f: impl Fn(&V::NonNull, &T) -> R + Send + Sync + 'static,
    ) -> KStream<K::NonNull, R> {
        self.inner_table_join(joined.into(), table, move |_: &K::NonNull, v: &V::NonNull, row: &T| sure(f(v, row)))
    }

    /// As [`KStream::join_table`], with a function that may fail: `processing.exception.handler` decides then.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let limits = b.table::<String, i64>("limits", "limits");
    /// let texts = b.stream::<String, String>("in");
    /// texts.try_join_table("limited", &limits, |text, limit| text.parse::<i64>().map(|n| n.min(*limit))).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let limits = t.input::<String, i64>("limits")?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// limits.pipe("a", 2);
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(out.read(), [kv("a", 1), kv("a", 2)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_join_table<T: Data<NonNull = T>, R: Clone + 'static, E: Into<BoxError>>(
        &self,
        joined: impl Into<Joined>,
        table: &KTable<K::NonNull, T>,
        f: impl Fn(&V::NonNull, &T) -> Result<R, E> + Send + Sync + 'static,
    ) -> KStream<K::NonNull, R> {
        let f = move |_: &K::NonNull, v: &V::NonNull, row: &T| f(v, row).map_err(Error::user);
        self.inner_table_join(joined.into(), table, f)
    }

    /// Joins every record with its key's row, or with none. Records without a value are left out; without a key they
    /// meet no row.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let tiers = b.table::<String, String>("tiers", "tiers");
    /// b.stream::<String, i64>("orders").left_join_table("by-customer", &tiers, |n, tier| format!("{n} {tier:?}")).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let orders = t.input::<String, i64>("orders")?;
    /// # let tiers = t.input::<String, String>("tiers")?;
    /// # let out = t.output::<String, String>("out")?;
    /// orders.pipe("ann", 5);
    /// tiers.pipe("ann", "gold"); // joins no order that went by
    /// assert_eq!(out.read(), [kv("ann", "5 None")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn left_join_table<T: Data<NonNull = T>, R: Clone + 'static>(
        &self,
        joined: impl Into<Joined>,
        table: &KTable<K::NonNull, T>,
        f: impl Fn(&V::NonNull, Option<&T>) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        self.left_table_join(joined.into(), table, move |_: &K, v: &V::NonNull, row: Option<&T>| sure(f(v, row)))
    }

    /// As [`KStream::left_join_table`], with a function that may fail.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let limits = b.table::<String, i64>("limits", "limits");
    /// let texts = b.stream::<String, String>("in");
    /// let limited = |text: &String, limit: Option<&i64>| text.parse().map(|n: i64| limit.map_or(n, |limit| n.min(*limit)));
    /// texts.try_left_join_table("limited", &limits, limited).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(out.read(), [kv("a", 1), kv("a", 3)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_left_join_table<T: Data<NonNull = T>, R: Clone + 'static, E: Into<BoxError>>(
        &self,
        joined: impl Into<Joined>,
        table: &KTable<K::NonNull, T>,
        f: impl Fn(&V::NonNull, Option<&T>) -> Result<R, E> + Send + Sync + 'static,
    ) -> KStream<K, R> {
        let f = move |_: &K, v: &V::NonNull, row: Option<&T>| f(v, row).map_err(Error::user);
        self.left_table_join(joined.into(), table, f)
    }

    /// Of the records that have a row.
    pub(super) fn inner_table_join<T: Data<NonNull = T>, R: Clone + 'static, E: Failure + 'static>(
        &self,
        joined: Joined,
        table: &KTable<K::NonNull, T>,
        f: impl Fn(&K::NonNull, &V::NonNull, &T) -> Result<R, E> + Send + Sync + 'static,
    ) -> KStream<K::NonNull, R> {
        self.keyed(&joined.name).table_join(joined, table, K::into_non_null, inner(f))
    }

    /// Of all records.
    pub(super) fn left_table_join<T: Data<NonNull = T>, R: Clone + 'static, E: Failure + 'static>(
        &self,
        joined: Joined,
        table: &KTable<K::NonNull, T>,
        f: impl Fn(&K, &V::NonNull, Option<&T>) -> Result<R, E> + Send + Sync + 'static,
    ) -> KStream<K, R> {
        self.repartitioned(&joined.name).table_join(joined, table, Some, left(f))
    }

    /// Repartitions if the key may have changed; an inner side needs no null keys there (semantics.md 10).
    pub(crate) fn keyed(&self, name: &str) -> KStream<K, V> {
        if self.key_changed {
            let with_key = || self.filter(|key, _| key.as_non_null().is_some());
            self.shared("with a key", with_key).repartitioned(name)
        } else {
            self.clone()
        }
    }

    fn table_join<T: Data<NonNull = T>, K2: Clone + 'static, R: Clone + 'static, E: Failure + 'static>(
        &self,
        Joined { name, grace }: Joined,
        table: &KTable<K::NonNull, T>,
        key: fn(K) -> Option<K2>,
        f: impl Fn(&K, &V::NonNull, Option<&T>) -> Outcome<R, E> + Send + Sync + 'static,
    ) -> KStream<K2, R> {
        self.builder.same_program(&table.builder, &format!("join `{name}`"));
        let grace = grace.map(|grace| self.builder.millis(&format!("join `{name}`"), "a grace", grace, Least::Zero));
        if let (Some(grace), Some(history)) = (grace, table.nature.history)
            && history < grace
        {
            // Of a record that has waited so long the table would not know the row any more.
            self.builder.problem(format!(
                "join `{name}` waits for {grace} ms, and its table keeps a history of {history} ms\n  help: a history of the grace at least"
            ));
        }
        if grace.is_some() && !table.nature.is_versioned() {
            self.builder.problem(format!(
                "join `{name}` has a grace, and its table no history\n  help: make it with .versioned_table(…) or .to_versioned_table(…)"
            ));
        }
        let buffer: Arc<str> = format!("{name}-buffer").into();
        let waits = grace.map(|grace| (add_store::<K, V>(&self.builder, &buffer), grace));
        let stores: Vec<_> = table.stores.iter().copied().chain(waits.map(|(id, _)| id)).collect();
        let node = self.builder.looking_node("KSTREAM-JOIN", &[self.node], &stores);
        waits.iter().for_each(|(id, _)| self.builder.make(*id, self.node));
        let port = self.builder.port();
        let (out, rows, f) = (port.clone(), table.rows.clone(), Arc::new(f));
        self.port.subscribe(move |task| {
            let down = task.open(&out);
            let join = TableJoin { node, rows: rows(task), key, f: f.clone(), down };
            let Some((id, grace)) = waits else { return Box::new(join) };
            let waiting = Rc::new(RefCell::new(GraceBuffer::open(task, id, &buffer, grace, join)));
            task.lifecycle(node, waiting.clone());
            Box::new(GraceJoin(waiting))
        });
        let sources: BTreeSet<_> = self.sources.union(&table.sources).copied().collect();
        self.builder.copartition(&format!("join `{name}`"), sources.clone());
        KStream { builder: self.builder.clone(), node, port, key_changed: false, sources: Arc::new(sources) }
    }
}

/// The value of a result; `None` leaves the record out.
type Outcome<R, E> = Result<Option<R>, E>;

/// Records without a key or a row are left out.
fn inner<K: Data, L, T, R, E>(
    f: impl Fn(&K::NonNull, &L, &T) -> Result<R, E>,
) -> impl Fn(&K, &L, Option<&T>) -> Outcome<R, E> {
    move |key, value, row| {
        let (Some(key), Some(row)) = (key.as_non_null(), row) else { return Ok(None) };
        f(key, value, row).map(Some)
    }
}

/// All records are joined.
fn left<K, L, T, R, E>(f: impl Fn(&K, &L, Option<&T>) -> Result<R, E>) -> impl Fn(&K, &L, Option<&T>) -> Outcome<R, E> {
    move |key, value, row| f(key, value, row).map(Some)
}

struct TableJoin<K: Data, T, F, K2, R> {
    node: NodeId,
    rows: Box<dyn LookUp<K::NonNull, T>>,
    /// The key of a result.
    key: fn(K) -> Option<K2>,
    f: Arc<F>,
    down: Downstream<Record<K2, R>>,
}

impl<K, V, T, E, F, K2, R> Forward<Record<K, V>> for TableJoin<K, T, F, K2, R>
where
    K: Data,
    V: Data,
    K2: Clone,
    R: Clone,
    E: Failure,
    F: Fn(&K, &V::NonNull, Option<&T>) -> Outcome<R, E>,
{
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let Some(value) = value.as_non_null() else {
            cx.drop_record();
            return Ok(());
        };
        let (f, mut joined) = (&self.f, Ok(None));
        let mut join = |row: Option<&T>| joined = f(&key, value, row);
        let shown = match key.as_non_null() {
            Some(key) => self.rows.show_as_of(key, timestamp, &mut join),
            None => {
                join(None);
                Ok(())
            }
        };
        match shown.and_then(|()| joined.map_err(E::into)) {
            Ok(Some(value)) => {
                let Some(key) = (self.key)(key) else { return Ok(()) };
                self.down.forward(cx, Record { key, value, timestamp, headers })
            }
            Ok(None) => {
                if key.as_non_null().is_none() {
                    cx.drop_record();
                }
                Ok(())
            }
            Err(error) => cx.failed(self.node, error),
        }
    }
}
