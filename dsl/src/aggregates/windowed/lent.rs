//! A record's value on its way into windows.

/// A record's value, as one of the folds gets it that the record takes part in. Who only counts neither copies nor takes it.
pub(crate) enum Lent<'a, V> {
    /// To one of several.
    To(&'a V),
    /// To the last.
    Last(V),
}

impl<V: Clone> Lent<'_, V> {
    /// The value, or a copy of it if others need it too.
    #[inline]
    pub(crate) fn take(self) -> V {
        match self {
            Lent::To(value) => value.clone(),
            Lent::Last(value) => value,
        }
    }
}
