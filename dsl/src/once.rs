//! Streams that a program has once, however often it asks for them: sources of the same topics (semantics.md 15),
//! repartitions that are merged (18).

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_core::{NodeId, Port, Record};

use crate::builder::StreamsBuilder;
use crate::kstream::KStream;

/// A stream that was made, and what for.
pub(crate) struct Made {
    what: Box<dyn Any + Send>,
    stream: Box<dyn Any + Send>,
}

/// A stream without its builder, which holds it.
struct Stream<K, V> {
    node: NodeId,
    port: Port<Record<K, V>>,
    key_changed: bool,
    sources: Arc<BTreeSet<NodeId>>,
}

impl StreamsBuilder {
    /// The stream that was made for the same thing before, or else the one that `make` makes.
    pub(crate) fn once<T: Send + 'static, K: 'static, V: 'static>(
        &self,
        what: T,
        is: impl Fn(&T, &T) -> bool,
        make: impl FnOnce() -> KStream<K, V>,
    ) -> KStream<K, V> {
        let found = self.with_made(|all| {
            let mut same = all.iter().filter(|made| made.what.downcast_ref().is_some_and(|known| is(known, &what)));
            let Stream { node, port, key_changed, sources } =
                same.find_map(|made| made.stream.downcast_ref::<Stream<K, V>>())?;
            let (port, sources) = (port.clone(), sources.clone());
            Some(KStream { builder: self.clone(), node: *node, port, key_changed: *key_changed, sources })
        });
        found.unwrap_or_else(|| {
            let KStream { builder, node, port, key_changed, sources } = make();
            let stream = Stream { node, port: port.clone(), key_changed, sources: sources.clone() };
            self.with_made(|all| all.push(Made { what: Box::new(what), stream: Box::new(stream) }));
            KStream { builder, node, port, key_changed, sources }
        })
    }
}
