//! Text: owned `String`, or [`Text`], a slice of the fetched batch.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::hint::black_box;
use std::ops::Deref;

use arrayvec::ArrayString;
use bytes::Bytes;
use bytestring::ByteString;

use crate::headers::Headers;
use crate::serde::{Data, Encoded, Payload, Serde, SerdeContext, SerdeError};

/// Text of so many bytes lies in place: it needs no more room than a reference to a batch does.
const SHORT: usize = 20;

/// UTF-8 text. Up to 20 bytes lie in place; longer text shares the bytes of the batch it came in, and cloning it counts a
/// reference. Nothing is allocated either way.
///
/// A longer `Text` that is kept keeps its whole batch in memory: stores copy it first, and so should a long-lived list.
#[derive(Clone)]
pub struct Text(Inner);

#[derive(Clone)]
enum Inner {
    Short(ArrayString<SHORT>),
    Shared(ByteString),
}

impl Text {
    /// The text.
    #[inline]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Inner::Short(text) => text,
            Inner::Shared(text) => text,
        }
    }

    /// A part of it, sharing the same bytes.
    ///
    /// # Panics
    /// If `part` is not a slice of this text.
    #[inline]
    pub fn share(&self, part: &str) -> Text {
        let (whole, slice) = (self.as_bytes().as_ptr_range(), part.as_bytes().as_ptr_range());
        assert!(part.is_empty() || (whole.start <= slice.start && slice.end <= whole.end), "a slice of another text");
        match (ArrayString::from(part), &self.0) {
            (Ok(short), _) => Text(Inner::Short(short)),
            (Err(_), Inner::Shared(text)) => Text(Inner::Shared(text.slice_ref(part))),
            (Err(_), Inner::Short(_)) => unreachable!("a part is no longer than the whole"),
        }
    }

    /// Text without a copy of `'static` bytes.
    pub const fn from_static(text: &'static str) -> Self {
        Text(Inner::Shared(ByteString::from_static(text)))
    }
}

impl Default for Text {
    fn default() -> Self {
        Text(Inner::Short(ArrayString::new()))
    }
}
impl Deref for Text {
    type Target = str;
    #[inline]
    fn deref(&self) -> &str {
        self.as_str()
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
        match ArrayString::from(text) {
            Ok(short) => Text(Inner::Short(short)),
            Err(_) => Text(Inner::Shared(text.into())),
        }
    }
}
impl From<String> for Text {
    fn from(text: String) -> Self {
        match ArrayString::from(&text) {
            Ok(short) => Text(Inner::Short(short)),
            Err(_) => Text(Inner::Shared(text.into())),
        }
    }
}
impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}
impl Eq for Text {}
impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}
impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
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
    fn as_encoded<'a>(&self, value: &'a Text) -> Option<&'a [u8]> {
        Some(value.as_bytes())
    }

    #[inline]
    fn deserialize(&self, bytes: Option<Payload<'_>>, _: SerdeContext<'_>, _: &Headers) -> Result<Text, SerdeError> {
        let payload = bytes.ok_or_else(SerdeError::null::<Text>)?;
        let bytes = payload.as_slice();
        let text = if bytes.len() <= SHORT {
            std::str::from_utf8(bytes).ok().and_then(|text| ArrayString::from(text).ok()).map(Inner::Short)
        } else {
            ByteString::try_from(payload.to_bytes()).ok().map(Inner::Shared)
        };
        text.map(Text).ok_or_else(|| not_utf8(bytes))
    }

    fn from_text(&self, text: &str) -> Result<Text, SerdeError> {
        Ok(text.into())
    }

    fn detach(&self, value: &mut Text, copy: &mut impl FnMut(&[u8]) -> Bytes) {
        if let Inner::Shared(text) = &mut value.0
            && let Ok(copied) = ByteString::try_from(copy(text.as_bytes()))
        {
            *text = copied;
        }
    }

    /// The count of references, which a clone changes, may lie apart from the text.
    #[inline]
    fn touch(&self, value: &Text) {
        match &value.0 {
            Inner::Short(text) => _ = black_box(text.len()),
            Inner::Shared(text) => {
                let bytes = text.as_bytes();
                black_box((bytes.is_unique(), bytes.first().copied(), bytes.last().copied()));
            }
        }
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
    fn as_encoded<'a>(&self, value: &'a String) -> Option<&'a [u8]> {
        Some(value.as_bytes())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serde::Half;

    /// Both kinds are one type, whatever their bytes come from.
    #[test]
    fn short_and_long_text_are_the_same_but_for_where_they_lie() -> Result<(), SerdeError> {
        assert_eq!(size_of::<Text>(), size_of::<ByteString>());
        let long = "a text that is longer than twenty bytes";
        for len in 0..=long.len() {
            let part = &long[..len];
            let owner = Bytes::copy_from_slice(part.as_bytes());
            let cx = SerdeContext { topic: "t", half: Half::Value };
            let read = TextSerde.deserialize(Some(Payload::from(&owner)), cx, &Headers::new())?;
            let whole = Text::from(long);
            for text in [read, part.into(), part.to_owned().into(), whole.share(&whole[..len])] {
                assert_eq!(text, part);
                let mut kept = text.clone();
                TextSerde.detach(&mut kept, &mut Bytes::copy_from_slice);
                assert_eq!((&kept, kept.cmp(&text)), (&text, Ordering::Equal));
            }
        }
        Ok(())
    }

    #[test]
    #[should_panic(expected = "a slice of another text")]
    fn a_slice_of_another_text_is_not_shared() {
        let _part = Text::from("one").share("two");
    }
}
