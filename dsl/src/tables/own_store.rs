//! A table's own store, opened by processors.

use millstream_core::{Data, Error, Result};

use crate::joins::GlobalKTable;
use crate::ktable::{KTable, OwnStore};
use crate::processor::{KeyValueStore, SessionStore, StoreHandle, VersionedStore, WindowStore};
use crate::windows::Windowed;

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> KTable<K, V> {
    /// The key-value store of a table, for processors: that of its topic, aggregation, foreign-key join or
    /// [`KTable::materialize`]. A processor finds what the table has become by then, as a look-up of a join does. What it puts there is
    /// a row of the table from then on, of which nothing that hangs on the table is told.
    ///
    /// The processor's records must be where the table's rows are: as many partitions, and keys in the same ones.
    ///
    /// ```
    /// # use millstream_dsl::{KeyValueStore, Out, Processor, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{Record, Result};
    /// # struct Orders { counts: KeyValueStore<String, i64> }
    /// # impl Processor for Orders {
    /// #     type KIn = String; type VIn = String; type KOut = String; type VOut = i64;
    /// #     fn process(&mut self, r: Record<String, String>, out: &mut Out<'_, String, i64>) -> Result<()> {
    /// #         let n = self.counts.get(&r.key)?.unwrap_or(0);
    /// #         out.forward(r.with_value(n))
    /// #     }
    /// # }
    /// # let b = StreamsBuilder::new();
    /// let counts = b.stream::<String, i64>("orders").group_by_key().count("counts").store()?;
    /// b.stream("asked").process("orders", move |setup| Orders { counts: setup.store(counts) }).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let (orders, asked) = (t.input::<String, i64>("orders")?, t.input::<String, String>("asked")?);
    /// # let out = t.output::<String, i64>("out")?;
    /// orders.pipe("ann", 20);
    /// asked.pipe("ann", "how many?");
    /// assert_eq!(out.read(), [kv("ann", 1)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Build`] when the table has no store of this kind.
    pub fn store(&self) -> Result<StoreHandle<KeyValueStore<K, V>>> {
        match self.own {
            Some(OwnStore::KeyValue(id)) => Ok(StoreHandle::new(id)),
            other => Err(self.has_not("store", other)),
        }
    }

    /// As [`KTable::store`], of a versioned table.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, Out, Processor, StreamsBuilder, TopologyTestDriver, VersionedStore, kv};
    /// # use millstream_dsl::core::{Record, Result};
    /// # struct Ask { rows: VersionedStore<String, i64> }
    /// # impl Processor for Ask {
    /// #     type KIn = String; type VIn = String; type KOut = String; type VOut = i64;
    /// #     fn process(&mut self, r: Record<String, String>, out: &mut Out<'_, String, i64>) -> Result<()> {
    /// #         let n = self.rows.get_as_of(&r.key, 7)?.map_or(0, |version| version.value);
    /// #         out.forward(r.with_value(n))
    /// #     }
    /// # }
    /// # let b = StreamsBuilder::new();
    /// let rows = b.versioned_table::<String, i64>("orders", "orders", MIN).versioned_store()?;
    /// b.stream("asked").process("ask", move |setup| Ask { rows: setup.store(rows) }).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let (orders, asked) = (t.input::<String, i64>("orders")?, t.input::<String, String>("asked")?);
    /// # let out = t.output::<String, i64>("out")?;
    /// orders.pipe_at(5, "ann", 20);
    /// asked.pipe_at(9, "ann", "how many?");
    /// assert_eq!(out.read(), [kv("ann", 20)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Build`] when the table has no store of this kind.
    pub fn versioned_store(&self) -> Result<StoreHandle<VersionedStore<K, V>>> {
        match self.own {
            Some(OwnStore::Versioned(id)) => Ok(StoreHandle::new(id)),
            other => Err(self.has_not("versioned_store", other)),
        }
    }

    fn has_not(&self, asked: &str, has: Option<OwnStore>) -> Error {
        let (has, help) = match has {
            None => ("no store of its own", ".materialize(name) behind it gives it one, for .store()"),
            Some(OwnStore::KeyValue(_)) => ("a key-value store", "open it with .store()"),
            Some(OwnStore::Versioned(_)) => ("a versioned store", "open it with .versioned_store()"),
            Some(OwnStore::Window(_)) => ("a window store", "open it with .window_store()"),
            Some(OwnStore::Session(_)) => ("a session store", "open it with .session_store()"),
        };
        let table = self.builder.node_name(self.node);
        Error::Build(Box::new(vec![format!(".{asked}() is asked of table `{table}`, which has {has}\n  help: {help}")]))
    }
}

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> KTable<Windowed<K>, V> {
    /// As [`KTable::store`], of an aggregation in tumbling, hopping or sliding windows: rows by key and the start of their window.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, Out, Processor, StreamsBuilder, TimeWindows, TopologyTestDriver, WindowStore, kv};
    /// # use millstream_dsl::core::{Record, Result};
    /// # struct Ask { rows: WindowStore<String, i64> }
    /// # impl Processor for Ask {
    /// #     type KIn = String; type VIn = String; type KOut = String; type VOut = i64;
    /// #     fn process(&mut self, r: Record<String, String>, out: &mut Out<'_, String, i64>) -> Result<()> {
    /// #         let n = self.rows.get(&r.key, 0)?.unwrap_or(0);
    /// #         out.forward(r.with_value(n))
    /// #     }
    /// # }
    /// # let b = StreamsBuilder::new();
    /// let windows = b.stream::<String, i64>("orders").group_by_key().windowed_by(TimeWindows::of(MIN));
    /// let rows = windows.count("counts").window_store()?;
    /// b.stream("asked").process("ask", move |setup| Ask { rows: setup.store(rows) }).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let (orders, asked) = (t.input::<String, i64>("orders")?, t.input::<String, String>("asked")?);
    /// # let out = t.output::<String, i64>("out")?;
    /// orders.pipe_at(5, "ann", 20);
    /// asked.pipe_at(9, "ann", "how many?");
    /// assert_eq!(out.read(), [kv("ann", 1)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Build`] when the table has no store of this kind.
    pub fn window_store(&self) -> Result<StoreHandle<WindowStore<K, V>>> {
        match self.own {
            Some(OwnStore::Window(id)) => Ok(StoreHandle::new(id)),
            other => Err(self.has_not("window_store", other)),
        }
    }

    /// As [`KTable::store`], of an aggregation in sessions.
    ///
    /// ```
    /// # use millstream_dsl::{MIN, Out, Processor, SessionStore, SessionWindows, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{Record, Result};
    /// # struct Ask { rows: SessionStore<String, i64> }
    /// # impl Processor for Ask {
    /// #     type KIn = String; type VIn = String; type KOut = String; type VOut = i64;
    /// #     fn process(&mut self, r: Record<String, String>, out: &mut Out<'_, String, i64>) -> Result<()> {
    /// #         let n = self.rows.fetch(&r.key)?.into_iter().map(|(_, n)| n).sum();
    /// #         out.forward(r.with_value(n))
    /// #     }
    /// # }
    /// # let b = StreamsBuilder::new();
    /// let sessions = b.stream::<String, i64>("orders").group_by_key().windowed_by(SessionWindows::of(MIN));
    /// let rows = sessions.count("counts").session_store()?;
    /// b.stream("asked").process("ask", move |setup| Ask { rows: setup.store(rows) }).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let (orders, asked) = (t.input::<String, i64>("orders")?, t.input::<String, String>("asked")?);
    /// # let out = t.output::<String, i64>("out")?;
    /// orders.pipe_at(5, "ann", 20);
    /// asked.pipe_at(9, "ann", "how many?");
    /// assert_eq!(out.read(), [kv("ann", 1)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Build`] when the table has no store of this kind.
    pub fn session_store(&self) -> Result<StoreHandle<SessionStore<K, V>>> {
        match self.own {
            Some(OwnStore::Session(id)) => Ok(StoreHandle::new(id)),
            other => Err(self.has_not("session_store", other)),
        }
    }
}

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> GlobalKTable<K, V> {
    /// The store of the table, for processors to read: its rows are those of its topic, and what a processor puts there is an error.
    ///
    /// ```
    /// # use millstream_dsl::{KeyValueStore, Out, Processor, StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{Record, Result};
    /// # struct Price { prices: KeyValueStore<String, i64> }
    /// # impl Processor for Price {
    /// #     type KIn = String; type VIn = String; type KOut = String; type VOut = i64;
    /// #     fn process(&mut self, r: Record<String, String>, out: &mut Out<'_, String, i64>) -> Result<()> {
    /// #         let price = self.prices.get(&r.value)?.unwrap_or(0);
    /// #         out.forward(r.with_value(price))
    /// #     }
    /// # }
    /// # let b = StreamsBuilder::new();
    /// let prices = b.global_table::<String, i64>("prices", "prices").store();
    /// b.stream("orders").process("price", move |setup| Price { prices: setup.store(prices) }).to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let (orders, prices) = (t.input::<String, String>("orders")?, t.input::<String, i64>("prices")?);
    /// # let out = t.output::<String, i64>("out")?;
    /// prices.pipe("hat", 20);
    /// orders.pipe("ann", "hat");
    /// assert_eq!(out.read(), [kv("ann", 20)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn store(&self) -> StoreHandle<KeyValueStore<K, V>> {
        StoreHandle::new(self.store)
    }
}
