//! Reading a partition for an in-process consumer: batches in order, markers and aborted records left out.

use millstream_core::{Fetch, Isolation, LogError, Offset};
use millstream_wire::RecordBatch;

use crate::partition::{Partition, Source};
use crate::producers::{AbortedList, is_aborted};

/// Reads from `offset` on, about `max_bytes` and at least one batch that may be seen; none only at the visible end.
/// Markers and aborted records before it are passed over.
pub(crate) fn fetch(
    partition: &Partition,
    offset: Offset,
    max_bytes: usize,
    isolation: Isolation,
) -> Result<Fetch, LogError> {
    let mut fetch = fetch_some(partition, offset, max_bytes, isolation)?;
    while fetch.batches.is_empty() && fetch.position < fetch.end {
        fetch = fetch_some(partition, fetch.position, max_bytes, isolation)?;
    }
    Ok(fetch)
}

fn fetch_some(
    partition: &Partition,
    offset: Offset,
    max_bytes: usize,
    isolation: Isolation,
) -> Result<Fetch, LogError> {
    let look = partition.look(offset, max_bytes, isolation)?;
    let mut fetch = Fetch { batches: Vec::new(), position: offset, end: look.visible_end };
    match look.source {
        Source::Nothing => {}
        Source::Memory(batches) => {
            for batch in batches {
                take(partition, &batch, look.aborted.as_ref(), &mut fetch)?;
            }
            if fetch.position == offset {
                // Compaction has left nothing up to there.
                fetch.position = look.visible_end;
            }
        }
        Source::File(mut reader) => loop {
            let batches = reader.read(max_bytes)?;
            if batches.is_empty() {
                // The end of this segment. Compaction may have left a gap there: the position moves over it.
                fetch.position = fetch.position.max(reader.until.min(look.visible_end));
                match partition.next_reader(fetch.position) {
                    Some(next) if fetch.position < look.visible_end => reader = next,
                    _ => break,
                }
                continue;
            }
            for batch in batches.iter().filter(|b| b.header().next_offset() > offset) {
                if batch.header().base_offset >= look.visible_end {
                    fetch.position = look.visible_end;
                    break;
                }
                take(partition, batch, look.aborted.as_ref(), &mut fetch)?;
            }
            if fetch.position > offset {
                break;
            }
        },
    }
    Ok(fetch)
}

fn take(
    partition: &Partition,
    batch: &RecordBatch,
    aborted: Option<&AbortedList>,
    fetch: &mut Fetch,
) -> Result<(), LogError> {
    let header = batch.header();
    if !header.is_control() && !aborted.is_some_and(|list| is_aborted(list, header)) {
        let mut records = batch.records().map_err(|e| partition.damaged(header.base_offset, &e))?;
        if header.base_offset < fetch.position {
            records.skip_to(fetch.position);
        }
        // Compaction leaves batches without records, and with none behind an offset.
        if records.remaining() > 0 {
            fetch.batches.push(records);
        }
    }
    fetch.position = header.next_offset();
    Ok(())
}
