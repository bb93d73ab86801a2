//! `emit_on_commit`: of several changes of a row between two commits only the last is passed on (DESIGN 3.12).

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{
    Change, Data, Downstream, Forward, Half, Headers, Lifecycle, Record, Result, Serde, SerdeContext, TaskContext,
    unencodable,
};

use crate::ktable::{KTable, OldValues};

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> KTable<K, V> {
    /// Passes a row's changes on with the next commit, and only the last: with the old value of the first and the time
    /// and headers of the last, in the order in which rows first changed. The table is the same, the stream is shorter.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::Record;
    /// # let b = StreamsBuilder::new();
    /// b.table::<String, i64>("in", "rows").emit_on_commit().to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, Option<i64>>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// for n in [5, 6, 7] {
    ///     input.enqueue(Record::new("a".to_owned(), Some(n), 0))?;
    /// }
    /// t.run()?; // one commit
    /// assert_eq!(out.read(), [kv("a", 7)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn emit_on_commit(&self) -> KTable<K, V> {
        let node = self.builder.node("KTABLE-EMITONCOMMIT", &[self.node], &[]);
        let port = self.builder.port();
        let old_values = OldValues::derived(&[&self.old_values]);
        let (out, id) = (port.clone(), node);
        self.port.subscribe(move |task| {
            let down = task.open(&out);
            let pending =
                Pending { serde: K::Serde::default(), places: HashMap::new(), rows: Vec::new(), key: Vec::new(), down };
            let node = Rc::new(RefCell::new(pending));
            task.lifecycle(id, node.clone());
            Box::new(EmitOnCommit(node))
        });
        let (builder, sources, stores) = (self.builder.clone(), Arc::clone(&self.sources), self.stores.clone());
        KTable { builder, node, port, sources, stores, rows: self.rows.clone(), old_values, nature: self.nature }
    }
}

/// The rows changed since the last commit. Nothing of it outlives one: a rollback builds it anew, empty.
struct Pending<K: Data, V> {
    serde: K::Serde,
    places: HashMap<Vec<u8>, usize>,
    rows: Vec<Record<K, Change<V>>>,
    key: Vec<u8>,
    down: Downstream<Record<K, Change<V>>>,
}

struct EmitOnCommit<K: Data, V>(Rc<RefCell<Pending<K, V>>>);

impl<K: Data, V: Data> Forward<Record<K, Change<V>>> for EmitOnCommit<K, V> {
    fn forward(&mut self, _: &mut TaskContext, mut record: Record<K, Change<V>>) -> Result<()> {
        let pending = &mut *self.0.borrow_mut();
        pending.key.clear();
        let cx = SerdeContext { topic: "emit on commit", half: Half::Key };
        let encoded = pending.serde.serialize(&record.key, cx, &mut Headers::new(), &mut pending.key);
        let _never_null = encoded.map_err(|e| unencodable("emit on commit", Half::Key, e))?;
        match pending.places.get(&pending.key) {
            Some(place) => {
                let row = &mut pending.rows[*place];
                record.value.old = row.value.old.take();
                *row = record;
            }
            None => {
                pending.places.insert(pending.key.clone(), pending.rows.len());
                pending.rows.push(record);
            }
        }
        Ok(())
    }
}

impl<K: Data, V: Data> Lifecycle for Pending<K, V> {
    fn on_commit(&mut self, cx: &mut TaskContext) -> Result<()> {
        self.places.clear();
        self.rows.drain(..).try_for_each(|row| self.down.forward(cx, row))
    }
}
