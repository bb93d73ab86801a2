//! Millstream's embedded Kafka log.
