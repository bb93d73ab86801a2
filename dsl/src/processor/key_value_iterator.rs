//! Rows of a key-value store, one after the other.

use millstream_core::{Data, Result, Timestamp};
use millstream_state::Scan;

use crate::processor::store::KeyValueStore;
use crate::queries::ValueAndTimestamp;

/// The rows of a range of a [`KeyValueStore`], as they were when it was made: changes may be made meanwhile and do not show.
/// They are read as they are asked for, some at a time. Behind an error there are no more.
///
/// ```
/// # use millstream_dsl::{KeyValueStore, Out, Processor, StreamsBuilder, TopologyTestDriver};
/// # use millstream_dsl::core::{Record, Result};
/// # struct Step { rows: KeyValueStore<String, i64> }
/// # impl Processor for Step {
/// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
/// #     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
/// #         let rows = &self.rows;
/// // In a processor that was given `rows`, of a record of time 7:
/// rows.put_all(["a", "b", "c"].map(|key| (key.to_owned(), Some(1))))?;
/// for row in rows.all().descending() {
///     let (key, n) = row?;
///     rows.delete(&key)?;
///     assert_eq!(n, 1);
/// }
/// rows.put(&"d".to_owned(), Some(5))?;
/// let last = rows.all().with_timestamps().next().transpose()?;
/// assert_eq!(last.map(|(key, row)| (key, row.value, row.timestamp)), Some(("d".to_owned(), 5, 7)));
/// #         out.forward(r)
/// #     }
/// # }
/// # let b = StreamsBuilder::new();
/// # let rows = b.store::<String, i64>("rows");
/// # b.stream::<String, i64>("in").process("step", move |s| Step { rows: s.store(rows) }).to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # t.input::<String, i64>("in")?.pipe_at(7, "a", 5);
/// # assert_eq!(t.output::<String, i64>("out")?.read().len(), 1);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub struct KeyValueIterator<'a, K: Data, V: Data, R = V> {
    pub(crate) store: &'a KeyValueStore<K, V>,
    pub(crate) scan: Scan<V>,
    pub(crate) row: fn(V, Timestamp) -> R,
}

impl<'a, K: Data, V: Data, R> KeyValueIterator<'a, K, V, R> {
    /// The last key first. To be said before the first row is taken.
    #[must_use]
    pub fn descending(mut self) -> Self {
        self.scan.turn_round();
        self
    }

    /// With the rows' times.
    pub fn with_timestamps(self) -> KeyValueIterator<'a, K, V, ValueAndTimestamp<V>> {
        let row = |value, timestamp| ValueAndTimestamp { value, timestamp };
        KeyValueIterator { store: self.store, scan: self.scan, row }
    }
}

impl<K: Data<NonNull = K>, V: Data<NonNull = V>, R> Iterator for KeyValueIterator<'_, K, V, R> {
    type Item = Result<(K, R)>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.store.next_row(&mut self.scan).transpose()?;
        Some(row.map(|(key, value, time)| (key, (self.row)(value, time))))
    }
}
