//! A timer of a processor.

use std::cell::Cell;
use std::rc::Rc;

/// Which clock a timer follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The task's stream time.
    Stream,
    /// The wall clock.
    Wall,
}

/// A timer, to be cancelled. It lasts as long as the processor; a new one has its timers again.
///
/// ```
/// # use millstream_dsl::{Clock, MIN, Out, Processor, StreamsBuilder, Timer, TopologyTestDriver};
/// # use millstream_dsl::core::{Record, Result};
/// struct Once {
///     timer: Timer,
/// }
/// # impl Processor for Once {
/// #     type KIn = String; type VIn = i64; type KOut = String; type VOut = i64;
/// #     fn process(&mut self, _: Record<String, i64>, _: &mut Out<'_, String, i64>) -> Result<()> { Ok(()) }
/// # }
/// impl Once {
///     fn tick(&mut self, now: i64, out: &mut Out<'_, String, i64>) -> Result<()> {
///         self.timer.cancel();
///         assert!(self.timer.is_cancelled());
///         out.forward(Record::new("tick".to_owned(), now, now))
///     }
/// }
/// # let b = StreamsBuilder::new();
/// b.stream("in").process("once", |s| Once { timer: s.every(MIN, Clock::Wall, Once::tick) }).to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let out = t.output::<String, i64>("out")?;
/// t.advance(MIN)?;
/// t.advance(MIN)?;
/// assert_eq!(out.read().len(), 1);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Timer(Rc<Cell<bool>>);

impl Timer {
    /// It fires no more.
    pub fn cancel(&self) {
        self.0.set(true);
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.get()
    }
}
