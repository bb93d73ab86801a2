//! Values behind their lengths, for rows that hold several things.

use bytes::Bytes;
use millstream_core::{Headers, Payload, Serde, SerdeContext, SerdeError};

/// Appends a value behind its length; -1 is none.
pub(crate) fn put<S: Serde>(
    serde: &S,
    value: Option<&S::Value>,
    cx: SerdeContext<'_>,
    headers: &mut Headers,
    out: &mut Vec<u8>,
) -> Result<(), SerdeError> {
    let start = out.len();
    out.extend((-1i32).to_be_bytes());
    if let Some(value) = value {
        let _bytes = serde.serialize(value, cx, headers, out)?;
        let len = (out.len() - start - 4) as i32;
        out[start..start + 4].copy_from_slice(&len.to_be_bytes());
    }
    Ok(())
}

/// Takes the first value, or none, off the bytes.
pub(crate) fn take<S: Serde>(
    serde: &S,
    rest: &mut Bytes,
    cx: SerdeContext<'_>,
    headers: &Headers,
) -> Result<Option<S::Value>, SerdeError> {
    let cut_off = || SerdeError::invalid("a value in a row is cut off");
    let len = rest.first_chunk().copied().map(i32::from_be_bytes).ok_or_else(cut_off)?;
    let _length = rest.split_to(4);
    let Ok(len) = usize::try_from(len) else { return Ok(None) };
    let bytes = (len <= rest.len()).then(|| rest.split_to(len)).ok_or_else(cut_off)?;
    serde.deserialize(Some(Payload::from(&bytes)), cx, headers).map(Some)
}
