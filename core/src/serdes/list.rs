//! Lists, as Kafka's `ListSerializer` writes them.
//!
//! ```text
//!   elements of one size   00 │ number of nulls │ their indices │ number of elements │ those that are no nulls, one behind the other
//!   elements of any size   01 │ number of elements │ length and bytes of each, -1 for a null
//! ```
//!
//! Numbers are big-endian, of 32 bits.

use std::collections::BTreeSet;

use ::bytes::Bytes;

use crate::headers::Headers;
use crate::serde::{Data, Encoded, Payload, Serde, SerdeContext, SerdeError};

/// How elements of one size are written.
const CONSTANT_SIZE: u8 = 0;
/// How all others are.
const VARIABLE_SIZE: u8 = 1;
/// Stands for the length of a null.
const NULL: i32 = -1;

/// The serde of `Vec<T>`, of elements that `S` writes. `Vec<u8>` is no list but bytes: [`crate::BytesSerde`].
///
/// ```
/// use millstream_core::{Data, Encoded, Half, Headers, Serde, SerdeContext};
///
/// let cx = SerdeContext { topic: "t", half: Half::Value };
/// let mut bytes = Vec::new();
/// let written = <Vec<i16> as Data>::Serde::default().serialize(&vec![7], cx, &mut Headers::new(), &mut bytes)?;
/// assert_eq!((written, &bytes[..]), (Encoded::Bytes, &[0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 7][..]));
/// # Ok::<(), millstream_core::SerdeError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ListSerde<S>(pub S);

impl<S: Serde> Serde for ListSerde<S> {
    type Value = Vec<S::Value>;

    fn serialize(
        &self,
        values: &Vec<S::Value>,
        cx: SerdeContext<'_>,
        headers: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        let count = length(values.len())?;
        if S::SIZE.is_none() {
            out.push(VARIABLE_SIZE);
            out.extend_from_slice(&count);
            for value in values {
                let at = out.len();
                out.extend_from_slice(&NULL.to_be_bytes());
                if self.0.serialize(value, cx, headers, out)? == Encoded::Bytes {
                    let length = length(out.len() - at - 4)?;
                    out[at..at + 4].copy_from_slice(&length);
                }
            }
            return Ok(Encoded::Bytes);
        }
        out.push(CONSTANT_SIZE);
        let (nulls_at, mut nulls) = (out.len(), Vec::new());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&count);
        for (index, value) in values.iter().enumerate() {
            if self.0.serialize(value, cx, headers, out)? == Encoded::Null {
                nulls.extend_from_slice(&length(index)?);
            }
        }
        if !nulls.is_empty() {
            out[nulls_at..nulls_at + 4].copy_from_slice(&length(nulls.len() / 4)?);
            out.splice(nulls_at + 4..nulls_at + 4, nulls);
        }
        Ok(Encoded::Bytes)
    }

    fn deserialize(
        &self,
        bytes: Option<Payload<'_>>,
        cx: SerdeContext<'_>,
        headers: &Headers,
    ) -> Result<Vec<S::Value>, SerdeError> {
        let payload = bytes.ok_or_else(SerdeError::null::<Vec<S::Value>>)?;
        let mut rest = Rest(payload.to_bytes());
        let (size, nulls) = match (rest.take(1)?[0], S::SIZE) {
            (CONSTANT_SIZE, Some(size)) => {
                let nulls = 0..rest.count()?;
                (Some(size), nulls.map(|_| rest.count()).collect::<Result<_, _>>()?)
            }
            (CONSTANT_SIZE, None) => {
                return Err(SerdeError::invalid("a list of elements of one size, and the type's differ in size"));
            }
            (VARIABLE_SIZE, _) => (None, BTreeSet::new()),
            (other, _) => return Err(SerdeError::invalid(format!("a list begins with 0 or 1, not with {other}"))),
        };
        let count = rest.count()?;
        let mut values = Vec::new();
        for index in 0..count {
            let size = match size {
                Some(_) if nulls.contains(&index) => None,
                Some(size) => Some(size),
                None => Some(rest.number()?).filter(|size| *size != NULL).map(not_negative).transpose()?,
            };
            let element = size.map(|size| rest.take(size)).transpose()?;
            values.push(self.0.deserialize(element.as_ref().map(Payload::from), cx, headers)?);
        }
        match rest.0.len() {
            0 => Ok(values),
            more => Err(SerdeError::invalid(format!("{more} bytes behind the last element of a list"))),
        }
    }

    fn detach(&self, values: &mut Vec<S::Value>, copy: &mut impl FnMut(&[u8]) -> Bytes) {
        values.iter_mut().for_each(|value| self.0.detach(value, copy));
    }

    fn touch(&self, values: &Vec<S::Value>) {
        values.iter().for_each(|value| self.0.touch(value));
    }
}

/// What is not read yet.
struct Rest(Bytes);

impl Rest {
    fn take(&mut self, size: usize) -> Result<Bytes, SerdeError> {
        if self.0.len() < size {
            return Err(SerdeError::invalid("a list ends before its last element"));
        }
        Ok(self.0.split_to(size))
    }

    fn number(&mut self) -> Result<i32, SerdeError> {
        let bytes = self.take(4)?;
        let (number, _) = bytes.as_chunks::<4>();
        Ok(i32::from_be_bytes(number[0]))
    }

    fn count(&mut self) -> Result<usize, SerdeError> {
        not_negative(self.number()?)
    }
}

fn not_negative(number: i32) -> Result<usize, SerdeError> {
    usize::try_from(number).map_err(|_| SerdeError::invalid(format!("{number} is no length of a list or its element")))
}

fn length(length: usize) -> Result<[u8; 4], SerdeError> {
    let length = i32::try_from(length).map_err(|_| SerdeError::invalid("a list of more than 2 GiB"))?;
    Ok(length.to_be_bytes())
}

impl<T: Data> Data for Vec<T> {
    type NonNull = Vec<T>;
    type Serde = ListSerde<T::Serde>;
    #[inline]
    fn into_non_null(self) -> Option<Vec<T>> {
        Some(self)
    }
    #[inline]
    fn as_non_null(&self) -> Option<&Vec<T>> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serde::Half;

    const CX: SerdeContext<'_> = SerdeContext { topic: "t", half: Half::Value };

    fn write<T: Data>(value: &T) -> Vec<u8> {
        let mut out = Vec::new();
        let written = T::Serde::default().serialize(value, CX, &mut Headers::new(), &mut out);
        assert_eq!(written.expect("it has bytes"), Encoded::Bytes);
        out
    }

    fn read<T: Data>(bytes: &[u8]) -> Result<T, SerdeError> {
        let bytes = Bytes::copy_from_slice(bytes);
        T::Serde::default().deserialize(Some(Payload::from(&bytes)), CX, &Headers::new())
    }

    fn is<T: Data + PartialEq + std::fmt::Debug>(value: &T, bytes: &[u8]) {
        assert_eq!(write(value), bytes);
        assert_eq!(&read::<T>(bytes).expect("it is what was written"), value);
    }

    /// By hand, from `ListSerializer.serialize` and `Serdes.ListSerde` of Apache Kafka.
    #[test]
    fn bytes_are_kafkas() {
        // The strategy, the null index list, the size, the entries.
        is(&vec![1_i32, -2], &[0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 255, 255, 255, 254]);
        is(&Vec::<i64>::new(), &[0, 0, 0, 0, 0, 0, 0, 0, 0]);
        is(&vec![None, Some(258_i16), None], &[0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2]);
        is(&vec![1.5_f64], &[0, 0, 0, 0, 0, 0, 0, 0, 1, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0]);
        // The strategy, the size, length and bytes of every entry; -1 for null.
        let texts = vec![Some("ab".to_owned()), None, Some(String::new())];
        is(&texts, &[1, 0, 0, 0, 3, 0, 0, 0, 2, b'a', b'b', 255, 255, 255, 255, 0, 0, 0, 0]);
        is(&Vec::<String>::new(), &[1, 0, 0, 0, 0]);
        // Booleans are not among the types that Kafka writes without a length.
        is(&vec![true], &[1, 0, 0, 0, 1, 0, 0, 0, 1, 1]);
        is(&vec![vec![7_i16]], &[1, 0, 0, 0, 1, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 7]);
        is(&vec![vec![7_u8, 8]], &[1, 0, 0, 0, 1, 0, 0, 0, 2, 7, 8]);
    }

    #[test]
    fn bytes_alone_are_no_list() {
        is(&vec![7_u8, 8], &[7, 8]);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let refused = |bytes: &[u8]| read::<Vec<i16>>(bytes).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused(&[]).contains("ends before"));
        assert!(refused(&[2, 0, 0, 0, 0]).contains("not with 2"));
        assert!(refused(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 5]).contains("ends before"));
        assert!(refused(&[0, 0, 0, 0, 0, 255, 255, 255, 255]).contains("-1 is no length"));
        assert!(refused(&[0, 127, 255, 255, 255]).contains("ends before"));
        assert!(refused(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 9]).contains("1 bytes behind"));
        // A null where the type has none.
        assert!(refused(&[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]).contains("null"));
        let texts = read::<Vec<String>>(&[0, 0, 0, 0, 0, 0, 0, 0, 0]).err().map(|error| error.to_string());
        assert!(texts.is_some_and(|text| text.contains("differ in size")));
    }
}
