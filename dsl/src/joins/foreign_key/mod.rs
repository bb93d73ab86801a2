//! Foreign-key joins: a row meets the other table's row that it names (semantics.md 52 to 58, KIP-213).
//!
//! ```text
//!   left row ─subscription─► partition of the foreign key: kept, answered ─response─► back to the row's partition
//!                            right row changes: every subscriber answered ─┘          joined, if the row is still the same
//! ```
//!
//! Both ways are repartition topics. A response carries a hash of the left row that asked: if that has changed meanwhile,
//! a later response is under way, and this one is dropped; so the order of the two ways does not matter.
//!
//! So every row that may have a result must be answered. An inner join of Kafka Streams does not answer a row that has
//! kept its foreign key, or is new, if there is no partner: it relies on answers to earlier rows, which may be stale by now,
//! and then the result of one of them stays. Here such a row is answered *quietly*: that deletes a result if there is one, and
//! else nothing is seen of it.

mod response;
mod row_hash;
mod send;
mod subscription;
mod with_key;

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_core::{
    Change, Data, Error, FailOnInvalidTimestamp, NodeId, Nullable, PlacedBy, Port, Record, Result, Serde, TopicName,
    Topics,
};

use crate::consumed::{Consumed, Produced};
use crate::failure::{BoxError, Failure, sure};
use crate::joins::foreign_key::response::{Response, ResponseJoin, ResponseSerde};
use crate::joins::foreign_key::row_hash::RowHash;
use crate::joins::foreign_key::send::Send;
use crate::joins::foreign_key::subscription::{Answer, Receive, Subscription, SubscriptionSerde, Subscriptions};
use crate::joins::table_joined::TableJoined;
use crate::kstream::KStream;
use crate::ktable::{KTable, Nature, OldValues, OwnStore};
use crate::stored::Stored;

/// Where a stream is read back: its source, and what comes of it.
type There<K, V> = (NodeId, Port<Record<K, V>>);

impl<K: Data<NonNull = K>, V: Data<NonNull = V>> KTable<K, V> {
    /// Joins every row with the row of `other` whose key `foreign_key` finds in it. Rows without a partner are left out.
    /// The result is kept in the store `name`; `<name>-subscription` and `<name>-response` are repartition topics.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let people = b.table::<String, String>("people", "people"); // name, town
    /// let towns = b.table::<String, i64>("towns", "towns"); // town, inhabitants
    /// people.join_on("neighbours", &towns, |town| Some(town.clone()), |_, n| n - 1).to_stream().to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let people = t.input::<String, String>("people")?;
    /// # let towns = t.input::<String, i64>("towns")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// people.pipe("ann", "Oslo");
    /// towns.pipe("Oslo", 700_000);
    /// towns.pipe("Oslo", 700_001);
    /// assert_eq!(out.read(), [kv("ann", 699_999), kv("ann", 700_000)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn join_on<F: Data<NonNull = F>, W: Data<NonNull = W>, O: Data<NonNull = O>>(
        &self,
        joined: impl Into<TableJoined<F>>,
        other: &KTable<F, W>,
        foreign_key: impl Fn(&V) -> Option<F> + core::marker::Send + Sync + 'static,
        f: impl Fn(&V, &W) -> O + core::marker::Send + Sync + 'static,
    ) -> KTable<K, O> {
        let join = move |_: &K, row: &V, partner: Option<&W>| sure(partner.map(|partner| f(row, partner)));
        self.foreign_join(joined.into(), other, false, move |_, row| sure(foreign_key(row)), join)
    }

    /// As [`KTable::join_on`], with functions that may fail: `processing.exception.handler` decides then. A row that is
    /// left out, or a result, is no row: what was passed on before is deleted (semantics.md 76).
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let people = b.table::<String, String>("people", "people"); // name, zip code
    /// let towns = b.table::<i64, String>("towns", "towns");
    /// let zip = |zip: &String| zip.parse::<i64>().map(Some);
    /// people.try_join_on("homes", &towns, zip, |_, town| Ok(town.clone())).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let people = t.input::<String, String>("people")?;
    /// # let towns = t.input::<i64, String>("towns")?;
    /// # let out = t.output::<String, Option<String>>("out")?;
    /// towns.pipe(150, "Oslo");
    /// [("ann", "150"), ("bob", "?")].into_iter().for_each(|(name, zip)| people.pipe(name, zip));
    /// assert_eq!(out.read(), [kv("ann", "Oslo".to_owned())]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_join_on<F: Data<NonNull = F>, W: Data<NonNull = W>, O: Data<NonNull = O>, E: Into<BoxError>>(
        &self,
        joined: impl Into<TableJoined<F>>,
        other: &KTable<F, W>,
        foreign_key: impl Fn(&V) -> Result<Option<F>, E> + core::marker::Send + Sync + 'static,
        f: impl Fn(&V, &W) -> Result<O, E> + core::marker::Send + Sync + 'static,
    ) -> KTable<K, O> {
        let join = move |_: &K, row: &V, partner: Option<&W>| {
            partner.map(|partner| f(row, partner)).transpose().map_err(Error::user)
        };
        self.foreign_join(joined.into(), other, false, move |_, row| foreign_key(row).map_err(Error::user), join)
    }

    /// As [`KTable::join_on`]; rows without a partner are joined with none.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # let b = StreamsBuilder::new();
    /// let people = b.table::<String, String>("people", "people"); // name, town
    /// let towns = b.table::<String, i64>("towns", "towns"); // town, inhabitants
    /// people
    ///     .left_join_on("neighbours", &towns, |town| Some(town.clone()), |_, n| n.map_or(0, |n| n - 1))
    ///     .to_stream()
    ///     .to("out");
    /// # let t = TopologyTestDriver::new(b.build()?)?;
    /// # let people = t.input::<String, String>("people")?;
    /// # let towns = t.input::<String, i64>("towns")?;
    /// # let out = t.output::<String, Option<i64>>("out")?;
    /// people.pipe("ann", "Oslo");
    /// towns.pipe("Oslo", 700_000);
    /// assert_eq!(out.read(), [kv("ann", 0), kv("ann", 699_999)]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn left_join_on<F: Data<NonNull = F>, W: Data<NonNull = W>, O: Data<NonNull = O>>(
        &self,
        joined: impl Into<TableJoined<F>>,
        other: &KTable<F, W>,
        foreign_key: impl Fn(&V) -> Option<F> + core::marker::Send + Sync + 'static,
        f: impl Fn(&V, Option<&W>) -> O + core::marker::Send + Sync + 'static,
    ) -> KTable<K, O> {
        let join = move |_: &K, row: &V, partner: Option<&W>| sure(Some(f(row, partner)));
        self.foreign_join(joined.into(), other, true, move |_, row| sure(foreign_key(row)), join)
    }

    /// As [`KTable::left_join_on`], with functions that may fail.
    ///
    /// ```
    /// # use millstream_dsl::{StreamsBuilder, TopologyTestDriver, kv};
    /// # use millstream_dsl::core::{ExceptionHandler, RuntimeConfig};
    /// # let b = StreamsBuilder::new();
    /// let people = b.table::<String, String>("people", "people"); // name, zip code
    /// let towns = b.table::<i64, String>("towns", "towns");
    /// let zip = |zip: &String| zip.parse::<i64>().map(Some);
    /// people.try_left_join_on("homes", &towns, zip, |_, town| Ok(format!("{town:?}"))).to_stream().to("out");
    /// // `processing.exception.handler=continue` leaves out what fails; `fail`, the default, stops the task.
    /// let skip = RuntimeConfig { processing: ExceptionHandler::Skip, ..RuntimeConfig::embedded("test") };
    /// let t = TopologyTestDriver::with_config(b.build()?, skip)?;
    /// # let people = t.input::<String, String>("people")?;
    /// # let towns = t.input::<i64, String>("towns")?;
    /// # let out = t.output::<String, Option<String>>("out")?;
    /// [("ann", "150"), ("bob", "?")].into_iter().for_each(|(name, zip)| people.pipe(name, zip));
    /// assert_eq!(out.read(), [kv("ann", "None".to_owned())]);
    /// # Ok::<(), millstream_dsl::core::Error>(())
    /// ```
    pub fn try_left_join_on<F: Data<NonNull = F>, W: Data<NonNull = W>, O: Data<NonNull = O>, E: Into<BoxError>>(
        &self,
        joined: impl Into<TableJoined<F>>,
        other: &KTable<F, W>,
        foreign_key: impl Fn(&V) -> Result<Option<F>, E> + core::marker::Send + Sync + 'static,
        f: impl Fn(&V, Option<&W>) -> Result<O, E> + core::marker::Send + Sync + 'static,
    ) -> KTable<K, O> {
        let join = move |_: &K, row: &V, partner: Option<&W>| f(row, partner).map(Some).map_err(Error::user);
        self.foreign_join(joined.into(), other, true, move |_, row| foreign_key(row).map_err(Error::user), join)
    }

    fn foreign_join<F: Data<NonNull = F>, W: Data<NonNull = W>, O: Data<NonNull = O>, E: Failure + 'static>(
        &self,
        joined: TableJoined<F>,
        other: &KTable<F, W>,
        left: bool,
        foreign_key: impl Fn(&K, &V) -> Result<Option<F>, E> + core::marker::Send + Sync + 'static,
        f: impl Fn(&K, &V, Option<&W>) -> Result<Option<O>, E> + core::marker::Send + Sync + 'static,
    ) -> KTable<K, O> {
        let (builder, name) = (&self.builder, joined.name.as_str());
        builder.same_program(&other.builder, &format!("join `{name}`"));
        self.old_values.ask();
        let foreign_key = Arc::new(foreign_key);
        let subscriptions = self.subscribe(left, foreign_key.clone());
        let topic = format!("{name}-subscription");
        let mut produced = Produced::with(Nullable(F::Serde::default()), SubscriptionSerde(K::Serde::default()));
        if let Some((partitioner, placed_by)) = joined.other {
            // Who has no foreign key asks nobody: it stays where it is.
            produced.partitioner = Some(Arc::new(move |key: &Option<F>, _, partitions| {
                key.as_ref().map(|key| Ok(vec![partitioner(key, partitions)?])).transpose()
            }));
            produced.placed_by = Some(placed_by);
        }
        let (source, subscribed) = self.there_and_back(
            &topic,
            &subscriptions,
            produced,
            Consumed::with(Nullable(F::Serde::default()), SubscriptionSerde(K::Serde::default())),
        );
        let sources: BTreeSet<_> = other.sources.iter().copied().chain([source]).collect();
        builder.copartition(&format!("join `{name}`"), sources);

        let responses = self.respond(name, other, source, &subscribed);
        let topic = format!("{name}-response");
        let mut produced = Produced::with(K::Serde::default(), ResponseSerde(W::Serde::default()))
            .partitioner(|_, response: &Response<W>, _| Some(vec![response.partition]));
        produced.placed_by = Some(PlacedBy::where_it_came_from());
        let (source, responded) = self.there_and_back(
            &topic,
            &responses,
            produced,
            Consumed::with(K::Serde::default(), ResponseSerde(W::Serde::default())),
        );
        let sources: BTreeSet<_> = self.sources.iter().copied().chain([source]).collect();
        builder.copartition(&format!("join `{name}`"), sources.clone());

        let id = Stored::<K, O>::add(builder, name);
        let stores: Vec<_> = self.stores.iter().copied().chain([id]).collect();
        let node = builder.looking_node("KTABLE-FK-JOIN-OUTPUT", &[source], &stores);
        builder.make(id, source);
        let port: Port<Record<K, Change<O>>> = builder.port();
        let old_values = OldValues::stored();
        let (out, rows, wanted, store) = (port.clone(), self.rows.clone(), old_values.clone(), Arc::<str>::from(name));
        let f = Arc::new(f);
        responded.subscribe(move |task| {
            let down = task.open(&out);
            Box::new(ResponseJoin {
                node,
                rows: rows(task),
                hash: RowHash::default(),
                foreign_key: foreign_key.clone(),
                left,
                f: f.clone(),
                results: Stored::<K, O>::open(task, id, &store),
                send_old: wanted.wanted(),
                down,
            })
        });
        KTable {
            builder: builder.clone(),
            node,
            port,
            sources: Arc::new(sources),
            stores: vec![id],
            own: Some(OwnStore::KeyValue(id)),
            rows: Stored::rows(id, name),
            old_values,
            nature: Nature::default(),
        }
    }

    /// The subscriptions that changes of this table make.
    fn subscribe<F: Data<NonNull = F>, E: Failure + 'static>(
        &self,
        left: bool,
        foreign_key: Arc<impl Fn(&K, &V) -> Result<Option<F>, E> + core::marker::Send + Sync + 'static>,
    ) -> KStream<Option<F>, Subscription<K>> {
        let node = self.builder.node("KTABLE-FK-JOIN-SUBSCRIPTION-REGISTRATION", &[self.node], &[]);
        let port: Port<Record<Option<F>, Subscription<K>>> = self.builder.port();
        let out = port.clone();
        let versioned = self.nature.is_versioned();
        self.port.subscribe(move |task| {
            let down = task.open(&out);
            Box::new(Send::<K, V, F, _>::new(node, foreign_key.clone(), left, versioned, down))
        });
        KStream { builder: self.builder.clone(), node, port, key_changed: true, sources: self.sources.clone() }
    }

    /// The responses that subscriptions and changes of the other table make.
    fn respond<F: Data<NonNull = F>, W: Data<NonNull = W>>(
        &self,
        name: &str,
        other: &KTable<F, W>,
        source: NodeId,
        subscribed: &Port<Record<Option<F>, Subscription<K>>>,
    ) -> KStream<K, Response<W>> {
        let builder = &self.builder;
        let store: Arc<str> = format!("{name}-subscription").into();
        let id = Subscriptions::<F, K>::add(builder, &store);
        let stores: Vec<_> = other.stores.iter().copied().chain([id]).collect();
        let receive = builder.looking_node("KTABLE-FK-JOIN-SUBSCRIPTION", &[source], &stores);
        builder.make(id, source);
        let answer = builder.looking_node("KTABLE-FK-JOIN-FOREIGN-CHANGE", &[other.node], &[id]);
        let node = builder.node("KTABLE-FK-JOIN-RESPONSE", &[receive, answer], &[]);
        let port: Port<Record<K, Response<W>>> = builder.port();
        let (out, rows, label) = (port.clone(), other.rows.clone(), store.clone());
        subscribed.subscribe(move |task| {
            let down = task.open_shared(&out);
            let subscriptions = Subscriptions::<F, K>::open(task, id, &label);
            Box::new(Receive { node: receive, subscriptions, rows: rows(task), down })
        });
        let (out, versioned) = (port.clone(), other.nature.is_versioned());
        other.port.subscribe(move |task| {
            let down = task.open_shared(&out);
            Box::new(Answer { subscriptions: Subscriptions::<F, K>::open(task, id, &store), versioned, down })
        });
        KStream { builder: builder.clone(), node, port, key_changed: true, sources: other.sources.clone() }
    }

    /// Writes a stream to a repartition topic and reads it back.
    fn there_and_back<KS: Serde<Value: Clone + 'static>, VS: Serde<Value: Clone + 'static>>(
        &self,
        name: &str,
        stream: &KStream<KS::Value, VS::Value>,
        produced: Produced<KS, VS>,
        consumed: Consumed<KS, VS, FailOnInvalidTimestamp>,
    ) -> There<KS::Value, VS::Value> {
        let builder = &self.builder;
        let topic = TopicName::Repartition(name.to_owned());
        let sink = builder.sink::<KS, VS>(stream.node, Some(topic.clone()));
        builder.place(sink, &produced);
        stream.sink_to(sink, topic.clone(), produced);
        let port = builder.port();
        let source = builder.source_node(Topics::Named(vec![topic]), consumed, &port, false);
        builder.repartition(name, None, sink, source);
        (source, port)
    }
}
