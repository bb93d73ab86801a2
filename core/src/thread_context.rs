//! What the threads of an application share with the process around them.

use std::sync::Arc;

use crate::alignment::TimeAlignment;
use crate::config::{ProcessingGuarantee, RuntimeConfig};
use crate::log::{ConsumerOptions, Isolation, Log};
use crate::plan::Plan;
use crate::topology::Topology;

/// What a stream thread shares with the process around it.
#[derive(Clone)]
pub struct ThreadContext {
    /// The program.
    pub topology: Arc<Topology>,
    /// Its tasks and topics.
    pub plan: Arc<Plan>,
    /// Settings.
    pub config: Arc<RuntimeConfig>,
    /// The log.
    pub log: Arc<dyn Log>,
    /// Event-time drift between tasks.
    pub alignment: TimeAlignment,
    /// Names this process among those of the application; part of transactional ids.
    pub process_id: String,
}

impl ThreadContext {
    /// What a consumer of the application is opened with.
    pub(crate) fn consumer_options(&self, name: &str) -> ConsumerOptions {
        let isolation = match self.config.guarantee {
            ProcessingGuarantee::ExactlyOnceV2 => Isolation::ReadCommitted,
            ProcessingGuarantee::AtLeastOnce => Isolation::ReadUncommitted,
        };
        ConsumerOptions { client_id: name.to_owned(), group: self.config.application_id.clone(), isolation }
    }
}
