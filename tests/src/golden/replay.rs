//! Replays a case and compares.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use millstream_core::Result;

use crate::golden::case::{Case, Emitted, Step};
use crate::golden::topologies;
use crate::golden::world::{Driver, Thread, World};

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
    /// As few fetches as possible: a new one begins only where the order between topics would be another.
    One,
}

/// How cases are run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Where.
    pub via: Via,
    /// In which pieces.
    pub cut: Cut,
    /// Every so many commits fail.
    pub abort_every: Option<u64>,
    /// Every so many steps everything but the log is dropped.
    pub restart_every: Option<usize>,
}

/// Runs a case; the records that came out of each step. With [`Cut::One`] all are at the last step.
fn run(topology: &str, case: &Case, options: &Options) -> Result<Vec<Vec<Emitted>>> {
    let built = topologies::build(topology, &case.params)?;
    let detour = built.sub_topologies().len() > 1 || built.global_sources().next().is_some();
    let mut world: Box<dyn World> = match options.via {
        Via::Driver => Box::new(Driver::new(built, options.abort_every)?),
        Via::Thread => Box::new(Thread::new(built, options.abort_every)?),
    };
    let mut out = vec![Vec::new(); case.steps.len()];
    let mut queued: VecDeque<&Step> = VecDeque::new();
    for (number, step) in case.steps.iter().enumerate() {
        if options.restart_every.is_some_and(|every| number > 0 && number.is_multiple_of(every)) {
            world.run()?;
            queued.clear();
            world.restart()?;
        }
        if let Some(by) = step.advance_wall_clock {
            world.run()?;
            queued.clear();
            world.advance(Duration::from_millis(by))?;
        } else {
            if options.cut == Cut::One && !may_join(&queued, step, detour) {
                world.run()?;
                queued.clear();
            }
            queued.push_back(step);
            let topic = step.topic.as_deref().unwrap_or("in");
            world.queue(topic, step.key.clone(), step.value.clone(), step.ts.unwrap_or(0))?;
        }
        if options.cut == Cut::Step {
            world.run()?;
            out[number] = world.outputs()?;
        }
    }
    if options.cut == Cut::One {
        world.run()?;
        let last = out.len() - 1;
        out[last] = world.outputs()?;
    }
    Ok(out)
}

/// Whether a record may come in the same fetch as those queued: taking the smallest head among the topics first
/// (semantics.md 4) must give the trace's order, without ties. Where records of one topic make a detour, over a
/// repartition topic or into a global table, there is no order between topics to rely on.
fn may_join(queued: &VecDeque<&Step>, step: &Step, detour: bool) -> bool {
    let mut left: Vec<&Step> = queued.iter().copied().chain([step]).collect();
    if left.iter().all(|s| s.topic == step.topic) {
        return true;
    }
    while let Some(next) = left.first().copied() {
        let mut heads: Vec<&Step> = Vec::new();
        for candidate in &left {
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

/// Replays a case. `Ok(None)`: what came out is what the trace says. `Ok(Some(text))` shows the first difference.
///
/// # Errors
/// When the program fails.
pub fn replay(topology: &str, case: &Case, options: &Options) -> Result<Option<String>> {
    let found = run(topology, case, options)?;
    let wanted: Vec<Vec<Emitted>> = case.steps.iter().map(|s| s.out.clone().unwrap_or_default()).collect();
    if options.cut == Cut::One {
        let (wanted, found): (Vec<Emitted>, Vec<Emitted>) =
            (wanted.into_iter().flatten().collect(), found.into_iter().flatten().collect());
        let same = by_topic(&found) == by_topic(&wanted);
        return Ok((!same).then(|| difference(usize::MAX, &wanted, &found)));
    }
    let first = (0..wanted.len()).find(|i| by_topic(&found[*i]) != by_topic(&wanted[*i]));
    Ok(first.map(|i| format!("{}\n    input: {}", difference(i, &wanted[i], &found[i]), show_step(&case.steps[i]))))
}

/// Replays a case whose steps have no outputs, and fills them in.
///
/// # Errors
/// When the program fails.
pub fn emit(topology: &str, case: &mut Case, options: &Options) -> Result<()> {
    let found = run(topology, case, &Options { cut: Cut::Step, ..*options })?;
    case.steps.iter_mut().zip(found).for_each(|(step, out)| step.out = Some(out));
    Ok(())
}

fn by_topic<'a>(records: impl IntoIterator<Item = &'a Emitted>) -> Vec<&'a Emitted> {
    let mut records: Vec<&Emitted> = records.into_iter().collect();
    records.sort_by(|a, b| a.topic.cmp(&b.topic));
    records
}

fn show_step(step: &Step) -> String {
    let text = |t: &Option<String>| t.clone().unwrap_or_else(|| "null".into());
    format!(
        "{} {}:{}@{}",
        step.topic.as_deref().unwrap_or("-"),
        text(&step.key),
        text(&step.value),
        step.ts.unwrap_or(-1)
    )
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
