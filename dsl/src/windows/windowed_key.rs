//! `Windowed<K>`: a key in a window.

use std::fmt;

use bytes::Bytes;
use millstream_core::{Data, Encoded, Headers, Payload, Serde, SerdeContext, SerdeError, Timestamp};

/// A stretch of event time, in milliseconds since 1970 UTC. Whether the end is in it depends on the kind of window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// First time in it.
    pub start: Timestamp,
    /// Its end.
    pub end: Timestamp,
}

/// A key in a window.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Windowed<K> {
    /// The key.
    pub key: K,
    /// The window.
    pub window: Window,
}

impl<K: fmt::Display> fmt::Display for Windowed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}@{}/{}]", self.key, self.window.start, self.window.end)
    }
}

/// Key bytes, end, start: Kafka's format of session keys, which says both ends for every kind of window. The record is
/// placed by the inner key (semantics.md 17). Kafka's format of time windows is [`crate::TimeWindowedSerde`].
#[derive(Debug, Clone, Default)]
pub struct WindowedSerde<S>(pub S);

impl<S: Serde> Serde for WindowedSerde<S> {
    type Value = Windowed<S::Value>;

    fn serialize(
        &self,
        value: &Self::Value,
        cx: SerdeContext<'_>,
        headers: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        serialize_inner(&self.0, &value.key, cx, headers, out)?;
        let mut window = [0; 16];
        window[..8].copy_from_slice(&value.window.end.to_be_bytes());
        window[8..].copy_from_slice(&value.window.start.to_be_bytes());
        out.extend_from_slice(&window);
        Ok(Encoded::Bytes)
    }

    fn deserialize(
        &self,
        bytes: Option<Payload<'_>>,
        cx: SerdeContext<'_>,
        headers: &Headers,
    ) -> Result<Self::Value, SerdeError> {
        let owner = bytes.ok_or_else(SerdeError::null::<Windowed<()>>)?.to_bytes();
        let split = owner.split_last_chunk::<8>().and_then(|(rest, start)| {
            let (key, end) = rest.split_last_chunk::<8>()?;
            Some((key.len(), Window { start: Timestamp::from_be_bytes(*start), end: Timestamp::from_be_bytes(*end) }))
        });
        let (len, window) = split.ok_or_else(too_short)?;
        let key = owner.slice(..len);
        Ok(Windowed { key: self.0.deserialize(Some(Payload::from(&key)), cx, headers)?, window })
    }

    fn detach(&self, value: &mut Self::Value, copy: &mut impl FnMut(&[u8]) -> Bytes) {
        self.0.detach(&mut value.key, copy);
    }

    fn touch(&self, value: &Self::Value) {
        self.0.touch(&value.key);
    }

    fn partition_bytes<'a>(&self, encoded: &'a [u8]) -> &'a [u8] {
        &encoded[..encoded.len().saturating_sub(16)]
    }

    fn partition_serde() -> String {
        S::partition_serde()
    }
}

/// The bytes in front of the window's.
pub(super) fn serialize_inner<S: Serde>(
    serde: &S,
    key: &S::Value,
    cx: SerdeContext<'_>,
    headers: &mut Headers,
    out: &mut Vec<u8>,
) -> Result<(), SerdeError> {
    match serde.serialize(key, cx, headers, out)? {
        Encoded::Bytes => Ok(()),
        Encoded::Null => Err(SerdeError::invalid("the inner key of a windowed key is null")),
    }
}

pub(super) fn too_short() -> SerdeError {
    SerdeError::invalid("too short for a windowed key")
}

impl<K: Data<NonNull = K>> Data for Windowed<K> {
    type NonNull = Self;
    type Serde = WindowedSerde<K::Serde>;

    fn into_non_null(self) -> Option<Self> {
        Some(self)
    }
    fn as_non_null(&self) -> Option<&Self> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::{Half, Text};

    use super::*;

    /// It kept the batch that it came in, whatever else was in that.
    #[test]
    fn a_windowed_key_that_is_kept_shares_no_batch() -> Result<(), SerdeError> {
        let batch = Bytes::from([b"a key of more than twenty bytes".as_slice(), &[0; 16]].concat());
        let cx = SerdeContext { topic: "t", half: Half::Value };
        let serde = <Windowed<Text> as Data>::Serde::default();
        let mut windowed = serde.deserialize(Some(Payload::from(&batch)), cx, &Headers::new())?;
        assert!(!batch.is_unique());
        serde.detach(&mut windowed, &mut Bytes::copy_from_slice);
        assert!(batch.is_unique());
        assert_eq!(windowed.key, "a key of more than twenty bytes");
        Ok(())
    }
}
