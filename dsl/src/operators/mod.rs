//! The operators, one per file: its method, the node that runs, and the rule it follows.

mod branch;
mod filter;
mod flat_map;
mod map;
mod map_values;
mod merge;
mod peek;
mod repartition;
mod select_key;
mod to;
mod to_dynamic;

pub use branch::{Branches, Split};
pub use repartition::Repartitioned;
pub use to_dynamic::RecordContext;
