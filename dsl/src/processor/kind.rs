//! What the two kinds of processors, those that may change the key and those that may not, have in common.

use millstream_core::{Record, Result};

use crate::processor::out::Out;

/// How a record reaches a processor of type `P`, and what it forwards. There are two: [`crate::AnyKey`] for a
/// [`crate::Processor`], [`crate::FixedKey`] for a [`crate::ValueProcessor`].
pub trait Kind<P>: 'static {
    /// Key it takes.
    type KIn: Clone + 'static;
    /// Value it takes.
    type VIn: Clone + 'static;
    /// Key it forwards.
    type KOut: Clone + 'static;
    /// Value it forwards.
    type VOut: Clone + 'static;
    /// The records that it forwards.
    type Forwarded: Into<Record<Self::KOut, Self::VOut>>;

    /// Gives it a record.
    ///
    /// # Errors
    /// The processor's own.
    fn process(processor: &mut P, record: Record<Self::KIn, Self::VIn>, out: &mut OutOf<'_, P, Self>) -> Result<()>;
}

/// Where a processor of this kind forwards to.
pub(crate) type OutOf<'a, P, X> = Out<'a, <X as Kind<P>>::KOut, <X as Kind<P>>::VOut, <X as Kind<P>>::Forwarded>;
