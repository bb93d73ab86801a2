//! `flat_map`, `flat_map_values`, `flat_map_values_with_key`: any number of records for every record, with its time and headers.

use std::sync::Arc;

use millstream_core::{Downstream, Error, Forward, NodeId, Record, Result, TaskContext};

use crate::failure::{BoxError, Failure, sure};
use crate::kstream::KStream;

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Makes any number of records of every record. The key counts as changed.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// // "ann,bob": one record for each, the name as key.
    /// b.stream::<i64, String>("in")
    ///     .flat_map(|n, names| names.split(',').map(|name| (name.to_owned(), n)).collect::<Vec<_>>())
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<i64, String>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe(7, "ann,bob");
    /// assert_eq!(out.read(), [kv("ann", 7), kv("bob", 7)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn flat_map<K2, V2, I>(&self, f: impl Fn(K, V) -> I + Send + Sync + 'static) -> KStream<K2, V2>
    where
        K2: Clone + 'static,
        V2: Clone + 'static,
        I: IntoIterator<Item = (K2, V2)>,
    {
        self.flat_mapped(move |k, v| sure(f(k, v)))
    }

    /// As [`KStream::flat_map`], with a function that may fail: `processing.exception.handler` decides then.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, String>("in").try_flat_map(|k, text| text.parse::<i64>().map(|n| [(k.clone(), n), (k, -n)])).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(out.read(), [kv("a", 1), kv("a", -1), kv("a", 3), kv("a", -3)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_flat_map<K2, V2, I, E>(
        &self,
        f: impl Fn(K, V) -> Result<I, E> + Send + Sync + 'static,
    ) -> KStream<K2, V2>
    where
        K2: Clone + 'static,
        V2: Clone + 'static,
        I: IntoIterator<Item = (K2, V2)>,
        E: Into<BoxError>,
    {
        self.flat_mapped(move |k, v| f(k, v).map_err(Error::user))
    }

    fn flat_mapped<K2, V2, I, E>(&self, f: impl Fn(K, V) -> Result<I, E> + Send + Sync + 'static) -> KStream<K2, V2>
    where
        K2: Clone + 'static,
        V2: Clone + 'static,
        I: IntoIterator<Item = (K2, V2)>,
        E: Failure,
    {
        let f = Arc::new(f);
        self.add("KSTREAM-FLATMAP", true, move |node, down| FlatMap { node, f: f.clone(), down })
    }

    /// Makes any number of values of every value; the key stays.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::Result;
    /// # let b = StreamsBuilder::new();
    /// // A `Result` is one value or none: what is no number is left out.
    /// b.stream::<String, String>("in").flat_map_values(|text| text.parse::<i64>()).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// input.pipe("a", "12");
    /// input.pipe("a", "twelve");
    /// assert_eq!(out.read(), [kv("a", 12)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn flat_map_values<V2: Clone + 'static, I: IntoIterator<Item = V2>>(
        &self,
        f: impl Fn(V) -> I + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.flat_mapped_values(move |_, v| sure(f(v)))
    }

    /// As [`KStream::flat_map_values`], with a function that may fail.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// b.stream::<String, String>("in").try_flat_map_values(|text| text.parse::<i64>().map(|n| [n, -n])).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// ["1", "one", "3"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(out.read(), [kv("a", 1), kv("a", -1), kv("a", 3), kv("a", -3)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_flat_map_values<V2: Clone + 'static, I: IntoIterator<Item = V2>, E: Into<BoxError>>(
        &self,
        f: impl Fn(V) -> Result<I, E> + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.flat_mapped_values(move |_, v| f(v).map_err(Error::user))
    }

    /// As [`KStream::flat_map_values`], with a function that sees the key too.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let orders = b.stream::<String, String>("in");
    /// let items = |name: &String, items: String| items.split(' ').map(|item| format!("{name}'s {item}")).collect::<Vec<_>>();
    /// orders.flat_map_values_with_key(items).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, String>("out")?;
    /// input.pipe("ann", "hat bag");
    /// assert_eq!(out.read(), [kv("ann", "ann's hat"), kv("ann", "ann's bag")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn flat_map_values_with_key<V2: Clone + 'static, I: IntoIterator<Item = V2>>(
        &self,
        f: impl Fn(&K, V) -> I + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.flat_mapped_values(move |k, v| sure(f(k, v)))
    }

    /// As [`KStream::flat_map_values_with_key`], with a function that may fail.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let named = |name: &String, text: String| text.parse::<i64>().map(|n| [n, -n].map(|n| format!("{name} {n}")));
    /// b.stream::<String, String>("in").try_flat_map_values_with_key(named).to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let input = t.input::<String, String>("in")?;
    /// # let out = t.output::<String, String>("out")?;
    /// ["1", "one"].into_iter().for_each(|text| input.pipe("a", text));
    /// assert_eq!(out.read(), [kv("a", "a 1"), kv("a", "a -1")]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_flat_map_values_with_key<V2: Clone + 'static, I: IntoIterator<Item = V2>, E: Into<BoxError>>(
        &self,
        f: impl Fn(&K, V) -> Result<I, E> + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.flat_mapped_values(move |k, v| f(k, v).map_err(Error::user))
    }

    fn flat_mapped_values<V2: Clone + 'static, I: IntoIterator<Item = V2>, E: Failure>(
        &self,
        f: impl Fn(&K, V) -> Result<I, E> + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let f = Arc::new(f);
        self.add("KSTREAM-FLATMAPVALUES", false, move |node, down| FlatMapValues { node, f: f.clone(), down })
    }
}

struct FlatMap<K2, V2, F> {
    node: NodeId,
    f: Arc<F>,
    down: Downstream<Record<K2, V2>>,
}

impl<K, V, K2, V2, I, E, F> Forward<Record<K, V>> for FlatMap<K2, V2, F>
where
    K2: Clone,
    V2: Clone,
    I: IntoIterator<Item = (K2, V2)>,
    E: Failure,
    F: Fn(K, V) -> Result<I, E>,
{
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let made = match (self.f)(record.key, record.value) {
            Ok(made) => made,
            Err(error) => return cx.failed(self.node, error.into()),
        };
        for (key, value) in made {
            self.down
                .forward(cx, Record { key, value, timestamp: record.timestamp, headers: record.headers.clone() })?;
        }
        Ok(())
    }
}

struct FlatMapValues<K, V2, F> {
    node: NodeId,
    f: Arc<F>,
    down: Downstream<Record<K, V2>>,
}

impl<K, V, V2, I, E, F> Forward<Record<K, V>> for FlatMapValues<K, V2, F>
where
    K: Clone,
    V2: Clone,
    I: IntoIterator<Item = V2>,
    E: Failure,
    F: Fn(&K, V) -> Result<I, E>,
{
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        let made = match (self.f)(&record.key, record.value) {
            Ok(made) => made,
            Err(error) => return cx.failed(self.node, error.into()),
        };
        for value in made {
            self.down.forward(
                cx,
                Record { key: record.key.clone(), value, timestamp: record.timestamp, headers: record.headers.clone() },
            )?;
        }
        Ok(())
    }
}
