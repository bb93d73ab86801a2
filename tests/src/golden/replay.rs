//! Replays a case and compares.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use millstream_core::{Error, Result};
use millstream_dsl::{Optimization, StreamsBuilder};

use crate::golden::case::{Case, Emitted, Input, Step};
use crate::golden::topologies;
use crate::golden::world::{Commits, Driver, Thread, World};

/// Where cases are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// The test driver.
    Driver,
    /// A stream thread on the embedded log.
    Thread,
}

/// How input is cut into fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// A step at a time.
    Step,
    /// As few fetches as possible: a new one begins only where the order between topics would be another. What a
    /// foreign-key join asks and is told goes by two repartition topics, and a row that changes before it is told makes
    /// another sequence, in Kafka Streams too: there every record comes in a fetch of its own. Then all come at once, and what
    /// the table is in the end is compared.
    One,
}

/// What is in a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fetch {
    /// As `Cut` says.
    InOrder,
    /// Whatever is there.
    Everything,
}

/// Where state lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// In memory.
    Memory,
    /// On disk: what is committed leaves memory as soon as it may.
    RocksDb,
}

/// How cases are run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// With which stores.
    pub store: Store,
    /// Where.
    pub via: Via,
    /// In which pieces.
    pub cut: Cut,
    /// Every so many commits fail.
    pub abort_every: Option<u64>,
    /// Every so many steps everything but the log is dropped.
    pub restart_every: Option<usize>,
    /// The program is spared what topics it can be.
    pub optimize: bool,
}

/// How a replay went.
#[derive(Debug, Clone)]
pub struct Replay {
    /// The first difference from the trace, to be read; none if all is as it should be.
    pub difference: Option<String>,
    /// How often a task was rolled back: without any, failing commits have shown nothing.
    pub rollbacks: u64,
}

/// What came out.
struct Found {
    /// The records of each step. With [`Cut::One`] all are at the last step.
    out: Vec<Vec<Emitted>>,
    rollbacks: u64,
    /// Some records are answered.
    way_back: bool,
}

/// Runs a case.
fn run(topology: &str, case: &Case, options: &Options, fetch: Fetch) -> Result<Found> {
    let builder = StreamsBuilder::new();
    if options.optimize {
        builder.optimize(Optimization::ALL);
    }
    let built = topologies::build(&builder, topology, &case.params)?;
    let detour = built.sub_topologies().len() > 1 || built.global_sources().next().is_some();
    let way_back = built.flow().iter().any(|group| group.len() > 1);
    let within_fetch = options.cut == Cut::One && options.abort_every.is_some();
    let commits = Commits { abort_every: options.abort_every, within_fetch, store: options.store };
    let mut world: Box<dyn World> = match options.via {
        Via::Driver => Box::new(Driver::new(built, commits)?),
        Via::Thread => Box::new(Thread::new(built, commits)?),
    };
    let mut out = vec![Vec::new(); case.steps.len()];
    let mut queued: VecDeque<Head<'_>> = VecDeque::new();
    for (number, step) in case.steps.iter().enumerate() {
        if options.restart_every.is_some_and(|every| number > 0 && number.is_multiple_of(every)) {
            world.run()?;
            queued.clear();
            world.restart()?;
        }
        match &step.input {
            Input::Clock { advance_wall_clock } => {
                world.run()?;
                queued.clear();
                world.advance(Duration::from_millis(*advance_wall_clock))?;
            }
            Input::Record { topic, key, value, ts } => {
                let head = Head { topic, ts: *ts };
                let in_order = options.cut == Cut::One && fetch == Fetch::InOrder;
                if in_order && (way_back || !may_join(&queued, head, detour)) {
                    world.run()?;
                    queued.clear();
                }
                if world.queue(topic, key.clone(), value.clone(), *ts)? {
                    queued.push_back(head);
                }
            }
        }
        if options.cut == Cut::Step {
            world.run()?;
            out[number] = world.outputs()?;
        }
    }
    if options.cut == Cut::One {
        world.run()?;
        if let Some(last) = out.last_mut() {
            *last = world.outputs()?;
        }
    }
    Ok(Found { out, rollbacks: world.rollbacks(), way_back })
}

/// What decides between the topics of queued records.
#[derive(Debug, Clone, Copy)]
struct Head<'a> {
    topic: &'a str,
    ts: i64,
}

/// Whether a record may come in the same fetch as those queued: taking the smallest head among the topics first
/// (semantics.md 4) must give the trace's order, without ties. Where records of one topic make a detour, over a
/// repartition topic or into a global table, there is no order between topics to rely on.
fn may_join(queued: &VecDeque<Head<'_>>, step: Head<'_>, detour: bool) -> bool {
    let mut left: Vec<Head<'_>> = queued.iter().copied().chain([step]).collect();
    if left.iter().all(|s| s.topic == step.topic) {
        return true;
    }
    while let Some(next) = left.first().copied() {
        let mut heads: Vec<Head<'_>> = Vec::new();
        for candidate in left.iter().copied() {
            if heads.iter().all(|head| head.topic != candidate.topic) {
                heads.push(candidate);
            }
        }
        if detour || heads.iter().any(|head| head.topic != next.topic && head.ts <= next.ts) {
            return false;
        }
        left.remove(0);
    }
    true
}

/// Replays a case and compares what comes out with what the trace says.
///
/// # Errors
/// When the program fails, or the trace does not say what comes out.
pub fn replay(topology: &str, case: &Case, options: &Options) -> Result<Replay> {
    let wanted: Option<Vec<Vec<Emitted>>> = case.steps.iter().map(|s| s.out.clone()).collect();
    let wanted = wanted.filter(|w| !w.is_empty()).ok_or_else(|| Error::user("there is nothing to compare with"))?;
    let Found { out, rollbacks, way_back } = run(topology, case, options, Fetch::InOrder)?;
    let last = last_rows(&wanted);
    let mut replayed = Replay { difference: compare(case, &wanted, &out, options.cut), rollbacks };
    // A header in a row shows which of two changes was the last to arrive.
    if options.cut == Cut::One && way_back && replayed.difference.is_none() && !topology.starts_with("headers") {
        let Found { out, rollbacks, .. } = run(topology, case, options, Fetch::Everything)?;
        replayed.rollbacks += rollbacks;
        let found = last_rows(&out);
        replayed.difference = (found != last).then(|| format!("at once: {last:?} is wanted in the end, not {found:?}"));
    }
    Ok(replayed)
}

/// What is left of a table's rows in the end: by topic and key.
fn last_rows(out: &[Vec<Emitted>]) -> BTreeMap<(&str, &str), &str> {
    let mut rows = BTreeMap::new();
    for Emitted { topic, key, value, .. } in out.iter().flatten() {
        let key = (topic.as_str(), key.as_deref().unwrap_or_default());
        match value {
            Some(value) => drop(rows.insert(key, value.as_str())),
            None => drop(rows.remove(&key)),
        }
    }
    rows
}

fn compare(case: &Case, wanted: &[Vec<Emitted>], found: &[Vec<Emitted>], cut: Cut) -> Option<String> {
    if cut == Cut::One {
        let (wanted, found): (Vec<Emitted>, Vec<Emitted>) = (wanted.concat(), found.concat());
        let same = by_topic(&found) == by_topic(&wanted);
        return (!same).then(|| difference(usize::MAX, &wanted, &found));
    }
    let first = (0..wanted.len()).find(|i| by_topic(&found[*i]) != by_topic(&wanted[*i]));
    first.map(|i| format!("{}\n    input: {}", difference(i, &wanted[i], &found[i]), show_step(&case.steps[i])))
}

/// Replays a case whose steps have no outputs, and fills them in.
///
/// # Errors
/// When the program fails.
pub fn emit(topology: &str, case: &mut Case, options: &Options) -> Result<()> {
    let found = run(topology, case, &Options { cut: Cut::Step, ..*options }, Fetch::InOrder)?;
    case.steps.iter_mut().zip(found.out).for_each(|(step, out)| step.out = Some(out));
    Ok(())
}

fn by_topic<'a>(records: impl IntoIterator<Item = &'a Emitted>) -> Vec<&'a Emitted> {
    let mut records: Vec<&Emitted> = records.into_iter().collect();
    records.sort_by(|a, b| a.topic.cmp(&b.topic));
    records
}

fn show_step(step: &Step) -> String {
    let text = |t: &Option<String>| t.clone().unwrap_or_else(|| "null".into());
    match &step.input {
        Input::Clock { advance_wall_clock } => format!("the wall clock moves by {advance_wall_clock}"),
        Input::Record { topic, key, value, ts } => format!("{topic} {}:{}@{ts}", text(key), text(value)),
    }
}

fn difference(step: usize, wanted: &[Emitted], found: &[Emitted]) -> String {
    let mut text = if step == usize::MAX { String::new() } else { format!("step {step}:") };
    let show = |r: Option<&Emitted>| match r {
        Some(r) => format!("{} {:?}:{:?}@{}", r.topic, r.key, r.value, r.ts),
        None => "nothing".into(),
    };
    let mut shown = 0;
    for i in 0..wanted.len().max(found.len()) {
        let (w, f) = (wanted.get(i), found.get(i));
        if w != f && shown < 6 {
            shown += 1;
            let _infallible = write!(text, "\n    record {i}: expected {}, got {}", show(w), show(f));
        }
    }
    text
}
