//! What an unclean end leaves is found again: whole batches stay, a torn one goes, damage in the middle is reported.

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::{Outcome, batch, commit, copy, create, id, open, options, producer, read};
use millstream_broker::{Broker, BrokerOptions};
use millstream_core::{Admin, CommitOutcome, Isolation, LogError, TopicSpec};

const ALL: Isolation = Isolation::ReadUncommitted;

#[test]
fn records_survive_a_clean_and_an_unclean_end() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let (dir, crashed) = (folder.path().join("a"), folder.path().join("b"));
    let broker = open(&dir)?;
    create(&broker, "t", 2)?;
    let mut p = producer(&broker, None)?;
    p.send(&id("t", 1), batch(&["a", "b"]))?;
    p.send(&id("t", 1), batch(&["c"]))?;
    copy(&dir, &crashed);
    broker.close()?;
    drop((p, broker));
    for dir in [dir, crashed] {
        let broker = open(&dir)?;
        assert_eq!(broker.partitions("t")?, Some(2));
        assert_eq!(read(&broker, &id("t", 1), 0, ALL)?, ["a", "b", "c"]);
        assert_eq!(read(&broker, &id("t", 1), 1, ALL)?, ["b", "c"]);
        producer(&broker, None)?.send(&id("t", 1), batch(&["d"]))?;
        assert_eq!(read(&broker, &id("t", 1), 2, ALL)?, ["c", "d"]);
    }
    Ok(())
}

#[test]
fn a_batch_torn_at_any_byte_is_cut_off_and_nothing_before_it() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("a");
    let broker = open(&dir)?;
    create(&broker, "t", 1)?;
    let mut p = producer(&broker, None)?;
    p.send(&id("t", 0), batch(&["first"]))?;
    let file = "t-0/00000000000000000000.log";
    let whole = fs::metadata(dir.join(file)).expect("a segment").len();
    p.send(&id("t", 0), batch(&["second"]))?;
    let end = fs::metadata(dir.join(file)).expect("a segment").len();
    for len in whole..=end {
        let torn = folder.path().join(format!("torn-{len}"));
        copy(&dir, &torn);
        fs::OpenOptions::new().write(true).open(torn.join(file)).and_then(|f| f.set_len(len)).expect("a cut");
        let broker = open(&torn)?;
        let wanted: &[&str] = if len == end { &["first", "second"] } else { &["first"] };
        assert_eq!(read(&broker, &id("t", 0), 0, ALL)?, wanted, "cut at {len} of {end}");
        producer(&broker, None)?.send(&id("t", 0), batch(&["next"]))?;
        assert_eq!(read(&broker, &id("t", 0), wanted.len() as i64, ALL)?, ["next"]);
    }
    Ok(())
}

#[test]
fn damage_inside_a_closed_segment_is_reported() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let (dir, crashed) = (folder.path().join("a"), folder.path().join("b"));
    let small = |dir| BrokerOptions { segment_bytes: 200, tail_bytes: 0, ..options(dir) };
    let broker = Broker::open(small(&dir))?;
    create(&broker, "t", 1)?;
    let mut p = producer(&broker, None)?;
    for value in ["a", "b", "c", "d", "e", "f"] {
        p.send(&id("t", 0), batch(&[value]))?;
    }
    copy(&dir, &crashed);
    broker.close()?;
    drop((p, broker));
    let damage = |dir: &std::path::Path| {
        let file = dir.join("t-0/00000000000000000000.log");
        let mut bytes = fs::read(&file).expect("a segment");
        bytes[65] ^= 1;
        fs::write(&file, bytes).expect("a write");
    };
    let told = |error: Option<LogError>| {
        let error = error.map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("00000000000000000000.log") && error.contains("checksum"), "{error}");
    };
    // No checkpoint vouches for it: opening reads it.
    damage(&crashed);
    told(Broker::open(small(&crashed)).err());
    // A checkpoint does: the reader finds it.
    damage(&dir);
    told(read(&Broker::open(small(&dir))?, &id("t", 0), 0, ALL).err());
    Ok(())
}

#[test]
fn what_a_checkpoint_has_synced_and_is_gone_is_reported() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("a");
    let broker = open(&dir)?;
    create(&broker, "t", 1)?;
    let mut p = producer(&broker, None)?;
    for value in ["a", "b", "c"] {
        p.send(&id("t", 0), batch(&[value]))?;
    }
    broker.close()?;
    drop((p, broker));
    let file = dir.join("t-0/00000000000000000000.log");
    let whole = fs::read(&file).expect("a segment");
    for len in [whole.len() - 1, whole.len() / 3, 0] {
        fs::write(&file, &whole[..len]).expect("a write");
        let error = open(&dir).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("damaged") && error.contains("help:"), "cut at {len}: {error}");
        assert_eq!(fs::read(&file).expect("a segment").len(), len, "left as it was");
    }
    fs::write(&file, &whole).expect("a write");
    assert_eq!(read(&open(&dir)?, &id("t", 0), 0, ALL)?, ["a", "b", "c"]);
    Ok(())
}

#[test]
fn transactions_are_known_after_a_checkpoint_with_its_files_and_without() -> Outcome {
    let committed_only = Isolation::ReadCommitted;
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("a");
    let broker = open(&dir)?;
    create(&broker, "t", 1)?;
    let mut p = producer(&broker, Some("app"))?;
    for (value, keep) in [("a", true), ("gone", false), ("b", true), ("gone too", false)] {
        p.send(&id("t", 0), batch(&[value]))?;
        if keep {
            assert!(matches!(commit(p.as_mut(), 1), CommitOutcome::Done));
        } else {
            p.abort()?;
        }
    }
    broker.close()?;
    drop((p, broker));
    for suffix in ["", "snapshot", "index", "timeindex"] {
        let copied = folder.path().join(format!("without-{suffix}"));
        copy(&dir, &copied);
        for entry in fs::read_dir(copied.join("t-0")).expect("a folder").flatten() {
            if entry.path().extension().is_some_and(|e| e == suffix) {
                fs::remove_file(entry.path()).expect("a file");
            }
        }
        let broker = open(&copied)?;
        assert_eq!(read(&broker, &id("t", 0), 0, committed_only)?, ["a", "b"], "without {suffix}");
        assert_eq!(read(&broker, &id("t", 0), 0, ALL)?, ["a", "gone", "b", "gone too"], "without {suffix}");
    }
    Ok(())
}

#[test]
fn segments_roll_and_old_ones_go_and_index_files_are_not_needed() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("a");
    let clock = std::sync::Arc::new(millstream_core::ManualClock::at(1_000));
    let small = || {
        let mut options = options(&dir);
        options.segment_bytes = 300;
        options.retention_ms = Some(100);
        options.tail_bytes = 0;
        options.clock = clock.clone();
        options
    };
    let broker = Broker::open(small())?;
    create(&broker, "t", 1)?;
    let mut p = producer(&broker, None)?;
    for number in 0..20 {
        p.send(&id("t", 0), batch(&[&number.to_string()]))?;
    }
    let all: Vec<String> = (0..20).map(|n: i32| n.to_string()).collect();
    assert_eq!(read(&broker, &id("t", 0), 0, ALL)?, all);
    broker.close()?;
    drop((p, broker));
    for entry in fs::read_dir(dir.join("t-0")).expect("a folder").flatten() {
        if entry.path().extension().is_some_and(|e| e == "index") {
            fs::write(entry.path(), b"garbage").expect("a write");
        }
    }
    let broker = Broker::open(small())?;
    for offset in 0..20 {
        assert_eq!(read(&broker, &id("t", 0), offset, ALL)?, all[offset as usize..]);
    }
    create(&broker, "s-changelog", 1)?;
    let mut p = producer(&broker, None)?;
    p.send(&id("s-changelog", 0), batch(&["row"]))?;
    // The clock shows 1000, the records' time is 5. They have just come: they stay, for as long as records are kept.
    broker.tick()?;
    clock.advance(std::time::Duration::from_millis(100));
    broker.tick()?;
    assert_eq!(broker.start_offset(&id("t", 0))?, 0);
    // After that everything is too old, but for a changelog, which has nothing newer.
    clock.advance(std::time::Duration::from_millis(1));
    broker.tick()?;
    assert_eq!(broker.start_offset(&id("t", 0))?, 20);
    assert!(matches!(read(&broker, &id("t", 0), 0, ALL), Err(LogError::OutOfRange { .. })));
    assert_eq!(read(&broker, &id("s-changelog", 0), 0, ALL)?, ["row"]);
    // Offsets go on.
    p.send(&id("t", 0), batch(&["next"]))?;
    broker.close()?;
    drop((p, broker));
    assert_eq!(read(&Broker::open(small())?, &id("t", 0), 20, ALL)?, ["next"]);
    Ok(())
}

/// A marker has the clock's time. Counted as the newest of a changelog's records it made all rows old whose event time was behind
/// the clock by more than they are kept, and closed the segment that the first of them was in: they went with the next look.
#[test]
fn markers_make_no_row_of_a_changelog_old() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    for in_memory in [false, true] {
        let clock = std::sync::Arc::new(millstream_core::ManualClock::at(1_000_000));
        let open = || {
            let mut options =
                if in_memory { BrokerOptions::memory(clock.clone()) } else { options(&folder.path().join("a")) };
            (options.retention_ms, options.clock) = (Some(100), clock.clone());
            Broker::open(options)
        };
        let mut broker = open()?;
        let configs = [("segment.ms".to_owned(), "50".to_owned())].into();
        broker.create_topic(&TopicSpec { name: "s-changelog".into(), partitions: 1, configs })?;
        let mut p = producer(&broker, Some("app"))?;
        for number in 0..3 {
            p.send(&id("s-changelog", 0), batch(&[&number.to_string()]))?;
            assert!(matches!(commit(p.as_mut(), number), CommitOutcome::Done));
            clock.advance(std::time::Duration::from_secs(1_000));
            broker.tick()?;
        }
        let rows = |broker: &Broker| read(broker, &id("s-changelog", 0), 0, Isolation::ReadCommitted);
        assert_eq!(
            (broker.start_offset(&id("s-changelog", 0))?, rows(&broker)?.len()),
            (0, 3),
            "in memory: {in_memory}"
        );
        if !in_memory {
            let logs = || {
                let files = fs::read_dir(folder.path().join("a/s-changelog-0")).expect("a folder").flatten();
                files.filter(|file| file.path().extension().is_some_and(|e| e == "log")).count()
            };
            assert_eq!(logs(), 1, "no marker closes a segment");
            // Nor does a start, by the indexes or, without them, by the batches.
            for garbage in [false, true] {
                broker.close()?;
                drop((p, broker));
                for suffix in ["index", "timeindex"] {
                    let path = folder.path().join(format!("a/s-changelog-0/00000000000000000000.{suffix}"));
                    if garbage {
                        fs::write(path, b"garbage").expect("a write");
                    }
                }
                broker = open()?;
                p = producer(&broker, Some("app"))?;
                broker.tick()?;
                assert_eq!((rows(&broker)?.len(), logs()), (3, 1), "garbage: {garbage}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_segment_takes_no_records_much_later_than_its_first() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("a");
    let broker = open(&dir)?;
    let configs = [("segment.ms".to_owned(), "100".to_owned())].into();
    broker.create_topic(&millstream_core::TopicSpec { name: "t".into(), partitions: 1, configs })?;
    let mut p = producer(&broker, None)?;
    for time in [0, 99, 100, 150, 200] {
        let mut batch = millstream_core::BatchBuilder::new();
        batch.push(time, None, Some(b"x"), &[]);
        p.send(&id("t", 0), batch)?;
    }
    let segment = |base: i64| dir.join(format!("t-0/{base:020}.log")).exists();
    assert_eq!([0, 1, 2, 3, 4].map(segment), [true, false, true, false, true]);
    Ok(())
}

#[test]
fn only_the_logs_own_topics_and_markers_are_not_bounded() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = open(&folder.path().join("a"))?;
    let configs: std::collections::BTreeMap<_, _> = [("max.message.bytes".to_owned(), "100".to_owned())].into();
    for name in ["_mine", "t"] {
        let spec = millstream_core::TopicSpec { name: name.into(), partitions: 1, configs: configs.clone() };
        broker.create_topic(&spec)?;
        let mut p = producer(&broker, Some(name))?;
        let refused = p.send(&id(name, 0), batch(&[&"x".repeat(100)])).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(refused.contains("max.message.bytes=100"), "{refused}");
        p.send(&id(name, 0), batch(&["x"]))?;
        assert!(matches!(commit(p.as_mut(), 1), CommitOutcome::Done));
        assert_eq!(read(&broker, &id(name, 0), 0, Isolation::ReadCommitted)?, ["x"]);
    }
    Ok(())
}

#[test]
fn a_directory_has_one_owner_and_one_format() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("a");
    let broker = open(&dir)?;
    let error = open(&dir).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("in use by pid") && error.contains("help:"), "{error}");
    drop(broker);
    fs::write(dir.join("meta.properties"), "magic=millstream-log\nversion=99\n").expect("a write");
    let error = open(&dir).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("format 99"), "{error}");
    Ok(())
}

#[test]
fn what_is_wrong_with_a_batch_refuses_it_and_appends_nothing() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = open(&folder.path().join("a"))?;
    create(&broker, "t", 1)?;
    let good = batch(&["a"]).seal(&Default::default()).expect("a batch");
    let refused = |bytes: &[u8]| matches!(broker.append(&id("t", 0), bytes), Err(LogError::Refused { .. }));
    for at in 12..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        // Four bytes of leader epoch are not covered: the log sets them itself.
        assert!((12..16).contains(&at) || refused(&bad), "byte {at}");
        assert!(refused(&good[..at]), "cut at {at}");
    }
    let mut long = good.clone();
    long.push(0);
    assert!(refused(&long));
    let value = "x".repeat(2 << 20);
    assert!(refused(&batch(&[&value]).seal(&Default::default()).expect("a batch")));
    let end = broker.end_offset(&id("t", 0), ALL)?;
    assert_eq!(broker.append(&id("t", 0), &good)?, end);
    Ok(())
}

#[test]
fn positions_of_groups_survive() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("a");
    let broker = open(&dir)?;
    create(&broker, "in", 1)?;
    let mut p = producer(&broker, None)?;
    assert!(matches!(commit(p.as_mut(), 7), CommitOutcome::Done));
    drop((p, broker));
    assert_eq!(common::committed(&open(&dir)?), Some(7));
    Ok(())
}

#[test]
fn bad_names_and_settings_name_the_rule() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = open(&folder.path().join("a"))?;
    for name in ["", "..", "a/b", "ä", &"x".repeat(250)] {
        assert!(matches!(create(&broker, name, 1), Err(LogError::InvalidTopic { .. })), "{name}");
    }
    let spec = millstream_core::TopicSpec {
        name: "t".into(),
        partitions: 1,
        configs: [("retention.mss".into(), "1".into())].into(),
    };
    let error = broker.create_topic(&spec).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("did you mean `retention.ms`"), "{error}");
    // An index says no place behind: every fetch would have read the segment from its start.
    for (bytes, taken) in [(i64::from(i32::MAX), true), (i64::from(i32::MAX) + 1, false)] {
        let configs = [("segment.bytes".into(), bytes.to_string())].into();
        let created = broker.create_topic(&TopicSpec { name: format!("of-{bytes}"), partitions: 1, configs });
        let error = created.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(if taken { error.is_empty() } else { error.contains("1024 to 2147483647") }, "{error}");
    }
    assert_eq!(broker.partitions("t")?, None);
    Ok(())
}

#[test]
fn an_altered_configuration_counts_at_once_and_survives() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("a");
    let config = |text: &str| -> BTreeMap<String, String> {
        text.split_whitespace().filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
    };
    let broker = open(&dir)?;
    let configs = config("cleanup.policy=compact retention.ms=5 max.message.bytes=100");
    broker.create_topic(&TopicSpec { name: "t".into(), partitions: 2, configs })?;
    let large = "x".repeat(200);
    let mut p = producer(&broker, None)?;
    assert!(matches!(p.send(&id("t", 1), batch(&[&large])), Err(LogError::Refused { .. })));
    broker.alter_configs("t", &config("retention.ms=7 max.message.bytes=1000"))?;
    p.send(&id("t", 1), batch(&[&large]))?;
    // What is wrong changes nothing.
    assert!(broker.alter_configs("t", &config("segment.bytes=5000 retention.ms=soon")).is_err());
    assert!(broker.alter_configs("none", &config("retention.ms=7")).is_err());
    drop((p, broker));
    let wanted = config("cleanup.policy=compact retention.ms=7 max.message.bytes=1000");
    assert_eq!(open(&dir)?.topic_config("t"), Some(wanted));
    Ok(())
}

/// A position could be deleted from outside, and be back in memory until the next start.
#[test]
fn nobody_else_writes_or_deletes_the_logs_own_topics() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = open(folder.path())?;
    create(&broker, "t", 1)?;
    let mut p = producer(&broker, Some("app"))?;
    p.send(&id("t", 0), batch(&["a"]))?;
    assert!(matches!(commit(p.as_mut(), 1), CommitOutcome::Done));
    for topic in ["__consumer_offsets", "__transaction_state"] {
        let own = id(topic, 0);
        let refused = [
            p.send(&own, batch(&["a"])).err(),
            broker.append(&own, &batch(&["a"]).seal(&Default::default()).expect("a batch")).err(),
            broker.delete_records(&own, 1).err(),
            broker.delete_topic(topic).err(),
            broker.alter_configs(topic, &Default::default()).err(),
            broker.create_topic(&TopicSpec { name: topic.into(), partitions: 1, configs: Default::default() }).err(),
        ];
        for error in refused {
            assert!(matches!(&error, Some(LogError::InternalTopic(name)) if name == topic), "{error:?}");
        }
    }
    p.send(&id("t", 0), batch(&["b"]))?;
    assert!(matches!(commit(p.as_mut(), 2), CommitOutcome::Done));
    Ok(())
}
