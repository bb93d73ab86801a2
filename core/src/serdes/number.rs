//! Numbers, big-endian, as Java's serdes write them; and the empty type.

use std::marker::PhantomData;

use crate::headers::Headers;
use crate::serde::{Data, Encoded, Payload, Serde, SerdeContext, SerdeError};

/// A number with a fixed-size encoding.
pub trait Number: Copy + Send + Sync + std::str::FromStr + 'static {
    /// Appends its big-endian bytes.
    fn put(self, out: &mut Vec<u8>);
    /// Reads it; `None` if the length is wrong.
    fn get(bytes: &[u8]) -> Option<Self>;
    /// Its size in bytes.
    const LEN: usize;
}

/// The serde of a [`Number`].
#[derive(Debug)]
pub struct NumberSerde<T>(PhantomData<fn() -> T>);

impl<T> Clone for NumberSerde<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}
impl<T> Default for NumberSerde<T> {
    fn default() -> Self {
        NumberSerde(PhantomData)
    }
}

impl<T: Number> Serde for NumberSerde<T> {
    type Value = T;
    const SIZE: Option<usize> = Some(T::LEN);

    #[inline]
    fn serialize(
        &self,
        value: &T,
        _: SerdeContext<'_>,
        _: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        value.put(out);
        Ok(Encoded::Bytes)
    }

    #[inline]
    fn deserialize(&self, bytes: Option<Payload<'_>>, _: SerdeContext<'_>, _: &Headers) -> Result<T, SerdeError> {
        let bytes = bytes.ok_or_else(SerdeError::null::<T>)?.as_slice();
        T::get(bytes).ok_or(SerdeError::Length { wanted: T::LEN, found: bytes.len() })
    }

    fn from_text(&self, text: &str) -> Result<T, SerdeError> {
        text.parse().map_err(|_| SerdeError::invalid(format!("`{text}` is no {}", std::any::type_name::<T>())))
    }
}

macro_rules! numbers {
    ($($type:ty)*) => {$(
        impl Number for $type {
            const LEN: usize = size_of::<$type>();
            #[inline]
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
            #[inline]
            fn get(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(<$type>::from_be_bytes)
            }
        }
        impl Data for $type {
            type NonNull = $type;
            type Serde = NumberSerde<$type>;
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
numbers! { i16 i32 i64 u16 u32 u64 f32 f64 }
