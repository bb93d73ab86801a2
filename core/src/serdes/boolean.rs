//! Truth, as Kafka's `BooleanSerializer` writes it: one byte, 1 or 0.

use crate::headers::Headers;
use crate::serde::{Data, Encoded, Payload, Serde, SerdeContext, SerdeError};

/// The serde of `bool`.
#[derive(Debug, Clone, Default)]
pub struct BooleanSerde;

impl Serde for BooleanSerde {
    type Value = bool;

    #[inline]
    fn serialize(
        &self,
        value: &bool,
        _: SerdeContext<'_>,
        _: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        out.push(u8::from(*value));
        Ok(Encoded::Bytes)
    }

    #[inline]
    fn deserialize(&self, bytes: Option<Payload<'_>>, _: SerdeContext<'_>, _: &Headers) -> Result<bool, SerdeError> {
        match bytes.ok_or_else(SerdeError::null::<bool>)?.as_slice() {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(SerdeError::invalid(format!("the byte {other} is neither 0 nor 1"))),
            bytes => Err(SerdeError::Length { wanted: 1, found: bytes.len() }),
        }
    }

    fn from_text(&self, text: &str) -> Result<bool, SerdeError> {
        text.parse().map_err(|_| SerdeError::invalid(format!("`{text}` is neither true nor false")))
    }
}

impl Data for bool {
    type NonNull = bool;
    type Serde = BooleanSerde;
    #[inline]
    fn into_non_null(self) -> Option<bool> {
        Some(self)
    }
    #[inline]
    fn as_non_null(&self) -> Option<&bool> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serde::Half;

    #[test]
    fn bytes_are_javas_and_others_are_refused() {
        let cx = SerdeContext { topic: "t", half: Half::Value };
        let mut out = Vec::new();
        for truth in [true, false] {
            let encoded = BooleanSerde.serialize(&truth, cx, &mut Headers::new(), &mut out).expect("it has bytes");
            assert_eq!(encoded, Encoded::Bytes);
        }
        assert_eq!(out, [1, 0]);
        let read = |bytes: &'static [u8]| {
            let bytes = bytes::Bytes::from_static(bytes);
            BooleanSerde.deserialize(Some(Payload::from(&bytes)), cx, &Headers::new())
        };
        assert_eq!((read(&[1]).ok(), read(&[0]).ok()), (Some(true), Some(false)));
        let error = |bytes| read(bytes).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error(&[2]).contains("neither 0 nor 1"), "{}", error(&[2]));
        assert!(error(&[]).contains('1') && error(&[1, 1]).contains('1'));
    }
}
