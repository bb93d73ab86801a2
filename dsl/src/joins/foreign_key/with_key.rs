//! Foreign-key joins whose functions see the left row's key too (KIP-1104).

use millstream_core::{Data, Error};

use crate::failure::{BoxError, sure};
use crate::joins::table_joined::TableJoined;
use crate::ktable::KTable;

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> KTable<K, V> {
    /// As [`KTable::join_on`], with functions that see the row's key too: the foreign key may be part of it.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let orders = b.table::<String, i64>("orders", "orders"); // customer and number, hats
    /// let customers = b.table::<String, String>("customers", "customers");
    /// let customer = |order: &String, _: &i64| order.split('/').next().map(str::to_owned);
    /// let bills = orders.join_on_with_key("bills", &customers, customer, |order, n, to| format!("{order}: {n} to {to}"));
    /// bills.to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let orders = t.input::<String, i64>("orders")?;
    /// # let customers = t.input::<String, String>("customers")?;
    /// # let out = t.output::<String, Option<String>>("out")?;
    /// customers.pipe("ann", "Oslo");
    /// [("ann/1", 3), ("bob/1", 4)].into_iter().for_each(|(order, n)| orders.pipe(order, n));
    /// assert_eq!(out.read(), [kv("ann/1", "ann/1: 3 to Oslo".to_owned())]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn join_on_with_key<F: Data<NonNull = F>, W: Data<NonNull = W>, O: Data<NonNull = O>>(
        &self,
        joined: impl Into<TableJoined<F>>,
        other: &KTable<F, W>,
        foreign_key: impl Fn(&K, &V) -> Option<F> + Send + Sync + 'static,
        f: impl Fn(&K, &V, &W) -> O + Send + Sync + 'static,
    ) -> KTable<K, O> {
        let join = move |key: &K, row: &V, partner: Option<&W>| sure(partner.map(|partner| f(key, row, partner)));
        self.foreign_join(joined.into(), other, false, move |key, row| sure(foreign_key(key, row)), join)
    }

    /// As [`KTable::join_on_with_key`], with functions that may fail; as [`KTable::try_join_on`].
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let orders = b.table::<String, i64>("orders", "orders"); // customer's number and order's, hats
    /// let customers = b.table::<i64, String>("customers", "customers");
    /// let customer = |order: &String, _: &i64| order.split('/').next().unwrap_or_default().parse::<i64>().map(Some);
    /// let bills = orders.try_join_on_with_key("bills", &customers, customer, |order, n, to| Ok(format!("{order}: {n} to {to}")));
    /// bills.to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let orders = t.input::<String, i64>("orders")?;
    /// # let customers = t.input::<i64, String>("customers")?;
    /// # let out = t.output::<String, Option<String>>("out")?;
    /// customers.pipe(7, "Oslo");
    /// [("7/1", 3), ("bob/1", 4)].into_iter().for_each(|(order, n)| orders.pipe(order, n));
    /// assert_eq!(out.read(), [kv("7/1", "7/1: 3 to Oslo".to_owned())]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_join_on_with_key<F: Data<NonNull = F>, W: Data<NonNull = W>, O: Data<NonNull = O>, E: Into<BoxError>>(
        &self,
        joined: impl Into<TableJoined<F>>,
        other: &KTable<F, W>,
        foreign_key: impl Fn(&K, &V) -> Result<Option<F>, E> + Send + Sync + 'static,
        f: impl Fn(&K, &V, &W) -> Result<O, E> + Send + Sync + 'static,
    ) -> KTable<K, O> {
        let join = move |key: &K, row: &V, partner: Option<&W>| {
            partner.map(|partner| f(key, row, partner)).transpose().map_err(Error::user)
        };
        self.foreign_join(joined.into(), other, false, move |key, row| foreign_key(key, row).map_err(Error::user), join)
    }

    /// As [`KTable::left_join_on`], with functions that see the row's key too.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let orders = b.table::<String, i64>("orders", "orders"); // customer and number, hats
    /// let customers = b.table::<String, String>("customers", "customers");
    /// let customer = |order: &String, _: &i64| order.split('/').next().map(str::to_owned);
    /// let bill = |order: &String, n: &i64, to: Option<&String>| format!("{order}: {n} to {to:?}");
    /// orders.left_join_on_with_key("bills", &customers, customer, bill).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let orders = t.input::<String, i64>("orders")?;
    /// # let out = t.output::<String, Option<String>>("out")?;
    /// orders.pipe("bob/1", 4);
    /// assert_eq!(out.read(), [kv("bob/1", "bob/1: 4 to None".to_owned())]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn left_join_on_with_key<F: Data<NonNull = F>, W: Data<NonNull = W>, O: Data<NonNull = O>>(
        &self,
        joined: impl Into<TableJoined<F>>,
        other: &KTable<F, W>,
        foreign_key: impl Fn(&K, &V) -> Option<F> + Send + Sync + 'static,
        f: impl Fn(&K, &V, Option<&W>) -> O + Send + Sync + 'static,
    ) -> KTable<K, O> {
        let join = move |key: &K, row: &V, partner: Option<&W>| sure(Some(f(key, row, partner)));
        self.foreign_join(joined.into(), other, true, move |key, row| sure(foreign_key(key, row)), join)
    }

    /// As [`KTable::left_join_on_with_key`], with functions that may fail; as [`KTable::try_join_on`].
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let orders = b.table::<String, i64>("orders", "orders"); // customer's number and order's, hats
    /// let customers = b.table::<i64, String>("customers", "customers");
    /// let customer = |order: &String, _: &i64| order.split('/').next().unwrap_or_default().parse::<i64>().map(Some);
    /// let bills = orders.try_left_join_on_with_key("bills", &customers, customer, |order, n, to| Ok(format!("{order}: {n} to {to:?}")));
    /// bills.to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let orders = t.input::<String, i64>("orders")?;
    /// # let customers = t.input::<i64, String>("customers")?;
    /// # let out = t.output::<String, Option<String>>("out")?;
    /// customers.pipe(7, "Oslo");
    /// [("7/1", 3), ("bob/1", 4)].into_iter().for_each(|(order, n)| orders.pipe(order, n));
    /// assert_eq!(out.read(), [kv("7/1", "7/1: 3 to Some(\"Oslo\")".to_owned())]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_left_join_on_with_key<
        F: Data<NonNull = F>,
        W: Data<NonNull = W>,
        O: Data<NonNull = O>,
        E: Into<BoxError>,
    >(
        &self,
        joined: impl Into<TableJoined<F>>,
        other: &KTable<F, W>,
        foreign_key: impl Fn(&K, &V) -> Result<Option<F>, E> + Send + Sync + 'static,
        f: impl Fn(&K, &V, Option<&W>) -> Result<O, E> + Send + Sync + 'static,
    ) -> KTable<K, O> {
        let join = move |key: &K, row: &V, partner: Option<&W>| f(key, row, partner).map(Some).map_err(Error::user);
        self.foreign_join(joined.into(), other, true, move |key, row| foreign_key(key, row).map_err(Error::user), join)
    }
}
