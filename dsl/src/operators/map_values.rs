//! `map_values`: another value for every record; the key stays.

use std::sync::Arc;

use millstream_core::{Downstream, Error, Forward, NodeId, Record, Result, TaskContext};

use crate::failure::{BoxError, Failure, sure};
use crate::kstream::KStream;

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Makes another value of every value.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in").map_values(|n| n * 2).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe("a", 5);
    /// assert_eq!(out.read(), [kv("a", 10)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn map_values<V2: Clone + 'static>(&self, f: impl Fn(V) -> V2 + Send + Sync + 'static) -> KStream<K, V2> {
        self.map_values_with_key(move |_, v| f(v))
    }

    /// Makes another value of every key and value.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in").map_values_with_key(|name, n| format!("{name} has {n}")).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<String, String>("out")?;
    /// input.pipe("ann", 5);
    /// assert_eq!(out.read(), [kv("ann", "ann has 5")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn map_values_with_key<V2: Clone + 'static>(
        &self,
        f: impl Fn(&K, V) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.mapped_values(move |k, v| sure(f(k, v)))
    }

    /// As [`KStream::map_values`], with a function that may fail: `processing.exception.handler` decides then.
    ///
    /// ```
    /// # let b = millstream_dsl::StreamsBuilder::new();
    /// b.stream::<String, String>("texts").try_map_values(|text| text.parse::<i64>()).to("numbers");
    /// # b.build()?;
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    pub fn try_map_values<V2: Clone + 'static, E: Into<BoxError>>(
        &self,
        f: impl Fn(V) -> Result<V2, E> + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.try_map_values_with_key(move |_, v| f(v))
    }

    /// As [`KStream::map_values_with_key`], with a function that may fail.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, String>("in").try_map_values_with_key(|_, text| text.parse::<i64>()).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(out.read(), [kv("a", 1), kv("a", 3)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_map_values_with_key<V2: Clone + 'static, E: Into<BoxError>>(
        &self,
        f: impl Fn(&K, V) -> Result<V2, E> + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.mapped_values(move |k, v| f(k, v).map_err(Error::user))
    }

    fn mapped_values<V2: Clone + 'static, E: Failure>(
        &self,
        f: impl Fn(&K, V) -> Result<V2, E> + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let f = Arc::new(f);
        self.add("KSTREAM-MAPVALUES", false, move |node, down| MapValues { node, f: f.clone(), down })
    }
}

struct MapValues<K, V2, F> {
    node: NodeId,
    f: Arc<F>,
    down: Downstream<Record<K, V2>>,
}

impl<K: Clone, V, V2: Clone, E: Failure, F: Fn(&K, V) -> Result<V2, E>> Forward<Record<K, V>> for MapValues<K, V2, F> {
    #[inline]
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let value = match (self.f)(&record.key, record.value) {
            Ok(value) => value,
            Err(error) => return cx.failed(self.node, error.into()),
        };
        self.down.forward(cx, Record { key: record.key, value, timestamp: record.timestamp, headers: record.headers })
    }
}
