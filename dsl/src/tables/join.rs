//! Table-table joins: inner, left, outer (semantics.md 31).

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;

use millstream_core::{
    Change, Data, Downstream, Error, Forward, NodeId, Port, Record, Result, TaskBuilder, TaskContext, Timestamp,
};

use crate::failure::{BoxError, Failure, row_or_none, sure};
use crate::ktable::{KTable, LookUp, Nature, OldValues, Rows};

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> KTable<K, V> {
    /// The table of the keys that both tables have a row for. A row's time is the later of both.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let (left, right) = (b.table::<String, i64>("left", "left"), b.table::<String, i64>("right", "right"));
    /// left.join(&right, |l, r| l + r).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let left = t.input::<String, Option<i64>>("left")?;
    /// # let right = t.input::<String, i64>("right")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// left.pipe("a", 1);
    /// right.pipe("a", 10);
    /// left.pipe("a", None);
    /// assert_eq!(out.read(), [kv("a", Some(11)), kv("a", None)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn join<W: Data<NonNull = W>, O: Data<NonNull = O>>(
        &self,
        other: &KTable<K, W>,
        f: impl Fn(&V, &W) -> O + Send + Sync + 'static,
    ) -> KTable<K, O> {
        let needs = Needs { left: true, right: true };
        self.join_tables(other, needs, move |left: Option<&V>, right: Option<&W>| {
            sure(left.zip(right).map(|(left, right)| f(left, right)))
        })
    }

    /// As [`KTable::join`], with a function that may fail: `processing.exception.handler` decides then. A result that
    /// is left out is no row: what was passed on before is deleted (semantics.md 76).
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let (left, right) = (b.table::<String, String>("left", "left"), b.table::<String, i64>("right", "right"));
    /// left.try_join(&right, |l, r| l.parse::<i64>().map(|l| l + r)).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let left = t.input::<String, String>("left")?;
    /// # let right = t.input::<String, i64>("right")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// right.pipe("a", 10);
    /// ["1", "one", "3"].into_iter().for_each(|text| left.pipe("a", text));
    /// assert_eq!(out.read(), [kv("a", Some(11)), kv("a", None), kv("a", Some(13))]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_join<W: Data<NonNull = W>, O: Data<NonNull = O>, E: Into<BoxError>>(
        &self,
        other: &KTable<K, W>,
        f: impl Fn(&V, &W) -> Result<O, E> + Send + Sync + 'static,
    ) -> KTable<K, O> {
        let needs = Needs { left: true, right: true };
        self.join_tables(other, needs, move |left: Option<&V>, right: Option<&W>| {
            left.zip(right).map(|(left, right)| f(left, right)).transpose().map_err(Error::user)
        })
    }

    /// The table of this table's keys, with the other's rows where there are some.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let (left, right) = (b.table::<String, i64>("left", "left"), b.table::<String, i64>("right", "right"));
    /// left.left_join(&right, |l, r| l + r.unwrap_or(&0)).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let left = t.input::<String, Option<i64>>("left")?;
    /// # let right = t.input::<String, i64>("right")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// left.pipe("a", 1);
    /// right.pipe("a", 10);
    /// right.pipe("b", 10);
    /// assert_eq!(out.read(), [kv("a", 1), kv("a", 11)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn left_join<W: Data<NonNull = W>, O: Data<NonNull = O>>(
        &self,
        other: &KTable<K, W>,
        f: impl Fn(&V, Option<&W>) -> O + Send + Sync + 'static,
    ) -> KTable<K, O> {
        let needs = Needs { left: true, right: false };
        self.join_tables(other, needs, move |left: Option<&V>, right: Option<&W>| sure(left.map(|left| f(left, right))))
    }

    /// As [`KTable::left_join`], with a function that may fail.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let (left, right) = (b.table::<String, String>("left", "left"), b.table::<String, i64>("right", "right"));
    /// left.try_left_join(&right, |l, r| l.parse::<i64>().map(|l| l + r.unwrap_or(&0))).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let left = t.input::<String, String>("left")?;
    /// # let right = t.input::<String, i64>("right")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// ["1", "one", "3"].into_iter().for_each(|text| left.pipe("a", text));
    /// assert_eq!(out.read(), [kv("a", Some(1)), kv("a", None), kv("a", Some(3))]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_left_join<W: Data<NonNull = W>, O: Data<NonNull = O>, E: Into<BoxError>>(
        &self,
        other: &KTable<K, W>,
        f: impl Fn(&V, Option<&W>) -> Result<O, E> + Send + Sync + 'static,
    ) -> KTable<K, O> {
        let needs = Needs { left: true, right: false };
        self.join_tables(other, needs, move |left: Option<&V>, right: Option<&W>| {
            left.map(|left| f(left, right)).transpose().map_err(Error::user)
        })
    }

    /// The table of the keys that either table has a row for.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let (left, right) = (b.table::<String, i64>("left", "left"), b.table::<String, i64>("right", "right"));
    /// left.outer_join(&right, |l, r| l.unwrap_or(&0) + r.unwrap_or(&0)).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let left = t.input::<String, Option<i64>>("left")?;
    /// # let right = t.input::<String, i64>("right")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// left.pipe("a", 1);
    /// right.pipe("a", 10);
    /// right.pipe("b", 10);
    /// assert_eq!(out.read(), [kv("a", 1), kv("a", 11), kv("b", 10)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn outer_join<W: Data<NonNull = W>, O: Data<NonNull = O>>(
        &self,
        other: &KTable<K, W>,
        f: impl Fn(Option<&V>, Option<&W>) -> O + Send + Sync + 'static,
    ) -> KTable<K, O> {
        let needs = Needs { left: false, right: false };
        self.join_tables(other, needs, move |left: Option<&V>, right: Option<&W>| {
            sure((left.is_some() || right.is_some()).then(|| f(left, right)))
        })
    }

    /// As [`KTable::outer_join`], with a function that may fail.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let (left, right) = (b.table::<String, String>("left", "left"), b.table::<String, i64>("right", "right"));
    /// left.try_outer_join(&right, |l, _| l.map_or(Ok(0), |l| l.parse::<i64>())).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let left = t.input::<String, String>("left")?;
    /// # let right = t.input::<String, i64>("right")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// right.pipe("a", 10);
    /// ["1", "one", "3"].into_iter().for_each(|text| left.pipe("a", text));
    /// assert_eq!(out.read(), [kv("a", Some(0)), kv("a", Some(1)), kv("a", None), kv("a", Some(3))]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_outer_join<W: Data<NonNull = W>, O: Data<NonNull = O>, E: Into<BoxError>>(
        &self,
        other: &KTable<K, W>,
        f: impl Fn(Option<&V>, Option<&W>) -> Result<O, E> + Send + Sync + 'static,
    ) -> KTable<K, O> {
        let needs = Needs { left: false, right: false };
        self.join_tables(other, needs, move |left: Option<&V>, right: Option<&W>| {
            (left.is_some() || right.is_some()).then(|| f(left, right)).transpose().map_err(Error::user)
        })
    }

    fn join_tables<W: Data<NonNull = W>, O: Data<NonNull = O>, E: Failure + 'static>(
        &self,
        other: &KTable<K, W>,
        needs: Needs,
        f: impl Fn(Option<&V>, Option<&W>) -> Result<Option<O>, E> + Send + Sync + 'static,
    ) -> KTable<K, O> {
        let builder = &self.builder;
        builder.same_program(&other.builder, "a join of tables");
        let stores: BTreeSet<_> = self.stores.iter().chain(&other.stores).copied().collect();
        let stores: Vec<_> = stores.into_iter().collect();
        let node = builder.looking_node("KTABLE-JOIN", &[self.node, other.node], &stores);
        builder.warn_of_rows_on_both_sides([self.node, other.node], &stores);
        // A deletion is passed on only where there was a result: the old row tells.
        let left_knows_old = (E::POSSIBLE || !needs.right) && self.old_values.ask();
        let right_knows_old = (E::POSSIBLE || !needs.left) && other.old_values.ask();
        let port: Port<Record<K, Change<O>>> = builder.port();
        let old_values = OldValues::derived(&[&self.old_values, &other.old_values]);
        let f = Arc::new(f);
        let (join, there) = (f.clone(), other.rows.clone());
        let side = JoinedSide {
            node,
            out: port.clone(),
            wanted: old_values.clone(),
            needs_other: needs.right,
            knows_old: left_knows_old,
            versioned: self.nature.is_versioned(),
        };
        side.subscribe(&self.port, there, move |this: Option<&V>, other: Option<&W>| join(this, other));
        let (join, there) = (f.clone(), self.rows.clone());
        let side = JoinedSide {
            node,
            out: port.clone(),
            wanted: old_values.clone(),
            needs_other: needs.left,
            knows_old: right_knows_old,
            versioned: other.nature.is_versioned(),
        };
        side.subscribe(&other.port, there, move |this: Option<&W>, other: Option<&V>| join(other, this));

        let (left, right) = (self.rows.clone(), other.rows.clone());
        let rows = Arc::new(move |task: &mut TaskBuilder<'_>| -> Box<dyn LookUp<K, O>> {
            Box::new(JoinedRows { left: left(task), right: right(task), f: f.clone(), types: PhantomData })
        });
        let sources: BTreeSet<_> = self.sources.union(&other.sources).copied().collect();
        builder.copartition("a join of tables", sources.clone());
        // The result of versioned tables is not versioned itself (KIP-914).
        let ahead = self.nature.ahead || other.nature.ahead;
        if ahead {
            builder.warn_of_rows_ahead();
        }
        let nature = Nature { history: None, ahead };
        let sources = Arc::new(sources);
        KTable { builder: builder.clone(), node, port, sources, stores, own: None, rows, old_values, nature }
    }
}

/// Which sides must have a row.
#[derive(Clone, Copy)]
struct Needs {
    left: bool,
    right: bool,
}

/// One side of a join under construction.
struct JoinedSide<K, O> {
    node: NodeId,
    out: Port<Record<K, Change<O>>>,
    wanted: OldValues,
    needs_other: bool,
    knows_old: bool,
    /// Changes of this side that are out of order are left out (KIP-914).
    versioned: bool,
}

impl<K: Data<NonNull = K>, O: Data<NonNull = O>> JoinedSide<K, O> {
    fn subscribe<T: Data<NonNull = T>, U: Data<NonNull = U>, E: Failure + 'static>(
        self,
        from: &Port<Record<K, Change<T>>>,
        there: Rows<K, U>,
        f: impl Fn(Option<&T>, Option<&U>) -> Result<Option<O>, E> + Send + Sync + 'static,
    ) {
        let f = Arc::new(f);
        from.subscribe(move |task| {
            let down = task.open_shared(&self.out);
            Box::new(TableJoin {
                node: self.node,
                other: there(task),
                needs_other: self.needs_other,
                knows_old: self.knows_old,
                versioned: self.versioned,
                send_old: self.wanted.wanted(),
                f: f.clone(),
                down,
                this: PhantomData::<fn(T)>,
            })
        });
    }
}

struct TableJoin<K, T, U, O, F> {
    node: NodeId,
    other: Box<dyn LookUp<K, U>>,
    needs_other: bool,
    knows_old: bool,
    versioned: bool,
    send_old: bool,
    f: Arc<F>,
    down: Downstream<Record<K, Change<O>>>,
    this: PhantomData<fn(T)>,
}

impl<K, T, U, O, E, F> Forward<Record<K, Change<T>>> for TableJoin<K, T, U, O, F>
where
    K: Data,
    O: Clone,
    E: Failure,
    F: Fn(Option<&T>, Option<&U>) -> Result<Option<O>, E>,
{
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, Change<T>>) -> Result<()> {
        if self.versioned && cx.is_out_of_order() {
            cx.drop_record();
            return Ok(());
        }
        let Record { key, value: change, timestamp, headers } = record;
        let found = match self.other.get(&key) {
            Ok(found) => found,
            Err(error) => return cx.failed(self.node, error),
        };
        let (other, timestamp) = match found {
            Some((other, time)) => (Some(other), timestamp.max(time)),
            None if self.needs_other || (change.old.is_none() && change.new.is_none()) => return Ok(()),
            None => (None, timestamp),
        };
        let join = |this: Option<&T>| (self.f)(this, other.as_ref());
        let new = join(change.new.as_ref());
        // To know whether anything was passed on, the old row is asked too.
        let old = if self.send_old || (E::POSSIBLE && !matches!(new, Ok(Some(_)))) {
            join(change.old.as_ref())
        } else {
            Ok(None)
        };
        let failed = new.is_err() || old.is_err();
        let new = row_or_none(cx, self.node, new)?;
        let old = old.ok().flatten();
        if failed && self.knows_old && new.is_none() && old.is_none() {
            return Ok(());
        }
        let value = Change { old: old.filter(|_| self.send_old), new };
        self.down.forward(cx, Record { key, value, timestamp, headers })
    }
}

struct JoinedRows<K, T, U, F> {
    left: Box<dyn LookUp<K, T>>,
    right: Box<dyn LookUp<K, U>>,
    f: Arc<F>,
    types: PhantomData<fn(K)>,
}

impl<K, T, U, O, E, F> LookUp<K, O> for JoinedRows<K, T, U, F>
where
    E: Failure,
    F: Fn(Option<&T>, Option<&U>) -> Result<Option<O>, E>,
{
    fn get(&self, key: &K) -> Result<Option<(O, Timestamp)>> {
        let (left, right) = (self.left.get(key)?, self.right.get(key)?);
        let time = left.as_ref().map(|l| l.1).max(right.as_ref().map(|r| r.1));
        let joined = (self.f)(left.as_ref().map(|l| &l.0), right.as_ref().map(|r| &r.0));
        Ok(joined.ok().flatten().zip(time))
    }
}
