//! `emit_on_commit`: of several changes of a row between two commits only the last is passed on (DESIGN 3.12).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use millstream_core::{
    Change, Data, Downstream, Forward, Lifecycle, NO_TIME, NodeId, Record, Result, TaskBuilder, TaskContext, Timestamp,
};

use super::pending::Pending;
use crate::keys::Keys;
use crate::ktable::{KTable, LookUp, OldValues, Rows};

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> KTable<K, V> {
    /// Passes a row's changes on with the next commit, and only the last: with the old value of the first and the time
    /// and headers of the last, in the order in which rows first changed. The table is the same, the stream is shorter; a
    /// join with another table meets a row as it was passed on last, and until the commit gives the result the other row's time. What is out of order in a table with a history is left
    /// out, and counted as dropped: it is not the last.
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
        // Who looks into the table is given the rows as they were passed on.
        self.old_values.ask();
        let node = self.builder.node("KTABLE-EMITONCOMMIT", &[self.node], &[]);
        self.builder.holds_back(node);
        let port = self.builder.port();
        let old_values = OldValues::derived(&[&self.old_values]);
        let (out, id, versioned, wanted) = (port.clone(), node, self.nature.is_versioned(), old_values.clone());
        self.port.subscribe(move |task| {
            let down = task.open(&out);
            let pending = open::<K, V>(task, id);
            let emitter = Emitter { pending: pending.clone(), send_old: wanted.wanted(), down };
            task.lifecycle(id, Rc::new(RefCell::new(emitter)));
            Box::new(EmitOnCommit { pending, keys: keys(), versioned })
        });
        let above = self.rows.clone();
        let rows: Rows<K, V> = Arc::new(move |task| {
            let pending = open::<K, V>(task, node);
            Box::new(EmittedRows { above: above(task), pending, keys: keys() })
        });
        let (builder, sources, stores) = (self.builder.clone(), Arc::clone(&self.sources), self.stores.clone());
        KTable { builder, node, port, sources, stores, own: None, rows, old_values, nature: self.nature }
    }
}

fn keys<K: Data>() -> Keys<K> {
    Keys::new(&Arc::from("emit on commit"))
}

fn open<K: Data, V: Data>(task: &mut TaskBuilder<'_>, node: NodeId) -> Rc<RefCell<Pending<K, V>>> {
    task.shared(node, || RefCell::new(Pending::new()))
}

/// Holds changes back.
struct EmitOnCommit<K: Data, V> {
    pending: Rc<RefCell<Pending<K, V>>>,
    keys: Keys<K>,
    /// Changes that are out of order are left out (KIP-914).
    versioned: bool,
}

impl<K: Data, V: Data> Forward<Record<K, Change<V>>> for EmitOnCommit<K, V> {
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, Change<V>>) -> Result<()> {
        if self.versioned && cx.is_out_of_order() {
            cx.drop_record();
            return Ok(());
        }
        let key = self.keys.encode(&record.key)?;
        self.pending.borrow_mut().change(&key, record);
        Ok(())
    }
}

/// Passes them on.
struct Emitter<K: Data, V: Data> {
    pending: Rc<RefCell<Pending<K, V>>>,
    send_old: bool,
    down: Downstream<Record<K, Change<V>>>,
}

impl<K: Data, V: Data> Emitter<K, V> {
    fn emit(&mut self, cx: &mut TaskContext) -> Result<()> {
        let rows = self.pending.borrow_mut().len();
        for place in 0..rows {
            // What is below may look into this very table.
            let Some(mut row) = self.pending.borrow_mut().take(place) else { continue };
            row.value.old = row.value.old.filter(|_| self.send_old);
            self.down.forward(cx, row)?;
        }
        self.pending.borrow_mut().clear();
        Ok(())
    }
}

impl<K: Data, V: Data> Lifecycle for Emitter<K, V> {
    fn on_commit(&mut self, cx: &mut TaskContext) -> Result<()> {
        self.emit(cx)
    }

    /// What the end has let go above reaches what ends below.
    fn on_end(&mut self, cx: &mut TaskContext) -> Result<()> {
        self.emit(cx)
    }
}

/// The rows as they were passed on; with a history, or for a stream, which is not subtracted again, as they are.
struct EmittedRows<K: Data, V> {
    above: Box<dyn LookUp<K, V>>,
    pending: Rc<RefCell<Pending<K, V>>>,
    keys: Keys<K>,
}

impl<K: Data, V: Data> LookUp<K, V> for EmittedRows<K, V> {
    fn get(&self, key: &K) -> Result<Option<(V, Timestamp)>> {
        let bytes = self.keys.encode(key)?;
        match self.pending.borrow_mut().row(&bytes) {
            Some(row) => Ok(row.value.old.clone().map(|old| (old, NO_TIME))),
            None => self.above.get(key),
        }
    }

    fn get_as_of(&self, key: &K, time: Timestamp) -> Result<Option<(V, Timestamp)>> {
        self.above.get_as_of(key, time)
    }
}
