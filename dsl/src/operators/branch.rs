//! `split`: every record to the first branch whose predicate is true for it (semantics.md 16).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use millstream_core::{Downstream, Error, Forward, NodeId, Port, Record, Result, TaskContext};

use crate::failure::BoxError;
use crate::kstream::KStream;

type Predicate<K, V> = Arc<dyn Fn(&K, &V) -> Result<bool> + Send + Sync>;

/// The branches of a split so far; `None` is the default branch.
type Cases<K, V> = Arc<Mutex<Vec<(Option<Predicate<K, V>>, Port<Record<K, V>>)>>>;

/// A split under construction.
///
/// ```
/// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
/// # let b = StreamsBuilder::new();
/// let texts = b.stream::<String, String>("in");
/// let branches = texts
///     .split("is-")
///     .branch("empty", |_, text| text.is_empty())
///     .try_branch("large", |_, text| text.parse::<i64>().map(|n| n > 9)) // an error is left to the handler
///     .default_branch("small");
/// branches["is-small"].to("out");
/// let unnamed = texts.split("no-").branch("", |_, text| text.len() > 9).no_default_branch();
/// assert!(unnamed.contains_key("no-1"));
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let input = t.input::<String, String>("in")?;
/// # let out = t.output::<String, String>("out")?;
/// ["", "50", "5"].into_iter().for_each(|text| input.pipe("a", text));
/// assert_eq!(out.read(), [kv("a", "5")]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub struct Split<K, V> {
    stream: KStream<K, V>,
    node: NodeId,
    prefix: String,
    cases: Cases<K, V>,
    branches: BTreeMap<String, KStream<K, V>>,
}

/// The branches of a split, by name: the prefix with the branch's name or number.
pub type Branches<K, V> = BTreeMap<String, KStream<K, V>>;

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Splits the stream; `prefix` starts the name of every branch.
    ///
    /// ```
    /// # let b = millstream_dsl::StreamsBuilder::new();
    /// let orders = b.stream::<String, i64>("orders");
    /// let by_size = orders.split("orders-").branch("large", |_, n| *n > 100).default_branch("small");
    /// by_size["orders-large"].to("large-orders");
    /// # b.build()?;
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    pub fn split(&self, prefix: &str) -> Split<K, V> {
        let node = self.builder.node("KSTREAM-BRANCH", &[self.node], &[]);
        let cases: Cases<K, V> = Arc::default();
        let shared = cases.clone();
        self.port.subscribe(move |task| {
            let cases = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let cases = cases.into_iter().map(|(predicate, port)| (predicate, task.open(&port))).collect();
            Box::new(Branch { node, cases })
        });
        Split { stream: self.clone(), node, prefix: prefix.to_owned(), cases, branches: BTreeMap::new() }
    }
}

impl<K: Clone + 'static, V: Clone + 'static> Split<K, V> {
    /// Adds a branch for the records that `predicate` is true for and no branch before took. An empty name is the
    /// branch's number, from 1.
    pub fn branch(self, name: &str, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        self.branch_if(name, Arc::new(move |k, v| Ok(predicate(k, v))))
    }

    /// As [`Split::branch`], with a predicate that may fail: `processing.exception.handler` decides then.
    pub fn try_branch<E: Into<BoxError>>(
        self,
        name: &str,
        predicate: impl Fn(&K, &V) -> Result<bool, E> + Send + Sync + 'static,
    ) -> Self {
        self.branch_if(name, Arc::new(move |k, v| predicate(k, v).map_err(Error::user)))
    }

    fn branch_if(mut self, name: &str, predicate: Predicate<K, V>) -> Self {
        let number = (self.branches.len() + 1).to_string();
        let name = if name.is_empty() { &number } else { name };
        self.add(name, Some(predicate));
        self
    }

    /// Adds a branch for the rest and ends the split. An empty name is `0`.
    pub fn default_branch(mut self, name: &str) -> Branches<K, V> {
        self.add(if name.is_empty() { "0" } else { name }, None);
        self.branches
    }

    /// Ends the split; what no branch took is dropped.
    pub fn no_default_branch(self) -> Branches<K, V> {
        self.branches
    }

    fn add(&mut self, name: &str, predicate: Option<Predicate<K, V>>) {
        let builder = &self.stream.builder;
        let port: Port<Record<K, V>> = builder.port();
        self.cases.lock().unwrap_or_else(PoisonError::into_inner).push((predicate, port.clone()));
        let node = builder.node("KSTREAM-BRANCHCHILD", &[self.node], &[]);
        let branch = KStream { port, node, ..self.stream.clone() };
        let name = format!("{}{name}", self.prefix);
        if self.branches.insert(name.clone(), branch).is_some() {
            builder.problem(format!("two branches are called `{name}`\n  help: give each branch a name of its own"));
        }
    }
}

struct Branch<K, V> {
    node: NodeId,
    cases: Vec<Case<K, V>>,
}

/// A branch that runs; without a predicate it takes everything.
type Case<K, V> = (Option<Predicate<K, V>>, Downstream<Record<K, V>>);

impl<K: Clone, V: Clone> Forward<Record<K, V>> for Branch<K, V> {
    fn forward(&mut self, cx: &mut TaskContext, record: Record<K, V>) -> Result<()> {
        for (predicate, down) in &mut self.cases {
            match predicate.as_ref().map_or(Ok(true), |p| p(&record.key, &record.value)) {
                Ok(true) => return down.forward(cx, record),
                Ok(false) => {}
                Err(error) => return cx.failed(self.node, error),
            }
        }
        Ok(())
    }
}
