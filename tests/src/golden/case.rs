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

/// A record comes in, or the wall clock moves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    /// Topic of the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Its key.
    #[serde(default)]
    pub key: Option<String>,
    /// Its value.
    #[serde(default)]
    pub value: Option<String>,
    /// Its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ts: Option<i64>,
    /// Milliseconds by which the wall clock moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advance_wall_clock: Option<u64>,
    /// What comes out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<Vec<Emitted>>,
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
