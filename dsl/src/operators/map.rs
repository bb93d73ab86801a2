//! `map`: another key and value for every record. The key counts as changed.

use std::sync::Arc;

use millstream_core::{Downstream, Error, Forward, NodeId, Record, Result, TaskContext};

use crate::failure::{BoxError, Failure, sure};
use crate::kstream::KStream;

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Makes another record of every record; time and headers stay.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, i64>("in").map(|name, n| (n, name)).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, i64>("in")?;
    /// # let out = t.output::<i64, String>("out")?;
    /// input.pipe("ann", 7);
    /// assert_eq!(out.read(), [kv(7, "ann")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn map<K2: Clone + 'static, V2: Clone + 'static>(
        &self,
        f: impl Fn(K, V) -> (K2, V2) + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        self.mapped(move |k, v| sure(f(k, v)))
    }

    /// As [`KStream::map`], with a function that may fail: `processing.exception.handler` decides then.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::Record;
    /// # let b = StreamsBuilder::new();
    /// // What is no number fails; `processing.exception.handler=continue` would leave it out.
    /// b.stream::<String, String>("in").try_map(|k, text| text.parse::<i64>().map(|n| (k, n))).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe("a", "5");
    /// assert_eq!(out.read(), [kv("a", 5)]);
    /// assert!(input.try_pipe(Record::new("a".to_owned(), "five".to_owned(), 0)).is_err());
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_map<K2: Clone + 'static, V2: Clone + 'static, E: Into<BoxError>>(
        &self,
        f: impl Fn(K, V) -> Result<(K2, V2), E> + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        self.mapped(move |k, v| f(k, v).map_err(Error::user))
    }

    fn mapped<K2: Clone + 'static, V2: Clone + 'static, E: Failure>(
        &self,
        f: impl Fn(K, V) -> Result<(K2, V2), E> + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        let f = Arc::new(f);
        self.add("KSTREAM-MAP", true, move |node, down| Map { node, f: f.clone(), down })
    }
}

struct Map<K2, V2, F> {
    node: NodeId,
    f: Arc<F>,
    down: Downstream<Record<K2, V2>>,
}

impl<K, V, K2, V2, E, F> Forward<Record<K, V>> for Map<K2, V2, F>
where
    K2: Clone,
    V2: Clone,
    E: Failure,
    F: Fn(K, V) -> Result<(K2, V2), E>,
{
    #[inline]
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let (key, value) = match (self.f)(record.key, record.value) {
            Ok(made) => made,
            Err(error) => return cx.failed(self.node, error.into()),
        };
        self.down.forward(cx, Record { key, value, timestamp: record.timestamp, headers: record.headers })
    }
}
