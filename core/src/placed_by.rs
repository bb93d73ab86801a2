//! A partitioner of the program's own, as a topology knows it.

use std::any::TypeId;

use crate::type_name::short_type_name;

/// A partitioner of the program's own, as far as two can be told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedBy {
    pub(crate) name: String,
    placing: Placing,
}

/// What is known of how it places.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Placing {
    /// `None` for a function that has captured something: two of them may differ in that.
    Function(Option<TypeId>),
    /// As the program says that what it is brought together with is placed.
    Stated,
    /// To where the record came from that a record answers.
    Back,
}

impl PlacedBy {
    /// The identity of a function.
    pub fn function<F: 'static>() -> Self {
        let function = (size_of::<F>() == 0).then(TypeId::of::<F>);
        PlacedBy { name: short_type_name(std::any::type_name::<F>()), placing: Placing::Function(function) }
    }

    /// A function that places as the program says that others do, which may have been written elsewhere.
    pub fn stated<F: 'static>() -> Self {
        PlacedBy { placing: Placing::Stated, ..Self::function::<F>() }
    }

    /// No partitioner at all: to where a record came from.
    pub fn where_it_came_from() -> Self {
        PlacedBy { name: "where it came from".to_owned(), placing: Placing::Back }
    }

    /// Whether the program says that others are placed like this.
    pub(crate) fn is_stated(&self) -> bool {
        self.placing == Placing::Stated
    }

    /// Whether it follows where others are, wherever that is.
    pub(crate) fn goes_back(&self) -> bool {
        self.placing == Placing::Back
    }

    /// Whether it is known to place every record as another does.
    pub(crate) fn places_like(&self, other: &PlacedBy) -> bool {
        matches!(self.placing, Placing::Function(Some(_))) && self.placing == other.placing
    }
}
