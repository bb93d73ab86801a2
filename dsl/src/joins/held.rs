//! Records of a left or outer join that wait for a partner until their window closes (semantics.md 21 to 24).

use std::cell::{RefCell, RefMut};
use std::ops::{Bound, ControlFlow};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::{
    Data, Encoded, Headers, KeyRange, NO_TIME, Payload, Result, Serde, SerdeContext, SerdeError, StoreFormat, StoreId,
    TaskBuilder, TaskContext, TimeSlot, Timestamp,
};
use millstream_state::{Entry, KeyValueTable};

use crate::builder::{NewStore, StreamsBuilder};
use crate::framed;
use crate::keys::Keys;
use crate::windows::JoinWindows;

/// A record's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// Of one time, right records come first.
    Right = 0,
    Left = 1,
}

/// The values of one key, side and time.
#[derive(Debug, Clone)]
pub(crate) enum Values<L, R> {
    Left(Vec<L>),
    Right(Vec<R>),
}

impl<L, R> Values<L, R> {
    fn are_several(&self) -> bool {
        match self {
            Values::Left(values) => values.len() > 1,
            Values::Right(values) => values.len() > 1,
        }
    }

    fn add(&mut self, more: Values<L, R>) {
        match (self, more) {
            (Values::Left(values), Values::Left(more)) => values.extend(more),
            (Values::Right(values), Values::Right(more)) => values.extend(more),
            // A row has one side: it is in its key.
            (this, more) => *this = more,
        }
    }
}

type HeldTable<L, R> = KeyValueTable<ValuesSerde<<L as Data>::Serde, <R as Data>::Serde>>;

/// Waiting records in a task, by side, time and key.
pub(crate) struct HeldRows<K: Data, L: Data, R: Data> {
    table: Rc<RefCell<HeldTable<L, R>>>,
    keys: Keys<K>,
    scratch: RefCell<Vec<u8>>,
    windows: JoinWindows,
    /// Nothing is looked for before join time has passed this by the window. The least time that waits, if the windows are
    /// exact; else Kafka Streams' own bookkeeping, which decides what leaves together. No time if nothing waits.
    least: TimeSlot,
}

/// What leaves: its time, key and values.
pub(crate) type Leaving<K, L, R> = (Timestamp, K, Values<L, R>);

impl<K: Data, L: Data, R: Data> HeldRows<K, L, R> {
    pub(crate) fn add(builder: &StreamsBuilder, name: &str) -> StoreId {
        let format = StoreFormat::of::<K::Serde, ValuesSerde<L::Serde, R::Serde>>("join-held");
        let serde = || ValuesSerde(L::Serde::default(), R::Serde::default());
        let make = move |name: &str| KeyValueTable::new(name, serde(), true);
        builder.store_named(NewStore::new(name, format, [("cleanup.policy", "compact")], make))
    }

    pub(crate) fn open(task: &mut TaskBuilder<'_>, id: StoreId, name: &Arc<str>, windows: JoinWindows) -> Self {
        let least = task.least_time(name);
        HeldRows { table: task.store(id), keys: Keys::new(name), scratch: RefCell::default(), windows, least }
    }

    /// How long a record of a side waits behind its time.
    fn wait(&self, side: Side) -> Timestamp {
        self.windows.grace + if side == Side::Left { self.windows.after } else { self.windows.before }
    }

    /// The key of a row: side, time, key.
    fn row(&self, side: Side, time: Timestamp, key: &[u8]) -> RefMut<'_, Vec<u8>> {
        let mut row = self.scratch.borrow_mut();
        row.clear();
        row.extend_from_slice(&place(side, time));
        row.extend_from_slice(key);
        row
    }

    /// Lets a record wait.
    pub(crate) fn hold(
        &self,
        cx: &mut TaskContext,
        side: Side,
        key: &[u8],
        time: Timestamp,
        values: Values<L, R>,
    ) -> Result<()> {
        let least = cx.time(self.least);
        cx.set_time(self.least, if least == NO_TIME { time } else { least.min(time) });
        let mut table = self.table.borrow_mut();
        let entry = table.change(&self.row(side, time, key))?;
        entry.timestamp = time;
        match &mut entry.value {
            Some(waiting) => waiting.add(values),
            none => *none = Some(values),
        }
        Ok(())
    }

    /// The records of a side, time and key have found a partner.
    #[inline]
    pub(crate) fn matched(&self, side: Side, key: &[u8], time: Timestamp) -> Result<()> {
        let row = self.row(side, time, key);
        let mut table = self.table.borrow_mut();
        if table.get(&row)?.is_some() {
            *table.change(&row)? = Entry { value: None, timestamp: time };
        }
        Ok(())
    }

    /// The join time at which the window of a waiting record has closed; the end of time if none waits.
    pub(crate) fn due(&self) -> Timestamp {
        let mut table = self.table.borrow_mut();
        let closes = [Side::Right, Side::Left].map(|side| {
            let (from, to) = ([side as u8], end_of(side));
            // Rows that cannot be read are looked for at once: whoever does it returns the error.
            match first_time(&mut table, (Bound::Included(&from), to.as_ref().map(|b| &b[..])), false) {
                Ok(first) => {
                    first.map_or(Timestamp::MAX, |time| time.saturating_add(self.wait(side)).saturating_add(1))
                }
                Err(_) => NO_TIME,
            }
        });
        closes[0].min(closes[1])
    }

    /// Takes out the records whose windows have closed at `now`, by time, right before left, then by key. `side` is that of
    /// the record that made join time move.
    pub(crate) fn close(&self, cx: &mut TaskContext, side: Side, now: Timestamp) -> Result<Vec<Leaving<K, L, R>>> {
        let least = cx.time(self.least);
        let wait = if self.windows.exact { self.wait(Side::Left).min(self.wait(Side::Right)) } else { self.wait(side) };
        if least == NO_TIME || least + wait >= now {
            return Ok(Vec::new());
        }
        self.close_all(cx, now)
    }

    /// As `close`, without a record.
    pub(crate) fn close_all(&self, cx: &mut TaskContext, now: Timestamp) -> Result<Vec<Leaving<K, L, R>>> {
        let mut table = self.table.borrow_mut();
        let mut leaving = Vec::new();
        let mut open = Vec::new();
        for side in [Side::Right, Side::Left] {
            let wait = self.wait(side);
            let (from, to) = ([side as u8], end_of(side));
            table.scan((Bound::Included(&from), to.as_ref().map(|b| &b[..])), false, &mut |key, values, time| {
                if time + wait >= now {
                    open.push((time, side, key.to_vec(), values.are_several()));
                    return Ok(ControlFlow::Break(()));
                }
                leaving.push((time, side, key.to_vec(), values.clone()));
                Ok(ControlFlow::Continue(()))
            })?;
        }
        let least = match open.iter().map(|(time, ..)| *time).min() {
            least if self.windows.exact => least.unwrap_or(NO_TIME),
            _ => least_after(&mut table, &open)?,
        };
        cx.set_time(self.least, least);
        leaving.sort_by(|a, b| (a.0, a.1, &a.2).cmp(&(b.0, b.1, &b.2)));
        leaving
            .into_iter()
            .map(|(time, _, key, values)| {
                *table.change(&key)? = Entry { value: None, timestamp: time };
                Ok((time, self.keys.decode(&key[PLACE..])?, values))
            })
            .collect()
    }
}

/// Bytes in front of a key: side and time.
const PLACE: usize = 9;

fn place(side: Side, time: Timestamp) -> [u8; PLACE] {
    let mut bytes = [side as u8; PLACE];
    bytes[1..].copy_from_slice(&time.to_be_bytes());
    bytes
}

/// Behind the last row of a side.
fn end_of(side: Side) -> Bound<[u8; 1]> {
    if side == Side::Right { Bound::Excluded([Side::Left as u8]) } else { Bound::Unbounded }
}

/// The time of the first row of a range, or of the last.
fn first_time<VS: Serde>(
    table: &mut KeyValueTable<VS>,
    range: KeyRange<'_>,
    descending: bool,
) -> Result<Option<Timestamp>>
where
    VS::Value: Clone,
{
    let mut first = None;
    table.scan(range, descending, &mut |_, _, time| {
        first = Some(time);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(first)
}

/// What Kafka Streams takes for the least waiting time after a look: it goes through all values by time and side, and
/// stops at the value behind the first open ones of both sides, or at the last one. `open` are the rows of those: time,
/// side, key, and whether they have several values.
fn least_after<VS: Serde>(table: &mut KeyValueTable<VS>, open: &[(Timestamp, Side, Vec<u8>, bool)]) -> Result<Timestamp>
where
    VS::Value: Clone,
{
    let second = (open.len() == 2).then(|| open.iter().max()).flatten();
    if let Some((time, .., true)) = second {
        return Ok(*time);
    }
    let mut of_sides = [None, None];
    for (found, side) in of_sides.iter_mut().zip([Side::Right, Side::Left]) {
        let (from, to) = ([side as u8], end_of(side));
        let from = match second {
            // In the other side's order, what follows has the same or a later time.
            Some((time, last, key, _)) if *last == side => (Bound::Excluded(key.clone()), *time),
            Some((time, last, ..)) => {
                let from = if *last == Side::Right { *time } else { *time + 1 };
                (Bound::Included(place(side, from).to_vec()), *time)
            }
            None => (Bound::Included(from.to_vec()), NO_TIME),
        };
        let range = (from.0.as_ref().map(|k| &k[..]), to.as_ref().map(|b| &b[..]));
        *found = first_time(table, range, second.is_none())?;
    }
    if open.len() == 2 {
        let next = of_sides.iter().flatten().min().copied();
        return Ok(next.or(open.iter().map(|(time, ..)| *time).max()).unwrap_or(NO_TIME));
    }
    // The last row may be one that leaves just now.
    Ok(of_sides.into_iter().flatten().max().unwrap_or(NO_TIME))
}

/// Values of one side: the side, then every value behind its length.
#[derive(Debug, Clone, Default)]
struct ValuesSerde<LS, RS>(LS, RS);

impl<LS: Serde, RS: Serde> Serde for ValuesSerde<LS, RS>
where
    LS::Value: Clone,
    RS::Value: Clone,
{
    type Value = Values<LS::Value, RS::Value>;

    fn serialize(
        &self,
        values: &Self::Value,
        cx: SerdeContext<'_>,
        headers: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        match values {
            Values::Left(values) => put_all(&self.0, Side::Left, values, cx, headers, out),
            Values::Right(values) => put_all(&self.1, Side::Right, values, cx, headers, out),
        }
    }

    fn deserialize(
        &self,
        bytes: Option<Payload<'_>>,
        cx: SerdeContext<'_>,
        headers: &Headers,
    ) -> Result<Self::Value, SerdeError> {
        let mut rest = bytes.ok_or_else(SerdeError::null::<Self::Value>)?.to_bytes();
        match rest.split_off(1.min(rest.len())) {
            body if *rest == [Side::Left as u8] => Ok(Values::Left(take_all(&self.0, body, cx, headers)?)),
            body if *rest == [Side::Right as u8] => Ok(Values::Right(take_all(&self.1, body, cx, headers)?)),
            _ => Err(SerdeError::invalid("waiting values without a side")),
        }
    }

    fn detach(&self, values: &mut Self::Value, copy: &mut impl FnMut(&[u8]) -> Bytes) {
        match values {
            Values::Left(values) => values.iter_mut().for_each(|v| self.0.detach(v, copy)),
            Values::Right(values) => values.iter_mut().for_each(|v| self.1.detach(v, copy)),
        }
    }
}

fn put_all<S: Serde>(
    serde: &S,
    side: Side,
    values: &[S::Value],
    cx: SerdeContext<'_>,
    headers: &mut Headers,
    out: &mut Vec<u8>,
) -> Result<Encoded, SerdeError> {
    out.push(side as u8);
    values.iter().try_for_each(|value| framed::put(serde, Some(value), cx, headers, out))?;
    Ok(Encoded::Bytes)
}

fn take_all<S: Serde>(
    serde: &S,
    mut rest: Bytes,
    cx: SerdeContext<'_>,
    headers: &Headers,
) -> Result<Vec<S::Value>, SerdeError> {
    let mut values = Vec::new();
    while !rest.is_empty() {
        values.extend(framed::take(serde, &mut rest, cx, headers)?);
    }
    Ok(values)
}
