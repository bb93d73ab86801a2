//! Text: owned `String`, or [`Text`], a slice of the fetched batch.

use std::borrow::Borrow;
use std::fmt;
use std::hint::black_box;
use std::ops::Deref;

use bytes::Bytes;
use bytestring::ByteString;

use crate::headers::Headers;
use crate::serde::{Data, Encoded, Payload, Serde, SerdeContext, SerdeError};

/// UTF-8 text that shares the bytes of the batch it came in. Cloning counts a reference; nothing is copied.
///
/// A `Text` that is kept keeps its whole batch in memory: stores copy it first, and so should a long-lived list.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(ByteString);

impl Text {
    /// The text.
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A part of it, sharing the same bytes.
    ///
    /// # Panics
    /// If `part` is not a slice of this text.
    pub fn share(&self, part: &str) -> Text {
        Text(self.0.slice_ref(part))
    }

    /// Text without a copy of `'static` bytes.
    pub const fn from_static(text: &'static str) -> Self {
        Text(ByteString::from_static(text))
    }
}

impl Deref for Text {
    type Target = str;
    #[inline]
    fn deref(&self) -> &str {
        &self.0
    }
}
impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self
    }
}
impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self
    }
}
impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text(text.into())
    }
}
impl From<String> for Text {
    fn from(text: String) -> Self {
        Text(text.into())
    }
}
impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}
impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

/// The serde of [`Text`].
#[derive(Debug, Clone, Default)]
pub struct TextSerde;

impl Serde for TextSerde {
    type Value = Text;

    #[inline]
    fn serialize(
        &self,
        value: &Text,
        _: SerdeContext<'_>,
        _: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        out.extend_from_slice(value.as_bytes());
        Ok(Encoded::Bytes)
    }

    #[inline]
    fn deserialize(&self, bytes: Option<Payload<'_>>, _: SerdeContext<'_>, _: &Headers) -> Result<Text, SerdeError> {
        let payload = bytes.ok_or_else(SerdeError::null::<Text>)?;
        ByteString::try_from(payload.to_bytes()).map(Text).map_err(|_| not_utf8(payload.as_slice()))
    }

    fn from_text(&self, text: &str) -> Result<Text, SerdeError> {
        Ok(text.into())
    }

    fn detach(&self, value: &mut Text, copy: &mut impl FnMut(&[u8]) -> Bytes) {
        if let Ok(text) = ByteString::try_from(copy(value.as_bytes())) {
            *value = Text(text);
        }
    }

    /// The count of references, which a clone changes, lies apart from the text.
    #[inline]
    fn touch(&self, value: &Text) {
        let bytes = value.0.as_bytes();
        black_box((bytes.is_unique(), bytes.first().copied(), bytes.last().copied()));
    }
}

/// The serde of `String`.
#[derive(Debug, Clone, Default)]
pub struct StringSerde;

impl Serde for StringSerde {
    type Value = String;

    #[inline]
    fn serialize(
        &self,
        value: &String,
        _: SerdeContext<'_>,
        _: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        out.extend_from_slice(value.as_bytes());
        Ok(Encoded::Bytes)
    }

    #[inline]
    fn deserialize(&self, bytes: Option<Payload<'_>>, _: SerdeContext<'_>, _: &Headers) -> Result<String, SerdeError> {
        let bytes = bytes.ok_or_else(SerdeError::null::<String>)?.as_slice();
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| not_utf8(bytes))
    }

    fn from_text(&self, text: &str) -> Result<String, SerdeError> {
        Ok(text.to_owned())
    }
}

#[cold]
fn not_utf8(bytes: &[u8]) -> SerdeError {
    let good = std::str::from_utf8(bytes).err().map_or(bytes.len(), |e| e.valid_up_to());
    SerdeError::invalid(format!(
        "not UTF-8: byte {good} of {} is {:#04x}",
        bytes.len(),
        bytes.get(good).copied().unwrap_or_default()
    ))
}

macro_rules! text_data {
    ($($type:ty, $serde:ty;)*) => {$(
        impl Data for $type {
            type NonNull = $type;
            type Serde = $serde;
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
text_data! { String, StringSerde; Text, TextSerde; }
