//! Rows and positions as bytes: `1, key on disk` is a row, `0` is the position of its family, so that a position is written and lost
//! with the rows that it stands for.

use millstream_core::{ChangelogRecord, DiskPosition, RowOrder, Timestamp};

/// The key of a family's position.
pub(super) const POSITION: &[u8] = &[0];

/// What the keys of rows begin with.
pub(super) const ROW: u8 = 1;

/// Behind the keys of all rows.
pub(super) const END: &[u8] = &[2];

/// Version of the layout of a position, and of the keys of rows.
const VERSION: u8 = 2;

/// A position, the largest time of rows so far, and the order of the family's rows.
pub(super) fn encode_position(position: DiskPosition, latest: Timestamp, order: RowOrder) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend(position.changelog.to_be_bytes());
    bytes.extend(position.offset.to_be_bytes());
    bytes.extend(position.written.to_be_bytes());
    bytes.extend(latest.to_be_bytes());
    bytes.extend(order_name(order).as_bytes());
    bytes
}

/// A position whose rows are in this order, and their largest time; `None` for anything else.
pub(super) fn decode_position(bytes: &[u8], order: RowOrder) -> Option<(DiskPosition, Timestamp)> {
    let (version, bytes) = bytes.split_first()?;
    let (changelog, bytes) = bytes.split_first_chunk()?;
    let (offset, bytes) = bytes.split_first_chunk()?;
    let (written, bytes) = bytes.split_first_chunk()?;
    let (latest, bytes) = bytes.split_first_chunk()?;
    let position = DiskPosition {
        changelog: u128::from_be_bytes(*changelog),
        offset: i64::from_be_bytes(*offset),
        written: i64::from_be_bytes(*written),
    };
    let is_known = *version == VERSION && bytes == order_name(order).as_bytes();
    is_known.then(|| (position, i64::from_be_bytes(*latest)))
}

fn order_name(order: RowOrder) -> String {
    match order {
        RowOrder::Key => "key".to_owned(),
        RowOrder::Time { before_end, part } => format!("time {before_end} {part}"),
        RowOrder::Versions => "key, time".to_owned(),
    }
}

/// In the length of a row's headers: there is no value.
const DELETION: u32 = 1 << 31;

/// Appends a row's value: its time, its headers behind their length, its value.
pub(super) fn encode_row(timestamp: Timestamp, headers: &[u8], value: Option<&[u8]>, out: &mut Vec<u8>) {
    let length = headers.len() as u32 | if value.is_none() { DELETION } else { 0 };
    out.extend(timestamp.to_be_bytes());
    out.extend(length.to_be_bytes());
    out.extend_from_slice(headers);
    out.extend_from_slice(value.unwrap_or_default());
}

/// The row of a key in the changelog; `None` if these bytes are none.
pub(super) fn decode_row<'a>(key: &'a [u8], bytes: &'a [u8]) -> Option<ChangelogRecord<'a>> {
    let (timestamp, bytes) = bytes.split_first_chunk()?;
    let (length, bytes) = bytes.split_first_chunk()?;
    let length = u32::from_be_bytes(*length);
    let (headers, value) = bytes.split_at_checked((length & !DELETION) as usize)?;
    let value = (length & DELETION == 0).then_some(value);
    Some(ChangelogRecord { key, value, timestamp: i64::from_be_bytes(*timestamp), headers, offset: -1 })
}
