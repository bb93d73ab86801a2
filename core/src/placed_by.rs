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
    /// As the program says that what it is brought together with is placed: as by this function, where that captures nothing.
    Stated(Option<TypeId>),
    /// To where the record came from that a record answers.
    Back,
}

impl PlacedBy {
    /// The identity of a function.
    pub fn function<F: 'static>() -> Self {
        PlacedBy { name: function_name(std::any::type_name::<F>()), placing: Placing::Function(identity::<F>()) }
    }

    /// A function that places as the program says that others do, which may have been written elsewhere.
    pub fn stated<F: 'static>() -> Self {
        PlacedBy { placing: Placing::Stated(identity::<F>()), ..Self::function::<F>() }
    }

    /// No partitioner at all: to where a record came from.
    pub fn where_it_came_from() -> Self {
        PlacedBy { name: "where it came from".to_owned(), placing: Placing::Back }
    }

    /// Whether the program says that others are placed like this.
    pub(crate) fn is_stated(&self) -> bool {
        matches!(self.placing, Placing::Stated(_))
    }

    /// Whether it follows where others are, wherever that is.
    pub(crate) fn goes_back(&self) -> bool {
        self.placing == Placing::Back
    }

    /// Whether the program says of two functions that others are placed by them, and they are not one.
    pub(crate) fn contradicts(&self, other: &PlacedBy) -> bool {
        match (&self.placing, &other.placing) {
            (Placing::Stated(Some(a)), Placing::Stated(Some(b))) => a != b,
            _ => false,
        }
    }

    /// Whether it is known to place every record as another does.
    pub(crate) fn places_like(&self, other: &PlacedBy) -> bool {
        matches!(self.placing, Placing::Function(Some(_))) && self.placing == other.placing
    }
}

/// What tells a function from others: nothing if it has captured something.
fn identity<F: 'static>() -> Option<TypeId> {
    (size_of::<F>() == 0).then(TypeId::of::<F>)
}

/// A function by its name, a closure by that of the function it is written in.
fn function_name(name: &str) -> String {
    let written_in = name.trim_end_matches("::{{closure}}");
    let short = short_type_name(written_in);
    if written_in == name { short } else { format!("a closure in {short}") }
}

#[cfg(test)]
mod tests {
    use super::function_name;

    #[test]
    fn a_closure_is_named_after_where_it_is_written() {
        let names = [
            ("app::orders::by_letter", "by_letter"),
            ("app::orders::build::{{closure}}", "a closure in build"),
            ("app::build<alloc::string::String>::{{closure}}::{{closure}}", "a closure in build<String>"),
        ];
        assert_eq!(names.map(|(long, _)| function_name(long)), names.map(|(_, short)| short));
    }
}
