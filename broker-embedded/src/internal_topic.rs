//! The topics that the broker keeps for itself.

/// Positions of consumer groups.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The transaction coordinator's state.
pub(crate) const STATE_TOPIC: &str = "__transaction_state";

/// Whether nobody else creates or changes it.
pub(crate) fn is_internal(topic: &str) -> bool {
    topic == OFFSETS_TOPIC || topic == STATE_TOPIC
}
