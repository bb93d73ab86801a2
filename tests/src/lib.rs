//! What the tests of the whole share: the golden traces of Kafka Streams, a naive interpreter of the same meaning, a log
//! that fails on purpose, and programs on an embedded log.

pub mod by_hand;
pub mod embedded;
pub mod failing_disk;
pub mod faults;
pub mod golden;
pub mod reference;
pub mod simulation;
pub mod soak;
pub mod stored;
pub mod usage;
