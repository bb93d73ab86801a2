//! `transform_values` of a table: another value of every row, by hand and with stores.

use std::cell::Cell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{Change, Data, Downstream, Forward, NodeId, Record, Result, TaskContext, Timestamp};
use millstream_state::Entry;

use crate::failure::row_or_none;
use crate::ktable::{KTable, Nature, OldValues, OwnStore};
use crate::operators::RecordContext;
use crate::processor::Stores;
use crate::stored::Stored;

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> KTable<K, V> {
    /// Makes another value of every row with a function that may hold stores; it is called for deletions too, with `None`,
    /// and deletes the row by returning `None`. If it fails, `processing.exception.handler` decides; a row that is left out is no
    /// row (semantics.md 76). `make` makes the function of one task; it is also called once while the
    /// program is built, to learn its stores. The rows are kept in the store `store`.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// // How often each row was set, counted in a store of its own.
    /// let times = b.store::<String, i64>("times");
    /// b.table::<String, i64>("in", "rows")
    ///     .transform_values("counted", move |setup| {
    ///         let times = setup.store(times);
    ///         move |key: &String, _: Option<i64>| times.update(key, |n| { *n = Some(n.unwrap_or(0) + 1); *n })
    ///     })
    ///     .to_stream()
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// [5, 6].into_iter().for_each(|n| input.pipe("a", n));
    /// assert_eq!(out.read(), [kv("a", 1), kv("a", 2)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn transform_values<V2: Data<NonNull = V2>, F>(
        &self,
        store: &str,
        make: impl Fn(&mut Stores<'_>) -> F + Send + Sync + 'static,
    ) -> KTable<K, V2>
    where
        F: FnMut(&K, Option<V>) -> Result<Option<V2>> + 'static,
    {
        self.transform_values_with_context(store, move |setup| {
            let mut f = make(setup);
            move |key: &K, value, _: &RecordContext<'_>| f(key, value)
        })
    }

    /// As [`KTable::transform_values`], with a function that is also told where the change came from, its time and its headers. The
    /// row that it makes is made anew by the next change alone, whatever the context has become by then.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// // When each row was set last.
    /// b.table::<String, i64>("in", "rows")
    ///     .transform_values_with_context("set", |_| {
    ///         |_: &String, n: Option<i64>, context| Ok(n.map(|_| context.timestamp))
    ///     })
    ///     .to_stream()
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// [7, 9].into_iter().for_each(|time| input.pipe_at(time, "a", 5));
    /// assert_eq!(out.read(), [kv("a", 7), kv("a", 9)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn transform_values_with_context<V2: Data<NonNull = V2>, F>(
        &self,
        store: &str,
        make: impl Fn(&mut Stores<'_>) -> F + Send + Sync + 'static,
    ) -> KTable<K, V2>
    where
        F: FnMut(&K, Option<V>, &RecordContext<'_>) -> Result<Option<V2>> + 'static,
    {
        let builder = &self.builder;
        let id = Stored::<K, V2>::add(builder, store);
        let (asked, _) = Stores::asked(builder, |mut stores| make(&mut stores));
        let stores: Vec<_> = asked.iter().copied().chain([id]).collect();
        let node = builder.node("KTABLE-TRANSFORMVALUES", &[self.node], &stores);
        builder.asks(node, &asked);
        let port = builder.port();
        let old_values = OldValues::stored();
        let (out, wanted, name, graph) = (port.clone(), old_values.clone(), Arc::<str>::from(store), builder.clone());
        self.port.subscribe(move |task| {
            let down = task.open(&out);
            let now = Rc::new(Cell::new(0));
            let f = Stores::of_task(task, &graph, &now, |mut stores| make(&mut stores));
            let rows = Stored::<K, V2>::open(task, id, &name);
            let send_old = wanted.wanted();
            Box::new(TransformValues { node, f, now, rows, send_old, down, values: PhantomData::<fn(V)> })
        });
        KTable {
            builder: builder.clone(),
            node,
            port,
            sources: self.sources.clone(),
            stores: vec![id],
            own: Some(OwnStore::KeyValue(id)),
            rows: Stored::rows(id, store),
            old_values,
            nature: Nature::default(),
        }
    }
}

struct TransformValues<K: Data, V, V2: Data, F> {
    node: NodeId,
    f: F,
    now: Rc<Cell<Timestamp>>,
    rows: Stored<K, V2>,
    send_old: bool,
    down: Downstream<Record<K, Change<V2>>>,
    values: PhantomData<fn(V)>,
}

impl<K, V, V2, F> Forward<Record<K, Change<V>>> for TransformValues<K, V, V2, F>
where
    K: Data,
    V2: Data,
    F: FnMut(&K, Option<V>, &RecordContext<'_>) -> Result<Option<V2>>,
{
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, Change<V>>) -> Result<()> {
        let Record { key, value: change, timestamp, headers } = record;
        self.now.set(timestamp);
        let made = (self.f)(&key, change.new, &RecordContext { source: cx.source(), timestamp, headers: &headers });
        let failed = made.is_err();
        let new = row_or_none(cx, self.node, made)?;
        let old = self.rows.change(&key, |entry| std::mem::replace(entry, Entry { value: new.clone(), timestamp }))?;
        if failed && old.value.is_none() {
            return Ok(());
        }
        let old = old.value.filter(|_| self.send_old);
        self.down.forward(cx, Record { key, value: Change { old, new }, timestamp, headers })
    }
}
