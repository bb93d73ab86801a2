//! Foreign-key joins whose functions see the left row's key too (KIP-1104).

use millstream_core::Data;

use crate::failure::sure;
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
        name: &str,
        other: &KTable<F, W>,
        foreign_key: impl Fn(&K, &V) -> Option<F> + Send + Sync + 'static,
        f: impl Fn(&K, &V, &W) -> O + Send + Sync + 'static,
    ) -> KTable<K, O> {
        let join = move |key: &K, row: &V, partner: Option<&W>| sure(partner.map(|partner| f(key, row, partner)));
        self.foreign_join(name, other, false, move |key, row| sure(foreign_key(key, row)), join)
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
        name: &str,
        other: &KTable<F, W>,
        foreign_key: impl Fn(&K, &V) -> Option<F> + Send + Sync + 'static,
        f: impl Fn(&K, &V, Option<&W>) -> O + Send + Sync + 'static,
    ) -> KTable<K, O> {
        let join = move |key: &K, row: &V, partner: Option<&W>| sure(Some(f(key, row, partner)));
        self.foreign_join(name, other, true, move |key, row| sure(foreign_key(key, row)), join)
    }
}
