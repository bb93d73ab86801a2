//! The port to a log: what the runtime asks of Apache Kafka or of the embedded broker.
//!
//! Implemented by `millstream-broker` (in process), `millstream-kafka` (a cluster) and [`crate::MemoryLog`]
//! (tests). No call blocks, except where its doc says so: a thread that has nothing to do waits on its [`Wakeup`].
//! Records cross the port in whole batches of Kafka's format 2, built by the sink and read in place by the source.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use millstream_wire::{BatchBuilder, Records};

use crate::time::Timestamp;
use crate::topic_name::TopicName;
use crate::wakeup::Wakeup;

/// Position of a record in its partition.
pub type Offset = i64;

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names a partition.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A log: topics of partitions of records, with the positions of consumer groups.
pub trait Log: Send + Sync {
    /// Topics, configurations, offsets.
    fn admin(&self) -> &dyn Admin;

    /// A reader for one stream thread; `wakeup` is woken when an assigned partition has new records.
    ///
    /// # Errors
    /// When the log is closed or unreachable.
    fn consumer(&self, options: &ConsumerOptions, wakeup: Arc<Wakeup>) -> Result<Box<dyn Consumer>, LogError>;

    /// A writer for one stream thread; `wakeup` is woken when a commit gets its outcome. A producer with a
    /// transactional id fences every earlier one of that id, and ends what that one left open, before this returns.
    ///
    /// # Errors
    /// When the log is closed or unreachable.
    fn producer(&self, options: &ProducerOptions, wakeup: Arc<Wakeup>) -> Result<Box<dyn Producer>, LogError>;

    /// Whether the log lives in this process: then exactly-once is the default guarantee, and user topics that a
    /// program names with partitions are created on request.
    fn is_embedded(&self) -> bool;
}

/// What a reader sees of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Everything that was appended.
    ReadUncommitted,
    /// Only what is outside transactions or committed, up to the first open transaction.
    ReadCommitted,
}

/// How a [`Consumer`] reads.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// Shown in the log's own diagnostics.
    pub client_id: String,
    /// The group whose positions are read and committed.
    pub group: Arc<str>,
    /// What is visible.
    pub isolation: Isolation,
}

/// How a [`Producer`] writes.
#[derive(Debug, Clone)]
pub struct ProducerOptions {
    /// Shown in the log's own diagnostics.
    pub client_id: String,
    /// With an id, everything between two commits is one transaction; without, sends are visible at once.
    pub transactional_id: Option<String>,
    /// `transaction.timeout.ms`: the log aborts a transaction that is open for longer. Its producer then gets
    /// [`LogError::TimedOut`].
    pub transaction_timeout: Duration,
    /// Whether a commit is done only when it is kept as the log's durability promises. Without, it is done when it is
    /// decided: should the log lose it after that, it loses everything that came later too.
    pub durable: bool,
}

impl ProducerOptions {
    /// Sends that are visible at once, and commits that are done when they are kept.
    pub fn plain(client_id: &str) -> Self {
        ProducerOptions {
            client_id: client_id.to_owned(),
            transactional_id: None,
            transaction_timeout: Duration::from_secs(60),
            durable: true,
        }
    }

    /// Transactions under this id, and commits that are done when they are kept.
    pub fn transactional(client_id: &str, id: &str) -> Self {
        ProducerOptions { transactional_id: Some(id.to_owned()), ..Self::plain(client_id) }
    }
}

/// Reads assigned partitions. A *slot* is the index of a partition in the last assignment.
pub trait Consumer: Send {
    /// Replaces the assignment. Slot `i` reads `partitions[i]` from its offset on.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`] names a partition that is not there; the old assignment then stands.
    fn assign(&mut self, partitions: &[(TopicPartition, Offset)]) -> Result<(), LogError>;

    /// Moves one slot; the next fetch starts at `offset`.
    fn seek(&mut self, slot: usize, offset: Offset);

    /// Takes what is there for a slot, at most about `max_bytes` (always at least one batch), and moves its
    /// position. An empty fetch means that nothing is left to see for now: markers and aborted records are passed over
    /// before it is said.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] when retention has passed the position; the position stays. [`LogError::UnknownTopic`] when
    /// the topic was deleted since, also if one of its name was made anew.
    fn fetch(&mut self, slot: usize, max_bytes: usize) -> Result<Fetch, LogError>;

    /// How soon to fetch again without having been woken; `None` for a log that wakes.
    fn look_again(&self) -> Option<Duration> {
        None
    }
}

/// What a [`Consumer::fetch`] brought.
#[derive(Debug, Default)]
pub struct Fetch {
    /// Batches in offset order; control batches and aborted records are already left out, and records below the
    /// position are skipped.
    pub batches: Vec<Records>,
    /// Where the next fetch starts: past everything in `batches`, and past markers and aborted records behind it.
    pub position: Offset,
    /// The first offset that this reader cannot see yet. `position == end` means nothing is left here for now.
    pub end: Offset,
}

/// Writes batches, and ends units of work.
///
/// A unit of work is everything sent since the last commit or abort, and the offsets given to the commit. With a
/// transactional id it becomes visible as a whole or not at all.
pub trait Producer: Send {
    /// Hands a batch over; its order per partition is kept. The log seals it (producer id, sequence, CRC).
    ///
    /// # Errors
    /// A failed send fails the unit of work: the commit that follows must not be asked for. [`LogError::UnknownTopic`] when
    /// the topic was deleted since this producer first sent to it; the next send finds one that was made anew.
    fn send(&mut self, to: &TopicPartition, batch: BatchBuilder) -> Result<(), LogError>;

    /// `false` while too much is under way; the caller then stops polling until woken.
    fn has_room(&self) -> bool;

    /// Starts to end the unit of work: every send is acknowledged, then the group's offsets are written. At most one
    /// commit is under way; the outcome comes from [`Producer::poll_commit`].
    fn commit(&mut self, offsets: GroupOffsets);

    /// The outcome of the commit that is under way, once; `None` while it is not known yet.
    fn poll_commit(&mut self) -> Option<CommitOutcome>;

    /// Names the last commit, and all that came before it in the log, for [`Producer::is_kept`].
    fn last_commit(&self) -> u64;

    /// Whether a commit is kept as the log's durability promises. Before, it may yet be lost, with all that came later: nobody
    /// may remember it who outlives the log's memory. True at once for a log that keeps what it has done.
    ///
    /// # Errors
    /// When it can never be known. [`LogError::Fenced`] when another producer has taken over, as far as the log can tell without
    /// being asked over a network: what it had been asked after the commit may be about what the other has done.
    fn is_kept(&self, commit: u64) -> Result<bool, LogError>;

    /// Waits until a commit is kept.
    ///
    /// # Errors
    /// [`LogError::Full`] while there is no space for it; any other when it can never be known.
    fn keep(&self, commit: u64) -> Result<(), LogError>;

    /// Ends the unit of work so that no read-committed reader ever sees it. May block for a round trip.
    ///
    /// # Errors
    /// After an error the producer must be dropped and made again, which ends the transaction too.
    fn abort(&mut self) -> Result<(), LogError>;
}

/// Positions of a consumer group, as written by a commit.
#[derive(Debug, Clone)]
pub struct GroupOffsets {
    /// The group: `application.id`.
    pub group: Arc<str>,
    /// Per input partition, the offset of the next record to process.
    pub offsets: Vec<(TopicPartition, CommittedOffset)>,
}

/// One committed position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Offset of the next record to process.
    pub offset: Offset,
    /// Kafka Streams keeps the partition's time here, and we our operators' times (semantics.md 2, 3).
    pub metadata: String,
}

/// How a commit ended.
#[derive(Debug)]
#[must_use = "an unknown outcome is neither a commit nor an abort"]
pub enum CommitOutcome {
    /// All of it is in the log.
    Done,
    /// None of it is, for certain.
    Failed(LogError),
    /// It may be either. The producer must be dropped and made again, and the group's offsets read, to find out.
    Unknown(LogError),
}

/// A topic to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// Number of partitions, at least 1.
    pub partitions: i32,
    /// Kafka's topic configuration keys, such as `cleanup.policy`.
    pub configs: BTreeMap<String, String>,
}

/// Topics and offsets. These calls may block for a round trip; none is made per record.
pub trait Admin: Send + Sync {
    /// Names of all topics, sorted.
    ///
    /// # Errors
    /// When the log cannot answer.
    fn topics(&self) -> Result<Vec<String>, LogError>;

    /// Number of partitions of a topic; `None` if there is no such topic.
    ///
    /// # Errors
    /// When the log cannot answer.
    fn partitions(&self, topic: &str) -> Result<Option<i32>, LogError>;

    /// The topic's identity, which one that is made anew under its name does not have; `None` if the log cannot say.
    ///
    /// # Errors
    /// When the log cannot answer.
    fn topic_id(&self, topic: &str) -> Result<Option<u128>, LogError>;

    /// Creates a topic.
    ///
    /// # Errors
    /// [`LogError::TopicExists`], [`LogError::InvalidTopic`], [`LogError::InternalTopic`] or [`LogError::InvalidConfig`]; nothing is
    /// created then.
    fn create_topic(&self, spec: &TopicSpec) -> Result<(), LogError>;

    /// The configuration keys of a topic that are known; the others have Kafka's defaults.
    ///
    /// # Errors
    /// When the log cannot answer.
    fn topic_configs(&self, topic: &str) -> Result<BTreeMap<String, String>, LogError>;

    /// `max.message.bytes`: a batch that is larger is refused when it is written to the topic. `None` if the log forms batches by
    /// itself, or the topic is not there.
    ///
    /// # Errors
    /// When the log cannot answer.
    fn max_message_bytes(&self, topic: &str) -> Result<Option<usize>, LogError>;

    /// Sets some of a topic's configuration keys; the others stay as they are.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`] or [`LogError::InvalidConfig`]; nothing is changed then.
    fn alter_configs(&self, topic: &str, configs: &BTreeMap<String, String>) -> Result<(), LogError>;

    /// First offset that is still there.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`].
    fn start_offset(&self, partition: &TopicPartition) -> Result<Offset, LogError>;

    /// First offset that a reader of this isolation cannot see yet.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`].
    fn end_offset(&self, partition: &TopicPartition, isolation: Isolation) -> Result<Offset, LogError>;

    /// Offset of the first record with a time of at least `time`; the end offset if there is none.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`].
    fn offset_for_time(&self, partition: &TopicPartition, time: Timestamp) -> Result<Offset, LogError>;

    /// The group's committed positions, in the order asked for.
    ///
    /// # Errors
    /// When the log cannot answer.
    fn committed(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<CommittedOffset>>, LogError>;

    /// Forgets records below `before` (Kafka's DeleteRecords): how repartition topics are purged.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`] or [`LogError::OutOfRange`].
    fn delete_records(&self, partition: &TopicPartition, before: Offset) -> Result<(), LogError>;
}

/// What can go wrong at the log.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LogError {
    /// No such topic or partition, or not any more the one that was asked for first.
    UnknownTopic(TopicPartition),
    /// A topic of this name is there already.
    TopicExists(String),
    /// The name breaks Kafka's rule.
    InvalidTopic {
        /// The name as given.
        name: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The log keeps a topic of this name for itself: nobody else writes, cuts or deletes it (`INVALID_TOPIC_EXCEPTION`).
    InternalTopic(String),
    /// A configuration key or value is refused.
    InvalidConfig {
        /// The key.
        key: String,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// The offset is outside what the partition holds.
    OutOfRange {
        /// Where.
        partition: TopicPartition,
        /// What was asked for.
        offset: Offset,
        /// The first offset there is.
        start: Offset,
        /// The offset after the last.
        end: Offset,
    },
    /// A newer producer of the same transactional id has taken over.
    Fenced {
        /// The id.
        transactional_id: String,
    },
    /// The log has ended the producer's transaction, which took longer than its time-out. Nobody has taken over: a new producer
    /// of the id can go on from the last commit.
    TimedOut {
        /// The id.
        transactional_id: String,
    },
    /// The log has forgotten the producer's id, which was idle for too long. Another may have taken over and ended since: a new
    /// producer of the id has to go on from the group's positions.
    Forgotten {
        /// The id.
        transactional_id: String,
    },
    /// A batch was refused and nothing of it appended.
    Refused {
        /// Where it was to go.
        partition: TopicPartition,
        /// What is wrong with it.
        problem: String,
    },
    /// What is stored is damaged; reading stops before the damage.
    Corrupt {
        /// Where.
        place: String,
        /// What was found.
        problem: String,
    },
    /// No space left; nothing was appended.
    Full {
        /// Where.
        place: String,
    },
    /// The operating system or the network failed.
    Io {
        /// What was being done, and to what.
        doing: String,
        /// Its error.
        source: Arc<std::io::Error>,
    },
    /// A thread of the log's own has panicked: nothing is acknowledged any more.
    Panicked {
        /// Its name.
        thread: String,
        /// What the panic said.
        message: String,
    },
    /// The log was closed.
    Closed,
    /// Anything that a foreign log reports.
    Other {
        /// The report.
        message: String,
        /// Whether the same call may succeed later.
        retriable: bool,
    },
}

impl LogError {
    /// Whether the same work may succeed later without anything being changed.
    pub fn is_retriable(&self) -> bool {
        match self {
            LogError::Full { .. } | LogError::TimedOut { .. } | LogError::Forgotten { .. } => true,
            LogError::Other { retriable, .. } => *retriable,
            _ => false,
        }
    }

    /// Whether another member has taken over: the caller's tasks are lost to it.
    pub fn is_task_migrated(&self) -> bool {
        matches!(self, LogError::Fenced { .. })
    }
}

/// What unix says when all processes, or this one, have as many files open as they may: `ENFILE`, `EMFILE`. They have no [`ErrorKind`].
const TOO_MANY_OPEN: [i32; 2] = [23, 24];

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::UnknownTopic(p) if !TopicName::is_legal(&p.topic) => {
                write!(f, "no topic partition {p}\n  help: no topic can have this name, wanted is {}", TopicName::RULE)
            }
            LogError::UnknownTopic(p) => {
                write!(
                    f,
                    "no topic partition {p}\n  help: create topic `{}` first, or name its partitions in the program; one that was deleted while in use is gone, also if it was made anew: start again",
                    p.topic
                )
            }
            LogError::TopicExists(name) => write!(f, "topic `{name}` is there already"),
            LogError::InvalidTopic { name, rule } => write!(f, "`{name}` cannot be a topic's name: {rule}"),
            LogError::InternalTopic(name) => {
                write!(
                    f,
                    "topic `{name}` is the log's own: nobody else writes, changes or deletes it\n  help: name a topic of yours"
                )
            }
            LogError::InvalidConfig { key, problem } => write!(f, "topic configuration `{key}`: {problem}"),
            LogError::OutOfRange { partition, offset, start, end } => {
                write!(f, "{partition} holds offsets {start} to {end}, asked for {offset}")
            }
            LogError::Fenced { transactional_id } => {
                write!(f, "a newer producer has taken over transactional id `{transactional_id}`")
            }
            LogError::TimedOut { transactional_id } => write!(
                f,
                "the log has ended a transaction of `{transactional_id}` that took longer than transaction.timeout.ms\n  help: process less between two commits: lower max.poll.records or commit.interval.ms"
            ),
            LogError::Forgotten { transactional_id } => write!(
                f,
                "transactional id `{transactional_id}` was not used for so long that the log has forgotten it\n  help: a program starts anew from its group's positions, by itself; with a producer of your own make a new one, and read them before you go on"
            ),
            LogError::Refused { partition, problem } => write!(f, "batch for {partition} refused: {problem}"),
            LogError::Corrupt { place, problem } => write!(
                f,
                "{place} is damaged: {problem}\n  help: this was written in whole before; check the disk, or restore it from a copy"
            ),
            LogError::Full { place } => write!(
                f,
                "no space left at {place}; nothing was lost\n  help: free space; a program that runs goes on by itself, one that has ended when it is started again"
            ),
            LogError::Io { doing, source } => {
                let help = match source.kind() {
                    ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                        "whoever runs this must be allowed to read and write there"
                    }
                    ErrorKind::NotFound => "somebody else has removed it; restore it from a copy",
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free space, and start again",
                    _ if source.raw_os_error().is_some_and(|code| TOO_MANY_OPEN.contains(&code)) => {
                        "let the process have more files open: raise `ulimit -n`, its hard limit too"
                    }
                    _ => "check the disk",
                };
                write!(f, "{doing}: {source}\n  help: {help}")
            }
            LogError::Panicked { thread, message } => write!(
                f,
                "the log's thread `{thread}` has panicked: {message}\n  help: start again; this is a bug of the log, report it"
            ),
            LogError::Closed => write!(f, "the log was closed"),
            LogError::Other { message, .. } => write!(f, "{message}"),
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LogError::Io { source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// It said to check the disk.
    #[test]
    fn where_no_more_files_may_be_open_the_limit_is_to_be_raised() {
        for code in TOO_MANY_OPEN {
            let source = Arc::new(io::Error::from_raw_os_error(code));
            let text = LogError::Io { doing: "cannot open t-0/0.log".to_owned(), source }.to_string();
            assert!(text.starts_with("cannot open t-0/0.log: Too many open files"), "{text}");
            assert!(
                text.ends_with("help: let the process have more files open: raise `ulimit -n`, its hard limit too"),
                "{text}"
            );
        }
    }
}
