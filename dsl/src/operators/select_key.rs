//! `select_key`: another key for every record.

use std::sync::Arc;

use millstream_core::{Downstream, Error, Forward, NodeId, Record, Result, TaskContext};

use crate::failure::{BoxError, Failure, sure};
use crate::kstream::KStream;

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Gives every record another key. What needs the key afterwards repartitions first.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, String>("in").select_key(|_, town| town.clone()).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, String>("out")?;
    /// input.pipe("ann", "Oslo");
    /// assert_eq!(out.read(), [kv("Oslo", "Oslo")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn select_key<K2: Clone + 'static>(&self, f: impl Fn(&K, &V) -> K2 + Send + Sync + 'static) -> KStream<K2, V> {
        self.with_key(move |k, v| sure(f(k, v)))
    }

    /// As [`KStream::select_key`], with a function that may fail: `processing.exception.handler` decides then.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, String>("in").try_select_key(|_, text| text.parse::<i64>()).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<i64, String>("out")?;
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(out.read(), [kv(1, "1"), kv(3, "3")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_select_key<K2: Clone + 'static, E: Into<BoxError>>(
        &self,
        f: impl Fn(&K, &V) -> Result<K2, E> + Send + Sync + 'static,
    ) -> KStream<K2, V> {
        self.with_key(move |k, v| f(k, v).map_err(Error::user))
    }

    fn with_key<K2: Clone + 'static, E: Failure>(
        &self,
        f: impl Fn(&K, &V) -> Result<K2, E> + Send + Sync + 'static,
    ) -> KStream<K2, V> {
        let f = Arc::new(f);
        self.add("KSTREAM-KEY-SELECT", true, move |node, down| SelectKey { node, f: f.clone(), down })
    }
}

struct SelectKey<K2, V, F> {
    node: NodeId,
    f: Arc<F>,
    down: Downstream<Record<K2, V>>,
}

impl<K, V: Clone, K2: Clone, E: Failure, F: Fn(&K, &V) -> Result<K2, E>> Forward<Record<K, V>> for SelectKey<K2, V, F> {
    #[inline]
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        match (self.f)(&record.key, &record.value) {
            Ok(key) => self.down.forward(cx, record.with_key(key)),
            Err(error) => cx.failed(self.node, error.into()),
        }
    }
}
