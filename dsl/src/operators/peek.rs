//! `peek`, `foreach`, `print`: look at every record.

use std::sync::Arc;

use millstream_core::{Downstream, Error, Forward, NodeId, Record, Result, TaskContext};

use crate::failure::{BoxError, Failure, sure};
use crate::kstream::KStream;

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Calls `f` for every record and passes the record on.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// use std::sync::atomic::{AtomicI64, Ordering};
    /// static LARGEST: AtomicI64 = AtomicI64::new(0);
    /// b.stream::<String, i64>("in").peek(|_, n| { LARGEST.fetch_max(*n, Ordering::Relaxed); }).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe("a", 5);
    /// assert_eq!((out.read(), LARGEST.load(Ordering::Relaxed)), (vec![kv("a", 5)], 5));
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn peek(&self, f: impl Fn(&K, &V) + Send + Sync + 'static) -> KStream<K, V> {
        self.peeked(move |k, v| {
            f(k, v);
            sure(())
        })
    }

    /// As [`KStream::peek`], with a function that may fail: `processing.exception.handler` decides then.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, String>("in").try_peek(|_, text| text.parse::<i64>().map(drop)).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, String>("out")?;
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(out.read(), [kv("a", "1"), kv("a", "3")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_peek<E: Into<BoxError>>(
        &self,
        f: impl Fn(&K, &V) -> Result<(), E> + Send + Sync + 'static,
    ) -> KStream<K, V> {
        self.peeked(move |k, v| f(k, v).map_err(Error::user))
    }

    fn peeked<E: Failure>(&self, f: impl Fn(&K, &V) -> Result<(), E> + Send + Sync + 'static) -> KStream<K, V> {
        let f = Arc::new(f);
        self.add("KSTREAM-PEEK", false, move |node, down| Peek { node, f: f.clone(), down })
    }

    /// Calls `f` for every record: an end of the stream. After a failure records come again.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver};
    /// # let b = StreamsBuilder::new();
    /// use std::sync::atomic::{AtomicI64, Ordering};
    /// static SUM: AtomicI64 = AtomicI64::new(0);
    /// b.stream::<String, i64>("in").foreach(|_, n| { SUM.fetch_add(*n, Ordering::Relaxed); });
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// input.pipe("a", 5);
    /// input.pipe("a", 2);
    /// assert_eq!(SUM.load(Ordering::Relaxed), 7);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn foreach(&self, f: impl Fn(&K, &V) + Send + Sync + 'static) {
        let _end = self.peek(f);
    }

    /// As [`KStream::foreach`], with a function that may fail.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, String>("in").try_foreach(|_, text| text.parse::<i64>().map(drop));
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(t.counters().dropped_records, 1);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_foreach<E: Into<BoxError>>(&self, f: impl Fn(&K, &V) -> Result<(), E> + Send + Sync + 'static) {
        let _end = self.try_peek(f);
    }
}

impl<K: Clone + std::fmt::Debug + 'static, V: Clone + std::fmt::Debug + 'static> KStream<K, V> {
    /// Prints every record to standard output, with a label in front.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in").print("seen");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// input.pipe("a", 5); // prints: [seen]: "a", 5
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn print(&self, label: &str) {
        let label = label.to_owned();
        #[expect(clippy::print_stdout, reason = "printing is what it is for")]
        self.foreach(move |k, v| println!("[{label}]: {k:?}, {v:?}"));
    }
}

struct Peek<K, V, F> {
    node: NodeId,
    f: Arc<F>,
    down: Downstream<Record<K, V>>,
}

impl<K: Clone, V: Clone, E: Failure, F: Fn(&K, &V) -> Result<(), E>> Forward<Record<K, V>> for Peek<K, V, F> {
    #[inline]
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        match (self.f)(&record.key, &record.value) {
            Ok(()) => self.down.forward(cx, record),
            Err(error) => cx.failed(self.node, error.into()),
        }
    }
}
