//! A call of the log that gets no answer, at any moment and also in the middle of recovering from another, neither loses a
//! record nor counts one twice, nor does it end the thread as if another had taken over.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::{Clock, Error, Log, OffsetReset, ProcessingGuarantee, Result, RuntimeConfig, TopicPartition};
use millstream_dsl::{Consumed, StreamsBuilder};
use millstream_tests::by_hand::{ByHand, Failing};
use millstream_tests::embedded::Embedded;

const RECORDS: [(i64, Option<&str>, &str); 12] = [
    (1, None, "a"),
    (2, None, "b"),
    (3, None, "a"),
    (4, None, "c"),
    (5, None, "a"),
    (6, None, "b"),
    (7, None, "c"),
    (8, None, "a"),
    (9, None, "b"),
    (10, None, "b"),
    (11, None, "a"),
    (12, None, "c"),
];

fn program(guarantee: ProcessingGuarantee) -> Result<ByHand> {
    let embedded = Embedded::in_memory()?;
    embedded.create("in", 1)?;
    for records in RECORDS.chunks(3) {
        embedded.write("in", 0, records)?;
    }
    let b = StreamsBuilder::new();
    b.topic("out", 1);
    let lines = b.stream::<Option<String>, String>("in");
    lines.group_by("by-value", |_, value| value.clone()).count("counts").to_stream().to("out");
    let config = RuntimeConfig { guarantee, poll_records: 4, batch_bytes: 1, ..RuntimeConfig::embedded("app") };
    ByHand::new(embedded, b.build()?, config)
}

/// The counts that came out, by value.
fn counts(program: &ByHand) -> Result<BTreeMap<String, Vec<i64>>> {
    let mut counts: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (value, count) in program.embedded.read::<String, i64>("out")?.into_iter().flatten() {
        counts.entry(value).or_default().push(count);
    }
    Ok(counts)
}

fn each_once() -> BTreeMap<String, Vec<i64>> {
    let once = |value: &str, count: i64| (value.to_owned(), (1..=count).collect());
    [once("a", 5), once("b", 4), once("c", 3)].into()
}

/// Calls `check` for every call that can fail, alone and with those after it.
fn at_every_call(guarantee: ProcessingGuarantee, check: impl Fn(&ByHand, Failing) -> Result<()>) -> Result<()> {
    let mut undisturbed = program(guarantee)?;
    undisturbed.run()?;
    // Looking for more is calls too; what matters is over before.
    let calls = undisturbed.calls.calls().min(160);
    assert!(calls > 50, "{calls}");
    for from in 0..calls {
        for (times, retriable, done) in
            [(1, true, true), (1, false, false), (2, true, false), (3, false, true), (5, true, true)]
        {
            let failing = Failing { from, times, retriable, done };
            // At the end of a bounded run a thread commits whatever its last step has come to.
            for commits_each_step in [false, true] {
                let mut program = program(guarantee)?;
                program.calls.fail(Some(failing));
                program.commits_each_step = commits_each_step;
                program.run().unwrap_or_else(|e| panic!("{failing:?}, {commits_each_step}: {e}"));
                check(&program, failing)?;
            }
        }
    }
    Ok(())
}

#[test]
fn exactly_once_counts_each_record_once() -> Result<()> {
    at_every_call(ProcessingGuarantee::ExactlyOnceV2, |program, failing| {
        assert_eq!(counts(program)?, each_once(), "{failing:?}");
        Ok(())
    })
}

#[test]
fn at_least_once_passes_over_no_record_whose_send_failed() -> Result<()> {
    at_every_call(ProcessingGuarantee::AtLeastOnce, |program, failing| {
        let found = counts(program)?;
        for (value, once) in each_once() {
            let found = found.get(&value).map_or(&[][..], Vec::as_slice);
            let last = once.last().copied().unwrap_or_default();
            assert!(found.iter().any(|count| *count >= last), "{failing:?}: {value} was counted up to {found:?}");
        }
        Ok(())
    })
}

/// The thread asked how its commit had ended, found positions that were not its own, and did what another had done once more.
#[test]
fn what_another_has_done_before_the_outcome_was_known_is_not_done_again() -> Result<()> {
    let mut undisturbed = program(ProcessingGuarantee::ExactlyOnceV2)?;
    undisturbed.run()?;
    for from in 0..undisturbed.calls.calls().min(160) {
        let mut program = program(ProcessingGuarantee::ExactlyOnceV2)?;
        // The commit, and then each new producer that is to tell.
        program.calls.fail(Some(Failing { from, times: 5, retriable: true, done: false }));
        let is_held_up = |program: &mut ByHand| program.thread().is_ok_and(|thread| thread.held_up().is_some());
        while !is_held_up(&mut program) && program.calls.calls() < 300 {
            program.step()?;
        }
        program.calls.fail(None);
        let mut other = program.another_thread()?;
        for _ in 0..200 {
            other.step(program.embedded.clock.now())?;
            program.embedded.clock.advance(Duration::from_millis(20));
        }
        drop(other);
        // Where no outcome was open it is told that another has taken over.
        let ended = program.run().map(drop);
        assert!(ended.as_ref().err().is_none_or(Error::is_task_migrated), "{from}: {ended:?}");
        assert_eq!(counts(&program)?, each_once(), "{from}");
    }
    Ok(())
}

/// Retention has passed the group's position, and `latest` has put the thread elsewhere: that is no other's work. It would be put behind
/// what it had read since.
#[test]
fn where_latest_has_put_a_thread_it_stays() -> Result<()> {
    for from in 0..20 {
        let embedded = Embedded::in_memory()?;
        embedded.create("in", 1)?;
        let b = StreamsBuilder::new();
        b.topic("out", 1);
        let consumed = Consumed::of::<Option<String>, String>().reset(OffsetReset::Latest);
        b.stream_with("in", consumed).to("out");
        let config = RuntimeConfig { commit_interval: Duration::from_secs(10), ..RuntimeConfig::embedded("app") };
        let mut program = ByHand::new(embedded, b.build()?, config)?;
        program.run()?;
        program.embedded.write("in", 0, &[(0, None, "first")])?;
        program.run()?;
        program.embedded.write("in", 0, &[(0, None, "gone"), (0, None, "gone")])?;
        program.embedded.log.admin().delete_records(&TopicPartition::new("in", 0), 3)?;
        // It is not committed before the call fails.
        program.step()?;
        program.calls.fail(Some(Failing { from, times: 5, retriable: true, done: false }));
        program.embedded.write("in", 0, &[(0, None, "a")])?;
        while program.calls.calls() < from + 5 {
            program.step()?;
        }
        program.embedded.write("in", 0, &[(0, None, "b")])?;
        program.run()?;
        let read: Vec<String> =
            program.embedded.read::<Option<String>, String>("out")?.concat().into_iter().map(|(_, v)| v).collect();
        assert_eq!(read, ["first", "a", "b"], "{from}");
    }
    Ok(())
}
