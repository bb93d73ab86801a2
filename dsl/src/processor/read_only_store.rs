//! Read-only stores: a topic's rows, kept up by the runtime, for processors to read (KIP-813).

use millstream_core::{Data, TimestampExtractor};

use crate::builder::StreamsBuilder;
use crate::consumed::Consumed;
use crate::processor::store::{KeyValueStore, StoreHandle};
use crate::row_serde::RowSerde;

impl StreamsBuilder {
    /// A store that holds the latest value of every key of a topic's partition, for processors to read: what they
    /// put there is an error. The topic itself is what it is restored from: there is no changelog. Processors that read it run where the
    /// topic's partition is: their input has as many partitions, and keys in the same ones.
    ///
    /// ```
    /// # use millstream_dsl::{KeyValueStore, Out, Processor, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{Record, Result};
    /// # struct Price { prices: KeyValueStore<String, i64> }
    /// # impl Processor for Price {
    /// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
    /// #     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
    /// #         let price = self.prices.get(&r.key)?.unwrap_or(0);
    /// #         let n = r.value;
    /// #         out.forward(r.with_value(n * price))
    /// #     }
    /// # }
    /// # let b = StreamsBuilder::new();
    /// let prices = b.read_only_store::<String, i64>("prices", "prices");
    /// b.stream("orders").process("price", move |setup| Price { prices: setup.store(prices) }).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let orders = t.input::<String, i64>("orders")?;
    /// # let prices = t.input::<String, i64>("prices")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// prices.pipe("hat", 20);
    /// orders.pipe("hat", 2);
    /// assert_eq!(out.read(), [kv("hat", 40)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn read_only_store<K: Data<NonNull = K>, V: Data<NonNull = V>>(
        &self,
        topic: &str,
        store: &str,
    ) -> StoreHandle<KeyValueStore<K, V>> {
        self.read_only_store_with(topic, store, Consumed::of::<K, V>())
    }

    /// As [`StreamsBuilder::read_only_store`], with serdes, event time, reset policy or idleness of its topic's own, as
    /// [`StreamsBuilder::table_with`]; the store has the serdes of the types. With event time of its own it has a changelog.
    ///
    /// ```
    /// # use millstream_dsl::{Consumed, KeyValueStore, Out, Processor, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{NumberSerde, Record, Result, StringSerde};
    /// # struct Price { prices: KeyValueStore<String, i64> }
    /// # impl Processor for Price {
    /// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
    /// #     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
    /// #         let price = self.prices.get(&r.key)?.unwrap_or(0);
    /// #         let n = r.value;
    /// #         out.forward(r.with_value(n * price))
    /// #     }
    /// # }
    /// # let b = StreamsBuilder::new();
    /// let consumed = Consumed::with(StringSerde, NumberSerde::<i64>::default());
    /// let prices = b.read_only_store_with("prices", "prices", consumed);
    /// b.stream("orders").process("price", move |setup| Price { prices: setup.store(prices) }).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let orders = t.input::<String, i64>("orders")?;
    /// # let prices = t.input::<String, i64>("prices")?;
    /// # let out = t.output::<String, i64>("out")?;
    /// prices.pipe("hat", 20);
    /// orders.pipe("hat", 2);
    /// assert_eq!(out.read(), [kv("hat", 40)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn read_only_store_with<KS, VS, X>(
        &self,
        topic: &str,
        store: &str,
        consumed: Consumed<KS, VS, X>,
    ) -> StoreHandle<KeyValueStore<KS::Value, VS::Value>>
    where
        KS: RowSerde,
        VS: RowSerde,
        X: TimestampExtractor<Option<KS::Value>, Option<VS::Value>>,
    {
        let id = self.table_with(topic, store, consumed).stores[0];
        self.rebuild_from_topic(id);
        StoreHandle::new(id)
    }
}
