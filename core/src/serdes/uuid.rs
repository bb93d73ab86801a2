//! `Uuid`, as Kafka's `UUIDSerializer` writes it: 36 characters of text.

use ::uuid::Uuid;

use crate::headers::Headers;
use crate::serde::{Data, Encoded, Payload, Serde, SerdeContext, SerdeError};

/// Characters of a UUID with its hyphens.
const LEN: usize = 36;

/// The serde of [`Uuid`].
#[derive(Debug, Clone, Default)]
pub struct UuidSerde;

impl Serde for UuidSerde {
    type Value = Uuid;
    const SIZE: Option<usize> = Some(LEN);

    #[inline]
    fn serialize(
        &self,
        value: &Uuid,
        _: SerdeContext<'_>,
        _: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        out.extend_from_slice(value.hyphenated().encode_lower(&mut [0; LEN]).as_bytes());
        Ok(Encoded::Bytes)
    }

    #[inline]
    fn deserialize(&self, bytes: Option<Payload<'_>>, _: SerdeContext<'_>, _: &Headers) -> Result<Uuid, SerdeError> {
        let bytes = bytes.ok_or_else(SerdeError::null::<Uuid>)?.as_slice();
        if bytes.len() != LEN {
            return Err(SerdeError::Length { wanted: LEN, found: bytes.len() });
        }
        Uuid::try_parse_ascii(bytes).map_err(|error| SerdeError::invalid(format!("no UUID: {error}")))
    }

    fn from_text(&self, text: &str) -> Result<Uuid, SerdeError> {
        Uuid::try_parse(text).map_err(|error| SerdeError::invalid(format!("`{text}` is no UUID: {error}")))
    }
}

impl Data for Uuid {
    type NonNull = Uuid;
    type Serde = UuidSerde;
    #[inline]
    fn into_non_null(self) -> Option<Uuid> {
        Some(self)
    }
    #[inline]
    fn as_non_null(&self) -> Option<&Uuid> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serde::Half;

    const CX: SerdeContext<'_> = SerdeContext { topic: "t", half: Half::Key };

    fn read(bytes: &[u8]) -> Result<Uuid, SerdeError> {
        UuidSerde.deserialize(Some(Payload::from(bytes)), CX, &Headers::new())
    }

    /// `UUIDSerializer` writes `UUID.toString()` as UTF-8, which has small letters.
    #[test]
    fn bytes_are_javas_text_and_others_are_refused() {
        let id = Uuid::from_u128(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210);
        let mut out = Vec::new();
        let written = UuidSerde.serialize(&id, CX, &mut Headers::new(), &mut out);
        assert_eq!(written.ok(), Some(Encoded::Bytes));
        assert_eq!(out, b"01234567-89ab-cdef-fedc-ba9876543210");
        assert_eq!(read(&out).ok(), Some(id));
        assert_eq!(read(b"01234567-89AB-CDEF-FEDC-BA9876543210").ok(), Some(id), "of other writers");
        let error = |bytes: &[u8]| read(bytes).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(error(&id.into_bytes()), "16 bytes where the type takes 36");
        assert!(error(b"01234567-89ab-cdef-fedc-ba987654321x").starts_with("no UUID: "));
        // As many characters, but no hyphens.
        assert!(error(b"0123456789abcdeffedcba98765432100000").starts_with("no UUID: "));
    }

    /// It is among the types that `ListSerializer` writes without a length.
    #[test]
    fn in_a_list_it_has_one_size() {
        let mut out = Vec::new();
        let list = vec![Uuid::nil()];
        let written = <Vec<Uuid> as Data>::Serde::default().serialize(&list, CX, &mut Headers::new(), &mut out);
        assert_eq!(written.ok(), Some(Encoded::Bytes));
        assert_eq!(out, b"\0\0\0\0\0\0\0\0\x0100000000-0000-0000-0000-000000000000");
    }
}
