//! A join's buffer answers as a list of its records would, whatever comes late, is rolled back, expires or is restored.

use millstream_core::{ChangelogRecord, ChangelogWriter, NumberSerde, Result, StateStore, Text, TextSerde, Timestamp};
use millstream_state::JoinBuffer;
use proptest::prelude::*;

const RETENTION: Timestamp = 20;

/// A record: key, time, what tells it from others.
type Record = (u8, Timestamp, i64);

/// The records as they came, and the time.
#[derive(Debug, Clone)]
struct List {
    records: Vec<Record>,
    observed: Timestamp,
}

impl List {
    fn put(&mut self, record: Record) -> bool {
        self.observed = self.observed.max(record.1);
        let live = record.1 > self.observed - RETENTION;
        if live {
            self.records.push(record);
        }
        live
    }

    fn fetch(&self, key: u8, (from, to): (Timestamp, Timestamp)) -> Vec<(Timestamp, i64)> {
        let from = from.max(self.observed - RETENTION + 1);
        let meant = self.records.iter().filter(|(of, time, _)| *of == key && (from..=to).contains(time));
        let mut found: Vec<_> = meant.map(|(_, time, number)| (*time, *number)).collect();
        found.sort_by_key(|(time, _)| *time);
        found
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A key, and by how much the record is ahead of the largest time so far, or behind it.
    Put(u8, Timestamp),
    Observe(Timestamp),
    Flush,
    Rollback,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (0..3u8, -25..8i64).prop_map(|(key, ahead)| Step::Put(key, ahead)),
        1 => (0..10i64).prop_map(Step::Observe),
        4 => Just(Step::Flush),
        2 => Just(Step::Rollback),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 0..120)
}

fn buffer() -> JoinBuffer<NumberSerde<i64>> {
    JoinBuffer::new("s", NumberSerde::default(), RETENTION)
}

fn write(store: &mut impl StateStore, log: &mut Vec<(Vec<u8>, Vec<u8>, Timestamp)>) -> Result<()> {
    let mut writer = ChangelogWriter::default();
    store.flush(&mut writer)?;
    for batch in writer.into_batches() {
        let mut records = batch.into_records(0);
        while let Some(Ok(record)) = records.next() {
            let bytes =
                |payload: Option<millstream_core::Payload<'_>>| payload.map_or(Vec::new(), |p| p.as_slice().to_vec());
            log.push((bytes(record.key), bytes(record.value), record.timestamp));
        }
    }
    Ok(())
}

fn restore(store: &mut impl StateStore, log: &[(Vec<u8>, Vec<u8>, Timestamp)]) -> Result<()> {
    log.iter().zip(0..).try_for_each(|((key, value, timestamp), offset)| {
        store.restore(ChangelogRecord { key, value: Some(value), timestamp: *timestamp, headers: &[], offset })
    })
}

proptest! {
    #[test]
    fn it_answers_as_a_list_would(steps in steps()) {
        let (mut store, mut log) = (buffer(), Vec::new());
        let empty = List { records: Vec::new(), observed: -1 };
        let (mut list, mut committed) = (empty.clone(), empty);
        // The length of the changelog at the last commit; a commit under way: the list then.
        let (mut written, mut flushed) = (0, None::<List>);
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put(key, ahead) => {
                    let record = (key, (list.observed + ahead).max(0), number as i64);
                    let kept = store.put(&[key], record.1, record.2).unwrap();
                    prop_assert_eq!(kept, list.put(record));
                }
                Step::Observe(ahead) => {
                    list.observed += ahead;
                    prop_assert_eq!(store.observe(list.observed), list.observed);
                }
                Step::Flush => match flushed.take() {
                    None => {
                        write(&mut store, &mut log).unwrap();
                        flushed = Some(list.clone());
                    }
                    Some(then) => {
                        store.committed();
                        (committed, written) = (then, log.len());
                    }
                },
                Step::Rollback => {
                    store.rollback();
                    flushed = None;
                    log.truncate(written);
                    list = committed.clone();
                }
                Step::Restart => {
                    flushed = None;
                    log.truncate(written);
                    store = buffer();
                    restore(&mut store, &log).unwrap();
                    // What only moved the time is not in the changelog; the join knows it.
                    list = committed.clone();
                    store.observe(list.observed);
                    write(&mut store, &mut Vec::new()).unwrap();
                    store.committed();
                }
            }
            for key in 0..3 {
                for times in [(0, Timestamp::MAX), (list.observed - 10, list.observed - 3)] {
                    let found: Vec<_> = store.fetch(&[key], times.0..=times.1).unwrap().map(|(time, n)| (time, *n)).collect();
                    prop_assert_eq!(found, list.fetch(key, times));
                }
            }
        }
    }
}

/// A row does not hold the batch that it came in, and what rows share goes with the last of them.
#[test]
fn values_are_kept_apart_from_their_batches() -> Result<()> {
    let mut store: JoinBuffer<TextSerde> = JoinBuffer::new("s", TextSerde, RETENTION);
    for time in 0..1_000 {
        let batch = Text::from("a batch of many records");
        store.put(b"k", time, batch.share(&batch[2..7]))?;
        store.put(b"k", time, Text::from("x".repeat(100_000)))?;
        let found: Vec<_> = store.fetch(b"k", time..=time)?.map(|(_, value)| value.len()).collect();
        assert_eq!(found, [5, 100_000]);
        let (_, kept) = store.fetch(b"k", time..=time)?.next().expect("it was put just now");
        assert!(!batch.as_bytes().as_ptr_range().contains(&kept.as_bytes().as_ptr()));
        store.flush(&mut ChangelogWriter::default())?;
        store.committed();
    }
    Ok(())
}

/// A join that commits every ten seconds kept, and wrote, all records of ten seconds for a window of a tenth of one.
#[test]
fn what_comes_and_goes_between_two_commits_is_not_written() -> Result<()> {
    let mut store: JoinBuffer<TextSerde> = JoinBuffer::new("s", TextSerde, RETENTION);
    let put = |store: &mut JoinBuffer<TextSerde>, times: std::ops::Range<Timestamp>| {
        times.into_iter().try_for_each(|time| store.put(b"k", time, Text::from("x".repeat(10_000))).map(drop))
    };
    let found = |store: &mut JoinBuffer<TextSerde>| -> Result<Vec<_>> {
        Ok(store.fetch(b"k", 0..=Timestamp::MAX)?.map(|(time, _)| time).collect())
    };
    let (mut log, mut most) = (Vec::new(), 0);
    put(&mut store, 0..30)?;
    write(&mut store, &mut log)?;
    store.committed();
    for time in 30..10_000 {
        put(&mut store, time..time + 1)?;
        most = most.max(store.dirty_bytes());
    }
    // A commit is under way while others come and go.
    let before = log.len();
    write(&mut store, &mut log)?;
    assert!(log.len() - before < 2 * (RETENTION as usize + 64 / 10), "{} rows are written", log.len() - before);
    assert!(most < 10_000, "{most} bytes wait at most");
    put(&mut store, 10_000..11_000)?;
    let (mut kept, live) = (store, Vec::from_iter(10_980..11_000));
    assert_eq!(found(&mut kept)?, live);
    kept.committed();
    assert_eq!(found(&mut kept)?, live);
    // Back to that commit, whose rows have all been passed over since.
    kept.rollback();
    assert_eq!(found(&mut kept)?, Vec::from_iter(9_980..10_000));
    let mut restored: JoinBuffer<TextSerde> = JoinBuffer::new("s", TextSerde, RETENTION);
    restore(&mut restored, &log)?;
    assert_eq!(found(&mut restored)?, Vec::from_iter(9_980..10_000));
    Ok(())
}
