//! What the tests of the whole share: the golden traces of Kafka Streams, and a log that fails on purpose.

pub mod faults;
pub mod golden;
