//! Settings as people write them: Kafka's keys, from a file, the environment and flags, each with its origin kept.
//!
//! The later of file, environment and flags wins. Every problem is listed at once; an unknown key is a warning that
//! names the nearest known one, an unknown flag is refused.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZero;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::config::{Compatibility, ProcessingGuarantee, RuntimeConfig};
use crate::error::{Error, Result};
use crate::exception_handler::ExceptionHandler;
use crate::nearest_word::nearest_word;
use crate::topic_name::TopicName;

/// The keys that are known, each with what it means.
pub const SETTINGS: [(&str, &str); 29] = [
    ("application.id", "names the consumer group, the internal topics and the state"),
    ("auto.create.topics.enable", "on the embedded log: create the program's topics that are missing (true)"),
    ("auto.offset.reset", "where to start without a position: earliest, latest, none, by_duration:PT1H (earliest)"),
    ("batch.size", "bytes of an output batch (65536)"),
    ("bootstrap.servers", "a Kafka cluster to run on; not in this build yet: it runs in this process"),
    ("commit.interval.ms", "milliseconds between commits (100 with exactly_once_v2, else 30000)"),
    ("data.dir", "folder of the embedded log (./<application.id>-data)"),
    ("default.dsl.store", "where state lies: in_memory, or rocksDB, where it may outgrow memory (in_memory)"),
    ("deserialization.exception.handler", "fail, or continue: leave out what cannot be decoded (fail)"),
    ("durability", "of the embedded log: memory, os, disk (os)"),
    ("errors.dead.letter.queue.topic.name", "topic for records that continue leaves out; fail leaves them in theirs"),
    ("log.retention.ms", "of the embedded log's topics (604800000; -1 is forever)"),
    ("log.segment.bytes", "of the embedded log's topics, 1024 to 2147483647 (1073741824)"),
    ("max.partition.fetch.bytes", "bytes fetched from a partition at once (1048576)"),
    ("max.poll.records", "records between two looks at commits and new input (10000)"),
    ("max.request.size", "bytes of a record that is written, at most (1048576)"),
    ("max.task.idle.ms", "how long an empty input partition holds a task up; -1 never (0)"),
    ("max.task.skew.ms", "event time by which a task may run ahead of another; -1 any (3600000)"),
    ("metadata.max.age.ms", "how often topics are looked for that a pattern matches (300000)"),
    ("num.partitions", "of topics that are created because they are missing (1)"),
    ("num.stream.threads", "stream threads (1)"),
    ("processing.exception.handler", "fail, or continue: leave out records that an operator fails on (fail)"),
    ("processing.exception.handler.global.enabled", "ask that handler about global tables and stores too (false)"),
    ("processing.guarantee", "at_least_once or exactly_once_v2 (exactly_once_v2 on the embedded log)"),
    ("production.exception.handler", "fail, or continue: leave out records that cannot be written (fail)"),
    ("state.dir", "folder of state on disk (<data.dir>/state)"),
    (
        "statestore.cache.max.bytes",
        "of rows that are on disk, bytes that stay in memory too (268435456); RocksDB has up to 192 MiB besides",
    ),
    ("statestore.uncommitted.max.bytes", "bytes of changes that wait for a commit at most (67108864)"),
    ("topology.compatibility", "refuse state that an incompatible program left, or ignore: take it as it is (refuse)"),
];

const DESERIALIZATION: &str = "deserialization.exception.handler";
const LETTERS: &str = "errors.dead.letter.queue.topic.name";
const PROCESSING: &str = "processing.exception.handler";
const PROCESSING_GLOBAL: &str = "processing.exception.handler.global.enabled";
const PRODUCTION: &str = "production.exception.handler";

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In the program.
    Program,
    /// A line of a file.
    File(PathBuf, usize),
    /// A variable of the environment.
    Environment(String),
    /// A flag of the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Program => f.write_str("program"),
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Flag => f.write_str("flag"),
        }
    }
}

/// Milliseconds, or -1 for no bound; a type to parse a setting into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound(pub Option<i64>);

impl Bound {
    /// What is said to be wanted where something else was written.
    pub const WANTED: &str = "milliseconds, or -1";
}

impl FromStr for Bound {
    type Err = NotABound;

    fn from_str(text: &str) -> Result<Self, NotABound> {
        match text.parse() {
            Ok(-1) => Ok(Bound(None)),
            Ok(ms @ 0..) => Ok(Bound(Some(ms))),
            _ => Err(NotABound),
        }
    }
}

/// No milliseconds, and not -1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotABound;

/// Values by key.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    values: BTreeMap<String, (String, Origin)>,
    /// Functions for `….exception.handler`.
    handlers: BTreeMap<&'static str, ExceptionHandler>,
    warnings: Vec<String>,
    problems: Vec<String>,
}

impl Settings {
    /// No settings: all defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a value in the program. What is read afterwards replaces it.
    pub fn set(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.take(key, value.to_string(), Origin::Program);
        self
    }

    /// Sets `deserialization.exception.handler` to a function of the program's, or to any other handler. A word for it that is
    /// read afterwards replaces it, as of any setting.
    ///
    /// ```
    /// use millstream_core::{ExceptionHandler, HandlerResponse, Settings};
    ///
    /// let skip_tests = ExceptionHandler::new(|context| match context.raw_key {
    ///     Some(key) if key.starts_with(b"test-") => HandlerResponse::Continue,
    ///     _ => HandlerResponse::Fail,
    /// });
    /// let mut settings = Settings::new().deserialization_exception_handler(skip_tests.clone());
    /// assert_eq!(settings.config("app")?.undecodable, skip_tests);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    pub fn deserialization_exception_handler(self, handler: ExceptionHandler) -> Self {
        self.handler(DESERIALIZATION, handler)
    }

    /// As [`Settings::deserialization_exception_handler`], for `processing.exception.handler`.
    pub fn processing_exception_handler(self, handler: ExceptionHandler) -> Self {
        self.handler(PROCESSING, handler)
    }

    /// As [`Settings::deserialization_exception_handler`], for `production.exception.handler`.
    pub fn production_exception_handler(self, handler: ExceptionHandler) -> Self {
        self.handler(PRODUCTION, handler)
    }

    fn handler(mut self, key: &'static str, handler: ExceptionHandler) -> Self {
        self.values.remove(key);
        self.handlers.insert(key, handler);
        self
    }

    /// The handler that a word names, or else the program's, or else `fail`.
    fn handler_or(&mut self, key: &str, words: &[(&str, &ExceptionHandler)]) -> ExceptionHandler {
        let said = self.one_of(key, words);
        said.or(self.handlers.get(key)).unwrap_or(&ExceptionHandler::Fail).clone()
    }

    /// Naming the topic alone leaves nothing out, so nothing would come to it.
    fn warn_of_unwritten_letters(&mut self, config: &RuntimeConfig) {
        let Some((topic, origin)) = self.get(LETTERS) else { return };
        if [&config.undecodable, &config.processing, &config.production].iter().all(|h| **h == ExceptionHandler::Fail) {
            let warning = format!(
                "`{LETTERS}` is `{topic}` ({origin}), and every handler says `fail`: no record is written there\n  help: set {DESERIALIZATION}, {PROCESSING} or {PRODUCTION} to `continue`"
            );
            self.warning(warning);
        }
    }

    /// Reads the lines `key=value` of a properties file.
    pub fn read_properties(&mut self, path: &std::path::Path, text: &str) {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', '!']) {
                continue;
            }
            let origin = Origin::File(path.to_owned(), number + 1);
            match line.split_once(['=', ':']) {
                Some((key, value)) => self.take(key.trim(), value.trim().to_owned(), origin),
                None => self.problems.push(format!("{origin}: `{line}` is not key=value")),
            }
        }
    }

    /// Reads variables such as `MILLSTREAM_NUM_STREAM_THREADS`.
    pub fn read_environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        for (name, value) in variables {
            if let Some(key) = name.strip_prefix("MILLSTREAM_") {
                self.take(&key.to_lowercase().replace('_', "."), value, Origin::Environment(name.clone()));
            }
        }
    }

    /// Reads flags, `--key=value` or `--key value`. Others are left to the caller, by name in `own`; unknown ones are
    /// problems. Returns the caller's.
    pub fn read_flags(&mut self, flags: impl Iterator<Item = String>, own: &[&str]) -> Vec<(String, String)> {
        let mut flags = flags.peekable();
        let mut found = Vec::new();
        while let Some(flag) = flags.next() {
            let Some(name) = flag.strip_prefix("--") else {
                self.problems.push(format!("`{flag}` is not expected here\n  help: flags are --key=value"));
                continue;
            };
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (name.to_owned(), flags.next_if(|next| !next.starts_with("--"))),
            };
            let known = SETTINGS.iter().any(|(key, _)| *key == name);
            match value {
                _ if !known && !own.contains(&name.as_str()) => {
                    let known = SETTINGS.iter().map(|(key, _)| *key).chain(own.iter().copied());
                    self.problems.push(format!("unknown flag `--{name}`{}", nearest(&name, known)))
                }
                None if known => self.problems.push(format!("flag `--{name}` needs a value")),
                Some(value) if known => self.take(&name, value, Origin::Flag),
                value => found.push((name, value.unwrap_or_default())),
            }
        }
        found
    }

    fn take(&mut self, key: &str, value: String, origin: Origin) {
        if !SETTINGS.iter().any(|(known, _)| *known == key) {
            let known = SETTINGS.iter().map(|(known, _)| *known);
            self.warnings.push(format!("unknown setting `{key}` ({origin}){}", nearest(key, known)));
        }
        self.values.insert(key.to_owned(), (value, origin));
    }

    /// A value and its origin.
    pub fn get(&self, key: &str) -> Option<(&str, &Origin)> {
        self.values.get(key).map(|(value, origin)| (value.as_str(), origin))
    }

    /// What looks wrong but does not stop anything.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// A value of another type; what cannot be read is a problem that [`Settings::config`] reports.
    pub fn parsed<T: FromStr>(&mut self, key: &str, wanted: &str) -> Option<T> {
        let (value, origin) = self.values.get(key)?;
        match value.parse() {
            Ok(value) => Some(value),
            Err(_) => {
                self.problems.push(format!("`{key}` is `{value}` ({origin}), wanted is {wanted}"));
                None
            }
        }
    }

    /// A value that is one of a few words; another is a problem that [`Settings::config`] reports.
    pub fn one_of<T: Copy>(&mut self, key: &str, allowed: &[(&str, T)]) -> Option<T> {
        let (value, origin) = self.values.get(key)?;
        let found = allowed.iter().find(|(name, _)| name == value).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = allowed.iter().map(|(name, _)| *name).collect();
            self.problems.push(format!("`{key}` is `{value}` ({origin}), wanted is one of {}", names.join(", ")));
        }
        found
    }

    /// A folder; one without a name is a problem that [`Settings::check`] reports.
    pub fn folder(&mut self, key: &str) -> Option<PathBuf> {
        let (value, origin) = self.values.get(key)?;
        let problem = format!("`{key}` is empty ({origin}), wanted is a folder");
        if value.is_empty() && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
        Some(value.into())
    }

    fn at_least_one(&mut self, key: &str, field: &mut usize) {
        let number: Option<NonZero<usize>> = self.parsed(key, RuntimeConfig::COUNT);
        *field = number.map_or(*field, NonZero::get);
    }

    /// Fails with every problem found so far.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn check(&mut self) -> Result<()> {
        if self.problems.is_empty() { Ok(()) } else { Err(Error::Config(Box::new(std::mem::take(&mut self.problems)))) }
    }

    /// Notes what looks wrong but stops nothing.
    pub fn warning(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Notes a problem that [`Settings::check`] reports.
    pub fn problem(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// The runtime's settings, on the embedded log unless `bootstrap.servers` is set.
    ///
    /// # Errors
    /// [`Error::Config`] with every problem found so far.
    pub fn config(&mut self, application_id: &str) -> Result<RuntimeConfig> {
        let (id, origin) = self.get("application.id").unwrap_or((application_id, &Origin::Program));
        let id = id.to_owned();
        if !RuntimeConfig::is_application_id(&id) {
            let problem = format!("`application.id` is `{id}` ({origin}), wanted is {}", TopicName::PART_RULE);
            self.problem(problem);
        }
        let embedded = self.get("bootstrap.servers").is_none();
        let mut config = if embedded { RuntimeConfig::embedded(&id) } else { RuntimeConfig::cluster(&id) };
        let guarantees = [
            ("at_least_once", ProcessingGuarantee::AtLeastOnce),
            ("exactly_once_v2", ProcessingGuarantee::ExactlyOnceV2),
        ];
        if let Some(guarantee) = self.one_of("processing.guarantee", &guarantees) {
            config.guarantee = guarantee;
            config.commit_interval =
                Duration::from_millis(if guarantee == ProcessingGuarantee::ExactlyOnceV2 { 100 } else { 30_000 });
        }
        for (key, _, field) in RuntimeConfig::COUNTS {
            self.at_least_one(key, field(&mut config));
        }
        if let Some(ms) = self.parsed("commit.interval.ms", "milliseconds") {
            config.commit_interval = Duration::from_millis(ms);
        }
        if let Some(Bound(ms)) = self.parsed("max.task.idle.ms", Bound::WANTED) {
            config.max_task_idle = ms;
        }
        if let Some(Bound(ms)) = self.parsed("max.task.skew.ms", Bound::WANTED) {
            config.max_task_skew = ms;
        }
        if let Some(ms) = self.parsed("metadata.max.age.ms", "milliseconds") {
            config.metadata_max_age = Duration::from_millis(ms);
        }
        let resets = "one of earliest, latest, none, or by_duration:PT1H";
        if let Some(reset) = self.parsed("auto.offset.reset", resets) {
            config.offset_reset = reset;
        }
        if let Some((topic, origin)) = self.get(LETTERS).filter(|(topic, _)| !TopicName::is_legal(topic)) {
            let problem = format!("`{LETTERS}` is `{topic}` ({origin}), wanted is {}", TopicName::RULE);
            self.problem(problem);
        }
        let letters = self.get(LETTERS).map(|(topic, _)| topic.to_owned());
        let go_on = letters.clone().map_or(ExceptionHandler::Skip, ExceptionHandler::DeadLetter);
        let words = [("fail", &ExceptionHandler::Fail), ("continue", &go_on)];
        config.undecodable = self.handler_or(DESERIALIZATION, &words);
        let truths = [("true", true), ("false", false)];
        config.processing_global = self.one_of(PROCESSING_GLOBAL, &truths).unwrap_or(false);
        config.processing = self.handler_or(PROCESSING, &words);
        config.production = self.handler_or(PRODUCTION, &words);
        self.warn_of_unwritten_letters(&config);
        let compatibilities = [("refuse", Compatibility::Refuse), ("ignore", Compatibility::Ignore)];
        if let Some(compatibility) = self.one_of("topology.compatibility", &compatibilities) {
            config.compatibility = compatibility;
        }
        let create = self.one_of("auto.create.topics.enable", &truths).unwrap_or(embedded);
        let partitions: Option<NonZero<u16>> = self.parsed("num.partitions", RuntimeConfig::PARTITIONS);
        config.create_topics = create.then_some(partitions.map_or(1, |n| n.get().into()));
        self.check().map(|()| config)
    }
}

/// `, did you mean …` for a word that is nearly a known one.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest_word(word, known).map(|known| format!(", did you mean `{known}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_place_wins_and_every_problem_is_listed() {
        let mut settings = Settings::new();
        settings.read_properties(
            std::path::Path::new("app.properties"),
            "num.stream.threads=2\nnum.stream.thread = 9\nnonsense\n",
        );
        settings.read_environment([("MILLSTREAM_NUM_STREAM_THREADS".to_owned(), "3".to_owned())].into_iter());
        let own = settings.read_flags(
            ["--commit.interval.ms=x", "--stdin", "lines", "--foo"].map(String::from).into_iter(),
            &["stdin"],
        );
        assert_eq!(own, [("stdin".to_owned(), "lines".to_owned())]);
        assert_eq!(
            settings.get("num.stream.threads").map(|(v, o)| (v, o.to_string())),
            Some(("3", "environment MILLSTREAM_NUM_STREAM_THREADS".into()))
        );
        assert_eq!(
            settings.warnings(),
            ["unknown setting `num.stream.thread` (app.properties:2), did you mean `num.stream.threads`?"]
        );
        let text = settings.config("app").map_err(|e| e.to_string()).err().unwrap_or_default();
        for part in ["app.properties:3", "unknown flag `--foo`", "`commit.interval.ms` is `x` (flag)"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn continue_means_letters_where_a_topic_is_named_and_fail_always_stands() {
        let read = |flags: &[&str]| {
            let mut settings = Settings::new();
            settings.read_flags(flags.iter().map(|flag| (*flag).to_owned()), &[]);
            settings.config("app").map(|c| [c.undecodable, c.processing, c.production]).map_err(|e| e.to_string())
        };
        let (topic, letters) =
            ("--errors.dead.letter.queue.topic.name=dlq", ExceptionHandler::DeadLetter("dlq".to_owned()));
        use ExceptionHandler::{Fail, Skip};
        assert_eq!(read(&[]), Ok([Fail, Fail, Fail]));
        assert_eq!(read(&[topic]), Ok([Fail, Fail, Fail]));
        let all = |word: &str| {
            ["deserialization", "processing", "production"].map(|kind| format!("--{kind}.exception.handler={word}"))
        };
        let with_topic = |word: &str| {
            let flags = all(word);
            read(&[topic, &flags[0], &flags[1], &flags[2]])
        };
        assert_eq!(with_topic("fail"), Ok([Fail, Fail, Fail]));
        assert_eq!(with_topic("continue"), Ok([letters.clone(), letters.clone(), letters]));
        assert_eq!(read(&all("continue").each_ref().map(String::as_str)), Ok([Skip, Skip, Skip]));
    }

    /// The topic alone once meant `continue` for what cannot be decoded.
    #[test]
    fn a_topic_for_letters_that_nothing_writes_is_a_warning() {
        let warnings = |flags: &[&str]| {
            let mut settings = Settings::new();
            settings.read_flags(flags.iter().map(|flag| (*flag).to_owned()), &[]);
            settings.config("app").map(|_| settings.warnings().to_vec()).map_err(|e| e.to_string())
        };
        let topic = "--errors.dead.letter.queue.topic.name=dlq";
        let wanted = "`errors.dead.letter.queue.topic.name` is `dlq` (flag), and every handler says `fail`: no record is written \
                      there\n  help: set deserialization.exception.handler, processing.exception.handler or \
                      production.exception.handler to `continue`";
        assert_eq!(warnings(&[topic]), Ok(vec![wanted.to_owned()]));
        assert_eq!(warnings(&[topic, "--processing.exception.handler=continue"]), Ok(Vec::new()));
        assert_eq!(warnings(&[]), Ok(Vec::new()));
    }
}
