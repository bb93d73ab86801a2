//! A trace file: a topology's name, and cases of parameters and steps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trace {
    /// Which topology of the catalogue.
    pub topology: String,
    /// Its cases.
    pub cases: Vec<Case>,
}

/// One random case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Case {
    /// What it was made from.
    pub seed: u64,
    /// Window sizes and the like, in milliseconds.
    pub params: BTreeMap<String, i64>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// Something happens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    /// What it is.
    #[serde(flatten)]
    pub input: Input,
    /// What comes out; not known yet where a run is to fill it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<Vec<Emitted>>,
}

/// A record comes in, or the wall clock moves.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Input {
    /// The wall clock moves.
    Clock {
        /// By so many milliseconds.
        advance_wall_clock: u64,
    },
    /// A record comes in.
    Record {
        /// Its topic.
        topic: String,
        /// Its key.
        key: Option<String>,
        /// Its value.
        value: Option<String>,
        /// Its time.
        ts: i64,
    },
}

/// A record that came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emitted {
    /// Its topic.
    pub topic: String,
    /// Its key.
    pub key: Option<String>,
    /// Its value.
    pub value: Option<String>,
    /// Its time.
    pub ts: i64,
}
