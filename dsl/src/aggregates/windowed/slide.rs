//! Which sliding windows a record opens and changes (semantics.md 38).

use std::collections::BTreeSet;

use millstream_core::{Change, Data, Record, Result, TaskContext, Timestamp};
use millstream_state::{Entry, WindowStart};

use super::aggregate::{Step, WindowAggregate};
use super::lent::Lent;
use crate::failure::Failure;

impl<K, V, A, E, F> WindowAggregate<K, V, A, F>
where
    K: Data,
    V: Data,
    A: Data,
    E: Failure,
    F: Fn(&K, Lent<'_, V>, Option<A>) -> Result<Option<A>, E>,
{
    /// A fold step on a sliding window that is still open; `from` as in `update`.
    fn slide_into(
        &mut self,
        cx: &mut TaskContext,
        record: &Record<K, V>,
        start: Timestamp,
        from: Option<Option<(A, Timestamp)>>,
        close_time: Timestamp,
    ) -> Result<()> {
        self.fold_into(cx, record, start, from, self.spec.windows.window(start).end >= close_time)
    }

    /// A record at `t` is in every window that starts in [t - difference, t]. It may open three: its own left window
    /// [t - difference, t], its own right window from t + 1, and the right window of the record before it.
    pub(super) fn slide(
        &mut self,
        cx: &mut TaskContext,
        record: &Record<K, V>,
        difference: Timestamp,
        close_time: Timestamp,
    ) -> Result<()> {
        let time = record.timestamp;
        let (mut left, mut right) = (None::<(A, Timestamp)>, None::<(A, Timestamp)>);
        let (mut has_left, mut has_right) = (false, false);
        let mut previous = None;
        let mut starts = BTreeSet::new();
        let range = WindowStart((time - 2 * difference).max(0))..=WindowStart(time + 1);
        for (WindowStart(start), value, newest) in self.rows.fetch(&record.key, range)?.into_iter().rev() {
            starts.insert(start);
            let end = start + difference;
            if start == time + 1 {
                has_right = true;
            } else if end > time {
                right.get_or_insert((value, newest));
                self.slide_into(cx, record, start, None, close_time)?;
            } else if end == time {
                has_left = true;
                self.slide_into(cx, record, start, None, close_time)?;
                if newest >= time {
                    return Ok(());
                }
                previous = Some(newest);
            } else {
                left = Some((value, newest));
                previous = Some(newest);
                break;
            }
        }
        if let Some(previous) = previous {
            self.open_right_of_previous(cx, record, previous + 1, difference, &starts, close_time)?;
        }
        if !has_left {
            let shares = previous.is_some_and(|previous| time - difference <= previous);
            let from = left.filter(|_| shares).map(|(value, _)| (value, time));
            self.slide_into(cx, record, time - difference, Some(from), close_time)?;
        }
        if !has_right {
            self.open_right(cx, record, right)?;
        }
        Ok(())
    }

    /// Records before `difference` share one window [0, difference] instead of left windows of their own.
    pub(super) fn slide_early(
        &mut self,
        cx: &mut TaskContext,
        record: &Record<K, V>,
        difference: Timestamp,
        close_time: Timestamp,
    ) -> Result<()> {
        let time = record.timestamp;
        let (mut combined, mut right) = (None::<(A, Timestamp)>, None::<(A, Timestamp)>);
        let mut has_right = false;
        let mut previous = None;
        let mut starts = BTreeSet::new();
        for (WindowStart(start), value, newest) in
            self.rows.fetch(&record.key, WindowStart(0)..=WindowStart(time + 1))?
        {
            starts.insert(start);
            if start == 0 {
                combined = Some((value, newest));
                previous = (newest < time).then_some(newest);
            } else if start <= time {
                right = Some((value, newest));
                self.slide_into(cx, record, start, None, close_time)?;
            } else {
                has_right = true;
            }
        }
        if !has_right {
            let right = right.or_else(|| combined.clone());
            self.open_right(cx, record, right)?;
        }
        if let Some(previous) = previous {
            self.open_right_of_previous(cx, record, previous + 1, difference, &starts, close_time)?;
        }
        let from = combined.is_none().then_some(None);
        self.slide_into(cx, record, 0, from, close_time)
    }

    /// The right window of the present record holds what comes after it: the content of the window it was found in.
    fn open_right(&mut self, cx: &mut TaskContext, record: &Record<K, V>, from: Option<(A, Timestamp)>) -> Result<()> {
        let Some((value, newest)) = from.filter(|(_, newest)| *newest > record.timestamp) else { return Ok(()) };
        let start = record.timestamp + 1;
        let entry = Entry { value: Some(value.clone()), timestamp: newest };
        let rows = self.rows_of(&record.key, start)?;
        let was = self.rows.change_at(rows, WindowStart(start), |row| std::mem::replace(row, entry))?;
        let change = Change { old: None, new: Some(value) };
        if E::POSSIBLE {
            self.undo.push((start, was));
        }
        self.done(cx, record, Step { start, change, time: newest })
    }

    fn open_right_of_previous(
        &mut self,
        cx: &mut TaskContext,
        record: &Record<K, V>,
        start: Timestamp,
        difference: Timestamp,
        starts: &BTreeSet<Timestamp>,
        close_time: Timestamp,
    ) -> Result<()> {
        if starts.contains(&start) || start + difference < record.timestamp {
            return Ok(());
        }
        self.slide_into(cx, record, start, Some(None), close_time)
    }
}
