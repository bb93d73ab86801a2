//! 05: enrich a stream from a table. Orders meet what is known of their customer at that moment. The customers are in the
//! log of the first run; the orders of the second find them there, and a later change of a customer changes no order.
//!
//! ```console
//! $ printf '%s\n' 'ann,gold' 'bob,basic' | cargo run -q --bin 05_enrich_from_a_table -- --stdin customers
//! $ printf '%s\n' 'ann,200' 'bob,200' 'eve,80' | cargo run -q --bin 05_enrich_from_a_table -- --stdin orders --stdout priced
//! ann    {"tier":"gold","price":200,"to_pay":180}
//! bob    {"tier":"basic","price":200,"to_pay":200}
//! eve    {"tier":"unknown","price":80,"to_pay":80}
//! $ echo 'bob,gold' | cargo run -q --bin 05_enrich_from_a_table -- --stdin customers
//! $ echo 'bob,200' | cargo run -q --bin 05_enrich_from_a_table -- --stdin orders --stdout priced
//! bob    {"tier":"gold","price":200,"to_pay":180}
//! ```

use millstream::prelude::*;

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Priced {
    tier: String,
    price: i64,
    to_pay: i64,
}

// The default serde of our own type is JSON.
millstream::json!(Priced);

fn priced_orders() -> Result<Topology> {
    let b = StreamsBuilder::new();
    // A line has no key yet: the customer's name becomes it, and the latest line of a name is its row.
    let customers = lines(&b, "customers").to_table("customers");
    lines(&b, "orders")
        .flat_map_values(|price| price.parse::<i64>())
        // Both sides have changed keys, so both are repartitioned by them and meet in one task.
        .left_join_table("orders-by-customer", &customers, |price, tier| Priced {
            tier: tier.cloned().unwrap_or("unknown".to_owned()),
            price: *price,
            to_pay: if tier.is_some_and(|tier| tier == "gold") { price * 9 / 10 } else { *price },
        })
        .to("priced");
    b.build()
}

/// `KEY,VALUE`, line by line.
fn lines(b: &StreamsBuilder, topic: &str) -> KStream<String, String> {
    b.stream::<Option<String>, String>(topic)
        .flat_map(|_, line| line.split_once(',').map(|(key, value)| (key.to_owned(), value.to_owned())))
}

fn main() -> Result<()> {
    millstream::run("priced-orders", priced_orders()?)
}
