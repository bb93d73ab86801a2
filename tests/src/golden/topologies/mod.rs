//! The topologies of the catalogue, built through the public DSL.

mod aggregations;
mod processors;
mod stateless;
mod stores;
mod stream_joins;
mod tables;
mod versions;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_core::{Data, Error, Result, Topology};
use millstream_dsl::{Consumed, DefaultConsumed, KStream, KTable, StreamsBuilder, Windowed};

/// A nullable text: key or value of every source.
pub(crate) type Text = Option<String>;

/// A case's parameters.
pub(crate) struct Params<'a> {
    given: &'a BTreeMap<String, i64>,
    /// What a topology asked for and the case does not give.
    missing: RefCell<BTreeSet<String>>,
}

impl Params<'_> {
    /// A parameter in milliseconds. Without it [`build`] fails.
    pub(crate) fn ms(&self, name: &str) -> Duration {
        match self.given.get(name).and_then(|ms| u64::try_from(*ms).ok()) {
            Some(ms) => Duration::from_millis(ms),
            None => {
                self.missing.borrow_mut().insert(name.to_owned());
                Duration::ZERO
            }
        }
    }

    /// Whether stores are to have the default retention, which must show nowhere. No trace asks for it.
    pub(crate) fn keeps_no_more_than_it_must(&self) -> bool {
        self.given.contains_key("default_retention")
    }

    /// After how long a silence the time of a source goes on, where something waits for it. In no trace it does.
    fn idleness(&self) -> Option<Duration> {
        self.given.contains_key("idleness").then(|| self.ms("idleness"))
    }

    /// A source with that idleness.
    pub(crate) fn consumed<K: Data, V: Data>(&self) -> DefaultConsumed<K, V> {
        let consumed = Consumed::of::<K, V>();
        match self.idleness() {
            Some(after) => consumed.idleness(after),
            None => consumed,
        }
    }

    /// Whether the ends of sessions are strict. In no trace they are, as Kafka Streams' are not.
    pub(crate) fn has_strict_ends(&self) -> bool {
        self.given.contains_key("strict_end")
    }

    /// Whether windows of joins are exact. In no trace they are, as Kafka Streams' are not.
    pub(crate) fn is_exact(&self) -> bool {
        self.given.contains_key("exact")
    }
}

/// Windowed stores keep at least this, so that nothing expires in the traces.
pub(crate) const KEPT: Duration = Duration::from_secs(100);

/// Builds a topology of the catalogue; the builder may already know of topics.
///
/// # Errors
/// When its name is unknown, a parameter is missing or negative, or the program is wrong.
pub fn build(b: &StreamsBuilder, name: &str, params: &BTreeMap<String, i64>) -> Result<Topology> {
    let p = Params { given: params, missing: RefCell::default() };
    let known = stateless::add(name, b)
        || aggregations::add(name, b, &p)
        || tables::add(name, b, &p)
        || stream_joins::add(name, b, &p)
        || processors::add(name, b, &p)
        || stores::add(name, b, &p)
        || versions::add(name, b, &p);
    let mut problems: Vec<String> =
        p.missing.into_inner().into_iter().map(|p| format!("`{name}` needs a parameter `{p}` of 0 or more")).collect();
    if !known {
        problems.push(format!("no topology `{name}`"));
    }
    if problems.is_empty() { b.build() } else { Err(Error::Build(Box::new(problems))) }
}

/// The first character.
pub(crate) fn first(v: &str) -> String {
    v.chars().next().map(String::from).unwrap_or_default()
}

/// Not null, and an even number of characters.
pub(crate) fn even(v: &Text) -> bool {
    v.as_ref().is_some_and(|v| v.chars().count().is_multiple_of(2))
}

/// The text, or `null`.
pub(crate) fn shown(v: Option<&String>) -> String {
    v.cloned().unwrap_or_else(|| "null".into())
}

/// `l+r`.
pub(crate) fn plus(l: Option<&String>, r: Option<&String>) -> String {
    format!("{}+{}", shown(l), shown(r))
}

/// Writes a windowed table to `out` with key `k[start,end]`.
pub(crate) fn text_out(table: &KTable<Windowed<String>, String>) {
    windowed_out(&table.to_stream());
}

/// Writes windowed counts to `out` as text.
pub(crate) fn count_out(table: &KTable<Windowed<String>, i64>) {
    windowed_out(&table.to_stream().map_values(|n| n.map(|n| n.to_string())));
}

fn windowed_out(stream: &KStream<Windowed<String>, Text>) {
    stream.map(|k, v| (format!("{}[{},{}]", k.key, k.window.start, k.window.end), v)).to("out");
}

/// Writes a table of text to `out`.
pub(crate) fn table_out(table: &KTable<String, String>) {
    table.to_stream().to("out");
}

/// Writes a table of counts to `out` as text.
pub(crate) fn counts_out(table: &KTable<String, i64>) {
    table.to_stream().map_values(|n| n.map(|n| n.to_string())).to("out");
}
