//! What a store is asked from outside, as bytes: interactive queries, part by part (DESIGN 3.13).
//!
//! ```text
//!   caller: Ask { query } ─► the task's thread, between polls ─► Part { rows, what is left of the query } ─► caller, who asks on
//! ```
//!
//! The cursor lies with the caller: a thread keeps nothing of a query that it has answered, however large the rest is, and
//! a caller that goes away costs nothing. Types and serdes are the DSL's, which is what a program calls.

use millstream_wire::Records;

use crate::log::Isolation;
use crate::position::Position;
use crate::store_query::StoreQuery;
use crate::topology_index::StoreId;

/// What a task is asked.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The store.
    pub store: StoreId,
    /// The store's partition.
    pub partition: i32,
    /// Its rows.
    pub query: StoreQuery,
    /// Whether rows show that no commit has made permanent yet.
    pub isolation: Isolation,
    /// How far the task must have come.
    pub bound: Position,
}

/// A part of an answer.
#[derive(Debug)]
pub struct Part {
    /// Rows, as the store's changelog has them. There may be none although more is left.
    pub rows: Vec<Records>,
    /// What is left to ask.
    pub rest: Option<StoreQuery>,
    /// How far the task had come.
    pub position: Position,
}
