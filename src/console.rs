//! Standard input as a topic, and a topic on standard output.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use millstream_broker::Broker;
use millstream_core::{
    Admin, BatchBuilder, Clock, Consumer, ConsumerOptions, Error, Isolation, Log, NodeKind, Payload, Producer,
    ProducerOptions, Result, SystemClock, ThreadContext, TopicPartition, Wakeup,
};

/// Appends every line as a record without a key, at the time it is read, to partition 0.
pub(crate) fn feed(log: &Broker, topic: &str, lines: impl BufRead) -> Result<()> {
    let options = ProducerOptions::plain("stdin");
    let mut producer = log.producer(&options, Arc::new(Wakeup::default()))?;
    let to = TopicPartition::new(topic, 0);
    let clock = SystemClock::default();
    for line in lines.split(b'\n') {
        let line = line.map_err(Error::user)?;
        let mut batch = BatchBuilder::new();
        // As it is: whether it must be text is the program's business.
        batch.push(clock.now().wall, None, Some(line.strip_suffix(b"\r").unwrap_or(&line)), &[]);
        send_when_possible(producer.as_mut(), &to, &batch)?;
    }
    Ok(())
}

/// Appends a batch; on a full disk, as soon as there is space.
fn send_when_possible(producer: &mut dyn Producer, to: &TopicPartition, batch: &BatchBuilder) -> Result<()> {
    let mut told = false;
    while let Err(error) = producer.send(to, batch.clone()) {
        if !error.is_retriable() {
            return Err(error.into());
        }
        if !std::mem::replace(&mut told, true) {
            eprintln!("waiting: {error}");
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// The topic that a flag names must be there, and one that `fits`; `unfit` says what one that does not is.
///
/// # Errors
/// When it is not.
pub(crate) fn check_topic(
    log: &Broker,
    flag: &str,
    topic: &str,
    unfit: &str,
    fits: impl Fn(&str) -> bool,
) -> Result<()> {
    let wrong = |problem: String| Err(Error::Config(Box::new(vec![problem])));
    if topic.is_empty() {
        return wrong(format!("{flag} needs a topic\n  help: {flag} TOPIC"));
    }
    let is_there = log.partitions(topic)?.is_some();
    if is_there && fits(topic) {
        return Ok(());
    }
    let problem = if is_there { unfit } else { "there is no topic of this name" };
    let topics: Vec<String> = log.topics()?.into_iter().filter(|name| fits(name)).collect();
    let nearest = millstream_core::nearest_word(topic, topics.iter().map(String::as_str));
    let help =
        nearest.map_or_else(|| format!("wanted is one of {}", topics.join(", ")), |n| format!("did you mean `{n}`?"));
    wrong(format!("{flag} {topic}: {problem}\n  help: {help}"))
}

/// Prints a topic's records as they are committed: `key<tab>value`.
pub(crate) struct Printer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Printer {
    /// Starts at the topic's present end.
    pub(crate) fn start(log: &Broker, topic: &str, context: &ThreadContext) -> Result<Printer> {
        let mut sinks = context.topology.nodes().iter().filter(|n| match &n.kind {
            NodeKind::Sink(Some(name)) => name.resolve(&context.config.application_id) == topic,
            _ => false,
        });
        let types = sinks.next().and_then(|n| n.types.as_ref()).map(|t| t.types).unwrap_or(("", ""));
        let wakeup = Arc::new(Wakeup::default());
        let options =
            ConsumerOptions { client_id: "stdout".into(), group: "".into(), isolation: Isolation::ReadCommitted };
        let mut consumer = log.consumer(&options, wakeup.clone())?;
        let partitions = log.partitions(topic)?.unwrap_or(0);
        let ids = (0..partitions).map(|p| TopicPartition::new(topic, p));
        let assignment: Result<Vec<_>> =
            ids.map(|id| Ok((id.clone(), log.end_offset(&id, Isolation::ReadCommitted)?))).collect();
        let assignment = assignment?;
        consumer.assign(&assignment)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            loop {
                // Looked at before the last round, so that nothing that was there then is left out.
                let last = stopped.load(Ordering::SeqCst);
                let printed = print(consumer.as_mut(), assignment.len(), types)?;
                if last && !printed {
                    return Ok(());
                }
                if !printed {
                    wakeup.wait(Duration::from_millis(50));
                }
            }
        });
        Ok(Printer { stop, thread })
    }

    /// Prints what is left and ends.
    pub(crate) fn finish(self) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_| Error::user("printing failed"))?
    }
}

fn print(consumer: &mut dyn Consumer, slots: usize, types: (&str, &str)) -> Result<bool> {
    let mut any = false;
    let mut out = std::io::stdout().lock();
    for slot in 0..slots {
        for mut batch in consumer.fetch(slot, 1 << 20)?.batches {
            while let Some(record) = batch.next() {
                let record = record.map_err(|e| Error::user(e.to_string()))?;
                any = true;
                writeln!(out, "{}\t{}", show(record.key, types.0), show(record.value, types.1)).map_err(Error::user)?;
            }
        }
    }
    out.flush().map_err(Error::user)?;
    Ok(any)
}

/// Bytes as the program's type means them: whole numbers as such, the rest as text.
fn show(bytes: Option<Payload<'_>>, type_name: &str) -> String {
    let Some(payload) = bytes else { return "null".into() };
    let bytes = payload.as_slice();
    let bare = type_name.strip_prefix("core::option::Option<").and_then(|t| t.strip_suffix('>')).unwrap_or(type_name);
    match (bare, bytes.first_chunk::<8>(), bytes.first_chunk::<4>()) {
        ("i64", Some(n), _) if bytes.len() == 8 => i64::from_be_bytes(*n).to_string(),
        ("u64", Some(n), _) if bytes.len() == 8 => u64::from_be_bytes(*n).to_string(),
        ("f64", Some(n), _) if bytes.len() == 8 => f64::from_be_bytes(*n).to_string(),
        ("i32", _, Some(n)) if bytes.len() == 4 => i32::from_be_bytes(*n).to_string(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}
