//! What every client of a cluster shares.

use std::time::Duration;

use millstream_core::LogError;
use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;

use crate::error::failed;

/// How long a call to the cluster may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// A consumer that follows no group, but reads and writes a group's positions.
pub(crate) fn group_client(config: &ClientConfig, group: &str) -> Result<BaseConsumer, LogError> {
    let mut config = config.clone();
    // Every consumer must name a group; an empty name stands for one whose positions nobody asks for.
    config.set("group.id", if group.is_empty() { "none" } else { group }).set("enable.auto.commit", "false");
    config.create().map_err(|e| failed("connecting", &e))
}
