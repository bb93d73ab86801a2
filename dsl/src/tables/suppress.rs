//! `suppress`: changes of a table wait until a window closes or for a time, and only the last of them is passed on
//! (semantics.md 46 to 51).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::{
    Change, Data, Downstream, Encoded, Error, Forward, Headers, Lifecycle, Payload, Record, Result, Serde,
    SerdeContext, SerdeError, StoreFormat, StoreId, TaskBuilder, TaskContext, TimeSlot, Timestamp,
};
use millstream_state::SuppressBuffer;

use crate::builder::NewStore;
use crate::durations::Least;
use crate::framed;
use crate::keys::Keys;
use crate::ktable::{KTable, LookUp, Nature, OldValues, Rows};
use crate::windows::Windowed;

/// How much may wait, and what happens to more.
///
/// ```
/// # use millstream_dsl::{BufferConfig, MIN, StreamsBuilder, TopologyTestDriver, kv};
/// # let b = StreamsBuilder::new();
/// let all = BufferConfig::unbounded();
/// let strict = BufferConfig::max_records(1_000).with_max_bytes(1 << 20); // more than that is an error
/// let eager = BufferConfig::max_bytes(1 << 20).with_max_records(1).emit_early_when_full();
/// b.table::<String, i64>("in", "rows").suppress_for("calm", MIN, eager).to_stream().to("out");
/// # let rows = b.table::<String, i64>("other", "other");
/// # rows.suppress_for("all", MIN, all);
/// # rows.suppress_for("strict", MIN, strict);
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// # let out = t.output::<String, Option<i64>>("out")?;
/// input.pipe("a", 5);
/// input.pipe("b", 7);
/// assert_eq!(out.read(), [kv("a", 5)]); // made room
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct BufferConfig {
    max_records: usize,
    max_bytes: usize,
    emit_early: bool,
}

impl BufferConfig {
    /// As much as there is.
    pub fn unbounded() -> Self {
        BufferConfig { max_records: usize::MAX, max_bytes: usize::MAX, emit_early: false }
    }

    /// At most so many rows, at least 1; one more fails the task ([`millstream_core::Error::Full`]), unless rows are emitted early.
    pub fn max_records(records: usize) -> Self {
        Self::unbounded().with_max_records(records)
    }

    /// At most so many bytes, at least 1, of keys, values and headers as the changelog has them; more fail the task
    /// ([`millstream_core::Error::Full`]), unless rows are emitted early.
    pub fn max_bytes(bytes: usize) -> Self {
        Self::unbounded().with_max_bytes(bytes)
    }

    /// A bound on rows besides others.
    pub fn with_max_records(mut self, records: usize) -> Self {
        self.max_records = records;
        self
    }

    /// A bound on bytes besides others.
    pub fn with_max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// What is more than the bound leaves before its time, the oldest first.
    pub fn emit_early_when_full(mut self) -> Self {
        self.emit_early = true;
        self
    }
}

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> KTable<K, V> {
    /// Passes a row's changes on when `limit` has passed since the first of them, and then only the last. The buffer is
    /// kept in the store `name`.
    ///
    /// ```
    /// # use millstream_dsl::{BufferConfig, MIN, StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.table::<String, i64>("in", "rows")
    ///     .suppress_for("calm", MIN, BufferConfig::max_records(1_000).emit_early_when_full())
    ///     .to_stream()
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, Option<i64>>("in")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// input.pipe_at(0, "a", 5);
    /// input.pipe_at(59_999, "a", 6);
    /// assert_eq!(out.read(), []);
    /// input.pipe_at(60_000, "b", 7);
    /// assert_eq!(out.read(), [kv("a", 6)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn suppress_for(&self, name: &str, limit: Duration, buffer: BufferConfig) -> KTable<K, V> {
        let duration = self.builder.millis(&format!("`{name}`"), "a limit", limit, Least::Zero);
        self.suppress(name, Wait { time: |_, time| time, time_is_in_key: false, duration, start: None }, buffer)
    }

    fn suppress(&self, name: &str, wait: Wait<K>, buffer: BufferConfig) -> KTable<K, V> {
        if self.nature.is_versioned() {
            self.builder.problem(format!(
                "`{name}` suppresses changes of a versioned table\n  help: suppress what is made of it"
            ));
        }
        if buffer.max_records == 0 || buffer.max_bytes == 0 {
            let what = if buffer.max_records == 0 { "rows" } else { "bytes" };
            self.builder
                .problem(format!("`{name}` may hold 0 {what}\n  help: at least 1, or BufferConfig::unbounded()"));
        }
        self.old_values.ask();
        let store = Waiting::<K, V>::add(self, name, wait.time_is_in_key, &buffer);
        let node = self.builder.node("KTABLE-SUPPRESS", &[self.node], &[store]);
        let port = self.builder.port();
        let old_values = OldValues::derived(&[&self.old_values]);
        let (id, out, wanted, label) = (node, port.clone(), old_values.clone(), Arc::<str>::from(name));
        self.port.subscribe(move |task| {
            let down = task.open(&out);
            let node = Suppress {
                name: label.clone(),
                waiting: Waiting::open(task, store, &label, buffer.max_bytes != usize::MAX),
                time: task.time(&format!("{label}.suppressed.stream-time")),
                begun: wait.start.map(|start| Begun { start, by: task.time(&format!("{label}.suppressed.ended")) }),
                wait,
                buffer,
                send_old: wanted.wanted(),
                down,
            };
            let node = Rc::new(RefCell::new(node));
            task.lifecycle(id, node.clone());
            Box::new(SharedSuppress(node))
        });
        let (above, label) = (self.rows.clone(), Arc::<str>::from(name));
        let rows: Rows<K, V> = Arc::new(move |task| {
            let waiting = Waiting::open(task, store, &label, false);
            Box::new(SuppressedRows { above: above(task), waiting })
        });
        let stores = self.stores.iter().copied().chain([store]).collect();
        let (builder, sources) = (self.builder.clone(), self.sources.clone());
        KTable { builder, node, port, sources, stores, own: None, rows, old_values, nature: Nature::default() }
    }
}

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> KTable<Windowed<K>, V> {
    /// Passes every window on once, with its last value, when it has closed: its end and grace (and a session's gap) have
    /// passed. The buffer is kept in the store `name`; it must not be emitted early.
    ///
    /// The grace is that of the windowed aggregation above, over streams, repartitions and tables that were made in between; the
    /// largest where several are brought together. What comes of anything else too, such as a topic, is refused.
    ///
    /// Windows that are deleted before they close are not passed on. A run that ends with its input (`Streams::run_to_end`, `--stdin`)
    /// ends time too: open windows are passed on with it, and a later run that finds more records for them passes them on again, or
    /// their deletion, where they merge or are deleted.
    ///
    /// ```
    /// # use millstream_dsl::{BufferConfig, MIN, StreamsBuilder, TimeWindows, TopologyTestDriver, Windowed};
    /// # let b = StreamsBuilder::new();
    /// let per_minute = b.stream::<String, i64>("in").group_by_key().windowed_by(TimeWindows::of(MIN)).count("counts");
    /// per_minute.suppress_until_closed("final", BufferConfig::unbounded()).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<Windowed<String>, Option<i64>>("out")?;
    /// input.pipe_at(0, "a", 5);
    /// input.pipe_at(59_999, "a", 5);
    /// assert_eq!(out.read(), []);
    /// input.pipe_at(60_000, "b", 5);
    /// assert_eq!(out.read()[0].1, Some(2));
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn suppress_until_closed(&self, name: &str, buffer: BufferConfig) -> KTable<Windowed<K>, V> {
        let duration = self.builder.grace_above(self.node).unwrap_or_else(|end| {
            self.builder.problem(format!(
                "`{name}` waits for windows to close, and the table is not of windows that close: on the way up to `{end}` nothing aggregates in them\n  help: suppress what comes of windowed aggregations alone"
            ));
            0
        });
        if buffer.emit_early {
            self.builder.problem(format!(
                "`{name}` waits for windows to close, and may emit them early\n  help: without emit_early_when_full, or with suppress_for"
            ));
        }
        self.suppress(
            name,
            Wait { time: |key, _| key.window.end, time_is_in_key: true, duration, start: Some(|key| key.window.start) },
            buffer,
        )
    }
}

/// For how long changes wait.
struct Wait<K> {
    /// Where a change stands, given key and time.
    time: fn(&K, Timestamp) -> Timestamp,
    /// The key alone says where.
    time_is_in_key: bool,
    /// How far the stream time must be beyond that.
    duration: Timestamp,
    /// Where a window starts, if windows wait until they close: their deletions are not passed on, but of those that an end of
    /// a run has passed on while they were open.
    start: Option<fn(&K) -> Timestamp>,
}

impl<K> Clone for Wait<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Wait<K> {}

/// A change that waits.
#[derive(Debug, Clone)]
struct Waits<V> {
    /// The row as it was passed on last.
    prior: Option<V>,
    new: Option<V>,
    timestamp: Timestamp,
    headers: Headers,
}

/// The buffer in its task.
struct Waiting<K: Data, V: Data> {
    buffer: Rc<RefCell<SuppressBuffer<WaitsSerde<V::Serde>>>>,
    keys: Keys<K>,
    /// Encoded bytes, where they are counted.
    bytes: Option<usize>,
}

impl<K: Data, V: Data> Waiting<K, V> {
    /// Adds the store. What has a bound stays in memory, where it is counted.
    fn add<K2, V2>(table: &KTable<K2, V2>, name: &str, time_is_in_key: bool, buffer: &BufferConfig) -> StoreId {
        let until = if time_is_in_key { "window-closes" } else { "time-limit" };
        let format = StoreFormat::of::<K::Serde, WaitsSerde<V::Serde>>("suppress-buffer").with("suppress.until", until);
        let is_bounded = buffer.max_records.min(buffer.max_bytes) < usize::MAX;
        let make = move |name: &str| {
            let made = SuppressBuffer::new(name, WaitsSerde(V::Serde::default()));
            let made = if time_is_in_key { made.with_times_in_keys() } else { made };
            if is_bounded { made } else { made.larger_than_memory() }
        };
        table.builder.store_named(NewStore::new(name, format, [("cleanup.policy", "compact")], make))
    }

    fn open(task: &TaskBuilder<'_>, id: StoreId, name: &Arc<str>, counted: bool) -> Self {
        let buffer: Rc<RefCell<SuppressBuffer<WaitsSerde<V::Serde>>>> = task.store(id);
        let bytes = counted.then(|| buffer.borrow().values().map(|(key, value)| encoded_len::<V>(key, value)).sum());
        Waiting { buffer, keys: Keys::new(name), bytes }
    }
}

fn encoded_len<V: Data>(key: &[u8], value: &Waits<V>) -> usize {
    let mut bytes = Vec::new();
    let cx = SerdeContext { topic: "", half: millstream_core::Half::Value };
    let serde = WaitsSerde(V::Serde::default());
    // What cannot be encoded fails at the commit, with a message.
    let _counted_as_empty = serde.serialize(value, cx, &mut Headers::new(), &mut bytes);
    key.len() + bytes.len()
}

/// What windows an end of a run may have passed on.
struct Begun<K> {
    start: fn(&K) -> Timestamp,
    /// The stream time at the end of a bounded run: those that had begun by then.
    by: TimeSlot,
}

struct Suppress<K: Data, V: Data> {
    name: Arc<str>,
    waiting: Waiting<K, V>,
    time: TimeSlot,
    /// Of windows that wait until they close.
    begun: Option<Begun<K>>,
    wait: Wait<K>,
    buffer: BufferConfig,
    send_old: bool,
    down: Downstream<Record<K, Change<V>>>,
}

impl<K: Data, V: Data> Suppress<K, V> {
    fn process(&mut self, cx: &mut TaskContext, record: Record<K, Change<V>>) -> Result<()> {
        let now = cx.advance_time(self.time, record.timestamp);
        self.put(record)?;
        self.emit_expired(cx, now)?;
        while self.is_over_full() {
            if !self.buffer.emit_early {
                return Err(self.full(cx));
            }
            self.emit_first(cx)?;
        }
        Ok(())
    }

    fn emit_expired(&mut self, cx: &mut TaskContext, now: Timestamp) -> Result<()> {
        let expired = now - self.wait.duration;
        while self.waiting.buffer.borrow_mut().first()?.is_some_and(|first| first <= expired) {
            self.emit_first(cx)?;
        }
        Ok(())
    }

    fn put(&mut self, record: Record<K, Change<V>>) -> Result<()> {
        let Record { key, value: Change { old, new }, timestamp, headers } = record;
        let place = (self.wait.time)(&key, timestamp);
        let bytes = self.waiting.keys.encode(&key)?;
        let mut buffer = self.waiting.buffer.borrow_mut();
        let count = &mut self.waiting.bytes;
        buffer.put(&bytes, self.waiting.keys.record_key(&bytes), place, |waits| {
            let (before, prior) = match waits {
                Some(waits) => (count.map(|_| encoded_len::<V>(&bytes, &waits)), waits.prior),
                None => (None, old),
            };
            let waits = Waits { prior, new, timestamp, headers };
            if let Some(count) = count {
                *count = *count + encoded_len::<V>(&bytes, &waits) - before.unwrap_or(0);
            }
            waits
        })
    }

    fn is_over_full(&self) -> bool {
        let records = self.waiting.buffer.borrow().len();
        records > self.buffer.max_records || self.waiting.bytes.is_some_and(|bytes| bytes > self.buffer.max_bytes)
    }

    /// The bound that is passed, as an error.
    #[cold]
    fn full(&self, cx: &TaskContext) -> Error {
        let (waits, may, what) = match self.waiting.bytes {
            Some(bytes) if bytes > self.buffer.max_bytes => (bytes, self.buffer.max_bytes, "bytes"),
            _ => (self.waiting.buffer.borrow().len(), self.buffer.max_records, "rows"),
        };
        cx.full(&self.name, waits, may, what)
    }

    fn emit_first(&mut self, cx: &mut TaskContext) -> Result<()> {
        let mut buffer = self.waiting.buffer.borrow_mut();
        let Some((key, waits)) = buffer.take_first()? else { return Ok(()) };
        if let Some(bytes) = &mut self.waiting.bytes {
            *bytes = bytes.saturating_sub(encoded_len::<V>(key, &waits));
        }
        let Waits { prior, new, timestamp, headers } = waits;
        if self.begun.is_some() && new.is_none() && prior.is_none() {
            return Ok(());
        }
        let key = self.waiting.keys.decode(key)?;
        drop(buffer);
        // A closed session that a record merges all the same stays below, as in Kafka Streams (semantics.md 47).
        let begun_later = |begun: &Begun<K>| (begun.start)(&key) > cx.time(begun.by);
        if new.is_none() && self.begun.as_ref().is_some_and(begun_later) {
            return Ok(());
        }
        let value = Change { old: prior.filter(|_| self.send_old), new };
        cx.passing_on(|cx| self.down.forward(cx, Record { key, value, timestamp, headers }))
    }
}

impl<K: Data, V: Data> Lifecycle for Suppress<K, V> {
    fn due(&self, _: &TaskContext) -> Timestamp {
        match self.waiting.buffer.borrow_mut().first() {
            Ok(first) => first.map_or(Timestamp::MAX, |first| first.saturating_add(self.wait.duration)),
            // Whoever comes now meets the error again.
            Err(_) => Timestamp::MIN,
        }
    }

    fn on_time(&mut self, cx: &mut TaskContext, time: Timestamp) -> Result<()> {
        let now = cx.advance_time(self.time, time);
        self.emit_expired(cx, now)
    }

    fn on_end(&mut self, cx: &mut TaskContext) -> Result<()> {
        while self.waiting.buffer.borrow_mut().first()?.is_some() {
            self.emit_first(cx)?;
        }
        if let Some(begun) = &self.begun {
            cx.advance_time(begun.by, cx.time(self.time));
        }
        Ok(())
    }
}

struct SharedSuppress<N>(Rc<RefCell<N>>);

impl<K: Data, V: Data> Forward<Record<K, Change<V>>> for SharedSuppress<Suppress<K, V>> {
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, Change<V>>) -> Result<()> {
        self.0.borrow_mut().process(cx, record)
    }
}

/// The rows as they were passed on.
struct SuppressedRows<K: Data, V: Data> {
    above: Box<dyn LookUp<K, V>>,
    waiting: Waiting<K, V>,
}

impl<K: Data, V: Data> LookUp<K, V> for SuppressedRows<K, V> {
    fn get(&self, key: &K) -> Result<Option<(V, Timestamp)>> {
        let bytes = self.waiting.keys.encode(key)?;
        match self.waiting.buffer.borrow_mut().get(&bytes)? {
            Some(waits) => Ok(waits.prior.clone().map(|prior| (prior, millstream_core::NO_TIME))),
            None => self.above.get(key),
        }
    }
}

/// Time, then prior and new value behind their lengths (-1 is none), then headers.
#[derive(Debug, Clone)]
struct WaitsSerde<S>(S);

impl<S: Serde> Serde for WaitsSerde<S>
where
    S::Value: Clone,
{
    type Value = Waits<S::Value>;

    fn serialize(
        &self,
        waits: &Self::Value,
        cx: SerdeContext<'_>,
        headers: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        out.extend(waits.timestamp.to_be_bytes());
        framed::put(&self.0, waits.prior.as_ref(), cx, headers, out)?;
        framed::put(&self.0, waits.new.as_ref(), cx, headers, out)?;
        out.extend(waits.headers.section());
        Ok(Encoded::Bytes)
    }

    fn deserialize(
        &self,
        bytes: Option<Payload<'_>>,
        cx: SerdeContext<'_>,
        headers: &Headers,
    ) -> Result<Self::Value, SerdeError> {
        let cut_off = || SerdeError::invalid("a waiting change is cut off");
        let mut rest = bytes.ok_or_else(SerdeError::null::<Self::Value>)?.to_bytes();
        let timestamp = rest.first_chunk().copied().map(Timestamp::from_be_bytes).ok_or_else(cut_off)?;
        rest = rest.slice(8..);
        let mut value = || framed::take(&self.0, &mut rest, cx, headers);
        let (prior, new) = (value()?, value()?);
        Ok(Waits { prior, new, timestamp, headers: Headers::from_section(&rest) })
    }

    fn detach(&self, waits: &mut Self::Value, copy: &mut impl FnMut(&[u8]) -> Bytes) {
        waits.prior.iter_mut().chain(&mut waits.new).for_each(|value| self.0.detach(value, copy));
    }
}
