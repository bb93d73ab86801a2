//! What a step written by hand is.

use millstream_core::{Record, Result};

use crate::processor::kind::{Kind, OutOf};
use crate::processor::out::Out;

/// A step written by hand. Made anew for every task, and after every rollback: what must last belongs in a store.
///
/// ```
/// # use millstream_dsl::{KeyValueStore, Out, Processor, StreamsBuilder, TopologyTestDriver, kv};
/// # use millstream_dsl::core::{Record, Result};
/// # let b = StreamsBuilder::new();
/// struct Once {
///     seen: KeyValueStore<String, i64>,
/// }
/// impl Processor for Once {
///     type KIn = String;
///     type VIn = i64;
///     type KOut = String;
///     type VOut = i64;
///     fn process(&mut self, r: Record<String, i64>, out: &mut Out<'_, String, i64>) -> Result<()> {
///         if self.seen.put_if_absent(&r.key, r.value)?.is_some() { Ok(()) } else { out.forward(r) }
///     }
/// }
/// let seen = b.store::<String, i64>("seen");
/// b.stream::<String, i64>("in").process("once", move |s| Once { seen: s.store(seen) }).to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, i64>("in")?;
/// # let out = t.output::<String, i64>("out")?;
/// [5, 6].into_iter().for_each(|n| input.pipe("a", n));
/// assert_eq!(out.read(), [kv("a", 5)]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub trait Processor: 'static {
    /// Key it takes.
    type KIn: Clone + 'static;
    /// Value it takes.
    type VIn: Clone + 'static;
    /// Key it forwards.
    type KOut: Clone + 'static;
    /// Value it forwards.
    type VOut: Clone + 'static;

    /// Takes one record.
    ///
    /// # Errors
    /// `processing.exception.handler` decides about an [`millstream_core::Error::user`]: the task fails, or the record is
    /// left out. What was forwarded, or put into stores, before the error stays then.
    fn process(
        &mut self,
        record: Record<Self::KIn, Self::VIn>,
        out: &mut Out<'_, Self::KOut, Self::VOut>,
    ) -> Result<()>;
}

/// A step that may change the key.
#[derive(Debug)]
pub struct AnyKey;

impl<P: Processor> Kind<P> for AnyKey {
    type KIn = P::KIn;
    type VIn = P::VIn;
    type KOut = P::KOut;
    type VOut = P::VOut;
    type Forwarded = Record<P::KOut, P::VOut>;

    #[inline]
    fn process(processor: &mut P, record: Record<P::KIn, P::VIn>, out: &mut OutOf<'_, P, Self>) -> Result<()> {
        processor.process(record, out)
    }
}
