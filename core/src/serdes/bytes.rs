//! Bytes as they are: owned, or slices of the fetched batch.

use ::bytes::Bytes;

use crate::headers::Headers;
use crate::serde::{Data, Encoded, Payload, Serde, SerdeContext, SerdeError};

/// Bytes as they are. `T` is [`Bytes`] (a slice of the fetched batch, no copy) or `Vec<u8>`.
#[derive(Debug)]
pub struct BytesSerde<T>(std::marker::PhantomData<fn() -> T>);

impl<T> Clone for BytesSerde<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}
impl<T> Default for BytesSerde<T> {
    fn default() -> Self {
        BytesSerde(std::marker::PhantomData)
    }
}

macro_rules! bytes_serde {
    ($($type:ty, $from:expr, $detach:expr;)*) => {$(
        impl Serde for BytesSerde<$type> {
            type Value = $type;

            #[inline]
            fn serialize(&self, value: &$type, _: SerdeContext<'_>, _: &mut Headers, out: &mut Vec<u8>) -> Result<Encoded, SerdeError> {
                out.extend_from_slice(value);
                Ok(Encoded::Bytes)
            }

            #[inline]
            fn as_encoded<'a>(&self, value: &'a $type) -> Option<&'a [u8]> {
                Some(value)
            }

            #[inline]
            fn deserialize(&self, bytes: Option<Payload<'_>>, _: SerdeContext<'_>, _: &Headers) -> Result<$type, SerdeError> {
                bytes.map($from).ok_or_else(SerdeError::null::<$type>)
            }

            fn from_text(&self, text: &str) -> Result<$type, SerdeError> {
                Ok(text.as_bytes().to_vec().into())
            }

            fn detach(&self, value: &mut $type, copy: &mut impl FnMut(&[u8]) -> Bytes) {
                $detach(value, copy)
            }
        }

        impl Data for $type {
            type NonNull = $type;
            type Serde = BytesSerde<$type>;
            #[inline]
            fn into_non_null(self) -> Option<$type> {
                Some(self)
            }
            #[inline]
            fn as_non_null(&self) -> Option<&$type> {
                Some(self)
            }
        }
    )*};
}
bytes_serde! {
    Bytes, |b: Payload<'_>| b.to_bytes(), |b: &mut Bytes, copy: &mut dyn FnMut(&[u8]) -> Bytes| *b = copy(b);
    Vec<u8>, |b: Payload<'_>| b.as_slice().to_vec(), |_: &mut Vec<u8>, _| ();
}
