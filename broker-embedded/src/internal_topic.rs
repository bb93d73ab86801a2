//! The topics that the broker keeps for itself.

use millstream_core::LogError;

/// Positions of consumer groups.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The transaction coordinator's state.
pub(crate) const STATE_TOPIC: &str = "__transaction_state";

/// Whether nobody else creates or changes it.
pub(crate) fn is_internal(topic: &str) -> bool {
    topic == OFFSETS_TOPIC || topic == STATE_TOPIC
}

/// That a topic is not the broker's own.
pub(crate) fn check_foreign(topic: &str) -> Result<(), LogError> {
    if is_internal(topic) { Err(LogError::InternalTopic(topic.to_owned())) } else { Ok(()) }
}
