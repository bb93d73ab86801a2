//! A transaction that nobody ends holds back every committed reader. The log ends it after its time-out, in an epoch that its
//! producer does not have: what that sends late is refused, and a new producer of the id goes on.

#[expect(dead_code, reason = "shared by several test programs")]
mod compacted;

use std::sync::Arc;
use std::time::{Duration, Instant};

use compacted::{ALL, COMMITTED, Dice, Outcome, World, commit, create, producer, send, t, texts};
use millstream_broker::{Broker, BrokerOptions, Durability};
use millstream_core::{
    Admin, ConsumerOptions, Log, LogError, Producer, ProducerOptions, SimFiles, SystemClock, Wakeup,
};

const EVERY: [Durability; 3] = [Durability::Memory, Durability::Os, Durability::Disk];

fn patient(broker: &Broker, id: &str, timeout: Duration) -> Result<Box<dyn Producer>, LogError> {
    let options = ProducerOptions { transaction_timeout: timeout, ..ProducerOptions::transactional("test", id) };
    broker.producer(&options, Arc::new(Wakeup::default()))
}

fn has_timed_out(result: Outcome) -> bool {
    matches!(result, Err(LogError::TimedOut { transactional_id }) if transactional_id == "a")
}

#[test]
fn a_transaction_is_aborted_at_its_time_out_and_not_before() -> Outcome {
    for durability in EVERY {
        let world = World::new(durability);
        let broker = world.open()?;
        create(&broker, "")?;
        let (mut a, mut b) = (patient(&broker, "a", Duration::from_secs(10))?, producer(&broker, Some("b"))?);
        // Idle time is not counted, and a commit begins anew.
        world.advance(60_000);
        send(a.as_mut(), 5, "k=1")?;
        world.advance(9_999);
        broker.tick()?;
        commit(a.as_mut())?;
        send(a.as_mut(), 5, "k=2")?;
        world.advance(9_999);
        broker.tick()?;
        send(b.as_mut(), 5, "k=b")?;
        commit(b.as_mut())?;
        assert_eq!(texts(&broker, COMMITTED)?, "k=1", "{durability:?}");
        world.advance(1);
        broker.tick()?;
        assert_eq!(broker.end_offset(&t(), COMMITTED)?, broker.end_offset(&t(), ALL)?);
        assert_eq!(texts(&broker, COMMITTED)?, "k=1 k=b", "{durability:?}");
        // However it goes on.
        assert!(has_timed_out(send(a.as_mut(), 5, "k=late")));
        assert!(has_timed_out(commit(a.as_mut())));
        assert!(has_timed_out(a.abort()));
        let mut again = patient(&broker, "a", Duration::from_secs(10))?;
        send(again.as_mut(), 5, "k=3")?;
        commit(again.as_mut())?;
        // Now there is a newer one, which the late one must not fence.
        assert!(matches!(send(a.as_mut(), 5, "k=late"), Err(LogError::Fenced { .. })));
        assert!(matches!(a.abort(), Err(LogError::Fenced { .. })));
        assert_eq!(texts(&broker, COMMITTED)?, "k=1 k=b k=3", "{durability:?}");
    }
    Ok(())
}

/// A time-out of less than a second held committed readers for up to ten.
#[test]
fn a_short_time_out_is_looked_at_when_it_is_due() -> Outcome {
    let clock = Arc::new(SystemClock::default());
    let broker = Broker::open(BrokerOptions { threads: true, ..BrokerOptions::memory(clock) })?;
    create(&broker, "")?;
    let wakeup = Arc::new(Wakeup::default());
    let options = ConsumerOptions { client_id: "t".into(), group: "".into(), isolation: COMMITTED };
    let mut reader = broker.consumer(&options, wakeup.clone())?;
    reader.assign(&[(t(), 0)])?;
    for _ in 0..2 {
        let (mut a, mut b) = (patient(&broker, "a", Duration::from_millis(700))?, producer(&broker, None)?);
        send(a.as_mut(), 5, "k=1")?;
        send(b.as_mut(), 5, "k=2")?;
        let began = Instant::now();
        while broker.end_offset(&t(), COMMITTED)? < broker.end_offset(&t(), ALL)? {
            wakeup.wait(Duration::from_secs(20));
        }
        // It is 1.7 seconds at most where nothing else runs.
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(has_timed_out(commit(a.as_mut())));
    }
    Ok(())
}

#[test]
fn a_time_out_of_nothing_or_above_the_maximum_is_refused() -> Outcome {
    let broker = World::new(Durability::Memory).open()?;
    for (ms, taken) in [(0, false), (1, true), (900_000, true), (900_001, false)] {
        match patient(&broker, "a", Duration::from_millis(ms)) {
            Ok(_) => assert!(taken, "{ms}"),
            Err(error) => {
                let text = error.to_string();
                assert!(!taken && text.contains("transaction.timeout.ms") && text.contains("help:"), "{ms}: {text}");
            }
        }
    }
    Ok(())
}

/// Its record has room for so many milliseconds: a longer one was negative there, and the next start knew nothing of its owner.
#[test]
fn a_time_out_that_no_record_can_say_is_refused_whatever_the_maximum() -> Outcome {
    let world = World::new(Durability::Os);
    let options = BrokerOptions { transaction_max_timeout: Duration::MAX, ..world.options() };
    let broker = Broker::open(options)?;
    let most = Duration::from_millis(i32::MAX as u64);
    let refused = patient(&broker, "a", most + Duration::from_millis(1)).err().map(|e| e.to_string());
    assert!(refused.is_some_and(|e| e.contains("2147483647") && e.contains("help:")));
    patient(&broker, "a", most).map(drop)
}

/// The epoch was raised twice for one time-out, or over its end.
#[test]
fn time_outs_use_epochs_up_and_the_id_goes_on() -> Outcome {
    let world = World::new(Durability::Memory);
    let broker = world.open()?;
    create(&broker, "")?;
    let mut a = producer(&broker, Some("a"))?;
    for number in 0..i32::from(i16::MAX) + 20 {
        // Every second owner takes too long: two epochs go at once.
        if number % 2 == 0 {
            send(a.as_mut(), 5, "k=gone")?;
            world.advance(60_000);
            broker.tick()?;
            broker.tick()?;
            assert!(has_timed_out(commit(a.as_mut())), "{number}");
        }
        a = producer(&broker, Some("a"))?;
    }
    send(a.as_mut(), 5, "k=last")?;
    commit(a.as_mut())?;
    assert_eq!(texts(&broker, COMMITTED)?, "k=last");
    assert_eq!(broker.end_offset(&t(), COMMITTED)?, broker.end_offset(&t(), ALL)?);
    Ok(())
}

/// Time-outs, owners that come and go, and power cuts: nothing that was committed is lost, nothing else is seen, nothing hangs.
#[test]
fn whatever_times_out_over_power_cuts_nothing_hangs() -> Outcome {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let mut world = World::new(Durability::Disk);
        let mut broker = world.open()?;
        create(&broker, "")?;
        let mut owner = producer(&broker, Some("a"))?;
        let (mut written, mut open, mut began) = (String::new(), String::new(), None);
        for step in 0..120 {
            let timed_out = |began: Option<i64>, world: &World| began.is_some_and(|at| world.now() - at >= 60_000);
            match dice.below(12) {
                0..5 => {
                    let text = format!(" k={step}");
                    match send(owner.as_mut(), 5, text.trim()) {
                        Ok(()) => {
                            began.get_or_insert(world.now());
                            open += &text;
                        }
                        Err(error) => {
                            assert!(has_timed_out(Err(error)), "seed {seed}, {step}");
                            (owner, began) = (producer(&broker, Some("a"))?, None);
                            open.clear();
                        }
                    }
                }
                5 | 6 => match commit(owner.as_mut()) {
                    Ok(()) => {
                        broker.tick()?;
                        written += &std::mem::take(&mut open);
                        began = None;
                    }
                    Err(error) => {
                        assert!(has_timed_out(Err(error)), "seed {seed}, {step}");
                        (owner, began) = (producer(&broker, Some("a"))?, None);
                        open.clear();
                    }
                },
                7 => {
                    let _timed_out = owner.abort();
                    (owner, began) = (producer(&broker, Some("a"))?, None);
                    open.clear();
                }
                8 | 9 => world.advance(1_000 * dice.below(50)),
                10 => {
                    broker.tick()?;
                    if timed_out(began, &world) {
                        let stable = broker.end_offset(&t(), COMMITTED)?;
                        assert_eq!(stable, broker.end_offset(&t(), ALL)?, "seed {seed}, {step}");
                        assert!(has_timed_out(send(owner.as_mut(), 5, "k=late")), "seed {seed}, {step}");
                        (owner, began) = (producer(&broker, Some("a"))?, None);
                        open.clear();
                    }
                }
                _ => {
                    let files: SimFiles = world.files.power_cut(seed * 1_000 + step);
                    drop((owner, broker));
                    world = World { files, ..world };
                    broker = world.open()?;
                    let stable = broker.end_offset(&t(), COMMITTED)?;
                    assert_eq!(stable, broker.end_offset(&t(), ALL)?, "seed {seed}, {step}");
                    (owner, began) = (producer(&broker, Some("a"))?, None);
                    open.clear();
                }
            }
            assert_eq!(texts(&broker, COMMITTED)?, written.trim(), "seed {seed}, {step}");
        }
    }
    Ok(())
}

/// The partition had forgotten the producer: it took the batch, and nobody ended that transaction.
#[test]
fn what_comes_a_day_late_is_refused_too() -> Outcome {
    for durability in EVERY {
        let world = World::new(durability);
        let broker = world.open()?;
        create(&broker, "")?;
        let mut a = patient(&broker, "a", Duration::from_secs(10))?;
        send(a.as_mut(), 5, "k=1")?;
        for _ in 0..72 {
            world.advance(3_600_000);
            broker.tick()?;
        }
        assert!(has_timed_out(send(a.as_mut(), 5, "k=late")), "{durability:?}");
        assert_eq!(broker.end_offset(&t(), COMMITTED)?, broker.end_offset(&t(), ALL)?, "{durability:?}");
    }
    Ok(())
}
