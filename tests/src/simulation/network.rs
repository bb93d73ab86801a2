//! The way between stream threads and their log: answers get lost, commits are done without anybody knowing, or later than
//! anybody expects, sends fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_broker::Broker;
use millstream_core::{
    Admin, BatchBuilder, CommitOutcome, CommittedOffset, Consumer, ConsumerOptions, Fetch, GroupOffsets, Isolation,
    Log, LogError, Offset, Producer, ProducerOptions, Timestamp, TopicPartition, TopicSpec, Wakeup,
};

use super::dice::Dice;
use super::trace::Trace;

/// What goes wrong; each so many times in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weather {
    /// A commit is done, and its answer is lost.
    pub(super) answer_lost: u64,
    /// A commit is not done, and nobody says so.
    pub(super) request_lost: u64,
    /// A commit is on its way for long: its answer is taken for lost, and later it arrives.
    pub(super) request_late: u64,
    /// A commit fails for certain.
    pub(super) commit_failed: u64,
    /// A commit's answer takes a while.
    pub(super) answer_slow: u64,
    /// A batch is not taken.
    pub(super) send_failed: u64,
    /// A question about topics and positions is not answered, or a producer not made.
    pub(super) unanswered: u64,
    /// A fetch fails.
    pub(super) fetch_failed: u64,
}

/// A log at the other end of a network.
#[derive(Clone)]
pub(super) struct Network {
    broker: Broker,
    shared: Arc<Shared>,
    member: Arc<Member>,
}

/// An instance as the log knows it.
#[derive(Default)]
struct Member {
    /// Another instance has taken over: the group gives this one no producers any more.
    is_retired: AtomicBool,
    /// The transactional ids of producers that have been told so.
    told: Mutex<BTreeSet<String>>,
}

struct Shared {
    dice: Dice,
    trace: Trace,
    weather: Mutex<Weather>,
    /// Commits that are on their way.
    late: Mutex<Vec<(Box<dyn Producer>, GroupOffsets)>>,
}

impl Network {
    pub(super) fn new(broker: Broker, dice: Dice, trace: Trace, weather: Weather) -> Self {
        let (weather, late) = (Mutex::new(weather), Mutex::default());
        Network { broker, shared: Arc::new(Shared { dice, trace, weather, late }), member: Arc::default() }
    }

    /// The same network for another instance.
    pub(super) fn join(&self) -> Self {
        Network { member: Arc::default(), ..self.clone() }
    }

    /// Another instance takes over.
    pub(super) fn retire(&self) {
        self.member.is_retired.store(true, Ordering::Relaxed);
    }

    /// Takes note of an answer that says that another instance has taken over an id.
    fn hear<T>(&self, id: Option<&String>, answer: Result<T, LogError>) -> Result<T, LogError> {
        if answer.as_ref().is_err_and(LogError::is_task_migrated) {
            self.told().extend(id.cloned());
        }
        answer
    }

    fn told(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.member.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on everything arrives.
    pub(super) fn heal(&self) {
        *self.shared.weather.lock().unwrap_or_else(PoisonError::into_inner) = Weather::default();
    }

    /// What was on its way for long arrives.
    pub(super) fn deliver(&self) {
        let late = std::mem::take(&mut *self.late());
        for (mut producer, offsets) in late {
            producer.commit(offsets);
            let outcome = producer.poll_commit();
            self.shared.trace.say(format_args!("a late commit arrives: {outcome:?}"));
        }
    }

    fn late(&self) -> MutexGuard<'_, Vec<(Box<dyn Producer>, GroupOffsets)>> {
        self.shared.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn weather(&self) -> Weather {
        *self.shared.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn happens(&self, per_mille: impl Fn(&Weather) -> u64) -> bool {
        self.shared.dice.per_mille(per_mille(&self.weather()))
    }

    /// Fails so many times in a thousand.
    fn fails(&self, what: &str, per_mille: impl Fn(&Weather) -> u64) -> Result<(), LogError> {
        if !self.happens(per_mille) {
            return Ok(());
        }
        let retriable = self.shared.dice.per_mille(700);
        self.shared.trace.say(format_args!("{what} fails, {}", if retriable { "may pass" } else { "stays" }));
        Err(LogError::Other { message: format!("{what} was told to fail"), retriable })
    }
}

impl Log for Network {
    fn admin(&self) -> &dyn Admin {
        self
    }

    fn consumer(&self, options: &ConsumerOptions, wakeup: Arc<Wakeup>) -> Result<Box<dyn Consumer>, LogError> {
        let consumer = self.broker.consumer(options, wakeup)?;
        let committed = options.isolation == Isolation::ReadCommitted;
        Ok(Box::new(Reader { consumer, network: self.clone(), committed, slots: Vec::new() }))
    }

    fn producer(&self, options: &ProducerOptions, wakeup: Arc<Wakeup>) -> Result<Box<dyn Producer>, LogError> {
        let id = options.transactional_id.clone();
        if id.as_ref().is_some_and(|id| self.told().contains(id)) {
            self.shared.trace.violation("a fenced instance fences the one that has taken over".into());
        }
        if self.member.is_retired.load(Ordering::Relaxed) {
            let transactional_id = id.clone().unwrap_or_default();
            return self.hear(id.as_ref(), Err(LogError::Fenced { transactional_id }));
        }
        self.fails("making a producer", |w| w.unanswered)?;
        let producer = Some(self.broker.producer(options, wakeup.clone())?);
        self.shared.trace.say(format_args!("producer {id:?}"));
        Ok(Box::new(Writer { id, producer, network: self.clone(), wakeup, answer: None, slow: 0 }))
    }

    fn is_embedded(&self) -> bool {
        true
    }
}

impl Admin for Network {
    fn topics(&self) -> Result<Vec<String>, LogError> {
        self.broker.topics()
    }

    fn partitions(&self, topic: &str) -> Result<Option<i32>, LogError> {
        self.broker.partitions(topic)
    }

    fn topic_id(&self, topic: &str) -> Result<Option<u128>, LogError> {
        self.fails("asking for a topic", |w| w.unanswered)?;
        self.broker.topic_id(topic)
    }

    fn create_topic(&self, spec: &TopicSpec) -> Result<(), LogError> {
        self.broker.create_topic(spec)
    }

    fn topic_configs(&self, topic: &str) -> Result<BTreeMap<String, String>, LogError> {
        self.fails("asking for a topic", |w| w.unanswered)?;
        self.broker.topic_configs(topic)
    }

    fn max_message_bytes(&self, topic: &str) -> Result<Option<usize>, LogError> {
        self.fails("asking for a topic", |w| w.unanswered)?;
        self.broker.max_message_bytes(topic)
    }

    fn alter_configs(&self, topic: &str, configs: &BTreeMap<String, String>) -> Result<(), LogError> {
        self.broker.alter_configs(topic, configs)
    }

    fn start_offset(&self, partition: &TopicPartition) -> Result<Offset, LogError> {
        self.fails("asking for a start", |w| w.unanswered)?;
        self.broker.start_offset(partition)
    }

    fn end_offset(&self, partition: &TopicPartition, isolation: Isolation) -> Result<Offset, LogError> {
        self.fails("asking for an end", |w| w.unanswered)?;
        self.broker.end_offset(partition, isolation)
    }

    fn offset_for_time(&self, partition: &TopicPartition, time: Timestamp) -> Result<Offset, LogError> {
        self.broker.offset_for_time(partition, time)
    }

    fn committed(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<CommittedOffset>>, LogError> {
        self.fails("asking for positions", |w| w.unanswered)?;
        self.broker.committed(group, partitions)
    }

    fn delete_records(&self, partition: &TopicPartition, before: Offset) -> Result<(), LogError> {
        self.broker.delete_records(partition, before)
    }
}

struct Reader {
    consumer: Box<dyn Consumer>,
    network: Network,
    committed: bool,
    slots: Vec<TopicPartition>,
}

impl Consumer for Reader {
    fn assign(&mut self, partitions: &[(TopicPartition, Offset)]) -> Result<(), LogError> {
        self.consumer.assign(partitions)?;
        self.slots = partitions.iter().map(|(partition, _)| partition.clone()).collect();
        Ok(())
    }

    fn seek(&mut self, slot: usize, offset: Offset) {
        self.consumer.seek(slot, offset);
    }

    fn fetch(&mut self, slot: usize, max_bytes: usize) -> Result<Fetch, LogError> {
        self.network.fails("a fetch", |w| w.fetch_failed)?;
        let fetch = self.consumer.fetch(slot, max_bytes)?;
        let stable = self.network.broker.end_offset(&self.slots[slot], Isolation::ReadCommitted)?;
        if self.committed && fetch.position > stable {
            let (partition, position) = (&self.slots[slot], fetch.position);
            let text = format!("{partition} was read up to {position}, and is stable up to {stable}");
            self.network.shared.trace.violation(text);
        }
        Ok(fetch)
    }
}

/// How a commit was answered.
enum Answer {
    Lost,
    Failed,
}

struct Writer {
    id: Option<String>,
    /// `None`: its last commit is on the way.
    producer: Option<Box<dyn Producer>>,
    network: Network,
    wakeup: Arc<Wakeup>,
    answer: Option<Answer>,
    /// So many polls until the answer.
    slow: u64,
}

fn lost() -> LogError {
    LogError::Other { message: "the answer was lost".into(), retriable: true }
}

impl Producer for Writer {
    fn send(&mut self, to: &TopicPartition, batch: BatchBuilder) -> Result<(), LogError> {
        self.network.fails("a send", |w| w.send_failed)?;
        self.network.shared.trace.say(format_args!("send {to}: {} records, {} bytes", batch.count(), batch.len()));
        self.network.hear(self.id.as_ref(), self.producer.as_mut().ok_or_else(lost)?.send(to, batch))
    }

    fn commit(&mut self, offsets: GroupOffsets) {
        let Network { shared, .. } = &self.network;
        let positions: Vec<String> = offsets.offsets.iter().map(|(p, o)| format!("{p}@{}", o.offset)).collect();
        let say = |how: &str| shared.trace.say(format_args!("commit {}{how}", positions.join(" ")));
        if self.network.happens(|w| w.commit_failed) {
            say(", which fails");
            self.answer = Some(Answer::Failed);
        } else if self.network.happens(|w| w.request_lost) {
            say(", which is lost");
            self.answer = Some(Answer::Lost);
        } else if self.network.happens(|w| w.request_late) {
            say(", which will be late");
            self.answer = Some(Answer::Lost);
            self.network.late().extend(self.producer.take().map(|producer| (producer, offsets)));
        } else {
            let is_lost = self.network.happens(|w| w.answer_lost);
            say(if is_lost { ", whose answer is lost" } else { "" });
            if let Some(producer) = &mut self.producer {
                producer.commit(offsets);
            }
            if is_lost {
                self.answer = Some(Answer::Lost);
            } else if self.network.happens(|w| w.answer_slow) {
                self.slow = 1 + shared.dice.below(5);
            }
        }
    }

    fn poll_commit(&mut self) -> Option<CommitOutcome> {
        if self.slow > 0 {
            self.slow -= 1;
            // Whoever waits asks again at once: there is no time here.
            self.wakeup.wake();
            return None;
        }
        match self.answer.take() {
            Some(Answer::Lost) => Some(CommitOutcome::Unknown(lost())),
            Some(Answer::Failed) => Some(CommitOutcome::Failed(LogError::Other {
                message: "a commit was told to fail".into(),
                retriable: true,
            })),
            None => match self.producer.as_mut()?.poll_commit()? {
                CommitOutcome::Failed(error) => {
                    self.network.hear::<()>(self.id.as_ref(), Err(error)).err().map(CommitOutcome::Failed)
                }
                outcome => Some(outcome),
            },
        }
    }

    fn last_commit(&self) -> u64 {
        self.producer.as_ref().map_or(0, |producer| producer.last_commit())
    }

    fn is_kept(&self, commit: u64) -> Result<bool, LogError> {
        self.producer.as_ref().map_or(Ok(false), |producer| producer.is_kept(commit))
    }

    fn keep(&self, commit: u64) -> Result<(), LogError> {
        self.producer.as_ref().map_or(Ok(()), |producer| producer.keep(commit))
    }

    fn has_room(&self) -> bool {
        self.producer.as_ref().is_none_or(|producer| producer.has_room())
    }

    fn abort(&mut self) -> Result<(), LogError> {
        self.network.fails("an abort", |w| w.send_failed)?;
        self.network.hear(self.id.as_ref(), self.producer.as_mut().ok_or_else(lost)?.abort())
    }
}
