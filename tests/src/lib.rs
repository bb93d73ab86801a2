//! What the tests of the whole share: the golden traces of Kafka Streams, a naive interpreter of the same meaning, and a
//! log that fails on purpose.

pub mod faults;
pub mod golden;
pub mod reference;
