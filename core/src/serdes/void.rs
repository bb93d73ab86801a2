//! Nothing but null, as Kafka's `VoidSerializer` writes it.

use std::convert::Infallible;

use crate::headers::Headers;
use crate::serde::{Data, Encoded, Payload, Serde, SerdeContext, SerdeError};

/// The serde of [`Infallible`], which has no values: a half of a record that is always null is an `Option<Infallible>`,
/// Kafka's `Void`. Bytes there are an error.
///
/// `()` is another thing: it has a value, and records could be grouped by it. What is null is left out there.
///
/// ```
/// use std::convert::Infallible;
/// use millstream_core::{Data, Half, Headers, Payload, Serde, SerdeContext};
///
/// let cx = SerdeContext { topic: "t", half: Half::Key };
/// let void = <Option<Infallible> as Data>::Serde::default();
/// assert_eq!(void.deserialize(None, cx, &Headers::new())?, None);
/// let error = void.deserialize(Some(Payload::from(b"ann".as_slice())), cx, &Headers::new());
/// assert_eq!(error.unwrap_err().to_string(), "3 bytes where there is nothing but null");
/// # Ok::<(), millstream_core::SerdeError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct VoidSerde;

impl Serde for VoidSerde {
    type Value = Infallible;

    fn serialize(
        &self,
        value: &Infallible,
        _: SerdeContext<'_>,
        _: &mut Headers,
        _: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        match *value {}
    }

    fn deserialize(
        &self,
        bytes: Option<Payload<'_>>,
        _: SerdeContext<'_>,
        _: &Headers,
    ) -> Result<Infallible, SerdeError> {
        let found = bytes.ok_or_else(SerdeError::null::<Infallible>)?.as_slice().len();
        Err(SerdeError::invalid(format!("{found} bytes where there is nothing but null")))
    }
}

impl Data for Infallible {
    type NonNull = Infallible;
    type Serde = VoidSerde;
    #[inline]
    fn into_non_null(self) -> Option<Infallible> {
        match self {}
    }
    #[inline]
    fn as_non_null(&self) -> Option<&Infallible> {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serde::Half;

    const CX: SerdeContext<'_> = SerdeContext { topic: "t", half: Half::Key };

    /// `VoidSerializer` gives null, `VoidDeserializer` throws on all that is not, on no bytes at all too.
    #[test]
    fn it_is_null_and_bytes_are_refused() {
        let (void, mut out) = (<Option<Infallible> as Data>::Serde::default(), Vec::new());
        assert_eq!(void.serialize(&None, CX, &mut Headers::new(), &mut out).ok(), Some(Encoded::Null));
        assert_eq!(out, []);
        let read = |bytes: Option<&[u8]>| void.deserialize(bytes.map(Payload::from), CX, &Headers::new());
        assert_eq!(read(None).ok(), Some(None));
        let error = |bytes: &[u8]| read(Some(bytes)).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(error(b"ann"), "3 bytes where there is nothing but null");
        assert_eq!(error(b""), "0 bytes where there is nothing but null");
        let null = VoidSerde.deserialize(None, CX, &Headers::new());
        assert!(matches!(null, Err(SerdeError::UnexpectedNull { .. })), "{null:?}");
    }
}
