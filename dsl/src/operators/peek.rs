//! `peek`, `foreach`, `print`: look at every record.

use std::sync::Arc;

use millstream_core::{Downstream, Forward, Record, Result, TaskContext};

use crate::kstream::KStream;

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Calls `f` for every record and passes the record on.
    pub fn peek(&self, f: impl Fn(&K, &V) + Send + Sync + 'static) -> KStream<K, V> {
        let f = Arc::new(f);
        self.add("KSTREAM-PEEK", false, move |down| Peek { f: f.clone(), down })
    }

    /// Calls `f` for every record: an end of the stream. After a failure records come again.
    pub fn foreach(&self, f: impl Fn(&K, &V) + Send + Sync + 'static) {
        let _end = self.peek(f);
    }
}

impl<K: Clone + std::fmt::Debug + 'static, V: Clone + std::fmt::Debug + 'static> KStream<K, V> {
    /// Prints every record to standard output, with a label in front.
    pub fn print(&self, label: &str) {
        let label = label.to_owned();
        #[expect(clippy::print_stdout, reason = "printing is what it is for")]
        self.foreach(move |k, v| println!("[{label}]: {k:?}, {v:?}"));
    }
}

struct Peek<K, V, F> {
    f: Arc<F>,
    down: Downstream<Record<K, V>>,
}

impl<K: Clone, V: Clone, F: Fn(&K, &V)> Forward<Record<K, V>> for Peek<K, V, F> {
    #[inline]
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        (self.f)(&record.key, &record.value);
        self.down.forward(cx, record)
    }
}
