//! `filter`, `filter_not`: keep the records that a predicate is true for, or false.

use std::sync::Arc;

use millstream_core::{Downstream, Error, Forward, NodeId, Record, Result, TaskContext};

use crate::failure::{BoxError, Failure, sure};
use crate::kstream::KStream;

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Keeps the records for which `keep` is true.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in").filter(|_, n| *n >= 10).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe("a", 5);
    /// input.pipe("a", 50);
    /// assert_eq!(out.read(), [kv("a", 50)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn filter(&self, keep: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> KStream<K, V> {
        self.filtered(move |k, v| sure(keep(k, v)))
    }

    /// As [`KStream::filter`], with a predicate that may fail: `processing.exception.handler` decides then.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, String>("in").try_filter(|_, text| text.parse::<i64>().map(|n| n > 1)).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, String>("out")?;
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(out.read(), [kv("a", "3")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_filter<E: Into<BoxError>>(
        &self,
        keep: impl Fn(&K, &V) -> Result<bool, E> + Send + Sync + 'static,
    ) -> KStream<K, V> {
        self.filtered(move |k, v| keep(k, v).map_err(Error::user))
    }

    /// Keeps the records for which `leave_out` is false.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in").filter_not(|_, n| *n >= 10).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe("a", 5);
    /// input.pipe("a", 50);
    /// assert_eq!(out.read(), [kv("a", 5)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn filter_not(&self, leave_out: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> KStream<K, V> {
        self.filter(move |k, v| !leave_out(k, v))
    }

    /// As [`KStream::filter_not`], with a predicate that may fail.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, String>("in").try_filter_not(|_, text| text.parse::<i64>().map(|n| n > 1)).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, String>("out")?;
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(out.read(), [kv("a", "1")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_filter_not<E: Into<BoxError>>(
        &self,
        leave_out: impl Fn(&K, &V) -> Result<bool, E> + Send + Sync + 'static,
    ) -> KStream<K, V> {
        self.try_filter(move |k, v| leave_out(k, v).map(|leave_out| !leave_out))
    }

    fn filtered<E: Failure + 'static>(
        &self,
        keep: impl Fn(&K, &V) -> Result<bool, E> + Send + Sync + 'static,
    ) -> KStream<K, V> {
        let keep = Arc::new(keep);
        self.add("KSTREAM-FILTER", false, move |node, down| Filter { node, keep: keep.clone(), down })
    }
}

struct Filter<K, V, F> {
    node: NodeId,
    keep: Arc<F>,
    down: Downstream<Record<K, V>>,
}

impl<K: Clone, V: Clone, E: Failure, F: Fn(&K, &V) -> Result<bool, E>> Forward<Record<K, V>> for Filter<K, V, F> {
    #[inline]
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        match (self.keep)(&record.key, &record.value) {
            Ok(true) => self.down.forward(cx, record),
            Ok(false) => Ok(()),
            Err(error) => cx.failed(self.node, error.into()),
        }
    }
}
