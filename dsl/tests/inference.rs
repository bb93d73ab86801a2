//! What the compiler finds by itself: types of tables from what they are consumed with, and the other way round.

use millstream_core::{NumberSerde, Result, StringSerde};
use millstream_dsl::{Consumed, GlobalKTable, HOUR, KTable, StreamsBuilder, event_time};

#[test]
fn a_table_has_the_types_of_what_it_is_consumed_with() -> Result<()> {
    let b = StreamsBuilder::new();
    let by_types = b.table_with("a", "a", Consumed::of::<String, i64>());
    let by_serdes = b.table_with("b", "b", Consumed::with(StringSerde, NumberSerde::<i64>::default()));
    let by_serde_types: KTable<String, i64> =
        b.table_with("c", "c", Consumed::with(StringSerde, NumberSerde::default()));
    let timed = Consumed::of::<String, i64>().timestamps(event_time(|_, n: &Option<i64>| n.unwrap_or(0)));
    let by_time = b.table_with("d", "d", timed);
    let versioned = b.versioned_table_with("e", "e", HOUR, Consumed::of::<String, i64>());
    let global = b.global_table_with("f", "f", Consumed::of::<String, i64>());
    let all: [KTable<String, i64>; 5] = [by_types, by_serdes, by_serde_types, by_time, versioned];
    all.iter().for_each(|table| table.to_stream().foreach(|_, _| {}));
    let _: GlobalKTable<String, i64> = global;
    b.build().map(drop)
}
