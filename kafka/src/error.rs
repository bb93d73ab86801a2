//! librdkafka's errors as the port's.

use millstream_core::LogError;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What was being done, and librdkafka's word for why it failed.
pub(crate) fn failed(doing: &str, error: &KafkaError) -> LogError {
    let code = error.rdkafka_error_code();
    if let Some(RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch) =
        code
    {
        return LogError::Fenced { transactional_id: doing.to_owned() };
    }
    let retriable = matches!(
        code,
        Some(
            RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::QueueFull
        )
    );
    LogError::Other { message: format!("{doing}: {error}"), retriable }
}
