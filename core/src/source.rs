//! Source nodes: from the bytes of a run of records to typed records.
//!
//! The loop is here and generic, so that a run of records costs one dynamic call.

use millstream_wire::{RecordView, Records};

use crate::context::TaskContext;
use crate::error::{Error, Result, Undecodable};
use crate::error_handler_context::RawRecord;
use crate::forward::{Downstream, Forward};
use crate::headers::Headers;
use crate::input::{Input, touch};
use crate::log::{LogError, Offset};
use crate::record::Record;
use crate::serde::{Half, Payload, Serde, SerdeContext, SerdeError};
use crate::time::{LATEST_TIME, Timestamp};
use crate::timestamp_extractor::TimestampExtractor;

/// How far a run may go.
#[derive(Debug, Clone, Copy)]
pub struct RunLimit {
    /// The first record later than this ends the run.
    pub until: Timestamp,
    /// As many records as this end it too.
    pub records: usize,
}

/// Reads the queues of its inputs.
pub trait SourceNode {
    /// The time of the queue's head, by the source's extractor, at `wall` on the wall clock; `None` if the queue is empty.
    fn head_time(&mut self, input: &mut Input, wall: Timestamp) -> Option<Timestamp>;

    /// Processes records of one input, in offset order, up to the limit or the next punctuation. Returns how many.
    ///
    /// # Errors
    /// Whatever the handler, or a node below, returns.
    fn run(&mut self, cx: &mut TaskContext, input: &mut Input, limit: RunLimit) -> Result<usize>;
}

/// The source node of streams and tables.
pub struct Source<KS: Serde, VS: Serde, X> {
    /// Topic name for the serdes.
    pub topic: String,
    /// Key serde.
    pub key: KS,
    /// Value serde.
    pub value: VS,
    /// Event time.
    pub extractor: X,
    /// What follows.
    pub down: Downstream<Record<KS::Value, VS::Value>>,
}

impl<KS: Serde, VS: Serde, X> Source<KS, VS, X> {
    /// The record of a view, with its time in the log.
    #[inline(always)]
    fn decode(
        &self,
        view: &RecordView<'_>,
        headers: &Headers,
    ) -> Result<Record<KS::Value, VS::Value>, (Half, SerdeError)> {
        let cx = |half| SerdeContext { topic: &self.topic, half };
        let key = self.key.deserialize(view.key, cx(Half::Key), headers).map_err(|e| (Half::Key, e))?;
        let value = self.value.deserialize(view.value, cx(Half::Value), headers).map_err(|e| (Half::Value, e))?;
        Ok(Record { key, value, timestamp: view.timestamp, headers: headers.clone() })
    }
}

impl<KS, VS, X> SourceNode for Source<KS, VS, X>
where
    KS: Serde,
    VS: Serde,
    KS::Value: Clone,
    VS::Value: Clone,
    X: TimestampExtractor<KS::Value, VS::Value>,
{
    fn head_time(&mut self, input: &mut Input, wall: Timestamp) -> Option<Timestamp> {
        input.front()?;
        let Input { queue, time, looked_at, .. } = input;
        self.time_of(queue.front()?, *time, wall, looked_at)
    }

    fn run(&mut self, cx: &mut TaskContext, input: &mut Input, limit: RunLimit) -> Result<usize> {
        let mut taken = 0;
        while taken < limit.records && input.front().is_some() && self.run_batch(cx, input, limit, &mut taken)? {}
        Ok(taken)
    }
}

impl<KS, VS, X> Source<KS, VS, X>
where
    KS: Serde,
    VS: Serde,
    KS::Value: Clone,
    VS::Value: Clone,
    X: TimestampExtractor<KS::Value, VS::Value>,
{
    /// The time of a batch's next record; `looked_at` is it meanwhile.
    #[inline]
    fn time_of(
        &self,
        batch: &Records,
        partition_time: Timestamp,
        wall: Timestamp,
        looked_at: &mut Option<Offset>,
    ) -> Option<Timestamp> {
        let raw = batch.peek_timestamp()?;
        if !X::READS_RECORD {
            return Some(if (0..=LATEST_TIME).contains(&raw) { raw } else { partition_time });
        }
        let mut look = batch.clone();
        let Some(Ok(view)) = look.next() else { return Some(raw) };
        *looked_at = Some(view.offset);
        let headers = Headers::from_section(view.headers);
        let decoded = self.decode(&view, &headers).ok();
        let time = decoded.map(|record| self.extractor.extract(&record, partition_time).time(wall));
        *looked_at = None;
        // What has no time is dealt with when its turn comes: as soon as possible.
        Some(time.and_then(Result::ok).flatten().unwrap_or(partition_time))
    }

    /// Processes records of the batch in front. `false`: the run has come to its end.
    #[inline]
    fn run_batch(
        &mut self,
        cx: &mut TaskContext,
        input: &mut Input,
        limit: RunLimit,
        taken: &mut usize,
    ) -> Result<bool> {
        let Input { partition, queue, consumed, time: partition_time, touched, looked_at, .. } = input;
        let Some(batch) = queue.front_mut() else { return Ok(false) };
        while *taken < limit.records && batch.remaining() > 0 {
            if *taken > 0 && limit.until < Timestamp::MAX {
                let head = self.time_of(batch, *partition_time, cx.wall, looked_at);
                if head.is_some_and(|time| time > limit.until) {
                    return Ok(false);
                }
            }
            touch(batch, *consumed, touched, &cx.stores);
            let view = match batch.next() {
                Some(Ok(view)) => view,
                None => break,
                Some(Err(error)) => {
                    let place = format!("{partition}@{consumed}");
                    return Err(LogError::Corrupt { place, problem: error.to_string() }.into());
                }
            };
            *taken += 1;
            let (offset, raw_time) = (view.offset, view.timestamp);
            let headers = Headers::from_section(view.headers);
            cx.offset = offset;
            cx.has_record = true;
            let failed = match self.decode(&view, &headers) {
                Ok(mut record) => match self.extractor.extract(&record, *partition_time).time(cx.wall) {
                    Ok(Some(time)) => {
                        record.timestamp = time;
                        *partition_time = (*partition_time).max(time);
                        cx.stream_time = cx.stream_time.max(time);
                        self.down.forward(cx, record)?;
                        if !cx.failures.is_empty() {
                            cx.ask_handlers(raw_record(&view, &headers, time))?;
                        }
                        None
                    }
                    Ok(None) => {
                        cx.drop_record();
                        None
                    }
                    Err(error) => Some((Half::Value, error)),
                },
                Err(failed) => Some(failed),
            };
            if let Some((half, source)) = failed {
                let record = raw_record(&view, &headers, raw_time);
                let bytes = if half == Half::Key { record.key } else { record.value };
                let first_bytes = bytes.map(|b| b[..b.len().min(16)].to_vec());
                let error = Undecodable { partition: partition.clone(), offset, half, first_bytes, source };
                cx.ask_handler(Error::Undecodable(Box::new(error)), record)?;
            }
            *consumed = offset + 1;
            if cx.stream_time >= cx.punctuate_at {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A source record as it came, at the time that it has now.
#[cold]
fn raw_record<'a>(view: &'a RecordView<'a>, headers: &'a Headers, timestamp: Timestamp) -> RawRecord<'a> {
    let bytes = |payload: &'a Option<Payload<'a>>| payload.as_ref().map(Payload::as_slice);
    RawRecord { key: bytes(&view.key), value: bytes(&view.value), headers, timestamp }
}

/// An error of a serde while writing to `topic`.
#[cold]
pub fn unencodable(topic: &str, half: Half, source: SerdeError) -> Error {
    Error::Unencodable(Box::new(crate::error::Unencodable { topic: topic.to_owned(), half, source }))
}
