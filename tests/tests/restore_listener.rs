//! A listener hears how stores are restored: each store of each partition, from where to where, also when that is given up and begun
//! anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use millstream_broker::Broker;
use millstream_core::{
    ExceptionHandler, Log, Offset, Result, RuntimeConfig, StateRestoreListener, TopicPartition, Topology,
};
use millstream_dsl::StreamsBuilder;
use millstream_tests::by_hand::ByHand;
use millstream_tests::embedded::Embedded;

/// What was heard of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Start(Offset, Offset),
    Batch(Offset, u64),
    End(u64),
    Suspended(u64),
}

/// By changelog partition and store, in order.
type All = BTreeMap<(String, String), Vec<Heard>>;

#[derive(Clone, Default)]
struct Listening(Arc<Mutex<All>>);

impl Listening {
    fn hear(&self, changelog: &TopicPartition, store: &str, heard: Heard) {
        let mut all = self.0.lock().expect("nobody has panicked");
        all.entry((changelog.to_string(), store.to_owned())).or_default().push(heard);
    }

    fn heard(&self) -> All {
        std::mem::take(&mut self.0.lock().expect("nobody has panicked"))
    }
}

impl StateRestoreListener for Listening {
    fn on_restore_start(&self, changelog: &TopicPartition, store: &str, starting: Offset, ending: Offset) {
        self.hear(changelog, store, Heard::Start(starting, ending));
    }

    fn on_batch_restored(&self, changelog: &TopicPartition, store: &str, batch_end: Offset, restored: u64) {
        self.hear(changelog, store, Heard::Batch(batch_end, restored));
    }

    fn on_restore_end(&self, changelog: &TopicPartition, store: &str, restored: u64) {
        self.hear(changelog, store, Heard::End(restored));
    }

    fn on_restore_suspended(&self, changelog: &TopicPartition, store: &str, restored: u64) {
        self.hear(changelog, store, Heard::Suspended(restored));
    }
}

/// Two stores of two partitions.
fn program() -> Result<Topology> {
    let b = StreamsBuilder::new();
    b.topic("in", 2).topic("out", 2);
    let input = b.stream::<String, String>("in");
    input.clone().group_by_key().count("counts").to_stream().to("out");
    input.group_by_key().reduce("last", |_, value| value).to_stream().map_values(|_| 0_i64).to("out");
    b.build()
}

fn counted() -> Result<Embedded> {
    let embedded = Embedded::in_memory()?;
    let streams = embedded.streams(program()?, RuntimeConfig::embedded("app"))?;
    for partition in 0..2 {
        embedded.write("in", partition, &[(0, Some("a"), "x"), (0, Some("b"), "x"), (0, Some("c"), "x")])?;
    }
    streams.run_to_end()?;
    Ok(embedded)
}

/// The two rows and the marker of the commit that each changelog has.
const WHOLE: [Heard; 3] = [Heard::Start(0, 4), Heard::Batch(4, 3), Heard::End(3)];

fn all(heard: &[Heard]) -> All {
    let stores = ["counts", "last"].into_iter().flat_map(|store| [(store, 0), (store, 1)]);
    stores
        .map(|(store, partition)| ((format!("app-{store}-changelog-{partition}"), store.to_owned()), heard.to_vec()))
        .collect()
}

#[test]
fn each_store_of_each_partition_is_told_of() -> Result<()> {
    let embedded = counted()?;
    let listening = Listening::default();
    let mut streams = embedded.streams(program()?, RuntimeConfig::embedded("app"))?;
    streams.on_restore(listening.clone());
    streams.run_to_end()?;
    assert_eq!(listening.heard(), all(&WHOLE));
    Ok(())
}

#[test]
fn what_misses_nothing_is_not_told_of() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let listening = Listening::default();
    let mut streams = embedded.streams(program()?, RuntimeConfig::embedded("app"))?;
    streams.on_restore(listening.clone());
    streams.run_to_end()?;
    assert_eq!(listening.heard(), All::new());
    Ok(())
}

#[test]
fn a_restore_that_is_given_up_is_suspended() -> Result<()> {
    let listening = Listening::default();
    let mut program = ByHand::new(counted()?, program()?, RuntimeConfig::embedded("app"))?;
    program.thread()?.on_restore(Arc::new(listening.clone()));
    // A first step reads one batch of each changelog; the last says that the marker behind it is no row.
    program.step()?;
    program.kill();
    let heard = listening.heard();
    assert!(heard.values().all(|heard| heard[0] == Heard::Start(0, 4)), "{heard:?}");
    assert!(heard.values().all(|heard| matches!(heard.last(), Some(Heard::Suspended(_) | Heard::End(3)))), "{heard:?}");
    assert!(heard.values().any(|heard| matches!(heard.last(), Some(Heard::Suspended(_)))), "{heard:?}");
    program.thread()?.on_restore(Arc::new(listening.clone()));
    program.run()?;
    let heard = listening.heard();
    assert!(heard.values().all(|heard| heard[0] == Heard::Start(0, 4) && heard.last() == Some(&Heard::End(3))));
    assert_eq!(heard.len(), 4);
    Ok(())
}

/// Deletes what a changelog has while it is being read.
struct Deleting(Broker);

impl StateRestoreListener for Deleting {
    fn on_restore_start(&self, changelog: &TopicPartition, _: &str, _: Offset, ending: Offset) {
        self.0.admin().delete_records(changelog, ending).expect("the log answers");
    }
}

/// The thread ended with an error, although a start a moment later would have gone well.
#[test]
fn what_is_deleted_meanwhile_is_not_waited_for() -> Result<()> {
    let embedded = counted()?;
    let mut streams = embedded.streams(program()?, RuntimeConfig::embedded("app"))?;
    streams.on_restore(Deleting(embedded.log.clone()));
    embedded.write("in", 0, &[(0, Some("a"), "x")])?;
    streams.run_to_end()?;
    let counts = embedded.read::<String, Option<i64>>("out")?.concat();
    // Without its row, from nothing.
    assert_eq!(counts[12..], [("a".to_owned(), Some(1)), ("a".to_owned(), Some(0))]);
    Ok(())
}

/// A record of a global topic is deleted before a running thread has read it.
#[test]
fn what_is_deleted_of_a_global_topic_is_not_waited_for() -> Result<()> {
    let b = StreamsBuilder::new();
    b.topic("names", 1).topic("in", 1).topic("out", 1);
    let names = b.global_table::<String, String>("names", "names-store");
    let input = b.stream::<String, String>("in");
    input.left_join_global(&names, |key, _| Some(key.clone()), |_, name| name.cloned().unwrap_or_default()).to("out");
    let mut program = ByHand::new(Embedded::in_memory()?, b.build()?, RuntimeConfig::embedded("app"))?;
    program.run()?;
    program.embedded.write("names", 0, &[(0, Some("a"), "Anna"), (0, Some("b"), "Bob")])?;
    program.embedded.log.admin().delete_records(&TopicPartition::new("names", 0), 1)?;
    program.embedded.write("in", 0, &[(1, Some("a"), "x"), (1, Some("b"), "x")])?;
    program.run()?;
    let greeted: Vec<_> =
        program.embedded.read::<String, String>("out")?.concat().into_iter().map(|(_, v)| v).collect();
    assert_eq!(greeted, ["", "Bob"]);
    Ok(())
}

/// Every thread reads them by itself.
#[test]
fn of_global_stores_it_hears_too() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    let program = || -> Result<Topology> {
        let b = StreamsBuilder::new();
        b.topic("names", 2).topic("in", 2);
        let names = b.global_table::<String, String>("names", "names-store");
        let input = b.stream::<String, String>("in");
        input.join_global(&names, |key, _| Some(key.clone()), |_, name| name.clone()).to("out");
        b.build()
    };
    let config = || RuntimeConfig { threads: 2, ..RuntimeConfig::embedded("app") };
    let run = || -> Result<All> {
        let listening = Listening::default();
        let mut streams = embedded.streams(program()?, config())?;
        streams.on_restore(listening.clone());
        streams.run_to_end()?;
        Ok(listening.heard())
    };
    assert_eq!(run()?, All::new(), "there is nothing yet");
    embedded.write("names", 1, &[(0, Some("a"), "x"), (0, Some("b"), "y")])?;
    let heard = run()?;
    let key = ("names-1".to_owned(), "names-store".to_owned());
    assert_eq!(heard.keys().collect::<Vec<_>>(), [&key]);
    let mut of_both = heard[&key].clone();
    of_both.sort_by_key(|heard| match heard {
        Heard::Start(..) => 0,
        Heard::Batch(..) => 1,
        Heard::End(_) | Heard::Suspended(_) => 2,
    });
    let once = [Heard::Start(0, 2), Heard::Batch(2, 2), Heard::End(2)];
    assert_eq!(of_both, once.map(|heard| [heard; 2]).concat());
    Ok(())
}

/// What is read again behind a panic has been restored once.
#[test]
fn of_records_that_are_left_out_it_hears_once() -> Result<()> {
    let embedded = Embedded::in_memory()?;
    embedded.create("names", 1)?;
    embedded.create("in", 1)?;
    embedded.write(
        "names",
        0,
        &[(0, Some("a"), "x"), (0, Some("b"), "bad"), (0, Some("c"), "y"), (0, Some("d"), "bad")],
    )?;
    let b = StreamsBuilder::new();
    b.global_store::<String, String, String, String, _>("names", "names-store", |rows| {
        move |r| {
            assert!(r.value.as_deref() != Some("bad"), "a bad name");
            rows.put(&r.key.unwrap_or_default(), r.value).map(drop)
        }
    });
    b.stream::<String, String>("in").to("out");
    let config =
        RuntimeConfig { processing: ExceptionHandler::Skip, processing_global: true, ..RuntimeConfig::embedded("app") };
    let listening = Listening::default();
    let mut streams = embedded.streams(b.build()?, config)?;
    streams.on_restore(listening.clone());
    streams.run_to_end()?;
    let heard = listening.heard().into_values().flatten().collect::<Vec<_>>();
    assert_eq!((heard.first(), heard.last()), (Some(&Heard::Start(0, 4)), Some(&Heard::End(4))));
    Ok(())
}
