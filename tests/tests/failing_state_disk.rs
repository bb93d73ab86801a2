//! A disk for state that is full for a while, breaks or is damaged at any call: what comes out is what has to come out.

use std::cell::Cell;
use std::sync::Arc;

use millstream_core::{Result, RuntimeConfig, StateDisk};
use millstream_state::{RocksDisk, RocksOptions};
use millstream_tests::by_hand::ByHand;
use millstream_tests::embedded::{Embedded, folder};
use millstream_tests::failing_disk::{FailingCalls, FailingDisk, Trouble};
use millstream_tests::simulation::{Dice, Mishaps, SimDisk};
use millstream_tests::stored::{PROGRAMS, Stored};

/// Runs a program twice on a disk that fails, with an end in order between. Returns the calls of the disk and how often the thread was
/// held up.
fn run(
    program: (&'static str, &'static [&'static str]),
    disk: Arc<dyn StateDisk>,
    failing: Option<FailingCalls>,
) -> Result<(u64, usize)> {
    let disk = FailingDisk::new(disk);
    disk.fail(failing);
    let embedded = Embedded::in_memory()?;
    let mut stored = Stored::new(program, 7, &embedded)?;
    let config = RuntimeConfig {
        disk: Some(Arc::new(disk.clone())),
        poll_records: 5,
        uncommitted_bytes: 1,
        ..RuntimeConfig::embedded("app")
    };
    let mut by_hand = ByHand::new(embedded, stored.topology()?, config)?;
    let mut held_up = 0;
    for _ in 0..2 {
        stored.write(&by_hand.embedded, 30)?;
        held_up += by_hand.run()?;
        match by_hand.close() {
            Err(error) if error.to_string().contains("told to fail") => {}
            closed => closed?,
        }
    }
    stored.write(&by_hand.embedded, 10)?;
    held_up += by_hand.run()?;
    assert!(stored.expected() > 10);
    let at = || format!("{failing:?}");
    assert_eq!(stored.difference(&by_hand.embedded)?, None, "{}", at());
    Ok((disk.calls(), held_up))
}

/// Lets every `step`-th call fail in turn, in each way.
fn every_call_fails(step: usize, disk: &dyn Fn() -> Result<Arc<dyn StateDisk>>) -> Result<()> {
    for program in PROGRAMS {
        let (calls, held_up) = run(program, disk()?, None)?;
        assert!(calls > 10 && held_up == 0, "{}: {calls} calls", program.0);
        let mut waited = 0;
        for (trouble, times) in [(Trouble::Full, 1), (Trouble::Full, 4), (Trouble::Broken, 2), (Trouble::Damaged, 1)] {
            for from in (0..calls).step_by(step) {
                let held_up = run(program, disk()?, Some(FailingCalls { from, times, trouble }))?.1;
                assert!(trouble == Trouble::Full || held_up == 0);
                waited += held_up;
            }
        }
        assert!(waited > 0, "{}: the disk was never full", program.0);
    }
    Ok(())
}

#[test]
fn every_call_of_a_simulated_disk_fails_in_turn() -> Result<()> {
    every_call_fails(1, &|| Ok(Arc::new(SimDisk::new(Dice::new(1), Mishaps::default(), 0))))
}

#[test]
fn calls_of_a_disk_with_rocksdb_fail_in_turn() -> Result<()> {
    let folder = folder()?;
    let number = Cell::new(0);
    every_call_fails(37, &|| {
        number.set(number.get() + 1);
        let options = RocksOptions { rows: 0, blocks: 1 << 20, unflushed: 1 << 20, background: false };
        Ok(Arc::new(RocksDisk::new(&folder.path().join(number.get().to_string()), options)?))
    })
}
