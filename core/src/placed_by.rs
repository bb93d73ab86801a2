//! A partitioner of the program's own, as a topology knows it.

use std::any::TypeId;

use crate::type_name::short_type_name;

/// A partitioner of the program's own, as far as two can be told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedBy {
    pub(crate) name: String,
    /// `None` for a function that has captured something: two of them may differ in that.
    function: Option<TypeId>,
}

impl PlacedBy {
    /// The identity of a function.
    pub fn function<F: 'static>() -> Self {
        let function = (size_of::<F>() == 0).then(TypeId::of::<F>);
        PlacedBy { name: short_type_name(std::any::type_name::<F>()), function }
    }

    /// Whether it is known to place every record as another does.
    pub(crate) fn places_like(&self, other: &PlacedBy) -> bool {
        self.function.is_some() && self.function == other.function
    }
}
