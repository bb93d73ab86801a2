//! Files of a data directory that are damaged, cut, emptied, gone or another's lose nothing silently: all that was acknowledged is
//! there, or an error says which file, and everything stays as it was. Only the torn end of the last write goes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{
    Admin, BatchBuilder, CommitOutcome, CommittedOffset, ConsumerOptions, Files, GroupOffsets, Isolation, Log,
    LogError, ManualClock, OpenMode, ProducerOptions, SimFiles, TopicPartition, TopicSpec, Wakeup,
};

type Outcome = Result<(), LogError>;

const ROOT: &str = "/data";

fn open(files: &SimFiles, durability: Durability) -> Result<Broker, LogError> {
    Broker::open(BrokerOptions {
        files: Arc::new(files.clone()),
        durability,
        threads: false,
        segment_bytes: 1_024,
        checkpoint_bytes: u64::MAX,
        retention_ms: None,
        tail_bytes: 0,
        ..BrokerOptions::new(ROOT, Arc::new(ManualClock::at(1_000)))
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Killed,
}

fn batch(texts: impl IntoIterator<Item = String>) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    texts.into_iter().for_each(|text| batch.push(5, Some(&text.as_bytes()[..2]), Some(text.as_bytes()), &[]));
    batch
}

/// Sends some rounds to every topic, each acknowledged by itself.
fn rounds(broker: &Broker, numbers: std::ops::Range<i64>) -> Outcome {
    let mut plain = broker.producer(&ProducerOptions::plain("p"), Arc::new(Wakeup::default()))?;
    let mut app = broker.producer(&ProducerOptions::transactional("t", "app"), Arc::new(Wakeup::default()))?;
    for number in numbers {
        for (topic, partition, records) in [("in", 0, 3), ("in", 1, 2), ("del", 0, 1), ("comp", 0, 4)] {
            let texts = (0..records).map(|i| format!("k{} {topic}-{partition} {number} {i}", (number + i) % 5));
            plain.send(&TopicPartition::new(topic, partition), batch(texts))?;
        }
        app.send(&TopicPartition::new("tx", 0), batch([format!("k {number}")]))?;
        if number % 3 == 1 {
            app.abort()?;
        } else {
            let position = CommittedOffset { offset: number, metadata: "m".into() };
            let offsets = vec![(TopicPartition::new("in", 0), position)];
            app.commit(GroupOffsets { group: "g".into(), offsets });
        }
        app.keep(app.last_commit())?;
        assert!(matches!(app.poll_commit(), None | Some(CommitOutcome::Done)));
    }
    Ok(())
}

/// A directory with several segments per partition, a checkpoint in the middle, and deleted and compacted records.
fn written(durability: Durability, end: End) -> Result<SimFiles, LogError> {
    let files = SimFiles::default();
    let broker = open(&files, durability)?;
    for (name, partitions, policy) in
        [("in", 2, "delete"), ("del", 1, "delete"), ("tx", 1, "delete"), ("comp", 1, "compact")]
    {
        let configs = [("cleanup.policy", policy), ("min.cleanable.dirty.ratio", "0.1")];
        let configs = configs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        broker.create_topic(&TopicSpec { name: name.into(), partitions, configs })?;
    }
    rounds(&broker, 0..30)?;
    broker.tick()?;
    broker.close()?;
    drop(broker);
    let broker = open(&files, durability)?;
    broker.delete_records(&TopicPartition::new("del", 0), 17)?;
    rounds(&broker, 30..36)?;
    match end {
        End::Closed => broker.close()?,
        End::Killed => {}
    }
    Ok(files.kill())
}

/// Everything that can be asked of the log.
fn view(files: &SimFiles, durability: Durability) -> Result<Vec<String>, LogError> {
    let broker = open(files, durability)?;
    let mut view = Vec::new();
    for topic in broker.topics()? {
        for partition in 0..broker.partitions(&topic)?.unwrap_or(0) {
            let id = TopicPartition::new(topic.as_str(), partition);
            let start = broker.start_offset(&id)?;
            if !topic.starts_with("__") {
                view.push(format!("{id} {start} {}", broker.end_offset(&id, Isolation::ReadUncommitted)?));
            }
            let isolation = Isolation::ReadCommitted;
            let options = ConsumerOptions { client_id: "test".into(), group: "".into(), isolation };
            let mut consumer = broker.consumer(&options, Arc::new(Wakeup::default()))?;
            consumer.assign(&[(id.clone(), start)])?;
            let mut position = start;
            loop {
                let fetch = consumer.fetch(0, 300)?;
                for mut batch in fetch.batches {
                    while let Some(record) = batch.next() {
                        let record = record.expect("a whole record");
                        let value = record.value.map(|v| String::from_utf8_lossy(v.as_slice()).into_owned());
                        if !topic.starts_with("__") {
                            view.push(format!("{id} {} {value:?}", record.offset));
                        }
                    }
                }
                if fetch.position == position {
                    break;
                }
                position = fetch.position;
            }
        }
    }
    view.extend(broker.group_offsets().iter().map(|(group, of, at)| format!("{group} {of} {}", at.offset)));
    Ok(view)
}

/// All files with their bytes.
fn contents(files: &SimFiles) -> BTreeMap<PathBuf, Vec<u8>> {
    let root = Path::new(ROOT);
    let dirs = files.list(root).expect("a folder").into_iter().map(|name| root.join(name)).chain([root.to_owned()]);
    let paths = dirs.flat_map(|dir| files.list(&dir).unwrap_or_default().into_iter().map(move |name| dir.join(name)));
    paths.filter_map(|path| files.read(&path).ok().map(|bytes| (path, bytes))).collect()
}

fn put(files: &SimFiles, path: &Path, bytes: Option<&[u8]>) {
    match bytes {
        None => files.remove(path).expect("a file"),
        Some(bytes) => {
            let file = files.open(path, OpenMode::Create).expect("a file");
            file.write_all_at(bytes, 0).and_then(|()| file.sync()).expect("a write");
        }
    }
}

/// Every durability that has files, and every end.
const CASES: [(Durability, End); 4] = [
    (Durability::Os, End::Closed),
    (Durability::Os, End::Killed),
    (Durability::Disk, End::Closed),
    (Durability::Disk, End::Killed),
];

/// What is said of a directory after a file was changed; `None` if it opens with everything.
fn told(files: &SimFiles, durability: Durability, wanted: &[String], damage: &str) -> Option<String> {
    let before = contents(files);
    let opened = open(files, durability).map(drop).err();
    if let Some(error) = opened {
        assert!(contents(files) == before, "{damage}: {error}: files were changed");
        let error = error.to_string();
        assert!(error.contains("help:") && error.contains(ROOT) || error.contains("journal"), "{damage}: {error}");
        return Some(error);
    }
    match view(files, durability) {
        Ok(found) => {
            let lost = wanted.iter().find(|line| !found.contains(line));
            let new = found.iter().find(|line| !wanted.contains(line));
            assert!(found == wanted, "{damage}: lost {lost:?}, new {new:?}");
            None
        }
        Err(error @ LogError::Corrupt { .. }) => Some(error.to_string()),
        Err(error) => panic!("{damage}: {error}"),
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

fn segments(files: &SimFiles, dir: &str) -> Vec<PathBuf> {
    let dir = path(dir);
    let names = files.list(&dir).expect("a folder").into_iter().filter(|name| name.ends_with(".log"));
    names.map(|name| dir.join(name)).collect()
}

fn journal(files: &SimFiles) -> PathBuf {
    let names = files.list(Path::new(ROOT)).expect("a folder").into_iter();
    names
        .filter(|name| name.starts_with("journal-") && name.ends_with(".log"))
        .map(|name| path(&name))
        .next_back()
        .expect("one")
}

fn flipped(bytes: &[u8], at: usize, bit: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << bit;
    bytes
}

/// The segments held all of it, and were cut at the checkpoint for a journal that said nothing any more.
#[test]
fn a_journal_that_was_synced_and_is_not_sound_any_more_takes_nothing_with_it() -> Outcome {
    let files = written(Durability::Disk, End::Killed)?;
    let wanted = view(&files.kill(), Durability::Disk)?;
    let path = journal(&files);
    let bytes = files.read(&path).expect("a journal");
    assert!(bytes.len() > 2_000, "{}", bytes.len());
    let mut damages: Vec<(String, Option<Vec<u8>>)> = vec![("gone".into(), None)];
    let lens = (0..bytes.len()).step_by(61).chain([1, 20, 28, 29, bytes.len() - 1]);
    damages.extend(lens.map(|len| (format!("cut at {len}"), Some(bytes[..len].to_vec()))));
    damages.extend((0..bytes.len()).step_by(23).map(|at| (format!("byte {at}"), Some(flipped(&bytes, at, 3)))));
    for (damage, left) in damages {
        let copy = files.kill();
        put(&copy, &path, left.as_deref());
        for durability in [Durability::Disk, Durability::Os] {
            let error = told(&copy, durability, &wanted, &damage);
            assert!(error.as_ref().is_some_and(|e| e.contains("journal-")), "{damage}: {error:?}");
        }
        // Nor if nobody says how far it was synced, but for a piece of its end.
        let _is_there = copy.remove(&Path::new(ROOT).join("journal-synced"));
        if damage.starts_with("byte") {
            assert!(told(&copy, Durability::Disk, &wanted, &damage).is_some(), "{damage}");
        }
    }
    Ok(())
}

#[test]
fn a_closed_segment_that_is_cut_between_batches_emptied_gone_or_anothers_is_no_gap() -> Outcome {
    for (durability, end) in
        [(Durability::Os, End::Closed), (Durability::Disk, End::Closed), (Durability::Disk, End::Killed)]
    {
        let files = written(durability, end)?;
        let wanted = view(&files.kill(), durability)?;
        for dir in ["in-0", "in-1", "comp-0"] {
            let paths = segments(&files, dir);
            let closed = &paths[..paths.len() - 1];
            assert!(!closed.is_empty(), "{dir}");
            for (i, path) in closed.iter().enumerate() {
                let bytes = files.read(path).expect("a segment");
                let mut ends = vec![0];
                while let Some(len) = bytes.get(ends[ends.len() - 1] + 8..).and_then(|rest| rest.first_chunk()) {
                    ends.push(ends[ends.len() - 1] + 12 + u32::from_be_bytes(*len) as usize);
                }
                let other = files.read(&paths[(i + 1) % paths.len()]).expect("a segment");
                let cuts =
                    ends[..ends.len() - 1].iter().map(|end| (format!("cut at {end}"), Some(bytes[..*end].to_vec())));
                for (damage, left) in cuts.chain([("gone".into(), None), ("another's".into(), Some(other))]) {
                    let copy = files.kill();
                    put(&copy, path, left.as_deref());
                    let damage = format!("{durability:?} {end:?} {} {damage}", path.display());
                    let error = told(&copy, durability, &wanted, &damage);
                    // What the journal has is not missing.
                    assert!(error.is_some() || (durability, end) == (Durability::Disk, End::Killed), "{damage}");
                }
            }
        }
    }
    Ok(())
}

/// The checksum of a batch does not cover its offset.
#[test]
fn an_offset_of_a_batch_that_is_damaged_is_found() -> Outcome {
    for (durability, end) in CASES {
        let files = written(durability, end)?;
        let wanted = view(&files.kill(), durability)?;
        for path in segments(&files, "in-0").into_iter().chain(segments(&files, "in-1")) {
            let bytes = files.read(&path).expect("a segment");
            let (mut at, mut damaged) = (0, 0);
            while let Some(len) = bytes.get(at + 8..).and_then(|rest| rest.first_chunk()) {
                for bit in (0..64).step_by(if at % 7 == 0 { 3 } else { 19 }) {
                    let copy = files.kill();
                    put(&copy, &path, Some(&flipped(&bytes, at + 7 - bit / 8, (bit % 8) as u8)));
                    let damage = format!("{durability:?} {end:?} {} bit {bit} at {at}", path.display());
                    damaged += u32::from(told(&copy, durability, &wanted, &damage).is_some());
                }
                at += 12 + u32::from_be_bytes(*len) as usize;
            }
            // What the journal has is not looked at in the segments.
            assert!(damaged > 0 || (durability, end) == (Durability::Disk, End::Killed), "{}", path.display());
        }
    }
    Ok(())
}

#[test]
fn a_topics_file_that_is_changed_gone_or_anothers_deletes_no_topic() -> Outcome {
    for durability in [Durability::Os, Durability::Disk] {
        for end in [End::Closed, End::Killed] {
            let files = written(durability, end)?;
            let wanted = view(&files.kill(), durability)?;
            for name in ["in-0/topic.properties", "recovery-point-checkpoint"] {
                let bytes = files.read(&path(name)).expect("a file");
                for at in 0..bytes.len() {
                    let copy = files.kill();
                    put(&copy, &path(name), Some(&flipped(&bytes, at, 0)));
                    let damage = format!("{durability:?} {end:?} {name} byte {at}");
                    assert!(told(&copy, durability, &wanted, &damage).is_some(), "{damage}");
                }
            }
            let other = files.read(&path("tx-0/topic.properties")).expect("a file");
            for (damage, left) in [("gone", None), ("empty", Some(&[][..])), ("another's", Some(&other[..]))] {
                let copy = files.kill();
                put(&copy, &path("in-0/topic.properties"), left);
                let error = told(&copy, durability, &wanted, damage).unwrap_or_default();
                assert!(error.contains("in-0/topic.properties"), "{durability:?} {end:?} {damage}: {error}");
            }
        }
    }
    Ok(())
}

/// Without its first folder too, and although nobody asks for the topic.
#[test]
fn folders_that_hold_batches_belong_to_a_topic() -> Outcome {
    let files = written(Durability::Os, End::Closed)?;
    let wanted = view(&files.kill(), Durability::Os)?;
    files.remove_dir(&path("in-0")).expect("a folder");
    let error = told(&files, Durability::Os, &wanted, "in-0 is gone").unwrap_or_default();
    assert!(error.contains("in-0/topic.properties") && error.contains("in-1 holds batches"), "{error}");
    Ok(())
}

/// Nothing was acknowledged of it, and the deletion of the one before was.
#[test]
fn a_creation_or_deletion_that_did_not_end_is_ended() -> Outcome {
    let files = written(Durability::Disk, End::Closed)?;
    let spec = TopicSpec { name: "new".into(), partitions: 2, configs: BTreeMap::new() };
    files.create_dir(&path("new-0")).expect("a folder");
    put(&files, &path("new-0/log-start-offset"), Some(b"7"));
    let broker = open(&files, Durability::Disk)?;
    broker.create_topic(&spec)?;
    assert_eq!(broker.start_offset(&TopicPartition::new("new", 0))?, 0);
    drop(broker);
    let deleted = files.kill();
    put(&deleted, &path("in-0/topic.deleted"), Some(b""));
    for left in [vec![], vec!["in-1"]] {
        let files = deleted.kill();
        left.iter().for_each(|dir| files.remove_dir(&path(dir)).expect("a folder"));
        let broker = open(&files, Durability::Disk)?;
        assert_eq!(broker.partitions("in")?, None);
        assert!(!files.list(Path::new(ROOT)).expect("a folder").iter().any(|name| name.starts_with("in-")));
        broker.create_topic(&TopicSpec { name: "in".into(), ..spec.clone() })?;
    }
    Ok(())
}

#[test]
fn where_the_log_starts_and_was_compacted_is_not_believed_whatever_it_is() -> Outcome {
    for end in [End::Closed, End::Killed] {
        let files = written(Durability::Os, end)?;
        let wanted = view(&files.kill(), Durability::Os)?;
        for name in ["del-0/log-start-offset", "comp-0/cleaner-offset"] {
            let bytes = files.read(&path(name)).expect("a file");
            for at in 0..bytes.len() {
                let copy = files.kill();
                put(&copy, &path(name), Some(&flipped(&bytes, at, 0)));
                let damage = format!("{end:?} {name} byte {at}");
                assert!(told(&copy, Durability::Os, &wanted, &damage).is_some(), "{damage}");
            }
            for text in ["999999", "-5", ""] {
                let copy = files.kill();
                put(&copy, &path(name), Some(text.as_bytes()));
                assert!(told(&copy, Durability::Os, &wanted, text).is_some(), "{name} {text}");
            }
        }
    }
    Ok(())
}

/// As the first format was: no magic, no checksum.
fn as_first_format(files: &SimFiles) {
    for (path, bytes) in contents(files) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some(rest) = text.strip_prefix("magic=millstream-") else { continue };
        let lines: Vec<&str> = rest.lines().collect();
        let [kind, _, _, body @ .., _] = &lines[..] else { continue };
        let whole = body.join("\n");
        let text = match *kind {
            "topic" => format!("version=1\n{whole}\n"),
            "checkpoint" => {
                let points = body.iter().map(|line| match line.rsplit_once(' ') {
                    Some((point, _)) => format!("{point}\n"),
                    None => format!("{line}\n"),
                });
                format!("version=1\n{}end\n", points.collect::<String>())
            }
            "log-start-offset" | "cleaner-offset" => whole,
            _ => continue,
        };
        put(files, &path, Some(text.as_bytes()));
    }
}

#[test]
fn the_first_format_opens_and_a_topic_that_nobody_knows_is_not_cut() -> Outcome {
    for durability in [Durability::Os, Durability::Disk] {
        for end in [End::Closed, End::Killed] {
            let files = written(durability, end)?;
            let wanted = view(&files.kill(), durability)?;
            as_first_format(&files);
            assert_eq!(told(&files.kill(), durability, &wanted, "as it was"), None);
            let opened = files.kill();
            drop(open(&opened, durability)?);
            let file = path("in-0/topic.properties");
            assert!(opened.read(&file).expect("a file").starts_with(b"magic="), "from now on it has a checksum");
            let text = String::from_utf8(files.read(&file).expect("a file")).expect("text");
            let at = text.find("id=").expect("an id") + 3;
            for (digit, bit) in (at..at + 4).flat_map(|at| (0..3).map(move |bit| (at, bit))) {
                let copy = files.kill();
                put(&copy, &file, Some(&flipped(text.as_bytes(), digit, bit)));
                let damage = format!("{durability:?} {end:?} digit {digit} bit {bit}");
                if durability == Durability::Os || end == End::Closed {
                    // It had no checksum, so its topic is another one: groups have no positions there.
                    let records = |lines: Vec<String>| -> Vec<String> {
                        lines.into_iter().filter(|line| !line.starts_with("g in-")).collect()
                    };
                    let found = view(&copy, durability).map(records);
                    assert!(found.map_or(true, |found| found == records(wanted.clone())), "{damage}");
                } else {
                    assert!(told(&copy, durability, &wanted, &damage).is_some(), "{damage}");
                }
            }
        }
    }
    Ok(())
}

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below.max(1)
    }
}

/// A cut or another's file at the end of what nothing vouches for is like a write that did not end.
fn may_be_torn(files: &SimFiles, path: &Path, durability: Durability, end: End) -> bool {
    let dir = path.parent().and_then(|dir| dir.file_name()?.to_str()).unwrap_or_default();
    let is_active = dir != "data" && segments(files, dir).last().is_some_and(|last| last == path);
    is_active && (durability, end) == (Durability::Os, End::Killed)
}

#[test]
fn whatever_is_damaged_all_is_there_or_an_error_says_what() -> Outcome {
    let mut dice = Dice(7);
    let mut errors = 0;
    for (durability, end) in CASES {
        let files = written(durability, end)?;
        let wanted = view(&files.kill(), durability)?;
        let all = contents(&files);
        for (path, bytes) in &all {
            let mut damages =
                [("gone".to_owned(), None), ("empty".to_owned(), Some(Vec::new()))][dice.below(2)..].to_vec();
            let len = dice.below(bytes.len());
            damages.push((format!("cut at {len}"), Some(bytes[..len].to_vec())));
            for _ in 0..2 {
                let (at, bit) = (dice.below(bytes.len()), dice.below(8) as u8);
                damages.push((format!("bit {bit} at {at}"), (!bytes.is_empty()).then(|| flipped(bytes, at, bit))));
            }
            let alike = |other: &&PathBuf| *other != path && path.parent() == other.parent();
            let others: Vec<&PathBuf> = all.keys().filter(alike).collect();
            if let Some(other) = others.get(dice.below(others.len())) {
                damages.push((format!("has become {}", other.display()), Some(all[*other].clone())));
            }
            for (damage, left) in damages {
                let shortens = left.as_ref().is_none_or(|left| left.len() < bytes.len());
                if left.as_ref() == Some(bytes) || shortens && may_be_torn(&files, path, durability, end) {
                    continue;
                }
                // It is known nowhere else where the log was made to start since the checkpoint.
                if path.ends_with("log-start-offset") && left.is_none() && end == End::Killed {
                    continue;
                }
                let copy = files.kill();
                put(&copy, path, left.as_deref());
                let damage = format!("{durability:?} {end:?} {} {damage}", path.display());
                errors += u32::from(told(&copy, durability, &wanted, &damage).is_some());
            }
        }
    }
    assert!(errors > 100, "{errors}");
    Ok(())
}
