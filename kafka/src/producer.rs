//! Writing to a cluster. The calls that end a unit of work block, as librdkafka's do.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_core::{BatchBuilder, CommitOutcome, GroupOffsets, Headers, LogError, Producer, TopicPartition, Wakeup};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use crate::client::{TIMEOUT, group_client};
use crate::error::failed;

/// Remembers the first record of a unit of work that was not delivered.
#[derive(Default)]
struct Deliveries(Mutex<Option<LogError>>);

impl ClientContext for Deliveries {}
impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failed("delivering a record", error));
        }
    }
}

pub(crate) struct ClusterProducer {
    config: ClientConfig,
    producer: BaseProducer<Deliveries>,
    transactional: bool,
    begun: bool,
    /// Knows the group whose positions are committed; made with the first commit.
    group: Option<(Arc<str>, BaseConsumer)>,
    outcome: Option<CommitOutcome>,
    wakeup: Arc<Wakeup>,
}

impl ClusterProducer {
    pub(crate) fn new(config: ClientConfig, transactional: bool, wakeup: Arc<Wakeup>) -> Result<Self, LogError> {
        let producer: BaseProducer<Deliveries> =
            config.create_with_context(Deliveries::default()).map_err(|e| failed("connecting", &e))?;
        if transactional {
            producer.init_transactions(TIMEOUT).map_err(|e| failed("initialising transactions", &e))?;
        }
        Ok(ClusterProducer { config, producer, transactional, begun: false, group: None, outcome: None, wakeup })
    }

    fn undelivered(&self) -> Option<LogError> {
        self.producer.context().0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn end(&mut self, offsets: &GroupOffsets) -> Result<(), (LogError, bool)> {
        let certain = |error: LogError| (error, true);
        self.producer.flush(TIMEOUT).map_err(|e| certain(failed("delivering", &e)))?;
        if let Some(error) = self.undelivered() {
            return Err(certain(error));
        }
        // librdkafka takes a commit of no positions for a mistake.
        if offsets.offsets.is_empty() && !self.transactional {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        for (partition, committed) in &offsets.offsets {
            let added =
                list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(committed.offset));
            added.map_err(|e| certain(failed("committing", &e)))?;
            if let Some(mut element) = list.find_partition(&partition.topic, partition.partition) {
                element.set_metadata(&committed.metadata);
            }
        }
        if self.group.as_ref().is_none_or(|(name, _)| *name != offsets.group) {
            self.group = Some((offsets.group.clone(), group_client(&self.config, &offsets.group).map_err(certain)?));
        }
        let Some((_, group)) = &self.group else { return Ok(()) };
        if !self.transactional {
            // Records are visible already; a position that may or may not be written is only read again.
            return group.commit(&list, CommitMode::Sync).map_err(|e| (failed("committing positions", &e), false));
        }
        if !self.begun {
            self.producer.begin_transaction().map_err(|e| certain(failed("beginning a transaction", &e)))?;
            self.begun = true;
        }
        let metadata = group.group_metadata().ok_or_else(|| certain(LogError::Closed))?;
        self.producer
            .send_offsets_to_transaction(&list, &metadata, TIMEOUT)
            .map_err(|e| certain(failed("committing positions", &e)))?;
        self.begun = false;
        self.producer.commit_transaction(TIMEOUT).map_err(|e| (failed("committing", &e), false))
    }

    fn begin(&mut self) -> Result<(), LogError> {
        if self.transactional && !self.begun {
            self.producer.begin_transaction().map_err(|e| failed("beginning a transaction", &e))?;
            self.begun = true;
        }
        Ok(())
    }
}

impl Producer for ClusterProducer {
    fn send(&mut self, to: &TopicPartition, batch: BatchBuilder) -> Result<(), LogError> {
        self.begin()?;
        let mut records = batch.into_records(0);
        // To librdkafka the time 0 means now: a record of that time goes a millisecond later.
        while let Some(view) = records.next() {
            let view = view.map_err(|e| LogError::Refused { partition: to.clone(), problem: e.to_string() })?;
            let mut record: BaseRecord<'_, [u8], [u8]> =
                BaseRecord::to(&to.topic).partition(to.partition).timestamp(view.timestamp.max(1));
            record.key = view.key.map(|k| k.as_slice());
            record.payload = view.value.map(|v| v.as_slice());
            if !view.headers.is_empty() {
                let headers = Headers::from_section(view.headers);
                let add = |all: OwnedHeaders, (key, value)| all.insert(Header { key, value });
                record.headers = Some(headers.iter().fold(OwnedHeaders::new(), add));
            }
            // A full queue empties as the cluster acknowledges: back-pressure is felt here.
            while let Err((error, back)) = self.producer.send(record) {
                match error {
                    KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => {
                        self.producer.poll(Duration::from_millis(10));
                        record = back;
                    }
                    error => return Err(failed(&format!("sending to {to}"), &error)),
                }
            }
        }
        self.producer.poll(Duration::ZERO);
        self.undelivered().map_or(Ok(()), Err)
    }

    fn has_room(&self) -> bool {
        true
    }

    fn commit(&mut self, offsets: GroupOffsets) {
        self.outcome = Some(match self.end(&offsets) {
            Ok(()) => CommitOutcome::Done,
            Err((error, true)) => CommitOutcome::Failed(error),
            Err((error, false)) => CommitOutcome::Unknown(error),
        });
        self.wakeup.wake();
    }

    fn poll_commit(&mut self) -> Option<CommitOutcome> {
        self.outcome.take()
    }

    fn last_commit(&self) -> u64 {
        0
    }

    fn is_kept(&self, _commit: u64) -> Result<bool, LogError> {
        Ok(true)
    }

    fn keep(&self, _commit: u64) -> Result<(), LogError> {
        Ok(())
    }

    fn abort(&mut self) -> Result<(), LogError> {
        let _dropped_with_the_transaction = self.undelivered();
        if !std::mem::take(&mut self.begun) {
            return Ok(());
        }
        self.producer.abort_transaction(TIMEOUT).map_err(|e| failed("aborting", &e))
    }
}
