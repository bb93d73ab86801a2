//! Table-table joins: inner, left, outer (semantics.md 31).

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;

use millstream_core::{Change, Data, Downstream, Forward, Port, Record, Result, TaskBuilder, TaskContext, Timestamp};

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
        self.join_tables(other, needs, move |left: Option<&V>, right: Option<&W>| Some(f(left?, right?)))
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
        self.join_tables(other, needs, move |left: Option<&V>, right: Option<&W>| Some(f(left?, right)))
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
            (left.is_some() || right.is_some()).then(|| f(left, right))
        })
    }

    fn join_tables<W: Data<NonNull = W>, O: Data<NonNull = O>>(
        &self,
        other: &KTable<K, W>,
        needs: Needs,
        f: impl Fn(Option<&V>, Option<&W>) -> Option<O> + Send + Sync + 'static,
    ) -> KTable<K, O> {
        let builder = &self.builder;
        let stores: BTreeSet<_> = self.stores.iter().chain(&other.stores).copied().collect();
        let stores: Vec<_> = stores.into_iter().collect();
        let node = builder.node("KTABLE-JOIN", &[self.node, other.node], &stores);
        // A deletion is passed on only where there was a result: the old row tells.
        if !needs.right {
            self.old_values.ask();
        }
        if !needs.left {
            other.old_values.ask();
        }
        let port: Port<Record<K, Change<O>>> = builder.port();
        let old_values = OldValues::derived(&[&self.old_values, &other.old_values]);
        let f = Arc::new(f);
        let (join, there) = (f.clone(), other.rows.clone());
        let side = JoinedSide {
            out: port.clone(),
            wanted: old_values.clone(),
            needs_other: needs.right,
            versioned: self.nature.versioned,
        };
        side.subscribe(&self.port, there, move |this: Option<&V>, other: Option<&W>| join(this, other));
        let (join, there) = (f.clone(), self.rows.clone());
        let side = JoinedSide {
            out: port.clone(),
            wanted: old_values.clone(),
            needs_other: needs.left,
            versioned: other.nature.versioned,
        };
        side.subscribe(&other.port, there, move |this: Option<&W>, other: Option<&V>| join(other, this));

        let (left, right) = (self.rows.clone(), other.rows.clone());
        let rows = Arc::new(move |task: &mut TaskBuilder<'_>| -> Box<dyn LookUp<K, O>> {
            Box::new(JoinedRows { left: left(task), right: right(task), f: f.clone(), types: PhantomData })
        });
        let sources: BTreeSet<_> = self.sources.union(&other.sources).copied().collect();
        builder.copartition("a join of tables", sources.clone());
        // The result of versioned tables is not versioned itself (KIP-914).
        let nature = Nature { grace: self.nature.grace.max(other.nature.grace), versioned: false };
        KTable { builder: builder.clone(), node, port, sources: Arc::new(sources), stores, rows, old_values, nature }
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
    out: Port<Record<K, Change<O>>>,
    wanted: OldValues,
    needs_other: bool,
    /// Changes of this side that are out of order are left out (KIP-914).
    versioned: bool,
}

impl<K: Data<NonNull = K>, O: Data<NonNull = O>> JoinedSide<K, O> {
    fn subscribe<T: Data<NonNull = T>, U: Data<NonNull = U>>(
        self,
        from: &Port<Record<K, Change<T>>>,
        there: Rows<K, U>,
        f: impl Fn(Option<&T>, Option<&U>) -> Option<O> + Send + Sync + 'static,
    ) {
        let f = Arc::new(f);
        from.subscribe(move |task| {
            let down = task.open_shared(&self.out);
            Box::new(TableJoin {
                other: there(task),
                needs_other: self.needs_other,
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
    other: Box<dyn LookUp<K, U>>,
    needs_other: bool,
    versioned: bool,
    send_old: bool,
    f: Arc<F>,
    down: Downstream<Record<K, Change<O>>>,
    this: PhantomData<fn(T)>,
}

impl<K, T, U, O, F> Forward<Record<K, Change<T>>> for TableJoin<K, T, U, O, F>
where
    K: Data,
    O: Clone,
    F: Fn(Option<&T>, Option<&U>) -> Option<O>,
{
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, Change<T>>) -> Result<()> {
        if self.versioned && cx.is_out_of_order() {
            cx.drop_record();
            return Ok(());
        }
        let Record { key, value: change, timestamp, headers } = record;
        let (other, timestamp) = match self.other.get(&key) {
            Some((other, time)) => (Some(other), timestamp.max(time)),
            None if self.needs_other || (change.old.is_none() && change.new.is_none()) => return Ok(()),
            None => (None, timestamp),
        };
        let join = |this: Option<&T>| (self.f)(this, other.as_ref());
        let new = join(change.new.as_ref());
        let old = if self.send_old { join(change.old.as_ref()) } else { None };
        self.down.forward(cx, Record { key, value: Change { old, new }, timestamp, headers })
    }
}

struct JoinedRows<K, T, U, F> {
    left: Box<dyn LookUp<K, T>>,
    right: Box<dyn LookUp<K, U>>,
    f: Arc<F>,
    types: PhantomData<fn(K)>,
}

impl<K, T, U, O, F: Fn(Option<&T>, Option<&U>) -> Option<O>> LookUp<K, O> for JoinedRows<K, T, U, F> {
    fn get(&self, key: &K) -> Option<(O, Timestamp)> {
        let (left, right) = (self.left.get(key), self.right.get(key));
        let time = [left.as_ref().map(|l| l.1), right.as_ref().map(|r| r.1)].into_iter().flatten().max()?;
        Some(((self.f)(left.as_ref().map(|l| &l.0), right.as_ref().map(|r| &r.0))?, time))
    }
}
