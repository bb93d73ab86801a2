//! The headers of a record in their encoding: a count, then keys and nullable values. Order and duplicates are kept.

use crate::error::BatchError;
use crate::varint;

const CUT: BatchError = BatchError::Record { index: 0, problem: "a header is cut off" };

/// The headers of an encoded section, in order. An empty section has none. After an error the iteration ends.
pub fn iter_headers(section: &[u8]) -> impl Iterator<Item = Result<(&str, Option<&[u8]>), BatchError>> {
    let mut at = 0;
    let mut left = if section.is_empty() { 0 } else { varint::take(section, &mut at).unwrap_or(0) };
    std::iter::from_fn(move || {
        if left <= 0 {
            return None;
        }
        left -= 1;
        let header = take_header(section, &mut at);
        if header.is_err() {
            left = 0;
        }
        Some(header)
    })
}

fn take_header<'a>(section: &'a [u8], at: &mut usize) -> Result<(&'a str, Option<&'a [u8]>), BatchError> {
    let key = take_field(section, at)?.ok_or(BatchError::Record { index: 0, problem: "a header's key is null" })?;
    let key = std::str::from_utf8(key)
        .map_err(|_| BatchError::Record { index: 0, problem: "a header's key is not UTF-8" })?;
    Ok((key, take_field(section, at)?))
}

fn take_field<'a>(section: &'a [u8], at: &mut usize) -> Result<Option<&'a [u8]>, BatchError> {
    let len = varint::take(section, at).ok_or(CUT)?;
    if len < 0 {
        return Ok(None);
    }
    let end = usize::try_from(len).ok().and_then(|len| at.checked_add(len)).ok_or(CUT)?;
    let field = section.get(*at..end).ok_or(CUT)?;
    *at = end;
    Ok(Some(field))
}

/// Whether the section holds exactly the headers it declares.
pub(crate) fn check_section(section: &[u8]) -> bool {
    let mut at = 0;
    let Some(count) = varint::take(section, &mut at) else { return false };
    // Every header takes two bytes at least.
    if count < 0 || count as u64 > (section.len() as u64) / 2 {
        return count == 0 && at == section.len();
    }
    (0..count)
        .all(|_| take_field(section, &mut at).is_ok_and(|key| key.is_some()) && take_field(section, &mut at).is_ok())
        && at == section.len()
}

/// Appends a header to an encoded section.
pub fn push_header(section: &mut Vec<u8>, key: &str, value: Option<&[u8]>) {
    let mut at = 0;
    let count = if section.is_empty() { 0 } else { varint::take(section, &mut at).unwrap_or(0) };
    let mut head = [0; 10];
    let end = varint::put(&mut head, 0, count + 1);
    section.splice(..at, head[..end].iter().copied());
    varint::push(section, key.len() as i64);
    section.extend_from_slice(key.as_bytes());
    match value {
        Some(value) => {
            varint::push(section, value.len() as i64);
            section.extend_from_slice(value);
        }
        None => varint::push(section, -1),
    }
}
