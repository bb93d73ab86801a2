//! The demo: all flights that left New York City in 2013, replayed through broker, topics and a pipeline in one process.

pub mod answers;
pub mod data;
pub mod pipeline;
pub mod replay;
pub mod results;
pub mod screen;
pub mod view;
