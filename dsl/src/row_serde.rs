//! What a topic of a table is read with.

use millstream_core::{Data, Serde};

/// Any serde whose values are never null and have a default serde, which is what the table's store uses: that of
/// [`crate::StreamsBuilder::table_with`] and of its like. Nothing needs to implement it.
///
/// ```
/// use millstream_dsl::{Consumed, KTable, RowSerde, StreamsBuilder};
/// use millstream_dsl::core::{NumberSerde, Serde, StringSerde};
///
/// /// A table of numbers by anything.
/// fn numbers<KS: RowSerde>(b: &StreamsBuilder, topic: &str, key: KS) -> KTable<KS::Value, i64> {
///     b.table_with(topic, topic, Consumed::with(key, NumberSerde::<i64>::default()))
/// }
/// # let b = StreamsBuilder::new();
/// numbers(&b, "stock", StringSerde).to_stream().to("out");
/// # b.build()?;
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub trait RowSerde: Serde<Value: Data<NonNull = <Self as Serde>::Value>> {}

impl<S: Serde<Value: Data<NonNull = <S as Serde>::Value>>> RowSerde for S {}
