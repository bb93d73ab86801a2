//! `StreamJoined`: the windows of a join of streams, and who is given the records that come too late for them.

use std::any::Any;
use std::sync::Arc;

use millstream_core::Data;

use crate::kstream::KStream;
use crate::late::LateStream;
use crate::windows::JoinWindows;

/// How two streams are joined. [`JoinWindows`] alone will do where nobody asks for late records.
///
/// Late is what the join counts as late: with [`JoinWindows::drop_late`] every record whose window and grace are over; without
/// it only what is too old to be kept, which still meets what is kept of the other stream (semantics.md 25).
///
/// ```
/// # use millstream_dsl::{JoinWindows, KStream, MIN, StreamJoined, StreamsBuilder, TopologyTestDriver, kv};
/// # let b = StreamsBuilder::new();
/// let (orders, payments) = (b.stream::<String, String>("orders"), b.stream::<String, i64>("payments"));
/// let joined = StreamJoined::with(JoinWindows::of(MIN).drop_late())
///     .on_late_left(|late: KStream<String, String>| late.to("late-orders"))
///     .on_late_right(|late: KStream<String, i64>| late.to("late-payments"));
/// orders.join("paid", &payments, joined, |order, sum| format!("{order} {sum}")).to("out");
/// # let t = TopologyTestDriver::new(b.build()?)?;
/// # let orders = t.input::<String, String>("orders")?;
/// # let payments = t.input::<String, i64>("payments")?;
/// # let late = t.output::<String, i64>("late-payments")?;
/// orders.pipe_at(120_000, "o2", "bag");
/// [(59_999, "o1", 20), (60_000, "o2", 30)].into_iter().for_each(|(time, order, sum)| payments.pipe_at(time, order, sum));
/// assert_eq!(late.read(), [kv("o1", 20)]);
/// # Ok::<(), millstream_dsl::core::Error>(())
/// ```
pub struct StreamJoined<K, V, W> {
    pub(super) windows: JoinWindows,
    left: Vec<UseLate<K, V>>,
    right: Vec<UseLate<K, W>>,
}

/// What is done with late records.
type UseLate<K, V> = Box<dyn FnOnce(KStream<K, V>)>;

/// A side's late records.
pub(super) type LateSide<K, V> = Option<Arc<LateStream<K, V>>>;

impl<K, V, W> From<JoinWindows> for StreamJoined<K, V, W> {
    fn from(windows: JoinWindows) -> Self {
        StreamJoined { windows, left: Vec::new(), right: Vec::new() }
    }
}

impl<K, V, W> StreamJoined<K, V, W> {
    /// Joins within windows.
    pub fn with(windows: JoinWindows) -> Self {
        windows.into()
    }

    /// Gives the left records that come too late to `use_it`, as a stream. They are counted as late all the same. Its
    /// argument's type is to be written down: it is found out before the join's streams are known. Given twice, both have them.
    pub fn on_late_left(mut self, use_it: impl FnOnce(KStream<K, V>) + 'static) -> Self {
        self.left.push(Box::new(use_it));
        self
    }

    /// As [`StreamJoined::on_late_left`], the right records. A stream that is joined with itself gives both the same.
    pub fn on_late_right(mut self, use_it: impl FnOnce(KStream<K, W>) + 'static) -> Self {
        self.right.push(Box::new(use_it));
        self
    }
}

impl<K: Data, V: Data, W: Data> StreamJoined<K, V, W> {
    /// The streams of late records of both sides.
    pub(super) fn late(self, left: &KStream<K, V>, right: &KStream<K, W>) -> (LateSide<K, V>, LateSide<K, W>) {
        (late_of(left, self.left), late_of(right, self.right))
    }

    /// That of a stream that is joined with itself: `W` is `V` by another name.
    pub(super) fn late_of_self(self, stream: &KStream<K, V>) -> LateSide<K, V> {
        let StreamJoined { left, right, .. } = self;
        let wanted = !left.is_empty() || !right.is_empty();
        wanted.then(|| {
            let late = LateStream::of(stream);
            let same: Box<dyn Any> = Box::new(late.stream());
            if let Ok(same) = same.downcast::<KStream<K, W>>() {
                right.into_iter().for_each(|use_it| use_it((*same).clone()));
            }
            left.into_iter().for_each(|use_it| use_it(late.stream()));
            late
        })
    }
}

/// The late records of a stream, given to all who want them.
fn late_of<K: Data, V: Data>(stream: &KStream<K, V>, uses: Vec<UseLate<K, V>>) -> LateSide<K, V> {
    let late = (!uses.is_empty()).then(|| LateStream::of(stream))?;
    uses.into_iter().for_each(|use_it| use_it(late.stream()));
    Some(late)
}
